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
const StateVersion = 4

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
		s.snapshotRest(p, now)(yield)
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

// snapshotRest are the records that follow those of the rooms.
func (s *state) snapshotRest(p *partition, now int64) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for slot := p.heard.first; slot != 0; slot = s.voices[slot].next {
			m := s.member(slot)
			if !yield(Record{Kind: RecordSpoke, Room: m.room.name(), User: m.name, Time: s.voices[slot].at}) {
				return
			}
		}
		if !s.snapshotAway(p, yield) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(p.slow)) {
			if !yield(Record{Kind: RecordSlow, Room: name, Num: 1, Time: int64(p.slow[name])}) {
				return
			}
		}
		for _, c := range p.nodes {
			if !yield(Record{Kind: RecordIn, Addr: Addr{Node: c.node}, Num: c.in}) || !yield(Record{Kind: RecordOut, Addr: Addr{Node: c.node}, Num: c.out}) {
				return
			}
		}
		yield(Record{Kind: RecordPartition, Num: p.serial, Time: now, Key: p.records, Place: uint64(p.wall)})
	}
}

// Import makes the worker the owner of a partition, with the state that was exported. An error means that b was not, and that the worker
// does not own the partition. Strings are copied out of b.
func (w *Worker) Import(part uint16, epoch Epoch, b []byte) error {
	w.Own(part, epoch)
	p := w.state.parts[part]
	err := w.state.read(p, b)
	if err != nil {
		w.state.release(p)
	}
	w.countRooms()
	if err != nil {
		return err
	}
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

// Release forgets a partition that the worker owns or follows: somebody else owns it now.
func (w *Worker) Release(part uint16) {
	if p := w.shadows[part]; p != nil {
		delete(w.shadows, part)
		_ = w.aside(func() error { w.state.empty(p); return nil })
	}
	if p := w.state.parts[part]; p != nil {
		w.state.release(p)
		w.countRooms()
	}
}
