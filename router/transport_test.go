package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// A package over the limit ends the connection when its head arrives, before any of its body; one at the limit does not.
func TestPackageLimit(t *testing.T) {
	const limit = 1000
	head := func(n int) []byte { return codec.AppendPackageHead(nil, codec.PackageData, n) }
	frame := func(n int) []byte {
		b := codec.AppendWSHead(nil, codec.WSBinary, n)
		b[1] |= 0x80
		return b
	}
	tooLong := func(payload []byte) []byte { return maskedFrame(byte(codec.WSBinary), payload) }
	fragment := func(fin byte, kind codec.WSKind, n int) []byte {
		b := maskedFrame(byte(kind), make([]byte, n))
		b[0] = fin | byte(kind)
		return b
	}
	for _, tc := range []struct {
		name   string
		ws     bool
		bytes  []byte
		reason string
	}{
		{"tcp", false, head(limit + 1), ""},
		{"tcp, as long as can be", false, head(codec.MaxPackageBody), ""},
		{"ws frame", true, frame(limit + codec.PackageHeadBytes + 1), "message exceeds the limit"},
		{"ws frame of 2^63 bytes", true, []byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "message exceeds the limit"},
		{"ws fragments", true, append(fragment(0, codec.WSBinary, 600), fragment(0x80, 0, 600)...), "message exceeds the limit"},
		{"ws package in a short frame", true, tooLong(head(limit + 1)), "package exceeds the limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.PackageBytes = limit })
			c := r.login(atConnector, tc.ws)
			body := strings.Repeat("x", limit-len("\x00\x01\x01y"))
			c.sock.Send(c.bytes(codec.PackageData, []byte("\x00\x01\x01y"+body)))
			c.rest()
			c.wantOpen("")
			c.sock.Send(tc.bytes)
			c.wantEnd("", codec.WSCloseTooBig, tc.reason)
		})
	}
}

// Over TCP a head that is none ends the connection at once and without a word, but what came before it has been done.
func TestInvalidHeadEndsTCP(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for first := range 256 {
		if first >= 1 && first <= 5 {
			continue
		}
		head := []byte{byte(first), 0, 0, 0}
		fresh := r.connect(atConnector, false)
		fresh.sock.Send(head[:1])
		fresh.wantOpen("")
		fresh.sock.Send(head[1:])
		fresh.wantClosed("")

		c := r.login(atConnector, false)
		c.enter("a", fmt.Sprint("room", first))
		c.rest()
		c.sock.Send(append(append(c.message(7, routeSend, sendBody("x", "a")), head...), c.message(8, "x", "{}")...))
		push := c.packed(codec.PackageData, "\x06\x06onChat"+`{"msg":"x","from":"a","target":"a"}`)
		c.wantClosed(push + c.answered(7, `{}`))
	}
}

// What starts with letters is neither TCP nor, unless it is a method, HTTP.
func TestWordsEndTCP(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for _, word := range []string{"HELO", "get ", "GETx", "SSH-", "\x16\x03\x01\x02"} {
		c := r.connect(atConnector, false)
		c.sock.Send([]byte(word))
		c.wantClosed("")
	}
}

const upgradeKey = "dGhlIHNhbXBsZSBub25jZQ=="

