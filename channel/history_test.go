package channel

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// keepingStage is a stage whose rooms keep what h says; its time is now, in Unix ms and from 0 in ns.
func keepingStage(t testing.TB, h History, limits Limits) (s *stage, now *int64) {
	s, now = newStage(t), new(int64)
	h.Wall = func() int64 { return 1_000_000 + *now/int64(time.Millisecond) }
	s.w.SetLimits(limits, new(atomic.Int64), func() int64 { return *now })
	s.w.KeepHistory(h)
	return s, now
}

// keeping is more than tests with few messages need.
func keeping(readers Readers) History {
	return History{Messages: 64, Bytes: 64 << 10, Age: 10 * time.Minute, Salt: 1, Readers: func(string) Readers { return readers }}
}

// answer is what an extended session is told when it enters.
type answer struct {
	Users    []string
	Seq      string
	Complete *bool
	Rest     bool
	missed   []string // content of the messages that follow
	deleted  []string // places of messages that it is told are deleted
	last     codec.Seq
}

// extendedEnter enters, and checks the form of what comes back.
func (s *stage) extendedEnter(from Addr, user string, key uint64, x Extended) (a answer) {
	s.t.Helper()
	s.items = nil
	s.handle(Request{Op: OpEnter, From: from, User: user, Room: "r", Key: key, Ext: &x})
	var seqs []uint64
	for _, it := range s.items {
		switch {
		case it.Kind == ItemEnter:
			if err := json.Unmarshal([]byte(string(it.Body)+it.End()), &a); err != nil {
				s.t.Fatalf("%s%s: %v", it.Body, it.End(), err)
			}
			a.last, _ = codec.ParseSeq(a.Seq)
		case it.Kind == ItemDirect && it.To == from && it.Push.Route == "onDelete":
			var m struct{ Deleted string }
			if err := json.Unmarshal(it.Push.Body, &m); err != nil || a.Seq == "" || it.Push.Seq != 0 || len(a.missed) > 0 {
				s.t.Fatalf("before the answer, or not as it should be: %v", it)
			}
			a.deleted = append(a.deleted, m.Deleted)
		case it.Kind == ItemDirect && it.To == from:
			if a.Seq == "" || it.Push.Route != "onChat" || it.Push.Stream.Room != "r" {
				s.t.Fatalf("before the answer, or no message of the room: %v", it)
			}
			a.missed = append(a.missed, said1(it.Push.Body))
			seqs = append(seqs, it.Push.Seq)
		}
	}
	if !slices.IsSorted(seqs) || len(slices.Compact(slices.Clone(seqs))) != len(seqs) {
		s.t.Fatalf("out of order, or twice: %v", seqs)
	}
	return a
}

// said1 is the content of an onChat.
func said1(body []byte) string {
	var m struct{ Msg string }
	if json.Unmarshal(body, &m) != nil {
		return "unreadable: " + string(body)
	}
	return m.Msg
}

func (s *stage) say(from Addr, user, text string) {
	s.send(from, user, "r", Everybody, `"`+text+`"`)
}

// page is what a member is told when it asks for what was said.
func (s *stage) page(from Addr, user string, x Extended) (texts []string, more bool, first codec.Seq) {
	s.t.Helper()
	s.items = nil
	s.handle(Request{Op: OpHistory, From: from, User: user, Room: "r", Ext: &x})
	body := s.items[len(s.items)-1].Body
	if string(body) == string(Refused) {
		return []string{"refused"}, false, first
	}
	var p struct {
		Messages []struct {
			Seq, Msg, From string
			Time           int64
		}
		More bool
	}
	if err := json.Unmarshal(body, &p); err != nil {
		s.t.Fatalf("%s: %v", body, err)
	}
	for i, m := range p.Messages {
		if seq, ok := codec.ParseSeq(m.Seq); !ok || m.Time < 1_000_000 || m.From == "" {
			s.t.Fatalf("%s", body)
		} else if i == 0 {
			first = seq
		}
		texts = append(texts, m.Msg)
	}
	return texts, p.More, first
}

