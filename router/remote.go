package router

import (
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// A partition may be on another node. Then its inlet leads there (Config.Elsewhere, Place), and its items come back by Deliver. What partitions
// here decide for other nodes goes to Config.Outlets. How both travel is the business of package fleet.
//
// In a fleet no partition stays where it is: each loop's worker is lent to the fleet (Workers), which has it own or follow what the newest view
// says, on its loop (Run). Items come by Deliver wherever they were decided, and where messages may have been lost EndMembers tells it.

// Workers lends the loops' workers, by loop, to the fleet, which keeps back what they decide. They own nothing, as Config.Elsewhere says. Until the loops turn
// they may be used at once, and then by Run only. turned is called on each loop when it has carried out its mail. Called once, before the
// loops turn.
func (n *Node) Workers(turned func(loop int)) []*channel.Worker {
	workers := make([]*channel.Worker, len(n.loops))
	for i, l := range n.loops {
		workers[i], l.turned = l.worker, func() { turned(i) }
	}
	return workers
}

// Run has a loop run f, in order with what is delivered to it. weight is how many bytes f keeps alive. A panic costs only f. Safe from any
// goroutine.
func (n *Node) Run(loop, weight int, f func()) { n.loops[loop].postRun(weight, f) }

// Busy tells whether a loop has more to do, or to write, than it should. Safe from any goroutine.
func (n *Node) Busy(loop int) bool { return n.loops[loop].busy() }

// Sessions is how many connections there are, those that poll included. Safe from any goroutine.
func (n *Node) Sessions() int { return n.open() + n.pulls() }

// EndMembers ends all sessions that are in a room of these partitions or about to enter one; all that are in a room, if parts is nil. They are told
// why. What the loops know of those rooms is forgotten, so sessions that enter from now on have nothing to do with them. In order with what is
// delivered. Each loop looks at all of its sessions, once. Safe from any goroutine.
func (n *Node) EndMembers(parts []uint16, why string) {
	var named [channel.Partitions]bool
	for _, part := range parts {
		named[part] = true
	}
	for _, l := range n.loops {
		l.postRun(0, func() { l.endMembers(func(part uint16) bool { return parts == nil || named[part] }, why) })
	}
}

// endMembers is EndMembers on one loop. in tells of each partition whether it is meant.
func (l *loop) endMembers(in func(part uint16) bool, why string) {
	for _, r := range l.rooms.byID {
		if in(r.id.Partition()) {
			l.rooms.forget(r)
		}
	}
	l.np.Each(func(c *netpoll.Conn) {
		s := l.session(c)
		entering := s.x != nil && s.x.entering != "" && in(channel.Partition(s.x.entering[int(s.x.star)+1:]))
		if c := s.changing(); c != nil {
			entering = entering || in(channel.Partition(c.Room))
		}
		for r := range s.rooms() {
			entering = entering || in(r.id.Partition())
		}
		counted := slices.ContainsFunc(s.counted(), func(user string) bool { return in(channel.Partition(user)) })
		if s.phase != ended && (counted || entering) {
			l.kick(s, why)
		}
	})
}

// ID is the name and incarnation by which other nodes know this one.
func (n *Node) ID() channel.Node { return n.id }

// Place says that the owner of a partition is on another node, and is reached by in, which is safe from any goroutine. None of this node's loops
// owns it. Safe from any goroutine but a loop's.
func (n *Node) Place(part uint16, in channel.Inlet) {
	n.posting.Lock()
	defer n.posting.Unlock()
	next := *n.placement.Load()
	next[part] = place{inlet: in}
	n.placement.Store(&next)
}

// Deliver takes an item from a partition of another node, in the order in which it was posted for this one. Its Epoch must be the same as long as
// the partition's state goes on, whoever owns it: members of a room whose items have another one are ended, as messages were lost. It tells false, and counts the item,
// when that is for no loop of this node. Safe from any goroutine.
func (n *Node) Deliver(it channel.Item) bool {
	to := it.To.Outlet()
	if to.Node != n.id || int(to.Loop) >= len(n.loops) {
		n.misrouted.Add(1)
		return false
	}
	l, weight := n.loops[to.Loop], itemBytes(&it)
	l.mailBytes.Add(weight)
	l.mail.Post(mail{item: it, weight: weight})
	return true
}

// reaches tells whether there is an outlet with this name.
func (n *Node) reaches(id channel.OutletID) bool {
	if id.Node == n.id {
		return int(id.Loop) < len(n.loops)
	}
	return n.elsewhere != nil
}

// outlets finds the outlets of what runs on from.
func (n *Node) outlets(from *loop) func(channel.OutletID) channel.Outlet {
	return func(id channel.OutletID) channel.Outlet {
		switch {
		case !n.reaches(id):
			return nowhere{n}
		case id.Node == n.id:
			return &outlet{from: from, to: n.loops[id.Loop]}
		}
		return n.elsewhere(id)
	}
}

// nowhere is the outlet to a loop that is not there. What is posted to it is counted and dropped.
type nowhere struct{ node *Node }

// Post implements channel.Outlet.
func (o nowhere) Post(*channel.Item) { o.node.misrouted.Add(1) }

// Full implements channel.Outlet.
func (o nowhere) Full(channel.RoomID) bool { return false }

// Flush implements channel.Outlet.
func (o nowhere) Flush() {}
