package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster/membus"
)

const testMS = 1_000_000

// linkWorld is some nodes that are nothing but links, on a bus with faults.
type linkWorld struct {
	t     *testing.T
	rng   *rand.Rand
	net   *membus.Net
	nodes []*linkNode
	views []*View
	sent  map[stream][]uint64
	got   map[stream][]uint64
}

// stream is what keeps its order: all live messages between two runs, and what is for the follower of one partition.
type stream struct {
	from, to channel.Node
	part     int // -1: live
}

type linkNode struct {
	w      *linkWorld
	name   string
	run    uint64
	links  *links
	port   *membus.Port
	view   int // the newest of w.views that it has
	behind bool
}

func newLinkWorld(t *testing.T, rng *rand.Rand, nodes int, memory int64) *linkWorld {
	w := &linkWorld{t: t, rng: rng, net: membus.New(rng), sent: map[stream][]uint64{}, got: map[stream][]uint64{}}
	for i := range nodes {
		n := &linkNode{w: w, name: fmt.Sprintf("n%d", i+1), run: uint64(100 + i)}
		n.links = newLinks(runID{n.name, n.run}, memory, func(runID) uint8 { return spoken.Greatest })
		n.port = w.net.Connect(n.name, n.receive, func(string) {})
		w.nodes = append(w.nodes, n)
	}
	w.change()
	for _, n := range w.nodes {
		n.adopt(0)
	}
	return w
}

// change makes a view of all runs as they are.
func (w *linkWorld) change() {
	v := &View{ID: ViewID{View: uint64(len(w.views) + 1), Maker: 1}}
	for _, n := range w.nodes {
		v.Names = append(v.Names, Name{Name: n.name, Run: n.run})
	}
	for _, old := range w.views {
		v.Ancestors = append(v.Ancestors, old.ID)
	}
	w.views = append(w.views, v)
}

func (n *linkNode) adopt(view int) {
	n.view, n.behind = view, false
	n.take(n.links.adopt(n.w.views[view]))
}

func (n *linkNode) self() channel.Node { return n.w.views[n.view].Node(n.links.number) }

func (n *linkNode) receive(b []byte) {
	from, body, err := parsePacket(b)
	if err != nil {
		n.w.t.Fatal(err)
	}
	switch b := body.(type) {
	case *batch:
		arrived, behind := n.links.receive(from, b)
		n.behind = n.behind || behind
		n.take(arrived)
	case *batchAck:
		n.links.acked(from, b, n.w.net.Now())
	}
}

// take notes what has arrived, and that it is what was sent next.
func (n *linkNode) take(arrived []letter) {
	for _, l := range arrived {
		s, number := streamOf(l.from, n.self(), l.m)
		at := len(n.w.got[s])
		if sent := n.w.sent[s]; at >= len(sent) || sent[at] != number {
			n.w.t.Fatalf("%v: message %d arrived as number %d, of %v", s, number, at, sent[max(0, min(at-2, len(sent))):])
		}
		n.w.got[s] = append(n.w.got[s], number)
	}
}

func streamOf(from, to channel.Node, m *Message) (stream, uint64) {
	switch m.Kind {
	case KindRequest:
		return stream{from, to, -1}, m.Request.N
	case KindSnapshot, KindRecords:
		return stream{from, to, int(m.Part)}, m.Index
	}
	panic("not a message of this test")
}

// send sends a message and notes it.
func (n *linkNode) send(to channel.Node, m *Message) {
	s, number := streamOf(n.self(), to, m)
	n.w.sent[s] = append(n.w.sent[s], number)
	n.links.send(to, m)
}

func (n *linkNode) sendLive(to channel.Node, size int) {
	number := uint64(len(n.w.sent[stream{n.self(), to, -1}]) + 1)
	n.send(to, &Message{Kind: KindRequest, Request: channel.Request{Op: channel.OpSend, N: number, Content: make([]byte, size)}})
}

func (n *linkNode) sendPart(to channel.Node, part uint16, kind Kind, size int) {
	number := uint64(len(n.w.sent[stream{n.self(), to, int(part)}]) + 1)
	m := &Message{Kind: kind, Part: part, Index: number}
	if kind == KindSnapshot {
		m.State = make([]byte, size)
	} else {
		m.Records = []channel.Record{{Kind: channel.RecordAdd, Room: string(make([]byte, size))}}
	}
	n.send(to, m)
}

// turn lets a millisecond pass.
func (w *linkWorld) turn() {
	w.net.Advance(w.net.Now() + testMS)
	for _, n := range w.nodes {
		n.links.flush(w.net.Now(), n.port)
		if n.behind && w.rng.IntN(5) == 0 { // its fetch was answered
			n.adopt(len(w.views) - 1)
		}
	}
}

// quiet heals everything, and lets time pass until all that has to arrive has.
func (w *linkWorld) quiet(most int) {
	w.t.Helper()
	w.net.Heal()
	w.net.Loss, w.net.Late, w.net.Twice = 0, 0, 0
	for _, n := range w.nodes {
		if n.view != len(w.views)-1 {
			n.adopt(len(w.views) - 1)
		}
	}
	for range most {
		w.turn()
		if !slices.ContainsFunc(w.nodes, func(n *linkNode) bool { return n.links.kept > 0 || n.links.pending() }) {
			return
		}
	}
	w.t.Fatalf("not everything is acknowledged after %d ms", most)
}

// pending tells whether something in a bulk stream has not been acknowledged.
func (l *links) pending() bool {
	return slices.ContainsFunc(l.peers, func(x *link) bool { return x != nil && x.out[laneBulk].base < x.out[laneBulk].end })
}

// all checks that between runs that live everything has arrived, and once; and that of others a beginning has, in order (take checks that).
func (w *linkWorld) all() {
	w.t.Helper()
	last := w.views[len(w.views)-1]
	for s, sent := range w.sent {
		if last.Has(s.from) && last.Has(s.to) && len(w.got[s]) != len(sent) {
			w.t.Fatalf("%v: %d of %d arrived", s, len(w.got[s]), len(sent))
		}
	}
}

// checkMemory compares what is counted with what is there.
func (n *linkNode) checkMemory(longest int64) {
	var kept int64
	for _, x := range n.links.peers {
		if x == nil {
			continue
		}
		kept += x.weight()
		if x.weight() > n.links.window+longest {
			n.w.t.Fatalf("%d bytes are kept for one, and the window has %d", x.weight(), n.links.window)
		}
		for i := range x.out {
			s := &x.out[i]
			total := s.base + uint64(len(s.kept))
			for _, p := range s.later {
				total += uint64(len(p.b))
			}
			if total != s.end || s.sent < s.base || s.sent > s.base+uint64(len(s.kept)) {
				n.w.t.Fatalf("a stream from %d, sent to %d, kept %d, ends at %d and not at %d", s.base, s.sent, len(s.kept), total, s.end)
			}
		}
		if bulk := int64(len(x.out[laneBulk].kept)); bulk > bulkBytes {
			n.w.t.Fatalf("%d bytes of snapshots at once", bulk)
		}
	}
	if kept != n.links.kept {
		n.w.t.Fatalf("%d bytes are kept and %d counted", kept, n.links.kept)
	}
	var waiting int64
	for _, p := range n.links.parked {
		waiting += int64(len(p.b.Bytes))
	}
	if waiting > n.links.memory {
		n.w.t.Fatalf("%d bytes wait for a view", waiting)
	}
}
