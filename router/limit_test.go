package router

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// publicLimits are what -limits public says of sessions (server/limits_session.go).
func publicLimits(cfg *Config) {
	l := &cfg.Limits
	l.SessionRate, l.SendRate, l.EnterRate, l.Flood = limit.Rate{PerSecond: 100, Burst: 200}, limit.Rate{PerSecond: 60, Burst: 200}, limit.Rate{PerSecond: 2, Burst: 20}, 1000
	l.EarlyBytes, l.EarlyPackages, l.FirstSeconds = 16<<10, 64, 600
	l.Rooms = channel.Limits{Members: 100_000, Rooms: 1_000_000}
}

// limitedFor is how often limits have refused something for a reason.
func (r *rig) limitedFor(why limitReason) (n uint64) {
	for _, l := range r.node.loops {
		n += l.limiter.refused[why]
		if why == limitMemory {
			n += l.worker.Stats().Limited[channel.ReasonMemory] // of enters
		}
	}
	return n
}

// talker is a client of any wire.
type talker interface {
	request(route, body string) uint32
	ask(route, body string) string
	enter(user, room string) string
	take() []string
}

// talkers are clients of some wires; settle lets everything come to rest for them.
var talkers = []struct {
	name  string
	login func(r *rig) talker
}{
	{"tcp", func(r *rig) talker { return r.login(atConnector, false) }},
	{"websocket", func(r *rig) talker { return r.login(atConnector, true) }},
	{"0.9 websocket", func(r *rig) talker { return r.sioLogin(flavours[0]) }},
	{"0.9 xhr", func(r *rig) talker { return r.sioLogin(flavours[1]) }},
	{"eio3 polling", func(r *rig) talker { return r.sioLogin(flavours[4]) }},
	{"eio4 websocket", func(r *rig) talker { return r.sioLogin(flavours[7]) }},
	{"eio4 polling", func(r *rig) talker { return r.sioLogin(flavours[8]) }},
}

func (r *rig) rest(c talker) {
	if s, ok := c.(*sioClient); ok {
		s.run()
	} else {
		r.net.Settle()
	}
}

// several sends n requests at once and returns what they were told, pushes left out. One that polls sends them in one POST.
func (r *rig) several(c talker, n int, route, body string) (answers []string) {
	switch c := c.(type) {
	case *sioClient:
		var packets []string
		for range n {
			c.id++
			packets = append(packets, c.message(c.id, route, body))
		}
		c.send(packets...)
	default:
		for range n {
			c.request(route, body)
		}
	}
	r.rest(c)
	for _, line := range c.take() {
		if _, answer, ok := strings.Cut(line, "answer "); ok {
			_, text, _ := strings.Cut(answer, " ")
			answers = append(answers, text)
		}
	}
	return answers
}

func forTalkers(t *testing.T, f func(t *testing.T, r *rig, login func() talker)) {
	for _, kind := range talkers {
		for _, loops := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s,loops=%d", kind.name, loops), func(t *testing.T) {
				r := newRig(t, shape{loops: loops, follow: true}, publicLimits)
				f(t, r, func() talker { return kind.login(r) })
			})
		}
	}
}

// A bot that sends 50 messages a second is never refused, however unevenly they come, nor is it after the network held back
// four seconds of them.
func TestBotIsNeverRefused(t *testing.T) {
	forTalkers(t, func(t *testing.T, r *rig, login func() talker) {
		rng := seed.Rand(t)
		bot := login()
		bot.enter("bot", "r")
		bot.take()
		sent, tick := 0, r.net.Now()
		begin := r.net.Now()
		check := func(n int) {
			t.Helper()
			for i, text := range r.several(bot, n, routeSend, sendBody("x", "*")) {
				if text != `{}` {
					t.Fatalf("after %d: answer %d is %s", sent, i, text)
				}
			}
			sent += n
		}
		for r.net.Now() < begin+20e9 {
			r.net.Pass(time.Duration(rng.Int64N(400e6)))
			if r.net.Now()-tick >= 1e9 {
				tick = r.net.Now()
				r.net.Seconds(0)
				for _, l := range r.node.Loops() {
					l.Tick()
				}
			}
			if n := int((r.net.Now() - begin) / 20e6); n > sent {
				check(n - sent)
			}
		}
		r.net.Seconds(4)
		check(200)
	})
}

