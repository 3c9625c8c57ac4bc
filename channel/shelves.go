package channel

import (
	"math/bits"
	"time"
)

// shelves are the histories of the rooms that a worker owns, by what goes first when there are too many bytes: those of empty rooms, then the
// largest. They are the owner's order of forgetting and no part of any partition's state: what is forgotten is a record.
type shelves struct {
	lists    [shelfCount]shelf
	bytes    int64
	followed int64 // bytes of histories that are on no shelf, as others own them
	messages int
	empty    int // rooms without members
	vacancies
}

// shelf is a list of histories, the one that was longest without a change first.
type shelf struct{ first, last *history }

// shelfCount: one for empty rooms, and one for each power of two of bytes.
const shelfCount = 1 + 24

// shelfOf is where a history belongs, by the bytes that may be forgotten; nil if there are none.
func (s *shelves) shelfOf(h *history) *shelf {
	spare := h.spare()
	switch {
	case spare == 0:
		return nil
	case h.room.count == 0:
		return &s.lists[0]
	}
	return &s.lists[min(bits.Len(uint(spare+historyCost)), shelfCount-1)]
}

// put notes a change of h, which is the last one of its shelf now.
func (s *shelves) put(h *history) {
	to := s.shelfOf(h)
	if to != h.shelf || to != nil && to.last != h {
		s.unlink(h)
		if to != nil {
			h.shelf, h.prev = to, to.last
			if to.last != nil {
				to.last.next = h
			} else {
				to.first = h
			}
			to.last = h
		}
	}
	s.recount(h)
}

// recount notes a change of what h counts, and of what is set of its room. It stays where it is among what is forgotten first.
func (s *shelves) recount(h *history) {
	size := h.size()
	if empty := size > 0 && h.room.count == 0; empty != h.empty {
		s.settle(h, empty)
	}
	if x := h.room.set(); x != nil && h.empty {
		s.vacate(x)
	} else if x != nil {
		s.occupy(x)
	}
	s.bytes += int64(size - int(h.counted))
	s.messages += int(h.told() - h.messages)
	h.counted, h.messages = int32(size), h.told()
}

// settle notes whether h is of a room without members.
func (s *shelves) settle(h *history, empty bool) {
	if h.empty == empty {
		return
	}
	if h.empty = empty; empty {
		s.empty++
	} else {
		s.empty--
	}
}

// drop takes h away.
func (s *shelves) drop(h *history) {
	s.unlink(h)
	s.settle(h, false)
	if x := h.room.set(); x != nil {
		s.occupy(x)
	}
	s.bytes -= int64(h.counted)
	s.messages -= int(h.messages)
	h.counted, h.messages = 0, 0
}

// follow counts a change of h, which somebody else owns.
func (s *shelves) follow(h *history) {
	size := h.size()
	s.followed += int64(size - int(h.counted))
	h.counted = int32(size)
}

// unfollow takes h out of what is followed.
func (s *shelves) unfollow(h *history) {
	s.followed -= int64(h.counted)
	h.counted = 0
}

func (s *shelves) unlink(h *history) {
	if h.shelf == nil {
		return
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		h.shelf.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		h.shelf.last = h.prev
	}
	h.shelf, h.next, h.prev = nil, nil, nil
}

// victim is the history that goes first; nil: there is none.
func (s *shelves) victim() *history {
	if h := s.lists[0].first; h != nil {
		return h
	}
	for i := shelfCount - 1; i > 0; i-- {
		if h := s.lists[i].first; h != nil {
			return h
		}
	}
	return nil
}

// shelve notes a change of what a room keeps.
func (s *state) shelve(p *partition, r *Room) {
	if p.owned {
		s.shelves.put(r.history)
	} else {
		s.shelves.follow(r.history)
	}
}

// uncount takes a history out of what is counted.
func (s *state) uncount(p *partition, h *history) {
	if p.owned {
		s.shelves.drop(h)
	} else {
		s.shelves.unfollow(h)
	}
}

// unshelve takes the histories of a partition away: somebody else is its owner.
func (s *state) unshelve(p *partition) {
	for _, r := range p.rooms {
		if r.history != nil {
			s.shelves.drop(r.history)
			s.shelves.follow(r.history)
		}
	}
	p.owned = false
}

