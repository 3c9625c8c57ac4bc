package cluster

import "fmt"

// The first that the others hear of a run ends an older run of its name, so that a process that was killed is replaced at once. Another process that
// is given a name in use must not end who has it. So a run asks for a namesake before it greets anybody: it sends an ask to its own name, numbered with
// its run. Who is a member answers, and so does who began earlier. An answer is the word of a namesake that lived after the run
// began, as no packet that came late can be.

const (
	probeFor   = 300 * ms // a run asks for a namesake for so long, in ns
	probeEvery = 100 * ms
)

// probing asks for a namesake as long as that is due, and tells whether it is.
func (n *Node) probing() bool {
	if n.probeTill == 0 {
		return false
	}
	if n.away { // it would not hear the answer
		n.probeTill = n.now + probeFor
		return true
	}
	if n.now >= n.probeTill {
		n.probeTill = 0
		return false
	}
	if n.now >= n.probeAt {
		n.probeAt = n.now + probeEvery
		n.send(n.config.Name, &ask{Number: n.peers.self.Run})
	}
	return true
}

// probe begins to ask for a namesake.
func (n *Node) probe() { n.probeTill, n.probeAt = n.now+probeFor, 0 }

// namesake takes a packet of another run under the node's name.
func (n *Node) namesake(from runID, b body) {
	switch b := b.(type) {
	case *ask:
		if n.Self() != 0 || n.peers.self.Run < from.Run {
			n.send(from.Name, &answer{Number: b.Number})
		}
	case *answer:
		if b.Number == n.peers.self.Run && n.probeTill != 0 {
			n.err = fmt.Errorf("another process is node %q of this fleet: stop it, or give this one a name of its own", n.config.Name)
		}
	}
}

// Err tells why the node has ended, nil if it has not: a namesake is alive, or the fleet speaks no version that this node does. It does nothing any more; its
// process should say so and exit.
func (n *Node) Err() error { return n.err }

// Drained tells whether a node that drains has no part in any partition any more: it can end, and no room notices.
func (n *Node) Drained() bool {
	self := n.Self()
	if self == 0 || !n.draining {
		return false
	}
	number := self.Number()
	for i := range n.view.Shares {
		if s := &n.view.Shares[i]; s.Owner == number || s.Follower == number || s.Joiner == number {
			return false
		}
	}
	return true
}
