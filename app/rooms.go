package app

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// RoomInfo tells of a room.
type RoomInfo struct {
	Name    string
	Members int // those that were cut off and may return (-grace) included

	// What the program has set (Room.Lock, SetCapacity, SetPassword, SetData).
	Locked   bool
	Capacity int             // 0: any number, as far as the operator lets it
	Password bool            // clients need one
	Data     json.RawMessage // nil: none
}

func infoOf(r channel.RoomInfo) RoomInfo {
	return RoomInfo{Name: r.Name, Members: r.Members, Locked: r.Locked, Capacity: r.Capacity, Password: r.Password, Data: slices.Clone(r.Data)} // the room's owner has that one still
}

// vacant tells whether the room is there for what it keeps of what was said only: nobody is in it, and nothing is set.
func (r *RoomInfo) vacant() bool {
	return r.Members == 0 && !r.Locked && r.Capacity == 0 && !r.Password && r.Data == nil
}

// roomsPage is how many rooms are asked for at a time; tests have less.
var roomsPage = 500

// Rooms are the rooms that have members, or of which the program has set something, and whose names begin with prefix, all if that is empty, in the order of their names. They are asked for 500 at a
// time, while the loop over them goes on; a room that comes to be or ends meanwhile may be told or not. The loop ends with an error when ctx does, or when the
// server does not run. In a fleet the owner of each of the 1,024 partitions is asked for each 500: for what is done now and then. It waits as methods of Room.Wait do, so it must not be called on an event loop.
//
//	for room, err := range a.Rooms(ctx, "match-") {
//		if err != nil {
//			return err
//		}
//		…
//	}
func (a *App) Rooms(ctx context.Context, prefix string) iter.Seq2[RoomInfo, error] {
	return func(yield func(RoomInfo, error) bool) {
		for after, more := "", true; more; {
			node, err := a.running()
			if err != nil {
				yield(RoomInfo{}, err)
				return
			}
			page, rest, err := node.Rooms(ctx, prefix, after, roomsPage)
			if err != nil {
				if over := ctx.Err(); over != nil {
					err = fmt.Errorf("%w: %w", over, err)
				}
				yield(RoomInfo{}, fmt.Errorf("rooms %s*: %w", prefix, err))
				return
			}
			for i := range page {
				after = page[i].Name
				if info := infoOf(page[i]); !info.vacant() && !yield(info, nil) {
					return
				}
			}
			more = rest
		}
	}
}
