package netpoll

import (
	"slices"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

// However mail is posted and drained, in slices of any size and from within, it comes in the order posted, no slice is longer than it may be,
// and what is left never waits without somebody having rung or been told.
func TestMailIsSliced(t *testing.T) {
	rng := seed.Rand(t)
	rung := false
	box := NewMailbox[int](func() { rung = true })
	var got []int
	posted := 0
	post := func(n int) {
		for range n {
			box.Post(posted)
			posted++
		}
	}
	for range 20_000 {
		post(rng.IntN(12))
		if box.Empty() != (len(got) == posted) {
			t.Fatalf("%d posted, %d read, empty %v", posted, len(got), box.Empty())
		}
		if !rung {
			if len(got) != posted {
				t.Fatalf("%d posted, %d read, and nobody has rung", posted, len(got))
			}
			continue
		}
		if rng.IntN(2) == 0 {
			continue
		}
		rung = false
		most, before, limit := 1+rng.IntN(10), len(got), posted
		if box.Drain(most, func(n *int) {
			got = append(got, *n)
			if rng.IntN(8) == 0 {
				post(1)
			}
		}) {
			rung = true
		}
		if n := len(got) - before; n > most || len(got) > limit {
			t.Fatalf("read %d of at most %d, up to %d of %d", n, most, len(got), limit)
		}
	}
	for box.Drain(7, func(n *int) { got = append(got, *n) }) {
	}
	if len(got) != posted || !slices.IsSorted(got) {
		t.Fatalf("%d posted, %d read", posted, len(got))
	}
}

// The memory of a long batch is given back, that of a short one is used again, and neither keeps alive what was in it.
func TestMailboxMemory(t *testing.T) {
	box := NewMailbox[*int](func() {})
	for _, n := range []int{100, maxSpareMail + 1, 100} {
		for range n {
			box.Post(new(int))
		}
		box.Drain(n, func(**int) {})
		if c := cap(box.spare); c > maxSpareMail || n == 100 && c < n {
			t.Errorf("behind %d messages there is room for %d", n, c)
		}
		for _, m := range box.spare[:cap(box.spare)] {
			if m != nil {
				t.Fatal("what was handled is kept alive")
			}
		}
	}
}
