//go:build linux

package abuse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lengthCase is a length that is announced and not kept.
type lengthCase struct {
	name string
	head []byte // what is sent, at once
	more []byte // what half of the connections send behind it
	end  string // what the server's last words contain; "-" if it has none
}

// What a session has sent before a length is announced.
var (
	loggedIn   = shake + ack
	wsLoggedIn = upgradeHead + binaryFrame(loggedIn[:len(loggedIn)-4]) + binaryFrame(loggedIn[len(loggedIn)-4:])
)

// wsHead is the head of a masked frame with a length of n, written in so many bytes: 7, 16 or 64 bits.
func wsHead(first byte, n uint64, bits int) string {
	b := []byte{first, 0x80 | byte(n)}
	switch bits {
	case 16:
		b[1] = 0x80 | 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case 64:
		b[1] = 0x80 | 127
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return string(b) + "\x00\x00\x00\x00"
}

// closed is a close frame as the server sends it.
func closed(code uint16) string { return string([]byte{byte(code >> 8), byte(code)}) }

func lengthCases() (cases []lengthCase) {
	add := func(name, head, end string) {
		cases = append(cases, lengthCase{name, []byte(head), []byte("0123456789{}\r\n"), end})
	}
	const tooBig, protocol = 1009, 1002
	for _, n := range []string{"\xff\xff\xff", "\x7f\xff\xff", "\x04\x00\x01"} { // 2^24-1, 2^23-1, 256 KiB and a byte
		for t := byte(1); t <= 5; t++ {
			head := string([]byte{t}) + n
			add(fmt.Sprintf("hybrid package %d of %x before the handshake", t, n), head, "-")
			add(fmt.Sprintf("hybrid package %d of %x", t, n), loggedIn+head, "\x03\x00\x00\x00")
			add(fmt.Sprintf("ws package %d of %x", t, n), wsLoggedIn+wsHead(0x82, 8, 7)+head+"{\"a\"", closed(tooBig))
		}
	}
	for _, wire := range []struct{ name, head string }{{"ws", wsLoggedIn}, {"ws before the handshake", upgradeHead},
		{"ws eio4", upgradeAt(pathSocket + "4")},
		{"ws eio3", upgradeAt(pathSocket + "3")}} {
		for _, first := range []byte{0x81, 0x82, 0x01, 0x02} {
			for _, n := range []uint64{256<<10 + 5, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1} {
				add(fmt.Sprintf("%s frame %x of %d", wire.name, first, n), wire.head+wsHead(first, n, 64), closed(tooBig))
			}
			for _, n := range []uint64{1 << 63, 1<<63 + 5, 1<<64 - 1, 125, 65535} { // with the top bit, and not in the shortest form
				add(fmt.Sprintf("%s frame %x of %d", wire.name, first, n), wire.head+wsHead(first, n, 64), closed(protocol))
			}
			add(fmt.Sprintf("%s frame %x of 125 in 16 bits", wire.name, first), wire.head+wsHead(first, 125, 16), closed(protocol))
		}
		for _, first := range []byte{0x88, 0x89, 0x8a} {
			add(fmt.Sprintf("%s control frame %x of 126", wire.name, first), wire.head+wsHead(first, 126, 16), closed(protocol))
			add(fmt.Sprintf("%s control frame %x of 2^63", wire.name, first), wire.head+wsHead(first, 1<<63, 64), closed(protocol))
		}
		// A message in fragments without end, the sum of which is too long though none of them is.
		fragment := wsHead(0x00, 4000, 16) + strings.Repeat("x", 4000)
		add(wire.name+" fragments without end", wire.head+wsHead(0x02, 1, 7)+"x"+strings.Repeat(fragment, 66), closed(tooBig))
	}
	for _, path := range []string{"/gate/queryEntry", "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA",
		"/socket.io/1/xhr-polling/AAAAAAAAAAAAAAAAAAAA"} {
		for _, n := range []string{"262145", "2147483648", "4294967296", "922337203685477579"} {
			add("http length "+n+" "+path, httpText("POST", path, "", "Content-Length: "+n), " 413 ")
		}
		for _, n := range []string{"9223372036854775807", "9223372036854775808", "18446744073709551616", "-1", "+5", "0x10", "1e3",
			"5, 5", "", "99999999999999999999999999"} {
			add("http length "+strconv.Quote(n)+" "+path, httpText("POST", path, "", "Content-Length: "+n), " 400 ")
		}
		for _, n := range []string{"40001", "7fffffff", "80000000", "ffffffff", "7fffffffffffffff", "8000000000000000",
			"ffffffffffffffff", "10000000000000000"} {
			add("chunk of "+n+" "+path, httpText("POST", path, n+"\r\n", "Transfer-Encoding: chunked"), " 413 ")
		}
		for _, n := range []string{"-1", "00000000000000001", "0x1", " 1", ""} {
			add("chunk of "+strconv.Quote(n)+" "+path, httpText("POST", path, n+"\r\n", "Transfer-Encoding: chunked"), " 400 ")
		}
	}
	return cases
}

// Lengths that are announced are believed by nobody: too long is closed at once, with the right code, and no memory is set aside.
func TestDeclaredLengths(t *testing.T) {
	const (
		atOnce  = 100      // lengths; two connections each
		mayTake = 32 << 20 // of memory: what the connections themselves need
	)
	scenario{
		name: "lengths",
		attack: func(a *arena) error {
			one := lengthCases()
			rnd := rand.New(rand.NewPCG(1, 1))
			rnd.Shuffle(len(one), func(i, j int) { one[i], one[j] = one[j], one[i] })
			cases := slices.Repeat(one, a.n(10))
			a.resetPeak()
			before := a.metrics()["process_resident_memory_bytes"]
			outlived := make(map[string]bool) // what kinds of lengths
			var wrong []error
			for from := 0; from < len(cases); from += atOnce {
				batch := cases[from:min(from+atOnce, len(cases))]
				peers := make([]*peer, 2*len(batch))
				for i := range peers { // a connection of each pair sends a little of what it announces, too
					p, err := a.dial(i % 200)
					if err != nil {
						a.t.Fatal(err)
					}
					p.late = soon
					peers[i] = p
					c := batch[i/2]
					b := c.head
					if i%2 == 1 {
						b = append(b[:len(b):len(b)], c.more...)
					}
					_ = p.raw(b)
				}
				deadline := time.Now().Add(soon)
				for i, p := range peers {
					c := batch[i/2]
					p.late = max(time.Until(deadline), time.Millisecond)
					said, err := p.gone()
					p.Close()
					last := said[max(0, len(said)-400):]
					switch {
					case err != nil:
						kind, _, _ := strings.Cut(c.name, " ")
						outlived[kind] = true
						wrong = append(wrong, fmt.Errorf("%s: %w", c.name, err))
					case c.end == "-" && len(said) > 0, c.end != "-" && !bytes.Contains(last, []byte(c.end)):
						wrong = append(wrong, fmt.Errorf("%s: closed with %q, not with %q", c.name, last, c.end))
					}
				}
				if len(outlived) > 0 && len(wrong) > 20 {
					break
				}
			}
			for i := 0; i < a.n(300) && len(wrong) == 0; i++ {
				if err := a.payloadLength(i); err != nil {
					wrong = append(wrong, err)
				}
			}
			a.t.Logf("%d lengths, sent %d times", len(one), 2*len(cases))
			err := errors.Join(wrong[:min(len(wrong), 5)]...)
			if len(outlived) > 0 {
				return fmt.Errorf("lengths that were believed: %v\n%w", outlived, err)
			}
			if took := float64(a.peak()) - before; took > mayTake && !raceEnabled {
				err = errors.Join(err, fmt.Errorf("RSS was up to %.1f MB more than before", took/1e6))
			}
			return errors.Join(err, a.unhurt())
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", 100) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_closed_total{reason="too_long"}`, 30), d.atLeast(`pomelod_closed_total{reason="early"}`, 30),
				d.atLeast(`pomelod_closed_total{reason="protocol"}`, 100), d.atLeast("pomelod_http_errors_total", 150),
				d.atLeast("pomelod_malformed_total", 10))
		},
		without: weakness{
			edits: []edit{
				{"codec/package.go", "if body > limit {", "if body < 0 {"},
				{"codec/websocket.go", "if room < 0 || length > uint64(room) {", "if room < 0 {"},
				{"codec/http_body.go", "case size > int64(limit):", "case size < 0:"},
				{"codec/http_body.go", "if size > uint64(limit-s.total) {", "if size > 1<<62 {"},
			},
			fails: "lengths that were believed: map[chunk:true http:true hybrid:true ws:true]",
		},
	}.run(t)
}

