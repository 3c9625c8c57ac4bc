package router

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// TestSIOModel is TestModel with members of every kind: hybrid, 0.9, Engine.IO 3 and 4, over WebSocket and by polling. Pollers
// fetch when it pleases them, change to a WebSocket or break off doing so, and all of them end in any way. The yardstick is the same
// witness: what each is told from its enter to its end is a stretch of the room's stream, to the byte, whichever way
// it travels.
func TestSIOModel(t *testing.T) {
	done := map[string]int{}
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			rng := seed.Rand(t)
			rounds := 25
			if sh.fleet != "" {
				rounds = 8
			}
			for round := range fewer(rounds) {
				m := &sioModel{model: newModel(t, rng, sh), done: done, seconds: rng.IntN(2) * 40}
				for _, n := range m.r.nodes() {
					n.profiles[atConnector].HeartbeatSeconds = 0 // hybrid members live on in silence
					for _, l := range n.loops {
						l.limits.IdleSeconds = 1 << 20
					}
				}
				m.run(800)
				m.verify()
				m.r.endAll()
				m.r.balanced()
				if t.Failed() {
					for _, s := range m.members {
						t.Logf("%s %s: told %.100v", s.kind.name, s.way, s.as.events)
					}
					t.Fatalf("round %d", round)
				}
			}
		})
	}
	for _, what := range []string{"changed", "changed with more behind it", "gave up changing", "left by a packet", "left by a cut", "left by a frame", "was kicked", "was pinged", "was too slow to change", "polled twice", "posted several"} {
		if done[what] == 0 && !raceEnabled { // too few rounds for the rarest
			t.Errorf("nobody %s", what)
		}
	}
}

type sioModel struct {
	*model
	members []*sioMember
	seconds int            // that may yet pass; so few that nobody who polls or answers now and then is ended for it
	done    map[string]int // how often the rarer things happened
}

// sioMember is a socket.io client in the model.
type sioMember struct {
	*sioClient
	as     *modelClient // in whose name it is verified
	pulls  bool         // it began by fetching
	outbox []string     // messages it has yet to send
	probe  *web         // a WebSocket it may change to
	step   int          // how far it is with that
	way    string       // how it ended
}

// Steps of changing over.
const (
	probeNone = iota
	probeOpening
	probeAsked
	probeAnswered
)

func (m *sioModel) run(steps int) {
	for range steps {
		switch m.rng.IntN(10) {
		case 0:
			m.join()
		case 1, 2, 3:
			if m.r.fleet != nil {
				m.r.fleet.some(m.rng)
				continue
			}
			m.r.net.TurnLoop(m.rng.IntN(len(m.r.node.loops)))
		case 4:
			if m.seconds > 0 && m.rng.IntN(2) == 0 {
				m.seconds--
				m.flow() // or some would be ended for taking nothing, or for an answer that is on the way
				m.r.net.Settle()
				m.r.net.Seconds(1)
			} else {
				m.r.net.Events()
			}
		case 5:
			if len(m.clients) > 0 {
				if c := m.clients[m.rng.IntN(len(m.clients))]; c.sock.FD != 0 {
					m.act(c)
				}
			}
		default:
			if len(m.members) > 0 {
				m.actSIO(m.members[m.rng.IntN(len(m.members))])
			}
		}
	}
	m.rest()
}

// join brings a new member in, over any wire.
func (m *sioModel) join() {
	if len(m.clients) >= 30 {
		return
	}
	if m.rng.IntN(4) == 0 {
		m.clients = append(m.clients, &modelClient{client: m.r.login(atConnector, m.rng.IntN(2) == 0)})
		return
	}
	m.r.next = m.rng.IntN(8)
	s := &sioMember{sioClient: m.r.sioLogin(flavours[m.rng.IntN(len(flavours))])}
	s.pulls = !s.kind.ws
	s.as = &modelClient{client: &client{r: m.r, sock: new(looptest.Socket)}} // it only stands for s, with a socket that says nothing
	m.members, m.clients = append(m.members, s), append(m.clients, s.as)
}

// actSIO lets a member do something.
func (m *sioModel) actSIO(s *sioMember) {
	if s.as.gone {
		return
	}
	if s.pump(); s.over() {
		return
	}
	m.pong(s)
	switch op := m.rng.IntN(60); {
	case op < 20:
		m.ask(s)
	case op < 32:
		m.flush(s, m.rng.IntN(4)+1)
	case op < 42:
		m.fetch(s)
	case op < 50:
		m.change(s)
	case op < 56:
		for _, w := range []*web{s.ws, s.get, s.post, s.probe} {
			if w != nil && m.rng.IntN(2) == 0 {
				w.sock.Room = []int{0, 3, 50, 2000, -1, -1}[m.rng.IntN(6)]
				if m.rng.IntN(2) == 0 {
					w.sock.Ready()
				}
			}
		}
	case op < 57 && m.rng.IntN(2) == 0:
		m.end(s)
	default:
		for _, w := range []*web{s.ws, s.get, s.post, s.probe} {
			if w != nil {
				w.sock.Ready()
			}
		}
	}
}

