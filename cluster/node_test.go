package cluster

import (
	"slices"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// tried is a node alone in a test, which is its bus and its Home.
type tried struct {
	*Node
	t        *testing.T
	at       int64            // ns
	sent     map[string][]any // bodies of packets; under "" what was announced
	items    [][]channel.Item
	messages []*Message        // for its Holders
	refused  []channel.Request // as not sent
	restarts []channel.Node
	adopted  []ViewID
}

func (x *tried) Send(name string, b []byte) {
	_, body, err := x.config.speaks.parsePacket(slices.Clone(b))
	if err != nil {
		x.t.Fatal(err)
	}
	x.sent[name] = append(x.sent[name], body)
}
func (x *tried) Announce(b []byte)                       { x.Send("", b) }
func (x *tried) Adopt(v *View, self channel.Node)        { x.adopted = append(x.adopted, v.ID) }
func (x *tried) Message(from channel.Node, m *Message)   { x.messages = append(x.messages, m) }
func (x *tried) Items(part uint16, items []channel.Item) { x.items = append(x.items, items) }
func (x *tried) Lost(part uint16, why string)            {}
func (x *tried) Refused(r *channel.Request, sent bool) {
	if !sent {
		x.refused = append(x.refused, *r)
	}
}
func (x *tried) Restart(old channel.Node) { x.restarts = append(x.restarts, old) }
func (x *tried) is(kind packetKind, name string) (n int) { // how many packets of a kind were sent
	for _, b := range x.sent[name] {
		if b.(body).packetKind() == kind {
			n++
		}
	}
	return n
}

// try begins a node "b", a chat node with run 20, that has listened for long enough.
func try(t *testing.T, quorum int) *tried {
	x := &tried{t: t, at: 1, sent: map[string][]any{}}
	x.Node = New(Config{Name: "b", Run: 20, Roles: RoleChat | RoleConnector, Quorum: quorum, Timeout: 5000 * ms, parts: 4}, x, x)
	x.Turn(x.at, 1000)
	return x
}

// after lets time pass, in turns of 10 ms; each is called before each of them.
func (x *tried) after(d int64, each ...func()) {
	for end := x.at + d; x.at < end; {
		x.at += 10 * ms
		for _, f := range each {
			f()
		}
		x.Turn(x.at, 1000+x.at/ms)
	}
}

// hear gives the node a packet.
func (x *tried) hear(name string, run uint64, b body) {
	x.Receive(appendPacket(nil, x.config.speaks.Greatest, runID{name, run}, b))
}

// beatOf is a heartbeat of somebody who has heard the node's last one.
func (x *tried) beatOf(v *View) *heartbeat {
	h := &heartbeat{Versions: spoken, Number: uint64(x.at), Roles: RoleChat, Ready: true}
	if v != nil {
		h.View = v.ID
	}
	h.Echoes = []echo{{Peer: runID{"a", 10}, Number: 1, Alive: true}, {Peer: x.peers.self, Number: x.peers.beat, Alive: true}, {Peer: runID{"c", 30}, Number: 1, Alive: true}}
	return h
}

// fleetOf is a view of a/10, b/20 and c/30, made by a; b owns all four partitions, a follows.
func fleetOf(number uint64, before *View) *View {
	v := &View{ID: ViewID{View: number, Maker: channel.NewNode(1, 10)}, Names: []Name{{Name: "a", Run: 10, Roles: RoleChat}, {Name: "b", Run: 20, Roles: RoleChat}, {Name: "c", Run: 30, Roles: RoleChat}}}
	v.Members = v.ID
	for range 4 {
		v.Shares = append(v.Shares, Share{Owner: 2, Epoch: v.ID, Born: v.ID})
	}
	if before != nil {
		v.Ancestors = append([]ViewID{before.ID}, before.Ancestors...)
		v.Members, v.Shares = before.Members, before.Shares
	}
	return v
}

// member makes the node one of a fleet whose others it hears.
func member(t *testing.T, quorum int) (x *tried, v *View, others func()) {
	x = try(t, quorum)
	v = fleetOf(5000, nil)
	others = func() {
		x.hear("a", 10, x.beatOf(x.view))
		x.hear("c", 30, x.beatOf(x.view))
	}
	x.hear("a", 10, &viewBody{View: v})
	x.after(3000*ms, others)
	if x.Self() != channel.NewNode(2, 20) || x.Suspended() {
		t.Fatalf("%x is no member that serves", uint64(x.Self()))
	}
	return x, v, others
}

func TestNodeTakesNewerViewsOnly(t *testing.T) {
	x, v, _ := member(t, 0)
	next := fleetOf(5001, v)
	x.hear("a", 10, &viewBody{View: next})
	x.hear("a", 10, &viewBody{View: v})
	x.after(10 * ms)
	if x.View().ID != next.ID || len(x.adopted) != 2 || len(x.restarts) != 0 {
		t.Errorf("view %v, adopted %v, restarts %v", x.View().ID, x.adopted, x.restarts)
	}
	if x.is(packetFetch, "a") != 0 {
		t.Error("it fetches a view that it has")
	}
	h := x.beatOf(next)
	h.View.View++
	x.hear("a", 10, h)
	if x.after(10 * ms); x.is(packetFetch, "a") != 1 {
		t.Error("it does not fetch a newer view")
	}
}

// A view that the node is not in, or that has not come of its own, makes it a new run, greater than all that were left out; so does one that
// says that its run was left out before it was a member.
func TestNodeGoesOnAsANewRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(v *View)
		run    uint64
	}{
		{"left out", func(v *View) { v.Names[1].Run, v.Names[1].Gone = 0, 20 }, 0},
		{"left out, and a greater one before", func(v *View) { v.Names[1].Run, v.Names[1].Gone = 0, 1<<40 }, 1<<40 + 1},
		{"a view beside its own", func(v *View) { v.Ancestors = nil }, 0},
	} {
		x, v, others := member(t, 0)
		next := fleetOf(5001, v)
		c.change(next)
		x.hear("a", 10, &viewBody{View: next})
		x.after(10 * ms)
		if len(x.restarts) != 1 || x.restarts[0] != channel.NewNode(2, 20) || x.Self() != 0 || !x.Suspended() {
			t.Errorf("%s: restarts %v, self %x", c.name, x.restarts, uint64(x.Self()))
		}
		if x.peers.self.Run <= 20 || c.run != 0 && x.peers.self.Run != c.run {
			t.Errorf("%s: run %d", c.name, x.peers.self.Run)
		}
		if x.after(100*ms, others); x.is(packetView, "") != 0 {
			t.Errorf("%s: it makes a view", c.name)
		}
	}
}