// payloadLengths are bodies of POSTs that announce longer packets than there are. Engine.IO's sessions end with them, those of 0.9
// ignore them.
var payloadLengths = []struct{ wire, contentType, body string }{
	{"eio3 polling", "text/plain", "999999999:4x"}, {"eio3 polling", "text/plain", "9223372036854775808:4x"},
	{"eio3 polling", "text/plain", "-1:4x"}, {"eio3 polling", "text/plain", strings.Repeat("9", 100_000) + ":4"},
	{"eio3 polling", "text/plain", "3:4x"}, {"eio3 polling", "text/plain", ":"},
	{"eio3 polling", "application/octet-stream", "\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4x"},
	{"eio3 polling", "application/octet-stream", "\x01" + strings.Repeat("\x09", 100_000) + "\xff4x"},
	{"eio3 polling", "application/octet-stream", "\x00\x03\xff4x"},
	{"0.9 polling", "text/plain", "\ufffd999999999\ufffd3:::x"}, {"0.9 polling", "text/plain", "\ufffd9223372036854775808\ufffd3:::x"},
	{"0.9 polling", "text/plain", "\ufffd-1\ufffd3:::x"},
	{"0.9 polling", "text/plain", "\ufffd" + strings.Repeat("0", 100_000) + "1\ufffd8"},
	{"0.9 polling", "text/plain", strings.Repeat("\ufffd0\ufffd", 30_000)},
}

// payloadLength sends the i-th of them, in a session of its own.
func (a *arena) payloadLength(i int) error {
	l := payloadLengths[i%len(payloadLengths)]
	c, err := a.guest(i%200, l.wire)
	if err != nil {
		return err
	}
	defer c.Close()
	s, p := c.sio(), c.conns()[0]
	p.late = soon
	status, _, err := p.request(httpText("POST", s.path("xhr-polling"), l.body, "Content-Type: "+l.contentType))
	if err == nil && status == 200 && l.wire == "0.9 polling" {
		return c.join("somebody", fmt.Sprint("lengths", i))
	}
	var answer string
	if err == nil && status == 200 {
		status, answer, err = p.request(s.polling())
		s.sid = ""
	}
	if err != nil || status != 400 {
		err = fmt.Errorf("payload %.60q: %d %q, %w", l.body, status, answer, err)
	}
	return err
}
