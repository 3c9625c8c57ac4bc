package router

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/seed"
)

// TestModel lets clients enter, switch, rename, take each other's place by a secret, send, whisper, be kicked and vanish in any order, over sockets that take any
// number of bytes or fail, while loops turn in any order, and then compares what each client was told with the
// specification. The yardstick is a witness in each room, who sees all of the room's stream: another member's stream must be the
// stretch of the witness's between its own onAdd and onLeave, to the byte, or the part of that in which it had the name.
func TestModel(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			rng := seed.Rand(t)
			rounds := 60
			if sh.fleet != "" {
				rounds = 12
			}
			for round := range fewer(rounds) {
				m := newModel(t, rng, sh)
				m.run(600)
				m.verify()
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
		})
	}
}

// fewer is how many rounds of so many a random test makes: a tenth with the race detector. Loops are turned by hand, in one goroutine, so it finds nothing
// in a round that it has not seen in another, and each takes it ten times as long. The rounds are for what the tests themselves look at.
func fewer(rounds int) int {
	if raceEnabled {
		return (rounds + 9) / 10
	}
	return rounds
}

const modelRooms = 4

type model struct {
	t         *testing.T
	rng       *rand.Rand
	r         *rig
	witnesses []*modelClient
	clients   []*modelClient
	content   int
	whispers  map[string]*modelWhisper
	failed    int
	moving    bool // partitions move
	taken     bool // nodes take the place of others
	moves     int
}

// modelWhisper is a private message and what became of it.
type modelWhisper struct {
	refused bool
	seen    int
}

type modelClient struct {
	*client
	asked []asked // requests in order
	gone  bool    // we ended it
	over  string  // why it was kicked
}

type asked struct {
	id         uint32
	op         string // enter, say, whisper, bad
	user, room string
	secret     string // of an enter
	content    string
}

func newModel(t *testing.T, rng *rand.Rand, sh shape) *model {
	return newModelOf(t, rng, newRig(t, sh, nil))
}

func newModelOf(t *testing.T, rng *rand.Rand, r *rig) *model {
	m := &model{t: t, rng: rng, r: r, whispers: map[string]*modelWhisper{}}
	m.r.net.Pause = rng.Int64N(2) * 300_000 // pushes are written at the end of an event, or in a turn
	for i := range modelRooms {
		w := &modelClient{client: m.r.login(atConnector, i%2 == 0)}
		w.asked = append(w.asked, asked{op: "enter", user: "witness", room: m.room(i)})
		w.asked[0].id = w.request(routeEnter, enterBody("witness", m.room(i)))
		m.r.net.Settle()
		m.witnesses = append(m.witnesses, w)
	}
	return m
}

func (m *model) room(i int) string { return fmt.Sprint("room", i) }

func (m *model) run(steps int) {
	for range steps {
		if m.moving && m.rng.IntN(4) == 0 {
			m.moveSome()
		}
		if m.taken && m.rng.IntN(40) == 0 {
			m.r.handOver(m.rng.IntN(10) == 0)
			m.moves++
		}
		switch m.rng.IntN(10) {
		case 0:
			if len(m.clients) < 25 {
				m.clients = append(m.clients, &modelClient{client: m.r.login(atConnector, m.rng.IntN(2) == 0)})
			}
		case 1, 2, 3:
			if m.r.fleet != nil {
				m.r.fleet.some(m.rng)
				continue
			}
			m.r.net.TurnLoop(m.rng.IntN(len(m.r.node.loops)))
			if far := m.r.net.Beside; far != nil {
				far.TurnLoop(m.rng.IntN(len(m.r.far.loops)))
			}
		case 4:
			m.r.net.Events()
		default:
			if len(m.clients) > 0 {
				m.act(m.clients[m.rng.IntN(len(m.clients))])
			}
		}
	}
	for _, c := range m.clients {
		c.sock.Room, c.sock.Whole = -1, 0
	}
	m.r.net.Settle()
}

// act lets one client do something, mostly ask.
func (m *model) act(c *modelClient) {
	if c.gone {
		return
	}
	a := asked{room: m.room(m.rng.IntN(modelRooms)), user: fmt.Sprint("user", m.rng.IntN(8))}
	m.content++
	a.content = fmt.Sprintf("#%d%s", m.content, strings.Repeat(".", m.rng.IntN(30)))
	route, body := "", ""
	switch op := m.rng.IntN(40); {
	case op < 8:
		a.secret = []string{"", "a secret that all have", "the secret of " + a.user, "the secret of " + a.user}[m.rng.IntN(4)]
		a.op, route, body = "enter", routeEnter, secretBody(a.user, a.room, a.secret)
	case op < 24:
		a.op, route, body = "say", routeSend, sendBody(a.content, "*")
	case op < 28:
		a.op, route, body = "whisper", routeSend, sendBody(a.content, a.user)
		m.whispers[a.content] = &modelWhisper{}
	case op < 30:
		a.op, route, body = "bad", "no.such.route", "{}"
	case op < 34:
		c.sock.Room, c.sock.Whole = []int{0, 3, 50, 2000, -1}[m.rng.IntN(5)], max(m.rng.IntN(6)-3, 0)
		return
	case op < 38:
		c.sock.Ready()
		return
	case op < 39 && m.rng.IntN(3) == 0:
		c.gone = true
		c.sock.End()
		return
	case op < 39 && m.rng.IntN(3) == 0:
		l := m.r.node.loops[m.rng.IntN(len(m.r.node.loops))]
		l.postRun(0, func() {
			l.inlet(channel.Partition(a.room)).Post(channel.Request{Op: channel.OpKick, From: channel.Addr{Ref: channel.Ref(l.index) << 56}, Room: a.room, Part: channel.Partition(a.room), Target: a.user, Content: []byte(`"bye"`)})
		})
		return
	case m.rng.IntN(6) == 0:
		c.gone = true
		c.sock.Err = syscall.ECONNRESET
		c.sock.Ready()
		return
	default:
		return
	}
	a.id = c.request(route, body)
	c.asked = append(c.asked, a)
	if m.rng.IntN(3) > 0 {
		c.sock.Ready()
	}
}

