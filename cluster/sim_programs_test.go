package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// What the simulation knows of programs beside what they set (sim_settings_test.go).
//
// They push what is volatile, which each session in the room is given at most once, in the order in which one node has asked for it; and whoever is there, and stays, if the push is answered.
//
// They hear who is away and who returns (app.App.OnAway, OnReturn), here where the cut is noticed and where the enter is answered, and push that to the room. A session enters once.
// It returns only if an earlier one of its client may have the place still, as nobody has had it since: that one's leave may be on its way. Who is told of as away when another session has its place
// already is told of as back behind that.
//
// And they ask who leads (app.App.Leads), on all nodes. Of those that are members and serve one leads, and stays it until it ends.

// leadRef is the address, on each node, of who asks who leads.
const leadRef = channel.Ref(2) << 56

// simLeads are users that stand for what one node leads in.
var simLeads = func() (users []string) {
	for i := 0; len(users) < 2; i++ {
		if user := fmt.Sprint("leader\x00", i); channel.Partition(user) < simParts {
			users = append(users, user)
		}
	}
	return users
}()

// programs are what a run knows of them; nil: there are none.
type programs struct {
	rng       *rand.Rand
	volatiles []*volatile
	aways     []*session // by the number of what is pushed of them
	req       uint32
	leads     map[leadership]channel.Node // who was told that it leads
	next      int64                       // when somebody asks who leads
	asked     map[uint32]leadQuestion
}

// volatile is a push that need not come.
type volatile struct {
	number  int
	part    uint16
	node    channel.Node
	done    int64
	members map[replyKey][]*session
	had     []*session
}

// leadership is what there is to lead in, by its place in simLeads, while the partition is not born anew.
type leadership struct {
	lead int
	born cluster.ViewID
}

// leadQuestion is what a node has asked.
type leadQuestion struct {
	at   int64
	lead int
	p    *proc
	node channel.Node
	born cluster.ViewID
}

// planPrograms has a run have programs, with random numbers of their own.
func (w *world) planPrograms() {
	w.programs = &programs{rng: rand.New(rand.NewPCG(w.seed, 23)), volatiles: []*volatile{nil}, leads: make(map[leadership]channel.Node), next: 2500, asked: make(map[uint32]leadQuestion)}
}

// pushes has a program where a session is push something volatile to its room.
func (s *session) pushes() {
	w := s.p.w
	x := w.programs
	v := &volatile{number: len(x.volatiles), part: s.part, node: s.p.node.Self(), members: map[replyKey][]*session{}}
	x.volatiles = append(x.volatiles, v)
	r := s.tells("onTick", v.number)
	r.Silent, r.Req = true, uint32(v.number)
	if err := s.p.post(r); err != nil {
		w.sums["refused, not sent"]++
	}
}

// tells is a push of a program's to a session's room.
func (s *session) tells(route string, number int) *channel.Request {
	return &channel.Request{Op: channel.OpPush, Part: s.part, From: channel.Addr{Node: s.p.node.Self(), Ref: pushRef}, Room: simRooms[s.part], Target: channel.Everybody,
		Route: route, Content: fmt.Appendf(nil, `{"n":"%d"}`, number)}
}

// pushRef is the address, on each connector, of programs that push.
const pushRef = channel.Ref(3) << 56

// decidedPrograms notes who is to be told what is volatile.
func (p *proc) decidedPrograms(part uint16, items []channel.Item) {
	w := p.w
	if w.programs == nil {
		return
	}
	var v *volatile
	for i := range items {
		switch it := &items[i]; {
		case it.Kind == channel.ItemVolatile:
			v = w.programs.volatiles[w.told(it)]
		case it.Kind == channel.ItemReply && it.To.Ref == pushRef && v != nil:
			v.members[replyKey{it.Epoch, it.To.Node, it.N}] = w.membersOf(&said{target: channel.Everybody}, p.roster(part))
		}
	}
}

func (w *world) told(it *channel.Item) int {
	n, err := strconv.Atoi(field(it.Push.Body, `"n":"`))
	if err != nil {
		w.violation("a program's push is %s", it.Push.Body)
	}
	return n
}

// isPushed takes the answer to a push.
func (p *proc) isPushed(it *channel.Item) {
	w := p.w
	v := w.programs.volatiles[it.Req]
	switch string(it.Body) {
	case string(channel.Done):
		had, ok := v.members[replyKey{it.Epoch, it.To.Node, it.N}]
		if !ok {
			w.violation("volatile push %d is acknowledged, and nobody has executed it", v.number)
		}
		v.had, v.done = had, w.now
		w.sums["volatile pushes"]++
	case string(channel.Absent):
		w.sums["volatile pushes to nobody"]++
	default:
		w.sums["refused"]++
	}
}

// ticks takes a volatile push.
func (s *session) ticks(it *channel.Item) {
	w := s.p.w
	v := w.programs.volatiles[w.told(it)]
	w.sums["volatile deliveries"]++
	if last := s.seat.ticks[v.node]; v.part != s.part || last >= v.number {
		w.violation("client %d in room %d is told the volatile push %d to room %d after %d of the same node", s.c.id, s.part, v.number, v.part, last)
	}
	s.seat.ticks[v.node] = v.number
	s.seat.ticked[v.number] = true
}

// checkPushed looks whether what is volatile has come to those who were there, as no node is behind here.
func (w *world) checkPushed() {
	if w.programs == nil {
		return
	}
	for _, v := range w.programs.volatiles[1:] {
		for _, s := range v.had {
			if s.ended && (s.seat == nil || !s.seat.by || s.seat.end <= v.done+9000) || w.split && w.quorum == 0 {
				continue
			}
			w.sums["volatile deliveries checked"]++
			if s.seat == nil || !s.seat.ticked[v.number] {
				w.violation("the volatile push %d to room %d, acknowledged at %d, has not come to client %d at %s", v.number, v.part, v.done, s.c.id, s.p.name)
			}
		}
	}
}

