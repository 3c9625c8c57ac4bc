package fleet

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/membus"
)

// loops are loops without sessions, turned at once or when a test says so.
type loops struct {
	workers   []*channel.Worker
	turned    func(int)
	mail      [][]func()
	delivered []channel.Item
	order     []string // of what was delivered and what was ended
	ended     [][]uint16
	busy      bool
}

func newLoops(count int) *loops {
	l := &loops{mail: make([][]func(), count)}
	for range count {
		l.workers = append(l.workers, channel.NewWorker(nil))
	}
	return l
}

const local = channel.Node(77)

func (l *loops) ID() channel.Node { return local }
func (l *loops) Workers(turned func(int)) []*channel.Worker {
	l.turned = turned
	return l.workers
}
func (l *loops) Run(loop, _ int, f func()) { l.mail[loop] = append(l.mail[loop], f) }
func (l *loops) Deliver(it channel.Item) bool {
	l.delivered, l.order = append(l.delivered, it), append(l.order, "item")
	return true
}
func (l *loops) EndMembers(parts []uint16, why string) {
	l.ended, l.order = append(l.ended, parts), append(l.order, why)
}
func (l *loops) Busy(int) bool { return l.busy }
func (l *loops) Sessions() int { return 5 }

// turn carries out the mail.
func (l *loops) turn() {
	for i := range l.mail {
		mail := l.mail[i]
		l.mail[i] = nil
		for _, f := range mail {
			f()
		}
		l.turned(i)
	}
}

// alone is a fleet of one node.
type alone struct {
	*Fleet
	loops *loops
	net   *membus.Net
	at    int64 // ms
}

func newAlone(count int, change func(*Config)) *alone {
	a := &alone{loops: newLoops(count), net: membus.New(rand.New(rand.NewPCG(1, 1)))}
	port := a.net.Connect("one", func(b []byte) { a.Receive(b) }, func(name string) { a.NoResponder(name) })
	cfg := Config{Bus: port, Cluster: cluster.Config{Name: "one", Run: 1000, Roles: cluster.RoleChat | cluster.RoleConnector | cluster.RoleGate, Address: "h:1"}}
	if change != nil {
		change(&cfg)
	}
	a.Fleet = New(cfg)
	a.Join(a.loops)
	return a
}

func (a *alone) pass(ms int) {
	for range ms {
		a.at++
		a.net.Advance(a.at * 1e6)
		a.Turn(a.at*1e6, 1_000_000+a.at)
		a.loops.turn()
	}
}

func enter(room, user string, req uint32) channel.Request {
	return channel.Request{Op: channel.OpEnter, Part: channel.Partition(room), Room: room, User: user, Req: req, From: channel.Addr{Node: local, Ref: 1<<56 | 9}}
}

// Partitions are on all loops, and items come back under the names that the loops know: their own, and the partition's birth.
func TestRequestsComeBackAsItems(t *testing.T) {
	a := newAlone(3, nil)
	a.pass(2500)
	s := a.Status()
	if s.Self == 0 || s.Suspended || s.Members != 1 || s.Owned != channel.Partitions || s.Unguarded != channel.Partitions {
		t.Fatalf("%+v", s)
	}
	for i, w := range a.loops.workers {
		for part := range uint16(channel.Partitions) {
			if w.Owns(part) != (int(part)%3 == i) {
				t.Fatalf("loop %d, partition %d: owns %v", i, part, w.Owns(part))
			}
		}
	}
	a.Inlet().Post(enter("lobby", "ann", 3))
	a.pass(5)
	if len(a.loops.delivered) != 1 {
		t.Fatalf("%+v", a.loops.delivered)
	}
	it := a.loops.delivered[0]
	if it.Kind != channel.ItemEnter || it.To != (channel.Addr{Node: local, Ref: 1<<56 | 9}) || it.Epoch != a.node.View().Shares[it.Part].Born || it.Req != 3 {
		t.Errorf("%+v", it)
	}
}

