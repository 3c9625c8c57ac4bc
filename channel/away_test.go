package channel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

const testGrace = 12 * time.Second

// awayStage is a stage whose rooms keep the places of who is cut off.
func awayStage(t testing.TB) (s *stage, now *int64) {
	return keepingStage(t, keeping(ReadersPresent), Limits{Grace: testGrace})
}

func (s *stage) cut(from Addr, user string, near, handed uint64) {
	s.handle(Request{Op: OpLeave, From: from, User: user, Room: "r", Cut: true, Near: near, Handed: handed})
}

// back enters again, and returns what it is told behind the answer, or "refused".
func (s *stage) back(from Addr, user string, key, near uint64) (told []string) {
	s.t.Helper()
	s.items = nil
	s.handle(Request{Op: OpEnter, From: from, User: user, Room: "r", Key: key, Near: near})
	return s.told(from)
}

// told is what was posted to a session behind the answer to its enter.
func (s *stage) told(to Addr) (told []string) {
	for _, it := range s.items {
		switch {
		case it.Kind == ItemReply && it.To == to:
			return []string{"refused"}
		case it.Kind == ItemDirect && it.To == to:
			told = append(told, said1(it.Push.Body))
		}
	}
	return told
}

// Who was cut off and returns in time has its place and what was said meanwhile, and nobody else is told anything; who does not leaves once.
func TestAwayAndBack(t *testing.T) {
	for _, tc := range []struct {
		name        string
		key, near   uint64 // of who is cut off
		key2, near2 uint64 // of who enters
		after       time.Duration
		told        string
		others      string // what others are told from the cut on, by the second enter
	}{
		{"secret", 7, 0, 7, 0, testGrace - 1, "two whisper three", ""},
		{"secret from elsewhere", 7, 5, 7, 6, time.Second, "two whisper three", ""},
		{"another secret", 7, 5, 9, 5, time.Second, "refused", ""},
		{"no secret, where there was one", 7, 5, 0, 5, time.Second, "refused", ""},
		{"address", 0, 5, 0, 5, time.Second, "two three", ""},
		{"another address", 0, 5, 0, 6, time.Second, "", "onLeave onAdd"},
		{"a secret, where there was none", 0, 5, 7, 5, time.Second, "", "onLeave onAdd"},
		{"unknown address", 0, 0, 0, 0, time.Second, "", "onLeave onAdd"},
		{"too late", 7, 5, 7, 5, testGrace, "two three", "onLeave onAdd"}, // it was there, and proves it: no private message, and only since it asks
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, now := awayStage(t)
			s.enter(at(0, 1), "a", "r")
			s.handle(Request{Op: OpEnter, From: at(0, 2), User: "b", Room: "r", Key: tc.key, Near: tc.near})
			s.say(at(0, 1), "a", "one")
			s.items = nil
			s.say(at(0, 1), "a", "two") // the socket did not take it
			s.cut(at(0, 2), "b", tc.near, 2)
			s.send(at(0, 1), "a", "r", "b", `"whisper"`)
			s.say(at(0, 1), "a", "three")
			s.items = nil
			if got := s.members("r"); (tc.key != 0 || tc.near != 0) != (got == `{"users":["a","b"],"away":["b"]}`) {
				t.Errorf("listed: %s", got)
			}
			var others []string
			note := func() {
				for _, it := range s.items {
					if it.Kind == ItemPush && it.Push.Route != "onChat" {
						others = append(others, it.Push.Route)
					}
				}
			}
			if tc.key == 0 && tc.near == 0 {
				others = append(others, "onLeave") // members took the items
			}
			*now += int64(tc.after)
			s.items = nil
			s.w.Tick()
			note()
			x := &Extended{Since: s.room("r").seqOf(2), HasSince: true}
			if tc.after < testGrace {
				x = nil
			}
			s.items = nil
			s.handle(Request{Op: OpEnter, From: at(1, 3), User: "b", Room: "r", Key: tc.key2, Near: tc.near2, Ext: x})
			if got := strings.Join(s.told(at(1, 3)), " "); got != tc.told {
				t.Errorf("told %q, want %q", got, tc.told)
			}
			note()
			if got := strings.Join(others, " "); got != tc.others {
				t.Errorf("others are told %q, want %q", got, tc.others)
			}
			checkState(t, &s.w.state)
		})
	}
}