// away has a program hear that a session was cut off, and tell the room.
func (s *session) away() (told bool) {
	x := s.p.w.programs
	if x == nil || !s.cut || s.seat == nil {
		return false
	}
	s.p.w.sums["told of as away"]++
	x.aways = append(x.aways, s)
	_ = s.p.post(s.tells("onAway", len(x.aways)-1))
	return true
}

// comesBack has a program hear that a session has a place that another one had, and tell the room.
func (s *session) comesBack() {
	w := s.p.w
	w.sums["told of as back"]++
	if !slices.ContainsFunc(s.c.all, func(o *session) bool { return o != s && o.part == s.part && o.name == s.name && !o.followed }) {
		w.violation("client %d is back in room %d as %s, at %s, and no earlier session's place can be its", s.c.id, s.part, s.name, s.p.name)
	}
	for _, o := range s.c.all {
		o.followed = o.followed || o != s && o.part == s.part && o.name == s.name
	}
	s.tellBack()
}

// isTold has a program hear that a session has its place although an earlier one was told of as away since it came.
func (s *session) isTold() {
	w := s.p.w
	w.sums["told of as back again"]++
	s.tellBack()
	if !slices.ContainsFunc(w.programs.aways, func(o *session) bool { return o != s && o.c == s.c && o.part == s.part && o.name == s.name }) {
		w.violation("client %d is told of as back in room %d as %s, at %s, and nobody was told of as away", s.c.id, s.part, s.name, s.p.name)
	}
}

// tellBack tells the room who of those told of as away is back by s, if that is not told yet.
func (s *session) tellBack() {
	x := s.p.w.programs
	if x == nil {
		return
	}
	for n, o := range x.aways {
		if o != s && o.c == s.c && o.part == s.part && o.name == s.name && !o.toldBack {
			o.toldBack = true
			_ = s.p.post(s.tells("onReturn", n))
		}
	}
}

// goesAway and isBackAgain take what programs tell the room.
func (s *session) goesAway(it *channel.Item) {
	n := s.p.w.told(it)
	if s.seat.back[n] {
		s.p.w.sums["heard that somebody is away behind that it is back"]++
		s.seat.back[n] = false
	}
	s.p.w.sums["heard that somebody is away"]++
}

func (s *session) isBackAgain(it *channel.Item) {
	s.seat.back[s.p.w.told(it)] = true
	s.p.w.sums["heard that somebody is back"]++
}

// stepPrograms has some node ask who leads.
func (w *world) stepPrograms() {
	x := w.programs
	if x == nil || w.now < x.next || w.now > simStop {
		return
	}
	x.next = w.now + 20 + int64(x.rng.IntN(60))
	p, lead := w.procs[x.rng.IntN(len(w.procs))], x.rng.IntN(len(simLeads))
	if !p.running() || p.node.Suspended() {
		return
	}
	part := channel.Partition(simLeads[lead])
	x.req++
	x.asked[x.req] = leadQuestion{w.now, lead, p, p.node.Self(), p.node.View().Shares[part].Born}
	_ = p.post(&channel.Request{Op: channel.OpBind, Part: part, Req: x.req, From: channel.Addr{Node: p.node.Self(), Ref: leadRef}, User: simLeads[lead], Content: []byte("1")})
}

// leads takes the answer.
func (p *proc) leads(it *channel.Item) {
	w := p.w
	q, asked := w.programs.asked[it.Req]
	if delete(w.programs.asked, it.Req); !asked || q.p != p || q.node != p.node.Self() {
		w.violation("%s is told who leads, and has not asked", p.name)
		return
	}
	part := channel.Partition(simLeads[q.lead])
	if q.born != p.node.View().Shares[part].Born || w.split && w.quorum == 0 {
		return
	}
	if w.now-q.at > 3000 { // who stood still for so long takes an answer of before, and hears behind it that it was left out
		w.sums["leads, told late"]++
		return
	}
	key := leadership{q.lead, q.born}
	leader := w.programs.leads[key]
	switch string(it.Body) {
	case string(channel.Done):
		w.sums["leads"]++
		if leader != 0 && leader != q.node {
			w.sums["leads anew"]++
			for _, o := range w.procs {
				if o.running() && o.node.Self() == leader && !o.node.Suspended() && w.now-o.turned <= 50 && p.node.View().Has(leader) {
					w.violation("%s is told that it leads, as %s was, which is there", p.name, o.name)
				}
			}
		}
		w.programs.leads[key] = q.node
	case string(channel.ClaimRefused):
		w.sums["does not lead"]++
		if leader == q.node {
			w.violation("%s led, and is told that it does not", p.name)
		}
	default:
		w.sums["refused"]++
	}
}

// checkLeads looks at who leads at the end, as the owner of a partition has it.
func (w *world) checkLeads(part uint16, records []channel.Record) {
	for _, user := range simLeads {
		n := 0
		for i := range records {
			r := &records[i]
			if r.Kind != channel.RecordClaim || r.User != user {
				continue
			}
			n++
			if !slices.ContainsFunc(w.procs, func(p *proc) bool { return p.up && p.node.Self() == r.Addr.Node }) {
				w.violation("in %q a node leads that has ended", user)
			}
		}
		if n > 1 {
			w.violation("in %q %d nodes lead", user, n)
		}
	}
}
