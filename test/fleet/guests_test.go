package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
)

// crowd is guests in rooms who talk at a pace, come again when they are cut off, and note all that they are told.
type crowd struct {
	h     *harness
	rooms [][]*guest
	home  map[string]string // the room of each name
	every time.Duration     // between two messages of a guest
	stop  atomic.Bool

	talking, listening sync.WaitGroup

	began  time.Time
	strays []*stay // of who came to look, guarded by mu

	mu      sync.Mutex
	sends   []sent
	slowest time.Duration  // until the answer to a message, refusals included
	refused map[string]int // by what the refusal says
	denied  []denied
	wrong   []string // what must not be
}

// sent is a message that was acknowledged.
type sent struct {
	from         *guest
	to           string // a name, or * for all
	text         string
	asked, acked time.Time
}

// guest is one user. Guarded by the crowd's mu, but for what does not change.
type guest struct {
	c                *crowd
	name, room, wire string
	friend           string // to whom it sometimes says something
	number           int    // of the last message. Owned by the guest's goroutine
	stays            []*stay
}

// stay is a guest's time in the room by one connection. Guarded by the crowd's mu, but for what does not change.
type stay struct {
	g     *guest
	conn  speaker
	node  string // connector
	since time.Time
	ended time.Time // zero: it lasts
	why   error
	heard []string
	got   map[string]bool // what was heard
	list  map[string]bool // who is there, as far as was told
	left  []leave
	twice []arrival // of who was there
}

type arrival struct {
	name string
	at   time.Time
}

type leave struct {
	name string
	at   time.Time
}

// newCrowd has guests in rooms of a round, who send about rate messages a second in all.
func newCrowd(h *harness, round, rooms, guests, rate int) *crowd {
	c := &crowd{h: h, home: make(map[string]string), every: time.Duration(rooms*guests) * time.Second / time.Duration(rate), began: time.Now(), refused: make(map[string]int)}
	for r := range rooms {
		var room []*guest
		for i := range guests {
			name := func(i int) string { return fmt.Sprintf("g%d-%d-%d", round, r, i%guests) }
			room = append(room, &guest{c: c, name: name(i), friend: name(i + 1), room: fmt.Sprintf("room-%d-%d", round, r), wire: fiveWires[i%len(fiveWires)]})
			c.home[name(i)] = room[i].room
		}
		c.rooms = append(c.rooms, room)
	}
	for _, g := range slices.Concat(c.rooms...) {
		c.talking.Go(g.live)
	}
	return c
}

// live has the guest come, talk, and come again.
func (g *guest) live() {
	for s := g.come(); s != nil; s = g.come() {
		for g.say() {
			time.Sleep(g.c.every)
		}
		if g.c.stop.Load() {
			return
		}
	}
}

// come enters the room, however often that takes; nil when the crowd has stopped.
func (g *guest) come() *stay {
	for ; !g.c.stop.Load(); time.Sleep(50 * time.Millisecond) {
		if s, err := g.enter(); err == nil {
			return s
		} else if errors.Is(err, client.ErrRefused) {
			g.c.do(func() { g.c.refused["enter: "+refusal(err)]++ })
		}
	}
	return nil
}

// enter asks a gate, connects and enters.
func (g *guest) enter() (*stay, error) {
	addr, err := g.c.h.entry(g.name)
	if err != nil {
		return nil, err
	}
	conn, err := open(g.wire, addr)
	if err != nil {
		return nil, err
	}
	var answer struct{ Users []string }
	if err := conn.Request("connector.entryHandler.enter", map[string]string{"username": g.name, "rid": g.room}, &answer); err != nil {
		conn.Close()
		return nil, err
	}
	s := &stay{g: g, conn: conn, node: g.c.h.nodeAt(addr), since: time.Now(), got: make(map[string]bool), list: make(map[string]bool)}
	g.c.do(func() {
		for _, name := range answer.Users {
			s.list[name] = true
		}
		g.stays = append(g.stays, s)
	})
	g.c.listening.Go(s.listen)
	return s, nil
}

