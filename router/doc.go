// Package router turns bytes into requests and decisions into bytes. Its Node ties the loops of package netpoll to the
// partitions of package channel: a session's messages are parsed in place, routed to a handler, and become Requests to
// the partition of the room; what partitions decide comes back as Items and is written to groups and conns.
//
// Everything of a session belongs to the loop of its conn. The life of a request:
//
//	loop.Data (transport.go)  bytes → packages, in place
//	access.go                 who may connect: addresses, trusted proxies, origins (origins.go)
//	http.go                   or HTTP requests, each to the endpoint of its path: gate, files (files.go), socket.io
//	hybrid.go                 the package state machine: handshake, ack, heartbeat, data
//	socketio.go               what the socket.io generations have in common; engineio.go and sio09.go are theirs alone
//	pull.go                   sessions whose clients poll, and their change to a WebSocket
//	follow.go                 sessions that move to the loop of the room they enter
//	dispatch.go               message → route → handler; waits when order demands it
//	placement.go              Request to the inlet of the room's partition, inline when it runs on this loop, else by mail
//	move.go                   partitions that change their loop; ask.go: who waits for an answer and is no session
//	apply (loop.go)           the partition's Items: pushes to rooms (room.go), answers to sessions (session.go)
package router
