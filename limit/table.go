package limit

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

// PerAddress is what one address may have and do. A field that is 0 sets no limit. network.go says what counts as one address, and what
// the networks around an IPv6 address may have.
type PerAddress struct {
	Conns      int  // open connections and polling sessions
	Connects   Rate // new connections
	Handshakes Rate // sessions begun
	Requests   Rate // HTTP requests
	Handlers   int  // calls of an App that run at the same time, of each Kind

	// All is how many connections the server takes, and AllHandlers how many calls of each Kind: a network never gets all of them. 0 if
	// not known.
	All, AllHandlers int
}

// None reports whether p sets no limit at all.
func (p *PerAddress) None() bool {
	return p.Conns == 0 && p.Connects.None() && p.Handshakes.None() && p.Requests.None() && p.Handlers == 0
}

// Kind is a kind of App calls, numbered from 0. Each kind has a share of its own.
type Kind uint8

// Kinds is the number of kinds.
const Kinds = 2

// Verdict is the answer to a client that wants something.
type Verdict uint8

// The verdicts.
const (
	Granted  Verdict = iota // it may go on
	TooMany                 // refused: the address has as many as PerAddress.Conns or Handlers
	TooOften                // refused: the address exceeds PerAddress.Connects, Handshakes or Requests
)

// Ref is the entry of a Table that a connection counts under. 0 is no entry.
type Ref uint32

// MaxAddresses is how many addresses and networks a server tells apart: about 8 MB when all are in use (NewTable).
const MaxAddresses = 65_536

// sharedEntries are for addresses beyond those that a table tells apart. Such an address shares one with those few whose
// keyed hash falls together with its own: still limited, and nobody can choose whose share to use up. To lock out all
// newcomers takes as many refusing entries, that is, at PerAddress.Conns each, more connections than a process has.
const sharedEntries = 1024

// Table counts what each address, and each network around it, has and does. It has an entry for each of them. An entry without
// connections and calls is forgotten when its buckets are full. When there is no room for a new address, the idle entry that was used
// longest ago is forgotten early; when no entry is idle, new addresses share entries.
//
// Safe from any goroutine: one mutex, held for up to three look-ups and a few additions. It is asked when a connection begins and ends,
// for each HTTP request and for each call of an App, never for a message. At 30,000 connections a second the mutex is held for about
// a hundredth of the time, so the table is not divided.
type Table struct {
	limits atomic.Pointer[[levels]PerAddress] // SetLimits

	// Static after construction.
	most int // entries besides the shared ones
	seed maphash.Seed

	mu      sync.Mutex
	index   map[key]uint32 // guarded by mu, as the rest
	entries []entry        // 0 is the head of the idle list, then the shared ones, then those of index
	free    uint32         // list of unused entries, by next
	shared  uint64         // how often a shared entry was used
	known   int            // entries of addresses, not of networks
	conns   int
}

// entry is what is known of an address, or of a network.
type entry struct {
	key        key
	conns      uint32
	connects   Bucket
	handshakes Bucket
	requests   Bucket
	handlers   [Kinds]uint32
	prev, next uint32 // in the idle list, oldest first: entries that are not in use; the shared ones are never in it
	around     uint32 // the entry of the network around it, while it is in use; 0 for none
}

// used tells whether the entry has something that will end, and must not be forgotten before.
func (e *entry) used() bool { return e.conns > 0 || e.handlers != [Kinds]uint32{} }

// chain is an entry and those of the networks around it, by level; 0 where there is none.
type chain [levels]uint32

// NewTable makes a table with entries for so many addresses and networks; 3 at least, as one IPv6 address needs them.
func NewTable(limits PerAddress, addresses int) *Table {
	t := &Table{
		most: max(addresses, levels), seed: maphash.MakeSeed(),
		index: make(map[key]uint32), entries: make([]entry, 1+sharedEntries),
	}
	t.SetLimits(limits)
	return t
}

// SetLimits has other limits hold from now on. What was granted stays: an address that has more than it may is granted nothing until it has less. All buckets are full
// then: a debt of a slow rate would be one of minutes under a fast one.
func (t *Table) SetLimits(limits PerAddress) {
	all := limits.byLevel()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits.Store(&all)
	for i := range t.entries {
		e := &t.entries[i]
		e.connects, e.handshakes, e.requests = 0, 0, 0
	}
}

