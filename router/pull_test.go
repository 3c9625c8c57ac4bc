package router

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/netpoll"
)

// idlePacket is what answers a GET that has nothing to tell.
func (c *sioClient) idlePacket() string {
	if c.kind.version == 9 {
		return "8::"
	}
	return "6"
}

// kick ends the client's session, as a worker would.
func (r *rig) kick(c *sioClient, reason string) {
	r.t.Helper()
	l, s := c.where()
	if s == nil {
		r.t.Fatal("there is no session")
		return
	}
	l.mail.Post(mail{item: channel.Item{Kind: channel.ItemKick, To: l.addr(s.conn), Body: []byte(reason)}})
	r.net.Turn()
}

// What a room is told in one go answers a held GET once, with all of it; so does what is told while no GET is there.
func TestPollIsAnsweredOncePerPass(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		sender := r.login(atConnector, true)
		sender.enter("sender", "r")
		c := r.sioLogin(kind)
		c.enter("c", "r")
		for held := range 2 {
			var want []string
			if held == 1 {
				c.run()
			} else if c.polling { // and let that one go
				sender.ask(routeSend, sendBody("first", "*"))
				c.pump()
			}
			c.take()
			n := len(c.answers)
			for i := range 5 {
				sender.request(routeSend, sendBody(fmt.Sprint(i), "*"))
				want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%d","from":"sender","target":"*"}`, i))
			}
			r.net.Settle()
			if held == 0 {
				if got := c.take(); len(got) > 0 {
					t.Fatalf("told without a GET: %q", got)
				}
				c.poll()
				r.net.Settle()
			}
			if got := c.take(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("held %d: got  %q\nwant %q", held, got, want)
			}
			if len(c.answers) != n+1 {
				t.Fatalf("held %d: %d answers", held, len(c.answers)-n)
			}
		}
	})
}

// Of two GETs the older one gives way; whatever there is goes to the newer one.
func TestOverlappingGETs(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		c, other := r.sioLogin(kind), r.login(atConnector, false)
		c.enter("c", "r")
		c.run()
		older := c.get
		for i := range 3 {
			c.get = nil
			c.poll()
			r.net.Settle()
			if p := older.response(false); p == nil || fmt.Sprint(c.unpack(p)) != "["+c.idlePacket()+"]" {
				t.Fatalf("the older GET was answered %v", p)
			}
			older.wantIdle()
			c.get.wantIdle()
			older = c.get
			if i == 1 {
				other.enter("other", "r")
				c.want(`push 0 onAdd {"route":"onAdd","user":"other"}`)
			}
		}
		other.take()
		other.ask(routeSend, sendBody("x", "c"))
		c.want(`push 0 onChat {"msg":"x","from":"other","target":"c"}`)
		c.get.sock.End()
		r.net.Settle()
	})
}

// postOn sends each packet in a POST of its own connection, in turn, while the worker of the session's room stands still.
func (c *sioClient) postOn(home int, packets ...string) (posts []*web) {
	for range packets {
		posts = append(posts, c.web())
	}
	c.r.net.Settle()
	for i, p := range packets {
		c.post = posts[i]
		c.send(p)
		c.turnOnly(home)
	}
	c.post, c.posting = nil, false
	return posts
}

// turnOnly lets everything happen that can without other loops than home.
func (c *sioClient) turnOnly(home int) {
	for range 5 {
		c.r.net.Events()
		c.r.net.TurnLoop(home)
	}
}

// waiting is a client whose session waits for the worker of another loop, and whose POSTs wait for it.
func waiting(t *testing.T, kind flavour) (r *rig, c *sioClient, home int) {
	r = newRig(t, shape{loops: 2}, nil)
	c = r.sioLogin(kind)
	c.run()
	return r, c, int(r.node.sids.parse([]byte(c.sid)).Loop())
}

// POSTs of several connections are carried out in the order they came, while the session waits for a worker. None is forgotten.
func TestOverlappingPOSTs(t *testing.T) {
	for _, kind := range pollers() {
		t.Run(kind.name, func(t *testing.T) {
			r, c, home := waiting(t, kind)
			packets, want := []string{c.message(2, routeEnter, enterBody("c", foreignRoom(r, home)))}, []string{`answer 2 {"users":["c"]}`}
			for i := range uint32(8) {
				packets = append(packets, c.message(3+i, routeSend, sendBody(fmt.Sprint(i), "*")))
				want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%d","from":"c","target":"*"}`, i), fmt.Sprintf("answer %d {}", 3+i))
			}
			posts := c.postOn(home, packets...)
			c.want(want...)
			for i, w := range posts {
				if p := w.response(false); p == nil || p.status != 200 {
					t.Errorf("POST %d was answered %v", i, p)
				}
				w.wantIdle()
			}
		})
	}
}

