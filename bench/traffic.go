//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

// traffic is messages from some members of each room to all of it, while the server is measured.
//
// Closed loop (rate 0): inflight messages per room; the next one is sent when one has been delivered to every member
// and answered. Open loop: rate messages per second in all, whatever the server does; latency counts from when a message
// was due, so that a server that stalls does not hide it by keeping the generator waiting.
type traffic struct {
	inflight int
	rate     float64
	poisson  bool // open loop: messages come at random times, as many people's do, and not evenly
	senders  int  // per room; 0: one per message in flight, or in open loop up to 16
	size     int  // bytes of content

	crowd      *crowd
	m          *meter                      // of the window that is under way, or was last
	meters     []*meter                    // of all windows: what is delivered late belongs to an earlier one
	alongside  func(now int64, found bool) // called in each turn of a window, if not nil
	start      int64                       // open loop: when the first message is due
	ahead      float64                     // open loop: ns from then until the next one is
	random     *rand.Rand                  // of open loop
	due        []*sender                   // closed loop: who sends next; bounded by inflight × rooms
	spare      []*sender                   // the slice that due was before
	pad        []byte
	body       []byte
	total      int64 // deliveries expected, refused messages included until they are
	got        int64 // deliveries
	open       int64 // messages without an answer
	sent, gone int64 // messages; refused ones
	stop       bool
}

// maxOpenSenders is the default of senders per room in open loop.
const maxOpenSenders = 16

// sender is a member that sends.
type sender struct {
	member   *member
	id, slot int // among all, in its room
	sent     uint32
	refused  uint32
	answers  uint32
	left     []int32 // closed loop: deliveries and answer still missing, by number & (len-1)
}

func (t *traffic) check() error {
	switch {
	case t.size < markBytes || t.size > 200<<10:
		return fmt.Errorf("-size %d: from %d (the mark) to %d", t.size, markBytes, 200<<10)
	case t.inflight < 1 || t.inflight > 1<<15:
		return fmt.Errorf("-inflight %d: from 1 to %d", t.inflight, 1<<15)
	case t.poisson && t.rate == 0:
		return errors.New("-poisson is about when messages come; give a -rate")
	case t.rate < 0 || t.rate > 1e7 || t.senders < 0:
		return errors.New("-rate and -senders: not negative, and a rate of at most 1e7")
	}
	return nil
}

// sendersIn is how many members of a room of size members send.
func (t *traffic) sendersIn(size int) int {
	n := t.senders
	if n == 0 {
		n = t.inflight
		if t.rate > 0 {
			n = maxOpenSenders
		}
	}
	return min(n, size)
}

// begin makes senders of the first members of each room.
func (t *traffic) begin(w *crowd) error {
	t.crowd, w.load = w, t
	t.random = rand.New(rand.NewPCG(1, 2)) // the same times for every server
	t.pad = bytes.Repeat([]byte{'.'}, t.size-markBytes)
	for _, r := range w.rooms {
		n := t.sendersIn(len(r.members))
		for slot, m := range r.members[:n] {
			s := &sender{member: m, id: len(w.senders), slot: slot}
			s.left = make([]int32, 1<<bits.Len(uint((t.inflight+n-1)/n)))
			m.sender = s
			r.senders = append(r.senders, s)
			w.senders = append(w.senders, s)
		}
		for _, m := range r.members {
			m.streams = make([]stream, n)
		}
	}
	if len(w.senders) > maxSenders {
		return fmt.Errorf("%d senders: at most %d", len(w.senders), maxSenders)
	}
	if t.rate == 0 {
		for _, room := range w.rooms {
			for i := range t.inflight {
				t.due = append(t.due, room.senders[i%len(room.senders)])
			}
		}
	}
	return nil
}

// measure is the traffic from begin to end: warm-up, window, and then what is still under way. Figures go to the run.
func (t *traffic) measure(w *crowd) error {
	if err := t.begin(w); err != nil {
		return err
	}
	for i := range w.run.slices {
		if i > 0 {
			if err := t.rest(); err != nil {
				return err
			}
		}
		if err := t.window(newSlice(w.run)); err != nil {
			return err
		}
	}
	return t.drainAndSum()
}

// drainAndSum waits for what is under way and adds up the windows.
func (t *traffic) drainAndSum() error {
	if err := t.drain(); err != nil {
		return err
	}
	t.m = t.meters[0]
	for _, m := range t.meters[1:] {
		t.m.add(m)
	}
	t.end()
	return nil
}

// rest lets others measure: nothing of ours is under way meanwhile.
func (t *traffic) rest() error {
	if err := t.finish(); err != nil {
		return err
	}
	return t.crowd.run.rest()
}

