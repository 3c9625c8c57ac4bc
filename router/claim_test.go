package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
)

// sessionsRig is loginRig where a user may have so many sessions.
func sessionsRig(t *testing.T, sh shape, limits channel.Sessions) (*rig, *bouncer) {
	return loginRig(t, sh, func(cfg *Config) { cfg.Limits.Rooms.Sessions = limits })
}

const enoughText = `{"code":500,"error":true,"reason":"sessions"}`

func TestSessionsAreRefused(t *testing.T) {
	for _, sh := range append(shapes, fleets...) {
		t.Run(sh.String(), func(t *testing.T) {
			r, _ := sessionsRig(t, sh, channel.Sessions{Most: 1})
			first, second := r.login(atConnector, true), r.login(atConnector, false)
			if got := first.told(routeEnter, withToken("", "r", "ann@7")); got != `{"users":["ann"]}` {
				t.Fatal(got)
			}
			for range 2 { // whatever it is called, and wherever it goes
				if got := second.told(routeEnter, withToken("", "q", "other@7")); got != enoughText {
					t.Error(got)
				}
			}
			if got := second.told(routeSend, sendBody("x", "*")); got != refused {
				t.Error(got)
			}
			if got := first.told(routeEnter, withToken("", "q", "ann@7")); got != `{"users":["ann"]}` { // the same session, with a token that is new
				t.Error(got)
			}
			if c, got := r.handshakes(true, "ann@7"); got != `{"code":500,"reason":"sessions"}` || !c.ended() {
				t.Error(got)
			}
			if got := second.told(routeEnter, withToken("", "r", "7")); got != `{"users":["7"]}` { // a name is not a uid
				t.Error(got)
			}
			first.sock.End()
			r.net.Settle()
			third, got := r.handshakes(false, "ann@7")
			if !strings.HasPrefix(got, `{"code":200`) {
				t.Fatal(got)
			}
			if got := third.told(routeEnter, `{"rid":"r"}`); got != `{"users":["7","ann"]}` {
				t.Error(got)
			}
			if got := third.told(routeEnter, withToken("", "r2", "bob@8")); got != `{"users":["bob"]}` { // it is another's now
				t.Error(got)
			}
			if got := r.login(atConnector, true).told(routeEnter, withToken("", "r", "ann@7")); got != `{"users":["7","ann"]}` {
				t.Error(got)
			}
			if got := r.login(atConnector, true).told(routeEnter, withToken("", "r", "cat@8")); got != enoughText {
				t.Error(got)
			}
		})
	}
}

// A client that was cut off is not shut out by what is left of its old session: by its secret it takes its place.
func TestSessionsReturn(t *testing.T) {
	const secret = `"secret":"0123456789abcdef"`
	for _, sh := range append(shapes, fleets...) {
		r, _ := sessionsRig(t, sh, channel.Sessions{Most: 1})
		old := r.login(atConnector, true)
		body := `{"rid":"r","token":"ann",` + secret + `}`
		if got := old.told(routeEnter, body); got != `{"users":["ann"]}` {
			t.Fatal(got)
		}
		if got := r.login(atConnector, true).told(routeEnter, withToken("", "r", "ann")); got != enoughText {
			t.Error(got)
		}
		if got := r.login(atConnector, true).told(routeEnter, body); got != `{"users":["ann"]}` {
			t.Error(got)
		}
		if got := strings.Join(old.take(), "\n"); !strings.Contains(got, "replaced by a new session of yours") || !old.ended() {
			t.Errorf("%q", got)
		}
	}
}

// So does a client of socket.io that shows its token in the connect, where it has no enter yet.
func TestSessionsReturnByConnect(t *testing.T) {
	for _, kind := range flavours {
		if kind.version != 4 {
			continue
		}
		r, _ := sessionsRig(t, shape{loops: 1}, channel.Sessions{Most: 1})
		r.uncounted = true
		for i, step := range []struct{ auth, want string }{
			{`{"token":"ann","secret":"0123456789abcdef"}`, `40{"sid":`},
			{`{"token":"ann"}`, `44{"message":"login refused: sessions"}`},
			{`{"token":"ann","secret":"fedcba9876543210"}`, `44{"message":"login refused: sessions"}`},
			{`{"token":"ann","secret":"0123456789abcdef"}`, `40{"sid":`},
		} {
			c := r.sio(kind)
			c.begin()
			c.packets = nil
			c.send("40" + step.auth)
			r.until(func() bool { c.run(); return len(c.packets) > 0 })
			if !strings.HasPrefix(c.packets[0], step.want) {
				t.Errorf("%s, step %d: %q", kind.name, i, c.packets)
			}
		}
	}
}

