package router

import (
	"net/netip"
	"sync"
)

// turns has things done on goroutines, so many at a time; what waits for that is in lines, one for each address, which take turns. So an address that asks without end waits
// behind its own, and others of its address, only. Safe from any goroutine.
type turns struct {
	// Static after construction.
	atOnce int // goroutines
	most   int // bytes that may wait, of which one address may have one of linePart parts

	mu      sync.Mutex
	running int                  // guarded by mu: goroutines
	bytes   int                  // guarded by mu: of all that wait
	waiting map[netip.Addr]*line // guarded by mu
	turn    []*line              // guarded by mu: those with something in it, in turn
}

// linePart is which part of all that may wait one address may have.
const linePart = 4

// line is what waits of one address (IPv6: /64).
type line struct {
	addr  netip.Addr
	bytes int
	list  []offLoop
}

// offLoop is something to be done off the loops, and how many bytes it keeps.
type offLoop struct {
	bytes int
	do    func()
}

// lineOf is the address whose things wait in one line.
func lineOf(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// add has do called in its turn. It returns false when too much waits.
func (t *turns) add(addr netip.Addr, bytes int, do func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	addr = lineOf(addr)
	ln := t.waiting[addr]
	if ln == nil {
		ln = &line{addr: addr}
	}
	if t.bytes+bytes > t.most || ln.bytes+bytes > t.most/linePart {
		return false
	}
	if len(ln.list) == 0 {
		if t.waiting == nil {
			t.waiting = make(map[netip.Addr]*line)
		}
		t.waiting[addr] = ln
		t.turn = append(t.turn, ln)
	}
	ln.list = append(ln.list, offLoop{bytes, do})
	ln.bytes += bytes
	t.bytes += bytes
	if t.running < t.atOnce {
		t.running++
		go t.work()
	}
	return true
}

// work does what waits until nothing does.
func (t *turns) work() {
	for do := t.next(); do != nil; do = t.next() {
		do()
	}
}

// next takes the first thing of the address whose turn it is; nil when none waits, and the goroutine ends.
func (t *turns) next() (do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.turn) == 0 {
		t.running--
		return nil
	}
	ln := t.turn[0]
	t.turn[0] = nil
	t.turn = t.turn[1:]
	first := ln.list[0]
	ln.list[0] = offLoop{}
	ln.list = ln.list[1:]
	ln.bytes -= first.bytes
	t.bytes -= first.bytes
	if len(ln.list) > 0 {
		t.turn = append(t.turn, ln)
	} else {
		delete(t.waiting, ln.addr)
	}
	return first.do
}

// length is how many things wait.
func (t *turns) length() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ln := range t.turn {
		n += len(ln.list)
	}
	return n
}
