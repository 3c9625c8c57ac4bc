package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// numbered is an IPv4 address of its own for each n.
func numbered(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// check compares a table's books with its entries.
func (t *Table) check() error {
	conns, listed := 0, 0
	for i := 1; i < len(t.entries); i++ {
		conns += int(t.entries[i].conns)
	}
	last := uint32(0)
	for i := t.entries[0].next; i != 0; i = t.entries[i].next {
		if e := &t.entries[i]; e.conns != 0 || e.prev != last || t.index[e.key] != i {
			return fmt.Errorf("entry %d is in the idle list: %+v", i, *e)
		}
		listed++
		last = i
	}
	if t.entries[0].prev != last {
		return fmt.Errorf("the idle list ends at %d, not %d", last, t.entries[0].prev)
	}
	busy := 0
	for key, i := range t.index {
		if t.entries[i].key != key || i <= sharedEntries {
			return fmt.Errorf("%x is at entry %d", key, i)
		}
		if t.entries[i].conns > 0 {
			busy++
		}
	}
	if conns != t.conns || busy+listed != len(t.index) || len(t.index) > t.most {
		return fmt.Errorf("%d connections, booked %d; %d with and %d without, %d known, at most %d", conns, t.conns, busy, listed, len(t.index), t.most)
	}
	return nil
}

func TestConnsOfAnAddress(t *testing.T) {
	tb := NewTable(PerAddress{Conns: 2}, 10)
	a, b := addr("192.0.2.1"), addr("192.0.2.2")
	r1, _ := tb.Connect(a, 0)
	r2, v := tb.Hold(a, 0)
	if r1 == 0 || v != Granted {
		t.Fatal("the first two are refused")
	}
	if r, v := tb.Connect(a, 0); r != 0 || v != TooMany {
		t.Error("a third connection of one address:", r, v)
	}
	if _, v := tb.Connect(b, 0); v != Granted {
		t.Error("another address is refused")
	}
	tb.Leave(r2, 0)
	if _, v := tb.Connect(a, 0); v != Granted {
		t.Error("refused after one had left")
	}
	if err := tb.check(); err != nil {
		t.Error(err)
	}
}

func TestRatesOfAnAddress(t *testing.T) {
	tb := NewTable(PerAddress{Connects: Rate{1, 2}, Handshakes: Rate{1, 1}}, 10)
	a := addr("192.0.2.1")
	for i, want := range []Verdict{Granted, Granted, TooOften} {
		ref, v := tb.Connect(a, 5)
		if v != want {
			t.Errorf("connection %d: %v", i, v)
		}
		if ref != 0 {
			tb.Leave(ref, 5) // and is not forgotten by that
		}
	}
	if _, v := tb.Hold(a, 5); v != Granted {
		t.Error("what is no new connection is limited as one")
	}
	if tb.Handshake(a, 5) != Granted || tb.Handshake(a, 5) != TooOften || tb.Handshake(addr("192.0.2.2"), 5) != Granted {
		t.Error("handshakes")
	}
	if _, v := tb.Connect(a, 5+second); v != Granted {
		t.Error("a token did not come back")
	}
}

// What is one address: a whole IPv4 address, the first 64 bits of an IPv6 one.
func TestKeys(t *testing.T) {
	groups := [][]string{
		{"192.0.2.1", "::ffff:192.0.2.1"}, {"192.0.2.2"}, {"1.0.2.192"},
		{"2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::1%eth0"}, {"2001:db8:0:1::1"}, {"2001:db9::1"}, {"fe80::1", "fe80::2"},
		{"::1"}, {"0.0.0.0"},
	}
	seen := map[uint64]int{}
	for i, g := range groups {
		for _, text := range g {
			k := keyOf(addr(text))
			if j, known := seen[k]; known && j != i {
				t.Errorf("%s counts with %v", text, groups[j])
			} else if !known && text != g[0] {
				t.Errorf("%s does not count with %v", text, g)
			}
			seen[k] = i
		}
	}
}

// A flood of addresses takes a bounded number of entries, and those who have connections keep theirs.
func TestFloodOfAddresses(t *testing.T) {
	const most = 100
	tb := NewTable(PerAddress{Conns: 1, Connects: Rate{1, 5}}, most)
	keeper := addr("192.0.2.1")
	if _, v := tb.Connect(keeper, 0); v != Granted {
		t.Fatal(v)
	}
	for i := range 100_000 {
		ref, v := tb.Connect(numbered(i), int64(i))
		if v != Granted {
			t.Fatalf("address %d is refused: %v", i, v)
		}
		tb.Leave(ref, int64(i))
	}
	if f := tb.Figures(100_000); f.Addresses != most || f.Conns != 1 || f.Shared != 0 {
		t.Errorf("%+v", f)
	}
	if _, v := tb.Connect(keeper, 100_000); v != TooMany {
		t.Error("the flood made the table forget who has connections:", v)
	}
	if f := tb.Figures(100 * second); f.Addresses != 1 {
		t.Errorf("%+v when all tokens are back", f)
	}
	if err := tb.check(); err != nil {
		t.Error(err)
	}
}

// When every entry belongs to somebody with connections, newcomers are let in all the same, and are limited.
func TestFullTableLetsNewcomersIn(t *testing.T) {
	const most, perAddress = 50, 3
	tb := NewTable(PerAddress{Conns: perAddress}, most)
	for i := range most {
		if _, v := tb.Connect(numbered(i), 0); v != Granted {
			t.Fatal(v)
		}
	}
	newcomer := addr("198.51.100.7")
	var refs []Ref
	for i := range perAddress {
		ref, v := tb.Connect(newcomer, 0)
		if v != Granted {
			t.Fatalf("newcomer's connection %d: %v", i, v)
		}
		refs = append(refs, ref)
	}
	if _, v := tb.Connect(newcomer, 0); v != TooMany {
		t.Error("a newcomer is not limited:", v)
	}
	refused := 0 // one address that has used up its entry harms hardly anybody
	for i := range 1000 {
		ref, v := tb.Connect(numbered(1000+i), 0)
		if v != Granted {
			refused++
			continue
		}
		tb.Leave(ref, 0)
	}
	if refused > 20 {
		t.Errorf("%d of 1000 others are refused, expected about 1", refused)
	}
	for _, ref := range refs {
		tb.Leave(ref, 0)
	}
	if f := tb.Figures(0); f.Conns != most || f.Shared < 1000 {
		t.Errorf("%+v", f)
	}
	if err := tb.check(); err != nil {
		t.Error(err)
	}
}

// The address that is forgotten early is the one that was longest not heard of.
func TestOldestIsForgotten(t *testing.T) {
	tb := NewTable(PerAddress{Handshakes: Rate{1, 1}}, 2)
	a, b, c := addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3")
	tb.Handshake(a, 0)
	tb.Handshake(b, 0)
	tb.Handshake(a, 0) // refused, and heard of
	tb.Handshake(c, 0) // b is forgotten
	if tb.Handshake(a, 0) != TooOften || tb.Handshake(b, 0) != Granted {
		t.Error("another was forgotten")
	}
}

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
		runModel(t, seed, 500, []int{1, 2, 5, 20, 100}[seed%5])
	}
}

