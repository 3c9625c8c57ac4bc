package netpoll_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// prolonger puts more into the record with Finished than crypto/tls' client of TLS 1.2 would.
type prolonger struct {
	*far
	log  bytes.Buffer // KeyLogWriter
	more []byte
}

func (p *prolonger) Write(b []byte) (int, error) {
	n := len(b)
	if f := strings.Fields(p.log.String()); len(f) == 3 {
		random, _ := hex.DecodeString(f[1])
		master, _ := hex.DecodeString(f[2])
		at := 0
		for b[at] != 20 { // ChangeCipherSpec
			at += 5 + int(binary.BigEndian.Uint16(b[at+3:]))
		}
		at += 6
		b = append(bytes.Clone(b[:at]), p.prolong(master, random, b[at:])...)
		p.log.Reset()
	}
	_, err := p.far.Write(b)
	return n, err
}

// prolong opens the first record under the keys (RFC 5246 §6.3, RFC 5288 §3) and seals it again with more behind its contents.
func (p *prolonger) prolong(master, random, record []byte) []byte {
	server := p.s.Wrote[11:43] // ServerHello.random
	seed := append(append([]byte("key expansion"), server...), random...)
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, master)
		for _, b := range parts {
			h.Write(b)
		}
		return h.Sum(nil)
	}
	var keys []byte
	for a := mac(seed); len(keys) < 40; a = mac(a) {
		keys = append(keys, mac(a, seed)...)
	}
	block, err := aes.NewCipher(keys[:16])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	explicit := record[5:13]
	nonce := append(bytes.Clone(keys[32:36]), explicit...)
	extra := func(n int) []byte { return append(make([]byte, 8), 22, 3, 3, byte(n>>8), byte(n)) }
	plain, err := aead.Open(nil, nonce, record[13:], extra(len(record)-13-16))
	if err != nil {
		panic(err)
	}
	plain = append(plain, p.more...)
	body := append(bytes.Clone(explicit), aead.Seal(nil, nonce, plain, extra(len(plain)))...)
	return append([]byte{22, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// A piece of a message behind Finished, which crypto/tls would keep for as long as the conn lives, ends the handshake.
func TestSecureNothingBehindFinished(t *testing.T) {
	for _, n := range []int{0, 1, 16_000} {
		w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
		h := w.on[0]
		_, f, c := w.dial(h, nil)
		id := c.ID(h.loop)
		p := &prolonger{far: f, more: append([]byte{1, 255, 255, 255}, make([]byte, n)...)[:n]}
		client := tls.Client(p, &tls.Config{
			InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, KeyLogWriter: &p.log,
		})
		_ = client.Handshake()
		w.pump()
		want := netpoll.Reason(0)
		if n > 0 {
			want = netpoll.ReasonTLS
		}
		if s := w.hands.Stats(); h.closed[id] != want || s.Done+s.Failed != 1 || s.Done == 1 != (n == 0) {
			t.Errorf("%d bytes behind Finished: closed for %d, %+v", n, h.closed[id], s)
		}
	}
}