// say says the next thing, every tenth time to one other guest. false: the connection has ended, or the crowd has stopped.
func (g *guest) say() bool {
	if g.c.stop.Load() {
		return false
	}
	var s *stay
	g.c.do(func() { s = g.stays[len(g.stays)-1] })
	g.number++
	m := sent{from: g, to: "*", asked: time.Now()}
	if g.number%10 == 0 {
		m.to = g.friend
	}
	m.text = fmt.Sprintf("%s %06d %s", g.name, g.number, m.to)
	err := s.conn.Request("chat.chatHandler.send", map[string]string{"rid": g.room, "from": g.name, "content": m.text, "target": m.to}, nil)
	m.acked = time.Now()
	g.c.do(func() { g.c.slowest = max(g.c.slowest, m.acked.Sub(m.asked)) })
	switch {
	case err == nil:
		g.c.do(func() { g.c.sends = append(g.c.sends, m) })
	case errors.Is(err, client.ErrRefused):
		g.c.do(func() {
			if refusal(err) != absent {
				g.c.refused["send: "+refusal(err)]++
			} else if to := g.c.hearer(&m, s); to != nil {
				g.c.denied = append(g.c.denied, denied{m, [2]*stay{s, to}})
			}
		})
	default:
		return false
	}
	return true
}

// absent is the answer to what is said to somebody who is not there. All other refusals have a reason.
const absent = `{"code":500}`

// denied is a message that was answered so although somebody was there to whom it went: wrong, unless the connector of either was made to fail and one of them was in the room no more,
// which a client learns some time later.
type denied struct {
	sent
	stays [2]*stay // the sender's, and of whom it went to
}

// wasOut tells whether the sender or whom it spoke to was in the room no more when the answer came, as the node failed by which it was there: so its stay has ended since, and nothing
// that was said later was heard by it, or by it acknowledged.
func (d *denied) wasOut(failed failures) bool {
	for i, s := range d.stays {
		if s.ended.IsZero() || !failed.cut(s, d.acked) {
			continue
		}
		if !slices.ContainsFunc(s.g.c.sends, func(m sent) bool {
			return m.asked.After(d.acked) && (s.due(&m) && s.got[m.text] || i == 0 && m.from == s.g && m.acked.Before(s.ended))
		}) {
			return true
		}
	}
	return false
}

// hearer is the stay of who must hear a message: of a private one its target's, if that has been in the room from before it was sent until now.
func (c *crowd) hearer(m *sent, own *stay) *stay {
	if m.to == "*" {
		return own
	}
	for _, g := range slices.Concat(c.rooms...) {
		if n := len(g.stays); g.name == m.to && n > 0 && g.stays[n-1].since.Before(m.asked) && g.stays[n-1].ended.IsZero() {
			return g.stays[n-1]
		}
	}
	return nil
}

// refusal is what an answer says that refuses.
func refusal(err error) string {
	_, text, _ := strings.Cut(err.Error(), client.ErrRefused.Error()+": ")
	return text
}

