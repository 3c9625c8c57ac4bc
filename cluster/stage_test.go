package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/membus"
)

// stage is a world whose nodes, faults and clients do what a test says, and nothing by chance. All checks of the simulation hold on it too.
type stage struct {
	*world
	t     *testing.T
	actor []*client // who do nothing by themselves
}

const never = 1 << 62

// newStage is a fleet that has just begun: one node for each letter, a of all roles, c for chat, n for a connector.
func newStage(t *testing.T, nodes string, quorum int) *stage {
	w := &world{rng: rand.New(rand.NewPCG(1, 7)), quorum: quorum, sums: sums{}, cells: new(cells), sends: []*said{nil}, double: map[string]bool{}, lost: map[string]bool{}}
	w.net = membus.New(w.rng)
	w.trace = *simTrace
	for i, c := range nodes {
		roles := map[rune]cluster.Roles{'a': cluster.RoleChat | cluster.RoleConnector, 'c': cluster.RoleChat, 'n': cluster.RoleConnector}[c]
		w.procs = append(w.procs, &proc{w: w, i: i, name: fmt.Sprint("n", i), roles: roles, host: fmt.Sprint("h", i%2), skew: int64(i) * 700, base: int64(i+1) * 1000 * ms})
	}
	return &stage{world: w, t: t}
}

// formed is a fleet that has formed and is calm.
func formed(t *testing.T, nodes string, quorum int) *stage {
	s := newStage(t, nodes, quorum)
	for _, p := range s.procs {
		p.boot()
	}
	s.calm()
	return s
}

// pass lets time pass.
func (s *stage) pass(ms int64) {
	for till := s.now + ms; s.now < till; {
		for _, c := range s.actor {
			c.next = never
		}
		s.step()
		if len(s.bad) > 0 {
			s.t.Fatal(strings.Join(s.bad, "\n"))
		}
	}
}

// until lets time pass until something is so.
func (s *stage) until(what string, most int64, is func() bool) (took int64) {
	s.t.Helper()
	for start := s.now; ; s.pass(1) {
		if is() {
			return s.now - start
		}
		if s.now-start > most {
			s.t.Fatalf("%d ms: not so after %d ms: %s", s.now, most, what)
		}
	}
}

// view is the newest that anybody has.
func (s *stage) view() (v *cluster.View) {
	for _, p := range s.procs {
		if p.up && p.node.View() != nil && (v == nil || cluster.Less(v.ID, p.node.View().ID)) {
			v = p.node.View()
		}
	}
	return v
}

// calm waits until all that are up agree, everything has a follower if it can, and nothing moves.
func (s *stage) calm() {
	s.t.Helper()
	since := s.now
	s.until("the fleet is calm", 20_000, func() bool {
		if !s.isCalm() {
			since = s.now
		}
		return s.now-since > 300
	})
}

func (s *stage) isCalm() bool {
	v, chats := s.view(), 0
	for _, p := range s.procs {
		if p.up && p.roles&cluster.RoleChat != 0 {
			chats++
		}
		if p.up && (!p.running() || v == nil || p.node.Self() == 0 || p.node.View().ID != v.ID || p.node.Suspended()) {
			return false
		}
	}
	for i := range v.Names {
		if node := v.Node(uint16(i + 1)); node != 0 && s.procOf(v, uint16(i+1)) == nil {
			return false // it is dead, and that has not been noticed
		}
	}
	for i := range v.Shares {
		b := &v.Shares[i]
		if b.Joiner != cluster.None || b.Moving != (cluster.ViewID{}) || b.Follower == cluster.None && chats > 1 {
			return false
		}
		o := s.procOf(v, b.Owner)
		if o == nil || !o.worker.Owns(uint16(i)) {
			return false
		}
		if kept, out := o.holder.Unsettled(uint16(i)); kept+out > 0 {
			return false
		}
	}
	return true
}

func (s *stage) owner(part uint16) *proc { v := s.view(); return s.procOf(v, v.Shares[part].Owner) }

