package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
)

// Members of every kind in one room are told the same, in the same order, and each gets its push before its answer.
func TestFlavoursChat(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		var all []*sioClient
		hybrid := r.login(atConnector, true)
		hybrid.enter("hybrid", "r")
		users := `"hybrid"`
		for i, kind := range flavours {
			c := r.sioLogin(kind)
			name := fmt.Sprint("n", i)
			users += `,"` + name + `"`
			if got := c.enter(name, "r"); got != `{"users":[`+users+`]}` {
				t.Fatalf("%s: %s", kind.name, got)
			}
			r.run(append(all, c)...)
			all = append(all, c)
			for _, other := range all[:i] {
				other.want(fmt.Sprintf(`push 0 onAdd {"route":"onAdd","user":"%s"}`, name))
			}
			hybrid.want(fmt.Sprintf(`push 0 onAdd {"route":"onAdd","user":"%s"}`, name))
		}
		for i, c := range all {
			id := c.request(routeSend, sendBody("héllo 王 "+smile, "*"))
			push := fmt.Sprintf(`push 0 onChat {"msg":"héllo 王 \ud83d\ude00","from":"n%d","target":"*"}`, i)
			r.run(all...)
			for j, other := range all {
				if i == j {
					other.want(push, fmt.Sprintf("answer %d {}", id))
				} else {
					other.want(push)
				}
			}
			hybrid.want(push)
		}
		r.endAll()
		r.balanced()
	})
}

// raw is what the client was told since the last time, as it stands on the wire: frames, or the bodies of answers to GETs.
func (c *sioClient) raw() (parts []string) {
	if c.kind.ws {
		return c.ws.frames()
	}
	for c.polling {
		p := c.get.response(false)
		if p == nil {
			break
		}
		c.polling = false
		parts = append(parts, p.body)
	}
	return parts
}

// What a client is told stands on the wire as protocol.md §4.2, §5.4, §6.3 and §7 have it: the sender's push and answer, what
// others hear, negative ids, and a kick.
func TestSIOBytes(t *testing.T) {
	const chat = `{"route":"onChat","msg":"é王\ud83d\ude00","from":"a","target":"*"}`
	// As text in an event, over WebSocket and in ASCII.
	inEvent := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	inASCII := strings.NewReplacer(`é`, `\u00e9`, `王`, `\u738b`)
	event := func(text string) string { return `42["message","` + inEvent.Replace(text) + `"]` }
	wrapped := event(`{"route":"onChat","body":` + chat + `}`)
	units := func(s string) int { return len([]rune(s)) }
	jsonp := func(callback, s string) string { return callback + `("` + inEvent.Replace(s) + `");` }
	text3 := func(packets ...string) (s string) {
		for _, p := range packets {
			s += fmt.Sprintf("%d:%s", len(p), p)
		}
		return s
	}
	binary3 := func(packets ...string) (s string) {
		for _, p := range packets {
			s += "\x00"
			for _, d := range fmt.Sprint(len(p)) {
				s += string(d - '0')
			}
			s += "\xff" + p
		}
		return s
	}
	for _, kind := range flavours {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c, other := r.sioLogin(kind), r.login(atConnector, false)
			c.enter("a", "r")
			c.run()
			expect := func(what string, flat, events []string) {
				t.Helper()
				r.net.Settle()
				ascii := make([]string, len(events))
				for i := range events {
					ascii[i] = inASCII.Replace(events[i])
				}
				several := ""
				for _, p := range flat {
					several += fmt.Sprintf("\ufffd%d\ufffd%s", units(p), p)
				}
				if len(flat) == 1 {
					several = flat[0]
				}
				want := map[string][]string{
					"0.9 websocket": flat, "0.9 xhr": {several}, "0.9 jsonp": {jsonp("io.j[7]", several)},
					"eio3 websocket": events, "eio3 polling": {text3(ascii...)}, "eio3 polling, binary": {binary3(ascii...)}, "eio3 jsonp": {jsonp("___eio[7]", text3(ascii...))},
					"eio4 websocket": events, "eio4 polling": {strings.Join(ascii, "\x1e")},
				}[kind.name]
				if got := c.raw(); !slices.Equal(got, want) {
					t.Fatalf("%s:\ngot  %q\nwant %q", what, got, want)
				}
				if !kind.ws {
					c.poll()
					r.net.Settle()
				}
				if c.posting {
					c.post.response(false)
					c.posting = false
				}
			}
			c.send(c.message(9, routeSend, sendBody("é王"+smile, "*")))
			expect("the sender", []string{`3:::[` + chat + `,{"id":9,"body":{}}]`}, []string{wrapped, event(`{"id":9,"body":{}}`)})

			c.send(c.message(0, routeSend, sendBody("é王"+smile, "*"))) // a notify is not answered
			expect("a notify", []string{`3:::[` + chat + `]`}, []string{wrapped})

			c.send(c.message(0xFFFFFFFF, "no.such.route", "{}"))
			expect("a negative id", []string{`3:::[{"id":-1,"body":{"code":500}}]`}, []string{event(`{"id":-1,"body":{"code":500}}`)})

			c.send(c.message(0x80000001, routeSend, `{"content":`))
			expect("no JSON", []string{`3:::[{"id":-2147483647,"body":{"code":500}}]`}, []string{event(`{"id":-2147483647,"body":{"code":500}}`)})

			other.enter("b", "r")
			add := `{"route":"onAdd","user":"b"}`
			expect("another one's arrival", []string{`3:::[` + add + `]`}, []string{event(`{"route":"onAdd","body":` + add + `}`)})

			for range 2 {
				other.request(routeSend, sendBody("x", "*"))
			}
			x := `{"route":"onChat","msg":"x","from":"b","target":"*"}`
			one := event(`{"route":"onChat","body":` + x + `}`)
			expect("two at once", []string{`3:::[` + x + `]`, `3:::[` + x + `]`}, []string{one, one})

			r.kick(c, "é")
			kick := `{"route":"onKick","reason":"é"}`
			goodbye := []string{event(kick), "41"}
			flat := []string{`3:::[` + kick + `]`, "0::"}
			if kind.ws && kind.version == 3 {
				goodbye = append(goodbye, "close 1000")
			}
			if kind.ws && kind.version == 4 {
				goodbye = append(goodbye, "close") // with a code or without
				r.net.Settle()
				if got := c.raw(); len(got) != 3 || !slices.Equal(got[:2], goodbye[:2]) || !isClosed(got) {
					t.Errorf("a kick: %q", got)
				}
				return
			}
			expect("a kick", flat, goodbye)
		})
	}
}

