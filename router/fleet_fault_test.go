package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// TestFleetFaults lets people enter, speak, whisper, switch and leave at the connectors of a fleet, over real wires, while processes are killed and
// begun again, stop for seconds, lose the bus, do not hear each other, and give their partitions away. Then it looks at what each
// client was told:
//
//   - what was acknowledged has come to everybody who was in the room and whose connection the server has not ended; a private message too;
//   - what was refused as not sent has come to nobody;
//   - nothing comes twice, and all see a room's messages in one order, each sender's as they were sent;
//   - no two people have one name in a room. Whose connector the fleet has gone on without may have lost the name and not know it yet: then nothing is
//     acknowledged to them, nothing newer comes, and they are ended;
//   - when all is calm nobody waits for an answer, and the list of a room is who is there.
func TestFleetFaults(t *testing.T) {
	kinds := map[string]int{}
	fleets := []string{"gnnc", "aa", "aaa", "gnnnccc"}
	if again {
		fleets = fleets[:1]
	}
	rounds := 2
	if testing.Short() || again {
		rounds = 1
	}
	for _, fleet := range fleets {
		t.Run(fleet, func(t *testing.T) { faultRounds(t, seed.Rand(t), fleet, rounds, kinds) })
	}
	t.Logf("%v", kinds)
	if kinds["checked"] < kinds["acknowledged"]/10 {
		t.Error("hardly anything was checked")
	}
}

// foundFaults are seeds of TestFleetFaults that have found something.
var foundFaults = []struct {
	fleet string
	seed  uint64
	what  string
}{
	{"aa", 1795875239080826474, "a name is given anew while who had it is on a node that has lost the bus, and cannot know"},
}

// What a seed has found once stays found.
func TestFleetFaultsFound(t *testing.T) {
	if again {
		t.Skip("nothing here has a goroutine of its own, nor JSON that others do not have")
	}
	for _, f := range foundFaults {
		t.Run(fmt.Sprint(f.fleet, " ", f.seed), func(t *testing.T) {
			t.Log(f.what)
			faultRounds(t, rand.New(rand.NewPCG(f.seed, 1)), f.fleet, 2, map[string]int{})
		})
	}
}

// faultRounds makes so many fleets, each with faults of its own.
func faultRounds(t *testing.T, rng *rand.Rand, fleet string, rounds int, kinds map[string]int) {
	for round := range rounds {
		m := newFaultModel(t, rng, fleet, kinds)
		for range 2 + rng.IntN(3) {
			m.plan(500 + rng.Int64N(6000)/10*10)
		}
		m.run(faultMillis)
		m.check()
		if t.Failed() {
			t.Fatalf("round %d: %s", round, strings.Join(m.log, "; "))
		}
	}
}

const traceFaults = false

const (
	faultMillis = 8_000 // faults and clients go on for so long
	faultPeople = 16
	faultRooms  = 5
)

type faultModel struct {
	t      *testing.T
	x      *fleetRig
	rng    *rand.Rand
	at     int64 // ms
	people []*person
	said   []*spoken
	byText map[string]*spoken
	events map[int64][]func() // by ms
	named  []*person          // who has got a name since the last look
	serial int
	kinds  map[string]int
	log    []string
	bad    int
}

// person is a client and what it knows.
type person struct {
	*client
	m       *faultModel
	node    *fleetNode
	asks    []faultAsk
	ended   string // why; empty: it lives
	name    string
	room    string // empty: in none
	left    int64  // when it last asked for another room
	order   []string
	got     map[string]bool
	greeted bool
	ousted  int64 // when somebody else was given the name, as the fleet had gone on without the connector; 0: never
}

type faultAsk struct {
	id         uint32
	name, room string  // of an enter
	said       *spoken // else
}

// spoken is something that was said.
type spoken struct {
	text     string
	by       *person
	target   string // a name, or channel.Everybody
	room     string
	at, done int64
	not      bool // it was refused as not sent
	there    []*person
}

func newFaultModel(t *testing.T, rng *rand.Rand, letters string, kinds map[string]int) *faultModel {
	r := newRig(t, shape{loops: 1 + rng.IntN(2), fleet: letters, follow: rng.IntN(2) == 0}, nil)
	r.uncounted = true
	m := &faultModel{t: t, x: r.fleet, rng: rng, byText: map[string]*spoken{}, events: map[int64][]func(){}, kinds: kinds}
	m.x.bus.Loss, m.x.bus.Twice, m.x.bus.Late = 0.001, 0.002, 0.001
	return m
}