// The same when some of the waiting connections die, and when the session ends: then all POSTs are answered.
func TestWaitingPOSTsAreLetGo(t *testing.T) {
	for _, kind := range pollers() {
		t.Run(kind.name, func(t *testing.T) {
			r, c, home := waiting(t, kind)
			packets := []string{c.message(2, routeEnter, enterBody("c", foreignRoom(r, home)))}
			for i := range uint32(6) {
				packets = append(packets, c.message(3+i, "no.such.route", "{}"))
			}
			posts := c.postOn(home, packets...)
			for _, i := range []int{2, 4} {
				posts[i].sock.End()
			}
			c.turnOnly(home)
			l := r.node.loops[home]
			l.kick(c.session(), "bye")
			l.np.Ring()
			c.turnOnly(home)
			for _, i := range []int{0, 1, 3, 5, 6} {
				if p := posts[i].response(false); p == nil {
					t.Errorf("POST %d was not answered", i)
				}
				posts[i].wantIdle()
			}
			r.endAll()
			r.balanced()
		})
	}
}

// A session that has more to take than it fetches is not read: a POST is accepted and the next one waits, however many packets
// there are. It goes on when all has been fetched.
func TestPOSTWhileThrottled(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		c := r.sioLogin(kind)
		long := strings.Repeat("x", 30_000)
		c.enter("c", "r")
		c.run()
		r.dropGET(c)
		l := r.node.loops[r.node.sids.parse([]byte(c.sid)).Loop()]
		const n = 12
		var want []string
		var posts []*web
		for i := range uint32(n) {
			c.post = nil
			c.send(c.message(100+i, routeSend, sendBody(fmt.Sprint(i)+long, "c")))
			posts = append(posts, c.post)
			r.net.Settle()
			want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%d%s","from":"c","target":"c"}`, i, long), fmt.Sprintf("answer %d {}", 100+i))
		}
		c.post, c.posting = nil, false
		if queued := c.session().conn.Queued(); queued > 64<<10+2*len(long) {
			t.Errorf("%d bytes wait for a client that does not fetch", queued)
		}
		if l.np.Stats().Throttled == 0 {
			t.Error("it was not throttled")
		}
		if p := posts[n-1].response(false); p != nil {
			t.Errorf("the last POST was answered %v", p)
		}
		c.want(want...)
		for i, w := range posts[:n-1] {
			if p := w.response(false); p == nil || p.status != 200 {
				t.Errorf("POST %d was answered %v", i, p)
			}
		}
		if p := posts[n-1].response(false); p == nil || p.status != 200 {
			t.Errorf("the last POST was answered %v", p)
		}
	})
}

// dropGET lets go the GET that is held for c, and forgets the answer.
func (r *rig) dropGET(c *sioClient) {
	r.t.Helper()
	if c.kind.version == 9 {
		c.get.sock.End()
		c.polling = false
	} else {
		c.send("2")
	}
	r.net.Settle()
	c.pump()
	if c.polling {
		r.t.Fatal("the GET is still held")
	}
	c.packets = nil
}

// A body that is no payload is answered, and ends an Engine.IO session; its GET is told, and the next one does not find it.
func TestMalformedPayload(t *testing.T) {
	bad := map[int][]string{3: {"x", "1", "5:4", "2:42x", "-1:2", "1:9", "0000000001:2"}, 4: {"", "9", "\x1e2", "2\x1e", "x"}, 9: {"", "x", "3", "\ufffd9\ufffdx", "\ufffd1", "9:::x", "3:::"}}
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		other := r.login(atConnector, true)
		other.enter("other", "r")
		for i, body := range bad[kind.version] {
			for _, held := range []bool{false, true} {
				c := r.sioLogin(kind)
				c.enter("c", "r")
				c.run()
				if !held {
					r.dropGET(c)
				}
				other.take()
				if kind.jsonp && kind.version == 9 {
					body = "d=" + jsString(body)
				} else if kind.jsonp {
					body = "d=" + body
				}
				if kind.jsonp && i == 0 {
					body = "e=x"
				}
				contentType := ""
				if kind.binary {
					contentType = "application/octet-stream"
				}
				p := r.web(atConnector).ask(post(c.target("polling"), body, "Content-Type: "+contentType))
				if want := map[int]string{9: "1", 3: "ok", 4: "ok"}[kind.version]; p.status != 200 || p.body != want {
					t.Fatalf("%q answered %v", body, p)
				}
				if kind.version == 9 {
					other.want()
					if got := c.ask(routeSend, sendBody("still", "nobody")); got != refused {
						t.Error(got)
					}
					c.ended(r)
					continue
				}
				other.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
				if held {
					c.wantPackets("1")
				}
				if p := r.web(atConnector).ask(get(c.target("polling"))); p.status != 400 || p.body != `{"code":1,"message":"Session ID unknown"}` {
					t.Fatalf("afterwards %v", p)
				}
			}
		}
	})
}

