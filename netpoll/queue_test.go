package netpoll

import (
	"bytes"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

// Queues of private, shared and lent segments give their bytes back in order, whatever is taken at a time; the ledger counts what is private as
// often as it is there, what is shared once, and nothing when all is gone.
func TestQueue(t *testing.T) {
	rng := seed.Rand(t)
	var k ledger
	m := sharing{ledger: &k}
	text := []byte("a list that grows at its end, of which everybody has the beginning")
	var queues [3]queue
	var want [3][]byte
	var copies []*shared
	check := func() {
		segments, private, all := 0, 0, map[*shared]bool{}
		for i := range queues {
			q := &queues[i]
			own, sum := 0, 0
			for _, s := range q.segments {
				if sum += len(s.b); s.shared == nil {
					own += len(s.b)
				} else {
					all[s.shared] = true
				}
			}
			if q.bytes != sum || q.own != own || !bytes.Equal(q.appendTo(nil), want[i]) {
				t.Fatalf("queue %d: %d bytes, %d own, %q; want %d, %d, %q", i, q.bytes, q.own, q.appendTo(nil), sum, own, want[i])
			}
			segments, private = segments+len(q.segments), private+own
		}
		for _, s := range copies {
			all[s] = true
		}
		for s := range all {
			private += len(s.b)
		}
		if k.segments != segments || k.unsent != private {
			t.Fatalf("the ledger has %d segments, %d bytes; want %d, %d", k.segments, k.unsent, segments, private)
		}
	}
	var scratch []byte
	for range 5000 {
		i := rng.IntN(len(queues))
		q := &queues[i]
		switch rng.IntN(8) {
		case 0, 1: // its own
			b := bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, 1+rng.IntN(20))
			q.add(segment{b: b}, &m)
			want[i] = append(want[i], b...)
		case 2: // shared with another
			s := m.copy(bytes.Repeat([]byte{byte('A' + rng.IntN(26))}, 1+rng.IntN(20)))
			copies = append(copies, s)
			for _, to := range []int{i, rng.IntN(len(queues))} {
				from := rng.IntN(len(s.b))
				queues[to].add(segment{b: s.b[from:], shared: s}, &m)
				want[to] = append(want[to], s.b[from:]...)
			}
		case 3: // lent
			b := text[:1+rng.IntN(len(text))]
			q.add(segment{b: b, shared: m.loan(b)}, &m)
			want[i] = append(want[i], b...)
		case 4: // the log gives its reference back
			if len(copies) > 0 {
				m.release(copies[0])
				copies = copies[1:]
			}
		case 5:
			if rng.IntN(10) == 0 {
				q.clear(&m)
				want[i] = want[i][:0]
			}
		default:
			if q.bytes == 0 {
				continue
			}
			var b []byte
			b, scratch = q.front(scratch)
			if !bytes.HasPrefix(want[i], b) || len(b) == 0 {
				t.Fatalf("in front is %q of %q", b, want[i])
			}
			n := rng.IntN(len(b) + 1)
			q.consume(n, &m)
			want[i] = want[i][n:]
		}
		check()
	}
	for i := range queues {
		queues[i].clear(&m)
	}
	for _, s := range copies {
		m.release(s)
	}
	if k.unsent != 0 || k.segments != 0 || len(m.lent) != 0 {
		t.Errorf("left: %d bytes, %d segments, %d loans", k.unsent, k.segments, len(m.lent))
	}
}

// What is lent stands where it was lent, whatever stretch is asked for.
func TestStage(t *testing.T) {
	for _, tc := range []struct{ before, lent, after string }{
		{"", "", "after"}, {"before", "", ""}, {"before", "lent", "after"}, {"", "lent", "after"}, {"before", "lent", ""}, {"", "lent", ""},
	} {
		var s stage
		s.b = append(s.b, tc.before...)
		if tc.lent != "" {
			s.lend([]byte(tc.lent))
		}
		s.b = append(s.b, tc.after...)
		all := tc.before + tc.lent + tc.after
		if s.len() != len(all) {
			t.Errorf("%v: %d bytes", tc, s.len())
		}
		for from := range len(all) + 1 {
			for to := from; to <= len(all); to++ {
				if got := string(s.appendTo(nil, from, to)); got != all[from:to] {
					t.Errorf("%v: from %d to %d: %q", tc, from, to, got)
				}
			}
		}
		if s.clear(); s.len() != 0 {
			t.Errorf("%v: %d bytes are left", tc, s.len())
		}
	}
}