// Connect decides on a new connection. One that is granted counts until Leave.
func (t *Table) Connect(addr netip.Addr, now int64) (Ref, Verdict) {
	return t.enter(addr, true, now)
}

// Hold decides on a new polling session, which counts as a connection until Leave but not in PerAddress.Connects.
func (t *Table) Hold(addr netip.Addr, now int64) (Ref, Verdict) {
	return t.enter(addr, false, now)
}

func (t *Table) enter(addr netip.Addr, isNew bool, now int64) (Ref, Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.find(addr, now)
	defer t.release(&c)
	limits := t.limits.Load()
	for level, i := range c {
		if most := limits[level].Conns; i != 0 && most > 0 && int(t.entries[i].conns) >= most {
			return 0, TooMany
		}
	}
	if isNew && !t.take(&c, now, connects) {
		return 0, TooOften
	}
	for level, i := range c {
		if i == 0 {
			break
		}
		e := &t.entries[i]
		e.conns++
		if level+1 < levels {
			e.around = c[level+1]
		}
	}
	t.conns++
	return Ref(c[0]), Granted
}

// Handshake decides on a session that is about to begin.
func (t *Table) Handshake(addr netip.Addr, now int64) Verdict {
	if t.limits.Load()[0].Handshakes.None() {
		return Granted
	}
	return t.takeFrom(addr, now, func(e *entry, l *PerAddress) (*Bucket, Rate) { return &e.handshakes, l.Handshakes })
}

// Request decides on an HTTP request of addr that came by a proxy's connection, which does not count for addr.
func (t *Table) Request(addr netip.Addr, now int64) Verdict {
	if t.limits.Load()[0].Requests.None() {
		return Granted
	}
	return t.takeFrom(addr, now, requests)
}

// takeFrom takes one token of addr, which may have no connection.
func (t *Table) takeFrom(addr netip.Addr, now int64, of func(*entry, *PerAddress) (*Bucket, Rate)) Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.find(addr, now)
	defer t.release(&c)
	return verdict(t.take(&c, now, of))
}

// RequestBy decides on an HTTP request by a connection that counts under ref.
func (t *Table) RequestBy(ref Ref, now int64) Verdict {
	if t.limits.Load()[0].Requests.None() {
		return Granted
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.chainOf(uint32(ref))
	return verdict(t.take(&c, now, requests))
}

// Charge has an answer count as so many requests more than the one that Request or RequestBy granted. ref is that of the connection, 0
// where addr counts instead.
func (t *Table) Charge(ref Ref, addr netip.Addr, n int, now int64) {
	if t.limits.Load()[0].Requests.None() || n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.chainOf(uint32(ref))
	if ref == 0 {
		c = t.find(addr, now)
		defer t.release(&c)
	}
	t.charge(&c, n, now, requests)
}

// ChargeConnects has the connection that counts under ref count as so many new ones more.
func (t *Table) ChargeConnects(ref Ref, n int, now int64) {
	if t.limits.Load()[0].Connects.None() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.chainOf(uint32(ref))
	t.charge(&c, n, now, connects)
}

func (t *Table) charge(c *chain, n int, now int64, of func(*entry, *PerAddress) (*Bucket, Rate)) {
	limits := t.limits.Load()
	for level, i := range c {
		if i == 0 {
			break
		}
		b, r := of(&t.entries[i], &limits[level])
		b.Charge(r, n, now)
	}
}

func connects(e *entry, l *PerAddress) (*Bucket, Rate) { return &e.connects, l.Connects }

func requests(e *entry, l *PerAddress) (*Bucket, Rate) { return &e.requests, l.Requests }

func verdict(granted bool) Verdict {
	if granted {
		return Granted
	}
	return TooOften
}

// take takes a token from the bucket of each entry, if all have one.
func (t *Table) take(c *chain, now int64, of func(*entry, *PerAddress) (*Bucket, Rate)) bool {
	limits := t.limits.Load()
	for level, i := range c {
		if i == 0 {
			break
		}
		if b, r := of(&t.entries[i], &limits[level]); !b.Has(r, now) {
			return false
		}
	}
	for level, i := range c {
		if i == 0 {
			break
		}
		b, r := of(&t.entries[i], &limits[level])
		b.take(r, 1, now)
	}
	return true
}

// Leave ends what Connect or Hold granted. It must be called exactly once for each.
func (t *Table) Leave(ref Ref, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.chainOf(uint32(ref))
	for _, i := range c {
		if i == 0 {
			break
		}
		t.entries[i].conns--
		t.quit(i)
	}
	t.conns--
	t.forget(now)
}

// quit puts an entry of which something has ended into the idle list, if that was the last.
func (t *Table) quit(i uint32) {
	e := &t.entries[i]
	if e.used() {
		return
	}
	e.around = 0
	if i > sharedEntries {
		t.link(i)
	}
}

// Begin decides on a call of an App by a connection that counts under ref. One that is granted counts until End, which may come after
// the connection's Leave.
func (t *Table) Begin(ref Ref, kind Kind) Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, limits := t.chainOf(uint32(ref)), t.limits.Load()
	for level, i := range c {
		if most := limits[level].Handlers; i != 0 && most > 0 && int(t.entries[i].handlers[kind]) >= most {
			return TooMany
		}
	}
	for _, i := range c {
		if i != 0 {
			t.entries[i].handlers[kind]++
		}
	}
	return Granted
}

