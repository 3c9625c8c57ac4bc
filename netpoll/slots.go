package netpoll

import "math"

const (
	slabConns      = 512                // conns in one slab: six whole pages of Go's heap, while 256 would fall into a size class that is a tenth larger
	lastGeneration = math.MaxUint32 - 2 // a slot that has come to it is not used again: no two conns ever have the same ID
)

// slots is where a loop's conns live. A conn stays in its slot, so a pointer to it stays valid as long as it lives, and others may refer
// to it by the number of its slot. Its methods run on the loop, but for Index.
//
// A slot is in free while it has no conn, unless its generations are used up; its number and generation stay. One whose conn came by its name
// (claim) is there, too, and take passes over it.
type slots struct {
	index uint8 // of the loop
	slabs []*[slabConns]Conn
	free  []uint32
}

// Index is the loop's number, the first byte of its conns' IDs. Safe from any goroutine.
func (s *slots) Index() uint8 { return s.index }

// Find is the conn that id names, or nil when it is gone. Runs on the loop.
func (s *slots) Find(id ID) *Conn {
	slot := id.slot()
	if id.Loop() != s.index || int(slot) >= s.len() {
		return nil
	}
	if c := s.at(slot); c.gen == id.gen() && c.Alive() {
		return c
	}
	return nil
}

// Each calls f for every living conn. f must not end conns other than by Close or Kill. Runs on the loop.
func (s *slots) Each(f func(*Conn)) { s.EachIn(0, s.len(), f) }

// EachIn calls f for every living conn whose slot is from from up to, but not including, to. It tells whether there are slots
// beyond. f must not end conns other than by Close or Kill. Runs on the loop.
func (s *slots) EachIn(from, to int, f func(*Conn)) (more bool) {
	all := s.len()
	for slot := from; slot < min(to, all); slot++ {
		if c := s.at(uint32(slot)); c.Alive() {
			f(c)
		}
	}
	return to < all
}

// len is the number of slots, with or without a conn.
func (s *slots) len() int { return len(s.slabs) * slabConns }

// at is what is in a slot.
func (s *slots) at(slot uint32) *Conn { return &s.slabs[slot/slabConns][slot%slabConns] }

// take gives a slot to a new conn, which makes it its own by its life.
func (s *slots) take() *Conn {
	for {
		if len(s.free) == 0 {
			s.grow()
		}
		n := len(s.free) - 1
		c := s.at(s.free[n])
		s.free = s.free[:n]
		if c.life == lifeFree && c.gen < lastGeneration {
			return c
		}
	}
}

// grow adds a slab.
func (s *slots) grow() {
	base := uint32(s.len())
	slab := new([slabConns]Conn)
	s.slabs = append(s.slabs, slab)
	for i := slabConns - 1; i >= 0; i-- {
		slab[i].slot, slab[i].gen = base+uint32(i), 1
		s.free = append(s.free, base+uint32(i))
	}
}

// claim gives the slot that id names to a conn that has had that name on another loop. It is nil when id is none of this loop's, or not free, or
// may have been given here.
func (s *slots) claim(id ID) *Conn {
	if id.Loop() != s.index || int(id.slot()) >= s.len() {
		return nil
	}
	c := s.at(id.slot())
	if c.life != lifeFree || id.gen() == 0 || id.gen() >= c.gen {
		return nil
	}
	c.gen = id.gen()
	return c
}

// generations are those of the names that may be given next, by slot.
func (s *slots) generations() []uint32 {
	gens := make([]uint32, s.len())
	for slot := range gens {
		c := s.at(uint32(slot))
		if gens[slot] = c.gen; c.life != lifeFree { // whether this one goes along or not, the next one is another
			gens[slot] += 2
		}
	}
	return gens
}

// follow makes slots that have had no conn those that come after others with these generations.
func (s *slots) follow(gens []uint32) {
	for s.len() < len(gens) {
		s.grow()
	}
	s.free = s.free[:0]
	for slot := len(gens) - 1; slot >= 0; slot-- { // the least are taken first, as ever
		if s.at(uint32(slot)).gen = gens[slot]; gens[slot] < lastGeneration {
			s.free = append(s.free, uint32(slot))
		}
	}
}

// put takes the slot of a conn back. Nothing may refer to the conn any more.
func (s *slots) put(c *Conn) {
	*c = Conn{slot: c.slot, gen: c.gen + 1}
	if c.gen < lastGeneration {
		s.free = append(s.free, c.slot)
	}
}