// Who goes beyond the burst is refused until the rate allows more, each request is answered, in order, and says why.
func TestRatesRefuse(t *testing.T) {
	forTalkers(t, func(t *testing.T, r *rig, login func() talker) {
		c := login()
		c.enter("a", "r")
		r.net.Seconds(3)
		c.take()
		for i, text := range r.several(c, 210, routeSend, sendBody("x", "*")) {
			want := `{}`
			if i >= 200 {
				want = `{"code":500,"reason":"session_rate"}`
			}
			if text != want {
				t.Fatalf("answer %d: %s", i, text)
			}
		}
		r.net.Seconds(1) // 100 messages, and 60 sends
		c.take()
		answers := r.several(c, 99, routeSend, sendBody("x", "*"))
		if n := slices.Index(answers, `{"code":500,"reason":"send_rate"}`); n != 60 && n != 61 || len(answers) != 99 {
			t.Errorf("%d of %d sends a second later: %v", n, len(answers), answers)
		}
		if n := r.limitedFor(limitSession) + r.limitedFor(limitSend); n < 48 || n > 49 {
			t.Errorf("%d counted", n)
		}
		r.net.Seconds(4)
		c.take()
		if got := c.ask(routeEnter, enterBody("b", "r")); got != `{"users":["b"]}` {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// A refused enter is refused as enters are, and has no effect.
func TestRateRefusesEnter(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.EnterRate = limit.Rate{PerSecond: 1, Burst: 2} })
	c, other := r.login(atConnector, false), r.login(atConnector, false)
	other.enter("other", "r")
	c.enter("a", "r")
	c.enter("b", "r")
	other.take()
	if got := c.enter("c", "r"); got != `{"code":500,"error":true,"reason":"enter_rate"}` {
		t.Error(got)
	}
	other.want()
	r.net.Seconds(1)
	other.take()
	if got := c.enter("c", "r"); got != `{"users":["other","c"]}` {
		t.Error(got)
	}
}

// Notifies beyond the limit have no effect and no answer, and are counted.
func TestNotifiesAreDropped(t *testing.T) {
	r := newRig(t, shape{loops: 1}, publicLimits)
	c, other := r.login(atConnector, true), r.login(atConnector, false)
	other.enter("other", "r")
	c.enter("a", "r")
	other.take()
	r.net.Seconds(3)
	for range 300 {
		c.notify(routeSend, sendBody("x", "*"))
	}
	r.net.Settle()
	if n := len(other.take()); n != 200 {
		t.Errorf("%d came through", n)
	}
	if n := r.limitedFor(limitSession); n != 100 {
		t.Errorf("%d counted", n)
	}
	c.take()
	r.net.Seconds(1)
	if got := c.ask(routeSend, sendBody("y", "*")); got != `{}` {
		t.Error(got)
	}
}

// A flood ends its session, with a reason, and nobody else's. Less than twice the rate never does.
func TestFloodEndsTheSession(t *testing.T) {
	for _, kind := range []string{"requests", "notifies", "heartbeats", "malformed", "pings", "pongs", "fragments"} {
		forWires(t, func(t *testing.T, ws bool) {
			frames := kind == "pings" || kind == "pongs" || kind == "fragments"
			if frames && !ws {
				return
			}
			r := newRig(t, shape{loops: 1}, publicLimits)
			c, other := r.login(atConnector, ws), r.login(atConnector, false)
			c.enter("a", "r")
			other.enter("other", "r")
			c.take()
			for i := range 3000 {
				switch kind {
				case "requests":
					c.request("no.such.route", `{}`)
				case "notifies":
					c.notify("no.such.route", `{}`)
				case "heartbeats":
					c.send(codec.PackageHeartbeat, nil)
				case "pings":
					c.sock.Send(maskedFrame(byte(codec.WSPing), nil))
				case "pongs":
					c.sock.Send(maskedFrame(byte(codec.WSPong), nil))
				case "fragments":
					c.sock.Send(fragment(i, nil))
				case "malformed":
					c.send(codec.PackageData, []byte{0xff})
				}
				if i%100 == 0 {
					r.net.Settle()
				}
			}
			r.net.Settle()
			if r.closedFor(reasonFlood) != 1 {
				t.Fatalf("%s: not ended: %d", kind, r.node.loops[0].np.Open())
			}
			if frames {
				c.sock.Wrote = c.sock.Wrote[max(0, len(c.sock.Wrote)-60):]
				if !strings.Contains(string(c.sock.Wrote), `{"reason":"too many messages"}`) {
					t.Errorf("the last words are %q", c.sock.Wrote)
				}
			} else if told := c.take(); !slices.Contains(told, `kick 0 {"reason":"too many messages"}`) {
				t.Errorf("%s: told %q", kind, told[max(0, len(told)-3):])
			}
			if got := other.ask(routeSend, sendBody("x", "*")); got != `{}` {
				t.Error(got)
			}
		})
	}
	t.Run("long messages in fragments", func(t *testing.T) {
		r := newRig(t, shape{loops: 1}, publicLimits)
		c := r.login(atConnector, true)
		m, err := codec.AppendMessage(nil, codec.Message{
			Type: codec.MessageRequest, ID: 1, Route: []byte("no.such.route"), Body: make([]byte, 300*smallFrame),
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			rest := codec.AppendPackage(nil, codec.PackageData, m)
			for i := 0; len(rest) > smallFrame; i++ {
				c.sock.Send(fragment(i, rest[:smallFrame]))
				rest = rest[smallFrame:]
			}
			c.sock.Send(maskedFrame(0, rest))
			r.net.Settle()
		}
		if n, m := r.limitedFor(limitPackages), r.limitedFor(limitSession); n+m != 0 {
			t.Errorf("refused %d and %d times", n, m)
		}
		if got := len(c.take()); got != 10 {
			t.Errorf("%d answers", got)
		}
	})
	t.Run("nearly twice the rate", func(t *testing.T) {
		r := newRig(t, shape{loops: 1}, publicLimits)
		c := r.login(atConnector, false)
		for range 60 {
			for range 190 {
				c.request("no.such.route", `{}`)
			}
			r.net.Seconds(1)
			c.sock.Wrote, c.read = nil, 0
		}
		r.net.Seconds(3)
		c.wantWorking()
	})
}

// fragment is the i-th frame of a binary message that does not end with it.
func fragment(i int, payload []byte) []byte {
	op := byte(0)
	if i == 0 {
		op = byte(codec.WSBinary)
	}
	b := maskedFrame(op, payload)
	b[0] &^= 0x80 // not the last
	return b
}

// socket.io clients cannot fill their buckets again by leaving the namespace and coming back, nor flood with packets that are no
// message.
func TestSocketIOFlood(t *testing.T) {
	for _, packets := range [][]string{{"41", "40"}, {"41"}, {"2"}, {"3"}, {"6"}, {"40/x"}, {`42["other"]`}, {`43[]`}} {
		for _, kind := range []flavour{flavours[3], flavours[7], flavours[8]} {
			t.Run(kind.name+" "+strings.Join(packets, " "), func(t *testing.T) {
				r := newRig(t, shape{loops: 1}, publicLimits)
				c := r.sioLogin(kind)
				for range 40 {
					if s := c.session(); s == nil || s.phase == ended {
						break
					}
					var many []string
					for range 100 {
						many = append(many, packets...)
					}
					c.send(many...)
					c.run()
				}
				// A client of socket.io 4 may not say anything but "connect" before that is granted.
				if n, m := r.closedFor(reasonFlood), r.closedFor(reasonProtocol); n+m != 1 || m > 0 && packets[0] != "41" {
					t.Errorf("ended for it: %d, for other things: %d", n, m)
				}
			})
		}
	}
}

// Before the handshake is done a client may send so many packages and bytes and no more, whatever they are.
func TestEarlyBounds(t *testing.T) {
	big := strings.Repeat("x", 15<<10)
	for _, tc := range []struct {
		name string
		ws   bool
		send func(c *client)
		ends bool
	}{
		{"a long handshake", false, func(c *client) { c.send(codec.PackageHandshake, []byte(`{"sys":{},"user":"`+big+`"}`)) }, false},
		{"too long a handshake", false, func(c *client) { c.send(codec.PackageHandshake, []byte(`{"sys":{},"user":"`+big+big+`"}`)) }, true},
		{"the head of too long a package", false, func(c *client) { c.sock.Send([]byte{1, 1, 0, 0}) }, true},
		{"the head of too long a frame", true, func(c *client) { c.sock.Send(maskedFrame(2, make([]byte, 40_000))[:14]) }, true},
		{"data in all", true, func(c *client) {
			c.send(codec.PackageData, []byte(big))
			c.send(codec.PackageData, []byte(big))
		}, true},
		{"64 packages", true, func(c *client) {
			for range 62 {
				c.send(codec.PackageHeartbeat, nil)
			}
			c.send(codec.PackageHandshake, []byte(testHandshake))
			c.send(codec.PackageHandshakeAck, nil)
			c.send(codec.PackageData, []byte(big+big))
		}, false},
		{"65 packages", false, func(c *client) {
			for range 65 {
				c.send(codec.PackageHeartbeat, nil)
			}
		}, true},
		{"pings", true, func(c *client) {
			for range 65 {
				c.sock.Send(maskedFrame(byte(codec.WSPing), nil))
			}
		}, true},
		{"pongs", true, func(c *client) {
			for range 65 {
				c.sock.Send(maskedFrame(byte(codec.WSPong), nil))
			}
		}, true},
		{"fragments", true, func(c *client) {
			for i := range 65 {
				c.sock.Send(fragment(i, nil))
			}
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, publicLimits)
			c := r.connect(atConnector, tc.ws)
			r.net.Settle()
			tc.send(c)
			r.net.Settle()
			if c.ended() != tc.ends {
				t.Errorf("ended: %v", c.ended())
			}
			if got := r.closedFor(reasonEarly) == 1; got != tc.ends {
				t.Errorf("counted: %v", got)
			}
		})
	}
}

// A session that has said nothing but heartbeats for ten minutes is ended; one message is enough to stay.
func TestFirstMessage(t *testing.T) {
	for _, a := range []*app.App{nil, app.New()} {
		r := newRig(t, shape{loops: 1}, func(cfg *Config) { publicLimits(cfg); cfg.App = a })
		mute, spoke, polls := r.login(atConnector, true), r.login(atConnector, false), r.sioLogin(flavours[1])
		spoke.ask("no.such.route", `{}`)
		for range 601 {
			mute.send(codec.PackageHeartbeat, nil)
			spoke.send(codec.PackageHeartbeat, nil)
			r.net.Seconds(1)
			polls.run()
			mute.rest()
			spoke.rest()
		}
		for range 25 {
			mute.send(codec.PackageHeartbeat, nil)
			spoke.send(codec.PackageHeartbeat, nil)
			r.net.Seconds(1)
			polls.pump()
		}
		spoke.rest()
		if want := a == nil; mute.ended() != want || polls.over() != want {
			t.Errorf("app %v: ended: %v, %v", a != nil, mute.ended(), polls.over())
		}
		if n := r.closedFor(reasonIdle); n != 2 && a == nil || n != 0 && a != nil {
			t.Errorf("%d counted", n)
		}
		spoke.send(codec.PackageHeartbeat, nil)
		spoke.wantOpen(spoke.heartbeat())
	}
}

// Without limits nothing is refused, whatever comes.
func TestNoLimits(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, false)
	c.enter("a", "r")
	for i, text := range r.several(c, 5000, routeSend, sendBody("x", "nobody")) {
		if text != refused {
			t.Fatalf("%d: %s", i, text)
		}
	}
	for range 5000 {
		c.send(codec.PackageHeartbeat, nil)
	}
	r.net.Settle()
	for why := range limitReasons {
		if n := r.limitedFor(why); n != 0 {
			t.Errorf("%s: %d", limitNames[why], n)
		}
	}
	c.wantWorking()
}

// While memory is short nobody enters and nobody begins to poll; those who are in go on.
func TestShortOfMemory(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	in, out := r.login(atConnector, false), r.login(atConnector, true)
	in.enter("in", "r")
	r.node.SetShort(true)
	if got := out.enter("out", "r"); got != `{"code":500,"error":true,"reason":"memory"}` {
		t.Error(got)
	}
	if got := in.ask(routeSend, sendBody("x", "*")); got != `{}` {
		t.Error(got)
	}
	if p := r.web(atConnector).ask(get("/socket.io/?EIO=4&transport=polling")); p.status != 503 {
		t.Error(p)
	}
	if n := r.limitedFor(limitMemory); n != 2 {
		t.Errorf("%d counted", n)
	}
	r.node.SetShort(false)
	if got := out.enter("out", "r"); got != `{"users":["in","out"]}` {
		t.Error(got)
	}
}

// Rates per route: each session has its own, for the routes that are named only.
func TestRouteLimits(t *testing.T) {
	const quick, slow = "area.areaHandler.quick", "area.areaHandler.slow"
	for _, sh := range shapes {
		a := app.New()
		ran := 0
		a.HandleInline(slow, func(*app.Call) (any, error) { ran++; return nil, nil })
		a.HandleInline(quick, func(*app.Call) (any, error) { return nil, nil })
		a.Limit(slow, 0.5, 2)
		r := newRig(t, sh, func(cfg *Config) { cfg.App = a })
		alice, b := r.login(atConnector, false), r.login(atConnector, true)
		var got []string
		for range 3 {
			got = append(got, alice.ask(slow, `{}`), alice.ask(quick, `{}`))
		}
		alice.notify(slow, `{}`)
		got = append(got, b.ask(slow, `{}`))
		r.net.Seconds(2)
		got = append(got, alice.ask(slow, `{}`), alice.ask(slow, `{}`))
		want := []string{`{}`, `{}`, `{}`, `{}`, `{"code":500,"reason":"route_rate"}`, `{}`, `{}`, `{}`, `{"code":500,"reason":"route_rate"}`}
		if !slices.Equal(got, want) || ran != 4 {
			t.Errorf("%+v: %d ran, got %q", sh, ran, got)
		}
		if n := r.limitedFor(limitRoute); n != 3 {
			t.Errorf("%d counted", n)
		}
	}
}

func TestRouteLimitMistakes(t *testing.T) {
	for _, mistake := range []func(*app.App){
		func(a *app.App) { a.Limit(routeSend, 1, 1) },
		func(a *app.App) { a.Limit("a.b.c", 0, 0) },
		func(a *app.App) { a.Limit("a.b.c", 1, 0) },
		func(a *app.App) { a.Limit("a.b.d", 1, 1) },
	} {
		a := app.New()
		a.HandleInline("a.b.c", func(*app.Call) (any, error) { return nil, nil })
		mistake(a)
		if _, err := newProgram(a); err == nil || !strings.Contains(err.Error(), "App.Limit") {
			t.Errorf("%v", err)
		}
	}
}

// SetSlowMode reaches the room's worker, wherever that is.
func TestAppSetsSlowMode(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		r := newRig(t, sh, func(cfg *Config) { cfg.App = a })
		c := r.login(atConnector, false)
		c.enter("a", "r")
		if err := a.Room("r").SetSlowMode(2e9); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
		got := []string{c.ask(routeSend, sendBody("1", "*")), c.ask(routeSend, sendBody("2", "*"))}
		r.net.Seconds(2)
		got = append(got, c.ask(routeSend, sendBody("3", "*")))
		if err := a.Room("r").SetSlowMode(-1); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
		got = append(got, c.ask(routeSend, sendBody("4", "*")))
		if fmt.Sprint(got) != `[{} {"code":500,"reason":"slow_mode","wait":2} {} {}]` {
			t.Errorf("%+v: %v", sh, got)
		}
		if a.Room("r").SetSlowMode(channel.MaxSlow+1) == nil {
			t.Error("more than a day was accepted")
		}
	}
}

