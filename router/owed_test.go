package router

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// echo lets seconds pass in which a client sends ask each time it is told answer, at once and without end. It returns how often that
// happened in each second.
func (r *rig) echo(seconds int, told func() int, ask func()) (perSecond []int) {
	r.t.Helper()
	for range seconds {
		n := 0
		for r.net.Settle(); ; r.net.Settle() {
			k := told()
			if n += k; k == 0 {
				break
			}
			if n > 1000 {
				r.t.Fatal("it never ends")
			}
			for range k {
				ask()
			}
		}
		perSecond = append(perSecond, n)
		r.net.Seconds(1)
	}
	return perSecond
}

// wantPace fails unless all seconds but the first had this many.
func wantPace(t *testing.T, got []int, want int) {
	t.Helper()
	for i, n := range got {
		if i > 0 && n != want {
			t.Fatalf("%d in second %d, want %d: %v", n, i, want, got)
		}
	}
}

// whole counts how often what the server wrote since the last time is text, and fails when it is anything else.
func (c *client) whole(text string) int {
	c.r.t.Helper()
	got := c.rest()
	n := len(got) / len(text)
	if got != strings.Repeat(text, n) {
		c.r.t.Fatalf("told %q", got)
	}
	return n
}

// A client that answers each heartbeat with a heartbeat, at once, lives for ever (protocol.md §2.7): it gets ten a second, what it
// says else is carried out, and nothing is refused or counted. So whatever limits there are.
func TestEchoedHeartbeats(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"public": publicLimits, "none": nil, "tight": func(cfg *Config) { cfg.Limits.SessionRate, cfg.Limits.Flood = limit.Rate{PerSecond: 1, Burst: 1}, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			forWires(t, func(t *testing.T, ws bool) {
				r := newRig(t, shape{loops: 1}, change)
				c := r.connect(atConnector, ws)
				c.send(codec.PackageHandshake, []byte(testHandshake))
				c.wantOpen(c.packed(codec.PackageHandshake, `{"code":200,"sys":{"heartbeat":3}}`))
				c.send(codec.PackageHandshakeAck, nil)
				for range 30 {
					wantPace(t, r.echo(10, func() int { return c.whole(c.heartbeat()) }, func() { c.send(codec.PackageHeartbeat, nil) }), beatsPerSecond)
					c.sock.Send(c.message(1, "no.such.route", "{}"))
					if got := c.rest(); !strings.Contains(got, c.answered(1, refused)) || c.ended() {
						t.Fatalf("%q, ended: %v", got, c.ended())
					}
					c.send(codec.PackageHeartbeat, nil) // the answer that was read with the other
				}
				for why := range limitReasons {
					if n := r.limitedFor(why); n != 0 {
						t.Errorf("%d refused: %s", n, limitNames[why])
					}
				}
			})
		})
	}
}

// A heartbeat is a sign of life although it is never answered in its second, and its answer comes although messages take all that
// the session may say.
func TestHeartbeatsBetweenMessages(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.SessionRate = limit.Rate{PerSecond: 1, Burst: 1} })
		c := r.login(atConnector, ws)
		c.rest()
		for range 20 {
			c.notify("no.such.route", "{}")
			c.send(codec.PackageHeartbeat, nil)
			c.wantOpen(c.heartbeat())
			r.net.Seconds(1)
		}
		for range beatsPerSecond + 5 { // one is owed, and covers the five after it
			c.send(codec.PackageHeartbeat, nil)
		}
		c.wantOpen(strings.Repeat(c.heartbeat(), beatsPerSecond))
		c.request(routeEnter, enterBody("a", "r")) // puts the deadline off; what is owed is not
		c.rest()
		r.net.Seconds(1)
		c.wantOpen(c.heartbeat())
		r.net.Seconds(1)
		c.wantOpen("")
	})
}

// Pings of WebSocket's own are the same kind: one beyond ten a second gets its pong when the next second begins, and of several the
// last one does.
func TestOwedPongs(t *testing.T) {
	r := newRig(t, shape{loops: 2, follow: true}, publicLimits)
	c := r.login(atConnector, true)
	c.rest()
	pong := func(payload string) string { return string(codec.AppendWSFrame(nil, codec.WSPong, []byte(payload))) }
	ping := func(payload string) { c.sock.Send(maskedFrame(byte(codec.WSPing), []byte(payload))) }
	ping("0")
	asked := 0
	wantPace(t, r.echo(300, func() int {
		got := c.rest()
		want := ""
		if strings.Contains(got, "\x8a") {
			want = pong(fmt.Sprint(asked))
		}
		if strings.ReplaceAll(got, c.heartbeat(), "") != want {
			t.Fatalf("told %q, want %q", got, want)
		}
		return strings.Count(got, "\x8a")
	}, func() {
		c.send(codec.PackageHeartbeat, nil) // the two share their ten a second
		asked++
		ping(fmt.Sprint(asked))
	}), beatsPerSecond/2)
	if n := r.limitedFor(limitPackages); c.ended() || n > 0 {
		t.Errorf("ended: %v, refused: %d", c.ended(), n)
	}
}