type modelAddress struct {
	conns                int
	connects, handshakes Bucket // which have a model of their own
}

type modelConn struct {
	ref  Ref
	addr int
}

func runModel(t *testing.T, seed uint64, steps, most int) {
	const addresses = 20
	rnd := rand.New(rand.NewPCG(seed, 2))
	limits := PerAddress{Conns: rnd.IntN(4), Connects: Rate{1 + rnd.IntN(3), 1 + rnd.IntN(4)}, Handshakes: Rate{1 + rnd.IntN(3), 1 + rnd.IntN(4)}}
	if rnd.IntN(4) == 0 {
		limits.Connects = Rate{}
	}
	tb := NewTable(limits, most)
	model := make([]modelAddress, addresses)
	var open []modelConn
	now := int64(0)
	for i := range steps {
		now += rnd.Int64N(second / 4)
		n := rnd.IntN(addresses)
		m := &model[n]
		switch op := rnd.IntN(5); {
		case op < 2 || op == 4:
			want, rate := Granted, limits.Connects
			if op == 4 {
				rate = Rate{}
			}
			if limits.Conns > 0 && m.conns >= limits.Conns {
				want = TooMany
			} else if !m.connects.Take(rate, now) {
				want = TooOften
			}
			ref, got := tb.enter(numbered(n), rate, now)
			if most >= addresses && got != want {
				t.Fatalf("step %d: %v, want %v", i, got, want)
			}
			if (got == Granted) != (ref != 0) {
				t.Fatalf("step %d: %v with ref %d", i, got, ref)
			}
			if got == Granted {
				m.conns++
				open = append(open, modelConn{ref, n})
			}
		case op == 2:
			want := Granted
			if !m.handshakes.Take(limits.Handshakes, now) {
				want = TooOften
			}
			if got := tb.Handshake(numbered(n), now); most >= addresses && got != want {
				t.Fatalf("step %d: handshake %v, want %v", i, got, want)
			}
		case len(open) > 0:
			at := rnd.IntN(len(open))
			tb.Leave(open[at].ref, now)
			model[open[at].addr].conns--
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
	if f := tb.Figures(now + 100*second); f.Addresses != 0 || f.Conns != 0 {
		t.Fatalf("seed %d: %+v when all have gone", seed, f)
	}
	if err := tb.check(); err != nil {
		t.Fatal(err)
	}
}

// From many goroutines: for the race detector, and nothing is lost.
func TestTableConcurrently(t *testing.T) {
	tb := NewTable(PerAddress{Conns: 5, Connects: Rate{1000, 1000}, Handshakes: Rate{1000, 1000}}, 8)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				a := numbered((g*7 + i) % 16)
				if ref, v := tb.Connect(a, int64(i)); v == Granted {
					tb.Handshake(a, int64(i))
					tb.Leave(ref, int64(i))
				}
			}
		})
	}
	wg.Wait()
	if f := tb.Figures(1 << 40); f.Addresses != 0 || f.Conns != 0 {
		t.Errorf("%+v", f)
	}
}