// A newcomer whose clock has gone back hears of its earlier run, and takes a greater one. A member does not care.
func TestNodeLearnsItsRun(t *testing.T) {
	x := try(t, 0)
	h := x.beatOf(nil)
	h.Echoes[1].Peer.Run = 70
	h.Echoes[1].Number = 0
	x.hear("a", 10, h)
	if x.after(10 * ms); x.peers.self.Run <= 70 {
		t.Errorf("run %d", x.peers.self.Run)
	}
	x, _, _ = member(t, 0)
	x.hear("a", 10, h)
	if x.after(10 * ms); x.peers.self.Run != 20 {
		t.Errorf("a member goes on as run %d", x.peers.self.Run)
	}
}

// A node that slept has missed anything: it calls nobody dead before it has listened for as long as dying takes, and sends no request until the maker has
// heard it again; for a second requests wait for that.
func TestNodeThatSlept(t *testing.T) {
	x, _, others := member(t, 0)
	c := func() { x.hear("c", 30, x.beatOf(x.view)) } // while the maker is slow
	x.at += 8000 * ms
	c()
	x.Turn(x.at, 9000)
	ask := func(req uint32) error { return x.Request(&channel.Request{Op: channel.OpSend, Req: req}, x.at) }
	requests := func() (n int) {
		for _, m := range x.messages {
			if m.Kind == KindRequest && m.Request.Op != channel.OpNothing { // which stands for one that was given up
				n++
			}
		}
		return n
	}
	if !x.Suspended() || ask(1) != nil {
		t.Error("it goes on as if nothing had happened")
	}
	if x.after(990*ms, c); len(x.refused) > 0 {
		t.Error("the request has not waited")
	}
	if x.after(20*ms, c); len(x.refused) != 1 || x.refused[0].Req != 1 {
		t.Errorf("refused after a second: %v", x.refused)
	}
	if x.after(900*ms, c); ask(2) != nil || requests() > 0 {
		t.Error("a request is sent before it is heard")
	}
	if x.after(90*ms, c); x.is(packetView, "") != 0 || x.is(packetAsk, "c") != 0 {
		t.Error("it judges")
	}
	if x.after(100*ms, others); x.Suspended() || requests() != 1 || len(x.refused) != 1 {
		t.Error("it is heard, and does not go on")
	}
	x.Away(true)
	if x.after(10 * ms); !x.Suspended() || ask(3) != ErrNotSent {
		t.Error("it goes on without a bus")
	}
}

