package app

import (
	"context"
	"fmt"
	"iter"
)

// RoomInfo tells of a room.
type RoomInfo struct {
	Name    string
	Members int // those that were cut off and may return (-grace) included
}

// roomsPage is how many rooms are asked for at a time; tests have less.
var roomsPage = 500

// Rooms are the rooms that have members and whose names begin with prefix, all if that is empty, in the order of their names. They are asked for 500 at a
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
				if page[i].Members > 0 && !yield(RoomInfo{Name: after, Members: page[i].Members}, nil) {
					return
				}
			}
			more = rest
		}
	}
}