// shelve puts the histories of a partition that the worker owns now on its shelves.
func (w *Worker) shelve(p *partition) {
	followed := !p.owned
	p.owned, p.limitsAt = true, 0
	for _, r := range p.inOrder() {
		if r.history != nil {
			if followed {
				w.state.shelves.unfollow(r.history)
			}
			w.state.shelve(p, r)
		}
	}
	if w.state.shelves.bytes > 0 { // it may be time already
		w.forgetAt = max(1, w.nanos())
	}
	if w.state.shelves.vacancies.n > 0 { // the same: what has come was set, or left, at another owner's
		w.lapseAt = max(1, w.nanos())
	}
}

// KeepHistory has rooms keep what is said in them. Called before the worker owns anything.
func (w *Worker) KeepHistory(h History) { w.history = h }

// relieve forgets at most so many rooms, until what is kept is within the worker's bounds, or no more than least. Tick goes on with the rest. A request
// sets free as many bytes again as it has added at most: where other owners' partitions have come with their histories, there may be tens of
// thousands of rooms too many, and others wait for the loop.
func (w *Worker) relieve(least int64, rooms int) {
	most := w.mayKeep()
	if most <= 0 {
		return
	}
	for ; w.state.shelves.bytes > max(most, least) && rooms > 0; rooms-- {
		h := w.state.shelves.victim()
		if h == nil {
			return
		}
		w.counters[countForgotten]++
		w.forget(h)
	}
	if w.state.shelves.bytes > most {
		w.forgetAt = max(1, w.nanos())
	}
}

// mayKeep is how many bytes of histories the worker may own; 0: no limit. What it follows counts too, but only an owner can forget, and others' rooms must
// not push all of its own out: half of the bound is the worker's in any case. Where each owner has no more than half, owned and followed are within the bound.
func (w *Worker) mayKeep() int64 {
	most := w.history.Memory
	if most <= 0 {
		return 0
	}
	return max(1, most/2, most-w.state.shelves.followed)
}

// makeRoom forgets the room that was longest empty, if another one is to be made and there are as many as may be.
func (w *Worker) makeRoom(p *partition, r *Request) {
	if r.Op != OpEnter && r.Op != OpSet && r.Op != OpData || w.limits.Rooms == 0 || p.rooms[r.Room] != nil {
		return
	}
	h := w.state.shelves.lists[0].first
	for range tickEntries {
		switch {
		case h == nil || w.roomsOfAll.Load() < int64(w.limits.Rooms):
			return
		case h.room.set() != nil: // it stays, so nothing is won by what was said there
			h = h.next
			continue
		}
		next := h.next
		w.counters[countForgotten]++
		w.forget(h)
		h = next
	}
}

// forget forgets all that a room keeps.
func (w *Worker) forget(h *history) {
	w.d.reset(w.state.parts[h.room.id.Partition()], nil)
	w.d.forget(h.room, true)
	w.apply()
	w.post()
}

// forgetOld forgets what nobody is told any more, at most of so many rooms, and notes when it must be called again. It returns of how many more rooms
// something may be forgotten now.
func (w *Worker) forgetOld(rooms int) int {
	w.forgetAt = 0
	lim := &w.history
	if lim.Age == 0 || lim.Wall == nil {
		return rooms
	}
	now, first := lim.Wall(), int64(0)
	for i := range w.state.shelves.lists {
		list := &w.state.shelves.lists[i]
		for ; list.first != nil && rooms > 0 && lim.old(list.first.changed(), now); rooms-- {
			w.forget(list.first)
		}
		if h := list.first; h != nil && (first == 0 || h.changed() < first) {
			first = h.changed()
		}
	}
	if first != 0 {
		left := min(max(0, first+lim.Age.Milliseconds()-now), lim.Age.Milliseconds()) // another owner's clock may have been ahead
		w.forgetAt = max(1, w.nanos()+left*int64(time.Millisecond))
	}
	return rooms
}

// changed is the time from which a history, with its letters, becomes old.
func (h *history) changed() int64 {
	if h.about != nil && h.about.letterBytes > 0 { // so somebody is there
		return max(h.at, h.about.lettersAt)
	}
	return h.since()
}

// wantForgetting has Tick called when what is kept has come of age.
func (w *Worker) wantForgetting() {
	if w.forgetAt == 0 && w.history.Age > 0 && w.state.shelves.bytes > 0 {
		w.forgetAt = w.nanos() + int64(w.history.Age)
	}
}
