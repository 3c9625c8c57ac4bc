package cluster

import (
	"bytes"

	"github.com/pomelod/pomelod/channel"
)

// A link is what two members have sent each other and not yet acknowledged. Each direction is two streams of bytes, in which messages stand
// behind their lengths; a batch is any stretch of one. So a message of any length travels like others, and "send again" means "from this
// byte on". A stream is named by both runs and its lane, so whatever an old route delivers late belongs to the same bytes or to nothing.
//
// A link lives as long as both runs are members. Its messages stay in order, in two lanes: snapshots are bulk, and so is what follows a snapshot of
// the same partition to the same follower until that snapshot is acknowledged. Everything else is live, and never waits behind bulk.

// lane is which stream of a direction something is in.
type lane uint8

const (
	laneLive lane = iota
	laneBulk
	lanes
)

const (
	// batchBytes are the most of a stream that one packet carries: with its head it fits into NATS' default max_payload of 1 MiB.
	batchBytes = 256 << 10
	// bulkBytes are the most of a bulk stream that are on their way at once, and a quarter of the window: so much goes out for each ack.
	bulkBytes = 1 << 20
	// resendAfter is how long nothing is acknowledged before it is sent again, in ns.
	resendAfter = 50e6
	// maxMessage is the longest message: whoever announces a longer one is broken.
	maxMessage = 1 << 30
	// DefaultLinkMemory is what all links of a node may keep, in bytes, if its Config does not say. NATS cuts a client with 64 MiB pending.
	DefaultLinkMemory = 64 << 20
)

// letter is a message that has arrived.
type letter struct {
	from channel.Node
	m    *Message
}

// links are the links of a node to all other members.
type links struct {
	self   runID
	number uint16 // of self in view, 0: no member
	view   *View
	memory int64
	window int64 // of one link
	kept   int64 // by all
	peers  []*link
	// version is how a run is talked to. Static.
	version func(runID) uint8
	parked  []parked // batches of views that are newer than this one's
	packet  []byte   // where packets are put together
	stats   linkStats
}

// linkStats count since the start.
type linkStats struct {
	Batches, Resent uint64 // sent, and of these again
	Acks            uint64 // sent
	Stray           uint64 // batches and acks of other runs, or of nobody
	Again           uint64 // batches with nothing new
	Gaps            uint64 // batches after one that is missing
	Parked          uint64 // batches of newer views
	Overflow        uint64 // of these: more than may wait
	Malformed       uint64 // messages that cannot be read, and acks of what was never sent
}

type link struct {
	name    string
	node    channel.Node
	version uint8 // of all batches
	out     [lanes]outStream
	in      [lanes]inStream
	bulk    map[uint16]uint64 // partitions with a snapshot in the bulk lane: where what was sent about it ends
}

// outStream is one direction of one lane, at its sender.
type outStream struct {
	kept   []byte  // not acknowledged, sent or not
	room   []byte  // the memory that kept is in, for when it is empty
	later  []piece // behind them: taken into kept as that gets room; bulk only
	heads  int64   // bytes of later that are no state
	base   uint64  // offset of the first byte kept
	sent   uint64  // offset of the next to send
	end    uint64  // offset of the next to come, later ones included
	since  int64   // when something was acknowledged, or sent with nothing on its way
	flight int64   // how much may be on its way
	most   int64   // what flight grows to, a step an ack
}

// piece is a part of a stream that is not in kept yet.
type piece struct {
	b     []byte
	state bool   // of a snapshot: the sender's memory, which the window does not count
	after uint64 // of the live stream: when that is acknowledged, nothing that was sent before can come after
}

// inStream is one direction of one lane, at its receiver.
type inStream struct {
	next   uint64 // offset
	part   []byte // of a message that has not ended
	ack    bool   // the sender has something to hear
	broken bool   // it says what makes no sense: nothing more is taken
}

// parked is a batch that waits for a view.
type parked struct {
	from runID
	b    *batch
}

// newLinks makes the links of a run that is no member yet. memory bounds what they keep, in bytes; version tells in which version a run is talked to.
func newLinks(self runID, memory int64, version func(runID) uint8) *links {
	return &links{self: self, memory: memory, window: memory / 4, version: version}
}

