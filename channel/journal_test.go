package channel

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// diary is a journal in memory.
type diary struct {
	holds, failing bool
	entries        []Entry
	answers        []Item
}

func (d *diary) Keep(e *Entry, answer *Item) {
	d.entries = append(d.entries, *e)
	if answer != nil {
		d.answers = append(d.answers, *answer)
	}
}

func (d *diary) Holds() bool   { return d.holds }
func (d *diary) Failing() bool { return d.failing }

// A journal that holds answers gets those of messages that are kept, and nobody else does; while it fails such messages are refused, also those that
// were sent before, and all else goes on.
func TestJournalHoldsAnswers(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	j := &diary{holds: true}
	s.w.UseJournal(j)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(0, 2), "b", "r")
	s.take()
	s.say(at(0, 1), "a", "one")
	if len(s.items) != 1 || s.items[0].Kind != ItemPush || len(j.answers) != 1 || string(j.answers[0].Body) != string(Done) || j.answers[0].To != at(0, 1) {
		t.Errorf("items %v, answers %v", s.items, j.answers)
	}
	s.take()
	s.send(at(0, 1), "a", "r", "b", `"private"`)
	if len(j.answers) != 1 || len(s.items) != 2 {
		t.Errorf("a private message waits for the disk: %v", s.items)
	}
	mid := Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"two"`), Ext: &Extended{Mid: 9}}
	s.handle(mid)
	j.failing = true
	s.take()
	for _, r := range []Request{mid, {Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"three"`)}} {
		s.items = nil
		s.handle(r)
		if len(s.items) != 1 || string(s.items[0].Body) != `{"code":500,"reason":"history"}` {
			t.Errorf("while it fails: %v", s.items)
		}
	}
	s.items = nil
	s.send(at(0, 1), "a", "r", "b", `"private"`)
	if len(s.items) != 2 {
		t.Errorf("a private message while it fails: %v", s.items)
	}
	if got := s.w.Stats(); got.Limited[ReasonHistory] != 2 {
		t.Errorf("%+v", got.Limited)
	}
	j.failing = false
	s.handle(mid) // again
	if n := len(j.answers); n != 2 || len(j.entries) != 2 {
		t.Errorf("%d answers, %d entries", n, len(j.entries))
	}
}

// What a room kept when it was closed is not told after the end of the process either.
func TestClosedRoomsStayForgotten(t *testing.T) {
	h := keeping(ReadersEveryone)
	s, _ := keepingStage(t, h, Limits{})
	j := new(diary)
	s.w.UseJournal(j)
	s.enter(at(0, 1), "a", "r")
	s.say(at(0, 1), "a", "one")
	s.handle(Request{Op: OpKick, From: at(0, 9), Room: "r", Target: Everybody, Content: []byte(`"closed"`)})
	if n := len(j.entries); n != 2 || j.entries[1].Kind != EntryForgotten || j.entries[1].Seq != j.entries[0].Seq || j.entries[1].Incarnation != j.entries[0].Incarnation {
		t.Fatalf("%+v", j.entries)
	}
	if kept := restored(j.entries, &h, 1); len(kept) != 0 {
		t.Errorf("%+v", kept)
	}
}

// What a journal was told makes the same rooms again, whoever was there: who returns is told what it would have been told without an end of the process between, or
// that something is missing. Random sends, enters with and without a secret, and ends.
func TestRestoredRoomsGoOn(t *testing.T) {
	rng := seed.Rand(t)
	for _, readers := range []Readers{ReadersPresent, ReadersEveryone} {
		h := keeping(readers)
		h.Messages, h.Bytes = 8, 4096
		var log []Entry // all runs
		var kept []KeptRoom
		seen, missed, complete := "", []string{}, 0 // of a diarist
		const secret = 77
		for run := range uint64(40) {
			h.Salt = run
			s, now := keepingStage(t, h, Limits{})
			*now = int64(run) * 1e9
			j := new(diary)
			s.w.UseJournal(j)
			if n := s.w.Restore(kept); n != len(kept) {
				t.Fatalf("run %d: %d of %d rooms", run, n, len(kept))
			}
			checkState(t, &s.w.state)
			for i := range 1 + rng.IntN(3) { // the diarist comes and goes
				x := Extended{HasSince: seen != ""}
				x.Since, _ = codec.ParseSeq(seen)
				a := s.extendedEnter(at(0, 1), "diarist", secret, x)
				if x.HasSince && *a.Complete {
					complete++
					if !slices.Equal(a.missed, missed) {
						t.Fatalf("run %d.%d: complete with %v, and %v was missed", run, i, a.missed, missed)
					}
				} else if len(a.missed) > 0 && !slices.Equal(a.missed, missed[max(0, len(missed)-len(a.missed)):]) {
					t.Fatalf("run %d.%d: told %v, and %v was missed", run, i, a.missed, missed)
				}
				missed, seen = nil, a.Seq
				s.enter(at(0, 2), "other", "r")
				for k := range rng.IntN(4) {
					s.say(at(0, 2), "other", fmt.Sprint(run, i, k))
				}
				for _, it := range s.items {
					if it.Kind == ItemPush && it.Push.Route == "onChat" {
						seen = string(s.room("r").seqOf(it.Push.Seq).Append(nil))
					}
				}
				if rng.IntN(3) == 0 {
					break // it is there when the process ends
				}
				s.leave(at(0, 1), "diarist", "r")
				for k := range rng.IntN(12) {
					text := fmt.Sprint(run, i, "away", k)
					s.say(at(0, 2), "other", text)
					missed = append(missed, text)
				}
				if rng.IntN(2) == 0 && len(missed) > 0 {
					missed = s.deleteOne(rng, missed)
				}
			}
			log = append(log, j.entries...)
			kept = restored(log, &h, run+1)
		}
		if complete < 20 {
			t.Errorf("readers %d: only %d returns were complete", readers, complete)
		}
	}
}

// restored is what package history makes of a log, in short.
func restored(log []Entry, h *History, run uint64) []KeptRoom {
	k, deleted := KeptRoom{Name: "r", Seq: run << 32}, map[codec.Seq]bool{}
	want, bytes, full := uint64(0), 0, false
	for i := len(log) - 1; i >= 0; i-- {
		e := log[i]
		switch {
		case e.Kind == EntryMember:
			if k.Incarnation == 0 || k.Incarnation == e.Incarnation {
				k.Members = append(k.Members, e)
			}
			continue
		case e.Kind == EntryDeleted:
			deleted[codec.Seq{Incarnation: e.Incarnation, Number: e.Seq}] = true
			continue
		case k.Incarnation == 0:
			k.Incarnation, k.Readers, want = e.Incarnation, e.Readers, e.Seq
		}
		if e.Kind == EntryForgotten {
			full = true
			continue
		}
		if deleted[codec.Seq{Incarnation: e.Incarnation, Number: e.Seq}] {
			e.Body = nil
		}
		bytes += len(e.Body) + messageCost
		if full = full || e.Incarnation != k.Incarnation || e.Seq != want || len(k.Said) == h.Messages || bytes > h.Bytes; !full {
			k.Said, want = append(k.Said, e), e.Prev
		}
	}
	k.Floor = want
	slices.Reverse(k.Said)
	if len(k.Said) == 0 {
		return nil
	}
	return []KeptRoom{k}
}