// What came before the end goes out: it may be the last leaves.
func TestTheEndTakesWhatHasCome(t *testing.T) {
	a := newAlone(1, nil)
	const last = 2*turnSlice + 5
	for i := range last {
		a.Inlet().Post(enter("lobby", "ann", uint32(1+i)))
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	<-a.Wanted() // else it might do a turn before it looks at ctx
	if err := a.Run(ctx); err != nil || len(a.loops.delivered) != last {
		t.Errorf("%d of %d requests were looked at; %v", len(a.loops.delivered), last, err)
	}
}

// What is refused before the node is in a fleet certainly did not happen, and says so.
func TestRefusedBeforeTheFleet(t *testing.T) {
	a := newAlone(1, nil)
	a.Inlet().Post(enter("lobby", "ann", 3))
	a.Inlet().Post(channel.Request{Op: channel.OpSend, Part: 4, Req: 4, Room: "x", From: channel.Addr{Node: local, Ref: 5}})
	a.Inlet().Post(channel.Request{Op: channel.OpLeave, Part: 4, Room: "x", From: channel.Addr{Node: local, Ref: 5}})
	a.pass(1)
	if got := a.loops.delivered; len(got) != 2 || string(got[0].Body) != `{"code":500,"error":true,"reason":"not_sent"}` || string(got[1].Body) != `{"code":500,"reason":"not_sent"}` ||
		got[0].Req != 3 || got[0].To.Node != local {
		t.Errorf("%+v", got)
	}
}

// Who may have entered leaves again; who may have been renamed is ended.
func TestUnknownEnterIsUndone(t *testing.T) {
	a := newAlone(1, nil)
	a.pass(2500)
	r := enter("lobby", "ann", 3)
	(*home)(a.Fleet).Refused(&r, true)
	if len(a.leaves) != 1 || a.leaves[0].Op != channel.OpLeave || a.leaves[0].User != "ann" || a.leaves[0].From != r.From {
		t.Errorf("%+v", a.leaves)
	}
	if it := a.loops.delivered[0]; it.Kind != channel.ItemReply || string(it.Body) != `{"code":500,"error":true,"reason":"unknown"}` {
		t.Errorf("%+v", it)
	}
	r.Prev = "anna"
	(*home)(a.Fleet).Refused(&r, true)
	if it := a.loops.delivered[1]; it.Kind != channel.ItemKick || it.To.Ref != r.From.Ref || len(a.leaves) != 1 {
		t.Errorf("%+v, leaves %+v", it, a.leaves)
	}
}

// Of who may have been counted as a user's session only the answer is told: what takes it back comes from its loop, in its order.
func TestUnknownClaimIsItsLoopsToEnd(t *testing.T) {
	a := newAlone(1, nil)
	a.pass(2500)
	(*home)(a.Fleet).Refused(&channel.Request{Op: channel.OpClaim, Part: 4, Req: 6, User: "u", From: channel.Addr{Node: local, Ref: 5}}, true)
	if got := a.loops.delivered; len(got) != 1 || got[0].Kind != channel.ItemReply || got[0].Req != 6 || string(got[0].Body) != string(channel.Unknown) || len(a.leaves) > 0 {
		t.Errorf("%+v, leaves %+v", got, a.leaves)
	}
}

// Loops look at all sessions to end members of what is lost: once for all partitions that are in a turn, for each reason. Whoever enters anew does so behind that, and a node that begins anew ends
// all of them.
func TestMembersOfAllThatIsLostAreEndedAtOnce(t *testing.T) {
	a := newAlone(1, nil)
	a.pass(2500)
	h := (*home)(a.Fleet)
	a.loops.order = nil
	for part := range uint16(500) {
		h.Lost(part, "lost")
	}
	h.Lost(500, "born")
	h.Lost(501, "born")
	h.Items(3, []channel.Item{{Part: 3}})
	h.Lost(502, "born")
	a.pass(1)
	if want := []string{"lost", "born", "item", "born"}; !slices.Equal(a.loops.order, want) {
		t.Fatalf("the loops were told %q, want %q", a.loops.order, want)
	}
	if e := a.loops.ended; len(e[0]) != 500 || e[0][499] != 499 || !slices.Equal(e[1], []uint16{500, 501}) || !slices.Equal(e[2], []uint16{502}) {
		t.Errorf("ended %v", e)
	}
	h.Lost(7, "lost")
	h.Restart(a.Status().Self)
	a.pass(1)
	if e := a.loops.ended; len(e) != 4 || e[3] != nil {
		t.Errorf("ended %v", e[3:])
	}
}

// A node whose name is in use is ended by the fleet, and its status says why.
func TestStatusSaysWhyTheNodeWasEnded(t *testing.T) {
	a := newAlone(1, nil)
	a.pass(2500)
	var b *alone
	b = newAlone(1, func(c *Config) {
		c.Cluster.Run = 2000
		c.Bus = a.net.Connect("one", func(p []byte) { b.Receive(p) }, func(name string) { b.NoResponder(name) })
	})
	for range 1000 {
		a.pass(1)
		b.pass(1)
	}
	if s := b.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "another process is node") || !s.Suspended {
		t.Errorf("the second node: %+v", s)
	}
	if s := a.Status(); s.Err != nil || s.Suspended {
		t.Errorf("who has the name: %+v", s)
	}
}

