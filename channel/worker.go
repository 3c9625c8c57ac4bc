package channel

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/pomelod/pomelod/codec"
)

// Worker owns the rooms of its share of the partitions. Its methods must be called by one goroutine at a time, except
// where they say otherwise.
type Worker struct {
	// Static after construction.
	number uint16
	epoch  uint32
	outlet func(OutletID) Outlet

	// Owned by the worker's goroutine.
	rooms   map[string]*Room
	index   map[memberKey]uint32 // slot + 1
	members []member
	keys    map[uint32]uint64 // slot + 1 → Key of members that have one; a field of each would cost everybody
	free    []uint32
	serial  uint64
	stats   Stats
	limited limited

	// Inbox is the weight (Request.Weight) of the requests on their way to this worker; it decides what is admitted. Safe from any goroutine.
	Inbox atomic.Int64
}

// Stats are a worker's figures: counters since the start, then gauges.
type Stats struct {
	Enters, EntersRefused uint64
	Leaves                uint64
	Replaced              uint64 // enters that took the place of an older session of the same user
	Sends, SendsRefused   uint64
	Busy                  uint64 // of the refused: because an outlet was full
	Pushes                uint64 // pushes posted, each counted once per outlet
	Panics                uint64
	Limited               [Reasons]uint64 // of the refused: because of Limits

	Rooms, Members int
}

// NewWorker makes worker number. outlet finds the outlet of an address; it is asked once for each outlet that a room
// comes to have. epoch distinguishes this owner of its rooms from earlier ones.
func NewWorker(number uint16, epoch uint32, outlet func(OutletID) Outlet) *Worker {
	return &Worker{
		number: number, epoch: epoch, outlet: outlet,
		rooms: make(map[string]*Room), index: make(map[memberKey]uint32), keys: make(map[uint32]uint64),
		limited: limited{rooms: new(atomic.Int64)},
	}
}

// Stats tells the worker's figures.
func (w *Worker) Stats() Stats {
	s := w.stats
	s.Rooms, s.Members = len(w.rooms), len(w.index)
	return s
}

// Handle carries out one request. Every method below first decides, then changes the room, then posts, so that a
// panic while deciding leaves no half state; it costs that request, and the second one costs the room.
func (w *Worker) Handle(r *Request) {
	defer func() {
		if p := recover(); p != nil {
			w.panicked(r, p)
		}
	}()
	switch r.Op {
	case OpEnter:
		w.enter(r)
	case OpLeave:
		w.leave(r)
	case OpSend:
		w.send(r)
	case OpMembers:
		w.tellMembers(r)
	case OpPush:
		w.pushTo(r)
	case OpKick:
		w.kick(r)
	case OpSlow:
		w.setSlow(r)
	default:
		w.reply(r, Refused)
	}
}

// enter is protocol.md §9.3: others are told first, then the name is added, then its session gets the list.
func (w *Worker) enter(r *Request) {
	room := w.rooms[r.Room]
	var old *member
	if room != nil {
		if m := w.find(room, r.User); m != nil {
			if m.addr == r.From { // the same request again, after an answer that was lost
				w.entered(r, room)
				return
			}
			if slot := w.index[memberKey{room.id, r.User}]; r.Key == 0 || w.keys[slot] != r.Key || w.outlet(r.From.Outlet()).Full(0) {
				w.refuseEnter(r)
				return
			}
			w.replace(r, room, m)
			return
		}
		if r.Prev != "" {
			if old = w.find(room, r.Prev); old != nil && old.addr != r.From {
				old = nil
			}
		}
		if old == nil && w.limited.Members > 0 && room.count >= w.limited.Members {
			w.limitEnter(r, ReasonMembers)
			return
		}
		if w.full(room) {
			w.stats.Busy++
			w.refuseEnter(r)
			return
		}
		if room.listed+listedBytes(r.User) > maxListed {
			w.refuseEnter(r)
			return
		}
	}
	if w.outlet(r.From.Outlet()).Full(0) {
		w.stats.Busy++
		w.refuseEnter(r)
		return
	}
	if room == nil && w.tooManyRooms() {
		w.limitEnter(r, ReasonRooms)
		return
	}
	if old != nil {
		w.drop(old, true)
		room = w.rooms[r.Room] // forgotten if old was the only one
	}
	if room == nil {
		w.serial++
		room = &Room{id: RoomID(w.number)<<48 | RoomID(w.serial), name: r.Room, slow: w.slowOf(r.Room)}
		w.rooms[r.Room] = room
		w.limited.rooms.Add(1)
	}
	w.stats.Enters++
	w.push(room, userPush("onAdd", r.User))
	w.add(room, r.User, r.From)
	if r.Key != 0 {
		w.keys[room.last] = r.Key
	}
	w.spoke(room, room.last)
	w.entered(r, room)
}