// A member that is away is behind no outlet; a kick ends it, and so does the closing of its room.
func TestKickOfWhoIsAway(t *testing.T) {
	s, _ := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Key: 7})
	s.cut(at(1, 2), "b", 0, 0)
	s.items = nil
	s.handle(Request{Op: OpPush, Room: "r", Target: "b", Route: "onNews", Content: []byte(`{}`)})
	s.handle(Request{Op: OpKick, Room: "r", Target: "b", Content: []byte(`"go"`)})
	s.want("0 reply 0 {\"code\":404}", "0 "+userText(2, "onLeave", "b"), "0 reply 0 {}")
	if got := s.w.Stats(); got.Away != 0 || got.Cuts != 1 || got.Expired != 0 || got.Leaves != 1 {
		t.Errorf("%+v", got)
	}
}

// Nothing is kept for who is away where whoever follows the partition cannot take it: who asks has an outlet that knows. Another one's does not matter.
func TestLettersWaitForWhoFollows(t *testing.T) {
	for _, follows := range []bool{false, true} {
		s, _ := awayStage(t)
		if follows {
			s.w.KeepBack(&kept{stage: s})
		}
		s.enter(at(0, 1), "a", "r")
		s.handle(Request{Op: OpEnter, From: at(256, 2), User: "b", Room: "r", Key: 7})
		s.cut(at(256, 2), "b", 0, 0)
		s.items = nil
		full := func(RoomID) bool { return true }
		s.outlet(256).full = full
		s.send(at(0, 1), "a", "r", "b", `"one"`)
		s.outlet(256).full, s.outlet(0).full = nil, full
		s.send(at(0, 1), "a", "r", "b", `"two"`)
		s.want(`0 reply 1 {}`, `0 reply 1 {"code":500}`)
		if n := s.w.Stats().Busy; n != 1 || len(s.room("r").letters(s.w.state.find(s.room("r"), "b"))) != 1 {
			t.Errorf("follows=%v: %d refusals were counted", follows, n)
		}
	}
}

// Private messages are kept for who has a secret, up to their bounds; beyond them, and for others, they are refused as to somebody who is not there.
func TestLetters(t *testing.T) {
	s, now := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Key: 7})
	s.handle(Request{Op: OpEnter, From: at(1, 3), User: "c", Room: "r", Near: 5})
	s.cut(at(1, 2), "b", 0, 0)
	s.cut(at(1, 3), "c", 5, 0)
	whisper := func(to, text string) bool {
		s.items = nil
		s.send(at(0, 1), "a", "r", to, `"`+text+`"`)
		return string(s.items[len(s.items)-1].Body) == `{}`
	}
	if whisper("c", "x") {
		t.Error("kept without a secret")
	}
	long := strings.Repeat("x", maxLetterBytes/2)
	for i, want := range []bool{true, false, true} {
		if got := whisper("b", []string{long, long, "short"}[i]); got != want {
			t.Errorf("message %d: kept %v", i, got)
		}
	}
	if n := s.w.Stats().KeptBytes; n < maxLetterBytes/2 {
		t.Errorf("%d bytes count as kept", n)
	}
	if got := s.back(at(1, 4), "b", 7, 0); !slices.Equal(got, []string{long, "short"}) {
		t.Errorf("told %.20q", got)
	}
	s.cut(at(1, 4), "b", 0, 0)
	for i := range maxLetters + 1 {
		if got := whisper("b", "x"); got != (i < maxLetters) {
			t.Errorf("message %d: kept %v", i, got)
		}
	}
	*now += int64(testGrace)
	s.w.Tick()
	if got := s.w.Stats(); s.room("r").history.about.letterBytes != 0 || got.Unread != 1 || got.Expired != 2 {
		t.Errorf("%+v", got)
	}
	checkState(t, &s.w.state)
}

// An address has so many places in a room of who was cut off there; beyond that a cut is a leave.
func TestGhostsOfAnAddress(t *testing.T) {
	s, _ := awayStage(t)
	const members = 20 * leastGhosts
	for i := range members {
		s.handle(Request{Op: OpEnter, From: at(0, 1+i), User: fmt.Sprint("n", i), Room: "r", Key: uint64(2*i + 1), Silent: true})
	}
	for i := range members / 2 {
		s.cut(at(0, 1+i), fmt.Sprint("n", i), 5, 0)
	}
	ghosts := s.w.Stats().Away
	if room := int(s.room("r").count); ghosts < room/10 || ghosts > members/10 {
		t.Errorf("%d are away, %d in the room", ghosts, room)
	}
	s.cut(at(0, members), fmt.Sprint("n", members-1), 6, 0)
	if got := s.w.Stats().Away; got != ghosts+1 {
		t.Errorf("%d are away; another address has places of its own", got)
	}
	checkState(t, &s.w.state)
}