// Each kind of reader is told what its room's policy says: nobody what was said before its own first entry, unless everyone may read.
func TestReaders(t *testing.T) {
	const secret, other = 77, 99
	for _, tc := range []struct {
		readers                                                       Readers
		member, newcomer, former, formerNoProof, otherProof, emptyNew string
	}{
		{ReadersPresent, "two three", "", "two three four five", "", "", ""},
		{ReadersEveryone, "one two three", "one two three four", "two three four five", "one two three four five", "one two three four five", "one two three four five"},
		{ReadersNobody, "", "", "", "", "", ""},
	} {
		s, _ := keepingStage(t, keeping(tc.readers), Limits{})
		check := func(who string, got []string, want string) {
			t.Helper()
			if g := strings.Join(got, " "); g != want {
				t.Errorf("readers %d: %s is told %q, want %q", tc.readers, who, g, want)
			}
		}
		s.enter(at(0, 1), "first", "r")
		s.say(at(0, 1), "first", "one")
		b := s.extendedEnter(at(0, 2), "b", secret, Extended{})
		s.say(at(0, 1), "first", "two")
		s.say(at(0, 1), "first", "three")
		texts, _, _ := s.page(at(0, 2), "b", Extended{Most: 100})
		check("a member", texts, tc.member)
		texts, _, _ = s.page(at(0, 9), "b", Extended{Most: 100})
		check("somebody who is not in the room", texts, "refused")
		s.leave(at(0, 2), "b", "r")
		s.say(at(0, 1), "first", "four")
		check("a newcomer", s.extendedEnter(at(0, 3), "c", other, Extended{Most: 100}).missed, tc.newcomer)
		s.leave(at(0, 3), "c", "r")
		s.say(at(0, 1), "first", "five")
		s.leave(at(0, 1), "first", "r") // the room is empty, and keeps what was said
		since := Extended{Since: b.last, HasSince: true}
		back := s.extendedEnter(at(0, 4), "b", secret, since)
		want := tc.former
		check("who returns and proves it", back.missed, want)
		if *back.Complete != (tc.readers != ReadersNobody) {
			t.Errorf("readers %d: the return is complete: %v", tc.readers, *back.Complete)
		}
		s.leave(at(0, 4), "b", "r")
		again := s.extendedEnter(at(0, 5), "b", 0, since)
		check("the same name from since on without proof", again.missed, map[bool]string{true: "two three four five"}[tc.readers == ReadersEveryone])
		if *again.Complete != (tc.readers == ReadersEveryone) {
			t.Errorf("readers %d: without proof the return is complete: %v", tc.readers, *again.Complete)
		}
		s.leave(at(0, 5), "b", "r")
		check("the same name without proof", s.extendedEnter(at(0, 6), "b", 0, Extended{Most: 100}).missed, tc.formerNoProof)
		s.leave(at(0, 6), "b", "r")
		check("the same name with another proof", s.extendedEnter(at(0, 7), "b", 12345, Extended{Most: 100}).missed, tc.otherProof)
		s.leave(at(0, 7), "b", "r")
		check("a newcomer to an empty room", s.extendedEnter(at(0, 8), "new", 0, Extended{Most: 100}).missed, tc.emptyNew)
	}
}