// restart ends all links: the node goes on as another run.
func (l *links) restart(run uint64) {
	*l = links{self: runID{l.self.Name, run}, memory: l.memory, window: l.memory / 4, version: l.version, packet: l.packet, stats: l.stats}
}

// adopt takes a view, and ends the links with runs that are not in it. What comes back has waited for this view.
func (l *links) adopt(v *View) (arrived []letter) {
	l.view, l.number = v, 0
	members := 0
	for i := range v.Names {
		if n := &v.Names[i]; n.Run != 0 {
			if members++; n.Name == l.self.Name && n.Run == l.self.Run {
				l.number = uint16(i + 1)
			}
		}
	}
	for len(l.peers) < len(v.Names)+1 {
		l.peers = append(l.peers, nil)
	}
	for number, x := range l.peers {
		node := v.Node(uint16(number))
		if l.number == 0 || l.number == uint16(number) {
			node = 0
		}
		if x != nil && x.node != node {
			l.kept -= x.weight()
			x, l.peers[number] = nil, nil
		}
		if x == nil && node != 0 {
			name := v.Names[number-1].Name
			x = &link{name: name, node: node, version: l.version(runID{name, node.Incarnation()})}
			l.peers[number] = x
		}
	}
	l.window = min(l.memory/4, l.memory*3/4/int64(max(members-1, 1)))
	for _, x := range l.peers {
		if x != nil {
			x.out[laneLive].bound(l.window)
			x.out[laneBulk].bound(min(bulkBytes, l.window/4))
		}
	}
	waited := l.parked
	l.parked = nil
	for _, p := range waited {
		some, _ := l.receive(p.from, p.b)
		arrived = append(arrived, some...)
	}
	return arrived
}

// to is the link to a member, nil if there is none.
func (l *links) to(node channel.Node) *link {
	if n := int(node.Number()); n < len(l.peers) && l.peers[n] != nil && l.peers[n].node == node {
		return l.peers[n]
	}
	return nil
}

// from is the link to a run on the bus, nil if it is no member.
func (l *links) from(id runID) *link {
	for _, x := range l.peers {
		if x != nil && x.name == id.Name && x.node.Incarnation() == id.Run {
			return x
		}
	}
	return nil
}

// full tells whether so much waits for a member, or for all, that nothing new should be admitted. What follows from what was admitted, and what
// frees, is sent all the same.
func (l *links) full(node channel.Node) bool {
	x := l.to(node)
	return l.kept >= l.memory || x != nil && x.weight() >= l.window
}

// appendFull appends the members for whom full is so.
func (l *links) appendFull(dst []channel.Node) []channel.Node {
	for _, x := range l.peers {
		if x != nil && (l.kept >= l.memory || x.weight() >= l.window) {
			dst = append(dst, x.node)
		}
	}
	return dst
}

// send takes a message for another member; for who is none it is dropped, as the view that says so has told its sender. m.State must not change
// any more; of the rest nothing is kept.
func (l *links) send(node channel.Node, m *Message) {
	x := l.to(node)
	if x == nil {
		return
	}
	before := x.weight()
	if !x.behindBulk(m) {
		x.out[laneLive].write(m)
	} else {
		s := &x.out[laneBulk]
		s.writeLater(m, x.out[laneLive].end)
		x.bulk[m.Part] = s.end
	}
	l.kept += x.weight() - before
}

// behindBulk tells whether m has to go by the bulk lane.
func (x *link) behindBulk(m *Message) bool {
	switch m.Kind {
	case KindSnapshot:
		if x.bulk == nil {
			x.bulk = make(map[uint16]uint64)
		}
		return true
	case KindRecords, KindConfirmed, KindSealed:
		end, has := x.bulk[m.Part]
		if has && end <= x.out[laneBulk].base {
			delete(x.bulk, m.Part)
			has = false
		}
		return has
	}
	return false
}

// weight is what the window counts: all that is kept, but for states, and for what is on its way of bulk: a joiner that catches up keeps nobody
// from chatting.
func (x *link) weight() int64 {
	return int64(len(x.out[laneLive].kept)) + x.out[laneBulk].heads
}

