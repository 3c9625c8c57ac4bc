package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/seed"
)

// Whatever the bus does: what is sent over a link arrives once and in order while both runs live, and of a run that has ended a beginning.
// Senders that ask full keep within the window.
func TestLinks(t *testing.T) {
	rng := seed.Rand(t)
	for range 12 {
		s := rng.Uint64()
		if !t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { randomLinks(t, rand.New(rand.NewPCG(s, 1))) }) {
			return
		}
	}
}

func randomLinks(t *testing.T, rng *rand.Rand) {
	w := newLinkWorld(t, rng, 2+rng.IntN(3), int64(1+rng.IntN(8))<<18)
	w.net.Loss, w.net.Late, w.net.Twice = []float64{0, 0.02, 0.3}[rng.IntN(3)], 0.05, 0.02
	const longest = 200 << 10
	size := func() int {
		if rng.IntN(50) == 0 {
			return rng.IntN(longest - 100)
		}
		return rng.IntN(300)
	}
	for range 1000 {
		for range rng.IntN(3) {
			n := w.nodes[rng.IntN(len(w.nodes))]
			to := w.views[n.view].Node(uint16(1 + rng.IntN(len(w.nodes))))
			if to == n.self() || n.self() == 0 || n.links.full(to) {
				continue
			}
			switch part := uint16(rng.IntN(3)); rng.IntN(40) {
			case 0:
				n.sendPart(to, part, KindSnapshot, rng.IntN(1<<20))
			case 1, 2, 3, 4, 5, 6, 7, 8:
				n.sendPart(to, part, KindRecords, size())
			default:
				n.sendLive(to, size())
			}
		}
		switch n, until := w.nodes[rng.IntN(len(w.nodes))], w.net.Now()+rng.Int64N(400*testMS); rng.IntN(300) {
		case 0: // it begins as a new run
			n.run += 10
			n.links.restart(n.run)
			w.change()
			n.adopt(len(w.views) - 1)
		case 1: // the same members
			w.change()
			n.adopt(len(w.views) - 1)
		case 2:
			w.net.Cut(n.name, w.nodes[rng.IntN(len(w.nodes))].name, until)
		case 3:
			n.port.Away(until)
		case 4:
			w.net.Away(until)
		}
		w.turn()
		for _, n := range w.nodes {
			n.checkMemory(longest)
		}
	}
	w.quiet(30_000)
	w.all()
	for _, n := range w.nodes {
		if n.links.stats.Malformed > 0 {
			t.Fatalf("malformed: %+v", n.links.stats)
		}
	}
	if w.net.Stats.TooLong > 0 {
		t.Fatalf("a packet of %d bytes", w.net.Stats.LongestLen)
	}
}

// What an old route delivers after a run has ended belongs to nobody: neither the new run of the receiver nor that of the sender takes it.
func TestOldRoutes(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	var kept [][]byte // what a has put on the wire
	tap := busFunc(func(_ string, p []byte) { kept = append(kept, bytes.Clone(p)) })
	a.sendLive(b.self(), 10)
	a.links.flush(w.net.Now(), tap)
	b.receive(kept[0])
	w.all()

	b.run++
	b.links.restart(b.run)
	w.change()
	b.adopt(1)
	a.adopt(1)
	a.sendLive(b.self(), 10)
	a.links.flush(w.net.Now(), tap)
	b.receive(kept[0]) // for the run that has ended
	if b.links.stats.Stray != 1 {
		t.Errorf("a batch for an older run: %+v", b.links.stats)
	}
	b.receive(kept[1])
	b.receive(kept[1])
	if b.links.stats.Again != 1 {
		t.Errorf("a batch twice: %+v", b.links.stats)
	}
	w.all()

	a.run++
	a.links.restart(a.run)
	w.change()
	a.adopt(2)
	b.adopt(2)
	b.receive(kept[1]) // of the run that has ended
	if b.links.stats.Stray != 2 {
		t.Errorf("a batch of an older run: %+v", b.links.stats)
	}
	w.quiet(100)
	w.all()
}

type busFunc func(name string, b []byte)

func (f busFunc) Send(name string, b []byte) { f(name, b) }
func (f busFunc) Announce(b []byte)          { f("", b) }

// A batch of a newer view waits, and what follows it too, until that view is there; under an older view everything is taken.
func TestANewerViewStopsALink(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	w.change()
	a.adopt(1)
	for range 3 {
		a.sendLive(b.self(), 10)
		w.net.Advance(w.net.Now() + 5*testMS)
		a.links.flush(w.net.Now(), a.port)
	}
	w.net.Advance(w.net.Now() + 5*testMS)
	if s := (stream{a.self(), b.self(), -1}); !b.behind || len(w.got[s]) != 0 {
		t.Fatalf("behind %v, got %v", b.behind, w.got[s])
	}
	if b.adopt(1); b.links.stats.Gaps > 0 {
		t.Errorf("%+v", b.links.stats)
	}
	w.all()
	w.change()
	b.adopt(2) // a has an older one now
	a.sendLive(b.self(), 10)
	w.quiet(100)
	w.all()
}

