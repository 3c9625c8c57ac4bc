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
}

// RoomsOf are the rooms of a partition, in no order; none if the worker does not own it.
func (w *Worker) RoomsOf(part uint16) iter.Seq[RoomInfo] {
	return func(yield func(RoomInfo) bool) {
		if p := w.state.parts[part]; p != nil {
			for _, room := range p.rooms {
				if !yield(room.info()) {
					return
				}
			}
		}
	}
}

// Room is a room, if the worker owns its partition and it is there.
func (w *Worker) Room(name string) (RoomInfo, bool) {
	if p := w.state.parts[Partition(name)]; p != nil && p.rooms[name] != nil {
		return p.rooms[name].info(), true
	}
	return RoomInfo{}, false
}

// LifeOf tells the life of a room from others of its name; 0: nobody is in it, or the worker does not own its partition.
func (w *Worker) LifeOf(name string) RoomID {
	if p := w.state.parts[Partition(name)]; p != nil && p.rooms[name] != nil && p.rooms[name].count > 0 {
		return p.rooms[name].id
	}
	return 0
}

func (r *Room) info() RoomInfo {
	info := RoomInfo{Name: r.name(), Members: int(r.count), Slow: r.slow}
	if r.history != nil {
		info.Kept = int(r.history.told())
	}
	return info
}