func TestOldSessionsAreKicked(t *testing.T) {
	for _, sh := range append(shapes, fleets...) {
		r, _ := sessionsRig(t, sh, channel.Sessions{Most: 1, KickOld: true})
		old := r.login(atConnector, true)
		for i := range 5 {
			old.told(routeEnter, withToken("", "r", "ann"))
			old.take()
			next := r.login(atConnector, i%2 == 0)
			if got := next.told(routeEnter, withToken("", fmt.Sprint("r", i), "ann")); got != `{"users":["ann"]}` {
				t.Error(got)
			}
			r.net.Settle()
			if got := strings.Join(old.take(), "\n"); !strings.Contains(got, "replaced by a new session of yours") || !old.ended() {
				t.Errorf("%v: %q", sh, got)
			}
			old = next
		}
	}
}

// Logins of a few users that come all at once, by whatever way, end, change users and are refused by rooms: there are never more sessions of a user than there may be, and when all
// have ended there may be as many again.
func TestSessionsModel(t *testing.T) {
	rng := seed.Rand(t)
	for _, sh := range append(shapes[len(shapes)-1:], fleets...) {
		for _, limits := range []channel.Sessions{{Most: 1}, {Most: 1, KickOld: true}, {Most: 2}} {
			r, b := sessionsRig(t, sh, limits)
			r.uncounted = true
			var all []*client
			for range 12 {
				b.mu.Lock()
				b.free = make(chan struct{})
				free := b.free
				b.mu.Unlock()
				for range 1 + rng.IntN(4) {
					var x *client
					if len(all) > 0 && rng.IntN(3) == 0 {
						x = all[rng.IntN(len(all))]
					}
					switch {
					case x == nil:
						x = r.login(atConnector, rng.IntN(2) == 0)
						all = append(all, x)
					case hasEnded(x):
						continue
					case rng.IntN(3) == 0:
						x.sock.End()
						continue
					}
					x.request(routeEnter, withToken("", fmt.Sprint("r", rng.IntN(2)), fmt.Sprintf("slow-n%d@u%d", rng.IntN(3), rng.IntN(2))))
				}
				r.until(func() bool { return b.running() == min(r.judging(), 4) })
				close(free) // all at once
				r.until(func() bool { return b.running() == 0 && r.calm() })
				sessions := map[string]int{}
				for _, l := range r.loops() {
					for _, slab := range l.sessions {
						for i := range slab {
							if s := &slab[i]; s.phase == working && s.conn != nil && s.conn.Alive() && s.identity() != nil {
								sessions[s.identity().user]++
								if !s.claims(s.identity().user) {
									t.Fatalf("%q is counted for %q", s.identity().user, s.rare.claims)
								}
							}
						}
					}
				}
				for user, n := range sessions {
					if n > limits.Most {
						t.Fatalf("%v, %+v: %d sessions of %s", sh, limits, n, user)
					}
				}
			}
			for _, x := range all {
				if !x.ended() {
					x.sock.End()
				}
			}
			r.net.Settle()
			for user := range 2 {
				for n := range limits.Most {
					if got := r.login(atConnector, true).told(routeEnter, withToken("", fmt.Sprint("new", user, n), fmt.Sprintf("x@u%d", user))); got != `{"users":["x"]}` {
						t.Fatalf("%v, %+v: session %d of user %d: %s", sh, limits, n, user, got)
					}
				}
			}
		}
	}
}

func hasEnded(c *client) bool { c.pump(); return c.ended() }

// judging is how many logins wait to be judged, or are.
func (r *rig) judging() (n int) {
	for _, l := range r.loops() {
		for _, slab := range l.sessions {
			for i := range slab {
				if s := &slab[i]; s.x != nil && s.x.login != nil && s.x.login.claim == 0 {
					n++
				}
			}
		}
	}
	return n
}