// Two views came of one, each without the other. What was sent under one is nothing to who has the other: a node that has a share in both would
// mix what two owners decided.
func TestAViewBesideThisOne(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	w.change()
	w.change()
	w.views[2].Ancestors = w.views[2].Ancestors[:1]
	a.adopt(1)
	a.sendLive(b.self(), 10)
	a.links.flush(w.net.Now(), a.port)
	w.net.Advance(w.net.Now() + 5*testMS) // it waits at b for the newer view
	b.adopt(2)
	a.links.flush(w.net.Now()+resendAfter, a.port)
	w.net.Advance(w.net.Now() + 5*testMS)
	if s := (stream{a.self(), b.self(), -1}); len(w.got[s]) != 0 || b.links.stats.Stray == 0 {
		t.Errorf("%d messages were taken, %+v", len(w.got[s]), b.links.stats)
	}
}

// What waits for a view is at most a window for each sender, and each byte once; the rest comes again.
func TestWaitingForAViewIsBounded(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 3, 1<<20)
	b, newer := w.nodes[1], ViewID{View: 2, Maker: 1}
	waiting := func() (n int64) {
		for _, p := range b.links.parked {
			n += int64(len(p.b.Bytes))
		}
		return n
	}
	for _, from := range []runID{{"n1", 100}, {"n3", 102}} {
		before := waiting()
		for i := range 10 {
			for range 3 {
				_, behind := b.links.receive(from, &batch{To: b.run, View: newer, Offset: uint64(i * 50_000), Bytes: make([]byte, 50_000)})
				if !behind {
					t.Fatal("it does not know that its view is old")
				}
			}
		}
		if n := waiting() - before; n != 250_000 { // of 256 KiB
			t.Errorf("%d bytes of %v wait", n, from)
		}
	}
	if s := b.links.stats; s.Parked == 0 || s.Overflow == 0 || s.Again == 0 {
		t.Errorf("%+v", s)
	}
}

// While a snapshot of 20 MiB is on its way, a live message takes as long as otherwise, and no more than 1 MiB of the snapshot is copied at once. Records of the
// same partition come behind it, those of another do not wait.
func TestBulkLetsLiveMessagesPass(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	for range 10 {
		a.sendPart(b.self(), 1, KindSnapshot, 2<<20)
	}
	a.sendPart(b.self(), 1, KindRecords, 10)
	live, other, same := stream{a.self(), b.self(), -1}, stream{a.self(), b.self(), 2}, stream{a.self(), b.self(), 1}
	turns := 0
	for ; len(w.got[same]) < 11; turns++ {
		if turns > 300 {
			t.Fatal("the snapshot does not arrive")
		}
		a.sendLive(b.self(), 10)
		a.sendPart(b.self(), 2, KindRecords, 10)
		for range 4 {
			w.turn()
		}
		if len(w.got[live]) != turns+1 || len(w.got[other]) != turns+1 {
			t.Fatalf("turn %d: %d live messages and %d records of another partition arrived, %d messages about the snapshot", turns, len(w.got[live]), len(w.got[other]), len(w.got[same]))
		}
		a.checkMemory(1000)
	}
	if turns < 20 {
		t.Errorf("20 MiB in %d turns: more than 1 MiB for an ack", turns)
	}
	w.quiet(100)
	w.all()
	if x := a.links.to(b.self()); x.behindBulk(&Message{Kind: KindRecords, Part: 1}) || len(x.bulk) != 0 {
		t.Error("records still go behind a snapshot that has arrived")
	}
}

// A window that is full refuses what is new and nothing else: two nodes that are full of each other's messages still say all that they have, and
// acknowledge it.
func TestTwoFullWindows(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, 1<<20)
	a, b := w.nodes[0], w.nodes[1]
	w.net.Away(1 << 62)
	for _, n := range w.nodes {
		to := w.views[0].Node(uint16(3 - n.links.number))
		for !n.links.full(to) {
			n.sendLive(to, 1000)
		}
		for range 10 { // answers
			n.sendLive(to, 1000)
		}
	}
	for range 200 {
		w.turn()
	}
	w.net.Heal()
	w.quiet(2000)
	w.all()
	if a.links.full(b.self()) || b.links.full(a.self()) {
		t.Error("full without anything to send")
	}
}

// To a peer that takes nothing one batch goes out each 50 ms, however much waits; when it takes something again, all of it soon does.
func TestResendsAreFew(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	for !a.links.full(b.self()) {
		a.sendLive(b.self(), 100<<10)
	}
	w.net.Cut(a.name, b.name, 3000*testMS)
	w.turn()
	first := w.net.Stats.Bytes
	for range 2990 {
		w.turn()
	}
	if again := w.net.Stats.Bytes - first; again > 3000/50*(batchBytes+1000) || again < 3000/50*batchBytes*9/10 {
		t.Errorf("%d bytes in 3 s to a peer that is away", again)
	}
	start := w.net.Now()
	w.quiet(1000)
	w.all()
	if took := (w.net.Now() - start) / testMS; took > 200 {
		t.Errorf("%d ms until %d bytes were there", took, first)
	}
}