// What waits for the maker's word goes along with an upgrade, and is sent also where that word is the first that the new process looks at.
func TestWhatWaitsGoesAlong(t *testing.T) {
	x, _, others := member(t, 0)
	x.at += 8000 * ms
	x.hear("c", 30, x.beatOf(x.view))
	x.Turn(x.at, 9000)
	if err := x.Request(&channel.Request{Op: channel.OpLeave, Room: "r", User: "u"}, x.at); err != nil || len(x.messages) > 0 {
		t.Fatalf("%v, sent: %v", err, x.messages)
	}
	others()
	state := mustExport(t, x.Export)
	x.Node = New(x.config, x, x)
	if err := x.Import(state); err != nil {
		t.Fatal(err)
	}
	if x.after(10 * ms); x.Suspended() || len(x.messages) != 1 || x.messages[0].Request.Op != channel.OpLeave {
		t.Errorf("suspended: %v, sent: %v", x.Suspended(), x.messages)
	}
}

// Without a quorum nothing leaves that its owners decided; all else does, and when the quorum is back, the rest in its order.
func TestNodeWithoutQuorum(t *testing.T) {
	x, v, others := member(t, 2)
	x.after(2500 * ms) // they hear it no longer, or it them
	if !x.Suspended() {
		t.Fatal("it serves")
	}
	send := func(n uint64) {
		x.Node.Send(x.Self(), &Message{Kind: KindItems, Epoch: v.ID, Items: []channel.Item{{N: n, To: channel.Addr{Node: x.Self()}}}})
	}
	send(1)
	x.after(10 * ms)
	send(2)
	x.after(10 * ms)
	if len(x.items) != 0 {
		t.Fatal("items leave")
	}
	if x.is(packetView, "") != 0 {
		t.Error("it makes a view")
	}
	send(3)
	x.after(1000*ms, others)
	var got []uint64
	for _, items := range x.items {
		got = append(got, items[0].N)
	}
	if !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("items %v", got)
	}
}

// The maker dies: the next one asks everybody for the newest view, waits for the answers, and goes on from there.
func TestMakerSucceeds(t *testing.T) {
	x, v, _ := member(t, 0)
	c := func() { x.hear("c", 30, x.beatOf(x.view)) }
	x.after(2900*ms, c)
	if x.is(packetAsk, "c") != 0 {
		t.Fatal("it asks before the maker is dead")
	}
	x.after(300*ms, c)
	if x.is(packetAsk, "c") != 1 || x.is(packetView, "") != 0 {
		t.Fatalf("%d asks, %d views", x.is(packetAsk, "c"), x.is(packetView, ""))
	}
	next := fleetOf(5100, v)
	x.hear("c", 30, &answer{Number: x.maker.ask, View: next})
	if x.after(100*ms, c); x.View().ID.View != 5100 {
		t.Fatalf("it does not adopt what it is told: %v", x.View().ID)
	}
	x.hear("c", 30, &answer{Number: x.maker.ask, View: next}) // it has asked again
	x.after(100*ms, c)
	if got := x.View(); got.ID.Maker != x.Self() || !got.continues(next.ID) || got.Names[0].Run != 0 || got.Names[0].Gone != 10 || got.Names[2].Run != 30 {
		t.Errorf("%+v", got)
	}
	if uint64(x.wall) > 5100 && x.View().ID.View < uint64(x.wall)-200 {
		t.Errorf("number %d at %d", x.View().ID.View, x.wall)
	}
}