// calm tells whether nothing waits for an answer.
func (r *rig) calm() bool {
	r.net.Settle()
	for _, l := range r.loops() {
		for _, slab := range l.sessions {
			for i := range slab {
				if s := &slab[i]; s.phase != ended && s.conn != nil && s.x != nil && (s.x.login != nil || len(s.x.pending) > 0) {
					return false
				}
			}
		}
	}
	return true
}

// What is counted goes along to the process that takes this one's place.
func TestSessionsAreHandedOver(t *testing.T) {
	r, _ := sessionsRig(t, shape{loops: 2, roundTrip: true}, channel.Sessions{Most: 1})
	first := r.login(atConnector, true)
	first.told(routeEnter, withToken("", "r", "ann"))
	r.handOver(true)
	if got := r.login(atConnector, true).told(routeEnter, withToken("", "q", "ann")); got != enoughText {
		t.Error(got)
	}
	first.send(codec.PackageHeartbeat, nil)
	first.sock.End()
	r.net.Settle()
	if got := r.login(atConnector, true).told(routeEnter, withToken("", "q", "ann")); got != `{"users":["ann"]}` {
		t.Error(got)
	}
}

// silentOwner is the way to a partition that answers when the test does.
type silentOwner struct{ asked []channel.Request }

func (o *silentOwner) Post(r channel.Request) { o.asked = append(o.asked, r) }
func (o *silentOwner) Full() bool             { return false }

// A session takes back a claim of which it does not know whether it was made, once, before it makes another one: in whatever order answers and its own patience
// come, what it holds in the end is what the partition has been told.
func TestClaimsOfWhichNobodyKnows(t *testing.T) {
	r, _ := sessionsRig(t, shape{loops: 1}, channel.Sessions{Most: 1})
	user, room := "name\x00ann", "r"
	for channel.Partition(room) == channel.Partition(user) {
		room += "r"
	}
	owner := new(silentOwner)
	r.node.Place(channel.Partition(user), owner)
	c := r.login(atConnector, true)
	claims := func() channel.Request {
		t.Helper()
		n := len(owner.asked)
		c.request(routeEnter, withToken("", room, "ann"))
		r.until(func() bool { return len(owner.asked) > n })
		claim := owner.asked[n]
		if claim.Op != channel.OpClaim || claim.User != user || len(owner.asked) > n+1 {
			t.Fatalf("asked %+v", owner.asked[n:])
		}
		return claim
	}
	answers := func(claim channel.Request, body []byte) {
		r.node.Deliver(channel.Item{Kind: channel.ItemReply, Part: claim.Part, To: claim.From, Req: claim.Req, Body: body})
		r.net.Settle()
	}
	releasedOnce := func(claim channel.Request, what string) {
		t.Helper()
		n := len(owner.asked)
		if last := owner.asked[n-1]; last.Op != channel.OpRelease || last.User != user || last.From != claim.From || owner.asked[n-2].Req != claim.Req {
			t.Fatalf("%s: asked %+v", what, owner.asked)
		}
	}
	told := func(answer string) {
		t.Helper()
		if got := strings.Join(c.take(), "\n"); !strings.HasSuffix(got, answer) {
			t.Errorf("told %q", got)
		}
	}

	first := claims()
	answers(first, channel.Unknown)
	releasedOnce(first, "unknown")
	told(loginText)

	second := claims()
	r.net.Seconds(int(DefaultLimits().RequestSeconds))
	releasedOnce(second, "given up")
	told(enterRefused)

	third := claims()
	n := len(owner.asked)
	answers(second, channel.Unknown) // late
	if len(owner.asked) > n {
		t.Errorf("asked %+v", owner.asked[n:])
	}
	c.want()
	answers(third, channel.Done)
	told(`{"users":["ann"]}`)
	c.sock.End()
	r.net.Settle()
	releasedOnce(third, "ended")

	c = r.login(atConnector, true)
	n = len(owner.asked)
	answers(claims(), channel.NotSent) // certainly not
	if told(loginText); len(owner.asked) > n+1 {
		t.Errorf("asked %+v", owner.asked[n:])
	}
}