// Pages go back from the newest message to the oldest, and each message is on one of them, whatever is said meanwhile.
func TestHistoryPages(t *testing.T) {
	h := keeping(ReadersPresent)
	h.Bytes = 1 << 20
	s, _ := keepingStage(t, h, Limits{})
	s.enter(at(0, 1), "a", "r")
	for i := range 40 {
		s.say(at(0, 1), "a", fmt.Sprint(i))
	}
	var got []string
	x := Extended{Most: 7}
	for range 6 {
		texts, more, first := s.page(at(0, 1), "a", x)
		got = append(texts, got...)
		x.Since, x.HasSince = first, true
		s.say(at(0, 1), "a", "later")
		if !more {
			break
		}
	}
	for i := range 40 {
		if len(got) != 40 || got[i] != fmt.Sprint(i) {
			t.Fatalf("%d messages: %v", len(got), got)
		}
	}
	if texts, more, _ := s.page(at(0, 1), "a", Extended{Most: 7, HasSince: true, Since: codec.Seq{Incarnation: 5, Number: 9}}); len(texts) > 0 || more {
		t.Errorf("of another incarnation: %v, more %v", texts, more)
	}
	long := strings.Repeat("x", 10_000)
	for range 7 {
		s.say(at(0, 1), "a", long)
	}
	if texts, more, _ := s.page(at(0, 1), "a", Extended{Most: 1000}); len(texts) > 6 || !more {
		t.Errorf("%d messages of 10,000 bytes on one page, more %v", len(texts), more)
	}
}

// A message that is sent again is answered as the first time and pushed once; also by who was replaced or has returned with its secret, and
// by nobody else.
func TestSentAgain(t *testing.T) {
	s, now := keepingStage(t, keeping(ReadersPresent), Limits{})
	send := func(from Addr, user string, target string, mid uint64) (pushes int, reply string) {
		s.items = nil
		s.handle(Request{Op: OpSend, From: from, User: user, Room: "r", Target: target, Content: []byte(`"x"`), Ext: &Extended{Mid: mid}})
		for _, it := range s.items {
			switch it.Kind {
			case ItemPush, ItemDirect:
				pushes++
			case ItemReply:
				reply = string(it.Body)
			}
		}
		return pushes, reply
	}
	expect := func(what string, pushes int, wantPushes int) {
		t.Helper()
		if pushes != wantPushes {
			t.Errorf("%s: %d pushes, want %d", what, pushes, wantPushes)
		}
	}
	s.extendedEnter(at(0, 1), "a", 7, Extended{})
	s.extendedEnter(at(0, 2), "b", 0, Extended{})
	n, first := send(at(0, 1), "a", Everybody, 5)
	expect("first", n, 1)
	*now += int64(time.Second)
	n, again := send(at(0, 1), "a", Everybody, 5)
	expect("again", n, 0)
	if again != first || !strings.Contains(first, `"seq":"`) || !strings.Contains(first, `"time":`) {
		t.Errorf("answered %s, again %s", first, again)
	}
	n, _ = send(at(0, 2), "b", Everybody, 5)
	expect("the same id of somebody else", n, 1)
	n, first = send(at(0, 1), "a", "b", 6)
	expect("a private one", n, 1)
	n, again = send(at(0, 1), "a", "b", 6)
	expect("a private one again", n, 0)
	if again != first || strings.Contains(first, "seq") {
		t.Errorf("a private one is answered %s, again %s", first, again)
	}
	s.extendedEnter(at(0, 3), "a", 7, Extended{}) // takes the place
	n, _ = send(at(0, 3), "a", Everybody, 5)
	expect("after taking the place", n, 0)
	s.leave(at(0, 3), "a", "r")
	s.extendedEnter(at(0, 4), "a", 7, Extended{})
	n, _ = send(at(0, 4), "a", Everybody, 5)
	expect("after a return", n, 0)
	for mid := range uint64(maxMids) {
		send(at(0, 2), "b", Everybody, 1000+mid)
	}
	n, _ = send(at(0, 4), "a", Everybody, 5)
	expect("after 64 others", n, 1)
	if got := s.w.Stats().SentAgain; got != 4 {
		t.Errorf("%d were counted", got)
	}
}

