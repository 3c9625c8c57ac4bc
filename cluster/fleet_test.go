package cluster

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// fleet is a few nodes of which each has a desk and a Holder, and plain queues between them: no bus, no links, and views by hand. Only the
// partition of room "r" has an owner.
type fleet struct {
	t      *testing.T
	nodes  []*actor // by number, from 1
	view   *View
	queues map[[2]int][]letterOf // from, to
	posted map[Kind]int
	shut   map[[2]int]bool // what is sent waits
	now    int64
	later  []func()    // what sessions do when they are next asked
	fetch  func() bool // whether a node that meets a newer view has it by now; nil: it adopts views when the test says so
}

// letterOf is a message and the view under which it was sent.
type letterOf struct {
	m    *Message
	view ViewID
}

// actor is a node of a fleet. It is its own Home.
type actor struct {
	f      *fleet
	number int
	run    uint64
	up     bool
	worker *channel.Worker
	holder *Holder
	desk   *desk
	wishes []*Message // to this node as the maker
	log    []string   // what its sessions were told
	last   uint64     // number of the last item
	view   ViewID

	look      func(*channel.Item) // nil: items are logged
	onLost    func()
	onRefused func(r *channel.Request, sent bool)
}

var thePart = channel.Partition("r")

func newFleet(t *testing.T, n int) *fleet {
	f := &fleet{t: t, queues: map[[2]int][]letterOf{}, posted: map[Kind]int{}, shut: map[[2]int]bool{}, now: 1e9, view: &View{Shares: make([]Share, channel.Partitions)}}
	f.nodes = append(f.nodes, nil)
	for i := range n {
		f.nodes = append(f.nodes, &actor{f: f, number: i + 1})
		f.view.Names = append(f.view.Names, Name{Name: fmt.Sprint("n", i+1)})
		f.boot(i + 1)
	}
	return f
}

// boot begins a run.
func (f *fleet) boot(i int) {
	run := f.nodes[i].run + 1
	p := &actor{f: f, number: i, run: run, up: true}
	f.nodes[i] = p
	p.worker = channel.NewWorker(nil)
	p.worker.SetLimits(channel.Limits{}, new(atomic.Int64), func() int64 { return f.now })
	post := func(to channel.Node, m *Message) { p.post(to, m) }
	p.holder = NewHolder(p.worker, post)
	p.desk = newDesk(p, post, func(channel.Node) bool { return false }, 5000*ms)
}

func (p *actor) node() channel.Node { return channel.NewNode(uint16(p.number), p.run) }

// post sends a message through its encoding.
func (p *actor) post(to channel.Node, m *Message) {
	b := appendMessage(nil, m)
	got, err := parseMessage(b)
	if err != nil {
		p.f.t.Fatal(err)
	}
	p.f.posted[m.Kind]++
	i := int(to.Number())
	if x := p.f.nodes[i]; x.up && x.node() == to {
		key := [2]int{p.number, i}
		p.f.queues[key] = append(p.f.queues[key], letterOf{got, p.view})
	}
}

func (p *actor) Items(part uint16, items []channel.Item) {
	for _, it := range items {
		if it.N != p.last+1 {
			p.f.t.Fatalf("node %d: item %d after %d", p.number, it.N, p.last)
		}
		p.last++
		if p.look != nil {
			p.look(&it)
			continue
		}
		s := fmt.Sprintf("%d", it.To.Ref)
		switch it.Kind {
		case channel.ItemPush, channel.ItemDirect:
			s = string(it.Push.Body)
		default:
			s += " " + string(it.Body)
		}
		p.log = append(p.log, s)
	}
}

func (p *actor) Lost(part uint16, why string) {
	p.log = append(p.log, "LOST "+why)
	c := p.desk.parts[part]
	p.last = c.last
	if p.onLost != nil {
		p.onLost()
	}
}

func (p *actor) Refused(r *channel.Request, sent bool) {
	if p.onRefused != nil {
		p.onRefused(r, sent)
	}
	p.log = append(p.log, fmt.Sprintf("REFUSED %d sent=%v", r.From.Ref, sent))
}

