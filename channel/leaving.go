package channel

// leaving is a partition that the worker neither owns nor follows any more, and has not forgotten in whole: a room of 95,000 takes 60 ms of a processor, and other rooms wait for the loop.
// Nobody finds its rooms, and nothing of them is counted but their members' slots.
type leaving struct {
	p     *partition
	rooms []*Room
}

// forgetEntries is how many members, or rooms without any, are forgotten in one Tick. It takes about half a millisecond.
const forgetEntries = 1024

// Release ends the worker's part in a partition that it owns or follows: somebody else owns it now. Ticks forget what it had.
func (w *Worker) Release(part uint16) {
	if w.state.parts[part] != nil {
		w.Demote(part)
	}
	p := w.shadows[part]
	if p == nil {
		return
	}
	delete(w.shadows, part)
	p.snapshots, p.open = nil, nil
	rooms := make([]*Room, 0, len(p.rooms))
	for _, r := range p.rooms {
		if r.history != nil {
			w.state.uncount(p, r.history)
			r.history = nil
		}
		p.disperse(r)
		rooms = append(rooms, r)
	}
	if len(rooms) > 0 {
		w.leaving = append(w.leaving, leaving{p, rooms})
	}
}

// forgetLeft forgets some of what was released.
func (w *Worker) forgetLeft() {
	for entries := forgetEntries; entries > 0 && len(w.leaving) > 0; {
		last := len(w.leaving) - 1
		l := w.leaving[last]
		w.leaving = w.leaving[:last] // first: a panic must not come again in each turn
		_ = w.aside(func() error {
			entries = w.state.forget(&l, entries)
			return nil
		})
		if len(l.rooms) > 0 {
			w.leaving = append(w.leaving, l)
		}
	}
	if len(w.leaving) == 0 {
		w.leaving = nil
	}
}

// forget forgets so many members, or rooms without any, and returns how many less that were than it might have been.
func (s *state) forget(l *leaving, entries int) int {
	for ; entries > 0 && len(l.rooms) > 0; entries-- {
		r := l.rooms[len(l.rooms)-1]
		if r.first != 0 {
			s.remove(l.p, r.first)
		}
		if r.first == 0 {
			l.rooms = l.rooms[:len(l.rooms)-1]
		}
	}
	return entries
}
