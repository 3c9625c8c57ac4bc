package cluster

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// What is said under any other epoch than the view's is fenced, whatever its number: an epoch is the id of a view, and of two views with one number, or of
// one that this node has not come to, none is its own. So is what somebody says who is not the owner.
func TestDeskFencesEveryOtherEpoch(t *testing.T) {
	f := newFleet(t, 3)
	f.owned(None, None)
	f.enter(3, 1, "a")
	f.settle()
	f.forgetLogs()
	d, owner, other := f.nodes[3].desk, f.nodes[1].node(), f.nodes[2].node()
	epoch := f.view.Shares[thePart].Epoch
	last := d.parts[thePart].last
	messages := func(epoch ViewID) []*Message {
		item := channel.Item{Kind: channel.ItemReply, Part: thePart, N: last + 1, Req: 1, To: channel.Addr{Node: f.nodes[3].node(), Ref: 1}, Body: []byte("{}")}
		return []*Message{
			{Kind: KindItems, Part: thePart, Epoch: epoch, In: 1, Items: []channel.Item{item}},
			{Kind: KindServe, Part: thePart, Epoch: epoch, In: 1, Out: last + 7, Index: last + 7},
		}
	}
	for _, tc := range []struct {
		name  string
		from  channel.Node
		epoch ViewID
	}{
		{"an earlier epoch", owner, ViewID{View: epoch.View - 1, Maker: epoch.Maker}},
		{"a later epoch", owner, ViewID{View: epoch.View + 1, Maker: epoch.Maker}},
		{"the same number of another maker", owner, ViewID{View: epoch.View, Maker: other}},
		{"a later epoch of another maker", other, ViewID{View: epoch.View + 1, Maker: other}},
		{"the owner's epoch in the mouth of another node", other, epoch},
	} {
		for _, m := range messages(tc.epoch) {
			before := d.stats.Fenced
			d.receive(tc.from, m)
			if d.stats.Fenced != before+1 || d.parts[thePart].last != last {
				t.Errorf("%s: kind %d fenced %d times, the last item is %d", tc.name, m.Kind, d.stats.Fenced-before, d.parts[thePart].last)
			}
		}
		f.want(3)
	}
	d.receive(owner, messages(epoch)[0])
	f.want(3, "1 {}")
	if d.stats.Fenced != 10 {
		t.Errorf("fenced %d times", d.stats.Fenced)
	}
}

// A desk whose requests have no answer looks at each a few times, however many there are and however long that takes: when it is asked, when it gives them up, and when there is another owner.
// It looked at all of them with each request, and in each turn.
func TestDeskLooksAtRequestsFewTimes(t *testing.T) {
	const many, turns = 5000, 1000
	for _, tc := range []struct {
		name  string
		held  bool
		after int64 // when they are given up
	}{
		{"the owner says nothing", false, 5000 * ms},
		{"it is not known whether the node was replaced", true, heldWait},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet(t, 2)
			f.owned(None, None)
			f.settle()
			p := f.nodes[2]
			d, refused, sent := p.desk, 0, 0
			p.onRefused = func(*channel.Request, bool) { refused++ }
			d.post = func(channel.Node, *Message) { sent++ }
			d.hold(tc.held)
			for i := range many {
				r := channel.Request{Op: channel.OpSend, Part: thePart, Room: "r", User: "u", From: channel.Addr{Ref: 1}}
				if i%5 == 0 {
					r.Op = channel.OpLeave // stays in between
				}
				if err := d.request(&r, int64(i)); err != nil {
					t.Fatal(err)
				}
				if i%5 == 0 {
					d.turn(int64(i))
				}
			}
			d.turn(tc.after)
			if refused != 0 {
				t.Errorf("%d are given up at once", refused)
			}
			for i := range turns {
				d.turn(tc.after + many + int64(i))
			}
			if refused != many*4/5 {
				t.Errorf("%d are given up", refused)
			}
			d.hold(false)
			if sent != many {
				t.Errorf("%d are sent", sent)
			}
			f.change(func(s *Share, id ViewID) { s.Epoch = id })
			if sent != 2*many {
				t.Errorf("%d are sent, the second time included", sent)
			}
			if most := 4*many + 4*turns; d.looks > most {
				t.Errorf("it looked %d times at %d requests, at most %d are expected", d.looks, many, most)
			}
		})
	}
}
