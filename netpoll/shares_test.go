package netpoll

import "testing"

// newShares are shares whose clock goes on by step at each look.
func newShares(step int64) (*shares, *ringCounter) {
	driver, at := new(ringCounter), int64(0)
	k := newClock(func() int64 { at += step; return at })
	s := &shares{clock: &k, bell: &doorbell{driver: driver, clock: &k}}
	s.newTurn()
	return s, driver
}

// asks is how many things one read may ask for before it has to wait, at most most.
func (s *shares) asks(p Pass, most int) (n int) {
	s.serve()
	for n < most && s.ask(p) {
		n++
	}
	return n
}

func TestShares(t *testing.T) {
	const most = 10 * clientAsks
	for _, tc := range []struct {
		name  string
		step  int64 // ns between two looks at the clock
		reads []Pass
		want  []int // things that each may ask for
	}{
		{"those who ask for one thing a read", 1, []Pass{5, 5, 5}, []int{1 + clientAsks, 1, 1}},
		{"another client", 1, []Pass{5, 6}, []int{1 + clientAsks, 1 + clientAsks}},
		{"clients that share a place", 1, []Pass{5, 5 + clients}, []int{1 + clientAsks, 1}},
		{"no pass", 1, []Pass{0, 0}, []int{most, most}},
		{"alone", 1, []Pass{PassAlone, PassAlone}, []int{most, most}},
		{"slow things", shareNanos, []Pass{0, 0}, []int{2*shareAsks - 1, 2*shareAsks - 1}},
		{"things that take a third of the time", shareNanos/3 + 1, []Pass{0}, []int{4*shareAsks - 1}},
	} {
		s, _ := newShares(tc.step)
		for turn := range 3 {
			for i, p := range tc.reads {
				if n := s.asks(p, most); n != tc.want[i] {
					t.Errorf("%s: turn %d, read %d: %d things, want %d", tc.name, turn, i, n, tc.want[i])
				}
			}
			s.newTurn()
		}
	}
}

// Many who ask for one thing a read never spend their client's share, and nobody rings for them.
func TestSharesOneThingARead(t *testing.T) {
	s, driver := newShares(1)
	for i := range 10 * clientAsks {
		if s.asks(5, 1) != 1 || s.spent(5) {
			t.Fatalf("read %d had to wait", i)
		}
	}
	if driver.rings != 0 {
		t.Errorf("%d rings", driver.rings)
	}
}

// Long reads are things of the client: so many of its conns are not read in one turn. One conn alone is read again in each, and short reads are free.
func TestSharesBytes(t *testing.T) {
	s, driver := newShares(1)
	for range 10 * clientAsks {
		s.read(5, thingBytes-1)
	}
	if s.spent(5) || driver.rings != 0 {
		t.Fatal("short reads count")
	}
	reads := 0
	for ; !s.spent(5) && reads < 10*clientAsks; reads++ {
		s.read(5, readBytes)
		s.read(0, readBytes)
		s.read(PassAlone, readBytes)
	}
	if want := clientAsks*thingBytes/readBytes + 1; reads != want || driver.rings != 1 || s.spent(6) {
		t.Errorf("%d long reads, want %d; %d rings; another client: %v", reads, want, driver.rings, s.spent(6))
	}
	if s.newTurn(); s.spent(5) {
		t.Error("the share of the last turn is spent in this one")
	}
}

// A share is of one turn, so somebody who is counted in it rings for the next. Who is exempt goes on, and what it asks for counts.
func TestSharesExempt(t *testing.T) {
	s, driver := newShares(1)
	s.exempt = true
	if n := s.asks(5, 2*clientAsks); n != 2*clientAsks || !s.spent(5) {
		t.Errorf("%d things, spent: %v", n, s.spent(5))
	}
	if driver.rings != 1 {
		t.Errorf("%d rings", driver.rings)
	}
	if s.newTurn(); s.spent(5) {
		t.Error("the share of the last turn is spent in this one")
	}
}