// Records that wait behind a snapshot count in the window; the snapshot does not.
func TestRecordsBehindASnapshotFillTheWindow(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, 4<<20)
	a, b := w.nodes[0], w.nodes[1]
	if a.sendPart(b.self(), 1, KindSnapshot, 8<<20); a.links.full(b.self()) {
		t.Error("full by a snapshot")
	}
	for range 9 {
		a.sendPart(b.self(), 1, KindRecords, 100<<10)
		a.links.flush(w.net.Now(), a.port)
	}
	if a.links.full(b.self()) {
		t.Error("full by 0.9 of 1 MiB")
	}
	if a.sendPart(b.self(), 1, KindRecords, 200<<10); !a.links.full(b.self()) {
		t.Error("not full by 1.1 of 1 MiB")
	}
	w.quiet(1000)
	w.all()
}

// The windows of all peers are three quarters of the memory, and none is above a quarter.
func TestWindows(t *testing.T) {
	for _, tc := range []struct {
		nodes  int
		window int64
	}{{1, 16 << 20}, {2, 16 << 20}, {4, 16 << 20}, {5, 12 << 20}, {49, 1 << 20}} {
		w := newLinkWorld(t, rand.New(rand.NewPCG(1, 1)), tc.nodes, DefaultLinkMemory)
		if got := w.nodes[0].links.window; got != tc.window {
			t.Errorf("%d nodes: a window of %d", tc.nodes, got)
		}
	}
}

// What makes no sense ends a stream or costs a message, and never more memory than came.
func TestMalformedStreams(t *testing.T) {
	w := newLinkWorld(t, seed.Rand(t), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	from, offset := runID{a.name, a.run}, uint64(0)
	say := func(stream []byte) []letter {
		arrived, _ := b.links.receive(from, &batch{To: b.run, View: w.views[0].ID, Offset: offset, Bytes: stream})
		offset += uint64(len(stream))
		return arrived
	}
	good := appendSized(nil, func(dst []byte) []byte { return appendMessage(dst, &Message{Kind: KindAck, Index: 7}) })
	if got := say(append([]byte{3, 1, 2, 3}, good...)); len(got) != 1 || b.links.stats.Malformed != 1 {
		t.Errorf("after a message that cannot be read: %v, %+v", got, b.links.stats)
	}
	for i := range good { // byte by byte
		if got := say(good[i : i+1]); (len(got) == 1) != (i == len(good)-1) {
			t.Errorf("after byte %d of %d: %v", i, len(good), got)
		}
	}
	say(appendUint(nil, maxMessage+1))
	if got := say(good); len(got) != 0 || b.links.stats.Malformed != 2 {
		t.Errorf("after a length that cannot be: %v, %+v", got, b.links.stats)
	}
	a.links.acked(runID{b.name, b.run}, &batchAck{To: a.run, Offset: 1 << 40}, 0)
	if a.links.stats.Malformed != 1 {
		t.Errorf("an ack of what was never sent: %+v", a.links.stats)
	}
}

// Links cost no memory a message once they are warm, but for what arrives.
func TestLinkAllocations(t *testing.T) {
	w := newLinkWorld(t, rand.New(rand.NewPCG(1, 1)), 2, DefaultLinkMemory)
	a, b := w.nodes[0], w.nodes[1]
	m := &Message{Kind: KindRequest, Request: channel.Request{Op: channel.OpSend, Content: make([]byte, 100)}}
	nowhere := busFunc(func(string, []byte) {})
	ack := &batchAck{To: a.run}
	allocs := testing.AllocsPerRun(1000, func() {
		for range 100 {
			a.links.send(b.self(), m)
		}
		a.links.flush(1, nowhere)
		ack.Offset = a.links.to(b.self()).out[laneLive].end
		a.links.acked(runID{b.name, b.run}, ack, 1)
	})
	if allocs > 3 { // of 100 messages
		t.Errorf("%.1f allocations for 100 messages", allocs)
	}
}

func BenchmarkLinkMessage(b *testing.B) {
	w := newLinkWorld(&testing.T{}, rand.New(rand.NewPCG(1, 1)), 2, DefaultLinkMemory)
	from, to := w.nodes[0], w.nodes[1]
	m := &Message{Kind: KindRequest, Request: channel.Request{Op: channel.OpSend, Room: "lobby", User: "somebody", Target: channel.Everybody, Content: make([]byte, 100)}}
	wire := busFunc(func(_ string, p []byte) {
		id, body, _ := parsePacket(bytes.Clone(p))
		to.links.receive(id, body.(*batch))
	})
	back := busFunc(func(_ string, p []byte) {
		id, body, _ := parsePacket(p)
		from.links.acked(id, body.(*batchAck), 1)
	})
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			from.links.send(to.self(), m)
		}
		from.links.flush(1, wire)
		to.links.flush(1, back)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/message")
}