// replace gives m's place to r.From. The leave of the session that had it will name an address that is no member's.
func (w *Worker) replace(r *Request, room *Room, m *member) {
	if old := w.find(room, r.Prev); old != nil && old.addr == r.From {
		w.drop(old, true)
	}
	w.stats.Replaced++
	before := m.addr
	w.uncount(room, before)
	m.addr = r.From
	w.count(room, r.From)
	w.outlet(before.Outlet()).Post(Item{Kind: ItemKick, Room: room.id, Epoch: w.epoch, Seq: room.seq, To: before, Body: replacedReason})
	w.entered(r, room)
}

// replacedReason is what a replaced session is told. Clients that return by themselves must not after this one.
var replacedReason = []byte("replaced by a new session of yours")

func (w *Worker) entered(r *Request, room *Room) {
	var list []byte
	var open bool
	if !r.Silent {
		list, open = w.list(room)
	}
	w.outlet(r.From.Outlet()).Post(Item{
		Kind: ItemEnter, Room: room.id, Epoch: w.epoch, Seq: room.seq, To: r.From, Req: r.Req, Body: list, Open: open,
	})
}

func (w *Worker) refuseEnter(r *Request) {
	w.stats.EntersRefused++
	w.reply(r, EnterRefused)
}

// leave is protocol.md §9.6. The address must match: the name may be somebody else's by now.
func (w *Worker) leave(r *Request) {
	room := w.rooms[r.Room]
	if room == nil {
		return
	}
	if m := w.find(room, r.User); m != nil && m.addr == r.From {
		w.drop(m, false)
	}
}

// drop removes a member and tells the others. A session that stays is taken out of its loop's room first, so that it is not
// told of its own leaving.
func (w *Worker) drop(m *member, stays bool) {
	room, name, addr := m.room, m.name, m.addr
	w.stats.Leaves++
	w.remove(m)
	if stays {
		w.outlet(addr.Outlet()).Post(Item{Kind: ItemLeave, Room: room.id, Epoch: w.epoch, Seq: room.seq, To: addr})
	}
	w.push(room, userPush("onLeave", name))
}

// send is protocol.md §9.4: the push goes out before the answer. The sender's name is the member's, whatever the client claims.
func (w *Worker) send(r *Request) {
	room := w.rooms[r.Room]
	var sender *member
	if room != nil {
		sender = w.find(room, r.User)
	}
	if sender == nil || sender.addr != r.From {
		w.refuseSend(r)
		return
	}
	slot := w.index[memberKey{room.id, r.User}]
	if w.tooSoon(room, slot) {
		w.stats.SendsRefused++
		w.limit(r, ReasonSlow)
		return
	}
	if !w.deliver(room, r.Target, func() *codec.Push { return chatPush(r) }) {
		w.refuseSend(r)
		return
	}
	w.spoke(room, slot)
	w.stats.Sends++
	w.reply(r, Done)
}

// deliver pushes to the room or to one member of it, unless that cannot be taken.
func (w *Worker) deliver(room *Room, target string, push func() *codec.Push) bool {
	if target == Everybody {
		if w.full(room) {
			w.stats.Busy++
			return false
		}
		w.push(room, push())
		return true
	}
	m := w.find(room, target)
	if m == nil {
		return false
	}
	out := w.outlet(m.addr.Outlet())
	if out.Full(room.id) {
		w.stats.Busy++
		return false
	}
	out.Post(Item{Kind: ItemDirect, Room: room.id, Epoch: w.epoch, Seq: room.seq, To: m.addr, Push: push()})
	return true
}

// pushTo is a push of the server's own.
func (w *Worker) pushTo(r *Request) {
	room := w.rooms[r.Room]
	if room == nil || !w.deliver(room, r.Target, func() *codec.Push {
		return &codec.Push{Route: r.Route, Body: bytes.Clone(r.Content)}
	}) {
		w.reply(r, Refused)
		return
	}
	w.reply(r, Done)
}

