package channel

import (
	"fmt"
	"slices"
	"time"
)

// Limits bound rooms. 0 in any of them is no limit.
type Limits struct {
	Members int           // of one room
	List    int           // of one room; beyond it nobody is told who comes and goes, and newcomers are told the newest members only
	Rooms   int           // of all workers that share a count
	Grace   time.Duration // a member that was cut off may return within that; 0: it leaves at once
	Slow    time.Duration // least time between two messages of one member in a room, where no room of its own says otherwise
	// Sessions bounds those of one user, wherever they are.
	Sessions Sessions
}

// Reason says why a request was refused: for one of the Limits, or for a name.
type Reason uint8

// The reasons. Those without a comment are the Limits of that name, but for memory: there is little where the session is (Request.Short).
const (
	ReasonMembers Reason = iota
	ReasonRooms
	ReasonSlow
	ReasonMemory
	ReasonAlike   // the name looks like a member's
	ReasonHistory // what is said cannot be written down, and must be
	ReasonLocked  // an operator, or a program, has locked the room
	ReasonSessions
	ReasonPassword // the room has a password, and another one was shown
	Reasons        // their number
)

// ReasonNames are the reasons as clients (the member "reason" of an answer) and operators (the label of a metric) are told them.
var ReasonNames = [Reasons]string{
	ReasonMembers: "room_members", ReasonRooms: "rooms", ReasonSlow: "slow_mode", ReasonMemory: "memory", ReasonAlike: "name_alike", ReasonHistory: "history", ReasonLocked: "room_locked",
	ReasonSessions: "sessions", ReasonPassword: "password",
}

// Ruled is the answer to a program that would set a slow mode where an operator has said another (RoomLimits.Ruled).
var Ruled = RefusedFor("policy")

// RefusedFor is the body of an answer that refuses a request and says why. Clients of Pomelo look at code (and at error, in the answer
// to an enter) and at nothing else, so a member more does not disturb them.
func RefusedFor(reason string) []byte { return []byte(`{"code":500,"reason":"` + reason + `"}`) }

// EnterRefusedFor is RefusedFor for an enter.
func EnterRefusedFor(reason string) []byte {
	return []byte(`{"code":500,"error":true,"reason":"` + reason + `"}`)
}

// Bodies of answers that a node of a fleet gives where the owner has given none: NotSent to what certainly has not happened, Unknown to what may have;
// EnterNotSent and EnterUnknown to enters.
var (
	NotSent, EnterNotSent = RefusedFor("not_sent"), EnterRefusedFor("not_sent")
	Unknown, EnterUnknown = RefusedFor("unknown"), EnterRefusedFor("unknown")
)

// EnterBusy is EnterRefused to a silent enter of a room that has too much to write already. No client is told it.
var EnterBusy = []byte(`{"code":503,"error":true}`)

var limitAnswers = [Reasons][]byte{
	ReasonMembers: EnterRefusedFor(ReasonNames[ReasonMembers]),
	ReasonRooms:   EnterRefusedFor(ReasonNames[ReasonRooms]),
	ReasonMemory:  EnterRefusedFor(ReasonNames[ReasonMemory]),
	ReasonAlike:   EnterRefusedFor(ReasonNames[ReasonAlike]),
	ReasonLocked:  EnterRefusedFor(ReasonNames[ReasonLocked]),

	ReasonPassword: EnterRefusedFor(ReasonNames[ReasonPassword]),
}

// refusedUntil is RefusedFor where it is known when the request may be repeated: "wait" is that in seconds, rounded up.
func refusedUntil(why Reason, wait time.Duration) []byte {
	return fmt.Appendf(nil, `{"code":500,"reason":"%s","wait":%d}`, ReasonNames[why], (wait+time.Second-1)/time.Second)
}

// CursorRefused is the answer to a request for the members behind an entry that the room has never had: it has ended since, and begun anew.
var CursorRefused = RefusedFor("cursor")

// HistoryRefused is the answer to a send that cannot be written down.
var HistoryRefused = RefusedFor(ReasonNames[ReasonHistory])

// refusal is what admission says to a request. It is found before deciding, from the state and the outlets, and is a part of the input.
type refusal uint8