func TestWaysAreBounded(t *testing.T) {
	a := newAlone(1, func(c *Config) { c.Inbox = 4 })
	a.pass(2500)
	for i := range 4 {
		if a.Inlet().Full() {
			t.Fatalf("full with %d requests", i)
		}
		a.Inlet().Post(enter("lobby", "ann", 1))
	}
	if !a.Inlet().Full() {
		t.Error("takes a fifth request")
	}
	a.pass(1)
	if a.Inlet().Full() || a.requests.Load() != 0 {
		t.Error("full when the requests have been looked at")
	}
	a.Receive([]byte{1})
	if n := a.packets.Load(); n < int64(unsafe.Sizeof(letter{})) {
		t.Errorf("a letter counts %d bytes", n)
	}
	a.pass(1)
	packet := make([]byte, maxPackets/4-packetWeight(nil))
	for range 6 {
		a.Receive(packet)
	}
	a.pass(1)
	if s := a.Status(); s.Dropped != 2 || a.packets.Load() != 0 {
		t.Errorf("%d packets dropped, %d bytes wait", s.Dropped, a.packets.Load())
	}
	full := keeper{a.sides[0].holder, a.sides[0]}.Full
	here := channel.OutletID{Node: a.Status().Self}
	if full(here) {
		t.Error("full at rest")
	}
	a.loops.busy = true
	if !full(here) || full(channel.OutletID{Node: 5}) {
		t.Error("a busy loop is not full")
	}
	a.loops.busy = false
	a.sides[0].post(5, &cluster.Message{State: make([]byte, maxOut)})
	if !full(here) {
		t.Error("not full with 32 MiB under way")
	}
	a.pass(1)
	if full(here) || a.out.Load() != 0 {
		t.Error("full when all has been sent")
	}
}

// What a Holder said before the node began anew is not said in the name of the new run.
func TestWordsOfAnOldRunAreVoid(t *testing.T) {
	a := newAlone(2, nil)
	a.pass(2500)
	self := a.Status().Self
	(*home)(a.Fleet).Restart(self)
	if len(a.loops.ended) != 1 || a.loops.ended[0] != nil {
		t.Errorf("ended %v", a.loops.ended)
	}
	before := len(a.loops.mail[0])
	a.sides[0].post(self, &cluster.Message{Kind: cluster.KindAck})
	a.Turn(a.at*1e6+1, 1_000_000+a.at)
	if got := len(a.loops.mail[0]); got != before {
		t.Error("the word of an old run was sent")
	}
	a.loops.turn() // now the Holder knows
	a.sides[0].post(self, &cluster.Message{Kind: cluster.KindAck})
	a.Turn(a.at*1e6+2, 1_000_000+a.at)
	if len(a.loops.mail[0]) == 0 {
		t.Error("the word of the new run was not sent")
	}
	for _, s := range a.sides {
		if s.run != a.run {
			t.Errorf("loop %d is at run %d, not %d", s.loop, s.run, a.run)
		}
	}
}