// flush sends what has not been sent, and again what was not acknowledged in time. Batches of a link's two lanes take turns.
func (l *links) flush(now int64, bus Bus) {
	if l.number == 0 {
		return
	}
	for _, x := range l.peers {
		if x == nil {
			continue
		}
		before := x.weight()
		for i := range x.out {
			l.stats.Resent += x.out[i].again(now)
		}
		x.out[laneBulk].refill(x.out[laneLive].base)
		for more := true; more; {
			more = false
			for i := range x.out {
				s := &x.out[i]
				if b := s.next(now); b != nil {
					more = true
					l.stats.Batches++
					l.put(bus, x, &batch{To: x.node.Incarnation(), Lane: lane(i), View: l.view.ID, Offset: s.sent - uint64(len(b)), Bytes: b})
				}
			}
		}
		for i := range x.in {
			if s := &x.in[i]; s.ack {
				s.ack = false
				l.stats.Acks++
				l.put(bus, x, &batchAck{To: x.node.Incarnation(), Lane: lane(i), Offset: s.next})
			}
		}
		l.kept += x.weight() - before
	}
}

func (l *links) put(bus Bus, x *link, b body) {
	l.packet = appendPacket(l.packet[:0], x.version, l.self, b)
	bus.Send(x.name, l.packet)
}

// receive takes a batch and keeps its bytes. behind tells that its sender has a newer view, for which it now waits.
func (l *links) receive(from runID, b *batch) (arrived []letter, behind bool) {
	if b.To != l.self.Run {
		l.stats.Stray++
		return nil, false
	}
	if l.view == nil || Less(l.view.ID, b.View) {
		l.park(from, b)
		return nil, true
	}
	x := l.from(from)
	if x == nil || !l.view.continues(b.View) { // who has a view beside this one will begin as a new run when it learns of it
		l.stats.Stray++
		return nil, false
	}
	s := &x.in[b.Lane]
	s.ack = true
	end := b.Offset + uint64(len(b.Bytes))
	switch {
	case s.broken:
	case b.Offset > s.next:
		l.stats.Gaps++
	case end <= s.next:
		l.stats.Again++
	default:
		fresh := b.Bytes[s.next-b.Offset:]
		s.next = end
		return l.read(x, s, fresh), false
	}
	return nil, false
}

// park keeps a batch of a newer view: of each sender as much as its window. One that waits already has been sent again.
func (l *links) park(from runID, b *batch) {
	end := b.Offset + uint64(len(b.Bytes))
	waiting, all := int64(len(b.Bytes)), int64(len(b.Bytes))
	for _, p := range l.parked {
		all += int64(len(p.b.Bytes))
		if p.from != from {
			continue
		}
		if waiting += int64(len(p.b.Bytes)); p.b.Lane == b.Lane && p.b.Offset <= b.Offset && end <= p.b.Offset+uint64(len(p.b.Bytes)) {
			l.stats.Again++
			return
		}
	}
	l.stats.Parked++
	if waiting > l.window || all > l.memory || len(l.parked) >= maxParked {
		l.stats.Overflow++
		return
	}
	l.parked = append(l.parked, parked{from, b})
}

// maxParked is how many batches may wait for a view: a fleet of fifty sends that many in some turns, and what is beyond it comes again.
const maxParked = 1024

// read takes the next bytes of a stream, and returns the messages that end in them.
func (l *links) read(x *link, s *inStream, b []byte) (arrived []letter) {
	joined := len(s.part) > 0
	if joined {
		b = append(s.part, b...)
		s.part = b
	}
	for len(b) > 0 {
		r := reader{b: b}
		size := r.uint()
		if r.bad && len(b) < 10 { // not even the length is whole
			break
		}
		if r.bad || size > maxMessage {
			l.stats.Malformed++
			s.broken = true
			return arrived
		}
		if size > uint64(len(r.b)) {
			break
		}
		m, err := parseMessage(r.take(size))
		if err != nil {
			l.stats.Malformed++ // what it was is missing in a row of numbers, and asked for again
		} else {
			arrived = append(arrived, letter{x.node, m})
		}
		b, joined = r.b, false
	}
	if !joined { // else nothing has ended, and s.part grows on
		s.part = bytes.Clone(b)
	}
	return arrived
}