// do has f look at what mu guards.
func (c *crowd) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *crowd) wrongf(format string, args ...any) {
	if len(c.wrong) < 30 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// listen notes what the guest is told.
func (s *stay) listen() {
	for {
		push, err := s.conn.Next()
		s.g.c.do(func() {
			if err != nil {
				s.ended, s.why = time.Now(), err
			} else {
				s.take(push)
			}
		})
		if err != nil {
			s.conn.Close()
			return
		}
	}
}

func (s *stay) take(push client.Push) {
	c := s.g.c
	var told struct{ Msg, User string }
	if err := json.Unmarshal(push.Body, &told); err != nil {
		c.wrongf("%s (%s) was told %s %.80q: %v", s.g.name, s.g.wire, push.Route, push.Body, err)
		return
	}
	switch push.Route {
	case "onChat":
		if s.got[told.Msg] {
			c.wrongf("%s (%s) heard %q twice", s.g.name, s.g.wire, told.Msg)
		}
		s.got[told.Msg] = true
		s.heard = append(s.heard, told.Msg)
	case "onAdd":
		if s.list[told.User] {
			s.twice = append(s.twice, arrival{told.User, time.Now()})
		}
		s.list[told.User] = true
	case "onLeave":
		if !s.list[told.User] {
			c.wrongf("%s (%s) was told that %s has gone, who was not there", s.g.name, s.g.wire, told.User)
		}
		delete(s.list, told.User)
		s.left = append(s.left, leave{told.User, time.Now()})
	}
}

// present are the stays that last, those of who looks included.
func (c *crowd) present(room []*guest) (all []*stay) {
	for _, g := range room {
		if n := len(g.stays); n > 0 && g.stays[n-1].ended.IsZero() {
			all = append(all, g.stays[n-1])
		}
	}
	for _, s := range c.strays {
		if s.g.room == room[0].room && s.ended.IsZero() {
			all = append(all, s)
		}
	}
	return all
}

// everybody waits until all guests are in their rooms.
func (c *crowd) everybody() {
	c.h.t.Helper()
	eventually(c.h.t, "all guests to be in their rooms", func() (in bool) {
		c.do(func() {
			in = true
			for _, room := range c.rooms {
				in = in && len(c.present(room)) == len(room)
			}
		})
		return in
	})
}

// more waits until each room has n more acknowledged messages.
func (c *crowd) more(n int) {
	c.h.t.Helper()
	count := func() map[string]int {
		m := make(map[string]int)
		c.do(func() {
			for i := range c.sends {
				m[c.sends[i].from.room]++
			}
		})
		return m
	}
	before := count()
	eventually(c.h.t, "messages to be acknowledged in every room", func() bool {
		now := count()
		for _, room := range c.rooms {
			if now[room[0].room]-before[room[0].room] < n {
				return false
			}
		}
		return true
	})
}

// end has everybody fall silent, looks at all that was said and heard, and sends everybody away. What must not be is in wrong. It returns how many were disconnected, and how
// often somebody was told of a leave.
func (c *crowd) end(failed failures) (cuts, told int) {
	c.h.t.Helper()
	c.stop.Store(true)
	await(c.h.t, "all guests to have their answers", &c.talking)
	for _, room := range c.rooms {
		looks := &guest{c: c, name: "look-" + room[0].room, room: room[0].room, wire: "tcp"}
		eventually(c.h.t, "somebody to look at "+looks.room, func() bool {
			s, err := looks.enter()
			if err == nil {
				c.do(func() { c.strays = append(c.strays, s) })
			}
			return err == nil
		})
	}
	for _, check := range []func() string{c.missing, c.unlisted} {
		var why string
		for late := time.Now().Add(patience / 2); ; time.Sleep(20 * time.Millisecond) {
			if c.do(func() { why = check() }); why == "" || time.Now().After(late) {
				break
			}
		}
		if why != "" {
			c.do(func() { c.wrongf("%s", why) })
		}
	}
	c.do(func() {
		for _, d := range c.denied {
			if !d.wasOut(failed) {
				c.wrongf("%s was answered %s without a reason to %q, which was sent %v after the beginning", d.from.name, absent, d.text, d.asked.Sub(c.began))
			}
		}
		c.eachStay(func(s *stay) {
			s.checkOrder()
			for _, x := range s.twice { // a connector that drains tells nobody of leaves, and ends its sessions
				if s.ended.IsZero() || !failed.drained(s, x.at) {
					c.wrongf("%s (%s, %s) was told that %s has come, who was there", s.g.name, s.g.wire, s.node, x.name)
				}
			}
			if !s.ended.IsZero() {
				s.checkEnded()
				if !failed.cut(s, s.ended) {
					c.wrongf("%s (%s) was disconnected from %s: %v", s.g.name, s.g.wire, s.node, s.why)
				}
			}
		})
	})
	var all []*stay
	c.do(func() {
		c.eachStay(func(s *stay) {
			all, told = append(all, s), told+len(s.left)
			if !s.ended.IsZero() {
				cuts++
			}
		})
	})
	for _, s := range all {
		s.conn.Close()
	}
	await(c.h.t, "all connections to have ended", &c.listening)
	return cuts, told
}

// await waits for goroutines.
func await(t *testing.T, what string, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	awaitClosed(t, what, done)
}

func awaitClosed(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("there is no end of the wait for %s", what)
	}
}

// eachStay calls f with every stay, those of who looks included.
func (c *crowd) eachStay(f func(*stay)) {
	for _, room := range c.rooms {
		for _, g := range room {
			for _, s := range g.stays {
				f(s)
			}
		}
	}
	for _, s := range c.strays {
		f(s)
	}
}

