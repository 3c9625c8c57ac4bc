// Package cluster makes one server of several processes. Every partition of package channel has one owner and, where there are two chat
// nodes, a follower, which has every change before anything leaves the owner. Whoever takes over knows all that anybody has seen.
//
// A node has two sides. They share nothing and talk by FIFOs of messages, so each is a plain state machine: a test turns it by hand, with
// virtual time.
//
//	        bus side: one goroutine a node                         loop side: one Holder a loop
//	bus ──► peers   who is heard, and hears us (hearing.go)
//	        maker   makes views, if it is this node's turn  ─────► Holder   owner, follower or joiner of partitions:
//	        links   numbered streams to and from peers      ◄────►          records, acks, seals, kept items
//	        desk    this node's requests and items, numbered ◄───► the loops with their sessions
//
// # Who owns a partition
//
// The newest View says it: owner, follower, joiner for each partition. There is no other rule and no hashing over nodes. A view has an id,
// and the id of the view that assigned the owner is the partition's epoch. Messages about a partition carry the epoch and are dropped
// under another one.
//
// # What is never lost
//
// The owner executes requests, sends the records and items of its decisions to its follower at the end of the turn, and keeps the items back
// until the follower has acknowledged them. Both keep an item until the node it is for has confirmed it. Requests are kept by the node they came from until
// their answer is there. A new owner sends again what is not confirmed, and nodes send it again what it has not executed; numbers on both
// ways (channel.Item.N, channel.Request.N) make twice into once.
package cluster
