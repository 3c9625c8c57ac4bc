package channel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// delete has an operator delete, and returns the answer. What the room was told stays in s.items.
func (s *stage) delete(r Request) (answer string) {
	s.t.Helper()
	s.items = nil
	r.Op, r.From, r.Room = OpDelete, at(0, 0), "r"
	s.handle(r)
	for i, it := range s.items {
		if it.Kind == ItemReply {
			s.items = slices.Delete(s.items, i, i+1)
			return string(it.Body)
		}
	}
	if j, ok := s.w.journal.(*diary); ok && len(j.answers) > 0 { // it posts the answer when that is safe
		last := len(j.answers) - 1
		answer, j.answers = string(j.answers[last].Body), j.answers[:last]
		return answer
	}
	s.t.Fatal("no answer")
	return ""
}

// deleteAt deletes the message at a place.
func (s *stage) deleteAt(seq codec.Seq) string {
	return s.delete(Request{Ext: &Extended{HasSince: true, Since: seq}})
}

// deleteOne deletes one of the texts, if the room keeps it, and returns the others: those that who returns is to be told.
func (s *stage) deleteOne(rng *rand.Rand, texts []string) []string {
	s.t.Helper()
	h, text := s.room("r").history, texts[rng.IntN(len(texts))]
	for i := range int(h.n) {
		if m := h.message(i); !m.deleted() && said1(m.body) == text {
			if got := s.deleteAt(s.room("r").seqOf(m.seq)); got != `{"deleted":1,"more":false}` {
				s.t.Fatalf("delete %q: %s", text, got)
			}
			break
		}
	}
	return slices.DeleteFunc(slices.Clone(texts), func(t string) bool { return t == text })
}

// toldDeleted are the places of messages that pushes to the room say are deleted, with who gets them.
func (s *stage) toldDeleted() (list []string) {
	for _, it := range s.items {
		if it.Kind == ItemPush && it.Push.Route == "onDelete" && it.Push.ForExtended {
			var m struct{ Deleted, Mid string }
			if json.Unmarshal(it.Push.Body, &m) != nil {
				s.t.Fatalf("%s", it.Push.Body)
			}
			list = append(list, strings.TrimSpace(fmt.Sprint(it.outlet, " ", m.Deleted, " ", m.Mid)))
		}
	}
	return list
}

