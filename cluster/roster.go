package cluster

import "fmt"

// Peer is a node as another one sees it, or itself.
type Peer struct {
	Name    string
	Run     uint64
	Roles   Roles
	Host    string // Config.Host of that node
	Address string // Config.Address of that node
	Load    uint64 // sessions

	Member   bool   // of the view
	Maker    bool   // of the view
	View     uint64 // number of the newest that it has said to have; 0: none
	Draining bool
	Held     bool  // it does not hear the fleet well enough to judge others, or is suspended
	Silent   int64 // for how long nothing was heard of it, in ns; 0 of itself

	Owned, Followed int // partitions, by the view
}

// Peers are this node, all members of its view, and whoever else lives on the bus and may become one, in no order.
func (n *Node) Peers() (list []Peer) {
	self := Peer{Name: n.config.Name, Run: n.peers.self.Run, Roles: n.config.Roles, Host: n.config.Host, Address: n.config.Address, Load: n.load,
		Draining: n.draining, Held: n.Suspended() || n.peers.deaf(n.now)}
	if n.view != nil {
		self.View = n.view.ID.View
	}
	list = append(list, self)
	for _, x := range n.peers.list {
		if leaves := x.said != nil && x.said.Draining; (leaves || !x.alive(n.now)) && (n.view == nil || !n.view.is(x.runID)) {
			continue // it has ended, or is about to
		}
		p := Peer{Name: x.Name, Run: x.Run, Silent: n.now - x.heard}
		if h := x.said; h != nil {
			p.Roles, p.Host, p.Address, p.Load, p.Draining, p.Held, p.View = h.Roles, h.Host, h.Address, h.Load, h.Draining, h.Deaf, h.View.View
		}
		list = append(list, p)
	}
	if n.view == nil {
		return list
	}
	at := make(map[uint16]*Peer)
	for i := range list {
		p := &list[i]
		number := n.view.number(p.Name)
		if p.Member = number != None && n.view.run(number) == p.Run; p.Member {
			at[number] = p
			p.Maker = n.view.ID.Maker.Number() == number
			p.Roles, p.Host = n.view.Names[number-1].Roles, n.view.Names[number-1].Host
		}
	}
	for i := range n.view.Shares {
		s := &n.view.Shares[i]
		if p := at[s.Owner]; p != nil {
			p.Owned++
		}
		for _, number := range [...]uint16{s.Follower, s.Joiner} {
			if p := at[number]; p != nil {
				p.Followed++
			}
		}
	}
	return list
}

// Takers is how many other members may be given partitions: chat nodes that live and do not drain.
func (n *Node) Takers() (count int) {
	if n.view == nil {
		return 0
	}
	for _, x := range n.peers.list {
		if x.alive(n.now) && x.said != nil && !x.said.Draining && x.said.Roles&RoleChat != 0 && n.view.is(x.runID) {
			count++
		}
	}
	return count
}

// Retire asks a member of the view, or this node, to end in order. It is one packet, which may be lost: who wants to be sure asks again until the node
// drains.
func (n *Node) Retire(name string) error {
	if name == n.config.Name {
		n.retired = name
		return nil
	}
	if n.view != nil {
		if run := n.view.run(n.view.number(name)); run != 0 {
			n.send(name, &retire{Run: run})
			return nil
		}
	}
	return fmt.Errorf("no node %q is in this fleet", name)
}

// Retired is the name of the node by which this one was asked to end in order; empty: it was not.
func (n *Node) Retired() string { return n.retired }
