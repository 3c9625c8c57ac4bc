package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
)

// forWires runs f over each transport.
func forWires(t *testing.T, f func(t *testing.T, ws bool)) {
	t.Run("tcp", func(t *testing.T) { f(t, false) })
	t.Run("ws", func(t *testing.T) { f(t, true) })
}

// single is a node of one loop whose connector is changed.
func single(t testing.TB, change func(*Profile)) *rig {
	return newRig(t, shape{loops: 1}, func(c *Config) { change(c.Profiles[atConnector]) })
}

// rest lets everything come to rest and returns what the server wrote since the last look, without its answer to the upgrade.
func (c *client) rest() string {
	c.r.net.Settle()
	b := string(c.sock.Wrote[c.read:])
	if c.ws && !c.head {
		_, after, found := strings.Cut(b, "\r\n\r\n")
		if !found {
			return b
		}
		b, c.head = after, true
	}
	c.read = len(c.sock.Wrote)
	return b
}

// packed is a package as the server writes it to c.
func (c *client) packed(t codec.PackageType, body string) string {
	p := codec.AppendPackage(nil, t, []byte(body))
	if c.ws {
		p = codec.AppendWSFrame(nil, codec.WSBinary, p)
	}
	return string(p)
}

// answered is an answer as the server writes it to c.
func (c *client) answered(id uint32, body string) string {
	return c.packed(codec.PackageData, string(codec.AppendResponseHead(nil, id))+body)
}

func (c *client) heartbeat() string { return c.packed(codec.PackageHeartbeat, "") }

func (c *client) ended() bool { return c.sock.ShutDown || c.sock.Closed }

// wantOpen fails unless the server wrote exactly these bytes since the last look and keeps the connection.
func (c *client) wantOpen(want string) {
	c.r.t.Helper()
	if got := c.rest(); got != want || c.ended() {
		c.r.t.Fatalf("got  %q\nwant %q, ended %v, want open", got, want, c.ended())
	}
}

// wantEnd fails unless the server wrote exactly these bytes since the last look and then ended the connection: over WebSocket
// with this code and reason.
func (c *client) wantEnd(want string, code uint16, reason string) {
	c.r.t.Helper()
	if c.ws {
		want += string(codec.AppendWSClose(nil, code, reason))
	}
	if got := c.rest(); got != want || !c.ended() {
		c.r.t.Fatalf("got  %q\nwant %q, ended %v, want an end", got, want, c.ended())
	}
}

// wantClosed is wantEnd in the way of protocol.md §2.3.
func (c *client) wantClosed(want string) {
	c.r.t.Helper()
	c.wantEnd(want, codec.WSCloseNormal, "")
}

// wantWorking fails unless a request is answered.
func (c *client) wantWorking() {
	c.r.t.Helper()
	if got := c.ask("no.such.route", `{}`); got != refused {
		c.r.t.Fatal(got)
	}
}

const testHandshake = `{"sys":{"type":"test","version":"1"}}`

// loginAs is login with a handshake of the test's own. It returns what the server answered.
func (r *rig) loginAs(tag uint8, ws bool, handshake string) (*client, string) {
	r.t.Helper()
	c := r.connect(tag, ws)
	c.send(codec.PackageHandshake, []byte(handshake))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.pump()
	if len(c.events) != 1 || c.events[0].kind != "handshake" {
		r.t.Fatalf("no handshake: %v", c.events)
	}
	text := c.events[0].text
	c.events = nil
	return c, text
}

// closedFor is how many connections ended for a reason.
func (r *rig) closedFor(why netpoll.Reason) (n uint64) {
	for _, l := range r.node.loops {
		n += l.np.Stats().Closed[why]
	}
	return n
}

