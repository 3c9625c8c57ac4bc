package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pomelod/pomelod/codec"
)

// audience is a member of room r for each way in which a push is encoded. What they are told must be valid, whatever others send.
type audience struct {
	r      *rig
	hybrid []*client
	sio    []*sioClient
}

func newAudience(r *rig) *audience {
	a := &audience{r: r, hybrid: []*client{r.login(atConnector, false), r.login(atConnector, true)}}
	for _, i := range []int{0, 1, 3, 4, 7, 8} {
		a.sio = append(a.sio, r.sioLogin(flavours[i]))
	}
	for i, c := range a.hybrid {
		c.request(routeEnter, enterBody(fmt.Sprint("hybrid", i), "r"))
	}
	for i, c := range a.sio {
		c.request(routeEnter, enterBody(fmt.Sprint("sio", i), "r"))
	}
	r.run(a.sio...)
	return a
}

// check ends everything, after the claims that must hold whatever was sent: nothing panicked, all was forwarded in valid
// JSON, the others go on, and nothing is left in the end.
func (a *audience) check(t *testing.T) {
	a.r.run(a.sio...)
	for _, c := range a.hybrid {
		c.pump()
	}
	for _, c := range a.sio {
		if c.lost() {
			t.Fatalf("a witness was lost: %s: %v %q", c.kind.name, c.answers, c.packets)
		}
	}
	events := func(list []event) {
		for _, e := range list {
			text := []byte(e.text[strings.IndexByte(e.text, ' ')+1:])
			if e.kind == "answer" {
				text = []byte(e.text)
			}
			if !json.Valid(text) || !utf8.Valid(text) {
				t.Fatalf("forwarded %q", e)
			}
		}
	}
	for _, c := range a.hybrid {
		events(c.events)
	}
	for _, c := range a.sio {
		events(c.events)
	}
	last := a.sio[len(a.sio)-1]
	last.events = nil
	if got := last.ask(routeSend, sendBody("still here", "hybrid0")); got != `{}` {
		t.Fatalf("a witness was answered %s", got)
	}
	a.r.endAll()
	a.r.balanced()
}

// chop sends b in pieces whose lengths are the digits of pattern, over and over; 0 means the rest.
func chop(r *rig, w *web, b []byte, pattern byte) {
	for i := 0; len(b) > 0; i++ {
		n := []int{int(pattern >> 4), int(pattern & 15)}[i&1]
		if n == 0 || n > len(b) {
			n = len(b)
		}
		w.sock.Send(b[:n])
		b = b[n:]
		r.net.Settle()
	}
}