// plan plans a fault for a time.
func (m *faultModel) plan(at int64) {
	p := m.x.nodes[m.rng.IntN(len(m.x.nodes))]
	q := m.x.nodes[m.rng.IntN(len(m.x.nodes))]
	long := 200 + m.rng.Int64N(4500)/10*10
	fault := func(kind string, begin, end func()) {
		m.events[at] = append(m.events[at], func() {
			if p.dead || p.paused || !m.spare(p) && kind == "kill" {
				return
			}
			m.kinds[kind]++
			m.log = append(m.log, fmt.Sprintf("%d %s %s %s for %d", at, kind, p.name, q.name, long))
			begin()
			m.events[at+long] = append(m.events[at+long], end)
		})
	}
	switch m.rng.IntN(7) {
	case 0, 1:
		fault("kill", func() { m.kill(p) }, func() { m.x.reboot(p) })
	case 2:
		fault("pause", func() { p.paused = true }, func() { p.paused = false })
	case 3:
		if p != q && len(m.x.nodes) > 2 {
			fault("cut", func() {
				m.x.bus.Cut(p.name, q.name, m.x.now+long*msec)
				m.x.bus.Cut(q.name, p.name, m.x.now+long*msec)
			}, func() {})
		}
	case 4:
		fault("away", func() {
			p.port.Away(m.x.now + long*msec)
			p.fleet.Away(true)
		}, func() { p.fleet.Away(false) })
	default:
		fault("drain", func() { p.fleet.Drain(true) }, func() { p.fleet.Drain(false) })
	}
}

// spare tells whether another chat node lives, if this one is one.
func (m *faultModel) spare(p *fleetNode) bool {
	return p.roles&cluster.RoleChat == 0 || slices.ContainsFunc(m.x.nodes, func(q *fleetNode) bool { return q != p && q.lives() && q.roles&cluster.RoleChat != 0 })
}

func (m *faultModel) kill(p *fleetNode) {
	m.x.kill(p)
	for _, c := range m.people {
		if c.node == p && c.ended == "" {
			c.pump()
			c.read()
			c.ended = "its connector died"
		}
	}
}

// talk lets people do what they like for so many ms.
func (m *faultModel) talk(ms int64) {
	for till := m.at + ms; m.at < till; m.pass() {
		for range m.rng.IntN(4) {
			m.act()
		}
	}
}

// run is talk, and then everything that was planned ends and comes to rest.
func (m *faultModel) run(ms int64) {
	m.talk(ms)
	for last := m.at + 4000; m.at < last; {
		m.pass()
	}
	m.x.bus.Loss = 0
	m.x.until("all serve and have followers", m.x.guarded)
	for range 600 { // nothing waits longer
		m.pass()
	}
}

func (m *faultModel) pass() {
	for _, f := range m.events[m.at] {
		f()
	}
	for _, c := range m.people {
		if m.at%2000 == 0 && c.ended == "" && c.greeted {
			c.send(codec.PackageHeartbeat, nil)
		}
	}
	m.at += 10
	m.x.pass(10)
	for _, c := range m.people {
		c.read()
	}
	m.checkNames()
}

// checkNames looks whether a name that somebody has got is somebody else's. It waits until all have read, as one may have given up the name
// that another has got in the same moment.
func (m *faultModel) checkNames() {
	for _, c := range m.named {
		for _, o := range m.people {
			switch {
			case c.ended != "" || o == c || o.ended != "" || o.room != c.room || o.name != c.name:
			case m.leftBehind(o.node):
				m.kinds["ousted"]++
				o.ousted = m.at
			default:
				m.errorf("%s is twice in %s: at %s, and now at %s", c.name, c.room, o.node.name, c.node.name)
			}
		}
	}
	m.named = m.named[:0]
}

// leftBehind tells whether a node does nothing, or refuses everything, and knows only an older view than others do.
func (m *faultModel) leftBehind(p *fleetNode) bool {
	s := p.fleet.Status()
	return p.paused || s.Suspended && slices.ContainsFunc(m.x.nodes, func(q *fleetNode) bool { return q.lives() && cluster.Less(s.View, q.fleet.Status().View) })
}

// act lets somebody do something.
func (m *faultModel) act() {
	living := slices.DeleteFunc(slices.Clone(m.people), func(c *person) bool { return c.ended != "" })
	if len(living) < faultPeople && m.rng.IntN(5) == 0 {
		m.come()
		return
	}
	if len(living) == 0 {
		return
	}
	c := living[m.rng.IntN(len(living))]
	if !c.greeted || len(c.asks) > 4 {
		return
	}
	switch n := m.rng.IntN(40); {
	case c.entering(): // what it says would be said in that room, if it gets in
	case c.room == "" || n == 0:
		a := faultAsk{name: fmt.Sprint("p", m.rng.IntN(2*faultPeople)), room: fmt.Sprint("room ", m.rng.IntN(faultRooms))}
		c.left = m.at
		a.id = c.request(routeEnter, enterBody(a.name, a.room))
		c.asks = append(c.asks, a)
	case n == 1:
		c.ended = "it left"
		c.sock.End()
	case n < 8:
		others := m.members(c.room)
		c.say(others[m.rng.IntN(len(others))].name)
	default:
		c.say("*")
	}
}

