package cluster

import (
	"slices"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// However much is asked in a turn, a partition has one message of records, one acknowledgement, and one message of items to each node.
func TestGroupCommit(t *testing.T) {
	f := populated(t)
	clear(f.posted)
	var at3, at2 []string
	for range 50 {
		f.send(3, 1, "a", "one")
		f.send(3, 2, "b", "two")
		at3 = append(at3, chat("a", "one"), `1 {}`, chat("b", "two"), `2 {}`)
		at2 = append(at2, chat("a", "one"), chat("b", "two"))
	}
	f.settle()
	f.want(3, at3...)
	f.want(2, at2...)
	f.answered()
	f.same(1, 2)
	for kind, n := range map[Kind]int{KindRequest: 100, KindRecords: 1, KindAck: 1, KindItems: 2} {
		if f.posted[kind] != n {
			t.Errorf("%d messages of kind %d, want %d", f.posted[kind], kind, n)
		}
	}
}

// What one turn decides is not sent in one message without a bound.
func TestLongTurn(t *testing.T) {
	f := populated(t)
	clear(f.posted)
	for range 2 * maxPending / 3 {
		f.send(3, 1, "a", "one")
	}
	f.settle()
	if n := f.posted[KindRecords]; n < 3 || n > 10 {
		t.Errorf("%d messages of records", n)
	}
	f.answered()
	f.same(1, 2)
}

// A new owner's first word to a node does not count requests whose decisions are not released: if it dies too, who comes next has not executed
// them, and the node must send them again.
func TestServeCountsWhatIsReleased(t *testing.T) {
	f := populated(t)
	f.change(func(s *Share, id ViewID) { *s = Share{Owner: 2, Epoch: id, Born: s.Born} })
	f.settle()
	f.join(1)
	f.follow() // and nobody on 3 has had an item of this owner
	f.nodes[2].holder.parts[thePart].owner.served = nil
	f.send(3, 1, "a", "one")
	f.round()
	f.shut[[2]int{1, 2}] = true // acknowledgements
	f.round()
	f.send(3, 2, "b", "two")
	f.settle()
	acks := f.queues[[2]int{1, 2}]
	if len(acks) != 2 {
		t.Fatalf("%d acks", len(acks))
	}
	f.queues[[2]int{1, 2}] = nil
	f.nodes[2].deliver(f.nodes[1].node(), acks[0].m) // the first is released, the second is not
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	if n := len(f.nodes[3].desk.parts[thePart].requests); n != 1 {
		t.Errorf("node 3 waits for %d answers", n)
	}
	f.shut = map[[2]int]bool{}
	f.nodes[2].deliver(f.nodes[1].node(), acks[1].m)
	f.settle()
	f.want(3, chat("b", "two"), `2 {}`)
	f.answered()
}

// Holders of two loops have their partitions, and leave those of others alone.
func TestOnly(t *testing.T) {
	f := newFleet(t, 2)
	for mine := range 2 {
		var posted []*Message
		h := NewHolder(channel.NewWorker(nil), func(_ channel.Node, m *Message) { posted = append(posted, m) })
		h.Only(func(part uint16) bool { return int(part)%2 == mine })
		f.change(func(*Share, ViewID) {})
		v := *f.view
		v.Shares = slices.Clone(v.Shares)
		for i := range v.Shares {
			v.Shares[i] = Share{Owner: 1, Joiner: 2, Epoch: v.ID, Born: v.ID, Joining: v.ID}
		}
		h.Adopt(&v, f.nodes[1].node())
		h.Flush()
		for part := range v.Shares {
			if owns := h.worker.Owns(uint16(part)); owns != (part%2 == mine) {
				t.Fatalf("Holder %d owns partition %d: %v", mine, part, owns)
			}
		}
		for _, m := range posted {
			if int(m.Part)%2 != mine {
				t.Fatalf("Holder %d sends kind %d of partition %d", mine, m.Kind, m.Part)
			}
		}
		if len(posted) != channel.Partitions/2 {
			t.Errorf("%d snapshots", len(posted))
		}
	}
}

// A node that has seen items of an owner whose state is lost may confirm them to the next one, before it hears of it. What that one decides then is kept for the node until it is confirmed, as for
// any other, and is not counted for ever: it was counted and not kept, so that the node's window was full in the end, and nothing was admitted for it any more.
func TestConfirmOfItemsThatAreLost(t *testing.T) {
	for _, decided := range []bool{false, true} { // whether something is decided by then that no message has yet
		f := newFleet(t, 2)
		f.owned(None, None)
		h, from, epoch := f.nodes[1].holder, f.nodes[2].node(), f.view.Shares[thePart].Epoch
		unconfirmed := func() int64 { return h.tallyOf(from).all.bytes.Load() }
		confirm := func(out uint64) {
			h.Receive(from, &Message{Kind: KindConfirm, Part: thePart, Epoch: epoch, Out: out})
		}
		enter := func(n uint64, user string) {
			r := channel.Request{Op: channel.OpEnter, Part: thePart, N: n, Req: 1, From: channel.Addr{Node: from, Ref: channel.Ref(n)}, Room: "r", User: user}
			h.Receive(from, &Message{Kind: KindRequest, Part: thePart, Epoch: epoch, Request: r})
		}
		if decided {
			enter(1, "a")
		}
		confirm(500)
		h.Flush()
		if n := unconfirmed(); n != 0 {
			t.Errorf("decided=%v: %d bytes count of what is confirmed", decided, n)
		}
		enter(map[bool]uint64{false: 1, true: 2}[decided], "b")
		h.Flush()
		p := h.parts[thePart]
		if items := p.keptItems(); len(items) == 0 || unconfirmed() == 0 {
			t.Errorf("decided=%v: %d items are kept, and %d bytes count", decided, len(items), unconfirmed())
		}
		_, out := h.worker.Counters(thePart, from)
		confirm(out)
		if items := p.keptItems(); len(items) != 0 || unconfirmed() != 0 || h.window.all.Load() != 0 {
			t.Errorf("decided=%v: confirmed, %d items are kept, and %d bytes count", decided, len(items), unconfirmed())
		}
	}
}

// The same word goes on to who follows, for as much as is true: it was told of more than there was, kept nothing of what was decided next, and had nothing to send when the owner died.
func TestFollowerOfConfirmedItemsThatAreLost(t *testing.T) {
	f := newFleet(t, 3)
	f.owned(2, None)
	owner, node := f.nodes[1], f.nodes[3].node()
	owner.holder.Receive(node, &Message{Kind: KindConfirm, Part: thePart, Epoch: f.view.Shares[thePart].Epoch, Out: 500})
	f.settle()
	f.shut[[2]int{1, 3}] = true
	f.enter(3, 1, "a")
	f.settle()
	f.kill(1)
	f.promote()
	f.settle()
	f.want(3, `1 {"users":["a"]}`)
	f.answered()
}
