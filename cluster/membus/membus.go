// Package membus is a bus in memory, with the faults of a real one, under virtual time. The same source of random numbers and the same calls
// give the same deliveries, to the nanosecond.
//
// Between two nodes packets keep their order; those of different senders overtake each other. A packet may be lost, come twice, and come once more
// long after, as by a route that has woken up. Nodes are cut off from each other in one direction or in both, lose the bus, or all lose it at once.
package membus

import "math/rand/v2"

const ms = 1_000_000

// MaxPacket is the longest packet that is taken, NATS' default max_payload.
const MaxPacket = 1 << 20

// Net is a bus and all nodes on it. Its methods, and those of its ports, must be called by one goroutine at a time. All times are in ns of
// one clock.
type Net struct {
	// Faults, as parts of one. They may be changed at any time.
	Loss  float64 // packets that never arrive
	Twice float64 // packets that arrive twice, one after the other
	Late  float64 // packets that arrive once more, 50 to 2500 ms after

	// Packets take MinDelay to MaxDelay; 1 and 3 ms unless they are changed.
	MinDelay, MaxDelay int64

	// Filter, if there is one, tells for each packet how much longer it takes, in ns, and with it all that its sender sends the same node after it;
	// less than nothing: it is lost.
	Filter func(from, to string, packet []byte) (extra int64)

	Stats Stats

	rng   *rand.Rand
	now   int64
	away  int64 // nobody has the bus before
	ports []*Port
	cuts  map[[2]string]int64 // from, to: until when
	fifo  map[[2]string]int64 // from, to: when the last packet arrives
	queue queue
	count uint64
}

// Stats count packets.
type Stats struct {
	Sent       uint64 // an announcement once for each node that is on the bus
	Bytes      uint64
	Delivered  uint64
	Lost       uint64 // by Loss or Filter
	Cut        uint64
	Away       uint64 // sent or arrived while a node had no bus
	Twice      uint64
	Late       uint64
	Nobody     uint64 // sent to a name that nobody has
	TooLong    uint64 // longer than MaxPacket
	LongestLen int
}

// Port is how one run of a node is on the bus. It is its cluster.Bus.
type Port struct {
	net         *Net
	name        string
	away        int64
	closed      bool
	receive     func(packet []byte)
	noResponder func(name string)
}

// New makes a bus without nodes at time 0.
func New(rng *rand.Rand) *Net {
	return &Net{rng: rng, MinDelay: ms, MaxDelay: 3 * ms, cuts: make(map[[2]string]int64), fifo: make(map[[2]string]int64)}
}

// Connect puts a run of a node on the bus: it gets what is sent from now on. receive is called by Advance with each packet, which it may keep
// and must not change: others may have the same. noResponder is called, also by Advance, when nobody had the name of a packet. There may be several
// ports of one name; each gets everything.
func (n *Net) Connect(name string, receive func(packet []byte), noResponder func(name string)) *Port {
	p := &Port{net: n, name: name, receive: receive, noResponder: noResponder}
	n.ports = append(n.ports, p)
	return p
}

// Close takes a run off the bus, at once and with all that is on its way to it.
func (p *Port) Close() {
	p.closed = true
	for i, q := range p.net.ports {
		if q == p {
			p.net.ports = append(p.net.ports[:i:i], p.net.ports[i+1:]...)
			return
		}
	}
}

// Away takes the bus from a run until a time: what it sends is lost, and it gets nothing.
func (p *Port) Away(until int64) { p.away = until }

// Connected tells whether the run has the bus.
func (p *Port) Connected() bool { return !p.closed && p.net.now >= max(p.away, p.net.away) }

// Away takes the bus from everybody until a time.
func (n *Net) Away(until int64) { n.away = until }

// Cut keeps what from sends from arriving at to, until a time.
func (n *Net) Cut(from, to string, until int64) { n.cuts[[2]string{from, to}] = until }

// Heal ends all cuts and gives the bus back to everybody.
func (n *Net) Heal() {
	clear(n.cuts)
	n.away = 0
	for _, p := range n.ports {
		p.away = 0
	}
}

