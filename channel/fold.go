package channel

// Names that look alike have one fold: what is left of them when forms, blanks and what is not shown no longer count. The node that posts a request
// makes it (Request.Fold); here it is an opaque string. A name that is its own fold, as nearly all are, has no entry below and is found by
// itself.

// folds are the members whose names are not their own folds.
type folds struct {
	by map[memberKey]uint32 // slot, by room and fold
	of map[uint32]string    // fold, by slot
}

// alike is the slot of the member of r whose name has the same fold as name, which no member has; 0 if there is none. fold is empty if name
// is its own.
func (s *state) alike(r *Room, name, fold string) uint32 {
	if fold == "" {
		if len(s.folds.by) == 0 {
			return 0
		}
		fold = name
	} else if slot := s.find(r, fold); slot != 0 && s.folds.of[slot] == "" {
		return slot
	}
	return s.folds.by[memberKey{r, fold}]
}

// fold notes the fold of a new member, if it is not the name itself.
func (s *state) fold(slot uint32, fold string) {
	if fold == "" {
		return
	}
	if s.folds.by == nil {
		s.folds.by, s.folds.of = make(map[memberKey]uint32), make(map[uint32]string)
	}
	s.folds.by[memberKey{s.member(slot).room, fold}], s.folds.of[slot] = slot, fold
}

// unfold undoes fold.
func (s *state) unfold(slot uint32) {
	if fold, folded := s.folds.of[slot]; folded {
		delete(s.folds.by, memberKey{s.member(slot).room, fold})
		delete(s.folds.of, slot)
	}
}

// refusedAlike tells whether somebody else in the room has a name like r.User. A session that proves to be that member returns under another
// spelling, the member itself may change its own, and anybody may have the name of one that is away.
func (d *decision) refusedAlike() bool {
	alike := d.of.alike
	return alike != 0 && alike != d.of.prev && !d.isFree(alike) && (d.r.Key == 0 || d.state.keys[alike] != d.r.Key)
}

// otherSpelling is the place of the same user under another spelling, which leaves for the new one; 0 if there is none. Its session is ended.
func (d *decision) otherSpelling() uint32 {
	alike := d.of.alike
	switch {
	case alike == 0 || alike == d.of.prev:
		return 0
	case !d.state.isAway(alike):
		d.note(countReplaced)
		d.post(ItemKick, d.state.addr(alike), d.of.room.id).Body = replacedReason
	}
	return alike
}
