// Package router turns bytes into requests and decisions into bytes. Its Node ties the loops of package netpoll to the
// partitions of package channel: a session's messages are parsed in place, routed to a handler, and become Requests to
// the partition of the room; what partitions decide comes back as Items and is written to groups and conns.
//
// Everything of a session belongs to the loop of its conn. The life of a request:
//
//	loop.Data                 bytes → the session's protocol, in place
//	protocol.go               the table of protocols: what a client may speak, a value and a file (proto_*.go) each
//	access.go                 who may connect: addresses, trusted proxies, origins (origins.go)
//	websocket.go, packets.go  what several protocols have in common: frames, packets
//	pull.go, polling.go       sessions whose clients poll: which request waits for what, and how it is answered
//	follow.go, export.go      sessions that move to the loop of the room they enter
//	dispatch.go               message → route → handler; waits when order demands it
//	placement.go              Request to the inlet of the room's partition, inline when it runs on this loop, else by mail
//	move.go                   partitions that change their loop; ask.go: programs and operators that wait for an answer
//	apply (loop.go)           the partition's Items: pushes to rooms (room.go), answers to sessions (session.go)
package router