// While the maker lives nobody else makes views; it is not a's turn when a is another run.
func TestMakerLives(t *testing.T) {
	x, _, others := member(t, 0)
	if x.after(5000*ms, others); x.is(packetAsk, "c") != 0 || x.is(packetView, "") != 0 {
		t.Error("two make views")
	}
	x.after(1500*ms, func() {
		x.hear("a", 11, &greeting{Versions: spoken})
		x.hear("c", 30, x.beatOf(x.view))
	})
	if x.is(packetAsk, "c") == 0 {
		t.Error("the maker has ended, and nobody follows")
	}
}

// A pair parts only when one has not heard the other for a second on end, while the maker hears both well.
func TestMakerPartsPairs(t *testing.T) {
	for _, c := range []struct {
		name  string
		hears int64 // once in so long it has heard the other again
		doubt bool  // the bus says between its heartbeats that nobody is there
		parts bool
	}{
		{"one does not hear the other", 1 << 62, false, true},
		{"it hears it now and then", 900 * ms, false, false},
		{"the maker has its doubts", 1 << 62, true, false},
	} {
		x, v, _ := member(t, 0)
		mine := fleetOf(5001, v)
		mine.ID.Maker = x.Self()
		x.hear("a", 10, &viewBody{View: mine})
		begin := x.at
		x.after(4000*ms, func() {
			x.hear("a", 10, x.beatOf(x.view))
			switch since := x.at - begin; {
			case since%(500*ms) <= 10*ms:
				h := x.beatOf(x.view)
				h.Echoes[0].Alive = since < 500*ms
				x.hear("c", 30, h)
			case since%c.hears <= 10*ms:
				x.hear("c", 30, x.beatOf(x.view))
			case c.doubt:
				x.NoResponder("c")
			}
		})
		if parted := x.View().Names[2].Run == 0 || x.View().Names[0].Run == 0; parted != c.parts {
			t.Errorf("%s: %+v", c.name, x.View().Names)
		}
	}
}

// What was told about another move, naming or epoch does not count.
func TestMakerNotes(t *testing.T) {
	id := func(n uint64) ViewID { return ViewID{View: n, Maker: 1} }
	v := &View{Shares: []Share{{Owner: 1, Follower: 2, Joiner: 3, Epoch: id(1), Following: id(2), Joining: id(3), Moving: id(4)}}}
	for _, c := range []struct {
		m    Message
		want makerPart
	}{
		{Message{Kind: KindInStep, Epoch: id(1), Naming: id(3)}, makerPart{inStep: id(3)}},
		{Message{Kind: KindInStep, Epoch: id(1), Naming: id(2)}, makerPart{}},
		{Message{Kind: KindInStep, Epoch: id(9), Naming: id(3)}, makerPart{}},
		{Message{Kind: KindReady, Epoch: id(1), Moving: id(4)}, makerPart{ready: id(4)}},
		{Message{Kind: KindReady, Epoch: id(1), Moving: id(3)}, makerPart{}},
		{Message{Kind: KindReady, Epoch: id(9), Moving: id(4)}, makerPart{}},
		{Message{Kind: KindDropFollower, Epoch: id(1), Naming: id(2)}, makerPart{drop: id(2)}},
		{Message{Kind: KindDropFollower, Epoch: id(1), Naming: id(3)}, makerPart{drop: id(3)}},
		{Message{Kind: KindDropFollower, Epoch: id(1), Naming: id(4)}, makerPart{}},
		{Message{Kind: KindDropFollower, Epoch: id(9), Naming: id(2)}, makerPart{}},
		{Message{Kind: KindInStep, Part: 1, Epoch: id(1), Naming: id(3)}, makerPart{}},
	} {
		k := newMaker(1, 0)
		if k.note(v, &c.m); k.parts[0] != c.want {
			t.Errorf("%+v: %+v", c.m, k.parts[0])
		}
	}
}