// ended ends a 0.9 client in its own way.
func (c *sioClient) ended(r *rig) {
	c.send("0::")
	r.net.Settle()
	if c.session() != nil {
		r.t.Error("the session lives on")
	}
}

// A kicked client is told why by the GET that is held, or by the next one within ten seconds. The others see it leave at once.
func TestKickByPolling(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		other := r.login(atConnector, true)
		other.enter("other", "r")
		goodbye := map[int]string{9: "0::", 3: "41", 4: "41"}[kind.version]
		for _, tc := range []struct {
			held  bool
			after int // seconds until the next GET
			told  bool
		}{{true, 0, true}, {false, 0, true}, {false, 9, true}, {false, 12, false}} {
			c := r.sioLogin(kind)
			c.enter("c", "r")
			c.run()
			if !tc.held {
				r.dropGET(c)
			}
			c.packets = nil
			other.take()
			r.kick(c, `say "bye" `+smile)
			r.net.Settle()
			other.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
			other.send(codec.PackageHeartbeat, nil)
			for range tc.after {
				r.net.Seconds(1)
				other.send(codec.PackageHeartbeat, nil)
			}
			if !tc.held {
				if p := r.web(atConnector).ask(post(c.target("polling"), c.payload([]string{"2::"}))); tc.told && p.status != 200 {
					t.Errorf("a POST meanwhile was answered %v", p)
				}
				c.poll()
			}
			r.net.Settle()
			c.pump()
			if tc.told {
				c.wantPackets(goodbye)
				if got := fmt.Sprint(c.take()); got != `[kick 0 "say \"bye\" \ud83d\ude00"]` {
					t.Errorf("%+v: got %s", tc, got)
				}
			}
			if c.session() != nil {
				t.Errorf("%+v: the session lives on", tc)
			}
			c.answers = nil
			c.poll()
			r.net.Settle()
			c.pump()
			if !c.lost() {
				t.Errorf("%+v: afterwards %v, %q", tc, c.answers, c.packets)
			}
			other.want()
		}
		if n := r.closedFor(reasonKick); n != 4 {
			t.Errorf("%d counted", n)
		}
	})
}

// A member that does not fetch is ended when too much waits for it, and alone.
func TestSlowPollerIsEndedAlone(t *testing.T) {
	for _, kind := range pollers() {
		forLoops(t, func(c *Config) { c.Limits.Conn.Outbound, c.Limits.PackageBytes = 20_000, 10_000 }, func(t *testing.T, r *rig) {
			sender, slow, quick := r.login(atConnector, true), r.sioLogin(kind), r.sioLogin(kind)
			sender.enter("sender", "r")
			slow.enter("slow", "r")
			r.dropGET(slow)
			quick.enter("quick", "r")
			r.run(quick)
			sender.take()
			left, sends := false, 0
			for ; !left && sends < 100; sends++ {
				sender.ask(routeSend, sendBody(strings.Repeat("x", 1000), "*"))
				r.run(quick)
				left = strings.Contains(fmt.Sprint(quick.take()), `"onLeave","user":"slow"`)
			}
			if !left || sends < 10 || sends > 25 || r.closedFor(netpoll.ReasonSlow) != 1 || slow.session() != nil {
				t.Errorf("%s: gone %v after %d messages, %d counted", kind.name, left, sends, r.closedFor(netpoll.ReasonSlow))
			}
			slow.poll()
			r.net.Settle()
			slow.pump()
			if !slow.lost() || quick.lost() {
				t.Errorf("%s: told %v %q", kind.name, slow.answers, slow.packets)
			}
			r.endAll()
			r.balanced()
		})
	}
}

