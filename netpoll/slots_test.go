package netpoll

import (
	"math"
	"testing"
)

// A slot is given again under another generation, and a pointer to its conn stays valid while others come.
func TestSlots(t *testing.T) {
	s := slots{index: 3}
	first := s.take()
	first.life = lifeOpen
	id := newID(3, first.slot, first.gen)
	for range 3 * slabConns {
		s.take().life = lifeOpen
	}
	if s.Find(id) != first || s.at(first.slot) != first {
		t.Error("the first conn is not where it was")
	}
	n := 0
	more := s.EachIn(0, slabConns, func(*Conn) { n++ })
	if n != slabConns || !more {
		t.Errorf("%d conns in the first slab, more: %v", n, more)
	}
	s.put(first)
	if s.Find(id) != nil {
		t.Error("a conn that is gone was found")
	}
	if c := s.take(); c != first || newID(3, c.slot, c.gen) == id {
		t.Error("the slot was not given again, or under its old name")
	}
	for _, other := range []ID{0, newID(2, first.slot, first.gen), newID(3, 1<<20, 1)} {
		if s.Find(other) != nil {
			t.Errorf("%x was found", uint64(other))
		}
	}
}

// A slot whose generations are used up is not given again.
func TestSlotsGenerations(t *testing.T) {
	var s slots
	c := s.take()
	c.gen = math.MaxUint32 - 2
	free := len(s.free)
	if s.put(c); len(s.free) != free {
		t.Error("the slot is free")
	}
}
