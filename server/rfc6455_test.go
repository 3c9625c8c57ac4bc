//go:build linux

package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// RFC 6455 byte by byte over real sockets. Every case says what the client sends and the exact bytes that come back; then
// either TCP ends, and ends well (EOF, no reset), or the connection goes on: a ping is answered and it closes in order.

const (
	rfcKey    = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" // of RFC 6455 §1.3, as is the answer
	rfcOpened = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

// request is a proper upgrade request with edits: "=line" is another request line, "-Name" takes a header out,
// "+line" adds one at the end, "Name: value" stands in its header's place.
func request(edits ...string) string {
	lines := []string{"GET / HTTP/1.1", "Host: chat.example", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", rfcKey}
	for _, e := range edits {
		name, _, _ := strings.Cut(strings.TrimPrefix(e, "-"), ":")
		at := -1
		for i, l := range lines {
			if strings.HasPrefix(l, name+":") {
				at = i
			}
		}
		switch {
		case e[0] == '=':
			lines[0] = e[1:]
		case e[0] == '+':
			lines = append(lines, e[1:])
		case at < 0:
			panic("no header to edit: " + e)
		case e[0] == '-':
			lines = append(lines[:at], lines[at+1:]...)
		default:
			lines[at] = e
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// refusal is the whole answer to a request that is refused.
func refusal(status int, reason string) string {
	text := map[int]string{
		400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 426: "Upgrade Required",
		431: "Request Header Fields Too Large", 501: "Not Implemented", 505: "HTTP Version Not Supported",
	}[status]
	extra, connection := "", "close"
	switch status {
	case 405:
		extra = "Allow: GET\r\n"
	case 426:
		extra, connection = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n", "close, Upgrade"
	}
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%sConnection: %s\r\n\r\n%s",
		status, text, len(reason), extra, connection, reason)
}

// join puts frames behind each other.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// fromServer is a frame of the server's.
func fromServer(b0 byte, payload string) string {
	switch n := len(payload); {
	case n < 126:
		return string([]byte{b0, byte(n)}) + payload
	case n <= 0xffff:
		return string(binary.BigEndian.AppendUint16([]byte{b0, 126}, uint16(n))) + payload
	default:
		return string(binary.BigEndian.AppendUint64([]byte{b0, 127}, uint64(n))) + payload
	}
}

func closing(code uint16, reason string) string {
	return fromServer(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// pack is a Pomelo package.
func pack(kind byte, body string) string {
	return string([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}) + body
}

// A Pomelo handshake is what shows that a message has arrived: it is answered once.
var (
	hello    = pack(1, `{"sys":{}}`)
	welcome  = fromServer(0x82, pack(1, `{"code":200,"sys":{}}`))
	helloFor = func(n int) string { // n bytes long
		return pack(1, `{"sys":{},"user":"`+strings.Repeat("u", n-4-len(`{"sys":{},"user":""}`))+`"}`)
	}
	beat = pack(3, "") // ignored before the handshake
)

const maxPackage = 256 << 10 // the default limit of a package's body

// wsCase is one exchange. Without ends the connection goes on.
type wsCase struct {
	name string
	send []byte
	want string
	ends bool
}

// fails is a case in which the server closes with this code and reason.
func fails(name string, send []byte, code uint16, reason string) wsCase {
	return wsCase{name, send, closing(code, reason), true}
}

// rawFrame is a frame with a head of one's own; payload is masked.
func rawFrame(head string, payload string) []byte {
	return join([]byte(head), mask[:], masked([]byte(payload)))
}

func text(b0 byte, payload string) []byte { return frame(b0, []byte(payload)) }

func frameCases() (cases []wsCase) {
	add := func(c ...wsCase) { cases = append(cases, c...) }
	data := func(n int) string { return strings.Repeat("0123456789", n/10+1)[:n] }

	// Lengths.
	for n := range 126 {
		add(wsCase{fmt.Sprintf("ping of %d bytes", n), text(0x89, data(n)), fromServer(0x8a, data(n)), false})
	}
	for _, n := range []int{30, 125, 126, 127, 128, 65535, 65536, 65537, 4 + maxPackage} {
		add(wsCase{fmt.Sprintf("message of %d bytes", n), text(0x82, helloFor(n)), welcome, false})
	}
	const shortest, tooBig = "length is not in its shortest form", "message exceeds the limit"
	for _, n := range []int{0, 4, 125} {
		add(fails(fmt.Sprintf("%d in 16 bits", n), rawFrame("\x82\xfe\x00"+string(rune(n)), data(n)), 1002, shortest))
	}
	for _, n := range []int{0, 4, 125, 126, 65535} {
		head := string(binary.BigEndian.AppendUint64([]byte("\x82\xff"), uint64(n)))
		add(fails(fmt.Sprintf("%d in 64 bits", n), rawFrame(head, data(n)), 1002, shortest))
	}
	// Of what is too long only the head is ever sent, and not even the mask.
	for _, n := range []uint64{4 + maxPackage + 1, 1 << 20, 1 << 31, 1 << 32, 1 << 40, 1<<63 - 1} {
		add(fails(fmt.Sprintf("announces %d bytes", n), binary.BigEndian.AppendUint64([]byte("\x82\xff"), n), 1009, tooBig))
	}
	for _, n := range []uint64{1 << 63, 1<<64 - 1, 1<<63 | 5} {
		add(fails(fmt.Sprintf("length %#x", n), binary.BigEndian.AppendUint64([]byte("\x82\xff"), n), 1002, "length exceeds 63 bits"))
	}
	add(
		fails("too long, and sent", text(0x82, data(4+maxPackage+1)), 1009, tooBig),
		fails("package too long for its frame's own good", text(0x82, "\x04\x04\x00\x01"), 1009, "package exceeds the limit"),
		fails("fragments too long together", join(text(0x02, data(4+maxPackage)), text(0x80, "x")), 1009, tooBig),
		fails("fragments too long together, from the head", join(text(0x02, data(1000)), binary.BigEndian.AppendUint64([]byte("\x00\xff"), 4+maxPackage-999)), 1009, tooBig),
		wsCase{"pings do not count as parts", join(text(0x02, helloFor(4 + maxPackage)[:maxPackage]), text(0x89, data(125)), text(0x80, helloFor(4 + maxPackage)[maxPackage:])),
			fromServer(0x8a, data(125)) + welcome, false},
	)

	// Masks.
	for opcode := range byte(16) {
		add(fails(fmt.Sprintf("unmasked, opcode %d", opcode), []byte{0x80 | opcode, 0}, 1002, "frame is not masked"))
	}
	add(
		fails("unmasked message", []byte(fromServer(0x82, hello)), 1002, "frame is not masked"),
		wsCase{"mask of zeros", join([]byte{0x82, 0x80 | byte(len(hello)), 0, 0, 0, 0}, []byte(hello)), welcome, false},
	)

	// Reserved bits and opcodes.
	for _, rsv := range []byte{0x40, 0x20, 0x10, 0x70} {
		for _, b0 := range []byte{0x80, 0x81, 0x82, 0x02, 0x88, 0x89, 0x8a} {
			add(fails(fmt.Sprintf("first byte %#x", b0|rsv), text(b0|rsv, "abc"), 1002, "reserved bits set"))
		}
	}
	add(fails("reserved bit in a continuation", join(text(0x02, hello[:5]), text(0xc0, hello[5:])), 1002, "reserved bits set"))
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for _, fin := range []byte{0, 0x80} {
			add(fails(fmt.Sprintf("opcode %d, fin %#x", opcode, fin), text(fin|opcode, ""), 1002, "reserved opcode"))
		}
	}
	add(fails("reserved opcode inside a message", join(text(0x02, hello[:5]), text(0x83, "")), 1002, "reserved opcode"))

	// Control frames.
	for name, opcode := range map[string]byte{"close": 8, "ping": 9, "pong": 10} {
		add(
			fails(name+" in fragments", text(opcode, ""), 1002, "fragmented control frame"),
			fails(name+" of 126 bytes", text(0x80|opcode, data(126)), 1002, "control frame exceeds 125 bytes"),
			fails(name+" of 65536 bytes", text(0x80|opcode, data(65536)), 1002, "control frame exceeds 125 bytes"),
			fails(name+" of 126 bytes, from two", []byte{0x80 | opcode, 0xfe}, 1002, "control frame exceeds 125 bytes"),
		)
	}
	add(
		wsCase{"pong that nobody asked for", text(0x8a, ""), "", false},
		wsCase{"pong of 125 bytes", text(0x8a, data(125)), "", false},
		wsCase{"pings in a row", join(text(0x89, "1"), text(0x89, "2"), text(0x8a, "3"), text(0x89, "4")), fromServer(0x8a, "1") + fromServer(0x8a, "2") + fromServer(0x8a, "4"), false},
		wsCase{"ping before and after a message", join(text(0x89, "1"), text(0x82, hello), text(0x89, "2")), fromServer(0x8a, "1") + welcome + fromServer(0x8a, "2"), false},
		wsCase{"ping that is no text", text(0x89, "\xff\x00\xc0"), fromServer(0x8a, "\xff\x00\xc0"), false},
	)

	// Fragments.
	each := func(b0 byte, s string, between []byte) (b []byte) {
		for i := range len(s) {
			head := byte(0)
			if i == 0 {
				head = b0
			}
			if i == len(s)-1 {
				head |= 0x80
			}
			if b = append(b, text(head, s[i:i+1])...); i < len(s)-1 {
				b = append(b, between...)
			}
		}
		return b
	}
	const alone, inside = "continuation without a message", "new message inside a fragmented one"
	add(
		wsCase{"two fragments", join(text(0x02, hello[:1]), text(0x80, hello[1:])), welcome, false},
		wsCase{"two fragments of text", join(text(0x01, hello[:9]), text(0x80, hello[9:])), welcome, false},
		wsCase{"three fragments", join(text(0x02, hello[:3]), text(0x00, hello[3:6]), text(0x80, hello[6:])), welcome, false},
		wsCase{"empty fragments", join(text(0x02, ""), text(0x00, ""), text(0x00, hello), text(0x00, ""), text(0x80, "")), welcome, false},
		wsCase{"a fragment a byte", each(2, hello, nil), welcome, false},
		wsCase{"a fragment a byte, pings between", each(2, hello, text(0x89, "p")), strings.Repeat(fromServer(0x8a, "p"), len(hello)-1) + welcome, false},
		wsCase{"pong inside a message", join(text(0x02, hello[:3]), text(0x8a, "x"), text(0x80, hello[3:])), welcome, false},
		wsCase{"message after fragments", join(text(0x02, beat[:2]), text(0x80, beat[2:]), text(0x82, hello)), welcome, false},
		wsCase{"fragments after fragments", join(text(0x01, beat[:2]), text(0x80, beat[2:]), text(0x02, hello[:2]), text(0x80, hello[2:])), welcome, false},
		wsCase{"fragments of 65536 bytes", join(text(0x02, helloFor(131072)[:65536]), text(0x80, helloFor(131072)[65536:])), welcome, false},
		fails("all fragments empty", join(text(0x02, ""), text(0x80, "")), 1000, ""),
		fails("text inside text", join(text(0x01, "a"), text(0x81, "b")), 1002, inside),
		fails("binary inside text", join(text(0x01, "a"), text(0x82, "b")), 1002, inside),
		fails("text inside binary", join(text(0x02, "a"), text(0x81, "b")), 1002, inside),
		fails("start inside a message", join(text(0x02, "a"), text(0x02, "b")), 1002, inside),
		fails("start after a continuation", join(text(0x02, "a"), text(0x00, "b"), text(0x02, "c")), 1002, inside),
		fails("continuation first", text(0x80, hello), 1002, alone),
		fails("continuation first, not last", text(0x00, hello), 1002, alone),
		fails("empty continuation first", text(0x80, ""), 1002, alone),
		wsCase{"continuation after a message", join(text(0x82, hello), text(0x80, "x")), welcome + closing(1002, alone), true},
		fails("continuation after fragments", join(text(0x02, beat[:2]), text(0x80, beat[2:]), text(0x80, "x")), 1002, alone),
	)

	// Messages are packages (protocol.md §2.2).
	add(
		wsCase{"binary message", text(0x82, hello), welcome, false},
		wsCase{"text message", text(0x81, hello), welcome, false},
		wsCase{"several packages in a message", text(0x82, beat+hello+beat), welcome, false},
		fails("empty message", text(0x82, ""), 1000, ""),
		fails("empty text", text(0x81, ""), 1000, ""),
		fails("half a package", text(0x82, hello[:7]), 1000, ""),
		wsCase{"package and a half", text(0x82, hello+beat[:3]), welcome + closing(1000, ""), true},
		fails("package type 0", text(0x82, pack(0, "")), 1000, ""),
		fails("package type 6", text(0x82, pack(6, "")), 1000, ""),
		fails("package type 5", text(0x82, pack(5, "")), 1000, ""),
		fails("another request instead of frames", []byte(request()), 1002, "reserved bits set"),
	)
	return append(append(cases, textCases()...), closeCases()...)
}

// Text must be UTF-8 (1007), and is then no package (1000), or is one.
func textCases() (cases []wsCase) {
	bad := func(name string, send []byte) {
		cases = append(cases, fails("text: "+name, send, 1007, "text is not UTF-8"))
	}
	for _, s := range []string{"hello", "\x7f", "\u0080", "κόσμε", "☃", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff", "😀", "\U00010000", "\U0010ffff", "\u00e9\u0000"} {
		cases = append(cases, fails(fmt.Sprintf("text: %q is valid", s), text(0x81, s), 1000, ""))
		for i := range len(s) + 1 {
			cases = append(cases, fails(fmt.Sprintf("text: %q is valid, cut at %d", s, i), join(text(0x01, s[:i]), text(0x80, s[i:])), 1000, ""))
		}
	}
	snow := pack(3, "☃")
	cases = append(cases,
		wsCase{"text: package of text", text(0x81, snow), "", false},
		wsCase{"text: rune in three fragments", join(text(0x01, snow[:5]), text(0x00, snow[5:6]), text(0x80, snow[6:])), "", false},
		wsCase{"text: rune around a ping", join(text(0x01, snow[:6]), text(0x89, "\xff"), text(0x80, snow[6:])), fromServer(0x8a, "\xff"), false},
		wsCase{"text: rune around empty fragments", join(text(0x01, snow[:6]), text(0x00, ""), text(0x80, snow[6:])), "", false},
		wsCase{"binary need not be text", text(0x82, pack(3, "\xff\xc0\x80")), "", false},
		wsCase{"binary fragments need not be text", join(text(0x02, pack(3, "\xff\xc0")[:5]), text(0x80, "\xc0")), "", false},
		wsCase{"binary after text", join(text(0x81, beat), text(0x82, pack(3, "\xff"))), "", false},
	)
	for _, s := range []string{
		"\xff", "\xfe", "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe2\x98", "\xe2\x28\xa1", "\xe0\x80\x80", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\xbd\xed\xb8\x80", "\xf0\x9f\x98", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80",
	} {
		bad(fmt.Sprintf("%q", s), text(0x81, s))
		bad(fmt.Sprintf("%q in a package", s), text(0x81, pack(3, "ok"+s)))
		for i := 1; i < len(s); i++ {
			bad(fmt.Sprintf("%q cut at %d", s, i), join(text(0x01, s[:i]), text(0x80, s[i:])))
		}
		bad(fmt.Sprintf("%q after whole text", s), join(text(0x01, "κό"), text(0x00, "σ"), text(0x80, "μ"+s)))
	}
	// As soon as no ending can mend it: nothing more is sent.
	bad("fails fast", text(0x01, "ok\xff"))
	bad("fails fast in the middle", join(text(0x01, "ok"), text(0x00, "\xc0")))
	bad("fails fast at the second byte of a surrogate", join(text(0x01, "\xed"), text(0x00, "\xa0")))
	bad("fails fast beyond U+10FFFF", join(text(0x01, "\xf4"), text(0x00, "\x90")))
	bad("fails fast when overlong", join(text(0x01, "\xe0"), text(0x00, "\x80")))
	bad("fails fast when cut short", join(text(0x01, "\xe2\x98"), text(0x00, "x")))
	bad("cut short by the end", join(text(0x01, "\xe2\x98"), text(0x80, "")))
	return cases
}

func closeCases() (cases []wsCase) {
	add := func(c ...wsCase) { cases = append(cases, c...) }
	code := func(n int, reason string) []byte { return text(0x88, string([]byte{byte(n >> 8), byte(n)})+reason) }
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add(fails(fmt.Sprintf("close %d", n), code(n, ""), uint16(n), ""))
	}
	for _, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(fails(fmt.Sprintf("close %d", n), code(n, ""), 1002, "invalid close code"))
	}
	long := strings.Repeat("x", 120) + "☃"
	add(
		fails("close without a code", text(0x88, ""), 1000, ""),
		fails("close with a reason", code(1000, "bye ☃"), 1000, "bye ☃"),
		fails("close with the longest reason", code(4000, long), 4000, long),
		fails("close with half a code", text(0x88, "\x03"), 1002, "close frame with half a code"),
		fails("close with a reason that is no text", code(1000, "\xff"), 1007, "close reason is not UTF-8"),
		fails("close with a reason cut inside a rune", code(1000, "\xe2\x98"), 1007, "close reason is not UTF-8"),
		fails("close with a surrogate", code(1000, "\xed\xa0\x80"), 1007, "close reason is not UTF-8"),
		fails("message after a close", join(code(1001, ""), text(0x82, hello)), 1001, ""),
		fails("ping after a close", join(code(1001, ""), text(0x89, "x")), 1001, ""),
		fails("another close after a close", join(code(1001, ""), code(1002, "")), 1001, ""),
		fails("garbage after a close", join(code(1001, ""), []byte("garbage")), 1001, ""),
		fails("much after a close", join(code(1001, ""), text(0x82, strings.Repeat("x", 300_000))), 1001, ""),
		fails("close inside a message", join(text(0x02, hello[:3]), code(1000, "")), 1000, ""),
		wsCase{"close after a message", join(text(0x82, hello), code(1000, "done")), welcome + closing(1000, "done"), true},
		wsCase{"close after a ping", join(text(0x89, "x"), code(1000, "")), fromServer(0x8a, "x") + closing(1000, ""), true},
		wsCase{"message after a fault", join(text(0x82, hello), text(0x83, ""), text(0x89, "x"), code(1000, "")), welcome + closing(1002, "reserved opcode"), true},
	)
	return cases
}

// Frames of every kind, right and wrong, whole and a byte at a time.
func TestRFC6455Frames(t *testing.T) {
	t.Parallel()
	s := start(t, "-heartbeat", "0", "-limits", "off")
	cases := frameCases()
	for _, c := range cases {
		for _, step := range []int{0, 1} {
			if step == 1 && len(c.send) > 2000 {
				step = 977 // a byte a write would take minutes
			}
			if err := exchange(s.addr("connector"), step, request(), rfcOpened, c.send, c.want, c.ends); err != nil {
				t.Errorf("%s, writes of %d bytes: %v", c.name, step, err)
			}
		}
	}
	t.Logf("%d cases", len(cases))
}

// exchange has head answered by opened, and then frames by want; after which TCP ends or the connection goes on. Head and
// first frames are one write, or many.
func exchange(addr *net.TCPAddr, step int, head, opened string, frames []byte, want string, ends bool) error {
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	p := &peer{conn: conn, step: step}
	if err := p.write(join([]byte(head), frames)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := expect(conn, opened+want); err != nil {
		return err
	}
	if !ends {
		if err := p.write(join(text(0x89, "alive"), text(0x88, "\x0f\xa0end"))); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := expect(conn, fromServer(0x8a, "alive")+closing(4000, "end")); err != nil {
			return fmt.Errorf("afterwards: %w", err)
		}
	}
	return expectEnd(conn)
}

// expect reads exactly want.
func expect(conn *net.TCPConn, want string) error {
	_ = conn.SetReadDeadline(time.Now().Add(deadline))
	got := make([]byte, len(want))
	n, err := io.ReadFull(conn, got)
	if string(got[:n]) != want {
		at := 0
		for at < n && got[at] == want[at] {
			at++
		}
		return fmt.Errorf("got %.300q (%v), want %.300q; they part at byte %d", got[:n], err, want, at)
	}
	return nil
}

// expectEnd reads the end of TCP, and nothing before it.
func expectEnd(conn *net.TCPConn) error {
	_ = conn.SetReadDeadline(time.Now().Add(deadline))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("%d bytes and %v instead of the end", n, err)
	}
	return nil
}

// What the server sends is framed in the shortest form too.
func TestRFC6455ServerLengths(t *testing.T) {
	t.Parallel()
	s := start(t, "-heartbeat", "0")
	around := len(pack(4, "\x06\x06onChat"+`{"msg":"","from":"a","target":"*"}`))
	for i, n := range []int{around, 125, 126, 127, 65535, 65536, 65537, 200_000} {
		content := strings.Repeat("c", n-around)
		send := join(text(0x82, hello), text(0x82, pack(2, "")),
			text(0x82, pack(4, "\x00\x01\x1cconnector.entryHandler.enter"+fmt.Sprintf(`{"username":"a","rid":"r%d"}`, i))),
			text(0x82, pack(4, "\x00\x02\x15chat.chatHandler.send"+`{"content":"`+content+`","target":"*"}`)))
		want := welcome + fromServer(0x82, pack(4, "\x04\x01"+`{"users":["a"]}`)) +
			fromServer(0x82, pack(4, "\x06\x06onChat"+`{"msg":"`+content+`","from":"a","target":"*"}`)) +
			fromServer(0x82, pack(4, "\x04\x02{}"))
		if err := exchange(s.addr("connector"), 0, request(), rfcOpened, send, want, false); err != nil {
			t.Errorf("frame of %d bytes: %v", n, err)
		}
	}
}

// chopped is an exchange with something of everything.
func chopped() (send []byte, want string) {
	send = join([]byte(request("+Sec-WebSocket-Extensions: permessage-deflate", "+Origin: http://chat.example")),
		text(0x89, "first"), text(0x02, hello[:5]), text(0x89, ""), text(0x80, hello[5:]),
		text(0x81, pack(2, "")), text(0x8a, "pong"), text(0x82, pack(3, "")+pack(3, "")),
		text(0x82, pack(4, "\x00\x07\x06nosuch{}")), text(0x82, pack(4, "\x00\x08\x1cconnector.entryHandler.enter"+strings.Repeat(" ", 100)+`{"username":""}`)),
		text(0x88, "\x03\xe8bye"))
	want = rfcOpened + fromServer(0x8a, "first") + fromServer(0x8a, "") + welcome +
		fromServer(0x82, pack(4, "\x04\x07"+`{"code":500}`)) + fromServer(0x82, pack(4, "\x04\x08"+`{"code":500,"error":true}`)) +
		closing(1000, "bye")
	return send, want
}

// An exchange is the same wherever TCP cuts it. The server has read every piece before the next is sent.
func TestRFC6455ChopsAtEveryByte(t *testing.T) {
	t.Parallel()
	s := start(t, "-heartbeat", "0", "-loops", "1")
	send, want := chopped()
	sent := uint64(0) // on all connections
	run := func(name string, cuts []int) {
		conn, err := net.DialTCP("tcp", nil, s.addr("connector"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for from := 0; from < len(send); {
			to := len(send)
			if len(cuts) > 0 {
				to, cuts = cuts[0], cuts[1:]
			}
			if _, err := conn.Write(send[from:to]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			sent += uint64(to - from)
			for end := time.Now().Add(deadline); s.snapshot(t).Loops[0].Net.BytesRead < sent; {
				if time.Now().After(end) {
					t.Fatalf("%s: the server does not read byte %d to %d", name, from, to)
				}
			}
			from = to
		}
		err = expect(conn, want)
		if err == nil {
			err = expectEnd(conn)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	run("whole", nil)
	all := make([]int, 0, len(send))
	for i := 1; i < len(send); i++ {
		all = append(all, i)
		run(fmt.Sprintf("cut at %d", i), []int{i})
	}
	run("byte by byte", all)
	t.Logf("%d cuts", len(all)+2)
}
