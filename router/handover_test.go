package router

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// twoNodes has the partitions of r on a node of their own, with so many loops. All that goes between the two goes as bytes.
func twoNodes(t testing.TB, sh shape, loops int, change func(*Config)) *rig {
	r := newRig(t, sh, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.Elsewhere = new(farInlet)
	})
	far := looptest.New()
	cfg := r.cfg
	cfg.Loops, cfg.Elsewhere = loops, nil
	cfg.Nanos = func() int64 { return r.net.Now() }
	cfg.NewDriver = func(int) (netpoll.Driver, error) { return far.Driver(), nil }
	cfg.Outlets = func(channel.OutletID) channel.Outlet { return &farOutlet{r} }
	node, err := NewNode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range node.Loops() {
		far.Attach(l)
	}
	node.id = channel.NewNode(1, 1)
	r.cfg.Elsewhere.(*farInlet).Node = node
	r.net.Beside, r.far = far, node
	return r
}

// farInlet is the way to another node's partitions.
type farInlet struct{ *Node }

func (in farInlet) Post(r channel.Request) {
	in.posting.RLock()
	defer in.posting.RUnlock()
	at := &in.placement.Load()[r.Part]
	if at.loop == nil || !in.reaches(r.From.Outlet()) {
		panic("nobody there owns the partition, or nobody can be answered")
	}
	at.inlet.Post(roundTripRequest(r))
}

func (in farInlet) Full() bool { return in.placement.Load()[0].inlet.Full() }

// farOutlet is the way to the loops of whatever node has the sessions.
type farOutlet struct{ *rig }

func (o *farOutlet) Post(it *channel.Item) {
	if !o.node.Deliver(*roundTripItem(it)) {
		panic("refused")
	}
}

func (o *farOutlet) Full(channel.RoomID) bool { return false }
func (o *farOutlet) Flush()                   {}

