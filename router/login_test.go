package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// bouncer is a judge for whom a token is NAME, NAME@UID or NAME/ROOM, and more: "bad" is refused, "broken" cannot be judged, "panic" panics,
// "slow-NAME" waits until it is freed or nobody waits any more.
type bouncer struct {
	free  chan struct{}
	until time.Time

	mu    sync.Mutex
	shown []auth.Login
	most  int // at a time
	now   int
}

func (b *bouncer) judge(ctx context.Context, l auth.Login) (auth.Identity, error) {
	b.mu.Lock()
	b.shown = append(b.shown, l)
	b.now++
	b.most = max(b.most, b.now)
	free := b.free
	b.mu.Unlock()
	defer func() { b.mu.Lock(); b.now--; b.mu.Unlock() }()
	if name, slow := strings.CutPrefix(l.Token, "slow-"); slow {
		l.Token = name
		select {
		case <-free:
		case <-ctx.Done():
			return auth.Identity{}, ctx.Err()
		}
	}
	id := auth.Identity{Name: l.Token, Until: b.until}
	switch l.Token {
	case "bad":
		return auth.Identity{Name: "alice"}, fmt.Errorf("%w: it is bad", auth.ErrRefused)
	case "broken":
		return auth.Identity{Name: "alice"}, errors.New("the service is down")
	case "panic":
		panic("as the test wants it")
	case "nobody":
		id.Name = ""
	case "late":
		id.Until = time.UnixMilli(-1)
	}
	if name, uid, has := strings.Cut(l.Token, "@"); has {
		id.Name, id.UID = name, uid
	}
	if name, room, has := strings.Cut(l.Token, "/"); has {
		id.Name, id.Rooms = name, []string{room}
	}
	return id, nil
}

func (b *bouncer) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.shown)
}

func (b *bouncer) running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// loginRig is a node where one has to log in.
func loginRig(t *testing.T, sh shape, change func(*Config)) (*rig, *bouncer) {
	b := &bouncer{free: make(chan struct{})}
	return newRig(t, sh, func(cfg *Config) {
		cfg.Logins = Logins{Judge: b.judge, AtOnce: 4}
		if change != nil {
			change(cfg)
		}
	}), b
}

func withToken(user, room, token string) string {
	return fmt.Sprintf(`{"username":%q,"rid":%q,"token":%q}`, user, room, token)
}

// told asks and waits for the answer, which takes real time where a login is judged.
func (c *client) told(route, body string) (answer string) {
	c.r.t.Helper()
	id := c.request(route, body)
	c.r.until(func() bool {
		c.pump()
		for i, e := range c.events {
			if e.kind == "answer" && e.id == id {
				c.events = append(c.events[:i], c.events[i+1:]...)
				answer = e.text
				return true
			}
		}
		return c.ended()
	})
	return answer
}

// handshakes shakes hands with a token, and returns what was answered.
func (r *rig) handshakes(ws bool, token string) (*client, string) {
	r.t.Helper()
	c := r.connect(atConnector, ws)
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"},"user":{"token":"`+token+`"}}`))
	c.send(codec.PackageHandshakeAck, nil) // at once: it must wait
	r.until(func() bool { c.pump(); return len(c.events) > 0 })
	text := c.events[0].text
	c.events = c.events[1:]
	return c, text
}

const loginText = `{"code":401,"error":true}`

// An operator names a user by its uid, or by the name of one without, on every surface that takes a SessionFilter.
func TestOperatorsNameLogins(t *testing.T) {
	r, _ := loginRig(t, shape{loops: 2}, nil)
	ann, bob, none := r.login(atConnector, true), r.login(atConnector, true), r.login(atConnector, true)
	ann.told(routeEnter, withToken("", "r", "ann@7"))
	bob.told(routeEnter, withToken("", "q", "bob"))
	for _, c := range []*client{ann, bob, none} {
		c.take()
	}
	for uid, want := range map[string]*client{"7": ann, "bob": bob, "ann": nil, "8": nil} {
		count := 0
		if err := r.asked(func() (err error) {
			count, err = r.node.PublishSessions(t.Context(), SessionFilter{UID: uid}, "onX", []byte(`{}`))
			return
		}); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
		for _, c := range []*client{ann, bob, none} {
			if got := strings.Join(c.take(), " "); (got == `push 0 onX {}`) != (c == want) {
				t.Errorf("uid %s: told %q", uid, got)
			}
		}
		if (count == 1) != (want != nil) {
			t.Errorf("uid %s: %d sessions", uid, count)
		}
	}
}