// acked takes an ack.
func (l *links) acked(from runID, a *batchAck, now int64) {
	x := l.from(from)
	if a.To != l.self.Run || x == nil {
		l.stats.Stray++
		return
	}
	s := &x.out[a.Lane]
	switch {
	case a.Offset > s.base+uint64(len(s.kept)):
		l.stats.Malformed++
	case a.Offset > s.base:
		before := x.weight()
		s.free(a.Offset, now)
		l.kept += x.weight() - before
	}
}

// bound sets how much may be on its way.
func (s *outStream) bound(most int64) {
	if s.flight == s.most || s.flight > most {
		s.flight = most
	}
	s.most = most
}

// write appends a message.
func (s *outStream) write(m *Message) {
	if cap(s.kept)-len(s.kept) < 1<<10 { // without this, append would begin with a few bytes whenever all was acknowledged
		s.room = append(make([]byte, 0, max(8<<10, 2*len(s.kept))), s.kept...)
		s.kept = s.room
	}
	n := len(s.kept)
	s.kept = appendSized(s.kept, func(dst []byte) []byte { return appendMessage(dst, m) })
	s.end += uint64(len(s.kept) - n)
}

// writeLater appends a message that is taken into kept when its turn comes. Its State is not copied before.
func (s *outStream) writeLater(m *Message, after uint64) {
	short := *m
	short.State = nil
	body := appendMessage(nil, &short)
	if m.Kind == KindSnapshot {
		body = appendUint(body[:len(body)-1], uint64(len(m.State))) // instead of the 0 of no state
	}
	size := len(body) + len(m.State)
	head := append(appendUint(nil, uint64(size)), body...)
	s.later = append(s.later, piece{b: head, after: after})
	s.heads += int64(len(head))
	s.end += uint64(len(head) + len(m.State))
	if len(m.State) > 0 {
		s.later = append(s.later, piece{m.State, true, after})
	}
}

// refill takes of what comes later as much as kept has room for.
func (s *outStream) refill(live uint64) {
	for len(s.later) > 0 && int64(len(s.kept)) < s.most && s.later[0].after <= live {
		p := &s.later[0]
		n := min(len(p.b), int(s.most)-len(s.kept))
		if s.kept = append(s.kept, p.b[:n]...); !p.state {
			s.heads -= int64(n)
		}
		if p.b = p.b[n:]; len(p.b) == 0 {
			*p = piece{}
			s.later = s.later[1:]
		}
	}
}

// again goes back to the first byte that was not acknowledged, if nothing was for too long, and tells with how many batches it had gone on. The
// first batch goes alone then: a peer that is slow or away does not get a whole window every 50 ms.
func (s *outStream) again(now int64) (batches uint64) {
	if s.sent == s.base || now-s.since < resendAfter {
		return 0
	}
	batches = (s.sent - s.base + batchBytes - 1) / batchBytes
	s.sent, s.since, s.flight = s.base, now, min(batchBytes, s.most)
	return batches
}

// next is the next batch, nil if there is nothing to send or enough is on its way. Valid until something else is done with s.
func (s *outStream) next(now int64) []byte {
	away := int64(s.sent - s.base)
	n := min(int64(len(s.kept))-away, s.flight-away, batchBytes)
	if n <= 0 {
		return nil
	}
	if away == 0 {
		s.since = now
	}
	s.sent += uint64(n)
	return s.kept[away : away+n]
}

// free forgets what was acknowledged.
func (s *outStream) free(upTo uint64, now int64) {
	s.kept = s.kept[upTo-s.base:]
	if s.base = upTo; len(s.kept) == 0 {
		if cap(s.room) > batchBytes {
			s.room = nil
		}
		s.kept = s.room[:0]
	}
	s.sent, s.since = max(s.sent, upTo), now
	s.flight = min(2*s.flight, s.most)
}