// FuzzHTTPSession feeds a connection whatever comes, in pieces of any size, beside three live sessions that poll, whose ids
// stand in the input as SID0, SID3 and SID4.
func FuzzHTTPSession(f *testing.F) {
	const poll3, poll4, xhr = "/socket.io/?EIO=3&transport=polling&sid=SID3", "/socket.io/?EIO=4&transport=polling&sid=SID4", "/socket.io/1/xhr-polling/SID0"
	say := func(kind flavour, body string) string {
		return (&sioClient{kind: kind}).message(7, routeSend, body)
	}
	text3 := func(p string) string { return fmt.Sprintf("%d:%s", len(p), p) }
	for _, s := range []string{
		get(poll3), get(poll4) + get(poll4), get(xhr) + get("/gate/queryEntry?uid=a"), get(xhr + "?disconnect=1"), get("/socket.io/1/jsonp-polling/SID0?i=3"),
		post(poll3, text3(say(flavours[4], sendBody("x", "*")))), post(poll3+"&j=1", "d="+text3("2")), post(poll3, "\x00\x01\xff2", "Content-Type: application/octet-stream"),
		post(poll4, say(flavours[8], sendBody("x", "*"))+"\x1e2\x1e1"), post(poll4, "x"), post(xhr, say(flavours[1], sendBody("x", "*"))), post(xhr, "0::"),
		post(poll4, "2") + upgradeTo("/socket.io/?EIO=4&transport=websocket&sid=SID4") + textFrame("2probe") + textFrame("5") + textFrame(say(flavours[8], sendBody("x", "*"))),
		upgradeTo("/socket.io/?EIO=3&transport=websocket&sid=SID3") + textFrame("2probe") + get(poll3),
		upgradeTo("/socket.io/1/websocket/SID0") + textFrame(say(flavours[0], sendBody("x", "*"))), upgradeTo("/socket.io/?EIO=4&transport=websocket") + textFrame("40"),
		strings.Replace(post(poll4, "1\r\n2\r\n1;x=y\r\n"+"\x1e\r\n1\r\n3\r\n0\r\nA: b\r\n\r\n", "Transfer-Encoding: chunked"), "Content-Length", "X", 1),
		get("/socket.io/?EIO=3&transport=polling&b64=1"), get("/socket.io/1/?jsonp=2", "Origin: http://x"), "\r\n" + get("/chat", `If-None-Match: W/"v1"`),
		strings.Replace(get(poll4), "GET", "OPTIONS", 1), post("/gate/queryEntry", `{"uid":"a"}`, "Expect: 100-continue"),
	} {
		f.Add([]byte(s), byte(0))
		f.Add([]byte(s), byte(0x17))
	}
	f.Fuzz(func(t *testing.T, b []byte, pattern byte) {
		if len(b) > 4096 {
			return
		}
		r := newRig(t, shape{loops: 1 + int(pattern&1)}, filed)
		a := newAudience(r)
		for i, c := range []*sioClient{r.sioLogin(flavours[1]), r.sioLogin(flavours[4]), r.sioLogin(flavours[8])} {
			c.request(routeEnter, enterBody(fmt.Sprint("target", i), "r"))
			r.run(append(a.sio, c)...)
			b = bytes.ReplaceAll(b, []byte{'S', 'I', 'D', "034"[i]}, []byte(c.sid))
		}
		chop(r, r.web(atConnector), b, pattern)
		a.check(t)
	})
}

// FuzzSIOPackets sends packets, which the input separates by bytes of 0xFF, to a session of each kind: in frames, in payloads, and
// as payloads they are not.
func FuzzSIOPackets(f *testing.F) {
	for _, kind := range flavours {
		c := &sioClient{kind: kind}
		for _, p := range []string{
			c.message(7, routeSend, sendBody("é王"+smile, "*")), c.message(0, routeSend, `{"content":["\ud800"],"target":"*"}`), c.message(8, routeEnter, enterBody("x", "s")),
			c.message(0xFFFFFFFF, "x", "{}"),
		} {
			f.Add([]byte(p + "\xff" + p))
			f.Add([]byte(c.payload([]string{p, p})))
		}
	}
	for _, p := range []string{
		"2", "2probe", "3", "40", "40/x,", "41", "42/x,[]", `427["message","x"]`, `42["message",{"a":1}]`, `451-["message",{"_placeholder":true,"num":0}]`, "4\xff5", "1", "6",
		"0::", "1::", "1::/x", "2::", "3:1::x", "3:1+::x", "4:::{}", `5:::{"name":"message","args":["x"]}`, "6:::1", "7:::1+0", "8::", "b4AAAA", "\ufffd3\ufffd2::",
		"3:::\x00\x00\x00\x07\x00{}", "3:::\x00\x00\x00\x07\x15chat.chatHandler.send{\"content\":\"\x01\",\"target\":\"*\"}",
	} {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		r := newRig(t, shape{loops: 1 + len(b)&1}, nil)
		a := newAudience(r)
		var packets []string
		for p := range bytes.SplitSeq(b, []byte{0xFF}) {
			packets = append(packets, string(p))
		}
		for i, kind := range flavours {
			c := r.sioLogin(kind)
			c.request(routeEnter, enterBody(fmt.Sprint("n", i), "r"))
			r.net.Settle()
			if kind.ws {
				for _, p := range packets {
					op := codec.WSText
					if !utf8.ValidString(p) {
						op = codec.WSBinary
					}
					c.ws.send(string(maskedFrame(byte(op), []byte(p))))
				}
				continue
			}
			r.web(atConnector).send(post(c.target("polling"), c.payload(packets), "Content-Type: "+map[bool]string{true: "application/octet-stream"}[kind.binary]))
			r.net.Settle()
			r.web(atConnector).send(post(c.target("polling"), string(b)))
			r.net.Settle()
		}
		a.check(t)
	})
}