// members are the people who know that they are in a room and have not asked for another.
func (m *faultModel) members(room string) (list []*person) {
	for _, c := range m.people {
		if c.ended == "" && c.room == room && !c.entering() {
			list = append(list, c)
		}
	}
	return list
}

// entering tells whether an enter of its is under way.
func (c *person) entering() bool {
	return slices.ContainsFunc(c.asks, func(a faultAsk) bool { return a.said == nil })
}

func (c *person) say(target string) {
	m := c.m
	m.serial++
	s := &spoken{text: fmt.Sprint("#", m.serial), by: c, target: target, room: c.room, at: m.at, there: m.members(c.room)}
	m.said, m.byText[s.text] = append(m.said, s), s
	c.asks = append(c.asks, faultAsk{id: c.request(routeSend, sendBody(s.text, target)), said: s})
}

// come connects somebody to a connector that lives.
func (m *faultModel) come() {
	doors := m.x.doors(atConnector)
	if len(doors) == 0 {
		return
	}
	p := doors[m.rng.IntN(len(doors))]
	c := &person{client: &client{r: m.x.r, ws: m.rng.IntN(2) == 0, sock: m.x.dialTo(p, atConnector)}, m: m, node: p, got: map[string]bool{}}
	if c.ws {
		c.sock.Send([]byte(upgradeTo("/")))
	}
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"}}`))
	c.send(codec.PackageHandshakeAck, nil)
	m.people = append(m.people, c)
}

// read takes what the client was told since the last time.
func (c *person) read() {
	if c.ended != "" {
		return
	}
	c.pump()
	events := c.events
	c.events = nil
	for _, e := range events {
		c.told(e)
	}
	if c.ended == "" && (c.sock.Closed || c.sock.ShutDown) {
		c.ended = "closed"
	}
}

func (c *person) told(e event) {
	m := c.m
	if traceFaults {
		fmt.Printf("%d %s/%s at %s: %v\n", m.at, c.name, c.room, c.node.name, e)
	}
	switch e.kind {
	case "handshake":
		c.greeted = true
	case "kick":
		m.kinds["told why"]++
		c.ended = e.text
	case "close":
		c.ended = e.text
	case "push":
		if strings.HasPrefix(e.text, "onChat ") {
			c.heard(content(e.text))
		}
	case "answer":
		if len(c.asks) == 0 || c.asks[0].id != e.id {
			m.errorf("answer %v out of order", e)
			return
		}
		a := c.asks[0]
		c.asks = c.asks[1:]
		c.answered(a, e.text)
	}
}

func (c *person) heard(text string) {
	if c.got[text] {
		c.m.errorf("%s came twice to %s", text, c.name)
	}
	if s := c.m.byText[text]; c.ousted != 0 && s.at > c.ousted {
		c.m.errorf("%s of %d has come to %s at %s, who has lost the name at %d", text, s.at, c.name, c.node.name, c.ousted)
	}
	c.got[text] = true
	c.order = append(c.order, text)
}

func (c *person) answered(a faultAsk, text string) {
	m := c.m
	refused, not := strings.Contains(text, `"code":500`), strings.Contains(text, `"not_sent"`)
	if not {
		m.kinds["not sent"]++
	}
	switch s := a.said; {
	case s != nil && not:
		s.not = true
	case s != nil && !refused:
		s.done = m.at
		m.kinds["acknowledged"]++
		if c.ousted != 0 && s.at > c.ousted {
			m.errorf("%s of %d was acknowledged to %s at %s, who has lost the name at %d", s.text, s.at, c.name, c.node.name, c.ousted)
		}
	case s == nil && !refused:
		c.name, c.room = a.name, a.room
		m.named = append(m.named, c)
	}
}

func (m *faultModel) errorf(format string, args ...any) {
	if m.bad++; m.bad < 6 {
		m.t.Errorf("%d ms: %s", m.at, fmt.Sprintf(format, args...))
	}
}

func (m *faultModel) check() {
	for _, c := range m.people {
		if c.ended == "" && len(c.asks) > 0 {
			m.errorf("%s waits for %d answers at the end", c.name, len(c.asks))
		}
		if c.ousted != 0 && c.ended == "" {
			m.errorf("%s at %s has lost the name at %d, and was not ended", c.name, c.node.name, c.ousted)
		}
	}
	for _, s := range m.said {
		m.checkSaid(s)
	}
	for i, a := range m.people {
		for _, b := range m.people[:i] {
			m.checkOrder(a, b)
		}
	}
	for i := range faultRooms {
		m.checkList(fmt.Sprint("room ", i))
	}
}