// handOver has another node take the place of r's, by bytes. What is in the loops' mail is carried out before. With check, what was imported is
// exported again.
func (r *rig) handOver(check bool) {
	r.t.Helper()
	r.empty()
	old := r.node
	r.net = r.net.Successor()
	cfg := r.cfg
	cfg.Nanos, cfg.Predecessor = r.net.Now, old.Export()
	if err := old.Pack(time.Minute); err != nil {
		r.t.Fatal(err)
	}
	node, err := NewNode(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, l := range node.Loops() {
		r.net.Attach(l)
	}
	r.node = node
	for i, l := range node.loops {
		st, err := old.ExportLoop(i, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(st.Stays) > 0 {
			r.t.Fatalf("stay: %v", st.Stays)
		}
		if c := &old.loops[i].counters; c.gaps+c.panics > 0 {
			r.t.Fatalf("%d gaps, %d panics", c.gaps, c.panics)
		}
		given := *st
		given.Conns = slices.Clone(st.Conns)
		if lost, err := node.ImportLoop(i, &given); lost > 0 || err != nil || slices.ContainsFunc(given.Conns, func(c ExportedConn) bool { return c.FD != noSocket }) {
			r.t.Fatalf("%d lost, %v, or sockets are left to be closed: %+v", lost, err, given.Conns)
		}
		if l.counters.panics > 0 {
			r.t.Fatal("a session was lost")
		}
		if !check {
			continue
		}
		before, err := old.ExportLoop(i, nil)
		if err != nil || !reflect.DeepEqual(before, st) {
			r.t.Fatalf("exported %v\nand again %v (%v)", st, before, err)
		}
		l.mail.Drain(1, func(*mail) {}) // nobody has left
		after, err := node.ExportLoop(i, nil)
		if err != nil || !reflect.DeepEqual(withoutPasses(after), withoutPasses(st)) {
			r.t.Fatalf("exported     %v\nimported and exported %v (%v)", st.Conns, after, err)
		}
	}
}

// withoutPasses are the conns of a loop, without what they are counted by, which each node has of its own.
func withoutPasses(st *LoopState) (states []string) {
	for _, c := range st.Conns {
		s, err := netpoll.ParseConnState(c.State)
		if err != nil {
			panic(err)
		}
		s.Pass = 0
		states = append(states, fmt.Sprintf("%d %q", c.FD, s.Append(nil)))
	}
	return states
}

// empty has the loops carry out their mail, and nothing else happen.
func (r *rig) empty() {
	for busy := true; busy; {
		busy = false
		for i, l := range r.node.loops {
			if !l.mail.Empty() || l.np.Arriving() {
				busy = true
				r.net.TurnLoop(i)
			}
		}
	}
}

// goldenLine is a line of a transcript (server/testdata/golden/README.md).
type goldenLine struct {
	Millis  int    `json:"t_ms"`
	Dir     string `json:"dir"`
	Who     string `json:"who"`
	Conn    int    `json:"conn"`
	Port    int    `json:"port"`
	Kind    string `json:"kind"`
	Line    string `json:"line"`
	Headers json.RawMessage
	Text    string `json:"text"`
	Hex     string `json:"hex"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
}

func (l *goldenLine) key() string { return fmt.Sprintf("%s/%d:%d", l.Who, l.Conn, l.Port) }

func (l *goldenLine) payload() []byte {
	switch {
	case l.Kind == "close" && l.Code == 0:
		return nil
	case l.Kind == "close":
		return append([]byte{byte(l.Code >> 8), byte(l.Code)}, l.Reason...)
	case l.Hex != "":
		b, err := hex.DecodeString(l.Hex)
		if err != nil {
			panic(err)
		}
		return b
	}
	return []byte(l.Text)
}

// bytes is what the client sent. next is the line behind it, nil if there is none.
func (l *goldenLine) bytes(next *goldenLine) (b []byte) {
	switch l.Kind {
	case "request", "upgrade-request":
		b = fmt.Appendf(nil, "%s\r\nHost: 127.0.0.1:%d\r\n", l.Line, l.Port)
		var headers map[string]string
		_ = json.Unmarshal(l.Headers, &headers)
		for _, name := range []string{"origin", "upgrade", "connection", "sec-websocket-version", "sec-websocket-key", "sec-websocket-protocol",
			"content-type", "content-length", "access-control-request-method", "access-control-request-headers"} {
			for key, value := range headers {
				if strings.ToLower(key) == name {
					b = fmt.Appendf(b, "%s: %s\r\n", key, value)
				}
			}
		}
		return append(append(b, "\r\n"...), l.payload()...)
	case "package", "raw":
		return l.payload()
	}
	b0 := map[string]byte{"continuation": 0x80, "text": 0x81, "binary": 0x82, "close": 0x88, "ping": 0x89, "pong": 0x8a}[l.Kind]
	b = maskedFrame(b0&0x0f, l.payload())
	if b[0] = b0; next != nil && next.Kind == "continuation" {
		b[0] &^= 0x80
	}
	return b
}

// goldenSID finds session ids where a session begins.
var goldenSID = regexp.MustCompile(`0\{\\*"sid\\*":\\*"([\w-]+)|([\w-]+):\d+:\d+:websocket`)

func lastSID(b []byte) string {
	all := goldenSID.FindAllSubmatch(b, -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return string(last[1]) + string(last[2])
}

// publicSID is what socket.io 4 has for each namespace.
var publicSID = regexp.MustCompile(`40\{"sid":"[^"]*"`)

// goldenRun is a transcript's clients against a node.
type goldenRun struct {
	*rig
	over  int  // the node is replaced after so many bytes each time; 0: never
	slow  bool // sockets take little until the transcript's server has said something
	socks map[string]*looptest.Socket
	doors map[string]*fleetNode // by client and listener, in a fleet
	order []*looptest.Socket
	sids  []string // pairs: ours, and the transcript's
	bytes int      // sent
	overs int      // replacements
}

func newGoldenRun(slow bool) *goldenRun {
	return &goldenRun{slow: slow, socks: map[string]*looptest.Socket{}, doors: map[string]*fleetNode{}}
}

// dialAs opens a socket of a client, which always comes to one node.
func (g *goldenRun) dialAs(who string, tag uint8) *looptest.Socket {
	if g.fleet == nil {
		return g.dial(tag)
	}
	key := fmt.Sprint(who, tag)
	if g.doors[key] == nil {
		g.doors[key] = g.fleet.door(tag)
	}
	return g.fleet.dialTo(g.doors[key], tag)
}

func (g *goldenRun) play(lines []goldenLine) {
	seconds := 0
	for i := range lines {
		l := &lines[i]
		for ; seconds < l.Millis/1000; seconds++ {
			g.net.Seconds(1)
			g.byte()
		}
		switch {
		case l.Dir == "s2c":
			for _, s := range g.order {
				s.Room = -1
			}
			g.net.Settle()
			theirs := lastSID(l.payload())
			if s := g.socks[l.key()]; theirs != "" && s != nil {
				if ours := lastSID(s.Wrote); ours != "" {
					g.sids = append(g.sids, ours, theirs)
				}
			}
		case l.Kind == "connect":
			tag := uint8(atConnector)
			if l.Port%100 == 14 {
				tag = atGate
			}
			s := g.dialAs(l.Who, tag)
			g.socks[l.key()] = s
			g.order = append(g.order, s)
			g.net.Turn()
		case g.socks[l.key()] == nil || g.socks[l.key()].Closed:
		case l.Kind == "closed":
			g.socks[l.key()].End()
			g.byte()
		default:
			var next *goldenLine
			if i+1 < len(lines) {
				next = &lines[i+1]
			}
			b := l.bytes(next)
			for k := 0; k < len(g.sids); k += 2 {
				b = bytes.ReplaceAll(b, []byte(g.sids[k+1]), []byte(g.sids[k]))
			}
			for _, x := range b {
				g.bytes++
				g.socks[l.key()].Send([]byte{x})
				if g.slow {
					for _, s := range g.order {
						s.Room = 2
					}
				}
				g.byte()
			}
		}
	}
	for _, s := range g.order {
		s.Room = -1
	}
	g.net.Settle()
	g.net.Seconds(2)
}

// byte is what follows each byte that a client has sent.
func (g *goldenRun) byte() {
	g.net.Settle()
	if g.over > 0 && g.bytes%g.over == 0 {
		g.overs++
		g.handOver(g.overs%50 == 0)
		g.net.Settle()
	}
}

// told is what each client was told, with the transcript's session ids.
func (g *goldenRun) told() (told []string) {
	for _, s := range g.order {
		b := publicSID.ReplaceAll(s.Wrote, nil)
		for k := 0; k < len(g.sids); k += 2 {
			b = bytes.ReplaceAll(b, []byte(g.sids[k]), []byte(g.sids[k+1]))
		}
		told = append(told, fmt.Sprintf("closed=%v end=%v %s", s.Closed, s.ShutDown, b))
	}
	return told
}

// Behind every byte of every golden transcript another node takes the place of the one that runs, and each client is told what it would have been
// told, with sockets that are in the middle of a frame all the time. With sockets that take all it is every eleventh byte.
func TestGoldenHandedOver(t *testing.T) {
	files, _ := filepath.Glob("../server/testdata/golden/*.jsonl")
	if len(files) < 16 {
		t.Fatalf("%d transcripts", len(files))
	}
	for _, file := range files {
		name := filepath.Base(file)
		lines := readGolden(t, file)
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,slow=%v", strings.TrimSuffix(name, ".jsonl"), slow), func(t *testing.T) {
				var told [2][]string
				for i := range told {
					g := newGoldenRun(slow)
					g.rig = twoNodes(t, shape{loops: 1}, 1, goldenConfig(t, name))
					if i == 1 {
						g.over = map[bool]int{false: 11, true: 1}[slow]
						if testing.Short() || again { // one goroutine does it all, and no engine of JSON sees what is handed over
							g.over = 17
						}
					}
					g.play(lines)
					told[i] = g.told()
					if i == 0 {
						t.Logf("%d bytes, %d sessions that have ids, %d messages, %d HTTP errors", g.bytes, len(g.sids)/2, g.node.loops[0].counters.requests, g.node.loops[0].counters.httpErrors)
					}
				}
				for i := range told[0] {
					if told[0][i] != told[1][i] {
						t.Fatalf("connection %d: left alone\n%s\nhanded over\n%s", i, told[0][i], told[1][i])
					}
				}
			})
		}
	}
}

// goldenConfig is the configuration of the server of which a transcript is.
func goldenConfig(t *testing.T, name string) func(*Config) {
	return func(c *Config) {
		c.Access = Access{} // the counts of addresses are large
		if strings.Contains(name, "hybrid") && name != "hybrid-ws-plain.jsonl" {
			for _, p := range c.Profiles {
				p.Protos = parseProtos(t, chatServerProtos, `{}`)
			}
			c.Profiles[atConnector].Dict = codec.NewDictionary(chatRoutes, nil)
		}
	}
}

func readGolden(t *testing.T, file string) (lines []goldenLine) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var l goldenLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.Dir != "note" {
			lines = append(lines, l)
		}
	}
	return lines
}