// end gives the run the figures of the last window.
func (t *traffic) end() {
	r := t.crowd.run
	t.m.end("deliveries", r)
	r.figure("messages", float64(t.sent))
	r.figure("refused", float64(t.gone))
	r.figure("refused_share", float64(t.gone)/max(float64(t.sent), 1))
}

// window keeps the traffic going until the meter's window has ended. More windows may follow.
func (t *traffic) window(m *meter) error {
	r := t.crowd.run
	t.m, t.meters = m, append(t.meters, m)
	if t.rate > 0 && (t.start == 0 || r.slices > 1) {
		t.start = m.start - int64(t.ahead)
	}
	progressed, before := m.start, int64(-1)
	for !t.stop {
		n, err := r.driver.turn(r.pause)
		if err != nil {
			return err
		}
		now := clock()
		if m.turn(now, n > 0, t.got) {
			break
		}
		t.sendDue(now)
		if t.alongside != nil {
			t.alongside(now, n > 0)
		}
		if t.got != before {
			before, progressed = t.got, now
		} else if now-progressed > int64(r.patience) && t.sent > 0 {
			r.faults().reason("nothing delivered for %v", r.patience)
			break
		}
	}
	return nil
}

// sendDue sends what is due at now.
func (t *traffic) sendDue(now int64) {
	if t.rate == 0 {
		t.due, t.spare = t.spare[:0], t.due
		for _, s := range t.spare {
			t.send(s, now)
		}
		return
	}
	rooms := t.crowd.rooms
	for range turnEvents { // behind its time the generator must not forget to read
		at := t.start + int64(t.ahead)
		if at > now {
			return
		}
		if gap := 1e9 / t.rate; t.poisson {
			t.ahead += gap * t.random.ExpFloat64()
		} else {
			t.ahead += gap
		}
		t.m.lag = max(t.m.lag, now-at)
		room := rooms[int(t.sent)%len(rooms)]
		t.send(room.senders[int(t.sent)/len(rooms)%len(room.senders)], at)
	}
}

// send sends the sender's next message, meant for the time at.
func (t *traffic) send(s *sender, at int64) {
	s.sent++
	t.sent++
	t.open++
	t.total += int64(len(s.member.room.members))
	if s.sent == maxNumber {
		t.stop = true
	}
	s.left[int(s.sent)&(len(s.left)-1)] = int32(len(s.member.room.members)) + 1
	b := append(t.body[:0], `{"content":"`...)
	b = mark{s.id, s.sent, at}.append(b)
	b = append(b, t.pad...)
	t.body = append(b, `","target":"*"}`...)
	s.member.conn.request(routeSend, t.body)
}

// delivered is called for each new delivery.
func (t *traffic) delivered(s *sender, k mark, now int64) {
	t.got++
	for _, m := range t.meters {
		m.record(k.at, now)
	}
	t.arrived(s, k.number, 1)
}

// arrived takes n from what message number still misses. A closed loop goes on when nothing is missing.
func (t *traffic) arrived(s *sender, number uint32, n int32) {
	if t.rate > 0 {
		return
	}
	left := &s.left[int(number)&(len(s.left)-1)]
	if *left -= n; *left == 0 && !t.stop {
		t.due = append(t.due, s)
	}
}

// answered is called with the number of the message. Answers come in the order of requests.
func (s *sender) answered(number uint32, accepted bool) {
	t := s.member.crowd.load
	s.answers++
	if number != s.answers || number > s.sent {
		s.member.crowd.run.faults().Strange++
		s.member.crowd.run.faults().reason("answer %d instead of %d", number, s.answers)
		return
	}
	t.open--
	if !accepted {
		n := len(s.member.room.members)
		s.refused++
		t.gone++
		t.total -= int64(n)
		t.arrived(s, number, int32(n))
	}
	t.arrived(s, number, 1)
}

// drain sends no more, waits for what is under way, and then counts what has not come.
func (t *traffic) drain() error {
	t.stop = true
	if err := t.finish(); err != nil {
		return err
	}
	f := t.crowd.run.faults()
	if t.open > 0 {
		f.reason("%d messages were not answered", t.open)
	}
	if err := t.crowd.settle(); err != nil { // what comes twice comes later
		return err
	}
	for _, m := range t.crowd.members {
		for slot, s := range m.room.senders {
			m.streams[slot].end(s.answers-s.refused, s.sent-s.refused, f)
		}
	}
	return nil
}

// finish waits for what is under way, as long as anything comes.
func (t *traffic) finish() error {
	d := t.crowd.run.driver
	last, since := int64(-1), clock()
	for t.got < t.total || t.open > 0 {
		if _, err := d.turn(t.crowd.run.pause); err != nil {
			return err
		}
		now := clock()
		if sum := t.got - t.open; sum != last {
			last, since = sum, now
		} else if now-since > int64(t.crowd.run.patience) {
			break
		}
	}
	return nil
}
