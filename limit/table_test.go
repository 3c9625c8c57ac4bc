package limit

import (
	"fmt"
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
	inside := make(map[uint32]uint32) // connections in a network by its entry
	running := make(map[uint32][Kinds]uint32)
	for i := 1; i < len(t.entries); i++ {
		e := &t.entries[i]
		if i <= sharedEntries || e.key.address() == 1 {
			conns += int(e.conns)
		}
		if e.around > sharedEntries {
			inside[e.around] += e.conns
			sum := running[e.around]
			for kind, n := range e.handlers {
				sum[kind] += n
			}
			running[e.around] = sum
		}
		if e.around != 0 && (!e.used() || t.entries[e.around].conns < e.conns) {
			return fmt.Errorf("entry %d: %+v is in %+v", i, *e, t.entries[e.around])
		}
	}
	for i, n := range inside {
		if t.entries[i].conns != n {
			return fmt.Errorf("entry %d has %d connections, those in it %d", i, t.entries[i].conns, n)
		}
	}
	for i, n := range running {
		if t.entries[i].handlers != n {
			return fmt.Errorf("entry %d has %v handlers, those in it %v", i, t.entries[i].handlers, n)
		}
	}
	last := uint32(0)
	for i := t.entries[0].next; i != 0; i = t.entries[i].next {
		if e := &t.entries[i]; e.used() || e.prev != last || t.index[e.key] != i {
			return fmt.Errorf("entry %d is in the idle list: %+v", i, *e)
		}
		listed++
		last = i
	}
	if t.entries[0].prev != last {
		return fmt.Errorf("the idle list ends at %d, not %d", last, t.entries[0].prev)
	}
	busy, known := 0, 0
	for key, i := range t.index {
		if t.entries[i].key != key || i <= sharedEntries {
			return fmt.Errorf("%x is at entry %d", key, i)
		}
		known += key.address()
		if t.entries[i].used() {
			busy++
		}
	}
	if !t.sharing() && conns != t.conns || known != t.known || busy+listed != len(t.index) || len(t.index) > t.most {
		return fmt.Errorf("%d connections, booked %d; %d with and %d without, %d (%d) known, at most %d", conns, t.conns, busy, listed, len(t.index), known, t.most)
	}
	return nil
}

// sharing tells whether a network may have had to share an entry: the shared ones then count for addresses and networks alike.
func (t *Table) sharing() bool { return t.shared > 0 }

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

// What is one address: a whole IPv4 address, wherever it is carried, or the first 64 bits of an IPv6 one; and which networks are
// around it.
func TestKeys(t *testing.T) {
	groups := [][]string{
		{"192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::1", "2002:c000:201:7::9", "2001:0:1:2:3:4:3fff:fdfe"},
		{"192.0.2.2", "64:ff9b::c000:202"}, {"1.0.2.192"}, {"64:ff9b:0:0:0:1::"}, {"64:ff9b:1::192.0.2.1"},
		{"2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::1%eth0"}, {"2001:db8:0:1::1"}, {"2001:db9::1"}, {"fe80::1", "fe80::2"},
		{"::1"}, {"0.0.0.0"}, {"0:0:c000:201::"},
	}
	seen := map[key]int{}
	for i, g := range groups {
		for _, text := range g {
			k := keysOf(addr(text))[0]
			if j, known := seen[k]; known && j != i {
				t.Errorf("%s counts with %v", text, groups[j])
			} else if !known && text != g[0] {
				t.Errorf("%s does not count with %v", text, g)
			}
			seen[k] = i
		}
	}
	networks := keysOf(addr("2001:db8:1:2345::1"))
	if networks != [levels]key{{0x20010db800012345, 64}, {0x20010db800012300, 56}, {0x20010db800010000, 48}} {
		t.Errorf("%x", networks)
	}
	if keysOf(addr("64:ff9b::192.0.2.1"))[1] != (key{}) {
		t.Error("an IPv4 address has networks around it")
	}
}

// Networks have their limits too, at more than an address: connections at most half and three quarters of all.
func TestNetworks(t *testing.T) {
	for _, tc := range []struct {
		limits        PerAddress
		site, network int // that a /56 and a /48 get
	}{
		{PerAddress{Conns: 3}, 12, 48},
		{PerAddress{Conns: 5, All: 20}, 10, 15},
		{PerAddress{Conns: 18, All: 20}, 18, 18},
		{PerAddress{Connects: Rate{1, 2}}, 8, 32},
	} {
		for _, wide := range []bool{false, true} {
			tb, got, want := NewTable(tc.limits, 1000), 0, tc.site
			for i := range 200 {
				sub := i
				if wide {
					want, sub = tc.network, i<<8
				}
				if _, v := tb.Connect(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(sub >> 8), byte(sub)}), 0); v == Granted {
					got++
				}
			}
			if got != want {
				t.Errorf("%+v: %d connections of a network, want %d", tc.limits, got, want)
			}
			if err := tb.check(); err != nil {
				t.Error(err)
			}
		}
	}
}

