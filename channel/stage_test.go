package channel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// stage is a worker and all the outlets it posts to.
type stage struct {
	t       testing.TB
	w       *Worker
	outlets map[int]*recorder
	items   []posted // in order, whatever the outlet
	req     uint32
}

type posted struct {
	outlet int
	Item
}

// recorder is an outlet that keeps what it is given.
type recorder struct {
	stage *stage
	id    int
	full  func(RoomID) bool // nil: never
	post  func(Item)        // called before an item is kept; may panic
}

func (o *recorder) Post(it *Item) {
	if o.post != nil {
		o.post(*it)
	}
	o.stage.items = append(o.stage.items, posted{o.id, *it})
}

func (o *recorder) Flush() {}

func (o *recorder) Full(r RoomID) bool { return o.full != nil && o.full(r) }

func newStage(t testing.TB) *stage {
	s := &stage{t: t, outlets: map[int]*recorder{}}
	s.w = newWorker(func(id OutletID) Outlet { return s.outlet(int(id.Node.Number())<<8 | int(id.Loop)) })
	return s
}

// newWorker is a worker that owns all partitions.
func newWorker(outlet func(OutletID) Outlet) *Worker {
	w := NewWorker(outlet)
	for part := range uint16(Partitions) {
		w.Own(part, testEpoch)
	}
	return w
}

var testEpoch = Epoch{View: 7, Maker: NewNode(3, 1)}

// room is a room that there is.
func (s *stage) room(name string) *Room { return s.w.state.parts[Partition(name)].rooms[name] }

// addrOf is the address of a member that there is.
func (s *stage) addrOf(room, name string) Addr {
	return s.w.state.addr(s.w.state.find(s.room(room), name))
}

func (s *stage) outlet(id int) *recorder {
	if s.outlets[id] == nil {
		s.outlets[id] = &recorder{stage: s, id: id}
	}
	return s.outlets[id]
}

// at is session number n behind an outlet; a second node begins at outlet 256.
func at(outlet, n int) Addr {
	return Addr{Node: NewNode(uint16(outlet>>8), 0), Ref: Ref(uint64(outlet&0xff)<<56 | uint64(n))}
}

func (s *stage) handle(r Request) {
	if r.Op != OpLeave {
		s.req++
		r.Req = s.req
	}
	s.ask(r)
}

// outletOf is the outlet of at.
func outletOf(a Addr) int { return int(a.Node.Number())<<8 | int(a.Outlet().Loop) }

func (s *stage) ask(r Request) {
	r.Part = Partition(r.Room)
	if !s.w.Handle(&r) {
		s.t.Fatalf("partition %d is not owned", r.Part)
	}
}

func (s *stage) enter(from Addr, user, room string) {
	s.handle(Request{Op: OpEnter, From: from, User: user, Room: room})
}

func (s *stage) leave(from Addr, user, room string) {
	s.handle(Request{Op: OpLeave, From: from, User: user, Room: room})
}

func (s *stage) send(from Addr, user, room, target, content string) {
	s.handle(Request{Op: OpSend, From: from, User: user, Room: room, Target: target, Content: []byte(content)})
}

// String is an item without its room's number.
func (p posted) String() string {
	kind := [...]string{ItemPush: "push", ItemEnter: "enter", ItemLeave: "leave", ItemReply: "reply", ItemDirect: "direct", ItemKick: "kick", ItemVolatile: "volatile"}[p.Kind]
	text := fmt.Sprintf("%d %s", p.outlet, kind)
	if p.Kind != ItemPush {
		text += fmt.Sprintf(" %d", p.To.Ref&0xffffff)
	}
	if p.Kind != ItemReply {
		text += fmt.Sprintf(" #%d", p.Seq)
	}
	if p.Push != nil {
		return text + " " + p.Push.Route + " " + string(p.Push.Body)
	}
	return strings.TrimSpace(text + " " + string(p.Body) + p.End())
}

// take returns what was posted since the last time.
func (s *stage) take() (lines []string) {
	for _, p := range s.items {
		lines = append(lines, p.String())
	}
	s.items = nil
	return lines
}

// want fails unless exactly these items were posted since the last time, in this order.
func (s *stage) want(lines ...string) {
	s.t.Helper()
	if got := s.take(); !slices.Equal(got, lines) {
		s.t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}

func userText(seq int, route, user string) string {
	return fmt.Sprintf(`push #%d %s {"route":"%s","user":"%s"}`, seq, route, route, user)
}

// members asks who is in a room.
func (s *stage) members(room string) string {
	s.t.Helper()
	s.handle(Request{Op: OpMembers, From: at(9, 999), Room: room})
	if len(s.items) != 1 || s.items[0].Kind != ItemReply || s.items[0].Req != s.req {
		s.t.Fatalf("members answered %v", s.take())
	}
	body := string(s.items[0].Body) + s.items[0].End()
	s.items = nil
	return body
}
