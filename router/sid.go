package router

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"

	"github.com/pomelod/pomelod/netpoll"
)

// sids makes session ids that clients of polling transports show with each request: the name of the session's conn and
// 56 bits that only this process can compute, so nobody speaks for a session without having been told its id, and no table has
// to be kept. The first character tells the loop (mechanisms: a connection moves to its session). Safe from any goroutine.
type sids struct {
	key   [16]byte
	block cipher.Block
}

const (
	sidBytes = 8 + 7
	sidChars = sidBytes / 3 * 4 // 20, as those of socket.io
)

func newSIDs(key [16]byte) (*sids, error) {
	block, err := aes.NewCipher(key[:])
	return &sids{key, block}, err
}

// newKey is a key that nobody else has.
func newKey() (key [16]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// append appends the session id of id.
func (k *sids) append(dst []byte, id netpoll.ID) []byte {
	b := k.seal(id)
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

// appendPublic appends an id for the same conn that opens nothing: socket.io 3 and later have one for each namespace.
func (k *sids) appendPublic(dst []byte, id netpoll.ID) []byte {
	var in, out [aes.BlockSize]byte
	binary.BigEndian.PutUint64(in[:], uint64(id))
	in[8] = 1 // so it has nothing to do with the bits that seal takes
	k.block.Encrypt(out[:], in[:])
	return base64.RawURLEncoding.AppendEncode(dst, out[:sidBytes])
}

func (k *sids) seal(id netpoll.ID) (b [sidBytes]byte) {
	var in, out [aes.BlockSize]byte
	binary.BigEndian.PutUint64(in[:], uint64(id))
	k.block.Encrypt(out[:], in[:])
	binary.BigEndian.PutUint64(b[:], uint64(id))
	copy(b[8:], out[:])
	return b
}

// parse returns the conn that sid names, 0 when it is none of ours.
func (k *sids) parse(sid []byte) netpoll.ID {
	var b [sidBytes]byte
	if len(sid) != sidChars {
		return 0
	}
	if _, err := base64.RawURLEncoding.Decode(b[:], sid); err != nil {
		return 0
	}
	id := netpoll.ID(binary.BigEndian.Uint64(b[:]))
	want := k.seal(id)
	if subtle.ConstantTimeCompare(b[8:], want[8:]) != 1 {
		return 0
	}
	return id
}
