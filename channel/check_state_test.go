package channel

import (
	"maps"
	"slices"
	"testing"
)

// checkState fails unless what is kept beside the members is what they say.
func checkState(t *testing.T, s *state) {
	t.Helper()
	members, voices, rooms, cuts, doubts, folded := 0, 0, 0, 0, 0, 0
	for _, p := range s.parts {
		if p == nil {
			continue
		}
		rooms += len(p.rooms)
		for slot := p.heard.first; slot != 0; slot = s.voices[slot].next {
			voices++
		}
		at := map[ghosts]int{}
		for slot := p.cut.first; slot != 0; slot = s.cuts[slot].next {
			cuts++
			if near := s.away[slot].near; near != 0 {
				at[ghosts{s.member(slot).room.id, near}]++
			}
			if s.addr(slot) != (Addr{}) {
				t.Errorf("%s is away, and at %v", s.member(slot).name, s.addr(slot))
			}
		}
		for slot := p.doubt.first; slot != 0; slot = s.doubts[slot].next {
			doubts++
		}
		if len(at) != len(p.ghosts) || len(at) > 0 && !maps.Equal(at, p.ghosts) {
			t.Errorf("ghosts %v, counted %v", at, p.ghosts)
		}
		large := 0
		for name, room := range p.rooms {
			checkCrowd(t, s, p, room)
			if room.large() {
				large++
			}
			var outlets []outletCount
			n, listed, alike := 0, 0, map[string]string{}
			for slot := room.first; slot != 0; slot = s.member(slot).next {
				m := s.member(slot)
				n++
				listed += listedBytes(m.name)
				if m.room != room || s.find(room, m.name) != slot {
					t.Errorf("%s: %s is found at %d and not at %d", name, m.name, s.find(room, m.name), slot)
				}
				fold := s.folds.of[slot]
				if fold == "" {
					fold = m.name
				} else if folded++; s.folds.by[memberKey{room, fold}] != slot {
					t.Errorf("%s: %s is not found by its fold %s", name, m.name, fold)
				}
				if alike[fold] != "" {
					t.Errorf("%s: %s and %s look alike", name, m.name, alike[fold])
				}
				alike[fold] = m.name
				r := Room{outlets: outlets}
				r.count1(s.addr(slot))
				outlets = r.outlets
			}
			members += n
			if n != int(room.count) || n == 0 && !room.keeps() || listed != int(room.listed) || !slices.Equal(outlets, room.outlets) || room.name() != name || Partition(name) != p.number {
				t.Errorf("%s: %d members, counted %d; outlets %v, counted %v", name, n, room.count, outlets, room.outlets)
			}
		}
		if large != p.large {
			t.Errorf("%d large rooms, counted %d", large, p.large)
		}
	}
	if folded != len(s.folds.by) || folded != len(s.folds.of) {
		t.Errorf("%d members have a fold, %d and %d are known", folded, len(s.folds.by), len(s.folds.of))
	}
	if members != len(s.index) || voices != len(s.voices) || cuts != len(s.cuts) || doubts != len(s.doubts) || cuts+doubts != len(s.away) || rooms != s.rooms || len(s.free)+members != len(s.members) {
		t.Errorf("%d members, %d in the index, %d voices, %d known, %d rooms, %d counted", members, len(s.index), voices, len(s.voices), rooms, s.rooms)
	}
}

// checkCrowd fails unless what is kept of a room of many is what its members say.
func checkCrowd(t *testing.T, s *state, p *partition, room *Room) {
	t.Helper()
	last, c := uint32(0), room.crowd
	mark, behind := 0, 0
	for slot := room.first; slot != 0; slot = s.member(slot).next {
		serial := s.serialOf(slot)
		if serial <= last || serial > room.serial {
			t.Fatalf("%s: serial %d after %d, the last is %d", room.name(), serial, last, room.serial)
		}
		last = serial
		if c == nil {
			continue
		}
		if mark < len(c.marks) && c.marks[mark] == (seat{slot, serial}) {
			mark, behind = mark+1, 0
		}
		if behind++; behind > markEvery {
			t.Fatalf("%s: %d members behind a mark", room.name(), behind)
		}
	}
	if c == nil {
		return
	}
	changed := c.large && (c.told.serial != room.serial || c.told.count != room.count)
	if mark != len(c.marks) || c.changed != changed || slices.Contains(p.changed, room) != changed {
		t.Errorf("%s: %d of %d marks; changed %v, noted %v", room.name(), mark, len(c.marks), changed, c.changed)
	}
}