// pong answers the pings that have come.
func (m *sioModel) pong(s *sioMember) {
	for _, p := range s.packets {
		switch {
		case p == "2::":
			s.outbox = append([]string{p}, s.outbox...)
		case p == "2" && s.kind.version == 4:
			s.outbox = append([]string{"3"}, s.outbox...)
		default:
			continue
		}
		m.done["was pinged"]++
	}
	s.packets = nil
}

// ask puts a request into the member's outbox.
func (m *sioModel) ask(s *sioMember) {
	a := asked{room: m.room(m.rng.IntN(modelRooms)), user: fmt.Sprint("user", m.rng.IntN(12))}
	m.content++
	a.content = fmt.Sprintf("#%d%s", m.content, strings.Repeat("é", m.rng.IntN(30)))
	route, body := "", ""
	switch op := m.rng.IntN(30); {
	case op < 8:
		a.op, route, body = "enter", routeEnter, enterBody(a.user, a.room)
	case op < 24:
		a.op, route, body = "say", routeSend, sendBody(a.content, "*")
	case op < 28:
		a.op, route, body = "whisper", routeSend, sendBody(a.content, a.user)
		m.whispers[a.content] = &modelWhisper{}
	default:
		a.op, route, body = "bad", "no.such.route", "{}"
	}
	s.id++
	a.id = s.id
	s.as.asked = append(s.as.asked, a)
	s.outbox = append(s.outbox, s.message(a.id, route, body))
}

// flush sends up to n messages of the outbox, if it may send now.
func (m *sioModel) flush(s *sioMember, n int) {
	n = min(n, len(s.outbox))
	if n == 0 || s.posting {
		return
	}
	if n > 1 && !s.kind.ws {
		m.done["posted several"]++
	}
	s.send(s.outbox[:n]...)
	s.outbox = s.outbox[n:]
}

// fetch sends a GET: now and then a second one, as if the client had given the first up.
func (m *sioModel) fetch(s *sioMember) {
	switch {
	case s.kind.ws || s.step == probeAnswered:
	case !s.polling:
		s.poll()
	case m.rng.IntN(10) == 0 && s.get.sock.Room < 0:
		older := s.get
		s.get = nil
		s.poll()
		m.r.net.Settle()
		if p := older.response(false); p == nil {
			m.errorf("a GET that was overtaken is not answered")
		} else {
			for _, packet := range s.unpack(p) {
				s.packet(packet)
			}
		}
		m.done["polled twice"]++
	}
}

// change goes a step on the way to a WebSocket, or breaks off.
func (m *sioModel) change(s *sioMember) {
	if s.kind.ws || s.kind.version == 9 {
		return
	}
	if s.step != probeNone && m.rng.IntN(12) == 0 {
		s.probe.sock.End()
		s.probe, s.step = nil, probeNone
		m.done["gave up changing"]++
		return
	}
	var told []string
	if s.step > probeOpening {
		told = s.probe.frames()
	}
	if isClosed(told) {
		s.probe, s.step = nil, probeNone
		m.done["was too slow to change"]++
		return
	}
	switch s.step {
	case probeNone:
		s.probe = s.web()
		s.probe.send(upgradeTo(s.target("websocket")))
		s.step = probeOpening
	case probeOpening:
		if p := s.probe.response(false); p != nil && p.status == 101 {
			s.probe.send(textFrame("2probe"))
			s.step = probeAsked
		} else if p != nil {
			if in := s.session(); in != nil && in.phase != ended {
				m.errorf("a probe was answered %v", p)
			}
			s.probe, s.step = nil, probeNone
		}
	case probeAsked:
		if len(told) > 0 {
			s.step = probeAnswered
		}
	case probeAnswered:
		if s.polling || s.posting {
			return // it finishes first, as the real ones do
		}
		s.probe.send(textFrame("5"))
		s.changed(s.probe)
		s.probe, s.step = nil, probeNone
		m.done["changed"]++
		if m.rng.IntN(2) == 0 {
			m.done["changed with more behind it"]++
			m.flush(s, 3)
		}
	}
}