// A session that the next node cannot take counts no longer: its user would be shut out for ever.
func TestLostSessionsCountNoLonger(t *testing.T) {
	for name, harm := range map[string]func(cfg *Config, st *LoopState){
		"its listener is gone": func(cfg *Config, _ *LoopState) { cfg.PredecessorTags = slices.Repeat([]int{-1}, len(cfg.Profiles)) },
		"there is more of it than is known": func(_ *Config, st *LoopState) {
			s, _ := netpoll.ParseConnState(st.Conns[0].State)
			s.Handler = append(s.Handler, 0)
			st.Conns[0].State = s.Append(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := sessionsRig(t, shape{loops: 1}, channel.Sessions{Most: 1})
			r.uncounted = true
			r.login(atConnector, true).told(routeEnter, withToken("", "r", "ann"))
			r.empty()
			st, err := r.node.ExportLoop(0, nil)
			if err != nil || len(st.Conns) != 1 {
				t.Fatalf("%+v, %v", st, err)
			}
			cfg := r.cfg
			cfg.Predecessor = r.node.Export()
			harm(&cfg, st)
			r.net = r.net.Successor()
			cfg.Nanos = r.net.Now
			if r.node, err = NewNode(cfg); err != nil {
				t.Fatal(err)
			}
			r.net.Attach(r.node.Loops()[0])
			if _, err := r.node.ImportLoop(0, st); err != nil {
				t.Fatal(err)
			}
			r.net.Settle()
			if got := r.login(atConnector, true).told(routeEnter, withToken("", "q", "ann")); got != `{"users":["ann"]}` {
				t.Error(got)
			}
		})
	}
}

// The sessions of a connector that has died count no longer, and those whose partition has lost what it knew of them are ended, as members of a room are.
func TestSessionsSurviveNodes(t *testing.T) {
	r, b := sessionsRig(t, shape{loops: 1, fleet: "gnncc"}, channel.Sessions{Most: 1})
	r.uncounted = true
	x := r.fleet
	enters := func(c *client, room, name string) (answer string) { // the fleet's time must pass
		t.Helper()
		before := b.count()
		id := c.request(routeEnter, withToken("", room, name))
		r.until(func() bool { return b.count() > before && b.running() == 0 })
		x.until("answered", func() bool {
			c.pump()
			for _, e := range c.events {
				if e.kind == "answer" && e.id == id {
					answer = e.text
				}
			}
			return answer != "" || c.ended()
		})
		return answer
	}
	var names []string
	clients := map[string]*client{}
	for i := range 6 {
		name := fmt.Sprint("n", i)
		c := r.login(atConnector, true)
		if got := enters(c, name, name); !strings.Contains(got, name) {
			t.Fatal(got)
		}
		names, clients[name] = append(names, name), c
	}
	x.kill(x.nodes[3]) // a chat node: the other one has followed
	x.calm()
	for _, name := range names {
		if got := enters(r.login(atConnector, true), "r", name); got != enoughText {
			t.Errorf("%s: %s", name, got)
		}
	}
	x.kill(x.nodes[4]) // and now nobody has
	x.reboot(x.nodes[4])
	x.calm()
	for _, name := range names {
		if c := clients[name]; !hasEnded(c) {
			t.Errorf("%s has not been ended", name)
		}
		if got := enters(r.login(atConnector, true), "r", name); !strings.Contains(got, "users") {
			t.Errorf("%s: %s", name, got)
		}
	}
	x.kill(x.nodes[1]) // a connector, with half of them
	x.calm()
	free := 0
	for _, name := range names {
		if got := enters(r.login(atConnector, true), "q", name); got != enoughText {
			free++
		}
	}
	if free != len(names)/2 {
		t.Errorf("%d of %d may log in again", free, len(names))
	}
}

func TestSessionsNeedLogins(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	cfg := r.cfg
	cfg.Limits.Rooms.Sessions = channel.Sessions{Most: 1}
	if _, err := NewNode(cfg); err == nil || !strings.Contains(err.Error(), "-auth") {
		t.Error(err)
	}
}
