package limit

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Whatever happens, a table that is large enough agrees with a plain model, and one that is too small keeps its books.
func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint16(300), uint8(255))
	f.Add(uint64(2), uint16(1000), uint8(3))
	f.Add(uint64(3), uint16(1000), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16, most uint8) {
		runModel(t, seed, int(steps), max(int(most), 1))
	})
}

func TestTableModel(t *testing.T) {
	for seed := range uint64(300) {
		runModel(t, seed, 500, []int{1, 2, 5, 20, 100, 1000}[seed%6])
	}
}

type modelEntry struct {
	conns                          int
	handlers                       [Kinds]int
	connects, handshakes, requests Bucket // which have a model of their own
}

// model is a table without bounds: an entry for each address, and for each network by its text.
type model struct {
	limits  PerAddress
	entries map[string]*modelEntry
}

// of are the entries for an address, the nearest first, and by how much each may have more than an address.
func (m *model) of(a netip.Addr) (all []*modelEntry, times []int) {
	prefixes, times := []int{32}, []int{1}
	if a.Is6() {
		prefixes, times = []int{64, 56, 48}, []int{1, 4, 16}
	}
	for _, bits := range prefixes {
		p, _ := a.Prefix(bits)
		if m.entries[p.String()] == nil {
			m.entries[p.String()] = new(modelEntry)
		}
		all = append(all, m.entries[p.String()])
	}
	return all, times
}

// take takes a token of each, or of none.
func (m *model) take(a netip.Addr, r Rate, bucket func(*modelEntry) *Bucket, now int64) bool {
	all, times := m.of(a)
	var taken []Bucket
	for i, e := range all {
		b := *bucket(e)
		if r.None() {
			return true
		}
		if !b.Take(Rate{r.PerSecond * float64(times[i]), r.Burst * times[i]}, now) {
			return false
		}
		taken = append(taken, b)
	}
	for i, e := range all {
		*bucket(e) = taken[i]
	}
	return true
}

// full tells whether a has as many as limit allows, or one of its networks as many as it may have of all.
func (m *model) full(a netip.Addr, limit, all int, has func(*modelEntry) int) bool {
	entries, times := m.of(a)
	for i, e := range entries {
		most := limit * times[i]
		if i > 0 && all > 0 {
			most = min(most, max(limit, all*(i+1)/4))
		}
		if limit > 0 && has(e) >= most {
			return true
		}
	}
	return false
}

func (m *model) handler(a netip.Addr, kind Kind, n int) {
	all, _ := m.of(a)
	for _, e := range all {
		e.handlers[kind] += n
	}
}

func (m *model) count(a netip.Addr, n int) {
	all, _ := m.of(a)
	for _, e := range all {
		e.conns += n
	}
}

// modelAddr is one of 40 addresses: of IPv4, and of two /48 with some /56 and /64 in each.
func modelAddr(n int) netip.Addr {
	if n < 10 {
		return numbered(n)
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(n % 2), byte(n / 2 % 3), byte(n / 6 % 4), 15: byte(n)})
}

type modelConn struct {
	ref  Ref
	addr netip.Addr
	kind Kind // of a handler
}

func runModel(t *testing.T, seed uint64, steps, most int) {
	const addresses, networks = 40, 10
	rnd := rand.New(rand.NewPCG(seed, 2))
	rate := func() Rate { return Rate{float64(1 + rnd.IntN(3)), 1 + rnd.IntN(4)} }
	limits := PerAddress{Conns: rnd.IntN(4), Connects: rate(), Handshakes: rate(), Requests: rate(), All: rnd.IntN(2) * 12, Handlers: rnd.IntN(4), AllHandlers: rnd.IntN(2) * 12}
	if rnd.IntN(4) == 0 {
		limits.Connects = Rate{}
	}
	tb := NewTable(limits, most)
	m := &model{limits: limits, entries: make(map[string]*modelEntry)}
	var open, running []modelConn
	now := int64(0)
	for i := range steps {
		now += rnd.Int64N(second / 8)
		a := modelAddr(rnd.IntN(addresses))
		agree := func(what string, got Verdict, granted bool) {
			t.Helper()
			want := Granted
			if !granted {
				want = TooOften
			}
			if most >= addresses+networks && got != want {
				t.Fatalf("seed %d, step %d: %s of %v: %v, want %v", seed, i, what, a, got, want)
			}
		}
		switch op := rnd.IntN(10); {
		case op < 3:
			full := m.full(a, limits.Conns, limits.All, func(e *modelEntry) int { return e.conns })
			ref, got := tb.enter(a, op < 2, now)
			switch {
			case full && most >= addresses+networks && got != TooMany:
				t.Fatalf("seed %d, step %d: %v of %v, which has enough", seed, i, got, a)
			case !full:
				agree("connect", got, op == 2 || m.take(a, limits.Connects, func(e *modelEntry) *Bucket { return &e.connects }, now))
			}
			if (got == Granted) != (ref != 0) {
				t.Fatalf("step %d: %v with ref %d", i, got, ref)
			}
			if got == Granted {
				m.count(a, 1)
				open = append(open, modelConn{ref: ref, addr: a})
			}
		case op == 3:
			agree("handshake", tb.Handshake(a, now), m.take(a, limits.Handshakes, func(e *modelEntry) *Bucket { return &e.handshakes }, now))
		case op == 4 || op == 5 && len(open) == 0:
			agree("request", tb.Request(a, now), m.take(a, limits.Requests, func(e *modelEntry) *Bucket { return &e.requests }, now))
		case op == 5:
			c := open[rnd.IntN(len(open))]
			a = c.addr
			agree("request", tb.RequestBy(c.ref, now), m.take(a, limits.Requests, func(e *modelEntry) *Bucket { return &e.requests }, now))
		case op < 8 && len(open) > 0:
			c := open[rnd.IntN(len(open))]
			c.kind = Kind(rnd.IntN(Kinds))
			full := m.full(c.addr, limits.Handlers, limits.AllHandlers, func(e *modelEntry) int { return e.handlers[c.kind] })
			got := tb.Begin(c.ref, c.kind)
			if most >= addresses+networks && (got == Granted) == full {
				t.Fatalf("seed %d, step %d: %v for a handler of %v, full: %v", seed, i, got, c.addr, full)
			}
			if got == Granted {
				m.handler(c.addr, c.kind, 1)
				running = append(running, c)
			}
		case op == 8 && len(running) > 0: // its connection may have left
			at := rnd.IntN(len(running))
			c := running[at]
			tb.End(c.ref, c.kind, now)
			m.handler(c.addr, c.kind, -1)
			running[at] = running[len(running)-1]
			running = running[:len(running)-1]
		case len(open) > 0:
			at := rnd.IntN(len(open))
			tb.Leave(open[at].ref, now)
			m.count(open[at].addr, -1)
			open[at] = open[len(open)-1]
			open = open[:len(open)-1]
		}
		if i%16 == 0 { // it looks at every entry
			if err := tb.check(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
	}
	for _, c := range open {
		tb.Leave(c.ref, now)
	}
	for _, c := range running {
		tb.End(c.ref, c.kind, now)
	}
	if f := tb.Figures(now + 100*second); f.Addresses != 0 || f.Conns != 0 {
		t.Fatalf("seed %d: %+v when all have gone", seed, f)
	}
	if err := tb.check(); err != nil {
		t.Fatal(err)
	}
}