func TestLoginByEnter(t *testing.T) {
	for _, sh := range shapes {
		t.Run(sh.String(), func(t *testing.T) {
			r, b := loginRig(t, sh, nil)
			for _, token := range []string{"bad", "broken", "panic", "nobody", "late", strings.Repeat("x", auth.MaxToken+1), ""} {
				c := r.login(atConnector, true)
				if got := c.told(routeEnter, withToken("alice", "r", token)); got != loginText {
					t.Errorf("%.10q: %s", token, got)
				}
				if got := c.told(routeSend, sendBody("x", "*")); got != refused { // it goes on, and is in no room
					t.Errorf("%.10q: %s", token, got)
				}
			}
			c := r.login(atConnector, false)
			if got := c.told(routeEnter, enterBody("alice", "r")); got != loginText {
				t.Error(got)
			}
			if got := c.told(routeEnter, `{"username":"alice","rid":"r","token":7}`); got != loginText {
				t.Error(got)
			}
			if got := c.told(routeEnter, withToken("bob", "r", "alice")); got != loginText { // another's name
				t.Error(got)
			}
			if got := c.told(routeEnter, `{"rid":"r"}`); got != `{"users":["alice"]}` { // that login was good, and sticks
				t.Error(got)
			}
			if got := c.told(routeEnter, enterBody("bob", "r")); got != loginText {
				t.Error(got)
			}
			n := b.count()
			if got := c.told(routeEnter, enterBody("alice", "q")); got != `{"users":["alice"]}` || b.count() != n { // judged once
				t.Error(got, b.count()-n)
			}
			d := r.login(atConnector, true)
			if got := d.told(routeEnter, withToken("", "q", "bob/w*")); got != `{"code":500,"error":true,"reason":"login"}` {
				t.Error(got)
			}
			if got := d.told(routeEnter, `{"rid":"world"}`); got != `{"users":["bob"]}` {
				t.Error(got)
			}
			accepted, failed := uint64(0), uint64(0)
			for _, l := range r.loops() {
				accepted += l.counters.logins[loginAccepted]
				failed += l.counters.logins[loginFailed]
			}
			if accepted != 2 || failed != 3 {
				t.Errorf("%d accepted, %d failed", accepted, failed)
			}
		})
	}
}

// A token in the handshake is judged before that is answered; what its client sends behind it waits.
func TestLoginByHandshake(t *testing.T) {
	for _, ws := range []bool{false, true} {
		r, b := loginRig(t, shape{loops: 1}, nil)
		for _, token := range []string{"bad", "broken"} {
			c, got := r.handshakes(ws, token)
			if got != `{"code":500}` || !c.ended() {
				t.Errorf("%s: %s, ended %v", token, got, c.ended())
			}
		}
		if n := r.closedFor(reasonLogin); n != 2 {
			t.Errorf("%d closed", n)
		}
		c, got := r.handshakes(ws, "alice")
		if !strings.HasPrefix(got, `{"code":200`) {
			t.Fatal(got)
		}
		if got := c.told(routeEnter, `{"rid":"r"}`); got != `{"users":["alice"]}` {
			t.Error(got)
		}
		if l := b.shown[len(b.shown)-1]; l.Token != "alice" || l.Name != "" || l.Address != r.peer {
			t.Errorf("%+v", l)
		}
		// Who hangs up meanwhile is forgotten, and who never gets an answer has the time of a handshake.
		gone := r.connect(atConnector, ws)
		gone.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test"},"user":{"token":"slow-x"}}`))
		r.until(func() bool { return b.running() == 1 })
		gone.sock.End()
		r.until(func() bool { return b.running() == 0 })
		stuck := r.connect(atConnector, ws)
		stuck.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test"},"user":{"token":"slow-x"}}`))
		r.until(func() bool { return b.running() == 1 })
		for range DefaultLimits().HandshakeSeconds + 1 {
			r.net.Seconds(1)
		}
		r.until(func() bool { return stuck.ended() && b.running() == 0 })
	}
}

