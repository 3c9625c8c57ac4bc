package cluster

// Bus carries packets between the nodes of a fleet. A packet may be lost, come late, come twice, and overtake those of another sender. Its
// user is the bus side of a node.
type Bus interface {
	// Send hands over a packet for the mailbox of a name. It does not block and does not keep b.
	Send(name string, b []byte)
	// Announce hands over a packet for every other node, known or not.
	Announce(b []byte)
}
