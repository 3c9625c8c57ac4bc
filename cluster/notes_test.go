package cluster

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

func randomNote(rng *rand.Rand) Note {
	n := Note{Key: fmt.Sprint("k", rng.IntN(30)), At: 1000 + rng.Uint64N(20), Until: rng.Uint64N(2) * (1000 + rng.Uint64N(40))}
	if rng.IntN(3) > 0 {
		n.Text = fmt.Append(nil, "t", rng.IntN(3))
	}
	return n
}

// Sets that were told the same are the same, in whatever order and how often they were told; others have other sums.
func TestNotesConverge(t *testing.T) {
	rng := seed.Rand(t)
	for range 200 {
		var list []Note
		for range 1 + rng.IntN(100) {
			list = append(list, randomNote(rng))
		}
		var a, b Notes
		for i := range list {
			a.Merge(list[i], 1000)
		}
		for range 2 {
			for _, i := range rng.Perm(len(list)) {
				b.Merge(list[i], 1000)
			}
		}
		if !reflect.DeepEqual(a.All(), b.All()) || a.sums != b.sums || a.whole() != b.whole() || a.whole() == 0 {
			t.Fatalf("%v\n%v", a.All(), b.All())
		}
		later := randomNote(rng)
		later.At = 2000
		if before := a.whole(); !a.Merge(later, 1000) || a.Merge(later, 1000) || a.whole() == before {
			t.Fatalf("%v was taken %v", later, a.All())
		}
		if got, has := a.Get(later.Key); !has || !reflect.DeepEqual(got, later) {
			t.Fatalf("%v is %v", later, got)
		}
		again := a.Clone()
		for _, n := range a.All() {
			again.drop(&n)
		}
		if again.whole() != 0 || len(again.All()) != 0 || a.whole() == 0 {
			t.Fatal("something is left of nothing")
		}
	}
}

// Who was away for less than NotesKept cannot bring back what was taken back; after it what is over is forgotten, and what is not stays. Of too many,
// those that are over go first.
func TestNotesAreForgotten(t *testing.T) {
	var s Notes
	s.Merge(Note{Key: "ban", At: 1, Text: []byte("x")}, 1)
	s.Merge(Note{Key: "ban", At: 5}, 5)
	s.Merge(Note{Key: "hour", At: 5, Until: 3600_000, Text: []byte("x")}, 5)
	s.Merge(Note{Key: "ever", At: 5, Text: []byte("x")}, 5)
	if s.Forget(NotesKept); s.Merge(Note{Key: "ban", At: 4, Text: []byte("x")}, NotesKept) || len(s.byKey) != 3 {
		t.Errorf("brought back: %v", s.All())
	}
	if s.Forget(NotesKept + 5); len(s.byKey) != 2 {
		t.Errorf("one is to be forgotten: %v", s.All())
	}
	if s.Forget(NotesKept + 3600_000); len(s.byKey) != 1 || s.Merge(Note{Key: "hour", At: 5, Until: 3600_000, Text: []byte("x")}, NotesKept+3600_000) {
		t.Errorf("another: %v", s.All())
	}
	for i := range uint64(MaxNotes) {
		s.Merge(Note{Key: fmt.Sprint(i), At: 10 + i, Text: []byte("x")}, 10)
	}
	for i := range uint64(MaxNotes/8 + 10) {
		s.Merge(Note{Key: fmt.Sprint("lifted", i), At: 1e9 + i}, 10)
	}
	s.Forget(10)
	if _, has := s.Get("ever"); has || len(s.byKey) != MaxNotes { // the oldest of one too many
		t.Errorf("%d are kept; ever: %v", len(s.byKey), has)
	}
	for i := range uint64(MaxNotes/8 + 10) {
		if _, has := s.Get(fmt.Sprint("lifted", i)); has {
			t.Fatal("what is over is kept, and what is not has gone")
		}
	}
}

// A node asks who has others, no more often than once in 900 ms, and tells of its own only what is in other buckets.
func TestNotesAreFetched(t *testing.T) {
	x, _, others := member(t, 0)
	x.Write([]Note{{Key: "a", At: 1, Text: []byte("one")}, {Key: "b", At: 2, Text: []byte("two")}})
	x.Write([]Note{{Key: "a", At: 1, Text: []byte("one")}})
	if n := x.is(packetNotes, ""); n != 1 {
		t.Fatalf("%d announcements", n)
	}
	for range 3 {
		x.hear("a", 20, &notesSum{1})
		x.after(100*ms, others)
	}
	if n := x.is(packetNotesAsk, "a"); n != 1 {
		t.Errorf("a was asked %d times in 300 ms", n)
	}
	x.hear("a", 20, &notesSum{x.board.whole()})
	x.after(1000*ms, others)
	x.hear("a", 20, &notesSum{x.board.whole()})
	x.after(100*ms, others)
	if n := x.is(packetNotesAsk, "a"); n != 1 {
		t.Errorf("a was asked %d times, though it has the same", n)
	}
	if n := x.is(packetNotesSum, ""); n < 1 || n > 2 {
		t.Errorf("%d sums in 1.4 s", n)
	}
	var theirs Notes
	theirs.Merge(Note{Key: "a", At: 1, Text: []byte("one")}, 1)
	x.hear("c", 30, &notesAsk{theirs.sums})
	x.after(10*ms, others)
	sent := x.sent["c"]
	if got, ok := sent[len(sent)-1].(*notesBody); !ok || len(got.List) != 1 || got.List[0].Key != "b" {
		t.Errorf("c was sent %+v", sent[len(sent)-1])
	}
	x.hear("a", 20, &notesBody{[]Note{{Key: "b", At: 3}, {Key: "a", At: 0, Text: []byte("old")}}})
	x.after(10*ms, others)
	if news := x.News(); len(news) != 1 || news[0].Key != "b" || len(x.News()) != 0 {
		t.Errorf("news: %v", news)
	}
}