// An enter whose login takes too long is refused, and what comes behind it keeps its order.
func TestLoginTakesTooLong(t *testing.T) {
	r, b := loginRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, true)
	c.request(routeEnter, withToken("x", "r", "slow-x"))
	c.request(routeSend, sendBody("x", "*"))
	r.until(func() bool { return b.count() == 1 })
	for range DefaultLimits().RequestSeconds {
		r.net.Seconds(1)
	}
	r.until(func() bool { return b.running() == 0 })
	c.want("answer 1 "+enterRefused, "answer 2 "+refused)
	if got := c.told(routeEnter, withToken("x", "r", "x")); got != `{"users":["x"]}` {
		t.Error(got)
	}
}

// When a login expires its session is kicked, unless it has entered again with a new one.
func TestLoginExpires(t *testing.T) {
	for _, sh := range []shape{{loops: 1}, {loops: 3, follow: true, roundTrip: true}} {
		r, b := loginRig(t, sh, nil)
		b.until = time.UnixMilli(r.net.Now()/1e6 + 4500)
		ann, bob := r.login(atConnector, true), r.login(atConnector, true)
		ann.told(routeEnter, withToken("", "r", "ann"))
		bob.told(routeEnter, withToken("", "r", "bob"))
		ann.take()
		beat := func(n int) {
			for range n {
				ann.send(codec.PackageHeartbeat, nil)
				bob.send(codec.PackageHeartbeat, nil)
				r.net.Seconds(1)
			}
			r.net.Settle()
		}
		beat(3)
		b.until = b.until.Add(10 * time.Second)
		if got := ann.told(routeEnter, withToken("ann", "r", "ann")); got != `{"users":["ann","bob"]}` {
			t.Fatal(got)
		}
		beat(4)
		if got := strings.Join(bob.take(), "\n"); !strings.Contains(got, "kick") || !strings.Contains(got, "login expired") {
			t.Errorf("bob was told %q", got)
		}
		if got := strings.Join(ann.take(), "\n"); strings.Contains(got, "kick") || !strings.Contains(got, "onLeave") {
			t.Errorf("ann was told %q", got)
		}
		if n := r.closedFor(reasonLogin); n != 1 {
			t.Errorf("%d closed", n)
		}
		beat(8)
		if got := strings.Join(ann.take(), "\n"); !strings.Contains(got, "login expired") {
			t.Errorf("ann was told %q", got)
		}
	}
}

// In a room a session is who it is until it has entered by another login: a token that is good and enters nothing, as it is another user's, for other rooms,
// or because the enter is refused, changes neither how long it may stay nor what it may enter.
func TestLoginThatEntersNothing(t *testing.T) {
	for _, sh := range []shape{{loops: 1}, {loops: 3, follow: true, roundTrip: true}} {
		r, b := loginRig(t, sh, nil)
		first := time.UnixMilli(r.net.Now()/1e6 + 4500)
		b.until = first
		ann, taken := r.login(atConnector, true), r.login(atConnector, true)
		ann.told(routeEnter, withToken("", "r", "ann@7"))
		b.until = first.Add(time.Minute)
		taken.told(routeEnter, withToken("", "q", "ann@8"))
		for _, tc := range []struct{ body, want string }{
			{withToken("ann", "r", "bob"), loginText},
			{withToken("", "r", "ann/w*"), `{"code":500,"error":true,"reason":"login"}`},
			{withToken("", "q", "ann@7"), enterRefused},
		} {
			if got := ann.told(routeEnter, tc.body); got != tc.want {
				t.Errorf("%s: %s", tc.body, got)
			}
		}
		for range 7 {
			ann.send(codec.PackageHeartbeat, nil)
			r.net.Seconds(1)
		}
		r.net.Settle()
		if got := strings.Join(ann.take(), "\n"); !strings.Contains(got, "login expired") {
			t.Errorf("%v: ann was told %q", sh, got)
		}

		// One that has entered is another's from then on.
		b.until = time.Time{}
		cat := r.login(atConnector, true)
		cat.told(routeEnter, withToken("", "r", "cat/r"))
		if got := cat.told(routeEnter, withToken("", "world", "cat/w*")); got != `{"users":["cat"]}` {
			t.Errorf("%v: %s", sh, got)
		}
		if got := cat.told(routeEnter, `{"rid":"r"}`); got != `{"code":500,"error":true,"reason":"login"}` {
			t.Errorf("%v: %s", sh, got)
		}
	}
}