// End ends what Begin granted. It must be called exactly once for each.
func (t *Table) End(ref Ref, kind Kind, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range t.chainOf(uint32(ref)) {
		if i == 0 {
			break
		}
		t.entries[i].handlers[kind]--
		t.quit(i)
	}
	t.forget(now)
}

// Figures are metrics of a Table.
type Figures struct {
	Addresses int    // addresses that have an entry
	Conns     int    // connections and polling sessions, granted and not ended
	Shared    uint64 // how often, since the start, an address had to share an entry
}

// Figures returns the metrics, after forgetting all entries that can be forgotten.
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
	return Figures{Addresses: t.known, Conns: t.conns, Shared: t.shared}
}

// idle tells whether an entry that is not in use is as good as a new one.
func (e *entry) idle(now int64) bool {
	return e.connects.Debt(now) == 0 && e.handshakes.Debt(now) == 0 && e.requests.Debt(now) == 0
}

// chainOf is the chain of an entry that is in use.
func (t *Table) chainOf(i uint32) (c chain) {
	for level := 0; level < levels && i != 0; level++ {
		c[level] = i
		i = t.entries[i].around
	}
	return c
}

// find is the chain for an address; entries are made if need be. Those that are not in use are out of the idle list until release,
// so that finding one does not forget another. An address that shares an entry is limited by that alone, as it has many networks
// around it.
func (t *Table) find(addr netip.Addr, now int64) (c chain) {
	t.forget(now)
	keys := keysOf(addr)
	for level := range c {
		if keys[level] == (key{}) {
			break
		}
		if level > 0 && t.entries[c[level-1]].used() {
			if c[level] = t.entries[c[level-1]].around; c[level] == 0 {
				break
			}
			t.hold(c[level])
			continue
		}
		if c[level] = t.entry(keys[level]); c[level] <= sharedEntries {
			break
		}
	}
	return c
}

// release puts the entries of find that are not in use at the end of the idle list: they were just heard of.
func (t *Table) release(c *chain) {
	for _, i := range c {
		if i > sharedEntries && !t.entries[i].used() {
			t.link(i)
		}
	}
}

// hold takes an entry out of the idle list, if it is there.
func (t *Table) hold(i uint32) {
	if i > sharedEntries && !t.entries[i].used() {
		t.unlink(i)
	}
}

// entry is the one of a key, in use: not in the idle list.
func (t *Table) entry(k key) uint32 {
	if i, ok := t.index[k]; ok {
		t.hold(i)
		return i
	}
	i := t.unused()
	if i == 0 {
		t.shared++
		var b [9]byte
		binary.NativeEndian.PutUint64(b[:], k.net)
		b[8] = k.bits
		return 1 + uint32(maphash.Bytes(t.seed, b[:])%sharedEntries)
	}
	t.entries[i] = entry{key: k}
	t.index[k] = i
	t.known += k.address()
	return i
}

// unused is an entry to use: one that was free, a new one, or the one that was longest not heard of. 0: all are in use.
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

// forget drops the entries that were longest not heard of, if nothing would be lost: as many as may be added and one, so they cannot
// pile up, and no call has much to do.
func (t *Table) forget(now int64) {
	for range levels + 1 {
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
	t.known -= t.entries[i].key.address()
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
