package router

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
)

// TestModelOfSeveralRooms lets a program and clients change in which rooms sessions are, in any order, while loops turn in any order, partitions move, and
// nodes take each other's place. A witness in each room sees all of its stream. What a client was told of a room must be, for each of its stays there, a beginning of what the
// witness was told between its onAdd and its onLeave, and all of it if it is still there; nothing at other times, and nothing twice. At the end loops and
// owners must agree who is where.
func TestModelOfSeveralRooms(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			rng := seed.Rand(t)
			rounds := 30
			if sh.fleet != "" {
				rounds = 6
			}
			for round := range fewer(rounds) {
				m := &furtherModel{t: t, rng: rng, r: newRig(t, sh, keepHistory)}
				m.begin()
				for range 500 {
					m.step()
				}
				m.verify()
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}

type furtherModel struct {
	t         *testing.T
	rng       *rand.Rand
	r         *rig
	witnesses []*client
	clients   []*furtherClient
	contents  int
	pending   int // changes whose end nobody has been told of
}

type furtherClient struct {
	*client
	extended bool
	prefix   string // of its names, which nobody else has
	names    int
	gone     bool
}

func (m *furtherModel) room(i int) string { return fmt.Sprint("room", i) }

func (m *furtherModel) begin() {
	for i := range modelRooms {
		w := m.r.extendedLogin(i%2 == 0)
		w.enter("witness", m.room(i))
		m.witnesses = append(m.witnesses, w)
	}
	for i := range 8 {
		c := &furtherClient{extended: i%2 == 0, prefix: fmt.Sprintf("c%d.", i)}
		if c.extended {
			c.client = m.r.extendedLogin(i%4 == 0)
		} else {
			c.client = m.r.login(atConnector, i%4 == 1)
		}
		m.clients = append(m.clients, c)
	}
}

// session finds the session of a client that is in a room; nil: it is in none.
func (m *furtherModel) session(c *furtherClient) (l *loop, s *session) {
	for _, at := range m.r.loops() {
		at.np.Each(func(conn *netpoll.Conn) {
			if found := at.session(conn); found.room != nil && strings.HasPrefix(found.user(), c.prefix) {
				l, s = at, found
			}
		})
	}
	return l, s
}

func (m *furtherModel) step() {
	c := m.clients[m.rng.IntN(len(m.clients))]
	room := m.room(m.rng.IntN(modelRooms))
	switch op := m.rng.IntN(40); {
	case op < 10:
		if m.r.fleet != nil {
			m.r.fleet.some(m.rng)
			return
		}
		m.r.net.TurnLoop(m.rng.IntN(len(m.r.node.loops)))
	case op < 13:
		m.r.net.Events()
	case c.gone:
	case op < 16:
		if c.names == 0 || m.rng.IntN(3) == 0 {
			c.names++
		}
		c.request(routeEnter, enterBody(fmt.Sprint(c.prefix, c.names), room))
	case op < 24:
		m.contents++
		b, _ := json.Marshal(map[string]string{"content": fmt.Sprintf("#%d", m.contents), "target": "*", "rid": room})
		c.request(routeSend, string(b))
	case op < 34:
		m.change(c, hosting.Change{Kind: hosting.ChangeKind(min(m.rng.IntN(6)/2+1, 2)), Room: room})
	case op < 36:
		m.change(c, hosting.Change{Kind: hosting.ChangeEnter, Room: room})
	case op < 37 && m.r.fleet == nil && m.rng.IntN(3) == 0:
		m.r.net.Settle()
		m.r.handOver(false)
	case op < 38 && m.rng.IntN(8) == 0:
		c.gone = true
		c.sock.Err = syscall.ECONNRESET
	default:
		c.sock.Ready()
	}
}

func (m *furtherModel) change(c *furtherClient, change hosting.Change) {
	l, s := m.session(c)
	if s == nil {
		return
	}
	m.pending++
	told := false
	change.Done = func(error) {
		if told {
			m.t.Error("told twice what has come of a change")
		}
		told = true
		m.pending--
	}
	if err := l.postChange(l.addr(s.conn), change); err != nil {
		m.pending--
	}
}

// toldOf is one push as a client was told it.
type toldOf struct{ rid, what string }

// pushesTold are the pushes that a client was told.
func pushesTold(c *client) (list []toldOf) {
	for _, line := range c.take() {
		text, is := strings.CutPrefix(line, "push 0 ")
		if !is {
			continue
		}
		route, body, _ := strings.Cut(text, " ")
		var p struct{ Rid, Msg, User, Seq string }
		_ = json.Unmarshal([]byte(body), &p)
		what := route + " " + p.Msg + p.User
		if route != "onChat" { // what is said is said once
			what += " " + p.Seq
		}
		list = append(list, toldOf{p.Rid, what})
	}
	return list
}

func (m *furtherModel) verify() {
	for _, c := range m.clients {
		if !c.gone {
			c.sock.Ready()
		}
	}
	m.r.net.Settle()
	if m.pending != 0 {
		m.t.Errorf("%d changes have no end", m.pending)
	}
	streams, owner := map[string][]string{}, map[string]string{} // by room; room by what is said
	for i, w := range m.witnesses {
		for _, p := range pushesTold(w) {
			streams[m.room(i)] = append(streams[m.room(i)], p.what)
			if strings.HasPrefix(p.what, "onChat") {
				owner[p.what] = m.room(i)
			}
		}
	}
	for _, c := range m.clients {
		got := map[string][]string{}
		for _, p := range pushesTold(c.client) {
			switch {
			case c.extended && p.rid == "":
				m.t.Errorf("%s was told %v without a room", c.prefix, p)
			case strings.HasPrefix(p.what, "onChat"):
				if c.extended && owner[p.what] != p.rid {
					m.t.Errorf("%s was told %v, which was said in %s", c.prefix, p, owner[p.what])
				}
				got[owner[p.what]] = append(got[owner[p.what]], p.what)
			case c.extended:
				got[p.rid] = append(got[p.rid], p.what)
			}
		}
		for i := range modelRooms {
			m.follow(c, m.room(i), streams[m.room(i)], got[m.room(i)])
		}
	}
	m.agree()
}

// follow checks what a client was told of a room against the room's stream.
func (m *furtherModel) follow(c *furtherClient, room string, stream, got []string) {
	next, inside, whole := 0, false, false
	for _, what := range stream {
		route, user, _ := strings.Cut(what, " ")
		mine := route != "onChat" && strings.HasPrefix(user, c.prefix)
		switch {
		case mine && route == "onAdd":
			inside, whole = true, true
		case mine:
			inside = false
		case !inside || route != "onChat" && !c.extended:
		case next < len(got) && got[next] == what:
			if !whole {
				m.t.Errorf("%s was told %q of %s, and not what came before", c.prefix, what, room)
			}
			next++
		default:
			whole = false // it must have left
		}
	}
	if next < len(got) {
		m.t.Errorf("%s was told %q of %s in no stay of its own; all that it was told: %q; stream %q", c.prefix, got[next], room, got, stream)
	}
	if inside && !whole && !c.gone {
		m.t.Errorf("%s, which is in %s, lacks something of what was said there: %q of %q", c.prefix, room, got, stream)
	}
}

// agree checks that each owner has those as members whose loops have them in the room, by the same names.
func (m *furtherModel) agree() {
	in := map[string][]string{}
	for _, l := range m.r.loops() {
		l.np.Each(func(conn *netpoll.Conn) {
			s := l.session(conn)
			for r, name := range s.rooms() {
				in[name] = append(in[name], s.user())
				if l.rooms.byID[r.id] != r {
					m.t.Errorf("%s is in %s, which its loop does not know", s.user(), name)
				}
			}
		})
		for id, r := range l.rooms.byID {
			if len(r.groups) == 0 {
				m.t.Errorf("room %d has nobody here and is known", id)
			}
		}
		if l.counters.gaps != 0 || l.counters.panics != 0 {
			m.t.Errorf("loop %d: %d gaps, %d panics", l.index, l.counters.gaps, l.counters.panics)
		}
	}
	for i := range modelRooms {
		probe := m.r.login(atConnector, false)
		var list struct{ Users []string }
		if err := json.Unmarshal([]byte(probe.enter("probe", m.room(i))), &list); err != nil {
			m.t.Fatal(err)
		}
		want := append(in[m.room(i)], "probe")
		slices.Sort(want)
		slices.Sort(list.Users)
		if !slices.Equal(list.Users, want) {
			m.t.Errorf("%s: its owner has %q, loops have %q", m.room(i), list.Users, want)
		}
		probe.leave()
	}
}