// secretBody is enterBody with a secret, if there is one.
func secretBody(user, room, secret string) string {
	if secret == "" {
		return enterBody(user, room)
	}
	b, _ := json.Marshal(map[string]string{"username": user, "rid": room, "secret": secret})
	return string(b)
}

func (m *model) errorf(format string, args ...any) {
	if m.failed++; m.failed < 5 {
		m.t.Errorf(format, args...)
	}
}

// stay is one membership as its client saw it.
type stay struct {
	client     *modelClient
	user, room string
	secret     string
	list       []string // from the answer
	pushes     []string
	open       bool // the client's stream ends inside it
}

func (m *model) verify() {
	streams := map[string][]string{}
	for i, w := range m.witnesses {
		stays := m.read(w)
		if len(stays) != 1 {
			m.errorf("witness %d has %d stays", i, len(stays))
			return
		}
		streams[m.room(i)] = stays[0].pushes
	}
	used := map[string][][2]int{}
	var stays []*stay
	for _, c := range m.clients {
		stays = append(stays, m.read(c)...)
	}
	// Messages are unique, so a stay in which something was said has one place; the silent ones share what is left.
	slices.SortStableFunc(stays, func(a, b *stay) int { return len(b.pushes) - len(a.pushes) })
	for _, s := range stays {
		m.place(s, streams[s.room], used)
	}
	for room, stream := range streams {
		m.checkAdds(room, stream)
		m.checkOrder(room, stream)
	}
	for _, l := range m.r.loops() {
		if l.counters.gaps != 0 {
			m.errorf("loop %d found %d gaps", l.index, l.counters.gaps)
		}
	}
	for content, w := range m.whispers {
		if w.seen > 1 || w.seen == 1 && w.refused {
			m.errorf("whisper %s refused %v, seen %d times", content, w.refused, w.seen)
		}
	}
}

// read follows a client's events: answers in request order, each once, push before answer, and its stays.
func (m *model) read(c *modelClient) (stays []*stay) {
	c.pump()
	next := 0
	var at *stay
	for _, e := range c.events {
		if c.over != "" && e.kind != "close" {
			m.errorf("%v behind a kick", e)
		}
		switch e.kind {
		case "kick":
			if c.over = e.text; e.text != `{"reason":"bye"}` && e.text != `{"reason":"replaced by a new session of yours"}` {
				m.errorf("unexpected %v", e)
			}
		case "close":
			if c.over == "" {
				m.errorf("unexpected %v", e)
			}
		case "push":
			if private(e.text) {
				m.whispered(c, at, e.text)
			} else if at == nil {
				m.errorf("a push outside any room: %v", e)
			} else {
				at.pushes = append(at.pushes, e.text)
			}
		case "answer":
			if next == len(c.asked) || c.asked[next].id != e.id {
				m.errorf("answer %v out of order", e)
				return
			}
			a := c.asked[next]
			next++
			if s := m.answered(c, a, at, e.text); s != nil {
				at = s
				stays = append(stays, s)
			}
		default:
			m.errorf("unexpected %v", e)
		}
	}
	if !c.gone && c.over == "" && next < len(c.asked) {
		m.errorf("only %d of %d requests were answered", next, len(c.asked))
	}
	if at != nil {
		at.open = true
	}
	return stays
}

// answered checks one answer and returns the stay it begins, if it does.
func (m *model) answered(c *modelClient, a asked, at *stay, text string) *stay {
	switch {
	case a.op == "enter" && text == enterRefused:
	case a.op == "enter":
		var list struct{ Users []string }
		if err := json.Unmarshal([]byte(text), &list); err != nil || !slices.Contains(list.Users, a.user) {
			m.errorf("enter as %s answered %s", a.user, text)
		}
		return &stay{client: c, user: a.user, room: a.room, secret: a.secret, list: list.Users}
	case text == refused:
		if a.op == "whisper" {
			m.whispers[a.content].refused = true
		}
		if at != nil && a.op == "say" {
			m.errorf("a member's message was refused")
		}
	case text != `{}` || a.op == "bad":
		m.errorf("%s answered %s", a.op, text)
	case a.op == "say":
		if n := len(at.pushes); n == 0 || content(at.pushes[n-1]) != a.content {
			m.errorf("%s was answered before it was pushed to its sender", a.content)
		}
	}
	return nil
}