// Gates are told the connectors that may be given clients, and nobody while the node does not hear the fleet.
func TestConnectorsAreTold(t *testing.T) {
	var told [][]cluster.Connector
	a := newAlone(1, func(c *Config) {
		c.Connectors = func(list []cluster.Connector) { told = append(told, slices.Clone(list)) }
	})
	a.pass(200)
	if len(told) != 1 || len(told[0]) != 0 {
		t.Fatalf("before the fleet: %v", told)
	}
	a.pass(2500)
	want := []cluster.Connector{{Name: "one", Address: "h:1", Load: 5}}
	if len(told) != 2 || !slices.Equal(told[1], want) {
		t.Fatalf("%v", told)
	}
	a.Away(true)
	a.pass(200)
	if len(told) != 3 || len(told[2]) != 0 || !a.Status().Suspended {
		t.Fatalf("away: %v", told)
	}
	a.Away(false)
	a.pass(4000)
	if len(told) != 4 || !slices.Equal(told[3], want) {
		t.Fatalf("back: %v", told)
	}
	a.Drain(true)
	a.pass(200)
	if len(told) != 5 || len(told[4]) != 0 {
		t.Fatalf("draining: %v", told)
	}
}

// A request's content lies in a read buffer.
func TestContentIsCopied(t *testing.T) {
	a := newAlone(1, nil)
	content := []byte(`"hi"`)
	r := enter("lobby", "ann", 1)
	r.Content = content
	a.Inlet().Post(r)
	content[1] = 'H'
	a.mail.Drain(1, func(l *letter) {
		if !bytes.Equal(l.request.Content, []byte(`"hi"`)) {
			t.Errorf("%s", l.request.Content)
		}
	})
}

