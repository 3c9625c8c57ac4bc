package router

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// coded is a message whose route travels as a code; a notify when id is 0.
func (c *client) coded(id uint32, code uint16, body string) []byte {
	m := codec.Message{Type: codec.MessageNotify, Compressed: true, Code: code, Body: []byte(body)}
	if id != 0 {
		m.Type, m.ID = codec.MessageRequest, id
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		c.r.t.Fatal(err)
	}
	return c.bytes(codec.PackageData, b)
}

// Codes stand for routes in both directions. A code nobody gave out is dropped without a word.
func TestDictionaryCodes(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := single(t, func(p *Profile) { p.Dict = codec.NewDictionary(chatRoutes, []string{"onAdd"}) })
		c, other := r.login(atConnector, ws), r.login(atConnector, ws)
		c.sock.Send(c.coded(1, 2, enterBody("a", "r")))
		c.wantOpen(c.answered(1, `{"users":["a"]}`))
		for _, code := range []uint16{0, 5, 65535} {
			c.sock.Send(append(c.coded(2, code, `{}`), c.coded(0, code, `{}`)...))
			c.wantOpen("")
		}
		other.enter("b", "r")
		c.wantOpen(c.packed(codec.PackageData, "\x07\x00\x04"+`{"route":"onAdd","user":"b"}`)) // in the dictionary
		c.sock.Send(c.coded(3, 1, sendBody("x", "*")))
		c.wantOpen(c.packed(codec.PackageData, "\x06\x06onChat"+`{"msg":"x","from":"a","target":"*"}`) + c.answered(3, `{}`))
		c.sock.Send(c.coded(4, 3, `{"uid":"a"}`)) // known, but a gate's
		c.wantOpen(c.answered(4, refused))
		c.wantWorking()
	})
}

// Without a dictionary every code is one that nobody gave out.
func TestCodesWithoutDictionary(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		c := r.login(atConnector, ws)
		c.rest()
		c.sock.Send(c.coded(1, 1, `{}`))
		c.wantOpen("")
		c.wantWorking()
	})
}

// Messages that are none, or nobody's business, are ignored: they cost nothing and close nothing (protocol.md §2.5).
func TestIgnoredMessages(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		c := r.login(atConnector, ws)
		c.rest()
		for _, message := range []string{
			"", "\x00", "\x00\x80", "\x00\x01", "\x00\x01\x05ab", "\x01\x01\x00", // no flag, cut in id, route, code
			"\x04\x01{}",                       // a response
			"\x08x", "\x0ax", "\x0cx", "\x0ex", // types 4 to 7
			"\x02\x05a.b.c{}", "\x06\x05a.b.c{}", // a notify, and a client's push, which counts as one
			"\x00\x00\x05a.b.c{}", "\x00\x80\x00\x05a.b.c{}", // id 0
		} {
			c.send(codec.PackageData, []byte(message))
			c.wantOpen("")
		}
		c.send(codec.PackageData, []byte("\xe0\x81\x80\x00\x05a.b.c{}")) // unknown bits, a long form of id 1
		c.wantOpen(c.packed(codec.PackageData, "\x04\x81\x80\x00"+refused))
		c.send(codec.PackageData, []byte("\x10\x02\x05a.b.c\x1f\x8b")) // gzip
		c.wantOpen(c.answered(2, refused))
	})
}

// text is a protobuf field of a string; tags below 16.
func text(tag int, s string) string { return string([]byte{byte(tag<<3 | 2), byte(len(s))}) + s }

const (
	smile     = "\U0001F600"
	smileCESU = "\xed\xa0\xbd\xed\xb8\x80"
)

// twoConnectors is a node with a listener that offers protobuf, at atConnector, and one that does not.
func twoConnectors(t *testing.T) (r *rig, plain uint8) {
	r = newRig(t, shape{loops: 1}, func(c *Config) {
		c.Profiles[atConnector].Protos = parseProtos(t, chatServerProtos, `{
			"chat.chatHandler.send":{"optional string content":1,"optional string target":2},
			"connector.entryHandler.enter":{"optional string username":1,"optional uInt32 rid":2}}`)
		c.Profiles = append(c.Profiles, &Profile{Name: "plain", Type: Connector})
	})
	return r, 2
}

