// Package fleet joins a process to a fleet: the loops of a router.Node, with their sessions and workers, to a cluster.Node, and that to a bus.
//
//	sessions ─ Inlet ─►┐                                          ┌─► Deliver ─► sessions
//	                   ├─ mailbox ─► cluster.Node ◄─► bus         │
//	Holders ───────────┘   (one goroutine)  └── one FIFO a loop ──┴─► Holders, on the loops of their workers
//
// A node has one Holder for each loop, and a partition runs on loop number partition mod loops, so that a busy backend uses all of them. One
// Holder a node would have needed no placement; but then one loop would decide for all rooms of a chat node, which is what limits it first.
// Everything that goes over the bus passes one goroutine, which encodes and does not decide: there is one message for each node and decision,
// and not one for each member.
//
// # What is bounded
//
// Requests on their way to the goroutine are refused beyond Config.Inbox (channel.Inlet.Full), what Holders send beyond maxOut keeps new
// requests from being admitted (channel.Keeper.Full), and packets of the bus beyond maxPackets are dropped, as a bus may do: links send
// them again. What is delivered to a loop counts in its mail; while a loop is busy the node confirms nothing, so owners stop admitting once a
// window of items is on its way. Nor do they admit what a follower would have to be told by a link that is full.
//
// # Another process
//
// In an upgrade all of this goes on in another process, as the same node (handover.go).
//
// A process without a fleet has none of this, and pays nothing for it.
package fleet