// A loop that does not turn makes its node silent, and nothing else of it does; it is heard again when the loop turns again. That the whole process was
// stopped is another thing.
func TestStuckLoopFallsSilent(t *testing.T) {
	a := newAlone(2, nil)
	heard := 0
	a.net.Connect("other", func([]byte) { heard++ }, func(string) {})
	a.pass(2500)
	beats := func(ms int, loops ...int) int {
		before := heard
		for range ms {
			a.at++
			a.net.Advance(a.at * 1e6)
			a.Turn(a.at*1e6, 1_000_000+a.at)
			for _, i := range loops {
				mail := a.loops.mail[i]
				a.loops.mail[i] = nil
				for _, f := range mail {
					f()
				}
			}
		}
		return heard - before
	}
	if n := beats(2900, 0); n < 5 || a.Inlet().Full() || a.Status().Stuck {
		t.Errorf("%d packets in 2.9 s without a loop; %+v", n, a.Status())
	}
	beats(300, 0)
	if n := beats(3000, 0); n != 0 || !a.Inlet().Full() || !a.Status().Stuck || !a.Status().Suspended {
		t.Errorf("%d packets while a loop is stuck; %+v", n, a.Status())
	}
	if _, err := a.Peers(canceled()); err == nil {
		t.Error("a node that is silent tells its peers")
	}
	beats(2, 0, 1)
	if n := beats(2500, 0, 1); n < 4 || a.Inlet().Full() || a.Status().Stuck {
		t.Errorf("%d packets in 2.5 s, after; %+v", n, a.Status())
	}
	a.at += 60_000 // the process was stopped
	a.Turn(a.at*1e6, 1_000_000+a.at)
	if a.Status().Stuck {
		t.Error("a process that was stopped takes its loops for stuck")
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Who asks is told of the nodes within a turn; a node that was asked to end says so once.
func TestPeersAndRetirement(t *testing.T) {
	var by []string
	a := newAlone(1, func(c *Config) { c.Retire = func(name string) { by = append(by, name) } })
	a.pass(2500)
	type result struct {
		list []cluster.Peer
		err  error
	}
	told := make(chan result, 1)
	go func() {
		list, err := a.Peers(t.Context())
		told <- result{list, err}
	}()
	for len(told) == 0 {
		a.pass(1)
	}
	if r := <-told; r.err != nil || len(r.list) != 1 || r.list[0].Name != "one" || !r.list[0].Member || !r.list[0].Maker || r.list[0].Owned != channel.Partitions || r.list[0].Load != 5 {
		t.Errorf("%+v", r)
	}
	retire := func(name string) error {
		failed := make(chan error, 1)
		go func() { failed <- a.Retire(t.Context(), name) }()
		for len(failed) == 0 {
			a.pass(1)
		}
		return <-failed
	}
	if err := retire("two"); err == nil || len(by) > 0 {
		t.Errorf("a node that there is not: %v, %v", err, by)
	}
	for range 2 {
		if err := retire("one"); err != nil {
			t.Error(err)
		}
	}
	a.pass(1)
	if !slices.Equal(by, []string{"one"}) {
		t.Errorf("told of %v", by)
	}
}

// What another process writes is told once, and what this one writes goes out.
func TestNews(t *testing.T) {
	var news []cluster.Note
	a := newAlone(1, func(c *Config) { c.News = func(list []cluster.Note) { news = append(news, list...) } })
	var heard [][]byte
	port := a.net.Connect("two", func(p []byte) { heard = append(heard, p) }, func(string) {})
	b := New(Config{Bus: port, Cluster: cluster.Config{Name: "two", Run: 1000, Roles: cluster.RoleConnector}})
	b.Join(newLoops(1))
	pass := func(ms int) {
		for range ms {
			a.pass(1)
			for _, p := range heard {
				b.Receive(p)
			}
			heard = nil
			b.Turn(a.at*1e6, 1_000_000+a.at)
		}
	}
	pass(500)
	b.Write([]cluster.Note{{Key: "ban bob", At: 5, Text: []byte("x")}})
	b.Write([]cluster.Note{{Key: "ban bob", At: 5, Text: []byte("x")}})
	pass(2000)
	if len(news) != 1 || news[0].Key != "ban bob" {
		t.Errorf("news: %v", news)
	}
}

// What a node leaves unconfirmed counts over all loops: with the least -link-memory and many loops one loop may use all of it, and then no loop admits anything for that node.
func TestWindowIsOfAllLoops(t *testing.T) {
	const memory, count = 1 << 20, 64
	a := newAlone(count, func(c *Config) { c.Cluster.LinkMemory = memory })
	a.pass(2500)
	here := channel.OutletID{Node: a.Status().Self}
	full := func() (n int) {
		for _, s := range a.sides {
			if (keeper{s.holder, s}).Full(here) {
				n++
			}
		}
		return n
	}
	say := func(loop int, bytes int64) {
		body := make([]byte, bytes)
		a.loops.workers[loop].Own(uint16(loop), a.node.View().Shares[loop].Epoch)
		a.sides[loop].holder.Keep(uint16(loop), []channel.Record{{Kind: channel.RecordPush}}, []channel.Item{{Kind: channel.ItemDirect, Part: uint16(loop), N: 1, To: channel.Addr{Node: here.Node}, Body: body}})
		a.sides[loop].holder.Flush()
	}
	say(1, memory/16)
	if n := full(); n > 0 {
		t.Errorf("%d of %d loops are full with half of what a node may leave unconfirmed", n, count)
	}
	say(2, memory/16)
	if n := full(); n != count {
		t.Errorf("%d of %d loops are full with all of it", n, count)
	}
}