// Every member gets a push as it can read it: protobuf or JSON by its listener, characters above U+FFFF in protobuf as
// surrogates for browsers and as UTF-8 for others, in JSON as escapes. Browsers' surrogates are joined on the way in.
func TestTextForEveryClient(t *testing.T) {
	r, plain := twoConnectors(t)
	browser, inBrowser := `{"sys":{"type":"js-websocket"}}`, `{"sys":{"type":"js-websocket","version":"0.0.1"}}`
	var members []*client
	want := map[*client]string{}
	for i, tc := range []struct {
		tag       uint8
		ws        bool
		handshake string
		push      string // onChat
	}{
		{atConnector, true, browser, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")}, // of its type, but no browser
		{atConnector, false, browser, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")},
		{atConnector, true, inBrowser, text(1, "hi "+smileCESU) + text(2, "m0"+smileCESU) + text(3, "*")},
		{atConnector, true, testHandshake, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")},
		{atConnector, false, testHandshake, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")},
		{plain, true, browser, `{"msg":"hi \ud83d\ude00","from":"m0\ud83d\ude00","target":"*"}`},
		{plain, false, testHandshake, `{"msg":"hi \ud83d\ude00","from":"m0\ud83d\ude00","target":"*"}`},
	} {
		if r.from = ""; tc.handshake == inBrowser {
			r.from = pageOrigin
		}
		c, _ := r.loginAs(tc.tag, tc.ws, tc.handshake)
		name := fmt.Sprint("m", i) + smileCESU
		c.ask(routeEnter, `{"username":"`+name+`","rid":7}`)
		c.rest()
		want[c] = c.packed(codec.PackageData, "\x06\x06onChat"+tc.push)
		for _, m := range members {
			m.wantOpen(m.packed(codec.PackageData, "\x06\x05onAdd"+fmt.Sprintf(`{"route":"onAdd","user":"m%d\ud83d\ude00"}`, i)))
		}
		members = append(members, c)
	}
	for _, body := range []string{
		text(1, "hi "+smileCESU) + text(2, "*"), text(1, "hi "+smile) + text(2, "*"),
		`{"content":"hi ` + smileCESU + `","target":"*"}`, `{"content":"hi ` + smile + `","target":"*"}`, `{"content":"hi \ud83d\ude00","target":"*"}`,
	} {
		members[0].sock.Send(members[0].message(9, routeSend, body))
		for _, m := range members {
			if m == members[0] {
				m.wantOpen(want[m] + m.answered(9, `{}`))
			} else {
				m.wantOpen(want[m])
			}
		}
	}
}

// Where a route has a client proto, bodies are protobuf or JSON; those that are neither are refused (protocol.md §3.3).
func TestProtobufBodies(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r, _ := twoConnectors(t)
		c := r.login(atConnector, ws)
		for _, tc := range []struct{ route, body, want string }{
			{routeEnter, text(1, "a") + "\x10", enterRefused},              // ends inside a field
			{routeEnter, text(1, "a") + "\x10\x80", enterRefused},          // ends inside a varint
			{routeEnter, text(1, "a") + "\x10\x07" + "\x1a", enterRefused}, // unknown tag
			{routeEnter, "\x0a\x05a\x10\x07", enterRefused},                // a string longer than the body
			{routeEnter, text(1, "a"), enterRefused},
			{routeEnter, "", enterRefused},
			{routeEnter, `{"username":"a"`, enterRefused},
			{routeEnter, text(1, "a") + "\x10\x07", `{"users":["a"]}`},
			{routeEnter, `{"username":"b","rid":8}`, `{"users":["b"]}`},
			{routeEnter, text(1, "c") + "\x12\x09", `{"users":["c"]}`}, // as the browser's encoder writes a number
			{routeSend, text(1, "x") + "\xff", refused},
			{routeSend, text(1, "x") + "\x12\x7fc", refused},
			{routeSend, text(1, "x"), refused},
			{routeSend, "", refused},
			{routeSend, text(1, "x") + text(2, "c"), `{}`},
			{routeSend, text(2, "c"), `{}`},
			{routeSend, `{"target":"c"}`, `{}`},
			{routeSend, `{"content":{"a":1},"target":"c"}`, `{}`},
		} {
			if got := c.ask(tc.route, tc.body); got != tc.want {
				t.Errorf("%s %q: got %s, want %s", tc.route, tc.body, got, tc.want)
			}
		}
		from := text(2, "c") + text(3, "c")
		c.want("push 0 onChat "+text(1, "x")+from, "push 0 onChat "+text(1, "")+from, "push 0 onChat "+text(1, "")+from, "push 0 onChat "+text(1, `{"a":1}`)+from)
	})
}
