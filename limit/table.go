package limit

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
)

// PerAddress is what one address may have and do. Zero values are no limits. An address is an IPv4 address, or the first 64
// bits of an IPv6 address: whoever has one of those has all 2^64 behind it.
type PerAddress struct {
	Conns      int  // connections at a time, and sessions that poll
	Connects   Rate // connections
	Handshakes Rate
}

// None tells whether nothing is limited.
func (p *PerAddress) None() bool { return p.Conns == 0 && p.Connects.None() && p.Handshakes.None() }

// Verdict says whether something may be done, or what forbids it.
type Verdict uint8

// The verdicts.
const (
	Granted  Verdict = iota
	TooMany          // the address has PerAddress.Conns already
	TooOften         // more than PerAddress.Connects or Handshakes
)

// Ref names what a connection is counted under. 0 names nothing.
type Ref uint32

// MaxAddresses is how many addresses NewTable's caller normally lets a table tell apart: some 6 MB when all are in use.
const MaxAddresses = 65_536

// sharedEntries are for addresses beyond those that a table tells apart. Such an address shares one with those few whose
// keyed hash falls together with its own: still limited, and nobody can choose whose share to use up. To lock out all
// newcomers takes as many refusing entries, that is, at PerAddress.Conns each, more connections than a process has.
const sharedEntries = 1024

// Table counts for each address. An address that has no connection and has got all its tokens back is forgotten, as it is no
// different from one never seen. When there are too many addresses, the one without connections that was longest not heard
// of is forgotten early; when all have connections, newcomers share entries.
//
// Safe from any goroutine: one mutex, held for a look-up and a few additions. It is not divided, because it is asked once or
// twice in a connection's life and never for a message: at 30,000 connections a second it is held for about a hundredth of the
// time, and one list tells exactly which address was longest not heard of.
type Table struct {
	// Static after construction.
	limits PerAddress
	most   int // entries besides the shared ones
	seed   maphash.Seed

	mu      sync.Mutex
	index   map[uint64]uint32 // guarded by mu, as the rest: key → entry
	entries []entry           // 0 is the head of the idle list, then the shared ones, then addresses
	free    uint32            // list of unused entries, by next
	shared  uint64            // how often a shared entry was used
	conns   int
}

// entry is what is known of an address.
type entry struct {
	key        uint64
	connects   Bucket
	handshakes Bucket
	conns      uint32
	prev, next uint32 // in the idle list, oldest first: entries without connections; the shared ones are never in it
}

// NewTable makes a table that tells at most so many addresses apart.
func NewTable(limits PerAddress, addresses int) *Table {
	return &Table{
		limits: limits, most: addresses, seed: maphash.MakeSeed(),
		index: make(map[uint64]uint32), entries: make([]entry, 1+sharedEntries),
	}
}

// Connect is asked for each new connection. With Granted it counts until Leave.
func (t *Table) Connect(addr netip.Addr, now int64) (Ref, Verdict) {
	return t.enter(addr, t.limits.Connects, now)
}

// Hold is Connect for what is no new connection but lasts like one: a session that polls.
func (t *Table) Hold(addr netip.Addr, now int64) (Ref, Verdict) {
	return t.enter(addr, Rate{}, now)
}

func (t *Table) enter(addr netip.Addr, rate Rate, now int64) (Ref, Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(keyOf(addr), now)
	e := &t.entries[i]
	switch {
	case t.limits.Conns > 0 && int(e.conns) >= t.limits.Conns:
		return 0, TooMany
	case !e.connects.Take(rate, now):
		return 0, TooOften
	}
	if e.conns++; e.conns == 1 && i > sharedEntries {
		t.unlink(i)
	}
	t.conns++
	return Ref(i), Granted
}

// Handshake is asked for each handshake.
func (t *Table) Handshake(addr netip.Addr, now int64) Verdict {
	if t.limits.Handshakes.None() {
		return Granted
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.entries[t.find(keyOf(addr), now)].handshakes.Take(t.limits.Handshakes, now) {
		return TooOften
	}
	return Granted
}

// Leave ends what Connect or Hold granted; exactly once for each.
func (t *Table) Leave(ref Ref, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := uint32(ref)
	e := &t.entries[i]
	e.conns--
	t.conns--
	if e.conns == 0 && i > sharedEntries {
		t.link(i)
	}
	t.forget(now)
}

// Figures are a table's at one time.
type Figures struct {
	Addresses int    // known now
	Conns     int    // granted and not ended
	Shared    uint64 // times since the start that an address had to share an entry
}

// Figures tells what there is, and forgets whom it can.
func (t *Table) Figures(now int64) Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := t.entries[0].next; i != 0; {
		next := t.entries[i].next
		if t.entries[i].idle(now) {
			t.drop(i)
		}
		i = next
	}
	return Figures{Addresses: len(t.index), Conns: t.conns, Shared: t.shared}
}

// idle tells whether an entry without connections is as good as a new one.
func (e *entry) idle(now int64) bool { return e.connects.Full(now) && e.handshakes.Full(now) }

// find is the entry for an address, made if need be. One without connections counts as just heard of.
func (t *Table) find(key uint64, now int64) uint32 {
	if i, ok := t.index[key]; ok {
		if t.entries[i].conns == 0 {
			t.unlink(i)
			t.link(i)
		}
		return i
	}
	t.forget(now)
	i := t.unused()
	if i == 0 {
		t.shared++
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], key)
		return 1 + uint32(maphash.Bytes(t.seed, b[:])%sharedEntries)
	}
	t.entries[i] = entry{key: key}
	t.index[key] = i
	t.link(i)
	return i
}

// unused is an entry to use: one that was free, a new one, or the one that was longest not heard of. 0: all have connections.
func (t *Table) unused() uint32 {
	if i := t.free; i != 0 {
		t.free = t.entries[i].next
		return i
	}
	if len(t.entries) < 1+sharedEntries+t.most {
		t.entries = append(t.entries, entry{})
		return uint32(len(t.entries) - 1)
	}
	if oldest := t.entries[0].next; oldest != 0 {
		t.drop(oldest)
		t.free = t.entries[oldest].next
		return oldest
	}
	return 0
}

// forget drops the entries that were longest not heard of, if nothing would be lost: two for each that may have been added,
// so they cannot pile up, and no call has much to do.
func (t *Table) forget(now int64) {
	for range 2 {
		oldest := t.entries[0].next
		if oldest == 0 || !t.entries[oldest].idle(now) {
			return
		}
		t.drop(oldest)
	}
}

func (t *Table) drop(i uint32) {
	t.unlink(i)
	delete(t.index, t.entries[i].key)
	t.entries[i].next = t.free
	t.free = i
}

// link puts an entry at the end of the idle list.
func (t *Table) link(i uint32) {
	head := &t.entries[0]
	t.entries[i].prev, t.entries[i].next = head.prev, 0
	t.entries[head.prev].next = i
	head.prev = i
}

func (t *Table) unlink(i uint32) {
	e := &t.entries[i]
	t.entries[e.prev].next = e.next
	t.entries[e.next].prev = e.prev
}

// keyOf is what an address is counted under. IPv4 addresses are kept where no IPv6 network is: 0:ffff::/32 is in the
// reserved block ::/8.
func keyOf(addr netip.Addr) uint64 {
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		return 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:8])
}