// While clients do whatever they like, all sessions of their node go to another one by bytes, again and again: nothing is lost, doubled,
// reordered or refused. Their partitions are on a node of their own, which is told nothing, or go with them.
func TestModelWhileNodesTakeOver(t *testing.T) {
	for _, tc := range []struct {
		shape
		far int // loops of the node that has the partitions; 0: they go along
	}{
		{shape{loops: 3}, 2}, {shape{loops: 1}, 1}, {shape{loops: 3, roundTrip: true}, 0}, {shape{loops: 3, follow: true}, 0},
	} {
		t.Run(fmt.Sprintf("loops=%d,follow=%v,far=%d", tc.loops, tc.follow, tc.far), func(t *testing.T) {
			rng := seed.Rand(t)
			moves, rounds := 0, fewer(30)
			for round := range rounds {
				r := newRig(t, tc.shape, nil)
				if tc.far > 0 {
					r = twoNodes(t, tc.shape, tc.far, nil)
				}
				m := newModelOf(t, rng, r)
				m.taken, m.moving = true, tc.far == 0
				m.run(600)
				m.verify()
				moves += m.moves
				if r.far != nil && r.far.misrouted.Load()+r.node.misrouted.Load() > 0 {
					t.Error("something was for a loop that is not there")
				}
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			if moves < 6*rounds {
				t.Errorf("only %d moves", moves)
			}
		})
	}
}

// Numbers of requests go on: an answer that is on its way must not be taken for that to a new one.
func TestSerialsGoOn(t *testing.T) {
	r := twoNodes(t, shape{loops: 1}, 1, nil)
	c := r.login(atConnector, false)
	c.enter("a", "r")
	serial := r.node.loops[0].serial
	if r.handOver(true); r.node.loops[0].serial != serial || serial == 0 {
		t.Errorf("%d, then %d", serial, r.node.loops[0].serial)
	}
	if got := c.ask(routeSend, sendBody("x", "*")); got != "{}" {
		t.Error(got)
	}
}

// What a program's function is at work for, or knows, does not go along: it is counted, its room hears that it left, and another number of loops
// is refused, and so is what is no state.
func TestWhatIsNotHandedOver(t *testing.T) {
	a := app.New()
	a.OnOpen(func(*app.Session) {})
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = a })
	r.uncounted = true
	c := r.login(atConnector, false)
	c.enter("a", "r")
	r.empty()
	old := r.node
	st, err := old.ExportLoop(0, nil)
	if err != nil || st.Stays[staysKnown.String()] != 1 || len(st.Conns) != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	cfg := r.cfg
	cfg.App, cfg.Predecessor, cfg.Loops = nil, old.Export(), 2
	if _, err := NewNode(cfg); err == nil || !strings.Contains(err.Error(), "-loops 2: must stay 1") {
		t.Errorf("another number of loops: %v", err)
	}
	cfg.Loops = 1
	r.net = r.net.Successor()
	if r.node, err = NewNode(cfg); err != nil {
		t.Fatal(err)
	}
	r.net.Attach(r.node.Loops()[0])
	for _, b := range [][]byte{nil, {9}, st.Shared[:len(st.Shared)-1], append(bytes.Clone(st.Shared), 0), append([]byte{loopStateVersion + 1}, st.Shared[1:]...)} {
		other, err := NewNode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.ImportLoop(0, &LoopState{Shared: b}); err == nil {
			t.Errorf("read as the state of a loop: %x", b)
		}
	}
	for _, b := range [][]byte{{}, {nodeStateVersion}, append(old.Export(), 0), append([]byte{nodeStateVersion + 1}, old.Export()[1:]...)} {
		if cfg.Predecessor = b; len(b) > 0 {
			if _, err := NewNode(cfg); err == nil {
				t.Errorf("read as the state of a node: %x", b)
			}
		}
	}
	st.Conns = append(st.Conns, ExportedConn{FD: 3, State: []byte("no state")})
	if lost, err := r.node.ImportLoop(0, st); lost != 1 || err != nil || st.Conns[0].FD != 3 {
		t.Errorf("%d lost, %v; descriptor %d is the caller's", lost, err, st.Conns[0].FD)
	}
	r.net.Settle()
	if n := r.node.loops[0].worker.Stats().Members; n != 0 {
		t.Errorf("%d members are left in the room", n)
	}
	old.loops[0].mail.Post(mail{run: func() {}})
	if _, err := old.ExportLoop(0, nil); err != ErrAtWork {
		t.Errorf("with mail: %v", err)
	}
}