// scripted is all that a client sends in a session, from its first byte on, and all that it is told.
func scripted(c *client) (sent []byte, told string) {
	step := func(reply string, parts ...[]byte) {
		for _, p := range parts {
			sent = append(sent, p...)
		}
		told += reply
	}
	pong := func(payload string) string { return string(codec.AppendWSFrame(nil, codec.WSPong, []byte(payload))) }
	if c.ws {
		step(string(codec.AppendUpgradeResponse(nil, []byte(upgradeKey), nil)),
			[]byte("GET /any?x=1 HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+upgradeKey+"\r\n\r\n"))
	}
	step("", c.bytes(codec.PackageHeartbeat, nil)) // too early
	step(c.packed(codec.PackageHandshake, `{"code":200,"sys":{"heartbeat":3}}`), c.bytes(codec.PackageHandshake, []byte(testHandshake)))
	step(c.heartbeat(), c.bytes(codec.PackageHandshakeAck, nil))
	step(c.heartbeat(), c.bytes(codec.PackageHeartbeat, nil))
	if c.ws {
		step(pong("are you there"), maskedFrame(byte(codec.WSPing), []byte("are you there")))
		step("", maskedFrame(byte(codec.WSPong), []byte("unasked")))
		step(c.heartbeat(), maskedFrame(byte(codec.WSText), []byte("\x03\x00\x00\x00")))
		step("", []byte{byte(codec.WSBinary), 0x80 | 1, 0, 0, 0, 0, 3}) // a heartbeat in two fragments, and a ping between them
		step(pong(""), maskedFrame(byte(codec.WSPing), nil))
		step(c.heartbeat(), []byte{0x80, 0x80 | 3, 0, 0, 0, 0, 0, 0, 0})
	}
	chat := func(msg, target string) string {
		return c.packed(codec.PackageData, "\x06\x06onChat"+fmt.Sprintf(`{"msg":"%s","from":"alice","target":"%s"}`, msg, target))
	}
	long := strings.Repeat("long ", 100)
	step(c.answered(1, `{"users":["witness","alice"]}`), c.message(1, routeEnter, enterBody("alice", "r")))
	step(chat("to all", "*")+c.answered(2, `{}`), c.message(2, routeSend, sendBody("to all", "*")))
	step(chat("to me", "alice")+c.answered(3, `{}`), c.message(3, routeSend, sendBody("to me", "alice")))
	step(chat("quiet", "*"), c.message(0, routeSend, sendBody("quiet", "*")))
	step(c.answered(4, refused), c.message(4, routeSend, sendBody("to nobody", "nobody")))
	step(c.answered(5, refused), c.message(5, "no.such.route", "{}"))
	step(c.answered(6, `{"users":["alice"]}`), c.message(6, routeEnter, enterBody("alice", "s")))
	step(chat(long, "*")+c.answered(300, `{}`), c.message(300, routeSend, sendBody(long, "*")))
	return sent, told
}

// A session is the same however the network cuts it: all at once (upgrade, first frames and all), a byte at a time, or at random.
func TestSplitAnywhere(t *testing.T) {
	rng := seed.Rand(t)
	cuts := []struct {
		name string
		next func() int
	}{
		{"all at once", func() int { return 1 << 30 }},
		{"a byte at a time", func() int { return 1 }},
		{"small", func() int { return 1 + rng.IntN(5) }},
		{"small again", func() int { return 1 + rng.IntN(5) }},
		{"large", func() int { return 1 + rng.IntN(300) }},
		{"large again", func() int { return 1 + rng.IntN(300) }},
	}
	forShapes(t, func(t *testing.T, like *rig) {
		sh := shape{loops: len(like.node.loops), roundTrip: like.node.roundTrip}
		forWires(t, func(t *testing.T, ws bool) {
			others := ""
			for _, cut := range cuts {
				r := newRig(t, sh, nil)
				witness := r.login(atConnector, !ws)
				witness.enter("witness", "r")
				c := r.connect(atConnector, false)
				c.ws = ws
				sent, told := scripted(c)
				for len(sent) > 0 {
					n := min(cut.next(), len(sent))
					c.sock.Send(sent[:n])
					sent = sent[n:]
					r.net.Settle()
				}
				if got := string(c.sock.Wrote); got != told || c.ended() {
					t.Errorf("%s: ended %v\ngot  %q\nwant %q", cut.name, c.ended(), got, told)
				}
				if others == "" {
					others = string(witness.sock.Wrote)
				}
				if got := string(witness.sock.Wrote); got != others {
					t.Errorf("%s: another member\ngot  %q\nwant %q", cut.name, got, others)
				}
			}
		})
	})
}

// What a WebSocket client may not send, and what each earns it. A package before it in the same segment has been answered.
func TestFrameFaults(t *testing.T) {
	beat := "\x03\x00\x00\x00"
	binary := func(payload string) []byte { return maskedFrame(byte(codec.WSBinary), []byte(payload)) }
	closing := func(payload string) []byte { return maskedFrame(byte(codec.WSClose), []byte(payload)) }
	for _, tc := range []struct {
		name   string
		bytes  []byte
		beats  int // heartbeats answered before the end
		code   uint16
		reason string
	}{
		{"empty binary frame", binary(""), 0, 1000, ""},
		{"empty text frame", maskedFrame(byte(codec.WSText), nil), 0, 1000, ""},
		{"half a head", binary("\x03"), 0, 1000, ""},
		{"half a body", binary("\x04\x00\x00\x02x"), 0, 1000, ""},
		{"trailing bytes", binary(beat + "\x04\x00\x00"), 1, 1000, ""},
		{"unknown type", binary("\x09\x00\x00\x00"), 0, 1000, ""},
		{"two packages, then a kick", binary(beat + beat + "\x05\x00\x00\x00" + beat), 2, 1000, ""},
		{"text that is no UTF-8", maskedFrame(byte(codec.WSText), []byte("\x03\x00\x00\x01\xff")), 0, 1007, "text is not UTF-8"},
		{"no mask", []byte{0x82, 4, 3, 0, 0, 0}, 0, 1002, "frame is not masked"},
		{"reserved bit", []byte{0xc2, 0x84}, 0, 1002, "reserved bits set"},
		{"reserved opcode", []byte{0x83, 0x80}, 0, 1002, "reserved opcode"},
		{"continuation of nothing", []byte{0x80, 0x80}, 0, 1002, "continuation without a message"},
		{"fragmented ping", []byte{0x09, 0x80}, 0, 1002, "fragmented control frame"},
		{"close without code", closing(""), 0, 1000, ""},
		{"close 1000", closing("\x03\xe8"), 0, 1000, ""},
		{"close 1001 with a reason", closing("\x03\xe9bye"), 0, 1001, "bye"},
		{"close 4999", closing("\x13\x87"), 0, 4999, ""},
		{"close with half a code", closing("\x03"), 0, 1002, "close frame with half a code"},
		{"close with a code that is none", closing("\x03\xed"), 0, 1002, "invalid close code"},
		{"close with a reason that is no UTF-8", closing("\x03\xe8\xff"), 0, 1007, "close reason is not UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c, other := r.login(atConnector, true), r.login(atConnector, true)
			other.enter("other", "r")
			c.enter("c", "r")
			other.take()
			c.rest()
			c.sock.Send(append(append(binary(beat), tc.bytes...), binary(beat)...))
			c.wantEnd(strings.Repeat(c.heartbeat(), 1+tc.beats), tc.code, tc.reason)
			other.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
		})
	}
}

// Pings are answered in every state, and text frames are as good as binary ones while they are ASCII.
func TestPingsAndTextFrames(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.connect(atConnector, true)
	ping := func() {
		t.Helper()
		payload := []byte("\x00ping\xff")
		c.sock.Send(maskedFrame(byte(codec.WSPing), payload))
		c.wantOpen("\x8a\x06\x00ping\xff")
	}
	text := func(p codec.PackageType, body string) {
		c.sock.Send(maskedFrame(byte(codec.WSText), codec.AppendPackage(nil, p, []byte(body))))
	}
	c.rest()
	ping()
	text(codec.PackageHandshake, testHandshake)
	c.wantOpen(c.packed(codec.PackageHandshake, `{"code":200,"sys":{"heartbeat":3}}`))
	ping()
	text(codec.PackageHandshakeAck, "")
	c.wantOpen(c.heartbeat())
	ping()
	text(codec.PackageData, "\x00\x05\x1cconnector.entryHandler.enter"+enterBody("a", "r"))
	c.wantOpen(c.answered(5, `{"users":["a"]}`))
}