// Many who were cut off at once leave in slices, in the order in which they were cut off.
func TestManyExpireInSlices(t *testing.T) {
	s, now := awayStage(t)
	const members = 3 * tickEntries
	s.enter(at(0, 1), "a", "r")
	for i := range members {
		s.handle(Request{Op: OpEnter, From: at(1, 2+i), User: fmt.Sprint("n", i), Room: "r", Key: uint64(2*i + 1), Silent: true})
	}
	for i := range members {
		s.cut(at(1, 2+i), fmt.Sprint("n", i), 0, 0)
	}
	if s.w.Due() != int64(testGrace) {
		t.Errorf("due at %d", s.w.Due())
	}
	*now = int64(testGrace) - 1
	s.w.Tick()
	s.items = nil
	*now++
	for left := members - tickEntries; left >= 0; left -= tickEntries {
		if s.w.Tick(); s.w.Stats().Away != left {
			t.Fatalf("%d are away, want %d", s.w.Stats().Away, left)
		}
	}
	for i, it := range s.items {
		if want := fmt.Sprintf(`"user":"n%d"}`, i); !strings.HasSuffix(string(it.Push.Body), want) {
			t.Fatalf("%v, want %s", it, want)
		}
	}
	s.items = nil
	if s.w.Due() != s.w.forgetAt || s.members("r") != `{"users":["a"]}` {
		t.Errorf("due at %d", s.w.Due())
	}
}

// A node that ends leaves places behind for those who have a secret.
func TestAwayFromANodeThatEnded(t *testing.T) {
	s, _ := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(256, 2), User: "b", Room: "r", Key: 7, Near: 5})
	s.handle(Request{Op: OpEnter, From: at(256, 3), User: "c", Room: "r", Near: 5})
	s.items = nil
	s.w.DropNode(NewNode(1, 0))
	s.want("0 " + userText(3, "onLeave", "c"))
	s.say(at(0, 1), "a", "missed")
	if got := s.back(at(512, 4), "b", 7, 0); !slices.Equal(got, []string{"missed"}) {
		t.Errorf("told %v", got)
	}
	checkState(t, &s.w.state)
}

// A return is admitted where nobody else is: to a room that is full, and while memory is short.
func TestReturnsAreNotRefused(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{Grace: testGrace, Members: 2})
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(0, 2), User: "b", Room: "r", Near: 5})
	s.cut(at(0, 2), "b", 5, 0)
	s.items = nil
	s.handle(Request{Op: OpEnter, From: at(0, 3), User: "c", Room: "r", Near: 6})
	s.handle(Request{Op: OpEnter, From: at(0, 4), User: "b", Room: "r", Near: 6, Short: true})
	s.handle(Request{Op: OpEnter, From: at(0, 5), User: "b", Room: "r", Near: 5, Short: true})
	s.want(`0 reply 3 {"code":500,"error":true,"reason":"room_members"}`, `0 reply 4 {"code":500,"error":true,"reason":"memory"}`, `0 enter 5 #1 {"users":["a","b"]}`)
}

// awayModel is what a room with places of who is away should be.
type awayModel struct {
	s      *stage
	now    *int64
	rng    *rand.Rand
	names  []string // in order of entry
	by     map[string]*awayMember
	cuts   []string // who is away, in the order in which they were cut off
	log    []logged // what was said and pushed; the number of one is its index + 1
	serial int
}

type awayMember struct {
	from      Addr
	key, near uint64
	away      bool
	cutAt     int64
	handed    int
	letters   []logged
	doubt     *awayDoubt // it is back, and may not have heard of it
}

type awayDoubt struct {
	since   int64
	handed  int
	letters []logged
}

type logged struct {
	text string // of an onChat; empty: none
	at   int    // of a letter: how far the room was
}

// A room agrees with a model of it, whatever happens: enters with and without proof, goodbyes, cuts, private messages and time.
func TestAwayModel(t *testing.T) {
	rng := seed.Rand(t)
	for range race.Fewer(30) {
		s, now := awayStage(t)
		m := &awayModel{s: s, now: now, rng: rng, by: map[string]*awayMember{}}
		m.log = append(m.log, logged{}) // numbers begin at 1
		m.enter("witness", 0, 0)
		for range 300 {
			m.step()
			if t.Failed() {
				return
			}
		}
		checkState(t, &s.w.state)
	}
}