// What is owed to one that moves to another loop is given first.
func TestOwedBeforeAMove(t *testing.T) {
	r := newRig(t, shape{loops: 3, follow: true}, publicLimits)
	for i := range 6 {
		c := r.login(atConnector, true)
		c.rest()
		want := ""
		for n := range beatsPerSecond + 2 {
			payload := []byte{byte(n)}
			c.sock.Send(maskedFrame(byte(codec.WSPing), payload))
			if n != beatsPerSecond {
				want += string(codec.AppendWSFrame(nil, codec.WSPong, payload))
			}
		}
		c.request(routeEnter, enterBody(fmt.Sprint("a", i), fmt.Sprint("r", i)))
		got := c.rest()
		r.net.Seconds(1)
		got += c.rest()
		entered := c.answered(1, fmt.Sprintf(`{"users":["a%d"]}`, i))
		if strings.Replace(got, entered, "", 1) != want || !strings.Contains(got, entered) {
			t.Errorf("got  %q\nwant %q and %q", got, want, entered)
		}
	}
	if r.node.loops[0].counters.moves+r.node.loops[1].counters.moves+r.node.loops[2].counters.moves == 0 {
		t.Error("nobody moved")
	}
}

// Engine.IO 3's client asks, as hybrid ones do.
func TestOwedPongsOfEngineIO(t *testing.T) {
	for _, kind := range flavours {
		if kind.version != 3 {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, publicLimits)
			c := r.sioLogin(kind)
			c.run()
			c.packets = nil
			c.send("2")
			pace := r.echo(120, func() int {
				c.run()
				n := 0
				for _, p := range c.packets {
					if p != "3" {
						t.Fatalf("told %q", p)
					}
					n++
				}
				c.packets = nil
				return n
			}, func() { c.send("2") })
			wantPace(t, pace, beatsPerSecond)
			if c.session() == nil || r.limitedFor(limitPackages) > 0 {
				t.Errorf("ended: %v, refused: %d", c.session() == nil, r.limitedFor(limitPackages))
			}
		})
	}
}

// Where we ask, an answer beyond the rate is a sign of life as well.
func TestAnswersBeyondTheRate(t *testing.T) {
	for _, kind := range []flavour{flavours[0], flavours[7], flavours[8]} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.SessionRate = limit.Rate{PerSecond: 0.001, Burst: 1} })
			c := r.sioLogin(kind)
			ping, pong := "2::", "2::"
			if kind.version == 4 {
				ping, pong = "2", "3"
			}
			for range 10 {
				r.after(25, "the next ping", c.told(ping))
				c.send(pong)
				c.run()
			}
			if r.limitedFor(limitPackages) == 0 {
				t.Error("nothing was beyond the rate")
			}
		})
	}
}

// A connect is answered beyond the rate, and so is a 0.9 client that wants to know whether its packet came: they wait.
func TestConnectBeyondTheRate(t *testing.T) {
	tight := func(cfg *Config) { cfg.Limits.SessionRate = limit.Rate{PerSecond: 0.001, Burst: 1} }
	for _, kind := range []flavour{flavours[3], flavours[7]} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, tight)
			c := r.sioLogin(kind)
			for range 3 {
				c.send("40/x,")
				r.after(0, "the refusal of a namespace", func() bool {
					c.run()
					said := strings.Join(c.packets, " ")
					return strings.Contains(said, "44/x") && len(c.packets) > 0
				})
				c.packets = nil
			}
			if kind.version == 4 {
				c.send("41")
				c.run()
				c.packets = nil
				c.send("40")
				c.run()
				if len(c.packets) != 1 || !strings.HasPrefix(c.packets[0], "40{") {
					t.Errorf("connected again: %q", c.packets)
				}
			}
		})
	}
	t.Run("0.9 websocket", func(t *testing.T) {
		r := newRig(t, shape{loops: 1}, tight)
		c := r.sioLogin(flavours[0])
		for i := range 4 {
			c.send(fmt.Sprintf("3:%d::%s", i+1, "no message of Pomelo's"))
			c.run()
			if want := fmt.Sprintf("6:::%d", i+1); len(c.packets) != 1 || c.packets[0] != want {
				t.Fatalf("told %q, want %s", c.packets, want)
			}
			c.packets = nil
		}
	})
}

// One package a WebSocket frame, also where many are written at once: a Java client family reads only the first of a frame
// (protocol.md §2.2).
func TestOnePackageAFrame(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	all := r.members(8, "r")
	for _, c := range all {
		c.rest()
	}
	for i := range 50 {
		for _, c := range all {
			c.request(routeSend, sendBody(strings.Repeat("x", i*20), "*"))
			c.send(codec.PackageHeartbeat, nil)
		}
	}
	slow := all[0]
	slow.sock.Room = 1000 // the rest comes from its queue
	r.net.Settle()
	slow.sock.Room = -1
	r.net.Seconds(1)
	for i, c := range all {
		if !c.ws {
			continue
		}
		b, frames, pushes := c.sock.Wrote[c.read:], 0, 0
		for ; len(b) > 0; frames++ {
			n, head := int(b[1]), 2
			if n == 126 {
				n, head = int(b[2])<<8|int(b[3]), 4
			}
			frame := b[head : head+n]
			p, used, err := codec.ParsePackage(frame, codec.MaxPackageBody)
			if b[0] != 0x82 || err != nil || used != n {
				t.Fatalf("member %d, frame %d (%#x): %d of %d bytes are a package: %v", i, frames, b[0], used, n, err)
			}
			if bytes.Contains(p.Body, []byte("onChat")) {
				pushes++
			}
			b = b[head+n:]
		}
		if want := 50 * len(all); pushes != want {
			t.Errorf("member %d: %d pushes, want %d", i, pushes, want)
		}
		if frames < 2*c.sock.Writes {
			t.Errorf("member %d: %d frames in %d writes: nothing was merged", i, frames, c.sock.Writes)
		}
	}
}
