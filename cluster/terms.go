package cluster

// Some settings must be alike on all nodes of a fleet, such as who may log in: what one node refuses another would let in. Nodes tell each other in their
// heartbeats, as text that only operators read, and compare. Nobody is put out of the fleet for it: whoever began later says that it is not ready.

// Odd is a node whose Terms are not those of this one.
type Odd struct {
	Name  string // empty: there is none
	Terms string
	Older bool // it began before this one
}

// Odd is the first node, by name, that lives, does not drain and has other Terms; of those that began before this one, if there are any. Nodes of versions
// that tell none are left out.
func (n *Node) Odd() (odd Odd) {
	for _, x := range n.peers.list {
		if x.said == nil || x.said.Terms == "" || x.said.Terms == n.config.Terms || x.said.Draining || !x.alive(n.now) {
			continue
		}
		if older := x.Run < n.peers.self.Run; odd.Name == "" || older && !odd.Older {
			odd = Odd{Name: x.Name, Terms: x.said.Terms, Older: older}
		}
	}
	return odd
}
