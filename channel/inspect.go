package channel

import (
	"iter"
	"time"
)

// RoomInfo is what an operator is told of a room.
type RoomInfo struct {
	Name    string
	Members int
	Kept    int // messages that are not deleted
	Slow    time.Duration

	// What a program has set, and holds.
	Locked   bool
	Capacity int    // 0: any number
	Password bool   // there is one
	Data     []byte // JSON; nil: none. It must not be changed
}

// RoomsOf are the rooms of a partition, in no order; none if the worker does not own it.
func (w *Worker) RoomsOf(part uint16) iter.Seq[RoomInfo] {
	return func(yield func(RoomInfo) bool) {
		if p := w.state.parts[part]; p != nil {
			for _, room := range p.rooms {
				if !yield(w.info(room)) {
					return
				}
			}
		}
	}
}

// Room is a room, if the worker owns its partition and it is there.
func (w *Worker) Room(name string) (RoomInfo, bool) {
	if p := w.state.parts[Partition(name)]; p != nil && p.rooms[name] != nil {
		return w.info(p.rooms[name]), true
	}
	return RoomInfo{}, false
}

// LifeOf tells the life of a room from others of its name; 0: nobody is in it, or the worker does not own its partition.
func (w *Worker) LifeOf(name string) uint64 {
	if p := w.state.parts[Partition(name)]; p != nil {
		return p.rooms[name].life()
	}
	return 0
}

// life tells a room's life from others of its name, 0 if there is no such room or nobody is in it. A room's number does not: a partition that was born anew, as all
// that knew its state were lost, counts from 1 again.
func (r *Room) life() uint64 {
	if r == nil || r.count == 0 {
		return 0
	}
	return max(r.stream.Incarnation, 1)
}

func (w *Worker) info(r *Room) RoomInfo {
	info := RoomInfo{Name: r.name(), Members: int(r.count), Slow: r.slow}
	if r.history != nil {
		info.Kept = int(r.history.told())
	}
	if x := w.history.holding(r, w.wall(w.state.parts[r.id.Partition()])); x != nil {
		info.Locked, info.Capacity, info.Password, info.Data = x.locked, int(x.capacity), x.pass != 0, x.data
	}
	return info
}
