package router

import "github.com/pomelod/pomelod/channel"

// A partition may be on another node. Then its inlet leads there (Config.Elsewhere, Place), and its items come back by Deliver; what others ask of
// partitions here comes by Execute, and is answered by Config.Outlets. How they travel is for whoever connects nodes.

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

// Deliver takes an item from a partition of another node, in the order in which it was posted for this one. It tells false, and counts the item,
// when that is for no loop of this node. Safe from any goroutine.
func (n *Node) Deliver(it channel.Item) bool {
	to := it.To.Outlet()
	if to.Node != n.id || int(to.Loop) >= len(n.loops) {
		n.strays.Add(1)
		return false
	}
	l, weight := n.loops[to.Loop], itemBytes(&it)
	l.mailBytes.Add(weight)
	l.mail.Post(mail{item: it, weight: weight})
	return true
}

// Execute has the owner of a partition here execute a request from another node. It tells false, and counts the request, when it is refused: its
// partition is not here, or it claims to be from a loop that this node does not have, so nobody could be answered. Safe from any goroutine.
func (n *Node) Execute(r channel.Request) bool {
	n.posting.RLock()
	defer n.posting.RUnlock()
	at := &n.placement.Load()[r.Part]
	if at.loop == nil || !n.reaches(r.From.Outlet()) {
		n.strays.Add(1)
		return false
	}
	at.inlet.Post(r)
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
func (o nowhere) Post(*channel.Item) { o.node.strays.Add(1) }

// Full implements channel.Outlet.
func (o nowhere) Full(channel.RoomID) bool { return false }

// Flush implements channel.Outlet.
func (o nowhere) Flush() {}