// The gate tells everybody, whatever token is shown, and has none judged.
func TestGateJudgesNobody(t *testing.T) {
	r, b := loginRig(t, shape{loops: 1}, nil)
	c := r.connect(atGate, true)
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"},"user":{"token":"bad"}}`))
	r.until(func() bool { c.pump(); return len(c.events) > 0 })
	if got := c.events[0].text; !strings.HasPrefix(got, `{"code":200`) || b.count() != 0 {
		t.Errorf("%s; %d judged", got, b.count())
	}
}

// The same user, by whatever session, has its name back: the old session's place is taken.
func TestLoginIsAProof(t *testing.T) {
	r, _ := loginRig(t, shape{loops: 1}, nil)
	old, other := r.login(atConnector, true), r.login(atConnector, true)
	old.told(routeEnter, withToken("", "r", "ann@7"))
	if got := other.told(routeEnter, withToken("", "r", "ann@8")); got != enterRefused {
		t.Error(got)
	}
	fresh := r.login(atConnector, false)
	if got := fresh.told(routeEnter, `{"rid":"r","token":"ann@7","secret":"0123456789abcdef"}`); got != `{"users":["ann"]}` {
		t.Error(got)
	}
	if got := old.take(); len(got) == 0 || !strings.Contains(got[0], "replaced") {
		t.Errorf("%q", got)
	}
}

// A session that becomes another user by a new login, of the same name, is another member: the others are told so, and its place is kept for its user, not for
// the one that it was.
func TestRenewalAsAnotherUser(t *testing.T) {
	for _, sh := range append(shapes, fleets...) {
		t.Run(sh.String(), func(t *testing.T) {
			r, _ := loginRig(t, sh, keepPlaces)
			witness, c := r.login(atConnector, true), r.login(atConnector, true)
			witness.told(routeEnter, withToken("", "r", "eve"))
			if got := c.told(routeEnter, withToken("", "r", "ann@7")); got != `{"users":["eve","ann"]}` {
				t.Fatal(got)
			}
			witness.want(`push 0 onAdd {"route":"onAdd","user":"ann"}`)
			if got := c.told(routeEnter, withToken("", "r", "ann@7")); got != `{"users":["eve","ann"]}` {
				t.Error(got)
			}
			witness.want()
			if got := c.told(routeEnter, withToken("", "r", "ann@8")); got != `{"users":["eve","ann"]}` {
				t.Error(got)
			}
			witness.want(`push 0 onLeave {"route":"onLeave","user":"ann"}`, `push 0 onAdd {"route":"onAdd","user":"ann"}`)
			if got := witness.told(routeSend, sendBody("x", "ann")); got != `{}` {
				t.Error(got)
			}
			c.want(`push 0 onChat {"msg":"x","from":"eve","target":"ann"}`)
			c.reset()
			r.net.Settle()
			if got := r.login(atConnector, true).told(routeEnter, withToken("", "r", "ann@7")); got != enterRefused {
				t.Errorf("who it was has its place: %s", got)
			}
			if got := r.login(atConnector, false).told(routeEnter, withToken("", "r", "ann@8")); got != `{"users":["eve","ann"]}` {
				t.Error(got)
			}
			witness.want()
		})
	}
}

