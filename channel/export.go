package channel

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/pomelod/pomelod/internal/wirebytes"
)

// StateVersion names the encoding of exported partitions, and of the requests that go along with a loop. It must change whenever records or requests do, or
// what they mean; TestGoldenStates has their bytes.
const StateVersion = 10

// Export appends the state of a partition that the worker owns: a sequence of records, each behind its length, that makes an empty
// partition the same (Import). The same state always gives the same bytes.
func (w *Worker) Export(dst []byte, part uint16) []byte {
	p := w.state.parts[part]
	for r := range w.state.snapshot(p, w.now(p)) {
		dst = appendFramed(dst, &r)
	}
	return dst
}

// appendFramed appends a record behind its length.
func appendFramed(dst []byte, r *Record) []byte {
	at := len(dst)
	dst = AppendRecord(dst, r)
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(dst)-at))
	return slices.Insert(dst, at, head[:n]...)
}

// snapshot are the records of which a partition consists, at a time.
func (s *state) snapshot(p *partition, now int64) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, room := range p.inOrder() {
			for r := range s.snapshotRoom(room) {
				if !yield(r) {
					return
				}
			}
		}
		ended := false
		s.snapshotRest(p, now, new(rest), func(r Record) { ended = ended || !yield(r) }, func() bool { return ended })
	}
}

// snapshotRoom are the records of which a room consists.
func (s *state) snapshotRoom(room *Room) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for r := range snapshotHead(room) {
			if !yield(r) {
				return
			}
		}
		for slot := room.first; slot != 0; slot = s.member(slot).next {
			if !yield(s.snapshotMember(slot)) {
				return
			}
		}
	}
}

// snapshotHead are the records of which a room consists beside its members.
func snapshotHead(room *Room) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		_ = yield(Record{Kind: RecordRoom, Room: room.name(), Num: room.id.serial(), Time: int64(room.slow), Key: room.stream.Incarnation, Place: uint64(room.serial)}) &&
			(room.readers == 0 || yield(Record{Kind: RecordReaders, Room: room.name(), Num: uint64(room.readers)})) &&
			room.snapshotHistory(yield) &&
			(room.set() == nil || yield(room.set().record(room))) &&
			yield(Record{Kind: RecordPush, Room: room.name(), Num: room.seq}) &&
			(room.panics == 0 || yield(Record{Kind: RecordPanic, Room: room.name(), Num: uint64(room.panics)})) &&
			(!room.large() || yield(room.crowd.told.record(room)))
	}
}

// snapshotMember is the record of which a member consists.
func (s *state) snapshotMember(slot uint32) Record {
	m := s.member(slot)
	r := Record{Kind: RecordAdd, Room: m.room.name(), User: m.name, Addr: s.addr(slot), Num: m.mark.entry(), Key: s.keys[slot], Place: uint64(s.serialOf(slot))}
	if fold := s.folds.of[slot]; fold != "" {
		r.Body = []byte(fold)
	}
	return r
}

// rest is how far a snapshot has come in what follows the rooms: the last of each order that has come and is still in it, 0 for none, and the last slow mode.
type rest struct {
	heard, cut, doubt uint32 // slots
	slow              string // a room's name
}

// passed is told before a member leaves an order: if the snapshot has come to it, it goes on behind the one before.
func (*rest) passed(at *uint32, slot uint32, in places) {
	if *at == slot {
		*at = in[slot].prev
	}
}

// snapshotRest gives out the records that follow those of the rooms and have not come, until full says so, and tells whether there are no more. The last ones,
// which come at once, are the sessions of users and the counters of all nodes. What is appended to an order behind the place to which a snapshot has come will come, so it need not be told otherwise.
func (s *state) snapshotRest(p *partition, now int64, at *rest, emit func(Record), full func() bool) (whole bool) {
	for slot := p.heard.behind(s.voices, at.heard); slot != 0; slot = s.voices[slot].next {
		if full() {
			return false
		}
		m := s.member(slot)
		emit(Record{Kind: RecordSpoke, Room: m.room.name(), User: m.name, Time: s.voices[slot].at})
		at.heard = slot
	}
	for slot := p.cut.behind(s.cuts, at.cut); slot != 0; slot = s.cuts[slot].next {
		if full() {
			return false
		}
		s.snapshotAway(slot, s.cuts[slot].at, emit)
		at.cut = slot
	}
	for slot := p.doubt.behind(s.doubts, at.doubt); slot != 0; slot = s.doubts[slot].next {
		if full() {
			return false
		}
		m, back := s.member(slot), s.doubts[slot].at
		s.snapshotAway(slot, back, emit)
		emit(Record{Kind: RecordReplace, Room: m.room.name(), User: m.name, Addr: s.addr(slot), Num: 1, Time: back})
		at.doubt = slot
	}
	for _, name := range slices.Sorted(maps.Keys(p.slow)) {
		if name <= at.slow {
			continue
		}
		if full() {
			return false
		}
		emit(Record{Kind: RecordSlow, Room: name, Num: 1, Time: int64(p.slow[name])})
		at.slow = name
	}
	p.snapshotClaims(emit) // all at once: a claim is told of once, and a follower cannot tell which have come
	for _, c := range p.nodes {
		emit(Record{Kind: RecordIn, Addr: Addr{Node: c.node}, Num: c.in})
		emit(Record{Kind: RecordOut, Addr: Addr{Node: c.node}, Num: c.out})
	}
	emit(Record{Kind: RecordPartition, Num: p.serial, Time: now, Key: p.records, Place: uint64(p.wall)})
	return true
}

// Import makes the worker the owner of a partition, with the state that was exported. An error means that b was not, and that the worker
// does not own the partition. Strings are copied out of b.
func (w *Worker) Import(part uint16, epoch Epoch, b []byte) error {
	w.Own(part, epoch)
	p := w.state.parts[part]
	err := w.state.read(p, b)
	if err == nil && p.twins() {
		err = errRecord
	}
	if err != nil {
		w.Release(part)
		return err
	}
	w.countRooms()
	p.begin = w.nanos() - p.now
	w.shelve(p)
	w.wantTick(p)
	return nil
}

// read applies records that stand behind their lengths.
func (s *state) read(p *partition, b []byte) error {
	d := wirebytes.NewReader(b)
	for d.More() {
		r, err := ParseRecord(d.Block())
		if err == nil {
			err = s.apply(p, &r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