const (
	admitted        refusal = iota
	refusedBusy             // an outlet is full
	refusedMembers          // Limits.Members
	refusedRooms            // Limits.Rooms
	refusedShort            // there is little memory where the session is (Request.Short)
	refusedHistory          // the journal is failing
	refusedLocked           // the room is locked where the session is (Request.Locked), or by a program
	refusedList             // the list of the room's names would be too long to be sent
	refusedPassword         // the room has another password than was shown
)

// whyRefused are the reasons for which refusals are counted, and that a refused enter is told; Reasons is none.
var whyRefused = [...]Reason{
	admitted: Reasons, refusedBusy: Reasons, refusedMembers: ReasonMembers, refusedRooms: ReasonRooms, refusedShort: ReasonMemory,
	refusedHistory: ReasonHistory, refusedLocked: ReasonLocked, refusedList: Reasons, refusedPassword: ReasonPassword,
}

// enterBody is the answer to an enter that is refused. One that is silent no client reads, but a program may.
func (f refusal) enterBody(silent bool) []byte {
	if f == refusedBusy && silent {
		return EnterBusy
	}
	if why := whyRefused[f]; why < Reasons && limitAnswers[why] != nil {
		return limitAnswers[why]
	}
	return EnterRefused
}

func (d *decision) noteRefusal() {
	if d.input.refusal == refusedBusy {
		d.note(countBusy)
	} else if why := whyRefused[d.input.refusal]; why < Reasons {
		d.note(counterOf(why))
	}
}

// admit tells whether a request may be carried out now. It looks only at what a request would add to: what frees something is never
// refused, and what is refused anyway need not be looked at.
func (w *Worker) admit(r *Request, of subject) refusal {
	switch r.Op {
	case OpEnter:
		return w.admitEnter(r, of)
	case OpSend, OpPush, OpSay:
		switch {
		case of.room == nil || r.Op == OpSend && of.user == 0:
		case (r.Op == OpSend || r.Op == OpSay && r.Ext != nil) && r.Target == Everybody && w.holds && of.room.readers != ReadersNobody && w.journal.Failing():
			return refusedHistory
		case r.Target == Everybody:
			return w.busy(of.room)
		case of.target == 0:
		case w.state.isAway(of.target): // behind no outlet; what is kept for it goes to who follows, of which all outlets know
			return w.heavy(r, of.room)
		case w.way(w.state.addr(of.target).Outlet()).Full(of.room.id):
			return refusedBusy
		}
	case OpPushExcept:
		if of.room != nil {
			return w.busy(of.room)
		}
	case OpSet, OpData:
		return w.admitSetting(of)
	case OpDelete: // one message by its place is one push, and what a flooded room may need
		if of.room != nil && r.Ext != nil && !r.Ext.HasSince {
			if w.heavy(r, of.room) != admitted { // nobody may be there who is told
				return refusedBusy
			}
			return w.busy(of.room)
		}
	case OpClaim, OpBind, OpRooms, OpRoom:
		if w.way(r.From.Outlet()).Full(0) {
			return refusedBusy
		}
	case OpHistory, OpMembers:
		if of.user != 0 && w.way(r.From.Outlet()).Full(0) {
			return refusedBusy
		}
	}
	return admitted
}

// RoomLimits are those of the Limits that may differ from room to room.
type RoomLimits struct {
	Members, List int
	Slow          time.Duration
	Ruled         bool // Slow goes before what a program has set
	// NoGrace has members that are cut off leave at once. There are no other times than Limits.Grace and none: members that are away stand in the order of the cuts,
	// which is that of their ends too.
	NoGrace bool
}

// LimitRooms has the worker ask for the limits of a room by its name, instead of taking those of the Limits. of must be safe to call on the worker's loop.
func (w *Worker) LimitRooms(of func(room string) RoomLimits) {
	w.limitsAt++
	w.limitsOf, w.noGrace = of, func(room string) bool { return of(room).NoGrace }
}

// Relimit says that the limits of rooms are others from now on: FollowLimits has those rooms follow that are there.
func (w *Worker) Relimit() { w.limitsAt++ }

// LimitsWait tells whether there are rooms that may have to follow their limits (FollowLimits): those have changed, or the worker has come to own the rooms.
func (w *Worker) LimitsWait() bool {
	if w.limitsAt == 0 {
		return false
	}
	for _, p := range w.state.parts {
		if p != nil && p.limitsAt != w.limitsAt {
			return true
		}
	}
	return false
}