// A check allocates nothing once an address is known, and nothing for one not seen before when entries are free.
func TestTableAllocations(t *testing.T) {
	tb := NewTable(PerAddress{Conns: 5, Connects: Rate{1000, 1000}, Handshakes: Rate{1000, 1000}}, 100)
	now, i := int64(0), 0
	visit := func() {
		now += second
		i++
		a := numbered(i % 50)
		ref, _ := tb.Connect(a, now)
		tb.Handshake(a, now)
		tb.Leave(ref, now)
	}
	for range 200 {
		visit()
	}
	if n := testing.AllocsPerRun(1000, visit); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkVisit is what one connection costs: connect, handshake, leave.
func BenchmarkVisit(b *testing.B) {
	for _, known := range []int{1, 1000, MaxAddresses} {
		b.Run(fmt.Sprintf("addresses=%d", known), func(b *testing.B) {
			tb := NewTable(PerAddress{Conns: 10, Connects: Rate{1000, 20000}, Handshakes: Rate{1000, 20000}}, MaxAddresses)
			for i := range known {
				tb.Connect(numbered(i), 0)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				a := numbered(n % known)
				ref, _ := tb.Connect(a, int64(n)*1e6)
				tb.Handshake(a, int64(n)*1e6)
				tb.Leave(ref, int64(n)*1e6)
			}
		})
	}
}

// BenchmarkFlood is the same when every address is new and all entries are taken.
func BenchmarkFlood(b *testing.B) {
	tb := NewTable(PerAddress{Conns: 10, Connects: Rate{1, 5}}, MaxAddresses)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		ref, _ := tb.Connect(numbered(n&0xffffff), int64(n))
		tb.Leave(ref, int64(n))
	}
}