// An App's pushes reach socket.io clients with their route in them, whether they brought it along or not.
func TestAppPushesOverSocketIO(t *testing.T) {
	a := app.New()
	r := newRig(t, shape{loops: 3}, func(c *Config) { c.App = a })
	var all []*sioClient
	for i, kind := range flavours {
		c := r.sioLogin(kind)
		c.enter(fmt.Sprint("n", i), "r")
		all = append(all, c)
	}
	r.run(all...)
	for _, c := range all {
		c.take()
	}
	for _, body := range []map[string]any{{"a": "é" + smile}, {"route": "other", "a": 1}, {}} {
		want := `push 0 game {"route":"game"}`
		switch {
		case body["route"] != nil:
			want = `push 0 game {"a":1,"route":"other"}`
		case body["a"] != nil:
			want = `push 0 game {"route":"game","a":"é\ud83d\ude00"}`
		}
		for _, push := range []func() error{
			func() error { return a.Room("r").Push("game", body) },
			func() error { return a.Broadcast("game", body) },
		} {
			if err := push(); err != nil {
				t.Fatal(err)
			}
			r.run(all...)
			for _, c := range all {
				// The flat flavour shows the route that the payload has.
				if w := want; c.kind.version == 9 {
					c.want(strings.Replace(w, "push 0 game {\"a\":1,\"route\":\"other\"}", "push 0 other {\"a\":1,\"route\":\"other\"}", 1))
				} else {
					c.want(w)
				}
			}
		}
		if err := a.Room("r").PushUser("n4", "game", body); err != nil {
			t.Fatal(err)
		}
		r.run(all...)
		for i, c := range all {
			if got := c.take(); len(got) != 0 && i != 4 || i == 4 && (len(got) != 1 || got[0] != want) {
				t.Errorf("%s: got %q", c.kind.name, got)
			}
		}
	}
}

