package fleet

import (
	"log/slog"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// home is what the bus side of the node tells the rest of the process. All of it goes by the loops' mail, so each loop has it in order.
type home Fleet

// whyRestarted is what members are told whose node the fleet has gone on without.
const whyRestarted = "this server was cut off from the others; please enter again"

// Adopt implements cluster.Home.
func (h *home) Adopt(v *cluster.View, self channel.Node) {
	for _, s := range h.sides {
		h.loops.Run(s.loop, 0, func() { s.adopt(v, self) })
	}
}

// Message implements cluster.Home. A node without partitions is asked for none but by who does not know it yet, and will ask again.
func (h *home) Message(from channel.Node, m *cluster.Message) {
	if len(h.sides) == 0 {
		return
	}
	s := h.sides[int(m.Part)%len(h.sides)]
	h.loops.Run(s.loop, weightOf(m), func() { s.holder.Receive(from, m) })
}

// Items implements cluster.Home. The fleet knows sessions by the number and run that the view gives this node, and the loops by a name that
// never changes. Loops take another epoch for a loss; it is one only if the partition was born anew, so they are told its birth.
func (h *home) Items(part uint16, items []channel.Item) {
	h.endLost() // whose places these may be of
	born := h.node.View().Shares[part].Born
	for i := range items {
		it := items[i]
		it.To.Node, it.Epoch = h.local, born
		h.loops.Deliver(it)
	}
}

// Lost implements cluster.Home. When an owner and its follower are lost at once hundreds of partitions are, and each loop looks at all of its sessions to end their members: so that is done for all of them together.
func (h *home) Lost(part uint16, why string) {
	if why != h.why {
		h.endLost()
	}
	h.lost, h.why = append(h.lost, part), why
}

// endLost ends the members of partitions that are lost.
func (h *home) endLost() {
	if len(h.lost) > 0 {
		h.loops.EndMembers(h.lost, h.why)
		h.lost = nil
	}
}

// refusals are the answers to what the fleet refuses, by whether it may have happened, for an enter and for anything else.
var refusals = map[bool][2][]byte{
	false: {channel.EnterNotSent, channel.NotSent},
	true:  {channel.EnterUnknown, channel.Unknown},
}

// whyUnknown is what somebody is told of whom it is not known which name they have.
const whyUnknown = "it is not known whether your name was changed; please enter again"

// Refused implements cluster.Home. Who may have entered leaves again. Who may have changed the name has to enter anew: the leaves of both names
// follow with the end of the session. Who may have been counted (OpClaim) says by itself that this is over: it may have gone on, and be counted anew by now.
func (h *home) Refused(r *channel.Request, sent bool) {
	entering := r.Op == channel.OpEnter
	to := channel.Addr{Node: h.local, Ref: r.From.Ref}
	if sent && entering && r.Prev != "" {
		h.loops.Deliver(channel.Item{Kind: channel.ItemKick, Part: r.Part, To: to, Body: []byte(whyUnknown)})
		return
	}
	if sent && entering {
		h.leaves = append(h.leaves, channel.Request{Op: channel.OpLeave, Part: r.Part, From: r.From, Room: r.Room, User: r.User, Handed: channel.Unheard})
	}
	if r.Req == 0 {
		return
	}
	body := refusals[sent][1]
	if entering {
		body = refusals[sent][0]
	}
	h.loops.Deliver(channel.Item{Kind: channel.ItemReply, Part: r.Part, Req: r.Req, To: to, Body: body})
}

// Restart implements cluster.Home.
func (h *home) Restart(channel.Node) {
	h.run++
	run := h.run
	h.lost = nil // all are ended
	for _, s := range h.sides {
		h.loops.Run(s.loop, 0, func() { s.restart(run) })
	}
	h.loops.EndMembers(nil, whyRestarted)
}

// turned ends each slice of a loop's mail. Runs on the loop.
func (f *Fleet) turned(loop int) {
	if len(f.sides) > 0 {
		f.sides[loop].holder.Flush()
	}
}

// report publishes what has changed.
func (f *Fleet) report() {
	old := f.status.Load()
	s := *old
	s.Self, s.Suspended, s.Dropped, s.Err = f.node.Self(), f.node.Suspended(), f.dropped.Load(), f.node.Err()
	s.Takers, s.Stuck, s.Odd = f.node.Takers(), f.stuck.Load(), f.node.Odd()
	s.Suspended = s.Suspended || s.Stuck
	if s.Odd != old.Odd && s.Odd.Name != "" {
		slog.Warn("a node of this fleet has other settings; give all nodes the same -auth, -sessions and -names. Until then who began last is not ready",
			"other", s.Odd.Name, "there", s.Odd.Terms, "here", f.cfg.Cluster.Terms)
	}
	if v := f.node.View(); v != nil && (v != f.view || s.Self != old.Self) {
		f.view = v
		s.count(v)
	}
	if s != *old {
		f.status.Store(&s)
	}
}

// count counts what a view says.
func (s *Status) count(v *cluster.View) {
	s.View, s.Members, s.Owned, s.Followed, s.Unguarded = v.ID, 0, 0, 0, 0
	for i := range v.Names {
		if v.Names[i].Run != 0 {
			s.Members++
		}
	}
	for i := range v.Shares {
		b := &v.Shares[i]
		switch number := s.Self.Number(); {
		case s.Self == 0:
		case b.Owner == number:
			s.Owned++
		case b.Follower == number || b.Joiner == number:
			s.Followed++
		}
		if b.Follower == cluster.None {
			s.Unguarded++
		}
	}
}
