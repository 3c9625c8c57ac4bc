package history

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/wirebytes"
)

// Bounds are what of the past is wanted: what rooms may keep.
type Bounds struct {
	Messages int           // of one room
	Bytes    int           // of one room, EntryCost for each message included
	Age      time.Duration // 0: any
	Memory   int64         // of all rooms; 0: MaxRestored
	Rooms    int           // 0: any number
	Time     time.Duration // it may take; what is not read then is not there. 0: RestoreTime
}

// Costs beside bodies, as rooms count them.
const (
	entryCost  = 64
	memberCost = 96
	roomCost   = 400
	maxMembers = 4096
)

// MaxRestored is the memory of what is restored where nothing else bounds it, and RestoreTime the time.
const (
	MaxRestored = 1 << 30
	RestoreTime = 10 * time.Second
)

// runShift makes numbers of a run: what a room had in an earlier one is less than run<<runShift. A room has numbers up to 1<<48.
const runShift = 32

// Restored are the figures of a Restore.
type Restored struct {
	Rooms, Messages, Members int
	Read                     int  // entries
	Broken                   bool // something may be missing of what was said last
	Short                    bool // of time or memory: there would be more
}

// Restore reads what rooms kept when the last process ended; the room that changed last comes last. Called before Start.
func (s *Store) Restore(b Bounds) ([]channel.KeptRoom, Restored, error) {
	if b.Time == 0 {
		b.Time = RestoreTime
	}
	if b.Memory <= 0 {
		b.Memory = MaxRestored
	}
	names, err := files(s.options.Dir)
	if err != nil {
		return nil, Restored{}, err
	}
	r := restoring{
		bounds: b, now: s.options.Now().UnixMilli(), end: time.Now().Add(b.Time), rings: make(map[string]*ring),
	}
	damaged, err := damagedFiles(s.options.Dir)
	if err != nil {
		return nil, Restored{}, err
	}
	var read []string // the newest first
	for i, name := range slices.Backward(names) {
		for len(damaged) > 0 && damaged[len(damaged)-1] > name {
			damaged, r.broken = damaged[:len(damaged)-1], true
		}
		path := filepath.Join(s.options.Dir, name)
		dirty, err := readFile(path, func(tx *bolt.Tx) error {
			if i == len(names)-1 && isDirty(tx.Bucket(metaBucket)) {
				r.broken = true
			}
			return r.log(tx)
		})
		switch {
		case errors.Is(err, errDamaged):
			r.broken = true
			s.path = path
			s.giveUp()
		case err != nil:
			return nil, Restored{}, &FileError{path, err}
		default:
			read = append(read, path)
		}
		if dirty && i == len(names)-1 {
			s.broken.Store(true)
		}
		if r.done {
			break
		}
	}
	for _, name := range slices.Backward(names) { // those whose logs were not needed
		if path := filepath.Join(s.options.Dir, name); len(read) > 0 && path < read[len(read)-1] {
			read = append(read, path)
		}
	}
	r.readMembers(read)
	run, err := s.nextRun(r.newest >> runShift)
	if err != nil {
		return nil, Restored{}, err
	}
	return r.rooms(run), r.figures, nil
}

// FileError is the error of a file that cannot be read, and is not damaged.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the file.
func (e *FileError) Unwrap() error { return e.Err }

// restoring is a Restore on its way.
type restoring struct {
	bounds  Bounds
	now     int64 // Unix ms
	end     time.Time
	rings   map[string]*ring
	deleted map[place]bool // messages that stand before what was read; nil: none
	order   []*ring        // the newest first
	memory  int64
	newest  uint64 // of all numbers
	broken  bool   // what is read from now on may lack what came behind it
	done    bool
	figures Restored
}

// place is a message's in the stream of a room.
type place struct {
	room             string
	incarnation, seq uint64
}

// ring is a room as far as it is known.
type ring struct {
	room  channel.KeptRoom // Said has the newest first
	bytes int
	want  uint64 // number of the message before what is known
	full  bool   // nothing before is taken
}

// log reads the log of a file backwards.
func (r *restoring) log(tx *bolt.Tx) error {
	c := tx.Bucket(logBucket).Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		if r.figures.Read++; r.figures.Read%1024 == 0 && time.Now().After(r.end) {
			r.done, r.figures.Short = true, true
			return nil
		}
		e, err := parseEntry(v)
		if err != nil {
			r.broken = true // one of any room is missing
			continue
		}
		e.Time = min(e.Time, r.now) // a clock that was ahead must not keep what rooms keep from ageing
		switch {
		case e.Room == "":
			r.broken = true // a break
			continue
		case r.bounds.Age > 0 && r.now-e.Time >= r.bounds.Age.Milliseconds():
			if r.now-e.Time >= (r.bounds.Age + ageSlack).Milliseconds() {
				r.done = true
				return nil
			}
			if e.Kind == channel.EntryDeleted { // the message may look younger, as the clock was set back between
				r.forbid(&e)
			}
			continue
		}
		if r.take(&e); r.done {
			return nil
		}
	}
	return nil
}

// ageSlack is by how much entries may be out of order: those of different loops are.
const ageSlack = time.Minute