func (m *awayModel) step() {
	name := fmt.Sprint("n", m.rng.IntN(5))
	at := m.by[name]
	switch n := m.rng.IntN(20); {
	case n < 7:
		m.enter(name, uint64(m.rng.IntN(3)), uint64(m.rng.IntN(3)))
	case n < 8:
		if at != nil && !at.away {
			m.s.items = nil
			m.s.leave(at.from, name, "r")
			m.gone(name)
			m.wantPushes("onLeave " + name)
		}
	case n < 11:
		if at != nil && !at.away {
			m.cut(name, at)
		}
	case n < 12:
		if at != nil && !at.away && at.doubt != nil {
			m.unheard(name, at)
		}
	case n < 15:
		m.serial++
		text := fmt.Sprint("m", m.serial)
		m.s.items = nil
		m.s.say(m.by["witness"].from, "witness", text)
		m.log = append(m.log, logged{text: text})
	case n < 17:
		m.whisper(name, at)
	default:
		*m.now += m.rng.Int64N(int64(testGrace))
		m.s.items = nil
		m.s.w.Tick()
		var want []string
		for len(m.cuts) > 0 && *m.now-m.by[m.cuts[0]].cutAt >= int64(testGrace) {
			want = append(want, "onLeave "+m.cuts[0])
			m.gone(m.cuts[0])
		}
		m.wantPushes(want...)
		for _, at := range m.by {
			if at.doubt != nil && *m.now-at.doubt.since >= int64(testGrace) {
				at.doubt = nil
			}
		}
	}
	m.s.items = nil
	if got := m.s.members("r"); got != listText(m.names, m.cuts) {
		m.s.t.Errorf("listed: %s, want %v, away %v", got, m.names, m.cuts)
	}
}

func listText(names, away []string) string {
	text := `{"users":["` + strings.Join(names, `","`)
	if len(away) > 0 {
		text += `"],"away":["` + strings.Join(away, `","`)
	}
	return text + `"]}`
}

// gone takes a name out of the model; a push says so.
func (m *awayModel) gone(name string) {
	m.names = slices.DeleteFunc(m.names, func(n string) bool { return n == name })
	m.cuts = slices.DeleteFunc(m.cuts, func(n string) bool { return n == name })
	delete(m.by, name)
	m.log = append(m.log, logged{})
}

func (m *awayModel) wantPushes(want ...string) {
	m.s.t.Helper()
	var got []string
	for _, it := range m.s.items {
		if it.Kind == ItemPush && it.outlet == 0 && it.Push.Route != "onChat" {
			user, _, _ := strings.Cut(string(it.Push.Body)[strings.Index(string(it.Push.Body), `"user":"`)+8:], `"`)
			got = append(got, it.Push.Route+" "+user)
		}
	}
	if !slices.Equal(got, want) {
		m.s.t.Errorf("pushed %v, want %v", got, want)
	}
}

func (m *awayModel) enter(name string, key, near uint64) {
	m.serial++
	from := at(m.serial%2, m.serial)
	if name == "witness" {
		from = at(0, 1<<20)
	}
	m.s.items = nil
	was := m.by[name]
	told := m.s.back(from, name, key, near)
	add := func() {
		m.by[name] = &awayMember{from: from, key: key, near: near}
		m.names = append(m.names, name)
	}
	var want, pushes []string
	switch {
	case was == nil:
		if len(m.names) > 0 {
			m.log = append(m.log, logged{})
			pushes = []string{"onAdd " + name}
		}
		add()
	case !was.away && key != 0 && key == was.key:
		was.from, was.near, was.doubt = from, near, nil
	case !was.away, was.key != 0 && was.key != key:
		want = []string{"refused"}
	case was.key != 0, key == 0 && near != 0 && near == was.near:
		for i := was.handed + 1; i <= len(m.log); i++ {
			for _, l := range was.letters {
				if l.at == i-1 {
					want = append(want, l.text)
				}
			}
			if i < len(m.log) && m.log[i].text != "" {
				want = append(want, m.log[i].text)
			}
		}
		was.doubt = &awayDoubt{*m.now, was.handed, was.letters}
		was.from, was.near, was.away, was.letters = from, near, false, nil
		m.cuts = slices.DeleteFunc(m.cuts, func(n string) bool { return n == name })
	default:
		m.gone(name)
		m.log = append(m.log, logged{})
		add()
		pushes = []string{"onLeave " + name, "onAdd " + name}
	}
	if !slices.Equal(told, want) {
		m.s.t.Errorf("%s is told %v, want %v", name, told, want)
	}
	m.wantPushes(pushes...)
}