// Who has missed more than follows an enter is told whether pages have the rest.
func TestRestIsInHistory(t *testing.T) {
	h := keeping(ReadersPresent)
	h.Messages, h.Bytes = pageMessages+20, 1<<20
	s, _ := keepingStage(t, h, Limits{})
	s.enter(at(0, 1), "a", "r")
	s.extendedEnter(at(0, 2), "b", 7, Extended{})
	since := s.room("r").seqOf(s.room("r").seq)
	for i := range pageMessages + 30 {
		s.leave(at(0, 2), "b", "r")
		s.say(at(0, 1), "a", "x")
		back := s.extendedEnter(at(0, 2), "b", 7, Extended{Since: since, HasSince: true})
		missed, kept := i+1, i+1 <= h.Messages
		if *back.Complete != (missed <= pageMessages) || back.Rest != (kept && missed > pageMessages) || len(back.missed) != min(missed, pageMessages) {
			t.Fatalf("of %d missed: %d told, complete %v, the rest is in history %v", missed, len(back.missed), *back.Complete, back.Rest)
		}
	}
}

// A room's bounds hold whatever is said: messages, bytes, age. What is too long is not kept, and a later return over it is incomplete.
func TestHistoryBounds(t *testing.T) {
	h := History{Messages: 8, Bytes: 2000, Age: time.Minute, Salt: 1}
	s, now := keepingStage(t, h, Limits{})
	rng := seed.Rand(t)
	s.enter(at(0, 1), "a", "r")
	for range 2000 {
		s.say(at(0, 1), "a", strings.Repeat("y", rng.IntN(700)))
		if k := s.room("r").history; int(k.n) > h.Messages || int(k.bytes) > h.Bytes || len(k.ring) > h.Messages {
			t.Fatalf("%d messages in a ring of %d, %d bytes", k.n, len(k.ring), k.bytes)
		}
	}
	since := s.room("r").seqOf(s.room("r").seq)
	s.extendedEnter(at(0, 2), "b", 7, Extended{})
	s.leave(at(0, 2), "b", "r")
	s.say(at(0, 1), "a", strings.Repeat("y", 3000))
	s.say(at(0, 1), "a", "short")
	back := s.extendedEnter(at(0, 2), "b", 7, Extended{Since: since, HasSince: true})
	if *back.Complete || back.Rest || len(back.missed) != 1 || back.missed[0] != "short" {
		t.Errorf("complete %v, the rest is in history %v, %v", *back.Complete, back.Rest, back.missed)
	}
	*now += int64(time.Minute)
	if texts, more, _ := s.page(at(0, 2), "b", Extended{Most: 9}); len(texts) > 0 || more {
		t.Errorf("old ones are told: %v", texts)
	}
	if due := s.w.Due(); due == 0 || due > *now {
		t.Errorf("due at %d, it is %d", due, *now)
	}
	s.w.Tick()
	if n := s.w.Stats(); n.Kept != 0 || n.KeptBytes != 0 || s.w.Due() != 0 {
		t.Errorf("%d messages, %d bytes are left; due at %d", n.Kept, n.KeptBytes, s.w.Due())
	}
}

// What came from an owner whose clock was ahead is looked at again within an age.
func TestAnotherOwnersClock(t *testing.T) {
	for _, ahead := range []int64{-5000, 0, 5000, 3_600_000} {
		s, now := newStage(t), new(int64)
		h := keeping(ReadersPresent)
		h.Age = time.Minute
		behind := int64(0)
		h.Wall = func() int64 { return 10_000_000 + *now/int64(time.Millisecond) - behind }
		s.w.SetLimits(Limits{}, new(atomic.Int64), func() int64 { return *now })
		s.w.KeepHistory(h)
		s.enter(at(0, 1), "a", "r")
		s.say(at(0, 1), "a", "said")
		behind = ahead
		for age := range 3 {
			due := s.w.Due()
			if due > *now+int64(h.Age) {
				t.Fatalf("%d ms ahead, Tick %d: at %v it is wanted at %v", ahead, age, time.Duration(*now), time.Duration(due))
			}
			if due == 0 {
				break
			}
			*now = due
			s.w.Tick()
		}
		if n := s.w.Stats().Kept; n != 0 && ahead < h.Age.Milliseconds() {
			t.Errorf("%d ms ahead: %d messages are kept", ahead, n)
		}
	}
}