// HTTP requests have a rate, by the connection or by the address, which is the same.
func TestRequestsOfAnAddress(t *testing.T) {
	tb := NewTable(PerAddress{Requests: Rate{1, 3}}, 10)
	a := addr("2001:db8::1")
	ref, _ := tb.Connect(a, 0)
	if tb.RequestBy(ref, 0) != Granted || tb.Request(a, 0) != Granted || tb.RequestBy(ref, 0) != Granted {
		t.Error("the burst is refused")
	}
	if tb.RequestBy(ref, 0) != TooOften || tb.Request(a, 0) != TooOften || tb.Request(addr("2001:db8:0:1::1"), 0) != Granted {
		t.Error("the fourth is not, or another's first")
	}
	tb.Leave(ref, 0)
	if tb.Request(a, 0) != TooOften || tb.Request(a, second) != Granted {
		t.Error("a token did not come back, or all did")
	}
}

// What an answer costs beside is paid afterwards, by the connection or by the address, also where there is less.
func TestChargedRequests(t *testing.T) {
	a := addr("2001:db8::1")
	for _, connected := range []bool{false, true} {
		tb := NewTable(PerAddress{Requests: Rate{1, 3}}, 10)
		var ref Ref
		if connected {
			ref, _ = tb.Connect(a, 0)
		}
		tb.Charge(ref, a, 2, 0)
		if tb.Request(a, 0) != Granted || tb.Request(a, 0) != TooOften {
			t.Error("of three tokens two are not gone")
		}
		tb.Charge(ref, a, 5, 0)
		if tb.Request(a, 5*second) != TooOften || tb.Request(a, 6*second) != Granted {
			t.Error("what was not there is not paid later")
		}
		if tb.Request(addr("2001:db8:0:1::1"), 6*second) != Granted {
			t.Error("another address pays")
		}
	}
}

// A connection may count as several.
func TestChargedConnects(t *testing.T) {
	tb := NewTable(PerAddress{Connects: Rate{1, 10}}, 10)
	a := addr("192.0.2.1")
	ref, _ := tb.Connect(a, 0)
	tb.ChargeConnects(ref, 8, 0)
	if _, v := tb.Connect(a, 0); v != Granted {
		t.Error("the tenth is refused")
	}
	tb.ChargeConnects(ref, 20, 0)
	if _, v := tb.Connect(a, 20*second); v != TooOften {
		t.Error("what was not there is not paid later")
	}
	if _, v := tb.Connect(a, 21*second); v != Granted {
		t.Error("it is not paid yet")
	}
}

// An address has a share of handlers of each kind, and its networks have a part of all.
func TestHandlersOfAnAddress(t *testing.T) {
	tb := NewTable(PerAddress{Handlers: 4, AllHandlers: 16}, 100)
	begin := func(ref Ref, kind Kind) (n int) {
		for n < 100 && tb.Begin(ref, kind) == Granted {
			n++
		}
		return n
	}
	a, _ := tb.Connect(addr("192.0.2.1"), 0)
	b, _ := tb.Connect(addr("192.0.2.2"), 0)
	if got := [3]int{begin(a, 0), begin(a, 1), begin(b, 0)}; got != [3]int{4, 4, 4} {
		t.Errorf("granted %v", got)
	}
	tb.Leave(a, 0) // its handlers go on
	if again, _ := tb.Connect(addr("192.0.2.1"), 1<<40); again != a || begin(again, 0) != 0 {
		t.Errorf("an address is forgotten while handlers run for it: %d, %d", again, a)
	}
	tb.End(a, 0, 0)
	if begin(a, 0) != 1 {
		t.Error("an end frees nothing")
	}
	granted := 0
	for i := range 6 { // of one /56, then of another in the same /48
		ref, _ := tb.Connect(addr(fmt.Sprintf("2001:db8:0:%x::1", i%3+i/3*256)), 0)
		granted += begin(ref, 0)
		if i == 2 && granted != 8 {
			t.Errorf("a /56 has %d of 16", granted)
		}
	}
	if granted != 12 {
		t.Errorf("a /48 has %d of 16", granted)
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
	tb := NewTable(PerAddress{Handshakes: Rate{1, 1}}, 3)
	a, b, c, d := addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3"), addr("192.0.2.4")
	tb.Handshake(a, 0)
	tb.Handshake(b, 0)
	tb.Handshake(c, 0)
	tb.Handshake(a, 0) // refused, and heard of
	tb.Handshake(d, 0) // b is forgotten
	if tb.Handshake(a, 0) != TooOften || tb.Handshake(b, 0) != Granted {
		t.Error("another was forgotten")
	}
}

// From many goroutines: for the race detector, and nothing is lost.
func TestTableConcurrently(t *testing.T) {
	tb := NewTable(PerAddress{Conns: 5, Connects: Rate{1000, 1000}, Handshakes: Rate{1000, 1000}, Requests: Rate{1000, 1000}, Handlers: 3}, 8)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				a := modelAddr((g*7 + i) % 40)
				if ref, v := tb.Connect(a, int64(i)); v == Granted {
					tb.Handshake(a, int64(i))
					tb.RequestBy(ref, int64(i))
					begun := tb.Begin(ref, Kind(g%2))
					tb.Leave(ref, int64(i))
					if begun == Granted {
						tb.End(ref, Kind(g%2), int64(i))
					}
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
