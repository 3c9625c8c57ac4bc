package channel

import (
	"fmt"
	"strings"
	"testing"
)

// A message that is longer than an answer may be is told alone: by a page, behind which reading goes on, and to who has missed it.
func TestLongMessageIsTold(t *testing.T) {
	h := keeping(ReadersEveryone)
	h.Bytes = 1 << 20
	s, _ := keepingStage(t, h, Limits{})
	s.enter(at(0, 1), "a", "r")
	long := strings.Repeat("x", pageBytes+1)
	b := s.extendedEnter(at(0, 2), "b", 0, Extended{})
	for _, text := range []string{"before", long, "after"} {
		s.say(at(0, 1), "a", text)
	}
	var got []string
	x := Extended{Most: 10}
	for range 3 {
		texts, more, first := s.page(at(0, 2), "b", x)
		if len(texts) != 1 {
			t.Fatalf("a page has %d messages", len(texts))
		}
		got = append(texts, got...)
		if x.Since, x.HasSince = first, true; !more {
			break
		}
	}
	if strings.Join(got, " ") != "before "+long+" after" {
		t.Errorf("%d pages, of %d bytes", len(got), len(strings.Join(got, " ")))
	}
	s.leave(at(0, 2), "b", "r")
	s.say(at(0, 1), "a", long)
	if back := s.extendedEnter(at(0, 3), "b", 0, Extended{Since: b.last, HasSince: true}); len(back.missed) != 1 || back.missed[0] != long || *back.Complete {
		t.Errorf("who returns is told %d messages, complete %v", len(back.missed), *back.Complete)
	}
}

// What a worker follows counts in its memory, but leaves it half for what it owns; what it is counted as goes with a promotion, a demotion and a release.
func TestFollowedHistoryCounts(t *testing.T) {
	h := keeping(ReadersEveryone)
	h.Memory = 40 << 10
	owner, _ := keepingStage(t, h, Limits{})
	h.Memory = 0
	other, _ := keepingStage(t, h, Limits{})
	fill := func(s *stage, room string, messages int) uint16 {
		s.enter(at(0, 1), "a", room)
		for range messages {
			s.send(at(0, 1), "a", room, Everybody, `"`+strings.Repeat("x", 900)+`"`)
		}
		return Partition(room)
	}
	var parts []uint16
	for i := range 3 {
		part := fill(other, fmt.Sprint("theirs", i), 10)
		if owner.w.Release(part); owner.w.Owns(part) {
			t.Fatal("still the owner")
		}
		owner.w.Shadow(part)
		if _, err := owner.w.ApplySnapshot(part, other.w.State(nil, part)); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	theirs := other.w.Stats().KeptBytes
	if got := owner.w.Stats(); got.FollowedBytes != theirs || got.KeptBytes != 0 {
		t.Fatalf("%d bytes are followed and %d owned, of %d", got.FollowedBytes, got.KeptBytes, theirs)
	}
	for i := range 8 { // each 5 KB, of which four fit into the half
		room := fmt.Sprint("ours", i)
		if owner.w.Owns(Partition(room)) {
			fill(owner, room, 5)
		}
	}
	if got := owner.w.Stats(); got.KeptBytes > 20<<10 || got.KeptBytes < 12<<10 || got.Forgotten == 0 {
		t.Errorf("%d bytes are owned, %d rooms were forgotten", got.KeptBytes, got.Forgotten)
	}
	kept := owner.w.Stats().KeptBytes
	owner.w.Promote(parts[0], testEpoch)
	if got := owner.w.Stats(); got.FollowedBytes+got.KeptBytes != theirs+kept || got.KeptBytes <= kept {
		t.Errorf("after a promotion %d bytes are followed and %d owned", got.FollowedBytes, got.KeptBytes)
	}
	owner.w.Demote(parts[0])
	for _, part := range parts {
		owner.w.Release(part)
	}
	if got := owner.w.Stats(); got.FollowedBytes != 0 || got.KeptBytes != kept {
		t.Errorf("at the end %d bytes are followed and %d owned", got.FollowedBytes, got.KeptBytes)
	}
}
