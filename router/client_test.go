package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// rig is a node over hand-turned loops.
type rig struct {
	t    testing.TB
	net  *looptest.Net
	node *Node
	cfg  Config // of node
	far  *Node  // where the partitions are, nil: here
	// fleet is what node, the first that takes clients, is a part of; nil: of none. Then net's loops are those of the fleet's first node.
	fleet *fleetRig
	apps  func(node string) *app.App // the programs of the fleet's nodes; nil: they have none
	next  int
	peer  netip.Addr // where connections come from
	from  string     // the Origin line that WebSockets are opened with; empty: none
	raw   int        // sockets that have not passed the gate
	// uncounted says that what is there and what is counted differ in this test: proxies' connections, exempt addresses.
	uncounted bool
	hands     *netpoll.Handshakes // of clients, which all speak TLS then
	record    []byte              // for the layers of all
}

// The rig's listeners.
const (
	atConnector = iota
	atGate
)

// shape is one way of running a node that must not matter to anybody.
type shape struct {
	loops     int
	roundTrip bool
	follow    bool   // sessions move to the loop of their room
	fleet     string // nodes, as formFleet has them; empty: one node without a fleet
	tls       bool   // clients speak TLS
}

// shapes is the test matrix of everything about order: one loop, several loops, and each request and item sent through its encoding,
// sessions that stay where they were accepted and sessions that follow their rooms.
var shapes = []shape{{loops: 1}, {loops: 3}, {loops: 1, roundTrip: true}, {loops: 3, roundTrip: true}, {loops: 3, follow: true}, {loops: 3, roundTrip: true, follow: true}}

func forShapes(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, sh := range slices.Concat(shapes, fleets, secured) {
		t.Run(sh.String(), func(t *testing.T) { f(t, newRig(t, sh, nil)) })
	}
}

func (sh shape) String() string {
	if sh.fleet != "" {
		return fmt.Sprintf("fleet=%s,loops=%d,follow=%v", sh.fleet, sh.loops, sh.follow)
	}
	name := fmt.Sprintf("loops=%d,encoded=%v,follow=%v", sh.loops, sh.roundTrip, sh.follow)
	if sh.tls {
		name += ",tls"
	}
	return name
}

// newRig makes a node; change may alter its configuration.
func newRig(t testing.TB, sh shape, change func(*Config)) *rig {
	return newProgramRig(t, sh, nil, change)
}

// newProgramRig is newRig of a fleet whose nodes have programs: apps makes that of a node, by its name. nil: they have none.
func newProgramRig(t testing.TB, sh shape, apps func(node string) *app.App, change func(*Config)) *rig {
	r := &rig{t: t, net: looptest.New(), peer: netip.IPv6Loopback(), apps: apps}
	cfg := Config{
		Loops: sh.loops, RoundTrip: sh.roundTrip, Stay: !sh.follow, Limits: DefaultLimits(),
		Profiles: []*Profile{
			atConnector: {Name: "connector", Type: Connector, HeartbeatSeconds: 3},
			atGate:      {Name: "gate", Type: Gate},
		},
		Connectors: []Endpoint{{Host: "chat.example", Port: 3050}},
		NewDriver:  func(int) (netpoll.Driver, error) { return r.net.Driver(), nil },
		Nanos:      r.net.Now,
		Access:     Access{PerAddress: limit.PerAddress{Conns: 1 << 30}, LimitAll: true}, // so that the books are kept
	}
	if change != nil {
		change(&cfg)
	}
	if sh.tls {
		r.secure(&cfg)
	}
	r.cfg = cfg
	if sh.fleet != "" {
		formFleet(r, sh.fleet)
		return r
	}
	node, err := NewNode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.node = node
	for _, l := range node.Loops() {
		r.net.Attach(l)
	}
	t.Cleanup(r.checkAddresses)
	return r
}

// nodes are all nodes.
func (r *rig) nodes() []*Node {
	if r.fleet == nil {
		return []*Node{r.node}
	}
	var list []*Node
	for _, p := range r.fleet.nodes {
		if !p.dead {
			list = append(list, p.node)
		}
	}
	return list
}