// A message that an operator deletes is told to nobody any more: not to who returns, not on a page; who has been told of it is told that it has gone, also who returns. All else
// is as before: the return is complete, what was said again by its id is not said anew.
func TestDeletedMessage(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	const secret = 77
	s.enter(at(0, 1), "a", "r")
	b := s.extendedEnter(at(256, 2), "b", secret, Extended{})
	var places []codec.Seq
	for i, text := range []string{"one", "two", "three"} {
		r := Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"` + text + `"`), Ext: &Extended{Mid: uint64(i + 5)}}
		s.handle(r)
		places = append(places, s.room("r").seqOf(s.room("r").seq))
	}
	s.leave(at(256, 2), "b", "r")
	s.say(at(0, 1), "a", "four")

	if got := s.deleteAt(places[1]); got != `{"deleted":1,"more":false}` {
		t.Fatal(got)
	}
	if want := "0 " + string(places[1].Append(nil)); !slices.Equal(s.toldDeleted(), []string{want}) || len(s.items) != 1 {
		t.Errorf("told %q, want %q; items %v", s.toldDeleted(), want, s.items)
	}
	if n := s.w.Stats().Kept; n != 3 {
		t.Errorf("%d messages are kept", n)
	}
	texts, more, _ := s.page(at(0, 1), "a", Extended{Most: 100})
	if strings.Join(texts, " ") != "one three four" || more {
		t.Errorf("a page has %v, more %v", texts, more)
	}
	hears := func(since codec.Seq, key uint64) (told, deleted string, complete bool) {
		a := s.extendedEnter(at(256, 3), "b", key, Extended{Since: since, HasSince: true})
		s.leave(at(256, 3), "b", "r")
		return strings.Join(a.missed, " "), strings.Join(a.deleted, " "), *a.Complete
	}
	if told, deleted, complete := hears(b.last, secret); told != "one three four" || deleted != "" || !complete {
		t.Errorf("who returns is told %q, that %q are deleted, complete %v", told, deleted, complete)
	}
	if told, deleted, complete := hears(places[2], secret); told != "four" || deleted != string(places[1].Append(nil)) || !complete {
		t.Errorf("who has had it and returns is told %q, that %q are deleted, complete %v", told, deleted, complete)
	}
	if _, deleted, _ := hears(codec.Seq{Incarnation: 1, Number: 1 << 40}, 5); deleted != "" {
		t.Errorf("who names a place of another stream is told of %q", deleted)
	}

	s.items = nil
	s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"two"`), Ext: &Extended{Mid: 6}})
	if len(s.items) != 1 || s.items[0].Kind != ItemReply || !strings.Contains(string(s.items[0].Body), string(places[1].Append(nil))) {
		t.Errorf("said again: %v", s.items)
	}
	if got := s.deleteAt(places[1]); got != `{"deleted":1,"more":false}` || len(s.toldDeleted()) != 1 {
		t.Errorf("deleted again: %s, told %v", got, s.toldDeleted())
	}
	if n := s.w.Stats().Kept; n != 3 {
		t.Errorf("%d messages are kept after that", n)
	}
	if got := s.delete(Request{Ext: &Extended{Mid: 7}, Content: []byte(`"three\"s id"`)}); got != `{"deleted":1,"more":false}` || !slices.Equal(s.toldDeleted(), []string{"0 " + string(places[2].Append(nil)) + ` three"s id`}) {
		t.Errorf("by its id: %s, told %q", got, s.toldDeleted())
	}
	for what, r := range map[string]Request{
		"another stream's": {Ext: &Extended{HasSince: true, Since: codec.Seq{Incarnation: places[0].Incarnation + 1, Number: places[0].Number}}},
		"no message":       {Ext: &Extended{HasSince: true, Since: codec.Seq{Incarnation: places[0].Incarnation, Number: 1 << 40}}},
		"an unknown id":    {Ext: &Extended{Mid: 4711}},
		"nobody's":         {Ext: &Extended{}, User: "b"},
		"nothing":          {Ext: &Extended{}},
	} {
		if got := s.delete(r); got != string(Absent) || len(s.items) != 0 {
			t.Errorf("%s: %s, %v", what, got, s.items)
		}
	}
	s.items = nil
	s.handle(Request{Op: OpDelete, From: at(0, 1), User: "a", Room: "r", Ext: &Extended{HasSince: true, Since: places[0]}})
	if len(s.items) != 1 || string(s.items[0].Body) != string(Refused) {
		t.Errorf("a session deletes: %v", s.items)
	}
	texts, _, _ = s.page(at(0, 1), "a", Extended{Most: 100})
	if strings.Join(texts, " ") != "one four" {
		t.Errorf("left are %v", texts)
	}
}

// What somebody has said goes in as many decisions as it takes, and what others have said stays, also where it names the first.
func TestDeleteOfAUser(t *testing.T) {
	h := keeping(ReadersPresent)
	h.Messages, h.Bytes = 1024, 1<<20
	s, _ := keepingStage(t, h, Limits{})
	s.enter(at(0, 1), "spam\"mer", "r")
	s.enter(at(0, 2), "b", "r")
	const many = 2*deletesAtOnce + 7
	for i := range many {
		s.say(at(0, 1), "spam\"mer", fmt.Sprint(i))
		s.handle(Request{Op: OpSend, From: at(0, 2), User: "b", Room: "r", Target: Everybody, Content: []byte(`{"from":"spam\"mer"}`)})
	}
	left := many
	for more := true; more; {
		var a struct {
			Deleted int
			More    bool
		}
		if err := json.Unmarshal([]byte(s.delete(Request{Ext: &Extended{}, User: "spam\"mer"})), &a); err != nil || a.Deleted == 0 || a.Deleted > deletesAtOnce || a.Deleted != len(s.toldDeleted()) {
			t.Fatalf("%+v, %v; %d told", a, err, len(s.toldDeleted()))
		}
		left -= a.Deleted
		more = a.More
	}
	if n := s.w.Stats().Kept; left != 0 || n != many {
		t.Errorf("%d were not deleted, %d are kept, want %d", left, n, many)
	}
}

