package netpoll

import (
	"net/netip"
)

// ID names a conn for other goroutines: loop:8 | slot:24 | generation:32. It stays unique while the process lives, so
// a message to a conn that is gone finds nobody. 0 names nobody. A conn takes two generations. To open and close one takes a loop
// 20 µs and more, so to use up those of a slot takes half a day in which it does nothing else. Session ids in the hands of clients are
// made of these names (router/sid.go), so not even that may bring one back: such a slot is not used again.
type ID uint64

func newID(loop uint8, slot, gen uint32) ID {
	return ID(loop)<<56 | ID(slot&0xffffff)<<32 | ID(gen)
}

// Loop is the index of the loop that owns the conn.
func (id ID) Loop() uint8 { return uint8(id >> 56) }

func (id ID) slot() uint32 { return uint32(id>>32) & 0xffffff }
func (id ID) gen() uint32  { return uint32(id) }

// Reason says why a conn ended. Handlers number their own from ReasonHandler on.
type Reason uint8

// The reasons a loop itself closes a conn for.
const (
	// ReasonPeer: the peer closed its end.
	ReasonPeer Reason = iota
	// ReasonReset: the socket failed; reset, unreachable or timed out in the kernel.
	ReasonReset
	// ReasonSlow: it had more unsent bytes than Limits.Outbound, behind the write with which it fell behind.
	ReasonSlow
	// ReasonStuck: it had unsent bytes, and took none of them for Limits.Stuck.
	ReasonStuck
	// ReasonMemory: more than Limits.Buffered was buffered for all conns together, and most of it for this one.
	ReasonMemory
	// ReasonPanic: the handler panicked on this conn's bytes.
	ReasonPanic
	// ReasonMoved: its socket is another conn's now (Transfer). Not counted.
	ReasonMoved
	// ReasonTLS: the peer's TLS came to nothing: its handshake failed or took too long, or a record was not right.
	ReasonTLS
	// ReasonHandler is the first reason that is the handler's own.
	ReasonHandler
)

// Conn is one socket on a loop, or a peer that fetches (OpenPull). It is plain data, without closure, goroutine or timer, so that a slot can hold it
// and another process can be given it. Each part of the loop keeps its part of it. Owned by the loop; no method may be called elsewhere.
type Conn struct {
	// What a pass touches of a member comes first. It lies in one cache line at either place that 96 bytes have in lines of 64; out being
	// elsewhere, it was two lines, cold ones in all rooms but the busiest.
	fd      int32 // noSocket: see OpenPull
	life    life
	waits   waits
	watched Interest
	secured bool    // the peer speaks TLS (secures), or has begun to
	cut     uint64  // offset in the group's stream: everything before it has been written or queued
	out     *outbox // bytes staged or unsent; nil when there are none
	active  uint32  // tick of the last byte in either direction

	pos   uint32 // index in group.conns; while it lingers, how much has been read since
	group *Group
	in    *inbox // what is kept of what was received; nil when nothing is

	slot       uint32
	gen        uint32
	due        uint32 // tick at which Handler.Due is called; 0: never
	filed      uint32 // tick of the wheel slot this conn is linked in; 0: none
	next, prev uint32 // links in that slot: slot number + 1

	peer     [16]byte
	peerPort uint16
	tag      uint8
	reason   Reason // why it ends, from lifeEnding on
	pass     Pass
}

// ID is the name by which other goroutines can reach the conn through its loop's mail.
func (c *Conn) ID(l *Loop) ID { return newID(l.index, c.slot, c.gen) }

// Slot is the conn's index on its loop, so that a handler can keep what belongs to the conn in an array of its own. Another conn has it after this one
// has been closed. Slots are numbered from 0; a loop has as many as it has had conns at a time, and at most 255 more.
func (c *Conn) Slot() uint32 { return c.slot }

// Tag is the tag of the listener that accepted the conn.
func (c *Conn) Tag() uint8 { return c.tag }

// Peer is the address of the other end.
func (c *Conn) Peer() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(c.peer).Unmap(), c.peerPort)
}

// Active is the tick (Loop.Now) at which a byte last passed in either direction.
func (c *Conn) Active() uint32 { return c.active }