// The table of protocol.md §2.3, cell by cell. After a cell that does not close, the session goes on from where it stands.
func TestStateTable(t *testing.T) {
	type cell struct {
		closes bool
		reply  codec.PackageType
		body   string
	}
	ignored, closed := cell{}, cell{closes: true}
	heartbeat := cell{reply: codec.PackageHeartbeat}
	greeting := cell{reply: codec.PackageHandshake, body: `{"code":200,"sys":{"heartbeat":3}}`}
	answer := cell{reply: codec.PackageData, body: "\x04\x4d" + refused}
	states := []string{"INITED", "WAIT_ACK", "WORKING"}
	steps := []struct {
		t    codec.PackageType
		body string
	}{{codec.PackageHandshake, testHandshake}, {codec.PackageHandshakeAck, ""}}
	rows := []struct {
		name  string
		t     codec.PackageType
		body  string
		cells [3]cell
	}{
		{"handshake", codec.PackageHandshake, testHandshake, [3]cell{greeting, ignored, ignored}},
		{"ack", codec.PackageHandshakeAck, "", [3]cell{ignored, heartbeat, ignored}},
		{"ack with a body", codec.PackageHandshakeAck, "x", [3]cell{ignored, heartbeat, ignored}},
		{"heartbeat", codec.PackageHeartbeat, "", [3]cell{ignored, ignored, heartbeat}},
		{"data", codec.PackageData, "\x00\x4d\x01x{}", [3]cell{ignored, ignored, answer}},
		{"kick", codec.PackageKick, "", [3]cell{closed, closed, closed}},
		{"type 0", 0, "", [3]cell{closed, closed, closed}},
		{"type 6", 6, "", [3]cell{closed, closed, closed}},
		{"type 255", 255, "", [3]cell{closed, closed, closed}},
	}
	forWires(t, func(t *testing.T, ws bool) {
		for _, row := range rows {
			for state, cell := range row.cells {
				t.Run(row.name+" in "+states[state], func(t *testing.T) {
					r := newRig(t, shape{loops: 1}, nil)
					c := r.connect(atConnector, ws)
					for _, step := range steps[:state] {
						c.send(step.t, []byte(step.body))
					}
					c.rest()
					c.send(row.t, []byte(row.body))
					if cell.closes {
						c.wantClosed("")
						return
					}
					if cell.reply == 0 {
						c.wantOpen("")
					} else {
						c.wantOpen(c.packed(cell.reply, cell.body))
					}
					if cell.reply != 0 && state < len(steps) {
						state++
					}
					for _, step := range steps[state:] {
						c.send(step.t, []byte(step.body))
					}
					c.rest()
					c.wantWorking()
				})
			}
		}
	})
}

// Heartbeats that are off are neither sent nor answered.
func TestHeartbeatsOff(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := single(t, func(p *Profile) { p.HeartbeatSeconds = 0 })
		c := r.connect(atConnector, ws)
		c.send(codec.PackageHandshake, []byte(testHandshake))
		c.wantOpen(c.packed(codec.PackageHandshake, `{"code":200,"sys":{}}`))
		c.send(codec.PackageHandshakeAck, nil)
		c.send(codec.PackageHeartbeat, nil)
		c.wantOpen("")
		c.wantWorking()
	})
}

// Every refused handshake is answered with a package, then closed, and nothing behind it counts (protocol.md §2.4).
func TestHandshakeRefusals(t *testing.T) {
	bodies := []string{
		"", " ", "x", "{", `{"sys":{}`, `{"sys":{}}x`, `{"sys":{"type":}}`, `{sys:{}}`, `[]`, `7`, `null`, `"sys"`,
		`{}`, `{"user":{"sys":{}}}`, `{"Sys":{}}`, `{"sys":null}`, `{"sys":false}`, `{"sys":0}`, `{"sys":-0}`, `{"sys":0.00}`,
		`{"sys":0e9}`, `{"sys":-0.0E-7}`, `{"sys":""}`, `{"sys":{},"sys":null}`,
	}
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		for _, body := range bodies {
			c := r.connect(atConnector, ws)
			c.send(codec.PackageHandshake, []byte(body))
			c.send(codec.PackageHandshake, []byte(testHandshake))
			c.wantClosed(c.packed(codec.PackageHandshake, refused))
		}
		if n := r.closedFor(reasonHandshake); n != uint64(len(bodies)) {
			t.Errorf("%d of %d counted", n, len(bodies))
		}
	})
}