// due tells whether a stay must have heard a message, as long as it lasts.
func (s *stay) due(m *sent) bool {
	return m.from.room == s.g.room && s.since.Before(m.asked) && (m.to == "*" || m.to == s.g.name)
}

// missing is a message that was acknowledged and has not come to somebody who was there and is; empty if there is none.
func (c *crowd) missing() string {
	for _, room := range c.rooms {
		here := c.present(room)
		for i := range c.sends {
			m := &c.sends[i]
			for _, s := range here {
				if s.due(m) && !s.got[m.text] {
					return fmt.Sprintf("%s (%s, %s) has not heard %q, which was sent %v after the beginning and acknowledged after %v",
						s.g.name, s.g.wire, s.node, m.text, m.asked.Sub(c.began), m.acked.Sub(m.asked))
				}
			}
		}
	}
	return ""
}

// unlisted is a difference between who is in a room and whom somebody there believes to be; empty if there is none. Whoever came last has the owner's list.
func (c *crowd) unlisted() string {
	for _, room := range c.rooms {
		there := make(map[string]bool)
		for _, s := range c.present(room) {
			there[s.g.name] = true
		}
		for _, s := range c.present(room) {
			if !maps.Equal(s.list, there) {
				return fmt.Sprintf("%s (%s, %s) believes that %v are there; it is %v", s.g.name, s.g.wire, s.node, slices.Sorted(maps.Keys(s.list)), slices.Sorted(maps.Keys(there)))
			}
		}
	}
	return ""
}

// checkOrder looks whether all that was heard was for this guest, and in the order of its senders.
func (s *stay) checkOrder() {
	last := make(map[string]string)
	for _, text := range s.heard {
		words := strings.Fields(text)
		if len(words) != 3 || words[2] != "*" && words[2] != s.g.name || s.g.c.home[words[0]] != s.g.room {
			s.g.c.wrongf("%s (%s) heard %q, which was not for it", s.g.name, s.g.wire, text)
			continue
		}
		if words[1] <= last[words[0]] {
			s.g.c.wrongf("%s (%s) heard %q after number %s", s.g.name, s.g.wire, text, last[words[0]])
		}
		last[words[0]] = words[1]
	}
}

// checkEnded looks for holes in what somebody heard who was disconnected: what was acknowledged before another message was sent comes before that.
func (s *stay) checkEnded() {
	var last time.Time
	for i := range s.g.c.sends {
		if m := &s.g.c.sends[i]; s.due(m) && s.got[m.text] && m.asked.After(last) {
			last = m.asked
		}
	}
	for i := range s.g.c.sends {
		if m := &s.g.c.sends[i]; s.due(m) && m.acked.Before(last) && !s.got[m.text] {
			s.g.c.wrongf("%s (%s, %s) has not heard %q, but what was sent later, and was disconnected then", s.g.name, s.g.wire, s.node, m.text)
			return
		}
	}
}

// waits is how long each room was without an answer, at most, between two moments; of those that is tells, nil: of all. The first of them is 0.
func (c *crowd) waits(from, till time.Time, is func(room string) bool) []time.Duration {
	all := []time.Duration{0}
	c.do(func() {
		for _, room := range c.rooms {
			if is != nil && !is(room[0].room) {
				continue
			}
			var times []time.Time
			for i := range c.sends {
				if m := &c.sends[i]; m.from.room == room[0].room {
					times = append(times, m.acked)
				}
			}
			all = append(all, longest(times, from, till))
		}
	})
	return all
}

// longest is the greatest distance between two of these times, between two moments.
func longest(times []time.Time, from, till time.Time) (most time.Duration) {
	slices.SortFunc(times, time.Time.Compare)
	for _, at := range times {
		if at.After(from) && at.Before(till) {
			most, from = max(most, at.Sub(from)), at
		}
	}
	return most
}

// gone is when somebody who stayed was told of a leave, after a moment, at last.
func (c *crowd) gone(from time.Time) (last time.Duration) {
	c.do(func() {
		c.eachStay(func(s *stay) {
			for _, l := range s.left {
				last = max(last, l.at.Sub(from))
			}
		})
	})
	return last
}
