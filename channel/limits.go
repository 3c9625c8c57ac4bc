package channel

import (
	"strconv"
	"sync/atomic"
	"time"
)

// Limits bound rooms. 0 in any of them is no limit.
type Limits struct {
	Members int           // of one room
	Rooms   int           // of all workers that share a count
	Slow    time.Duration // least time between two messages of one member in a room, where no room of its own says otherwise
}

// Reason says which of the Limits refused a request.
type Reason uint8

// The reasons.
const (
	ReasonMembers Reason = iota
	ReasonRooms
	ReasonSlow
	Reasons // their number
)

// ReasonNames tell clients and operators why.
var ReasonNames = [Reasons]string{ReasonMembers: "room_members", ReasonRooms: "rooms", ReasonSlow: "slow_mode"}

// RefusedFor is the body of an answer that refuses a request and says why. Clients of Pomelo look at code (and at error, in the answer
// to an enter) and at nothing else, so a member more does not disturb them.
func RefusedFor(reason string) []byte { return []byte(`{"code":500,"reason":"` + reason + `"}`) }

// EnterRefusedFor is RefusedFor for an enter.
func EnterRefusedFor(reason string) []byte {
	return []byte(`{"code":500,"error":true,"reason":"` + reason + `"}`)
}

var limitAnswers = [Reasons][]byte{
	ReasonMembers: EnterRefusedFor(ReasonNames[ReasonMembers]),
	ReasonRooms:   EnterRefusedFor(ReasonNames[ReasonRooms]),
	ReasonSlow:    RefusedFor(ReasonNames[ReasonSlow]),
}

// limited is what a worker knows of its limits.
type limited struct {
	Limits
	rooms *atomic.Int64 // of all workers that share it
	nanos func() int64  // a clock

	// Owned by the worker.
	slow   map[string]time.Duration // by room: slow modes of their own (OpSlow)
	spoken map[uint32]int64         // slot + 1 → when a member of a slow room last spoke; a field of each would cost everybody
}

// SetLimits bounds the worker's rooms before it handles anything. rooms counts those of all workers that share it; nanos is a
// monotonic clock.
func (w *Worker) SetLimits(limits Limits, rooms *atomic.Int64, nanos func() int64) {
	w.limited = limited{Limits: limits, rooms: rooms, nanos: nanos}
}

// limit refuses a request because of its limits.
func (w *Worker) limit(r *Request, why Reason) {
	w.stats.Limited[why]++
	w.reply(r, limitAnswers[why])
}

func (w *Worker) limitEnter(r *Request, why Reason) {
	w.stats.EntersRefused++
	w.limit(r, why)
}

// tooManyRooms tells whether there may be no further room. Workers that ask at the same time may each make one.
func (w *Worker) tooManyRooms() bool {
	return w.limited.Rooms > 0 && w.limited.rooms.Load() >= int64(w.limited.Rooms)
}

// slowOf is the slow mode of a room by that name.
func (w *Worker) slowOf(room string) time.Duration {
	if d, own := w.limited.slow[room]; own {
		return d
	}
	return w.limited.Slow
}

// setSlow keeps a slow mode by the room's name, as a room that is empty is forgotten.
func (w *Worker) setSlow(r *Request) {
	ms, err := strconv.ParseInt(string(r.Content), 10, 64)
	if err != nil || ms > int64(MaxSlow/time.Millisecond) {
		w.reply(r, Refused)
		return
	}
	if ms < 0 {
		delete(w.limited.slow, r.Room)
	} else {
		if w.limited.slow == nil {
			w.limited.slow = make(map[string]time.Duration)
		}
		w.limited.slow[r.Room] = time.Duration(ms) * time.Millisecond
	}
	if room := w.rooms[r.Room]; room != nil {
		room.slow = w.slowOf(r.Room)
	}
	w.reply(r, Done)
}

// MaxSlow is the longest slow mode.
const MaxSlow = 24 * time.Hour

// spoke notes that a member has said something, or has entered: one that leaves and comes back has to wait like the others.
func (w *Worker) spoke(room *Room, slot uint32) {
	if room.slow == 0 {
		return
	}
	if w.limited.spoken == nil {
		w.limited.spoken = make(map[uint32]int64)
	}
	w.limited.spoken[slot] = w.limited.nanos()
}

// tooSoon tells whether slow mode has a member wait.
func (w *Worker) tooSoon(room *Room, slot uint32) bool {
	if room.slow == 0 {
		return false
	}
	at, known := w.limited.spoken[slot]
	return known && w.limited.nanos()-at < int64(room.slow)
}
