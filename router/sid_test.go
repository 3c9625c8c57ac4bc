package router

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// A sid names its conn. Whoever is told the public id of a conn, whose name may be guessed, can make no sid of it, nor can a sid be changed
// in one byte.
func TestSIDCannotBeMade(t *testing.T) {
	k, err := newSIDs(newKey())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		id := netpoll.ID(n+1) << 31
		sid := k.append(nil, id)
		if got := k.parse(sid); got != id {
			t.Fatalf("%x was read as %x", id, got)
		}
		raw, _ := base64.RawURLEncoding.DecodeString(string(sid))
		for i := range raw {
			raw[i] ^= 1
			if k.parse(base64.RawURLEncoding.AppendEncode(nil, raw)) != 0 {
				t.Fatalf("a sid with another byte %d was accepted", i)
			}
			raw[i] ^= 1
		}
		public, _ := base64.RawURLEncoding.DecodeString(string(k.appendPublic(nil, id)))
		for at := 0; at+sidBytes-8 <= len(public); at++ {
			forged := append(binary.BigEndian.AppendUint64(nil, uint64(id)), public[at:at+sidBytes-8]...)
			if k.parse(base64.RawURLEncoding.AppendEncode(nil, forged)) != 0 {
				t.Fatalf("the public id holds the tag, at %d", at)
			}
		}
	}
}