func (m *awayModel) cut(name string, at *awayMember) {
	seq := len(m.log) - 1
	handed := seq - m.rng.IntN(3)
	entered := int(m.s.w.state.member(m.s.w.state.find(m.s.room("r"), name)).mark.entry())
	handed = max(handed, entered) // it was sent what there was
	m.s.items = nil
	m.s.cut(at.from, name, at.near, uint64(handed))
	if at.key == 0 && at.near == 0 {
		m.gone(name)
		m.wantPushes("onLeave " + name)
		return
	}
	at.away, at.cutAt, at.handed, at.doubt = true, *m.now, handed, nil
	m.cuts = append(m.cuts, name)
	m.wantPushes()
}

// unheard has the session of who came back end before it had its answer, by a cut or as it gave up.
func (m *awayModel) unheard(name string, at *awayMember) {
	cut := m.rng.IntN(2) == 0
	m.s.items = nil
	m.s.handle(Request{Op: OpLeave, From: at.from, User: name, Room: "r", Cut: cut, Near: at.near, Handed: Unheard})
	at.away, at.cutAt, at.handed, at.letters, at.doubt = true, *m.now, at.doubt.handed, at.doubt.letters, nil
	m.cuts = append(m.cuts, name)
	m.wantPushes()
}

func (m *awayModel) whisper(name string, at *awayMember) {
	m.serial++
	text := fmt.Sprint("w", m.serial)
	m.s.items = nil
	m.s.send(m.by["witness"].from, "witness", "r", name, `"`+text+`"`)
	reply, direct := "", 0
	for _, it := range m.s.items {
		switch it.Kind {
		case ItemReply:
			reply = string(it.Body)
		case ItemDirect:
			direct++
		}
	}
	switch {
	case at == nil, at.away && at.key == 0:
		if reply != string(Refused) || direct > 0 {
			m.s.t.Errorf("to nobody: %s, %d sent", reply, direct)
		}
	case at.away:
		if reply == string(Done) { // there is a bound
			at.letters = append(at.letters, logged{text: text, at: len(m.log) - 1})
		} else if len(at.letters) < maxLetters {
			m.s.t.Errorf("%s refused", text)
		}
	case reply != string(Done) || direct != 1:
		m.s.t.Errorf("%s, %d sent", reply, direct)
	}
}

// Who was told of as away too late, as another session of its user's had its place already, has that one told that it is back; unless it is away itself, has left, or is another user's.
func TestOvertaken(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(s *stage) // what becomes of the place before the late leave
		key  uint64         // of that
		told bool
	}{
		{"it is there", func(*stage) {}, 7, true},
		{"no program was told", func(*stage) {}, 0, false},
		{"another user's", func(*stage) {}, 9, false},
		{"it is away", func(s *stage) { s.cut(at(1, 3), "b", 70, 1) }, 7, false},
		{"it is back again", func(s *stage) {
			s.cut(at(1, 3), "b", 70, 1)
			s.handle(Request{Op: OpEnter, From: at(1, 3), User: "b", Room: "r", Key: 7, Near: 70})
		}, 7, true},
		{"it has left", func(s *stage) { s.leave(at(1, 3), "b", "r") }, 7, false},
		{"the room has ended", func(s *stage) { s.leave(at(1, 3), "b", "r"); s.leave(at(0, 1), "a", "r") }, 7, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := keepingStage(t, keeping(ReadersPresent), Limits{Grace: testGrace})
			s.enter(at(0, 1), "a", "r")
			for _, from := range []Addr{at(0, 2), at(1, 3)} { // the second one takes the place of the first
				s.items = nil
				s.handle(Request{Op: OpEnter, From: from, User: "b", Room: "r", Key: 7, Near: 70})
				for _, it := range s.items {
					if second := from == at(1, 3); it.Kind == ItemEnter && it.Returns() != second {
						t.Errorf("%v is told that it returns: %v", from, !second)
					}
				}
			}
			tc.then(s)
			s.items = nil
			s.handle(Request{Op: OpLeave, From: at(0, 2), User: "b", Room: "r", Cut: true, Near: 70, Key: tc.key})
			told := 0
			for _, it := range s.items {
				if it.Kind != ItemEnter || it.To != at(1, 3) || it.Req != 0 || !it.Returns() || it.Members() != 2 {
					t.Errorf("told %+v", it)
				}
				told++
			}
			if told != map[bool]int{true: 1}[tc.told] {
				t.Errorf("told %d times", told)
			}
			checkState(t, &s.w.state)
		})
	}
}