// Whatever is truthy in JavaScript is a sys.
func TestHandshakeAccepts(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for _, body := range []string{
		`{"sys":{}}`, `{"sys":[]}`, `{"sys":1}`, `{"sys":-0.001}`, `{"sys":true}`, `{"sys":"x"}`, `{"sys":" "}`, `{"sys":null,"sys":{}}`,
		` {"sys":{"type":7,"version":{},"dictVersion":null,"protoVersion":0,"rsa":{}}, "user":null} `,
		"{\"sys\":{\"type\":\"\xed\xa0\xbd\xed\xb8\x80\xff\"}}",
	} {
		c, text := r.loginAs(atConnector, true, body)
		if text != `{"code":200,"sys":{"heartbeat":3}}` {
			t.Errorf("%s: %s", body, text)
		}
		c.wantWorking()
	}
}

// The configured judges of a handshake: the client's type and version first, then its user data.
func TestHandshakeCallbacks(t *testing.T) {
	var asked []string
	r := single(t, func(p *Profile) {
		p.CheckClient = func(clientType, version string) bool {
			asked = append(asked, clientType+" "+version)
			return clientType != "bad"
		}
		p.User = func(user []byte) ([]byte, error) {
			switch string(user) {
			case `"fail"`:
				return []byte(`{}`), errors.New("as the test wants it")
			case "":
				return nil, nil
			}
			return append([]byte(`{"you":`), append(user, '}')...), nil
		}
	})
	cases := []struct{ body, want string }{
		{`{}`, `{"code":500}`},
		{`{"sys":{"type":"bad","version":"2"}}`, `{"code":501}`},
		{`{"sys":{"type":"bad"},"user":"fail"}`, `{"code":501}`},
		{`{"sys":{"type":"good","version":"0.0.1"},"user":"fail"}`, `{"code":500}`},
		{`{"sys":{"type":"good","version":"0.0.1"}}`, `{"code":200,"sys":{"heartbeat":3}}`},
		{`{"user":[ 1 ],"sys":{"type":"good","version":2}}`, `{"code":200,"sys":{"heartbeat":3},"user":{"you":[ 1 ]}}`},
	}
	for _, tc := range cases {
		c := r.connect(atConnector, true)
		c.send(codec.PackageHandshake, []byte(tc.body))
		if want := c.packed(codec.PackageHandshake, tc.want); strings.Contains(tc.want, "200") {
			c.wantOpen(want)
		} else {
			c.wantClosed(want)
		}
	}
	if got, want := fmt.Sprint(asked), "[bad 2 bad  good 0.0.1 good 0.0.1 good ]"; got != want {
		t.Errorf("asked about %s, want %s", got, want)
	}
	if n := r.node.loops[0].counters.handshakesRefused; n != 4 {
		t.Errorf("%d refusals counted", n)
	}
}

// The chat application's definitions, and what the original server's handshake made of them (golden/hybrid-ws-*.jsonl).
const (
	chatServerProtos = `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`
	chatDict         = `"dict":{"chat.chatHandler.send":1,"connector.entryHandler.enter":2,"gate.gateHandler.queryEntry":3},` +
		`"routeToCode":{"chat.chatHandler.send":1,"connector.entryHandler.enter":2,"gate.gateHandler.queryEntry":3},` +
		`"codeToRoute":{"1":"chat.chatHandler.send","2":"connector.entryHandler.enter","3":"gate.gateHandler.queryEntry"},` +
		`"dictVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`
	chatProtos = `"protos":{"server":{"onChat":{"msg":{"option":"required","type":"string","tag":1},` +
		`"from":{"option":"required","type":"string","tag":2},"target":{"option":"required","type":"string","tag":3},` +
		`"__messages":{},"__tags":{"1":"msg","2":"from","3":"target"}}},"client":{},"version":"2zWPnSlRsRxjqgcU215Uxg=="}`
	sameDict   = `"dictVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`
	sameProtos = `"protoVersion":"2zWPnSlRsRxjqgcU215Uxg=="`
)