// A newcomer ends that has no version in common with a node that was there before it; a member does not, whoever else comes.
func TestNoCommonVersion(t *testing.T) {
	other := func(run uint64, v versions, view ViewID) []byte {
		return appendPacket(nil, spoken.Greatest, runID{"other", run}, &heartbeat{Versions: v, Number: 1, Roles: RoleChat, Ready: true, View: view})
	}
	for name, c := range map[string]struct {
		run  uint64
		v    versions
		view uint64
		ends bool
	}{
		"an older run, and a newer version":     {50, versions{spoken.Greatest + 1, spoken.Greatest + 2}, 0, true},
		"an older version":                      {50, versions{1, spoken.Least - 1}, 0, true},
		"a younger run, and a newer version":    {200, versions{spoken.Greatest + 1, spoken.Greatest + 2}, 0, false},
		"a younger run that has a view already": {200, versions{1, 1}, 7, true},
		"an older run that speaks both":         {50, versions{spoken.Greatest, spoken.Greatest + 2}, 0, false},
	} {
		n := New(Config{Name: "n", Run: 100, Roles: RoleChat}, nowhere{}, nobodyHome{})
		n.Turn(1, 1)
		n.Receive(other(c.run, c.v, ViewID{View: c.view}))
		n.Turn(2, 1)
		if ended := n.Err() != nil; ended != c.ends {
			t.Errorf("%s: %v", name, n.Err())
		}
	}
}

// A peer is replaced by an older program, and the view that has the new run comes before its first word. What the run before has said of its versions is
// not believed: the link would speak, as long as it lives, what the peer cannot read.
func TestLinkToAnOlderProgram(t *testing.T) {
	for said, want := range map[uint64]uint8{30: 1, 31: 2} { // which run has said that it speaks both
		x, v, _ := member(t, 0)
		x.config.speaks = versions{1, 2}
		h := x.beatOf(v)
		h.Versions = versions{1, 2}
		x.hear("c", said, h)
		x.after(10 * ms)
		next := fleetOf(5001, v)
		next.Members, next.Names[2].Run, next.Names[2].Gone = next.ID, 31, 30
		x.hear("a", 10, &viewBody{View: next})
		x.after(10 * ms)
		if got := x.links.to(channel.NewNode(3, 31)).version; got != want {
			t.Errorf("run %d has said that it speaks version 2, and run 31 is talked to in version %d", said, got)
		}
	}
}

// Gates hear at once that a node drains: until then they name it to clients.
func TestDrainIsToldAtOnce(t *testing.T) {
	x, _, _ := member(t, 0)
	x.after(10 * ms)
	for _, draining := range []bool{true, true, false} {
		before, changes := x.is(packetHeartbeat, ""), draining != x.draining
		x.Drain(draining)
		x.after(10 * ms)
		if told := x.is(packetHeartbeat, "") > before; told != changes {
			t.Errorf("draining %v: told %v", draining, told)
		}
	}
}

type nowhere struct{}

func (nowhere) Send(string, []byte) {}
func (nowhere) Announce([]byte)     {}

type nobodyHome struct{}

func (nobodyHome) Adopt(*View, channel.Node)      {}
func (nobodyHome) Message(channel.Node, *Message) {}
func (nobodyHome) Items(uint16, []channel.Item)   {}
func (nobodyHome) Lost(uint16, string)            {}
func (nobodyHome) Refused(*channel.Request, bool) {}
func (nobodyHome) Restart(channel.Node)           {}
