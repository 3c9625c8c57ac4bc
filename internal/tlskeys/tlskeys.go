// Package tlskeys lets tests seal records of TLS 1.3 as a client's own keys do: for what the client of crypto/tls never sends, as one change of keys after the other.
package tlskeys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
)

// Keys are a client's keys of TLS_AES_128_GCM_SHA256, and how many records it has sealed by them.
type Keys struct {
	secret []byte
	seq    uint64
	aead   cipher.AEAD
	iv     []byte
}

// Of finds the keys by which a client goes on after its handshake in what crypto/tls has written to Config.KeyLogWriter.
func Of(log string) (*Keys, error) {
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			k := new(Keys)
			k.use(secret)
			return k, err
		}
	}
	return nil, errors.New("no secret in the log")
}

func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	b, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return b
}

func (k *Keys) use(secret []byte) {
	block, err := aes.NewCipher(expand(secret, "key", 16))
	if err != nil {
		panic(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	k.secret, k.seq, k.iv = secret, 0, expand(secret, "iv", 12)
}

// Record seals a record.
func (k *Keys) Record(kind byte, contents []byte) []byte {
	nonce := bytes.Clone(k.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(k.seq >> (56 - 8*i))
	}
	k.seq++
	plain := append(bytes.Clone(contents), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+16))
	return k.aead.Seal(head, nonce, plain, head)
}

// Next changes to the next keys, as a client does behind a KeyUpdate.
func (k *Keys) Next() { k.use(expand(k.secret, "traffic upd", 32)) }

// Update is a KeyUpdate that asks for one in return. All records behind it are sealed by the next keys.
func (k *Keys) Update() []byte {
	b := k.Record(22, []byte{24, 0, 0, 1, 1})
	k.Next()
	return b
}