// chatRoutes are what the chat application's dictionary numbers.
var chatRoutes = []string{routeQueryEntry, routeSend, routeEnter}

func parseProtos(t testing.TB, server, client string) *codec.Protos {
	p, err := codec.ParseProtos([]byte(server), []byte(client))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A handshake's text is the original's to the byte, and repeats nothing the client has.
func TestHandshakeTexts(t *testing.T) {
	const heartbeat, dict, protos = 1, 2, 4
	for _, tc := range []struct {
		offers    int
		sys, want string
	}{
		{0, ``, ``},
		{heartbeat, sameDict + "," + sameProtos, `"heartbeat":3`},
		{dict, ``, chatDict + `,"useDict":true`},
		{dict, sameDict, `"useDict":true`},
		{protos, `"protoVersion":0`, chatProtos + `,"useProto":true`},
		{protos, sameProtos, `"useProto":true`},
		{heartbeat | dict | protos, ``, `"heartbeat":3,` + chatDict + `,"useDict":true,` + chatProtos + `,"useProto":true`},
		{heartbeat | dict | protos, sameDict, `"heartbeat":3,"useDict":true,` + chatProtos + `,"useProto":true`},
		{heartbeat | dict | protos, sameProtos, `"heartbeat":3,` + chatDict + `,"useDict":true,"useProto":true`},
		{heartbeat | dict | protos, sameDict + "," + sameProtos, `"heartbeat":3,"useDict":true,"useProto":true`},
		{dict | protos, `"dictVersion":"","protoVersion":"old"`, chatDict + `,"useDict":true,` + chatProtos + `,"useProto":true`},
		{dict, `"protoVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`, chatDict + `,"useDict":true`},
	} {
		r := single(t, func(p *Profile) {
			p.HeartbeatSeconds = 3 * (tc.offers & heartbeat)
			if tc.offers&dict != 0 {
				p.Dict = codec.NewDictionary(chatRoutes, nil)
			}
			if tc.offers&protos != 0 {
				p.Protos = parseProtos(t, chatServerProtos, `{}`)
			}
		})
		for _, ws := range []bool{false, true} {
			if _, got := r.loginAs(atConnector, ws, `{"sys":{`+tc.sys+`}}`); got != `{"code":200,"sys":{`+tc.want+`}}` {
				t.Errorf("offers %d, client has %s:\ngot  %s\nwant %s", tc.offers, tc.sys, got, tc.want)
			}
		}
	}
}

// A gate offers neither heartbeats nor a dictionary.
func TestGateHandshake(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Profiles[atGate].Protos = parseProtos(t, chatServerProtos, `{}`) })
	if _, got := r.loginAs(atGate, true, testHandshake); got != `{"code":200,"sys":{`+chatProtos+`,"useProto":true}}` {
		t.Error(got)
	}
}