// Send implements cluster.Bus.
func (p *Port) Send(name string, b []byte) {
	if !p.may(b) {
		return
	}
	n, had := p.net, false
	packet := append([]byte(nil), b...)
	for _, q := range n.ports {
		if q.name == name && q != p && q.Connected() {
			had = true
			n.send(p, q, packet)
		}
	}
	if !had {
		n.Stats.Nobody++
		if !n.cut(name, p.name) {
			n.push(event{at: n.now + ms, to: p, nobody: name})
		}
	}
}

// Announce implements cluster.Bus.
func (p *Port) Announce(b []byte) {
	if !p.may(b) {
		return
	}
	packet := append([]byte(nil), b...)
	for _, q := range p.net.ports {
		if q != p && q.Connected() {
			p.net.send(p, q, packet)
		}
	}
}

// may tells whether the bus takes a packet.
func (p *Port) may(b []byte) bool {
	s := &p.net.Stats
	s.LongestLen = max(s.LongestLen, len(b))
	switch {
	case len(b) > MaxPacket:
		s.TooLong++
	case !p.Connected():
		s.Away++
	default:
		return true
	}
	return false
}

func (n *Net) cut(from, to string) bool { return n.cuts[[2]string{from, to}] > n.now }

// send puts a packet on its way.
func (n *Net) send(from, to *Port, packet []byte) {
	n.Stats.Sent++
	n.Stats.Bytes += uint64(len(packet))
	switch {
	case n.cut(from.name, to.name):
		n.Stats.Cut++
		return
	case n.chance(n.Loss):
		n.Stats.Lost++
		return
	}
	extra := int64(0)
	if n.Filter != nil {
		if extra = n.Filter(from.name, to.name, packet); extra < 0 {
			n.Stats.Lost++
			return
		}
	}
	pair := [2]string{from.name, to.name}
	at := max(n.now+extra+n.MinDelay+n.rng.Int64N(n.MaxDelay-n.MinDelay+1), n.fifo[pair])
	n.fifo[pair] = at
	e := event{at: at, to: to, packet: packet}
	n.push(e)
	if n.chance(n.Twice) {
		n.Stats.Twice++
		n.push(e)
	}
	if n.chance(n.Late) {
		n.Stats.Late++
		e.at += 50*ms + n.rng.Int64N(2450*ms)
		n.push(e)
	}
}

func (n *Net) chance(part float64) bool { return part > 0 && n.rng.Float64() < part }

// Now is the time that was advanced to last.
func (n *Net) Now() int64 { return n.now }

// Next is when something arrives next; false: nothing is on its way.
func (n *Net) Next() (at int64, ok bool) {
	if len(n.queue) == 0 {
		return 0, false
	}
	return n.queue[0].at, true
}

// Advance delivers all that arrives up to now, also what is sent meanwhile.
func (n *Net) Advance(now int64) {
	for len(n.queue) > 0 && n.queue[0].at <= now {
		e := n.queue.pop()
		n.now = max(n.now, e.at)
		switch {
		case e.to.closed:
		case e.packet == nil:
			if e.to.Connected() {
				e.to.noResponder(e.nobody)
			}
		case !e.to.Connected():
			n.Stats.Away++
		default:
			n.Stats.Delivered++
			e.to.receive(e.packet)
		}
	}
	n.now = max(n.now, now)
}

func (n *Net) push(e event) {
	n.count++
	e.order = n.count
	n.queue.push(e)
}

// event is a packet on its way, or the word that nobody had a name.
type event struct {
	at     int64
	order  uint64 // of those at the same time
	to     *Port
	packet []byte
	nobody string
}

// queue is a heap of events, the next one first.
type queue []event

func (q queue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	s := *q
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.less(i, up) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (q *queue) pop() event {
	s := *q
	e, last := s[0], len(s)-1
	s[0], s[last] = s[last], event{}
	s = s[:last]
	*q = s
	for i := 0; ; {
		least := i
		for down := 2*i + 1; down <= 2*i+2 && down < len(s); down++ {
			if s.less(down, least) {
				least = down
			}
		}
		if least == i {
			return e
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