// forbid notes that a message is deleted. Where memory ends, so does the past: no message may come without what was said of it later.
func (r *restoring) forbid(e *channel.Entry) {
	at := place{e.Room, e.Incarnation, e.Seq}
	switch {
	case r.deleted[at]:
	case r.memory+entryCost > r.bounds.Memory:
		r.done, r.figures.Short = true, true
	default:
		if r.deleted == nil {
			r.deleted = make(map[place]bool)
		}
		r.deleted[at] = true
		r.memory += entryCost
	}
}

// take adds an entry to its room, which is older than all that is known of it.
func (r *restoring) take(e *channel.Entry) {
	if e.Kind == channel.EntryDeleted {
		r.forbid(e)
		return
	}
	room := r.rings[e.Room]
	if room == nil {
		if r.bounds.Rooms > 0 && len(r.rings) == r.bounds.Rooms || r.memory+roomCost > r.bounds.Memory {
			r.done, r.figures.Short = true, true
			return
		}
		room = &ring{room: channel.KeptRoom{Name: e.Room, Incarnation: e.Incarnation, Readers: e.Readers, Seq: e.Seq}, want: e.Seq}
		if r.broken {
			room.room.Floor = brokenFloor
		}
		r.rings[e.Room] = room
		r.order = append(r.order, room)
		r.newest = max(r.newest, e.Seq)
		r.memory += roomCost
	}
	body := e.Body // it lies in the file
	if r.deleted[place{e.Room, e.Incarnation, e.Seq}] {
		body = nil
	}
	cost := len(body) + entryCost
	switch {
	case e.Kind == channel.EntryForgotten && !room.full && e.Incarnation == room.room.Incarnation:
		room.full, room.want = true, max(room.want, e.Seq)
	case room.full, e.Incarnation == room.room.Incarnation && e.Seq > room.want: // written twice, as it was not known whether it had been
		return
	case e.Incarnation != room.room.Incarnation, e.Seq < room.want: // an earlier room of that name, or a hole
		room.full = true
	case e.Kind == channel.EntryUnkept:
		room.room.Floor = max(room.room.Floor, e.Seq)
		room.want = e.Prev
	case e.Kind != channel.EntrySaid:
	case len(room.room.Said) == r.bounds.Messages || room.bytes+cost > r.bounds.Bytes:
		room.full = true
	case r.memory+int64(cost) > r.bounds.Memory:
		r.done, r.figures.Short = true, true
	default:
		said := *e
		said.Body = bytes.Clone(body)
		room.room.Said = append(room.room.Said, said)
		room.bytes += cost
		r.memory += int64(cost)
		room.want = e.Prev
	}
}

// brokenFloor stands for a floor that is above everything known.
const brokenFloor = ^uint64(0)

// readMembers reads who was in the rooms that were found, from files, the newest first.
func (r *restoring) readMembers(paths []string) {
	wanted := slices.SortedFunc(maps.Values(r.rings), func(a, b *ring) int { return strings.Compare(a.room.Name, b.room.Name) })
	wanted = slices.DeleteFunc(wanted, func(room *ring) bool { return room.room.Readers != channel.ReadersPresent || len(room.room.Said) == 0 })
	known := make(map[*ring]map[uint64]bool, len(wanted))
	for _, path := range paths {
		if len(wanted) == 0 || time.Now().After(r.end) {
			return
		}
		_, err := readFile(path, func(tx *bolt.Tx) error {
			c := tx.Bucket(membersBucket).Cursor()
			for _, room := range wanted {
				first := wirebytes.AppendBlock(nil, room.room.Name)
				for k, v := c.Seek(first); bytes.HasPrefix(k, first); k, v = c.Next() {
					if r.figures.Read++; r.figures.Read%1024 == 0 && time.Now().After(r.end) {
						r.figures.Short = true
						return nil
					}
					e, err := parseEntry(v)
					if err != nil || e.Kind != channel.EntryMember || e.Incarnation != room.room.Incarnation || known[room][e.Key] {
						continue
					}
					if len(known[room]) == maxMembers || r.memory+memberCost > r.bounds.Memory {
						r.figures.Short = true
						break
					}
					if known[room] == nil {
						known[room] = make(map[uint64]bool)
					}
					known[room][e.Key] = true
					r.memory += memberCost
					room.room.Members = append(room.room.Members, e)
				}
			}
			return nil
		})
		if err != nil { // gone, or damaged and set aside
			slog.Warn("a file does not tell who was in rooms; they return as newcomers", "file", path, "err", err)
		}
	}
}

// rooms are what was found, as they begin in a run.
func (r *restoring) rooms(run uint64) (rooms []channel.KeptRoom) {
	for _, found := range slices.Backward(r.order) {
		k := &found.room
		slices.Reverse(k.Said)
		if len(k.Said) == 0 || run >= 1<<(47-runShift) {
			continue // the room begins anew
		}
		begin := run << runShift
		k.Floor, k.Seq = min(max(k.Floor, found.want), begin), begin
		slices.SortStableFunc(k.Members, func(a, b channel.Entry) int { return int(min(max(a.Time-b.Time, -1), 1)) })
		for i := range k.Members {
			k.Members[i].Body = nil
		}
		r.figures.Rooms++
		r.figures.Messages += len(k.Said)
		r.figures.Members += len(k.Members)
		rooms = append(rooms, *k)
	}
	r.figures.Broken = r.broken
	return rooms
}
