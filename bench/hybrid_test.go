package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func push(route, body string) []byte {
	b := appendPackageHead(nil, packageData, 2+len(route)+len(body))
	b = append(b, messagePush<<1, byte(len(route)))
	return append(append(b, route...), body...)
}

func answer(id uint32, body string) []byte {
	m := append(binary.AppendUvarint([]byte{messageResponse << 1}, uint64(id)), body...)
	return append(appendPackageHead(nil, packageData, len(m)), m...)
}

func serverFrame(opcode byte, packages ...[]byte) []byte {
	p := bytes.Join(packages, nil)
	b := []byte{0x80 | opcode}
	switch {
	case len(p) < 126:
		b = append(b, byte(len(p)))
	case len(p) < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(p)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(len(p)))
	}
	return append(b, p...)
}

func TestReadLongFrame(t *testing.T) {
	long := strings.Repeat("x", 70000)
	f := serverFrame(wsBinary, push("onChat", "<"+long+">"), push("onChat", "<y>"))
	for _, cut := range []int{1, 2, 9, 10, 11, 14, 50000, len(f) - 1} {
		got := listen(t, &hybrid{ws: &websocket{opcode: wsBinary, open: true}}, f[:cut], f[cut:])
		if len(got) != 2 || got[0] != "push onChat "+long || got[1] != "push onChat y" {
			t.Fatalf("cut at %d: heard %d events", cut, len(got))
		}
	}
}

// The bytes are those of the protocol's own description.
func TestRequest(t *testing.T) {
	var h heard
	w := &hybrid{}
	w.request(&h, 300, "a.b.c", []byte("{}"))
	if want := "0400000b" + "00" + "ac02" + "05612e622e63" + "7b7d"; hex.EncodeToString(h.said) != want {
		t.Errorf("request is %x, want %s", h.said, want)
	}
	h.said, w.codes = nil, map[string]uint16{"a.b.c": 258}
	w.request(&h, 300, "a.b.c", []byte("{}"))
	if want := "04000007" + "01" + "ac02" + "0102" + "7b7d"; hex.EncodeToString(h.said) != want {
		t.Errorf("request by code is %x, want %s", h.said, want)
	}
}

func TestFramesAreMaskedPackages(t *testing.T) {
	w := &hybrid{ws: &websocket{opcode: wsBinary, open: true}}
	for _, n := range []int{0, 100, 125, 126, 65000, 70000} {
		var f, want heard
		body := bytes.Repeat([]byte{'b'}, n)
		w.request(&f, 7, "a.b.c", body)
		(&hybrid{}).request(&want, 7, "a.b.c", body)
		opcode, payload := unmask(t, f.said)
		if opcode != wsBinary || !bytes.Equal(payload, want.said) {
			t.Errorf("a body of %d bytes makes another package in a frame of opcode %d", n, opcode)
		}
	}
}

// unmask takes a client's frame apart.
func unmask(t *testing.T, f []byte) (opcode byte, payload []byte) {
	t.Helper()
	if len(f) < 6 || f[0]&0xF0 != 0x80 || f[1]&0x80 == 0 {
		t.Fatalf("frame is %.20x", f)
	}
	head, n := 2, uint64(f[1]&0x7F)
	switch n {
	case 126:
		head, n = 4, uint64(binary.BigEndian.Uint16(f[2:]))
	case 127:
		head, n = 10, binary.BigEndian.Uint64(f[2:])
	}
	key, payload := f[head:head+4], bytes.Clone(f[head+4:])
	if uint64(len(payload)) != n {
		t.Fatalf("%d bytes, and the head says %d", len(payload), n)
	}
	for i := range payload {
		payload[i] ^= key[i&3]
	}
	return f[0] & 0x0F, payload
}