// Over the worker's memory go first the histories of empty rooms, then the largest. An empty room goes before another one is refused.
func TestHistoryMemory(t *testing.T) {
	h := keeping(ReadersEveryone)
	h.Memory = 41_500
	s, _ := keepingStage(t, h, Limits{Rooms: 6})
	fill := func(room string, messages, size int) {
		from := at(0, 100+len(room)*10+int(room[0]))
		s.enter(from, "a", room)
		for range messages {
			s.send(from, "a", room, Everybody, `"`+strings.Repeat("z", size)+`"`)
		}
	}
	kept := func(room string) int { return int(s.room(room).history.n) }
	fill("empty", 2, 100)
	s.leave(at(0, 100+len("empty")*10+'e'), "a", "empty")
	fill("small", 3, 100)
	fill("large", 20, 800)
	fill("medium", 6, 800)
	if s.room("empty") == nil || kept("large") != 20 || kept("medium") != 6 {
		t.Fatal("forgotten too soon")
	}
	fill("n", 18, 800)
	if s.room("empty") != nil {
		t.Error("the empty room was not forgotten first")
	}
	if kept("small") != 3 || kept("medium") != 6 || kept("large") != 0 {
		t.Errorf("small keeps %d, medium %d, large %d", kept("small"), kept("medium"), kept("large"))
	}
	if n := s.w.Stats(); n.KeptBytes > h.Memory || n.Forgotten != 2 {
		t.Errorf("%d bytes, %d rooms forgotten", n.KeptBytes, n.Forgotten)
	}
	fill("x1", 1, 10)
	s.leave(at(0, 100+len("x1")*10+'x'), "a", "x1")
	fill("x2", 1, 10)
	s.items = nil
	s.enter(at(0, 9), "a", "x3")
	if got := s.items[len(s.items)-1].Kind; got != ItemEnter || s.room("x1") != nil {
		t.Errorf("item of kind %d, x1 is there: %v", got, s.room("x1") != nil)
	}
}

// A worker that keeps far too much, as when it has become the owner of others' partitions, forgets it over many turns, and less than it adds never.
func TestHistoryMemoryAfterATakeover(t *testing.T) {
	const rooms = 3000
	s, now := keepingStage(t, keeping(ReadersEveryone), Limits{})
	for i := range rooms {
		from, room := at(0, 100+i), fmt.Sprint("room", i)
		s.enter(from, "a", room)
		s.send(from, "a", room, Everybody, `"something to be kept"`)
	}
	all := s.w.Stats().KeptBytes
	s.w.history.Memory = all / 2
	s.send(at(0, 100), "a", "room0", Everybody, `"more"`)
	if n := s.w.Stats(); n.Forgotten == 0 || n.Forgotten > 2 || n.KeptBytes > all {
		t.Errorf("a send forgets %d rooms, %d bytes became %d", n.Forgotten, all, n.KeptBytes)
	}
	s.leave(at(0, 101), "a", "room1")
	turns := 0
	for before := s.w.Stats().Forgotten; s.w.Due() != 0 && s.w.Due() <= *now+1; turns++ {
		*now++
		s.w.Tick()
		n := s.w.Stats().Forgotten
		if n-before > tickEntries {
			t.Fatalf("%d rooms at once", n-before)
		}
		before = n
	}
	if n := s.w.Stats(); n.KeptBytes > s.w.history.Memory || n.KeptBytes < all/3 || turns < rooms/2/tickEntries {
		t.Errorf("%d bytes of %d are left after %d turns", n.KeptBytes, all, turns)
	}
}

