package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
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
	return c.packed(codec.PackageData, string(codec.AppendResponseHead(nil, id, 0))+body)
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

// The answer's id has as many groups as the request's: Pomelo's browser builds write the most significant first, and would not
// know 128 (81 00, which is 1 to us) by 01.
func TestAnswerIDsHaveTheirLength(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		c := r.login(atConnector, false)
		c.enter("a", "r")
		c.pump()
		from := len(c.sock.Wrote)
		want := ""
		for _, id := range []string{"\x01", "\x81\x00", "\x81\x80\x00", "\x81\x80\x80\x80\x00"} {
			for _, route := range []string{routeSend, "no.such.route"} {
				body := `{"content":"x","target":"a"}`
				c.sock.Send(codec.AppendPackage(nil, codec.PackageData, []byte("\x00"+id+string(rune(len(route)))+route+body)))
				answer := `{"code":500}`
				if route == routeSend {
					want += string(codec.AppendPackage(nil, codec.PackageData, []byte("\x06\x06onChat"+`{"msg":"x","from":"a","target":"a"}`)))
					answer = `{}`
				}
				want += string(codec.AppendPackage(nil, codec.PackageData, []byte("\x04"+id+answer)))
			}
		}
		r.net.Settle()
		if got := string(c.sock.Wrote[from:]); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}