// However long what is fetched may be, it comes whole, in every framing; no buffer of that size is kept.
func TestLongAnswersAreFetchedWhole(t *testing.T) {
	long := strings.Repeat("é王\"\n", 45_000) // more than maxScratch
	a := app.New()
	a.HandleInline("connector.test.long", func(*app.Call) (any, error) { return long, nil })
	for _, kind := range flavours {
		r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = a })
		hosting.Of(a).Attach(nil)
		c := r.sioLogin(kind)
		if got := c.ask("connector.test.long", "{}"); got != jsString(long) {
			t.Errorf("%s: %d bytes instead of %d: %.100q", kind.name, len(got), len(jsString(long)), got)
		}
		if l := r.node.loops[0]; cap(l.http.body) > maxScratch || cap(l.polls.body) > maxScratch || cap(l.polls.jsonp) > maxScratch || cap(l.text) > maxScratch || cap(l.polls.stream) > maxScratch {
			t.Errorf("%s: large buffers are kept", kind.name)
		}
	}
}

// There are at most so many sessions that poll; whoever has one is not disturbed.
func TestPullsBound(t *testing.T) {
	forLoops(t, func(c *Config) { c.Limits.Pulls = 3 }, func(t *testing.T, r *rig) {
		var all []*sioClient
		for _, i := range []int{1, 4, 8} {
			all = append(all, r.sioLogin(flavours[i]))
		}
		for range 2 {
			for _, target := range []string{"/socket.io/1/", "/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=polling"} {
				w := r.web(atConnector)
				if p := w.ask(get(target)); p.status != 503 {
					t.Errorf("%s answered %v", target, p)
				}
				w.wantEnd()
			}
			r.sioLogin(flavours[3]) // a WebSocket is none
		}
		refusedPulls := uint64(0)
		for _, l := range r.node.loops {
			refusedPulls += l.counters.pullsRefused
		}
		if refusedPulls != 6 {
			t.Errorf("%d counted", refusedPulls)
		}
		all[1].send("1")
		r.net.Settle()
		r.sioLogin(flavours[5])
		if got := all[0].enter("a", "r"); got != `{"users":["a"]}` {
			t.Error(got)
		}
	})
}

func (r *rig) httpErrors() (n uint64) {
	for _, l := range r.node.loops {
		n += l.counters.httpErrors
	}
	return n
}

// A session id opens only the session it was given for, at the listener where it was, and while that lives.
func TestSessionIDsCannotBeGuessed(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		c := r.sioLogin(kind)
		c.enter("c", "r")
		c.run()
		sid := c.sid
		try := func(tag uint8, sid, what string) {
			t.Helper()
			c.sid = sid
			before := r.httpErrors()
			for _, request := range []string{get(c.target("polling")), post(c.target("polling"), c.payload([]string{"0::"}))} {
				p := r.web(tag).ask(request)
				if known := p.status == 200 && !strings.Contains(p.body, "7:::1+0") && p.body != "1"; known {
					t.Errorf("%s: %v", what, p)
				}
			}
			if n := r.httpErrors() - before; n != 2 {
				t.Errorf("%s: %d of two requests were counted", what, n)
			}
			w := r.web(tag)
			w.send(upgradeTo(c.target("websocket")))
			r.net.Settle()
			if kind.version != 9 && !bytes.HasPrefix(w.sock.Wrote, []byte("HTTP/1.1 400")) || kind.version == 9 && !bytes.HasSuffix(w.sock.Wrote, []byte("7:::1+0")) {
				t.Errorf("%s: an upgrade was answered %q", what, w.sock.Wrote)
			}
			c.sid = sid
		}
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		for i := range len(sid) {
			for bit := range 6 {
				b := []byte(sid)
				b[i] = digits[strings.IndexByte(digits, b[i])^1<<bit]
				try(atConnector, string(b), fmt.Sprintf("bit %d of character %d", bit, i))
			}
		}
		try(atGate, sid, "at another listener")
		try(atConnector, sid+"A", "longer")
		try(atConnector, sid[:19], "shorter")
		c.sid = sid
		if got := c.ask(routeSend, sendBody("x", "nobody")); got != refused {
			t.Errorf("the session itself: %s", got)
		}
		c.send(map[int]string{9: "0::", 3: "1", 4: "1"}[kind.version])
		r.net.Settle()
		c.polling = false
		try(atConnector, sid, "of a session that has ended")
		again := r.sioLogin(kind) // in the same place
		try(atConnector, sid, "of a session whose place another has")
		again.run()
	})
}
