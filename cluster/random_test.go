package cluster

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

var lives = flag.Int("lives", 60, "how many random lives of a partition TestRandomLives tries")

// life is a random life of a partition in a fleet by hand: nodes that end and begin again, joiners, moves that succeed and that are called off,
// followers that are dropped, views that nodes adopt one after the other or skip, and links that are slow. Each node has a session
// that stays, and others that come and go. The maker is perfect: what makers get wrong is the simulation's business.
type life struct {
	*fleet
	rng     *rand.Rand
	serial  int
	stays   map[int]*stay      // by node
	sends   map[string]*saying // by text
	seqs    map[uint64]string  // what the room's number was given to
	asked   map[uint32]string  // by Req: the text
	guests  map[string]guest   // by name
	lost    bool               // the partition was born anew: sequence numbers begin again
	counted map[string]int
}

type stay struct {
	name    string
	ref     channel.Ref
	entered bool
	got     []string
}

type saying struct {
	by      int
	must    map[*stay]bool // sessions that had entered when it was said
	acked   bool
	refused bool
}

type guest struct {
	node int
	run  uint64
	ref  channel.Ref
}

func newLife(t *testing.T, rng *rand.Rand) *life {
	l := &life{fleet: newFleet(t, 4), rng: rng, stays: map[int]*stay{}, sends: map[string]*saying{}, seqs: map[uint64]string{}, asked: map[uint32]string{},
		guests: map[string]guest{}, counted: map[string]int{}}
	l.fetch = func() bool { return rng.IntN(3) == 0 }
	l.change(func(s *Share, id ViewID) { *s = Share{Owner: 1, Epoch: id, Born: id} })
	for i := 1; i <= 4; i++ {
		l.watch(i)
	}
	return l
}

// watch has a node's items looked at, and a session enter that stays.
func (l *life) watch(i int) {
	p := l.nodes[i]
	l.serial++
	s := &stay{name: fmt.Sprintf("stay%d.%d", i, l.serial), ref: channel.Ref(l.serial)}
	l.stays[i] = s
	p.look = func(it *channel.Item) { l.look(i, it) }
	p.onLost = func() { l.endAll(i) }
	p.onRefused = func(r *channel.Request, sent bool) {
		if x := l.sends[l.asked[r.Req]]; x != nil {
			x.refused = true
		}
		if r.Op == channel.OpEnter && l.nodes[i] == p {
			l.refused(i, p, s, *r)
		}
	}
	l.enter(i, s.ref, s.name)
}

// endAll ends the sessions of a node, as messages were lost: each leaves, and others come.
func (l *life) endAll(i int) {
	p := l.nodes[i]
	s := l.stays[i]
	for _, x := range l.sends {
		delete(x.must, s)
	}
	l.lost = true
	l.later = append(l.later, func() {
		if l.nodes[i] != p || l.stays[i] != s {
			return
		}
		l.leave(i, s.ref, s.name)
		for name, g := range sortedGuests(l.guests) {
			if g.node == i && g.run == p.run {
				l.leave(i, g.ref, name)
				delete(l.guests, name)
			}
		}
		l.watch(i)
	})
}

// refused has a session leave whose enter has no answer, and come again.
func (l *life) refused(i int, p *actor, s *stay, r channel.Request) {
	l.later = append(l.later, func() {
		switch {
		case l.nodes[i] != p:
		case l.stays[i] == s && r.From.Ref == s.ref:
			l.leave(i, s.ref, s.name)
			l.watch(i)
		case l.guests[r.User].node == i:
			l.leave(i, r.From.Ref, r.User)
			delete(l.guests, r.User)
		}
	})
}

func (l *life) look(i int, it *channel.Item) {
	s := l.stays[i]
	switch it.Kind {
	case channel.ItemEnter:
		if it.Req == uint32(s.ref) {
			s.entered = true
		}
	case channel.ItemReply:
		if x := l.sends[l.asked[it.Req]]; x != nil && string(it.Body) == "{}" {
			x.acked = true
		}
	case channel.ItemPush:
		text := string(it.Push.Body)
		if was, has := l.seqs[it.Seq]; has && was != text && !l.lost {
			l.t.Fatalf("the room's number %d is %s and %s", it.Seq, was, text)
		}
		l.seqs[it.Seq] = text
		if slices.Contains(s.got, text) {
			l.t.Fatalf("node %d gets %s twice", i, text)
		}
		s.got = append(s.got, text)
	}
}