// kick ends a member's session. Its loop will post the leave when the session has ended.
func (w *Worker) kick(r *Request) {
	var m *member
	if room := w.rooms[r.Room]; room != nil {
		m = w.find(room, r.Target)
	}
	if m == nil {
		w.reply(r, Refused)
		return
	}
	reason, _ := codec.StringValue(r.Content)
	w.outlet(m.addr.Outlet()).Post(Item{Kind: ItemKick, Room: m.room.id, Epoch: w.epoch, Seq: m.room.seq, To: m.addr, Body: []byte(reason)})
	w.reply(r, Done)
}

func (w *Worker) refuseSend(r *Request) {
	w.stats.SendsRefused++
	w.reply(r, Refused)
}

func (w *Worker) tellMembers(r *Request) {
	room := w.rooms[r.Room]
	if room == nil {
		room = &Room{}
	}
	list, open := w.list(room)
	w.replyWith(r, list, open)
}

func (w *Worker) reply(r *Request, body []byte) { w.replyWith(r, body, false) }

func (w *Worker) replyWith(r *Request, body []byte, open bool) {
	if r.Req != 0 {
		w.outlet(r.From.Outlet()).Post(Item{Kind: ItemReply, To: r.From, Req: r.Req, Body: body, Open: open})
	}
}

// full tells whether any outlet of the room has too much to write already.
func (w *Worker) full(room *Room) bool {
	for i := range room.outlets {
		if room.outlets[i].out.Full(room.id) {
			return true
		}
	}
	return false
}

// push gives p a sequence number and posts it to every outlet that has members of the room.
func (w *Worker) push(room *Room, p *codec.Push) {
	if len(room.outlets) == 0 {
		return
	}
	room.seq++
	if len(room.outlets) > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	for i := range room.outlets {
		w.stats.Pushes++
		room.outlets[i].out.Post(Item{Kind: ItemPush, Room: room.id, Epoch: w.epoch, Seq: room.seq, Push: p})
	}
}

// userPush is onAdd or onLeave; their payload names the route in every flavour (protocol.md §9.4).
func userPush(route, user string) *codec.Push {
	b := make([]byte, 0, len(`{"route":"","user":""}`)+len(route)+len(user))
	b = append(b, `{"route":"`...)
	b = append(b, route...)
	b = append(b, `","user":`...)
	b = codec.AppendString(b, user)
	return &codec.Push{Route: route, Body: append(b, '}')}
}

func chatPush(r *Request) *codec.Push {
	b := make([]byte, 0, len(`{"msg":,"from":"","target":""}`)+len(r.Content)+len(r.User)+len(r.Target))
	b = append(b, `{"msg":`...)
	b = append(b, r.Content...)
	b = append(b, `,"from":`...)
	b = codec.AppendString(b, r.User)
	b = append(b, `,"target":`...)
	b = codec.AppendString(b, r.Target)
	return &codec.Push{Route: "onChat", Body: append(b, '}')}
}

// panicked answers for a request that panicked. A room in which it happens again is closed.
func (w *Worker) panicked(r *Request, p any) {
	w.stats.Panics++
	slog.Error("panic in a room; the request is refused", "room", r.Room, "op", r.Op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if room := w.rooms[r.Room]; room != nil {
		if room.panics++; room.panics > 1 {
			w.closeRoom(room, "room closed after an internal error")
		}
	}
	w.reply(r, r.Op.RefusedBody())
}

// closeRoom kicks every member and forgets the room.
func (w *Worker) closeRoom(room *Room, reason string) {
	for room.first != 0 {
		m := w.member(room.first)
		addr := m.addr
		w.remove(m)
		w.outlet(addr.Outlet()).Post(Item{Kind: ItemKick, Room: room.id, Epoch: w.epoch, Seq: room.seq, To: addr, Body: []byte(reason)})
	}
}

// Number is the worker's index. Static; safe from any goroutine.
func (w *Worker) Number() int { return int(w.number) }

// Count is the number of members of room. Runs where the worker runs.
func (w *Worker) Count(room string) int {
	if r := w.rooms[room]; r != nil {
		return r.count
	}
	return 0
}
