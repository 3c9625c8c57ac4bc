package cluster_test

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// What the simulation knows of messages that operators delete, by a connector: who was in the room from before the request on is told of it, once it is answered; and nobody who comes back
// after the answer is told the message.

// operatorRef is the address, on each connector, of who asks for operators.
const operatorRef = channel.Ref(0)

// deletion is what has come of a message's deletion.
type deletion struct {
	seq    codec.Seq // the message's place
	doomed int64     // when it was asked for; 0: never
	gone   int64     // when it was answered; 0: it was not
}

// deletes has an operator at the session's connector delete a message that it was pushed.
func (s *session) deletes(m *said) {
	w := s.p.w
	if w.deletions == nil {
		w.deletions = make(map[uint32]*said)
	}
	req := uint32(len(w.deletions) + 1)
	w.deletions[req] = m
	if m.doomed == 0 {
		m.doomed = w.now
	}
	r := &channel.Request{Op: channel.OpDelete, Part: m.part, Req: req, From: channel.Addr{Node: s.p.node.Self(), Ref: operatorRef}, Room: simRooms[m.part], Ext: &channel.Extended{HasSince: true, Since: m.seq}}
	if err := s.p.post(r); err != nil {
		w.sums["refused, not sent"]++
	}
}

// deleted takes the answer.
func (w *world) deleted(it *channel.Item) {
	m := w.deletions[it.Req]
	switch string(it.Body) {
	case `{"deleted":1,"more":false}`:
		w.sums["deletions"]++
		if m.gone == 0 {
			m.gone = w.now
		}
	case string(channel.Absent): // the room has begun anew, or keeps it no more
		w.sums["deletions of nothing"]++
	default:
		w.violation("the deletion of %d is answered %s", m.number, it.Body)
	}
}

// repeated looks at a message that a session is told, as it has missed it.
func (s *session) repeated(m *said) {
	w := s.p.w
	if m.target == channel.Everybody && m.gone != 0 && s.c.since > m.gone && (!w.split || w.quorum > 0) {
		w.violation("client %d enters at %d and is told %d, which was deleted at %d", s.c.id, s.c.since, m.number, m.gone)
	}
}

// unsaid takes what a push says of a deletion.
func (s *session) unsaid(p *codec.Push) {
	w := s.p.w
	seq, ok := codec.ParseSeq(field(p.Body, `"deleted":"`))
	for _, m := range w.deletions {
		if ok && m.part == s.part && m.seq == seq {
			s.seat.gone[m.number] = true
			w.sums["deletions told"]++
			return
		}
	}
	w.violation("client %d is told that %s is deleted, which nobody asked for", s.c.id, p.Body)
}

// checkDeleted looks whether all were told who were there.
func (w *world) checkDeleted() {
	for _, m := range w.deletions {
		if m.gone == 0 || w.split && w.quorum == 0 {
			continue
		}
		for _, t := range w.seats {
			if t.part == m.part && t.enter < m.doomed && (t.end == 0 || t.by && t.end > m.gone+9000) && !t.gone[m.number] {
				w.violation("client %d at %s has not heard that %d was deleted, asked for at %d and answered at %d", t.s.c.id, t.s.p.name, m.number, m.doomed, m.gone)
			}
		}
	}
}

// Who is cut off and returns to a new owner is not told what was deleted meanwhile, and is told that what it had before is.
func TestDeletionsSurviveAnOwner(t *testing.T) {
	s := newStage(t, "cccnn", 0)
	s.returns = true
	for _, p := range s.procs {
		p.boot()
	}
	s.calm()
	const part = 3
	ann := s.enter(s.procs[3], part, "ann")
	s.enter(s.procs[3], part, "a plain one")
	bob := s.come(s.procs[4], part, "bob", true)
	s.in(bob)
	had := ann.c.say(channel.Everybody)
	s.pass(100)
	bob.cut = true
	bob.c.hangUp()
	s.pass(100)
	missed := ann.c.say(channel.Everybody)
	s.pass(100)
	ann.deletes(had)
	ann.deletes(missed)
	s.pass(100)
	if had.gone == 0 || missed.gone == 0 || !ann.seat.gone[had.number] || !ann.seat.gone[missed.number] {
		t.Fatalf("deleted: %+v, %+v, told %v", had.deletion, missed.deletion, ann.seat.gone)
	}
	s.owner(part).kill()
	s.until("somebody owns the room", 9000, func() bool { return s.owner(part) != nil })
	s.pass(100)
	s.here(ann)
	back := s.again(bob.c, s.procs[3])
	s.in(back)
	s.pass(100)
	if back.seat.got[missed.number] || !back.seat.gone[had.number] || back.seat.gone[missed.number] {
		t.Errorf("who returns has got the deleted message: %v; is told of %v", back.seat.got[missed.number], back.seat.gone)
	}
	s.end()
}