func (l *life) say() {
	i := 1 + l.rng.IntN(4)
	s := l.stays[i]
	if !l.nodes[i].up || !s.entered {
		return
	}
	l.serial++
	text := chat(s.name, fmt.Sprint(l.serial))
	x := &saying{by: i, must: map[*stay]bool{}}
	for j, y := range l.stays {
		if l.nodes[j].up && y.entered {
			x.must[y] = true
		}
	}
	l.sends[text], l.asked[uint32(l.serial)] = x, text
	l.ask(i, channel.Request{Op: channel.OpSend, Req: uint32(l.serial), From: channel.Addr{Ref: s.ref}, User: s.name, Target: channel.Everybody,
		Content: fmt.Appendf(nil, `"%d"`, l.serial)})
}

func (l *life) guest() {
	i := 1 + l.rng.IntN(4)
	if !l.nodes[i].up {
		return
	}
	for name, g := range sortedGuests(l.guests) {
		if g.node == i && l.rng.IntN(2) == 0 {
			l.leave(i, g.ref, name)
			delete(l.guests, name)
			return
		}
	}
	l.serial++
	g := guest{i, l.nodes[i].run, channel.Ref(l.serial)}
	name := fmt.Sprint("guest", l.serial)
	l.guests[name] = g
	l.enter(i, g.ref, name)
}