// loops are those of all nodes.
func (r *rig) loops() (list []*loop) {
	for _, n := range r.nodes() {
		list = append(list, n.loops...)
	}
	return list
}

// home is the loop that owns a room.
func (r *rig) home(room string) *loop { return r.node.placement.Load()[channel.Partition(room)].loop }

// inbox is what waits for all workers.
func (r *rig) inbox() (weight int64) {
	for _, l := range r.loops() {
		weight += l.inbox.Load()
	}
	return weight
}

// checkAddresses fails unless what is counted for addresses is what there is.
func (r *rig) checkAddresses() {
	if r.node.access.open.Load() || r.uncounted || r.t.Failed() {
		return
	}
	r.net.Settle()
	if n, want := r.node.access.figures().Conns, r.net.Unclosed()-r.raw+r.node.pulls(); n != want {
		r.t.Errorf("%d connections and polling sessions are counted for addresses, there are %d", n, want)
	}
}

// dial opens a socket to the next loop in turn, from r.peer. It is nil when the gate refuses.
func (r *rig) dial(tag uint8) *looptest.Socket {
	if r.fleet != nil {
		return r.fleet.dialTo(r.fleet.door(tag), tag)
	}
	pass, ok := r.node.access.Admit(r.peer)
	if !ok {
		return nil
	}
	loops := r.node.Loops()
	sock := r.net.ConnectAs(loops[r.next%len(loops)], netpoll.ConnState{Tag: tag, Peer: netip.AddrPortFrom(r.peer, 0), Pass: pass})
	r.next++
	if r.hands != nil {
		r.shake(sock)
	}
	return sock
}

// client is a hybrid client that writes and reads bytes of a hand-turned socket.
type client struct {
	r      *rig
	sock   *looptest.Socket
	ws     bool
	read   int // bytes of sock.Wrote that were read
	head   bool
	id     uint32
	events []event
}

// event is one thing a client was told.
type event struct {
	kind string // handshake, heartbeat, answer, push, kick, close
	id   uint32
	text string // body; of a push: route and body
}

func (e event) String() string { return fmt.Sprintf("%s %d %s", e.kind, e.id, e.text) }