// Who does not go along is sent away, which is a cut: its place is kept, and it is told what was said behind what the old node had for it.
func TestReturnOfWhoWasNotHandedOver(t *testing.T) {
	a := app.New()
	a.OnOpen(func(*app.Session) {})
	r := newRig(t, shape{loops: 1}, func(c *Config) {
		keepPlaces(c)
		c.App = a
	})
	r.uncounted = true
	const enterBob = `{"username":"bob","rid":"r",` + secretOfB + `}`
	bob := r.login(atConnector, true)
	bob.ask(routeEnter, enterBob)
	bob.ask(routeSend, sendBody("before", "*"))
	r.empty()
	st, err := r.node.ExportLoop(0, nil)
	if err != nil || st.Stays[staysKnown.String()] != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	cfg := r.cfg
	cfg.App, cfg.Predecessor = nil, r.node.Export()
	r.net = r.net.Successor()
	if r.node, err = NewNode(cfg); err != nil {
		t.Fatal(err)
	}
	r.net.Attach(r.node.Loops()[0])
	if _, err := r.node.ImportLoop(0, st); err != nil {
		t.Fatal(err)
	}
	r.net.Settle()
	ann := r.login(atConnector, false)
	if got := ann.enter("ann", "r"); got != `{"users":["bob","ann"]}` {
		t.Fatal(got)
	}
	ann.ask(routeSend, sendBody("behind", "*"))
	ann.take()
	again := r.login(atConnector, true)
	if got := again.ask(routeEnter, enterBob); got != `{"users":["bob","ann"]}` {
		t.Fatal(got)
	}
	if lines := again.take(); len(lines) != 1 || !strings.Contains(lines[0], "behind") {
		t.Errorf("told %q", lines)
	}
	ann.want()
}

// What is for a loop that is not there is refused and counted, and so is what a request that claims to be from one leads to. Nobody panics.
func TestStraysAreRefused(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	c := r.login(atConnector, false)
	c.enter("a", "r")
	n := r.node
	for i, to := range []channel.Addr{{Node: n.id, Ref: 2 << 56}, {Node: n.id + 1, Ref: 0}} {
		if n.Deliver(channel.Item{Kind: channel.ItemReply, To: to}) || n.misrouted.Load() != uint64(1+i) {
			t.Errorf("for %v: not refused, or not counted", to)
		}
	}
	enter := channel.Request{Op: channel.OpEnter, Part: channel.Partition("r"), Room: "r", User: "b", Req: 1, From: channel.Addr{Node: n.id, Ref: 77 << 56}}
	l := r.home("r")
	l.postRun(0, func() { l.execute(&enter) })
	r.net.Settle()
	if n.misrouted.Load() < 3 || l.counters.panics+l.worker.Stats().Panics != 0 {
		t.Errorf("%d misrouted, %d and %d panics", n.misrouted.Load(), l.counters.panics, l.worker.Stats().Panics)
	}
	if got := c.ask(routeSend, sendBody("x", "*")); got != "{}" {
		t.Error(got)
	}
}