// The model of a room: everything that was ever said, and since when each who can prove it has been there. Against random schedules with time
// that passes, who enters is told nothing else than what it missed and may read, once and in order; and "complete" is never said in vain.
func TestHistoryModel(t *testing.T) {
	type chat struct {
		seq  uint64
		at   int64
		text string
		long bool // longer than what is kept
	}
	steps := race.Fewer(20_000)
	for _, readers := range []Readers{ReadersPresent, ReadersEveryone} {
		t.Run(fmt.Sprint("readers=", readers), func(t *testing.T) {
			rng := seed.Rand(t)
			h := History{Messages: 12, Bytes: 1 << 12, Age: 20 * time.Second, Salt: 3, Memory: 1 << 13, Readers: func(string) Readers { return readers }}
			s, now := keepingStage(t, h, Limits{})
			var (
				log         []chat
				incarnation uint64
				present     = map[int]Addr{}
				entered     = map[int]uint64{} // in this stay
				first       = map[int]uint64{} // ever, in this incarnation
				seen        = map[int]codec.Seq{}
				serial      int
				complete    int
				told        int
			)
			for step := range steps {
				who := rng.IntN(6) // who is odd has a secret
				user, key := fmt.Sprint("u", who), uint64(who%2)*uint64(2*who+1)
				switch n := rng.IntN(100); {
				case n < 30 && present[who] == (Addr{}):
					serial++
					x := Extended{Most: uint32(rng.IntN(20))}
					if x.Since, x.HasSince = seen[who], seen[who] != (codec.Seq{}); x.HasSince {
						x.Most = 0
					}
					a := s.extendedEnter(at(rng.IntN(2), serial), user, key, x)
					if a.last.Incarnation != incarnation {
						log, incarnation = nil, a.last.Incarnation
						clear(first)
						if len(present) > 0 {
							t.Fatalf("step %d: the room began anew while %v were there", step, present)
						}
					}
					entered[who], present[who] = a.last.Number, at(0, 0)
					for _, it := range s.items {
						if it.Kind == ItemEnter {
							present[who] = it.To
						}
					}
					from := entered[who]
					if f, was := first[who]; was && key != 0 {
						from = min(from, f)
					}
					if _, was := first[who]; !was {
						first[who] = entered[who]
					}
					may, missed := []string{}, []string{}
					for _, c := range log {
						known := x.HasSince && x.Since.Incarnation == incarnation && c.seq <= x.Since.Number
						if !known {
							missed = append(missed, c.text)
						}
						if (readers == ReadersEveryone || c.seq > from) && !known && !c.long && *now-c.at < int64(h.Age) {
							may = append(may, c.text)
						}
					}
					if len(a.missed) > len(may) || !slices.Equal(a.missed, may[len(may)-len(a.missed):]) {
						t.Fatalf("step %d: %s is told %v, and may read %v", step, user, a.missed, may)
					}
					told += len(a.missed)
					if a.Complete != nil && *a.Complete {
						complete++
						if x.Since.Incarnation != incarnation || !slices.Equal(a.missed, missed) {
							t.Fatalf("step %d: complete with %v, and %v was missed", step, a.missed, missed)
						}
					}
					seen[who] = a.last
				case n < 42 && present[who] != (Addr{}):
					s.leave(present[who], user, "r")
					delete(present, who)
				case n < 90 && present[who] != (Addr{}):
					text := fmt.Sprint(step)
					if rng.IntN(60) == 0 {
						text = strings.Repeat("long", 1200)
					}
					s.items = nil
					s.say(present[who], user, text)
					for _, it := range s.items {
						if it.Kind == ItemPush {
							log = append(log, chat{it.Push.Seq, *now, text, len(text) > h.Bytes})
							break
						}
					}
					for i := range present { // they see it
						seen[i] = codec.Seq{Incarnation: incarnation, Number: log[len(log)-1].seq}
					}
				case n < 96:
					*now += int64(rng.IntN(1500)) * int64(time.Millisecond)
				default:
					s.w.Tick()
				}
			}
			if complete < steps/100 || told < steps/40 {
				t.Errorf("only %d returns were complete, %d messages repeated", complete, told)
			}
			checkState(t, &s.w.state)
		})
	}
}