func (m *model) whispered(c *modelClient, at *stay, push string) {
	var p struct{ Target string }
	_ = json.Unmarshal([]byte(push[len("onChat "):]), &p)
	if at == nil || p.Target != at.user {
		m.errorf("a whisper for %s came to %+v", p.Target, at)
	}
	m.whispers[content(push)].seen++
}

func private(push string) bool {
	return strings.HasPrefix(push, "onChat ") && !strings.HasSuffix(push, `"target":"*"}`)
}

func content(push string) string {
	var p struct{ Msg string }
	_ = json.Unmarshal([]byte(push[strings.IndexByte(push, ' ')+1:]), &p)
	return p.Msg
}

func userPushText(route, user string) string {
	return fmt.Sprintf(`%s {"route":"%s","user":"%s"}`, route, route, user)
}

// place finds the part of the room's stream that a stay is: the beginning of what was pushed between the onAdd and the onLeave of its name
// or, if it took the place of another by its secret, a later part. Sessions that have a name one after the other have no
// push in common. Of several parts that fit, as when nothing was said, the first will do.
func (m *model) place(s *stay, stream []string, used map[string][][2]int) {
	add, leave := userPushText("onAdd", s.user), userPushText("onLeave", s.user)
	present := []string{"witness"}
	for i, push := range stream {
		if push == add {
			stretch := stream[i+1:]
			end := slices.Index(stretch, leave)
			if end >= 0 {
				stretch = stretch[:end]
			}
			key := fmt.Sprint(s.room, i)
			if at := m.part(s, stretch, append(slices.Clone(present), s.user), used[key], end < 0); at >= 0 {
				used[key] = append(used[key], [2]int{at, at + len(s.pushes)})
				return
			}
		}
		present = replay(present, push)
	}
	m.errorf("stay of %s in %s with list %v fits nowhere:\n  %q\nin\n  %q", s.user, s.room, s.list, s.pushes, stream)
}

// part is where in the stretch s may be, -1 if it is not there. lasts says that the name is there to the end.
func (m *model) part(s *stay, stretch, present []string, used [][2]int, lasts bool) int {
	for at := 0; at+len(s.pushes) <= len(stretch) && (at == 0 || s.secret != ""); at++ {
		to := at + len(s.pushes)
		fits := slices.Equal(s.pushes, stretch[at:to]) && slices.Equal(s.list, present)
		for _, other := range used {
			fits = fits && (to <= other[0] || at >= other[1])
		}
		// One who is still there must have all of it. One who was cut or kicked has a part; so has one who switched: it is out of the
		// old room with the new room's yes, while the old room's worker has yet to hear of it.
		still := s.open && !s.client.gone && s.client.over == ""
		if fits && (!still || lasts && to == len(stretch)) {
			return at
		}
		if at < len(stretch) {
			present = replay(present, stretch[at])
		}
	}
	return -1
}

// replay applies a push to the list of who is there.
func replay(present []string, push string) []string {
	var p struct{ Route, User string }
	_ = json.Unmarshal([]byte(push[strings.IndexByte(push, ' ')+1:]), &p)
	switch p.Route {
	case "onAdd":
		present = append(present, p.User)
	case "onLeave":
		present = slices.DeleteFunc(slices.Clone(present), func(u string) bool { return u == p.User })
	}
	return present
}

// checkAdds: a name enters only when it is not there, leaves only when it is, and whoever is there now is whom a newcomer is told.
func (m *model) checkAdds(room string, stream []string) {
	present := []string{"witness"}
	for _, push := range stream {
		before := len(present)
		present = replay(present, push)
		if strings.HasPrefix(push, "onAdd ") && len(slices.Compact(slices.Sorted(slices.Values(present)))) != before+1 {
			m.errorf("%s: %s while there", room, push)
		}
		if strings.HasPrefix(push, "onLeave ") && len(present) != before-1 {
			m.errorf("%s: %s while not there", room, push)
		}
	}
	probe := m.r.login(atConnector, false)
	b, _ := json.Marshal(map[string][]string{"users": append(present, "probe")})
	if got := probe.enter("probe", room); got != string(b) {
		m.errorf("%s: at the end the list is %s, want %s", room, got, b)
	}
}

// checkOrder: nothing twice, and every sender's messages in the order sent.
func (m *model) checkOrder(room string, stream []string) {
	at := map[string]int{}
	for i, push := range stream {
		if !strings.HasPrefix(push, "onChat ") {
			continue
		}
		c := content(push)
		if _, twice := at[c]; twice {
			m.errorf("%s: %s twice", room, c)
		}
		at[c] = i
	}
	for _, c := range m.clients {
		last := -1
		for _, a := range c.asked {
			if i, ok := at[a.content]; ok && a.op == "say" {
				if i < last {
					m.errorf("%s: %s overtook", room, a.content)
				}
				last = i
			}
		}
	}
}
