package channel

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// publish has an operator publish, and returns how often that is pushed, and the answer.
func (s *stage) publish(op Op, target string, mid uint64) (pushes int, answer string) {
	s.t.Helper()
	s.items = nil
	r := Request{Op: op, From: at(0, 0), Room: "r", Target: target, Content: []byte(`{"n":1}`), Ext: &Extended{Mid: mid}, Urgent: true}
	if op == OpPush {
		r.Route = "onNews"
	} else {
		r.User = "ops"
	}
	s.handle(r)
	for _, it := range s.items {
		switch it.Kind {
		case ItemPush, ItemDirect:
			pushes++
		case ItemReply:
			answer = string(it.Body)
		}
	}
	if j, ok := s.w.journal.(*diary); ok && answer == "" && len(j.answers) > 0 {
		last := len(j.answers) - 1
		answer, j.answers = string(j.answers[last].Body), j.answers[:last]
	}
	return pushes, answer
}

// toldPublished is an answer to a publish.
type toldPublished struct {
	Seq            string
	Time           int64
	Loops, Members int
	Again          bool
}

func parsePublished(t *testing.T, answer string) (p toldPublished) {
	t.Helper()
	if err := json.Unmarshal([]byte(answer), &p); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return p
}

// What an operator publishes with an id is done once, and answered as the first time, by whoever owns the room: another owner knows it by records, and by what it is given. Members' ids are theirs, those of a
// room and of one of its members are two, and members' do not push operators' out.
func TestPublishedOnce(t *testing.T) {
	for _, op := range []Op{OpPush, OpSay} {
		t.Run(fmt.Sprint(op), func(t *testing.T) {
			s, now := keepingStage(t, keeping(ReadersPresent), Limits{})
			follower := newWorker(nil)
			s.w.KeepBack(&kept{stage: s, records: func(part uint16, records []Record) {
				if err := follower.state.read(follower.state.parts[part], framed(records)); err != nil {
					t.Fatal(err)
				}
			}})
			s.extendedEnter(at(0, 1), "a", 7, Extended{})
			s.extendedEnter(at(1, 2), "b", 0, Extended{})
			s.extendedEnter(at(256, 3), "c", 9, Extended{})
			s.extendedEnter(at(256, 4), "d", 0, Extended{})
			n, first := s.publish(op, Everybody, 5)
			want := parsePublished(t, first)
			if n != 3 || want.Loops != 3 || want.Members != 4 || want.Again || !strings.HasSuffix(want.Seq, fmt.Sprint(".", s.room("r").seq)) || want.Time == 0 {
				t.Fatalf("%d pushes, %s", n, first)
			}
			again := func(what string, s *stage) {
				t.Helper()
				n, answer := s.publish(op, Everybody, 5)
				got := parsePublished(t, answer)
				if !got.Again || n != 0 {
					t.Errorf("%s: %d pushes, %s", what, n, answer)
				}
				if got.Again = false; got != want {
					t.Errorf("%s: %s, first %s", what, answer, first)
				}
			}
			*now += int64(time.Second)
			again("again", s)
			s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"x"`), Ext: &Extended{Mid: 5}})
			if strings.Contains(string(s.items[len(s.items)-1].Body), "loops") {
				t.Error("a member's message has the id of an operator's, and is taken for it")
			}
			s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"x"`), Ext: &Extended{Mid: 8}})
			if n, answer := s.publish(op, Everybody, 8); n != 3 || parsePublished(t, answer).Again {
				t.Errorf("with the id of a member's message: %d pushes, %s", n, answer)
			}
			for mid := range uint64(2 * maxMids) {
				s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"x"`), Ext: &Extended{Mid: 1000 + mid}})
			}
			again("after many of members", s)
			if n := len(s.room("r").history.mids()); n != maxMids+2 {
				t.Errorf("%d ids are kept", n)
			}
			if op == OpPush {
				n, answer := s.publish(op, "b", 6)
				if got := parsePublished(t, answer); n != 1 || got.Loops != 1 || got.Members != 1 || got.Seq != "" {
					t.Errorf("to one: %d pushes, %s", n, answer)
				}
				if n, answer = s.publish(op, "b", 6); n != 0 || !parsePublished(t, answer).Again {
					t.Errorf("to one again: %d pushes, %s", n, answer)
				}
				if _, answer = s.publish(op, "nobody", 7); answer != string(Absent) {
					t.Errorf("to nobody: %s", answer)
				}
			}

			part := Partition("r")
			for what, export := range map[string][]byte{"another owner, as it was given it": s.w.Export(nil, part), "the follower": exportAt(follower, part, 0)} {
				owner := &stage{t: t, outlets: map[int]*recorder{}}
				owner.w = NewWorker(func(id OutletID) Outlet { return owner.outlet(int(id.Node.Number())<<8 | int(id.Loop)) })
				owner.w.SetLimits(Limits{}, new(atomic.Int64), func() int64 { return *now })
				owner.w.KeepHistory(s.w.history)
				if err := owner.w.Import(part, testEpoch, export); err != nil {
					t.Fatal(err)
				}
				again(what, owner)
			}

			for mid := range uint64(maxMids) {
				s.publish(op, Everybody, 9000+mid)
			}
			if n, answer := s.publish(op, Everybody, 5); n == 0 || parsePublished(t, answer).Again {
				t.Errorf("after %d others of operators: %d pushes, %s", maxMids, n, answer)
			}
		})
	}
}

// What an operator says is kept as what members say, and is refused as theirs while it cannot be written; its answer comes when it is safe, and its id is written with it. What is
// pushed is not kept, and nobody is held up by it. Who publishes to nobody is told so.
func TestPublishedIsKept(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	j := &diary{holds: true}
	s.w.UseJournal(j)
	if _, answer := s.publish(OpSay, Everybody, 5); answer != string(Absent) {
		t.Errorf("to nobody: %s", answer)
	}
	s.enter(at(0, 1), "a", "r")
	_, answer := s.publish(OpSay, Everybody, 5)
	if e := j.entries[len(j.entries)-1]; e.Kind != EntrySaid || e.Mid != 5 || !isPublish(e.Key) || string(e.Body) != `{"msg":{"n":1},"from":"ops","target":"*"}` || !strings.Contains(answer, `"seq":"`) {
		t.Errorf("written %+v, answered %s", e, answer)
	}
	for _, it := range s.items {
		if it.Kind == ItemReply {
			t.Errorf("answered before it is safe: %v", it)
		}
	}
	entries := len(j.entries)
	if _, answer := s.publish(OpPush, Everybody, 6); len(j.entries) != entries || !strings.Contains(answer, `"members":1`) {
		t.Errorf("a push: %s, written %v", answer, j.entries[entries:])
	}
	if got := s.room("r").history.told(); got != 1 {
		t.Errorf("%d messages are kept", got)
	}
	j.failing = true
	for _, mid := range []uint64{5, 7} {
		if n, answer := s.publish(OpSay, Everybody, mid); n != 0 || answer != string(HistoryRefused) {
			t.Errorf("id %d while nothing can be written: %d pushes, %s", mid, n, answer)
		}
	}
	if n, answer := s.publish(OpPush, Everybody, 8); n != 1 {
		t.Errorf("a push while nothing can be written: %s", answer)
	}
	j.failing = false
	s.outlet(0).full = func(RoomID) bool { return true }
	if n, answer := s.publish(OpSay, Everybody, 9); n != 0 || answer != string(Refused) {
		t.Errorf("to a full outlet: %d pushes, %s", n, answer)
	}
	s.outlet(0).full = nil
	if n, answer := s.publish(OpSay, Everybody, 9); n != 1 || parsePublished(t, answer).Again {
		t.Errorf("what was refused: %d pushes, %s", n, answer)
	}
}
