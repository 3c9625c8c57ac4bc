package router

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/pomelod/pomelod/codec"
)

// FuzzSession feeds a connection whatever comes, all at once and then byte by byte on another: the server writes the
// same to both, never panics, and goes on serving others.
func FuzzSession(f *testing.F) {
	tcp := codec.AppendPackage(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{}}`)), codec.PackageHandshakeAck, nil)
	c := &client{r: &rig{t: f}}
	f.Add(append(append([]byte(nil), tcp...), c.message(1, routeEnter, enterBody("a", "r"))...))
	f.Add(append(append(append([]byte(nil), tcp...), c.message(1, routeEnter, enterBody("a", "r"))...), c.message(2, routeSend, sendBody("x", "*"))...))
	upgrade := "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	f.Add(append([]byte(upgrade), maskedFrame(2, tcp)...))
	f.Add(append([]byte(upgrade), maskedFrame(9, []byte("ping"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		var wrote [2]string
		for i, step := range []int{len(b), 1} {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.connect(atConnector, false)
			for at := 0; at < len(b); at += step {
				c.sock.Send(b[at:min(at+step, len(b))])
				r.net.Settle()
			}
			wrote[i] = string(c.sock.Wrote)
			if other := r.login(atConnector, false); other.enter("other", "elsewhere") != `{"users":["other"]}` {
				t.Fatal("others are not served any more")
			}
			if s := r.node.loops[0].np.Stats(); s.Panics+r.node.loops[0].counters.panics+r.node.loops[0].worker.Stats().Panics != 0 {
				t.Fatal("a panic was contained; it should not have been")
			}
		}
		if wrote[0] != wrote[1] {
			t.Fatalf("all at once %q\nbyte by byte %q", wrote[0], wrote[1])
		}
	})
}

// FuzzForwarded sends any body to a room of every kind of client: what arrives is always valid JSON of valid UTF-8, or
// protobuf that decodes to it.
func FuzzForwarded(f *testing.F) {
	protos, err := codec.ParseProtos([]byte(`{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`),
		[]byte(`{"chat.chatHandler.send":{"optional string content":1,"optional string target":2}}`))
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{sendBody("x", "*"), `{"content":{"a":["\u00e9\ud83d\ude00",1e5]},"target":"*"}`, "{\"content\":\"a\nb\",\"target\":\"*\"}",
		"{\"content\":\"\xff\xed\xa0\xbd\xed\xb8\x80\",\"target\":\"*\"}", `{"content":"\x","target":"*"}`, `{"content":"\ud800","target":"*"}`, "\x0a\x01x\x12\x01*"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const atProto = 2
		r := newRig(t, shape{loops: 1}, func(c *Config) {
			c.Profiles = append(c.Profiles, &Profile{Name: "proto", Type: Connector, Protos: protos})
		})
		plain, ws, proto := r.login(atConnector, false), r.login(atConnector, true), r.login(atProto, false)
		plain.enter("plain", "r")
		ws.enter("ws", "r")
		proto.enter("proto", "r")
		for _, sender := range []*client{plain, proto} {
			sender.request(routeSend, string(body))
		}
		r.net.Settle()
		for _, c := range []*client{plain, ws, proto} {
			c.pump()
			for _, e := range c.events {
				text := []byte(e.text)
				if chat := "onChat "; e.kind == "push" && len(text) > len(chat) && string(text[:len(chat)]) == chat {
					text = text[len(chat):]
					if c == proto {
						if text, err = protos.Server("onChat").AppendDecode(nil, text); err != nil {
							t.Fatalf("%q: %v", e.text, err)
						}
					}
				} else if e.kind == "push" {
					continue
				}
				if !json.Valid(text) || !utf8.Valid(text) {
					t.Fatalf("forwarded %q", text)
				}
			}
		}
	})
}