// Pages have each message that is not deleted once, are never empty while there are more, and end where nothing is left to be told.
func TestPagesOverDeletedMessages(t *testing.T) {
	rng := seed.Rand(t)
	for range 60 {
		h := keeping(ReadersEveryone)
		s, _ := keepingStage(t, h, Limits{})
		s.enter(at(0, 1), "a", "r")
		var want []string
		for i := range 40 {
			want = append(want, fmt.Sprint(i))
			s.say(at(0, 1), "a", want[i])
		}
		for range rng.IntN(41) {
			want = s.deleteOne(rng, want)
		}
		var got []string
		x := Extended{Most: uint32(1 + rng.IntN(7))}
		for more := true; more; {
			var texts []string
			texts, more, x.Since = s.page(at(0, 1), "a", x)
			if x.HasSince = true; more && len(texts) == 0 {
				t.Fatal("an empty page, and there are more")
			}
			got = append(texts, got...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pages of %d: %v, want %v", x.Most, got, want)
		}
		if a := s.extendedEnter(at(0, 2), "b", 0, Extended{HasSince: true, Since: codec.Seq{Incarnation: s.room("r").stream.Incarnation}}); !*a.Complete || !slices.Equal(a.missed, want) {
			t.Fatalf("complete %v, told %v, want %v", *a.Complete, a.missed, want)
		}
		s.leave(at(0, 2), "b", "r")
	}
}

// A message that is older than -history-age has gone, whether it is in memory still or not: there is nothing to delete, also where the loops are full, and nobody is told of its deletion.
// Otherwise an owner would decide by when it has looked for what is old.
func TestOldMessagesAreNotDeleted(t *testing.T) {
	s, now := keepingStage(t, keeping(ReadersEveryone), Limits{})
	s.enter(at(0, 1), "a", "r")
	for _, text := range []string{"one", "two"} {
		s.say(at(0, 1), "a", text)
	}
	old := s.room("r").seqOf(s.room("r").seq - 1)
	if got := s.deleteAt(old); got != `{"deleted":1,"more":false}` {
		t.Fatal(got)
	}
	*now += int64(6 * time.Minute)
	s.say(at(0, 1), "a", "three")
	*now += int64(6 * time.Minute)
	if n := s.room("r").history.n; n != 3 {
		t.Fatalf("%d messages are in memory", n)
	}
	if got := s.deleteAt(old); got != string(Absent) {
		t.Errorf("what is old: %s", got)
	}
	if a := s.extendedEnter(at(0, 2), "b", 0, Extended{HasSince: true, Since: s.room("r").seqOf(s.room("r").seq)}); len(a.deleted) != 0 {
		t.Errorf("who returns is told that %q are deleted", a.deleted)
	}
	s.leave(at(0, 2), "b", "r")
	if got := s.delete(Request{Ext: &Extended{}, User: "a"}); got != `{"deleted":1,"more":false}` {
		t.Errorf("of a user: %s", got)
	}
	*now += int64(11 * time.Minute)
	s.outlet(0).full = func(RoomID) bool { return true }
	if got := s.delete(Request{Ext: &Extended{}, User: "a"}); got != string(Absent) {
		t.Errorf("where all is old: %s", got)
	}
}

// What would delete many messages waits where a loop that has members of the room has too much to write; one message by its place goes all the same, and a loop that has none does not matter.
func TestDeletesWaitForFullOutlets(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.enter(at(2, 3), "c", "elsewhere")
	var places []codec.Seq
	for i := range 4 {
		s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"x"`), Ext: &Extended{Mid: uint64(i + 5)}})
		places = append(places, s.room("r").seqOf(s.room("r").seq))
	}
	all, byID := Request{Ext: &Extended{}, User: "a"}, Request{Ext: &Extended{Mid: 6}, Content: []byte(`"id"`)}
	full := func(RoomID) bool { return true }
	s.outlet(1).full = full
	for _, r := range []Request{all, byID} {
		if got := s.delete(r); got != string(Busy) || len(s.items) != 0 {
			t.Errorf("%s; told %q", got, s.toldDeleted())
		}
	}
	if got := s.w.Stats(); got.Busy != 2 || got.Kept != 4 {
		t.Errorf("%+v", got)
	}
	if got := s.deleteAt(places[3]); got != `{"deleted":1,"more":false}` {
		t.Errorf("by its place: %s", got)
	}
	s.outlet(1).full, s.outlet(0).full = nil, full // the operator's own
	s.leave(at(0, 1), "a", "r")
	s.leave(at(1, 2), "b", "r")
	if got := s.delete(all); got != string(Busy) {
		t.Errorf("where nobody is: %s", got)
	}
	s.outlet(0).full = nil
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.outlet(2).full = full
	if got := s.delete(byID); got != `{"deleted":1,"more":false}` {
		t.Errorf("by its id: %s", got)
	}
	if got := s.delete(all); got != `{"deleted":2,"more":false}` || len(s.toldDeleted()) != 4 {
		t.Errorf("of a user: %s, told %q", got, s.toldDeleted())
	}
}

// A deletion is written down, and the operator is answered when the last of it is, whether senders wait for the disk or not; after that it holds in the next process too.
func TestDeletionsOutliveTheProcess(t *testing.T) {
	for _, holds := range []bool{false, true} {
		t.Run(fmt.Sprint("holds=", holds), func(t *testing.T) { testDeletionsOutliveTheProcess(t, &diary{holds: holds}) })
	}
}

func testDeletionsOutliveTheProcess(t *testing.T, j *diary) {
	h := keeping(ReadersEveryone)
	s, _ := keepingStage(t, h, Limits{})
	s.w.UseJournal(j)
	s.enter(at(0, 1), "a", "r")
	for _, text := range []string{"one", "two", "three"} {
		s.say(at(0, 1), "a", text)
	}
	j.answers, s.items = nil, nil
	s.handle(Request{Op: OpDelete, From: at(0, 0), Room: "r", User: "a", Ext: &Extended{}})
	if len(j.answers) != 1 || string(j.answers[0].Body) != `{"deleted":3,"more":false}` || slices.ContainsFunc(s.items, func(it posted) bool { return it.Kind == ItemReply }) {
		t.Errorf("answers %v, items %v", j.answers, s.items)
	}
	s.say(at(0, 1), "a", "four")
	if kept := restored(j.entries, &h, 1); len(kept) != 1 || len(kept[0].Said) != 4 {
		t.Fatalf("%+v", kept)
	} else {
		next, _ := keepingStage(t, h, Limits{})
		next.w.Restore(kept)
		if a := next.extendedEnter(at(0, 1), "new", 0, Extended{Most: 100}); strings.Join(a.missed, " ") != "four" {
			t.Errorf("the next process tells %v", a.missed)
		}
		if n := next.w.Stats().Kept; n != 1 {
			t.Errorf("it keeps %d", n)
		}
	}
}

// deletes names a message of a room that is there, or may be, or those of an id, or else those of a user.
func (p *plant) deletes(part uint16, name string) *Extended {
	x := &Extended{}
	room := p.stage.w.state.parts[part].rooms[name]
	switch n := p.rng.IntN(4); {
	case n == 0:
		x.Mid = uint64(1 + p.rng.IntN(5))
	case n > 1 && room != nil:
		x.HasSince, x.Since = true, room.seqOf(room.seq-min(room.seq, uint64(p.rng.IntN(12))))
		if h := room.history; h != nil && h.n > 0 && p.rng.IntN(4) > 0 {
			x.Since = room.seqOf(h.message(p.rng.IntN(int(h.n))).seq)
		}
	}
	return x
}