// A room's push is encoded once on each loop for each encoding that is there, and each member's socket is written to once,
// however many pushes there are: also that of the connection whose GET is held.
func TestOneWritePerMemberAndPass(t *testing.T) {
	forLoops(t, nil, func(t *testing.T, r *rig) {
		var all []*sioClient
		sender := r.login(atConnector, false)
		sender.enter("sender", "r")
		for i := range 3 * len(flavours) {
			c := r.sioLogin(flavours[i%len(flavours)])
			c.enter(fmt.Sprint("n", i), "r")
			all = append(all, c)
		}
		r.run(all...)
		writes := func() (n uint64) {
			for _, l := range r.node.loops {
				n += l.np.Stats().Writes
			}
			return n
		}
		for _, k := range []int{1, 5} {
			for _, c := range all {
				c.take()
			}
			before := writes()
			for range k {
				sender.request(routeSend, sendBody("x", "*"))
			}
			r.net.Settle()
			if n := writes() - before; n != uint64(len(all)+1) {
				t.Errorf("%d pushes to %d members cost %d writes", k, len(all)+1, n)
			}
			r.run(all...)
		}
		for _, l := range r.node.loops {
			present := map[*codec.Variant]int{}
			for _, c := range all {
				if at, s := c.where(); at == l {
					present[l.variant(s)]++
				}
			}
			for _, room := range l.rooms.byID {
				for _, vg := range room.groups {
					if n := present[vg.variant]; n != vg.group.Len() && vg.variant.Framing != codec.FramingTCP {
						t.Errorf("a group of %d for an encoding with %d members", vg.group.Len(), n)
					}
					delete(present, vg.variant)
				}
			}
			if len(present) > 0 {
				t.Errorf("encodings without a group: %v", present)
			}
		}
		for _, c := range all { // who ends takes an encoding along that nobody else has
			if c.kind.version == 9 {
				c.send("0::")
			} else {
				c.send("1")
			}
		}
		r.net.Settle()
		groups := 0
		for _, l := range r.node.loops {
			for _, room := range l.rooms.byID {
				groups += len(room.groups)
			}
		}
		if groups != 1 {
			t.Errorf("%d groups are left", groups)
		}
		r.endAll()
		r.balanced()
	})
}

// Broadcasts to everybody are encoded once for each encoding, not for each session.
func TestBroadcastIsEncodedOnce(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for i := range 4 * len(flavours) {
		r.sioLogin(flavours[i%len(flavours)])
	}
	p := &codec.Push{Route: "game", Body: []byte(`{"a":1}`), Shared: new(codec.SharedFrames)}
	l := r.node.loops[0]
	r.node.broadcasts.Add(1)
	l.broadcast(p, 0)
	l.np.Ring()
	r.net.Settle()
	encoded := 0
	for i := range p.Shared {
		if p.Shared[i].Load() != nil {
			encoded++
		}
	}
	if encoded != 4 { // 0.9 and Engine.IO, over WebSocket and polling
		t.Errorf("encoded %d times", encoded)
	}
}

// A broadcast reaches sessions that are about to change loops, or doing so, whichever loop comes first; and once.
func TestBroadcastReachesWhoMoves(t *testing.T) {
	for _, kind := range []flavour{flavours[0], flavours[3], flavours[7]} {
		for order := range 6 {
			a := app.New()
			r := newRig(t, shape{loops: 2, follow: true}, func(c *Config) { c.App = a })
			c := r.sioLogin(kind)
			at, _ := c.where()
			enter := func() {
				c.request(routeEnter, enterBody("c", foreignRoom(r, at.index)))
				c.ws.sock.Ready()
			}
			if order >= 4 { // it is on its way already
				enter()
			}
			if err := a.Broadcast("game", map[string]any{"a": 1}); err != nil {
				t.Fatal(err)
			}
			for range order/2%2 + 1 {
				r.net.TurnLoop((at.index + 1 + order) % 2)
			}
			if order < 4 {
				enter()
			}
			r.net.Settle()
			got := c.take()
			slices.Sort(got)
			if len(got) != 2 || got[1] != `push 0 game {"route":"game","a":1}` {
				t.Errorf("%s, order %d: got %q", kind.name, order, got)
			}
			if n := r.node.broadcasts.Load(); n != 0 {
				t.Errorf("%d broadcasts are left", n)
			}
		}
	}
}