// change makes the next view, of the runs that are up, and has the nodes adopt it: all that are up, or those that are given; 0 is nobody.
func (f *fleet) change(how func(s *Share, id ViewID), who ...int) {
	f.t.Helper()
	v := *f.view
	v.ID = ViewID{View: f.view.ID.View + 1, Maker: f.nodes[1].node()}
	if !f.nodes[1].up {
		v.ID.Maker = f.nodes[2].node()
	}
	v.Names, v.Shares = slices.Clone(v.Names), slices.Clone(v.Shares)
	for i := range v.Names {
		v.Names[i].Run = 0
		if p := f.nodes[i+1]; p.up {
			v.Names[i].Run = p.run
		}
	}
	if !slices.Equal(v.Names, f.view.Names) {
		v.Members = v.ID
	}
	how(&v.Shares[thePart], v.ID)
	f.view = &v
	if who == nil {
		for i := 1; i < len(f.nodes); i++ {
			who = append(who, i)
		}
	}
	for _, i := range who {
		f.nodes[i].adopt(&v)
	}
}

func (p *actor) adopt(v *View) {
	if p != nil && p.up && Less(p.view, v.ID) && v.Has(p.node()) {
		p.view = v.ID
		p.holder.Adopt(v, p.node())
		p.desk.adopt(v, p.node())
	}
}

// kill ends a run: what it has not sent is lost, and what is on its way to it.
func (f *fleet) kill(i int) {
	f.nodes[i].up = false
	for key := range f.queues {
		if key[0] == i || key[1] == i {
			delete(f.queues, key)
		}
	}
}

// settle delivers everything that is not held up, in turns, until nothing more comes. Each turn begins with what Holders have to send.
func (f *fleet) settle() {
	f.t.Helper()
	for rounds := 0; f.round(); rounds++ {
		if rounds > 1000 {
			f.t.Fatal("messages without end")
		}
	}
}

func (f *fleet) round() (any bool) {
	for _, p := range f.nodes[1:] {
		if p.up {
			p.holder.Flush()
		}
	}
	for i := 1; i < len(f.nodes); i++ {
		for j := 1; j < len(f.nodes); j++ {
			key := [2]int{i, j}
			if f.shut[key] {
				continue
			}
			list := f.queues[key]
			f.queues[key] = nil
			for n, x := range list {
				to := f.nodes[j]
				if Less(to.view, x.view) {
					if f.fetch != nil && f.fetch() {
						to.adopt(f.view)
					}
					if Less(to.view, x.view) {
						f.queues[key] = append(list[n:len(list):len(list)], f.queues[key]...)
						break
					}
				}
				any = true
				to.deliver(f.nodes[i].node(), x.m)
			}
		}
	}
	for _, p := range f.nodes[1:] {
		if p.up {
			p.desk.turn(f.now)
		}
	}
	return any
}

func (p *actor) deliver(from channel.Node, m *Message) {
	switch m.Kind {
	case KindInStep, KindReady, KindDropFollower:
		p.wishes = append(p.wishes, m)
	case KindServe, KindItems, KindNotOwner:
		p.desk.receive(from, m)
	default:
		p.holder.Receive(from, m)
	}
}

// pass lets time pass in which nothing is delivered that is held up.
func (f *fleet) pass(d int64) {
	f.t.Helper()
	for end := f.now + d; f.now < end; {
		f.now += 20 * ms
		for _, p := range f.nodes[1:] {
			if p.up {
				p.holder.Tick(f.now)
			}
		}
		f.settle()
	}
}

// wish is the last one of a kind that the maker was told; nil: none.
func (f *fleet) wish(kind Kind) *Message {
	wishes := f.nodes[f.view.ID.Maker.Number()].wishes
	for i := len(wishes) - 1; i >= 0; i-- {
		if wishes[i].Kind == kind {
			return wishes[i]
		}
	}
	return nil
}

// owned is a view in which node 1 owns, and others are named.
func (f *fleet) owned(follower, joiner uint16) {
	f.change(func(s *Share, id ViewID) { *s = Share{Owner: 1, Epoch: id, Born: id} })
	f.settle()
	if follower != None {
		f.join(follower)
		f.follow()
	}
	if joiner != None {
		f.join(joiner)
	}
}

// join names a joiner, follow makes it the follower as the owner wants it.
func (f *fleet) join(joiner uint16) {
	f.t.Helper()
	f.change(func(s *Share, id ViewID) { s.Joiner, s.Joining = joiner, id })
	f.settle()
}