// The bound on what all have unsent may be lowered at any time: the largest go until it holds, and what it was comes back.
func TestUnsentIsBoundedLater(t *testing.T) {
	forLoops(t, nil, func(t *testing.T, r *rig) {
		all := r.members(4, "r")
		text := strings.Repeat("x", 5000)
		for i, c := range all[1:] {
			c.sock.Room = 0
			for range i + 1 {
				all[0].ask(routeSend, sendBody(text, fmt.Sprint("n", i+1)))
			}
		}
		if u := r.node.Usage(); u.Slow != 3 || u.Conns != 4 || u.Buffered < 30_000 {
			t.Fatalf("%+v", u)
		}
		r.node.SetBuffered(16_000)
		r.net.Settle()
		if !all[3].sock.Closed || all[2].ended() || all[1].ended() || r.closedFor(netpoll.ReasonMemory) != 1 {
			t.Errorf("closed: %v %v %v", all[1].ended(), all[2].ended(), all[3].sock.Closed)
		}
		r.node.SetBuffered(math.MaxInt64)
		for range 4 {
			all[0].ask(routeSend, sendBody(text, "n1"))
		}
		if u := r.node.Usage(); u.Slow != 2 || all[1].ended() {
			t.Errorf("afterwards: %+v, ended %v", u, all[1].ended())
		}
	})
}
