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