func (s *stage) follower(part uint16) *proc {
	v := s.view()
	return s.procOf(v, v.Shares[part].Follower)
}

func (s *stage) maker() *proc { v := s.view(); return s.procOf(v, v.ID.Maker.Number()) }

// partOf is a partition that p owns, and that is followed by another one than not.
func (s *stage) partOf(p *proc, not ...*proc) uint16 {
	s.t.Helper()
next:
	for part := range uint16(simParts) {
		if s.owner(part) == p {
			for _, n := range not {
				if s.follower(part) == n {
					continue next
				}
			}
			return part
		}
	}
	s.t.Fatalf("%s owns nothing that fits", p.name)
	return 0
}

// come begins to enter somebody into a room by a connector. Without a key nobody is taken for them.
func (s *stage) come(p *proc, part uint16, name string, keyed bool) *session {
	c := &client{w: s.world, id: len(s.clients), name: name, part: part, plain: !keyed, next: never}
	return s.again(c, p)
}

// again has somebody come again.
func (s *stage) again(c *client, p *proc) *session {
	if c.id == len(s.clients) {
		s.clients, s.actor = append(s.clients, c), append(s.actor, c)
	}
	c.enter(p)
	return p.sessions[len(p.sessions)-1]
}

// enter enters somebody, and waits until they are in.
func (s *stage) enter(p *proc, part uint16, name string) *session {
	s.t.Helper()
	x := s.come(p, part, name, false)
	s.in(x)
	return x
}

// in waits until somebody is in.
func (s *stage) in(list ...*session) {
	s.t.Helper()
	for _, x := range list {
		s.until(x.name+" is in", 8000, func() bool { return x.room != 0 && !x.ended })
	}
}

// says has somebody say something that must be acknowledged within some time, and tells how long it took.
func (s *stage) says(x *session, target string, most int64) (took int64) {
	s.t.Helper()
	m := x.c.say(target)
	return s.until("what "+x.name+" says is acknowledged", most, func() bool { return m.done != 0 })
}

// got tells whether everybody has got what was said.
func (s *stage) got(m *said, list ...*session) bool {
	for _, x := range list {
		if x.ended || !x.seat.got[m.number] {
			return false
		}
	}
	return true
}

// chats lets everybody say something each 20 ms, for some time, and does not care what becomes of it: the checks do.
func (s *stage) chats(ms int64, list ...*session) {
	for till := s.now + ms; s.now < till; s.pass(20) {
		for _, x := range list {
			if !x.ended && x.room != 0 && x.p.running() && len(x.c.pending) < 3 {
				x.c.say(channel.Everybody)
			}
		}
	}
}

// apart cuts nodes off from others in both directions; oneWay only what the first send.
func (s *stage) apart(ms int64, a, b []*proc) {
	s.oneWay(ms, a, b)
	s.oneWay(ms, b, a)
}

func (s *stage) oneWay(for_ int64, a, b []*proc) {
	s.split = true
	for _, x := range a {
		for _, y := range b {
			if x != y {
				s.net.Cut(x.name, y.name, (s.now+for_)*ms)
			}
		}
	}
}

// noBus takes the bus from a node, or from all.
func (s *stage) noBus(for_ int64, list ...*proc) {
	for _, p := range list {
		p.awayTill = s.now + for_
		p.port.Away(p.awayTill * ms)
	}
}

// end waits until the fleet is calm, and lets all checks of the simulation look at what there is.
func (s *stage) end() {
	s.t.Helper()
	s.net.Filter = nil
	s.calm()
	s.pass(1000)
	s.checkEnd()
	if len(s.bad) > 0 {
		s.t.Fatal(strings.Join(s.bad, "\n"))
	}
}

// here is whether a node still has the sessions that it had: nobody was ended.
func (s *stage) here(list ...*session) {
	s.t.Helper()
	for _, x := range list {
		if x.ended {
			s.t.Fatalf("%d ms: %s was ended: %s", s.now, x.name, x.seat.why)
		}
	}
}
