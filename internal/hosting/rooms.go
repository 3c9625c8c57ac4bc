package hosting

import (
	"encoding/json"

	"github.com/pomelod/pomelod/channel"
)

// RoomTold is what the owner of a room tells of it (channel.OpRoom, OpRooms).
type RoomTold struct {
	Name     string
	Members  int
	Locked   bool
	Capacity int
	Password bool
	Data     json.RawMessage
}

// Info is that as the owner's process has it.
func (t *RoomTold) Info() channel.RoomInfo {
	return channel.RoomInfo{Name: t.Name, Members: t.Members, Locked: t.Locked, Capacity: t.Capacity, Password: t.Password, Data: t.Data}
}
