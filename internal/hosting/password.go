package hosting

import (
	"crypto/sha256"
	"encoding/binary"
)

// MaxPassword is how many bytes a room's password has at most.
const MaxPassword = 128

// PassOf is what stands for a room's password where it is kept and compared (channel.Request.Pass); 0 for none, or one that is too long.
func PassOf(room, password string) uint64 {
	if password == "" || len(password) > MaxPassword {
		return 0
	}
	sum := sha256.Sum256([]byte("password\x00" + room + "\x00" + password))
	return binary.BigEndian.Uint64(sum[:])&^(1<<63) | 1 // neither 0 nor channel.PassAll
}