func sortedGuests(m map[string]guest) func(yield func(string, guest) bool) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return func(yield func(string, guest) bool) {
		for _, name := range names {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}

// step lets something happen.
func (l *life) step() {
	s := l.view.Shares[thePart]
	chat := func() uint16 { // a node that is neither owner nor follower
		for {
			if n := uint16(1 + l.rng.IntN(4)); l.nodes[n].up && n != s.Owner && n != s.Follower {
				return n
			}
			if l.rng.IntN(20) == 0 {
				return None
			}
		}
	}
	switch n := l.rng.IntN(100); {
	case n < 50:
		l.say()
	case n < 60:
		l.guest()
	case n < 64: // a link slows down
		l.shut[[2]int{1 + l.rng.IntN(4), 1 + l.rng.IntN(4)}] = true
	case n < 74:
		clear(l.shut)
	case n < 76:
		l.perish()
	case n < 80 && s.Joiner == None && s.Moving == (ViewID{}):
		if to := chat(); to != None {
			l.change(func(s *Share, id ViewID) { s.Joiner, s.Joining = to, id }, 0)
		}
	case n < 86:
		if m := l.wish(KindInStep); m != nil && s.Joiner != None && m.Naming == s.Joining && m.Epoch == s.Epoch {
			l.counted["in step"]++
			l.change(func(s *Share, id ViewID) {
				s.Follower, s.Following, s.Joiner, s.Joining, s.Moving = s.Joiner, s.Joining, None, ViewID{}, ViewID{}
			}, 0)
		}
	case n < 90 && s.Follower != None && s.Joiner == None && s.Moving == (ViewID{}):
		l.change(func(s *Share, id ViewID) { s.Moving = id }, 0)
	case n < 96 && s.Moving != (ViewID{}):
		if m := l.wish(KindReady); m != nil && m.Moving == s.Moving && m.Epoch == s.Epoch {
			l.counted["moves"]++
			l.change(func(s *Share, id ViewID) {
				s.Owner, s.Follower = s.Follower, s.Owner
				s.Epoch, s.Following, s.Moving = id, id, ViewID{}
			}, 0)
		} else if l.rng.IntN(3) == 0 {
			l.change(func(s *Share, id ViewID) { s.Moving = ViewID{} }, 0)
		}
	case n < 97 && s.Follower != None:
		l.counted["drops"]++
		l.change(func(s *Share, id ViewID) { s.Follower, s.Following, s.Moving = None, ViewID{}, ViewID{} }, 0)
	default:
		i := 1 + l.rng.IntN(4)
		l.nodes[i].adopt(l.view)
	}
}

// perish ends a node, or two at once, and begins them again as other runs.
func (l *life) perish() {
	n := 1
	if l.rng.IntN(4) == 0 {
		n = 2
	}
	var gone []uint16
	for range n {
		if i := 1 + l.rng.IntN(4); l.nodes[i].up && len(gone) < 2 {
			l.kill(i)
			gone = append(gone, uint16(i))
		}
	}
	is := func(n uint16) bool { return slices.Contains(gone, n) }
	s := l.view.Shares[thePart]
	for _, i := range gone {
		for _, x := range l.sends {
			delete(x.must, l.stays[int(i)])
		}
		for name, g := range sortedGuests(l.guests) {
			if g.node == int(i) {
				delete(l.guests, name)
			}
		}
	}
	heir := uint16(1)
	for is(heir) {
		heir++
	}
	l.change(func(s2 *Share, id ViewID) {
		if is(s.Follower) || is(s.Owner) {
			s2.Follower, s2.Following, s2.Moving = None, ViewID{}, ViewID{}
		}
		if is(s.Joiner) || is(s.Owner) {
			s2.Joiner, s2.Joining = None, ViewID{}
		}
		if !is(s.Owner) {
			return
		}
		s2.Epoch = id
		if s2.Owner = s.Follower; s.Follower == None || is(s.Follower) {
			l.counted["births"]++
			s2.Owner, s2.Born = heir, id
		} else {
			l.counted["take-overs"]++
		}
	}, 0)
	for _, i := range gone {
		l.boot(int(i))
	}
	l.change(func(*Share, ViewID) {}, 0)
	for _, i := range gone {
		l.nodes[i].adopt(l.view)
		l.watch(int(i))
	}
}

// end lets everything come to rest and compares.
func (l *life) end() {
	t := l.t
	clear(l.shut)
	for range 100 {
		for _, p := range l.nodes[1:] {
			p.adopt(l.view)
		}
		l.now += 20 * ms
		for _, p := range l.nodes[1:] {
			p.holder.Tick(l.now)
		}
		l.rest()
		s := l.view.Shares[thePart]
		if m := l.wish(KindInStep); m != nil && m.Naming == s.Joining && m.Epoch == s.Epoch {
			l.change(func(s *Share, id ViewID) {
				s.Follower, s.Following, s.Joiner, s.Joining, s.Moving = s.Joiner, s.Joining, None, ViewID{}, ViewID{}
			})
		} else if s.Follower == None && s.Joiner == None {
			l.change(func(s *Share, id ViewID) { s.Joiner, s.Joining = s.Owner%4+1, id })
		} else if s.Moving != (ViewID{}) {
			l.change(func(s *Share, id ViewID) { s.Moving = ViewID{} })
		}
	}
	l.rest()
	s := l.view.Shares[thePart]
	if s.Follower == None {
		t.Errorf("no follower: %+v", s)
	} else {
		l.same(int(s.Owner), int(s.Follower))
	}
	l.answered()
	var list []string
	l.nodes[s.Owner].desk.request(&channel.Request{Op: channel.OpMembers, Req: 1 << 30, Part: thePart, Room: "r"}, l.now)
	l.nodes[s.Owner].look = func(it *channel.Item) {
		if it.Req == 1<<30 {
			list = strings.Split(strings.Trim(string(it.Body)[len(`{"users":`):], `{}[]`), ",")
		}
	}
	l.rest()
	var want []string
	for i := range 4 {
		if st := l.stays[i+1]; st.entered {
			want = append(want, fmt.Sprintf("%q", st.name))
		} else {
			t.Errorf("node %d's session has not entered", i+1)
		}
	}
	for name := range l.guests {
		want = append(want, fmt.Sprintf("%q", name))
	}
	slices.Sort(want)
	slices.Sort(list)
	if !slices.Equal(list, want) {
		t.Errorf("members %v\nwant %v", list, want)
	}
	for text, x := range l.sends {
		if !x.acked {
			if !x.refused && l.nodes[x.by].up && !l.lost && x.must[l.stays[x.by]] {
				t.Errorf("%s has no answer", text)
			}
			continue
		}
		for st := range x.must {
			if !slices.Contains(st.got, text) {
				t.Errorf("%s was acknowledged, and %s has not got it", text, st.name)
			}
		}
	}
	for i, p := range l.nodes[1:] {
		st := p.holder.Stats()
		l.counted["differs"] += int(st.Differs)
		l.counted["empty"] += int(st.Empty)
		l.counted["witnessed"] += int(p.desk.stats.Lost)
		_ = i
	}
}

// rest delivers until nothing more comes, with what was put off.
func (l *life) rest() {
	for range 10 {
		l.settle()
		later := l.later
		l.later = nil
		for _, f := range later {
			f()
		}
		if len(later) == 0 {
			return
		}
	}
}

// Whatever happens to the nodes that own and follow a partition: who was told that something was said can rely on it that everybody has got it,
// once and in one order, or was told of a loss.
func TestRandomLives(t *testing.T) {
	first := seed.Rand(t).Uint64()
	sum := map[string]int{}
	for i := range race.Fewer(*lives) {
		l := newLife(t, rand.New(rand.NewPCG(first, uint64(i))))
		for range 400 {
			l.step()
			if l.rng.IntN(3) == 0 {
				l.now += 5 * ms
				for _, p := range l.nodes[1:] {
					if p.up {
						p.holder.Tick(l.now)
					}
				}
			}
			l.round()
			later := l.later
			l.later = nil
			for _, f := range later {
				f()
			}
		}
		l.end()
		for k, n := range l.counted {
			sum[k] += n
		}
		sum["sends"] += len(l.sends)
		for _, x := range l.sends {
			if x.acked {
				sum["acknowledged"]++
			}
		}
		if t.Failed() {
			t.Fatalf("life %d", i)
		}
	}
	t.Log(sum)
	if sum["differs"]+sum["empty"]+sum["witnessed"] > 0 {
		t.Errorf("what never should be: %v", sum)
	}
}