// Logins are judged so many at a time, addresses in turn, and beyond what may wait they are refused.
func TestLoginsWaitInTurn(t *testing.T) {
	b := &bouncer{free: make(chan struct{})}
	ls, err := newLogins(Logins{Judge: b.judge, AtOnce: 2}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var all sync.WaitGroup
	add := func(addr byte, token string, bytes int) bool {
		j := &login{shown: auth.Login{Token: token + strings.Repeat(" ", bytes), Address: netip.AddrFrom4([4]byte{192, 0, 2, addr})}}
		j.ctx, j.cancel = context.WithCancel(context.Background())
		j.judged = func(auth.Identity, error) {
			mu.Lock()
			order = append(order, strings.TrimSpace(token))
			mu.Unlock()
			all.Done()
		}
		all.Add(1)
		if ls.add(j) {
			return true
		}
		all.Done()
		return false
	}
	add(1, "slow-a", 0)
	add(1, "slow-b", 0)
	for range 10 {
		add(1, "c", 0)
	}
	add(2, "d", 0)
	n := 0
	for add(1, "e", auth.MaxToken) {
		n++
	}
	if most := maxLoginBytes / 4 / (auth.MaxToken + loginCost); n > most || n < most-2 {
		t.Errorf("%d of one address wait", n)
	}
	if !add(2, "f", auth.MaxToken) {
		t.Error("another address has no place")
	}
	close(b.free)
	all.Wait()
	for _, who := range []string{"d", "f"} {
		for i, name := range order {
			if name == who && i > 12 {
				t.Errorf("%s was %d. of %d", who, i, len(order))
			}
		}
	}
	if b.most > 2 || ls.bytes != 0 || len(ls.waiting) != 0 || ls.length() != 0 {
		t.Errorf("%d at a time; %d bytes, %d lines are left", b.most, ls.bytes, len(ls.waiting))
	}
}

// Tokens count for their address, right or wrong.
func TestLoginsCountForTheirAddress(t *testing.T) {
	r, b := loginRig(t, shape{loops: 1}, func(cfg *Config) {
		cfg.Access.PerAddress.Handshakes = limit.Rate{PerSecond: 0.1, Burst: 4}
	})
	c := r.login(atConnector, true) // one
	for range 6 {
		c.told(routeEnter, withToken("", "r", "bad"))
	}
	if n := b.count(); n != 3 {
		t.Errorf("%d were judged", n)
	}
}

// A program may judge logins, if nobody else does.
func TestProgramJudges(t *testing.T) {
	b := &bouncer{}
	a := app.New()
	a.Authenticate(b.judge)
	r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.App = a })
	c := r.login(atConnector, true)
	for token, want := range map[string]string{"": loginText, "bad": loginText, "ann": `{"users":["ann"]}`} {
		if got := c.told(routeEnter, withToken("", "r", token)); got != want && token != "" {
			t.Errorf("%q: %s", token, got)
		}
	}
	for _, cfg := range []Logins{{Judge: b.judge}, {Query: true}} {
		config := r.cfg
		config.Logins = cfg
		if cfg.Query {
			config.App = nil
		} else {
			config.App = app.New()
			config.App.Authenticate(b.judge)
		}
		if _, err := NewNode(config); err == nil || !strings.Contains(err.Error(), "-auth") {
			t.Error(err)
		}
	}
}

// Who an identity is goes along to another loop and another process.
func TestIdentityIsExported(t *testing.T) {
	r, _ := loginRig(t, shape{loops: 3, follow: true, roundTrip: true}, nil)
	for i := range 8 {
		c := r.login(atConnector, true)
		name := fmt.Sprint("n", i)
		if got := c.told(routeEnter, withToken("", "r", name+"/*r*")); !strings.Contains(got, name) {
			t.Fatal(got)
		}
		if got := c.told(routeEnter, `{"rid":"`+fmt.Sprint("r", i)+`"}`); got != `{"users":["`+name+`"]}` {
			t.Error(got)
		}
		if got := c.told(routeEnter, `{"rid":"q"}`); got != `{"code":500,"error":true,"reason":"login"}` {
			t.Error(got)
		}
	}
}
