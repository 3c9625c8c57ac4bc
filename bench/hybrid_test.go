package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// heard is a sink that writes down what it is told.
type heard struct{ events []string }

func (h *heard) add(format string, args ...any) {
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *heard) opened()                      { h.add("opened") }
func (h *heard) handshaken(body []byte) error { h.add("handshake %s", body); return nil }
func (h *heard) beat()                        { h.add("heartbeat") }
func (h *heard) answered(id uint32, b []byte) { h.add("answer %d %s", id, b) }
func (h *heard) pushed(route, body []byte)    { h.add("push %s %s", route, body) }
func (h *heard) pinged(payload []byte)        { h.add("ping %s", payload) }

// listen reads chunks as a conn does.
func listen(t *testing.T, w wire, chunks ...[]byte) []string {
	t.Helper()
	var h heard
	var in []byte
	for _, c := range chunks {
		in = append(in, c...)
		n, err := w.read(slices.Clone(in), &h)
		if err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	if len(in) > 0 {
		t.Fatalf("%d bytes were left over", len(in))
	}
	return h.events
}

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

// What a server may say, and what of it must be heard, however it is cut.
func TestReadChoppedAtEveryByte(t *testing.T) {
	handshake := append(appendPackageHead(nil, packageHandshake, 12), `{"code":200}`...)
	beat := appendPackageHead(nil, packageHeartbeat, 0)
	coded := append(appendPackageHead(nil, packageData, 5), messagePush<<1|1, 0, 7, 'h', 'i')
	long := strings.Repeat("x", 200)
	packages := [][]byte{handshake, beat, push("onChat", "one"), answer(1, "{}"), push("onChat", "two"), push("onAdd", long), coded, answer(300, `{"code":500}`)}
	want := []string{`handshake {"code":200}`, "heartbeat", "push onChat one", "answer 1 {}", "push onChat two", "push onAdd " + long, "push  hi", `answer 300 {"code":500}`}

	upgrade := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: " + wsAccept + "\r\n\r\n")
	frames := [][]byte{upgrade, serverFrame(wsBinary, packages[0]), serverFrame(wsBinary, packages[1:4]...), serverFrame(wsPing, []byte("now")), serverFrame(wsPong), serverFrame(wsBinary, packages[4:7]...), serverFrame(wsBinary, packages[7])}
	wantWS := slices.Concat([]string{"opened"}, want[:4], []string{"ping now"}, want[4:])

	for name, c := range map[string]struct {
		stream []byte
		want   []string
	}{"tcp": {bytes.Join(packages, nil), want}, "ws": {bytes.Join(frames, nil), wantWS}} {
		check := func(how string, chunks ...[]byte) {
			t.Helper()
			if got := listen(t, wires[name](), chunks...); !slices.Equal(got, c.want) {
				t.Fatalf("%s, %s: heard %q\nwant %q", name, how, got, c.want)
			}
		}
		check("whole", c.stream)
		for i := range c.stream {
			check(fmt.Sprintf("cut at %d", i), c.stream[:i], c.stream[i:])
		}
		check("byte by byte", slices.Collect(slices.Chunk(c.stream, 1))...)
	}
}

func TestReadLongFrame(t *testing.T) {
	long := strings.Repeat("x", 70000)
	f := serverFrame(wsBinary, push("onChat", long), push("onChat", "y"))
	for _, cut := range []int{1, 2, 9, 10, 11, 14, 50000, len(f) - 1} {
		got := listen(t, &hybridWS{upgraded: true}, f[:cut], f[cut:])
		if len(got) != 2 || got[0] != "push onChat "+long || got[1] != "push onChat y" {
			t.Fatalf("cut at %d: heard %d events", cut, len(got))
		}
	}
}

func TestReadRefuses(t *testing.T) {
	open := func() wire { return &hybridWS{upgraded: true} }
	half := push("onChat", "abc")
	for name, c := range map[string]struct {
		w wire
		b []byte
	}{
		"package of no type":       {wires["tcp"](), []byte{0, 0, 0, 0}},
		"HTTP on TCP":              {wires["tcp"](), []byte("HTTP/1.1 400")},
		"kick":                     {wires["tcp"](), append(appendPackageHead(nil, packageKick, 2), "{}"...)},
		"message without a flag":   {wires["tcp"](), appendPackageHead(nil, packageData, 0)},
		"route beyond the message": {wires["tcp"](), append(appendPackageHead(nil, packageData, 3), messagePush<<1, 9, 'a')},
		"no upgrade":               {wires["ws"](), []byte("HTTP/1.1 404 Not Found\r\n\r\n")},
		"wrong accept":             {wires["ws"](), []byte("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n")},
		"package across frames":    {open(), serverFrame(wsBinary, half[:7])},
		"empty frame":              {open(), serverFrame(wsBinary)},
		"text":                     {open(), serverFrame(1, half)},
		"fragment":                 {open(), []byte{wsBinary, 0}},
		"masked":                   {open(), []byte{0x82, 0x80, 0, 0, 0, 0}},
		"close":                    {open(), serverFrame(wsClose, []byte{3, 0xE8})},
		"endless frame":            {open(), []byte{0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}},
	} {
		if n, err := c.w.read(c.b, &heard{}); err == nil {
			t.Errorf("%s: took %d of %d bytes", name, n, len(c.b))
		}
	}
}

// The bytes are those of the protocol's own description.
func TestRequest(t *testing.T) {
	got := hex.EncodeToString(hybridTCP{}.request(nil, 300, "a.b.c", []byte("{}")))
	if want := "0400000b" + "00" + "ac02" + "05612e622e63" + "7b7d"; got != want {
		t.Errorf("request is %s, want %s", got, want)
	}
}

func TestFramesAreMaskedPackages(t *testing.T) {
	w := &hybridWS{}
	for _, n := range []int{0, 100, 125, 126, 65000, 70000} {
		body := bytes.Repeat([]byte{'b'}, n)
		f := w.request([]byte("before"), 7, "a.b.c", body)[len("before"):]
		want := hybridTCP{}.request(nil, 7, "a.b.c", body)
		head := 2
		switch f[1] &^ 0x80 {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		key, payload := f[head:head+4], f[head+4:]
		if f[0] != 0x82 || f[1]&0x80 == 0 {
			t.Fatalf("frame begins with %x", f[:2])
		}
		for i := range payload {
			payload[i] ^= key[i&3]
		}
		if !bytes.Equal(payload, want) {
			t.Errorf("a body of %d bytes makes another package in a frame", n)
		}
		if int(frameLength(f)) != len(payload) {
			t.Errorf("a body of %d bytes: the head says %d", len(payload), frameLength(f))
		}
	}
}

func frameLength(f []byte) uint64 {
	switch f[1] &^ 0x80 {
	case 126:
		return uint64(binary.BigEndian.Uint16(f[2:]))
	case 127:
		return binary.BigEndian.Uint64(f[2:])
	}
	return uint64(f[1] &^ 0x80)
}