// connect opens a connection to the next loop in turn and says nothing.
func (r *rig) connect(tag uint8, ws bool) *client {
	c := &client{r: r, ws: ws, sock: r.dial(tag)}
	r.net.Turn()
	if ws {
		c.sock.Send([]byte("GET / HTTP/1.1\r\nHost: gate.example:3014\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + r.from + "\r\n"))
	}
	return c
}

// login is connect and a whole handshake.
func (r *rig) login(tag uint8, ws bool) *client {
	r.t.Helper()
	c := r.connect(tag, ws)
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"}}`))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.pump()
	if len(c.events) == 0 || c.events[0].kind != "handshake" {
		r.t.Fatalf("no handshake: %v", c.events)
	}
	c.events = nil
	return c
}

func (c *client) bytes(t codec.PackageType, body []byte) []byte {
	p := codec.AppendPackage(nil, t, body)
	if !c.ws {
		return p
	}
	return maskedFrame(byte(codec.WSBinary), p)
}

// maskedFrame is a client's frame.
func maskedFrame(op byte, payload []byte) []byte {
	b := codec.AppendWSHead(nil, codec.WSKind(op), len(payload))
	b[1] |= 0x80
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, x := range payload {
		b = append(b, x^mask[i&3])
	}
	return b
}

func (c *client) send(t codec.PackageType, body []byte) { c.sock.Send(c.bytes(t, body)) }

// message is the bytes of a request, or of a notify when id is 0.
func (c *client) message(id uint32, route, body string) []byte {
	m := codec.Message{Type: codec.MessageNotify, Route: []byte(route), Body: []byte(body)}
	if id != 0 {
		m.Type, m.ID = codec.MessageRequest, id
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		c.r.t.Fatal(err)
	}
	return c.bytes(codec.PackageData, b)
}

// request sends a request without waiting.
func (c *client) request(route, body string) uint32 {
	c.id++
	c.sock.Send(c.message(c.id, route, body))
	return c.id
}

func (c *client) notify(route, body string) { c.sock.Send(c.message(0, route, body)) }

// ask sends a request, lets everything come to rest, and returns the answer.
func (c *client) ask(route, body string) string {
	c.r.t.Helper()
	id := c.request(route, body)
	c.r.net.Settle()
	c.pump()
	for i, e := range c.events {
		if e.kind == "answer" && e.id == id {
			c.events = append(c.events[:i], c.events[i+1:]...)
			return e.text
		}
	}
	c.r.t.Fatalf("no answer to %s %s: %v", route, body, c.events)
	return ""
}

func (c *client) enter(user, room string) string {
	c.r.t.Helper()
	return c.ask(routeEnter, enterBody(user, room))
}

func enterBody(user, room string) string {
	b, _ := json.Marshal(map[string]string{"username": user, "rid": room})
	return string(b)
}

func sendBody(content, target string) string {
	b, _ := json.Marshal(map[string]string{"content": content, "target": target, "from": "forged", "rid": "forged"})
	return string(b)
}

// take returns what was told since the last time, one line each.
func (c *client) take() []string {
	c.pump()
	var lines []string
	for _, e := range c.events {
		lines = append(lines, e.String())
	}
	c.events = nil
	return lines
}

// want fails unless exactly these events have come since the last time.
func (c *client) want(lines ...string) {
	c.r.t.Helper()
	if got := c.take(); fmt.Sprint(got) != fmt.Sprint(lines) {
		c.r.t.Fatalf("got  %q\nwant %q", got, lines)
	}
}

// pump reads what the server wrote.
func (c *client) pump() {
	for {
		b := c.sock.Wrote[c.read:]
		if c.ws && !c.head {
			i := bytes.Index(b, []byte("\r\n\r\n"))
			if i < 0 {
				return
			}
			c.read += i + 4
			c.head = true
			continue
		}
		n := c.one(b)
		if n == 0 {
			return
		}
		c.read += n
	}
}

// one reads one package, or one WebSocket frame that is not data.
func (c *client) one(b []byte) int {
	head := 0
	if c.ws {
		if len(b) < 2 {
			return 0
		}
		n := int(b[1])
		head = 2
		switch n {
		case 126:
			if len(b) < 4 {
				return 0
			}
			n, head = int(b[2])<<8|int(b[3]), 4
		case 127:
			if len(b) < 10 {
				return 0
			}
			n, head = int(b[6])<<24|int(b[7])<<16|int(b[8])<<8|int(b[9]), 10
		}
		if len(b) < head+n {
			return 0
		}
		if b[0]&0x0f == byte(codec.WSClose) {
			c.events = append(c.events, event{kind: "close", id: uint32(b[head])<<8 | uint32(b[head+1]), text: string(b[head+2 : head+n])})
			return head + n
		}
	}
	p, n, err := codec.ParsePackage(b[head:], codec.MaxPackageBody)
	if err != nil {
		c.r.t.Fatalf("server wrote no package: %v: %q", err, b)
	}
	if n == 0 {
		return 0
	}
	names := map[codec.PackageType]string{codec.PackageHandshake: "handshake", codec.PackageHeartbeat: "heartbeat", codec.PackageKick: "kick"}
	e := event{kind: names[p.Type], text: string(p.Body)}
	if p.Type == codec.PackageData {
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			c.r.t.Fatalf("server wrote no message: %v: %q", err, p.Body)
		}
		e = event{kind: "answer", id: m.ID, text: string(m.Body)}
		if m.Type == codec.MessagePush {
			e = event{kind: "push", text: string(m.Route) + " " + string(m.Body)}
		}
	}
	if e.kind != "heartbeat" {
		c.events = append(c.events, e)
	}
	return head + n
}