func (f *fleet) follow() {
	f.t.Helper()
	if m := f.wish(KindInStep); m == nil || m.Naming != f.view.Shares[thePart].Joining {
		f.t.Fatal("the joiner is not called in step")
	}
	f.change(func(s *Share, id ViewID) {
		s.Follower, s.Following, s.Joiner, s.Joining = s.Joiner, s.Joining, None, ViewID{}
	})
	f.settle()
}

// promote gives the partition to the follower.
func (f *fleet) promote(who ...int) {
	f.t.Helper()
	f.change(func(s *Share, id ViewID) {
		*s = Share{Owner: s.Follower, Epoch: id, Born: s.Born}
	}, who...)
}

// ask has a session of a node ask for something. It does not settle.
func (f *fleet) ask(node int, r channel.Request) {
	f.t.Helper()
	r.Part = thePart
	if r.Room == "" {
		r.Room = "r"
	}
	if err := f.nodes[node].desk.request(&r, f.now); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) enter(node int, ref channel.Ref, user string) {
	f.t.Helper()
	f.ask(node, channel.Request{Op: channel.OpEnter, Req: uint32(ref), From: channel.Addr{Ref: ref}, User: user})
}

// otherRoom is a room beside "r" in its partition.
func otherRoom() string {
	for i := 0; ; i++ {
		if s := fmt.Sprint("s", i); channel.Partition(s) == thePart {
			return s
		}
	}
}

func (f *fleet) enterRoom(node int, ref channel.Ref, user, room string) {
	f.t.Helper()
	f.ask(node, channel.Request{Op: channel.OpEnter, Req: uint32(ref), From: channel.Addr{Ref: ref}, User: user, Room: room})
}

func (f *fleet) send(node int, ref channel.Ref, user, text string) {
	f.t.Helper()
	f.ask(node, channel.Request{Op: channel.OpSend, Req: uint32(ref), From: channel.Addr{Ref: ref}, User: user, Target: channel.Everybody, Content: []byte(`"` + text + `"`)})
}

func (f *fleet) leave(node int, ref channel.Ref, user string) {
	f.t.Helper()
	f.ask(node, channel.Request{Op: channel.OpLeave, From: channel.Addr{Ref: ref}, User: user})
}

// want fails unless a node's sessions were told just that since the last time.
func (f *fleet) want(node int, lines ...string) {
	f.t.Helper()
	if got := f.nodes[node].log; !slices.Equal(got, lines) {
		f.t.Errorf("node %d was told\n\t%s\nwant\n\t%s", node, strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
	f.nodes[node].log = nil
}

func (f *fleet) forgetLogs() {
	for _, p := range f.nodes[1:] {
		p.log = nil
	}
}

// same fails unless two nodes have the same state, and nothing is unanswered.
func (f *fleet) same(a, b int) {
	f.t.Helper()
	x, y := f.nodes[a].worker.State(nil, thePart), f.nodes[b].worker.State(nil, thePart)
	if string(x) != string(y) {
		f.t.Errorf("node %d has\n%q\nnode %d\n%q", a, x, b, y)
	}
}

// answered fails unless every request is known to be executed, every item confirmed, and nothing else is kept.
func (f *fleet) answered() {
	f.t.Helper()
	for _, p := range f.nodes[1:] {
		if !p.up {
			continue
		}
		if c := p.desk.parts[thePart]; c != nil && len(c.requests) > 0 || p.desk.bytes != 0 {
			f.t.Errorf("node %d: %d requests without an answer, %d bytes", p.number, len(c.requests), p.desk.bytes)
		}
		if h := p.holder.parts[thePart]; h != nil {
			if n := len(h.keptItems()); n > 0 || len(h.owner.out) > 0 {
				f.t.Errorf("node %d: %d items kept, %d decisions not released", p.number, n, len(h.owner.out))
			}
		}
		for node, n := range p.holder.kept {
			if n.own != 0 || n.all.bytes.Load() != 0 {
				f.t.Errorf("node %d counts %d bytes kept for %v", p.number, n.own, node)
			}
		}
	}
}

func chat(user, text string) string {
	return fmt.Sprintf(`{"msg":"%s","from":"%s","target":"*"}`, text, user)
}

func told(route, user string) string { return fmt.Sprintf(`{"route":"%s","user":"%s"}`, route, user) }