// A client that does not get as far as its ack within 20 seconds is closed, wherever it stopped, whatever it sends meanwhile.
func TestHandshakeTimeout(t *testing.T) {
	for _, tc := range []struct {
		name string
		ws   bool
		do   func(c *client, second int)
	}{
		{"tcp silent", false, func(*client, int) {}},
		{"tcp half a method", false, func(c *client, second int) {
			if second == 0 {
				c.sock.Send([]byte("GE"))
			}
		}},
		{"tcp half a package, slowly", false, func(c *client, second int) {
			if second == 0 {
				c.sock.Send([]byte{1, 0, 1, 0})
			}
			c.sock.Send([]byte(" "))
		}},
		{"ws silent", true, func(*client, int) {}},
		{"ws pinging", true, func(c *client, second int) {
			c.sock.Send(maskedFrame(byte(codec.WSPing), nil))
			c.r.net.Settle()
			c.sock.Wrote = c.sock.Wrote[:len(c.sock.Wrote)-2]
		}},
		{"ws early packages", true, func(c *client, _ int) { c.send(codec.PackageHeartbeat, nil) }},
		{"handshake without ack", true, func(c *client, second int) {
			if second == 15 {
				c.send(codec.PackageHandshake, []byte(testHandshake))
				c.wantOpen(c.packed(codec.PackageHandshake, `{"code":200,"sys":{"heartbeat":3}}`))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.connect(atConnector, tc.ws)
			c.rest()
			for second := range 19 {
				tc.do(c, second)
				r.net.Seconds(1)
			}
			c.wantOpen("")
			r.net.Seconds(1)
			c.wantClosed("")
			if r.closedFor(reasonHandshakeTimeout) != 1 {
				t.Error("not counted")
			}
		})
	}
}

// An HTTP head has 5 seconds from its first bytes, also when it drips.
func TestHeadTimeout(t *testing.T) {
	for _, drip := range []string{"", "x"} {
		r := newRig(t, shape{loops: 1}, nil)
		c := r.connect(atConnector, false)
		r.net.Seconds(3)
		c.sock.Send([]byte("GET /"))
		r.net.Settle()
		for range 4 {
			r.net.Seconds(1)
			c.sock.Send([]byte(drip))
		}
		c.wantOpen("")
		r.net.Seconds(1)
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !c.ended() {
			t.Errorf("got %q, ended %v", got, c.ended())
		}
	}
}

// The time for the head does not shorten the time for the handshake.
func TestHeadInTimeLeavesTheHandshakeItsTime(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.connect(atConnector, true)
	head := []byte("GET / HTTP/1.1\r\nHost: h\r\n")
	d := r.connect(atConnector, false)
	d.sock.Send(head)
	c.rest()
	r.net.Seconds(4)
	d.ws = true
	d.sock.Send([]byte("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	d.wantOpen("")
	r.net.Seconds(15)
	c.wantOpen("")
	d.wantOpen("")
	r.net.Seconds(1)
	c.wantClosed("")
	d.wantClosed("")
}

// A working client that is silent for twice the heartbeat interval (and the second that ticks are wide) has left, and the
// others are told. Those who send heartbeats, or anything else, stay.
func TestSilentClientIsDropped(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		silent, beating, talking := r.login(atConnector, ws), r.login(atConnector, ws), r.login(atConnector, ws)
		silent.enter("silent", "r")
		beating.enter("beating", "r")
		talking.enter("talking", "r")
		silent.rest()
		beating.take()
		for second := range 30 {
			if second == 6 {
				silent.wantOpen("")
			}
			if second == 7 {
				silent.wantClosed("")
				beating.want(`push 0 onLeave {"route":"onLeave","user":"silent"}`)
			}
			if second%6 == 0 {
				beating.send(codec.PackageHeartbeat, nil)
				talking.notify("no.such.route", "{}")
			}
			r.net.Seconds(1)
		}
		beating.wantWorking()
		talking.wantWorking()
		if n := r.closedFor(reasonSilent); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// Without heartbeats a client may be silent for 90 seconds.
func TestIdleClientIsDropped(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := single(t, func(p *Profile) { p.HeartbeatSeconds = 0 })
		c := r.login(atConnector, ws)
		r.net.Seconds(60)
		c.wantWorking()
		r.net.Seconds(89)
		c.wantOpen("")
		r.net.Seconds(1)
		c.wantClosed("")
	})
}

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
		step(string(codec.AppendUpgradeResponse(nil, []byte(upgradeKey))),
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
		c.wantOpen(c.answered(1, refused))
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
	browser := `{"sys":{"type":"js-websocket"}}`
	var members []*client
	want := map[*client]string{}
	for i, tc := range []struct {
		tag       uint8
		ws        bool
		handshake string
		push      string // onChat
	}{
		{atConnector, true, browser, text(1, "hi "+smileCESU) + text(2, "m0"+smileCESU) + text(3, "*")},
		{atConnector, false, browser, text(1, "hi "+smileCESU) + text(2, "m0"+smileCESU) + text(3, "*")},
		{atConnector, true, testHandshake, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")},
		{atConnector, false, testHandshake, text(1, "hi "+smile) + text(2, "m0"+smile) + text(3, "*")},
		{plain, true, browser, `{"msg":"hi \ud83d\ude00","from":"m0\ud83d\ude00","target":"*"}`},
		{plain, false, testHandshake, `{"msg":"hi \ud83d\ude00","from":"m0\ud83d\ude00","target":"*"}`},
	} {
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

// A kicked client is told why, if it has come far enough to understand, and closed (protocol.md §2.8). The others see it leave.
func TestKick(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		kick := func(c *client, reason string) {
			l := r.node.loops[0]
			var addr channel.Addr
			l.np.Each(func(conn *netpoll.Conn) {
				if int(conn.Peer().Port()) == c.sock.FD {
					addr = l.addr(conn)
				}
			})
			to := outlet{to: l}
			to.Post(channel.Item{Kind: channel.ItemKick, To: addr, Body: []byte(reason)})
		}
		c, other, early := r.login(atConnector, ws), r.login(atConnector, ws), r.connect(atConnector, ws)
		other.enter("other", "r")
		c.enter("c", "r")
		c.rest()
		other.take()
		early.rest()
		kick(c, "say \"bye\" "+smile)
		c.wantClosed(c.packed(codec.PackageKick, `{"reason":"say \"bye\" \ud83d\ude00"}`))
		other.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
		kick(early, "too early")
		early.wantClosed("")
		kick(c, "again") // an address of the past names nobody
		r.net.Settle()
		if n := r.closedFor(reasonKick); n != 2 {
			t.Errorf("%d counted", n)
		}
	})
}

// HTTP that opens no WebSocket is answered and closed, at once (protocol.md §2.1, §8).
func TestHTTPRefusals(t *testing.T) {
	const ok = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + upgradeKey + "\r\nSec-WebSocket-Version: 13\r\n"
	for _, tc := range []struct{ name, head, status, header string }{
		{"a page", "GET / HTTP/1.1\r\nHost: h\r\n", "404 Not Found", ""},
		{"a page, by HTTP/1.0", "GET /x HTTP/1.0\r\n", "404 Not Found", ""},
		{"POST", "POST / HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"DELETE", "DELETE / HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"PUT with upgrade", "PUT / HTTP/1.1\r\n" + ok, "405 Method Not Allowed", "Allow: GET\r\n"},
		{"CONNECT", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n", "405 Method Not Allowed", ""},
		{"an old version", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "13", "8", 1), "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"},
		{"no version", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Version", "Wersion", 1), "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"},
		{"no key", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Key", "Kex", 1), "400 Bad Request", ""},
		{"no Connection", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Connection", "Konnection", 1), "400 Bad Request", ""},
		{"no Host", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Host", "Hosd", 1), "400 Bad Request", ""},
		{"a body", "GET / HTTP/1.1\r\nContent-Length: 1\r\n" + ok, "400 Bad Request", ""},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + ok, "400 Bad Request", ""},
		{"nonsense", "GET /\r\n", "400 Bad Request", ""},
		{"bare line feed", "GET / HTTP/1.1\n", "400 Bad Request", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n", "505 HTTP Version Not Supported", ""},
		{"a head that never ends", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 9000), "431 Request Header Fields Too Large", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.connect(atConnector, false)
			c.sock.Send([]byte(tc.head + "\r\n"))
			got := c.rest()
			head, body, _ := strings.Cut(got, "\r\n\r\n")
			head += "\r\n"
			if !strings.HasPrefix(head, "HTTP/1.1 "+tc.status+"\r\n") || !strings.Contains(head, tc.header) || !c.ended() ||
				!strings.Contains(head, "Connection: close") || !strings.Contains(head, fmt.Sprintf("Content-Length: %d\r\n", len(body))) {
				t.Errorf("ended %v, got %q", c.ended(), got)
			}
			if r.closedFor(reasonHTTP) != 1 || r.node.loops[0].counters.httpErrors != 1 {
				t.Error("not counted")
			}
		})
	}
}

// RFC 9110 §9.3.2: no content in the answer to HEAD.
func TestHEADIsAnsweredWithoutBody(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.connect(atConnector, false)
	c.sock.Send([]byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"))
	if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 404 ") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}

// belled is a driver whose doorbell another goroutine may ring, as it does while a node shuts down.
type belled struct {
	netpoll.Driver
	foreign *atomic.Bool
	rung    chan struct{}
}

func (b *belled) Ring() {
	if !b.foreign.Load() {
		b.Driver.Ring()
		return
	}
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// A node that shuts down tells everybody, after what it had for them already, and is done when all have closed.
func TestShutdown(t *testing.T) {
	for _, tc := range []struct {
		loops    int
		patience bool // until the peers have closed
	}{{1, true}, {3, true}, {1, false}} {
		t.Run(fmt.Sprintf("loops=%d,patience=%v", tc.loops, tc.patience), func(t *testing.T) {
			bell := belled{foreign: new(atomic.Bool), rung: make(chan struct{}, 1)}
			r := newRig(t, shape{loops: tc.loops}, func(c *Config) {
				inner := c.NewDriver
				c.NewDriver = func(i int) (netpoll.Driver, error) {
					d, err := inner(i)
					return &belled{Driver: d, foreign: bell.foreign, rung: bell.rung}, err
				}
			})
			ws, tcp, stuck := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
			clients := []*client{ws, tcp, stuck, r.connect(atConnector, true), r.connect(atConnector, false)}
			for i, c := range clients[:3] {
				c.enter(fmt.Sprint("n", i), "r")
			}
			for _, c := range clients {
				c.rest()
			}
			stuck.sock.Room = 0
			ws.ask(routeSend, sendBody("before the end", "*"))
			tcp.rest()
			ws.rest()

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			bell.foreign.Store(true)
			go func() { done <- r.node.Shutdown(ctx) }()
			round := func() {
				for _, l := range r.node.loops {
					l.np.Turn()
				}
				r.net.Events()
			}
			for !ws.ended() || !tcp.ended() || r.closedFor(reasonShutdown) != uint64(len(clients)) {
				<-bell.rung
				round()
			}
			if stuck.ended() {
				t.Error("one who had not got everything was ended")
			}
			stuck.sock.Room = -1
			for range 2 * tc.loops {
				round()
			}
			goodbye := string(codec.AppendWSClose(nil, codec.WSCloseGoingAway, "server is shutting down"))
			chat := stuck.packed(codec.PackageData, "\x06\x06onChat"+`{"msg":"before the end","from":"n0","target":"*"}`)
			if got := string(stuck.sock.Wrote[stuck.read:]); !stuck.ended() || !strings.HasPrefix(got, chat) || !strings.HasSuffix(got, goodbye) {
				t.Errorf("the slow one: ended %v, got %q", stuck.ended(), got)
			}
			for i, c := range clients {
				got := string(c.sock.Wrote[c.read:])
				if !c.ended() || c.ws != strings.HasSuffix(got, goodbye) || i > 2 && c.ws && got != goodbye {
					t.Errorf("client %d: ended %v, got %q", i, c.ended(), got)
				}
			}
			select {
			case err := <-done:
				t.Fatalf("done while sockets were open: %v", err)
			default:
			}
			if !tc.patience {
				cancel()
			} else {
				for _, c := range clients {
					c.sock.End()
				}
				round()
			}
			if err := <-done; (err == nil) != tc.patience {
				t.Error(err)
			}
		})
	}
}

// Where heartbeats are off, traffic in either direction keeps a connection: one that only reads stays while it is written to.
func TestIdleCountsBothDirections(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Profiles[atConnector].HeartbeatSeconds = 0 })
	reader, writer := r.login(atConnector, false), r.login(atConnector, false)
	reader.enter("reader", "r")
	writer.enter("writer", "r")
	for range 5 {
		r.net.Seconds(60)
		writer.ask(routeSend, sendBody("x", "*"))
	}
	if reader.sock.Closed || reader.sock.ShutDown {
		t.Fatal("one who is written to was taken for idle")
	}
	r.net.Seconds(100)
	if !reader.sock.Closed && !reader.sock.ShutDown {
		t.Fatal("an idle one was kept")
	}
}