func (m *faultModel) checkSaid(s *spoken) {
	for _, c := range m.people {
		if s.not && c.got[s.text] {
			m.errorf("%s was refused as not sent, and has come to %s", s.text, c.name)
		}
	}
	if s.done == 0 {
		return
	}
	for _, c := range s.there {
		if c.ended != "" || c.left >= s.at || s.target != "*" && s.target != c.name {
			continue
		}
		m.kinds["checked"]++
		if !c.got[s.text] {
			m.errorf("%s of %s, said in %s at %d and acknowledged at %d, has not come to %s at %s", s.text, s.by.name, s.room, s.at, s.done, c.name, c.node.name)
		}
	}
}

// checkOrder looks whether two people have heard what both heard in one order, and what one person said in the order in which it was said.
func (m *faultModel) checkOrder(a, b *person) {
	both := func(c, o *person) (list []string) {
		for _, text := range c.order {
			if s := m.byText[text]; o.got[text] && s.target == "*" {
				list = append(list, s.room+text)
			}
		}
		slices.SortStableFunc(list, func(x, y string) int { return strings.Compare(x[:6], y[:6]) })
		return list
	}
	if x, y := both(a, b), both(b, a); !slices.Equal(x, y) {
		m.errorf("%s and %s have heard in another order\n%v\n%v", a.name, b.name, x, y)
	}
	last := map[*person]int64{}
	for _, text := range a.order {
		s := m.byText[text]
		if s.at < last[s.by] {
			m.errorf("%s has heard %s too late", a.name, text)
		}
		last[s.by] = max(last[s.by], s.at)
	}
}

// checkList compares who is in a room with what one is told who enters.
func (m *faultModel) checkList(room string) {
	var want []string
	for _, c := range m.members(room) {
		want = append(want, c.name)
	}
	m.come()
	probe := m.people[len(m.people)-1]
	m.pass()
	probe.request(routeEnter, enterBody("probe", room))
	probe.asks = append(probe.asks, faultAsk{id: probe.id, name: "probe", room: room})
	text := ""
	for range 20 {
		m.at += 10
		m.x.pass(10)
		probe.pump()
		for _, e := range probe.events {
			if e.kind == "answer" {
				text = e.text
			}
		}
	}
	got := usersOf(m.t, text)
	want = append(want, "probe")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.errorf("in %s are %v, the list says %v", room, want, got)
	}
}

// nobodyEnded fails if somebody was ended who did not want it.
func (m *faultModel) nobodyEnded() {
	m.t.Helper()
	for _, c := range m.people {
		if c.ended != "" && c.ended != "it left" {
			m.t.Errorf("%s at %s was ended: %s", c.name, c.node.name, c.ended)
		}
	}
}

// While a chat node gives all its partitions to the others, and gets them back, nobody is ended and nothing refused: an owner that changes is no loss.
func TestFleetMovesEndNobody(t *testing.T) {
	fleets, left := []string{"gnncc", "aa"}, 0
	if again { // a few partitions move
		fleets, left = fleets[1:], 490
	}
	for _, fleet := range fleets {
		t.Run(fleet, func(t *testing.T) {
			m := newFaultModel(t, seed.Rand(t), fleet, map[string]int{})
			p := m.x.nodes[len(m.x.nodes)-1]
			owned := p.fleet.Status().Owned
			m.talk(1000)
			p.fleet.Drain(true)
			for i := 0; p.fleet.Status().Owned > left; i++ {
				m.talk(100)
				if i > 600 {
					t.Fatalf("%d partitions are left after a minute", p.fleet.Status().Owned)
				}
			}
			p.fleet.Drain(false)
			m.talk(3000)
			m.run(0)
			m.check()
			m.nobodyEnded()
			if m.kinds["not sent"] > 0 || owned != 512 {
				t.Errorf("%d requests were refused; of %d partitions", m.kinds["not sent"], owned)
			}
		})
	}
}

// When a chat node dies, followers take its partitions: nobody at the connectors is ended, and nobody waits for longer than 4.5 s.
func TestFleetCrashEndsNobody(t *testing.T) {
	m := newFaultModel(t, seed.Rand(t), "gnncc", map[string]int{})
	m.talk(1000)
	m.kill(m.x.nodes[len(m.x.nodes)-1])
	m.talk(6000)
	m.run(0)
	m.check()
	m.nobodyEnded()
	longest := int64(0)
	for _, s := range m.said {
		if s.done == 0 && s.by.ended == "" && s.target == "*" { // who is whispered to may have left
			t.Errorf("%s was not acknowledged", s.text)
		}
		longest = max(longest, s.done-s.at)
	}
	if t.Logf("the longest wait was %d ms", longest); longest > 4500 {
		t.Error("that is too long")
	}
}