// end ends a member in one of the ways there are. From then on it is enough that what it was told is right as far as it goes.
func (m *sioModel) end(s *sioMember) {
	s.as.gone = true
	way := m.rng.IntN(3)
	switch {
	case way == 1 && !s.posting:
		packet := map[int][]string{9: {"0::"}, 3: {"1", "41"}, 4: {"1", "41"}}[s.kind.version]
		s.send(packet[m.rng.IntN(len(packet))])
		s.way = "left by a packet"
	case way == 2 && s.kind.ws && m.rng.IntN(2) == 0:
		s.ws.send(string(maskedFrame(byte(codec.WSClose), nil)))
		s.way = "left by a frame"
	case way == 2 && s.kind.ws:
		s.ws.sock.Err = syscall.ECONNRESET
		s.way = "left by a cut"
	case way == 2 && s.polling && s.kind.version != 9:
		s.get.sock.End()
		s.way = "left by a cut"
	default:
		_, in := s.where()
		if in == nil || in.room == nil { // it may be on its way to another loop
			s.as.gone = false
			return
		}
		m.r.kick(s.sioClient, "bye")
		s.way = "was kicked"
	}
	m.done[s.way]++
}

// forsake ends the sessions of which the server cannot know yet that their clients are gone: those that were cut while
// no GET was held, or before the server had read that they have changed. In life silence ends them.
func (m *sioModel) forsake() {
	for _, s := range m.members {
		for _, l := range s.node().loops {
			c := l.np.Find(s.node().sids.parse([]byte(s.sid)))
			if s.way != "left by a cut" || c == nil || !c.IsPull() {
				continue
			}
			if l.session(c).x.pull.get != 0 {
				m.errorf("%s was cut, and a GET is held for it", s.kind.name)
			}
			l.np.Kill(c, netpoll.ReasonReset)
			l.np.Ring()
		}
	}
}

// flow lets everybody take what there is for them.
func (m *sioModel) flow() {
	for _, c := range m.clients {
		c.sock.Room, c.sock.Whole = -1, 0
	}
	for _, s := range m.members {
		for _, w := range []*web{s.ws, s.get, s.post, s.probe} {
			if w != nil {
				w.sock.Room = -1
			}
		}
	}
}

// rest lets all who are there say what they have to say, and take what there is for them.
func (m *sioModel) rest() {
	m.flow()
	for _, s := range m.members {
		if s.probe != nil {
			s.probe.sock.End()
			s.probe, s.step = nil, probeNone
		}
	}
	m.r.net.Settle()
	m.forsake()
	for again, i := true, 0; again; i++ {
		m.r.net.Settle()
		again = false
		for _, s := range m.members {
			if i > 1000 && (len(s.outbox) > 0 || !s.kind.ws && !s.polling) && !s.as.gone && !s.over() {
				m.t.Fatalf("%s does not come to rest: step %d, to be sent %.100q, told %.300q", s.kind.name, s.step, s.outbox, s.packets)
			}
			if s.pump(); s.as.gone || s.over() {
				continue
			}
			if len(s.outbox) > 0 || !s.kind.ws && !s.polling {
				again = true
			}
			m.flush(s, len(s.outbox))
			if !s.kind.ws && !s.polling {
				s.poll()
			}
		}
	}
	for _, s := range m.members {
		for _, e := range s.events {
			if e.kind == "kick" {
				e.text = `{"reason":` + e.text + `}` // as hybrid clients get it
			}
			s.as.events = append(s.as.events, e)
		}
		if _, in := s.where(); in != nil && in.room != nil && s.as.gone {
			m.errorf("%s %s, and its session lives on in phase %d (%+v)", s.kind.name, s.way, in.phase, in.x)
		}
	}
	m.untold()
}

// over tells whether the client knows that its session has ended.
func (s *sioMember) over() bool { return s.lost() || s.kicked() }

func (s *sioMember) kicked() bool {
	return slices.ContainsFunc(s.events, func(e event) bool { return e.kind == "kick" })
}

// untold looks at those whose sessions ended for no reason of theirs and who were not told a kick. They may have been kicked while no GET was
// held, and have fetched too late, or not at all because they were changing. There are no more of them than kicks that nobody read.
func (m *sioModel) untold() {
	kicks := 0
	for _, l := range m.r.loops() {
		kicks += int(l.np.Stats().Closed[reasonKick])
		l.np.Each(func(c *netpoll.Conn) {
			if in := l.session(c); in.x != nil && in.x.pull != nil && in.x.pull.ended && in.x.pull.why == reasonKick {
				kicks++
			}
		})
	}
	for _, c := range m.clients {
		c.pump()
		if slices.ContainsFunc(c.events, func(e event) bool { return e.kind == "kick" }) {
			kicks--
		}
	}
	for _, s := range m.members {
		if !s.lost() || s.kicked() || s.as.gone {
			continue
		}
		if kicks--; kicks < 0 || !s.pulls {
			m.errorf("%s was lost: %v %q", s.kind.name, s.answers, s.packets)
		}
		s.as.gone, s.way = true, "was kicked unheard"
		m.done[s.way]++
	}
}