// FollowLimits has rooms be as their limits say now: slow, and large. Their members may have come under other limits. It looks at so many rooms, and at those of one partition at
// least, and tells whether there are more.
func (w *Worker) FollowLimits(rooms int) (more bool) {
	if w.limitsAt == 0 {
		return false
	}
	for _, p := range w.state.parts {
		if p == nil || p.limitsAt == w.limitsAt {
			continue
		}
		if rooms <= 0 {
			return true
		}
		rooms -= 1 + len(p.rooms)
		p.limitsAt = w.limitsAt
		w.followLimits(p)
	}
	return false
}

// followLimits is FollowLimits for a partition. Each room that follows is a decision of its own.
func (w *Worker) followLimits(p *partition) {
	var changed []string
	for name, room := range p.rooms {
		if slow, large := w.otherLimits(p, room, w.roomLimits(name)); slow || large {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed) // a fleet does the same again from the same seed
	for _, name := range changed {
		room := p.rooms[name]
		if room == nil {
			continue
		}
		limits := w.roomLimits(name)
		slow, large := w.otherLimits(p, room, limits)
		now := w.now(p)
		w.alone(p, func(d *decision) {
			d.of.room, d.room, d.seq = room, room.id, room.seq
			if slow {
				rec := d.record(RecordSlow)
				rec.Room, rec.Num, rec.Time = name, 0, int64(limits.Slow)
			}
			if large {
				is := counted{room.serial, room.count, now}
				d.tellCount(room, is, is, 0)
			}
			d.end()
		})
	}
}

// otherLimits tells whether a room is not as slow as its limits say, and whether it is to be large and is not.
func (w *Worker) otherLimits(p *partition, room *Room, limits RoomLimits) (slow, large bool) {
	_, own := p.slow[room.name()]
	slow = (limits.Ruled || !own) && (room.slow != limits.Slow || own)
	return slow, limits.List > 0 && int(room.count) > limits.List && !room.large()
}

// roomLimits are the limits of a room of that name.
func (w *Worker) roomLimits(room string) RoomLimits {
	if w.limitsOf == nil {
		return RoomLimits{Members: w.limits.Members, List: w.limits.List, Slow: w.limits.Slow}
	}
	return w.limitsOf(room)
}

// full tells whether a room has as many members as it may.
func (w *Worker) full(name string, room *Room) bool {
	most := w.roomLimits(name).Members
	if x := room.set(); x != nil && x.capacity > 0 && (most == 0 || int(x.capacity) < most) {
		most = int(x.capacity)
	}
	return most > 0 && int(room.count) >= most
}

func (w *Worker) admitEnter(r *Request, of subject) refusal {
	room := of.room
	if r.Short && (of.user == 0 || r.Key == 0 || w.state.keys[of.user] != r.Key) {
		return refusedShort
	}
	if r.Locked && of.prev == 0 && (of.user == 0 || r.Key == 0 || w.state.keys[of.user] != r.Key) {
		return refusedLocked
	}
	if barred := w.bars(r, of); barred != admitted {
		return barred
	}
	if room != nil && (of.user == 0 || w.state.isAway(of.user)) { // one that is away may have to leave for it
		switch {
		case of.prev == 0 && of.user == 0 && of.alike == 0 && w.full(r.Room, room):
			return refusedMembers
		case !room.large() && w.busy(room) != admitted: // nobody in a large room is told anything
			return refusedBusy
		case int(room.listed)+listedBytes(r.User) > maxListed:
			return refusedList
		}
	}
	switch {
	case w.way(r.From.Outlet()).Full(0):
		return refusedBusy
	case room == nil && w.limits.Rooms > 0 && w.roomsOfAll.Load() >= int64(w.limits.Rooms): // several workers may each make a last one
		return refusedRooms
	}
	return admitted
}

// heavy tells whether the outlet of the asking session has too much to write already, or the outlets that follow have.
func (w *Worker) heavy(r *Request, room *Room) refusal {
	if w.way(r.From.Outlet()).Full(room.id) {
		return refusedBusy
	}
	return admitted
}

// busy tells whether any outlet of the room has too much to write already.
func (w *Worker) busy(room *Room) refusal {
	for i := range room.outlets {
		if w.way(room.outlets[i].id).Full(room.id) {
			return refusedBusy
		}
	}
	return admitted
}
