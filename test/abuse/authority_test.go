//go:build linux

package abuse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// unmetered takes the rates away where they are not what is looked at: without them an attacker gets further.
var unmetered = []string{"-session-rate", "0", "-send-rate", "0", "-enter-rate", "0", "-flood", "0"}

// foreignRoutes are what a client may not call: what servers of Pomelo call each other, what JavaScript's objects have by themselves, and
// what is nearly the name of a handler.
func foreignRoutes() []string {
	routes := []string{
		"", ".", "..", "...", "*", "*.*.*", "__remote", "__proto__", "constructor", "sys", "sys.", "admin", "onChat", "onKick", "onLeave",
		"chat.chatRemote.add", "chat.chatRemote.kick", "chat.chatRemote.get", "chat.chatRemote", "chat..chatRemote.kick",
		"connector.sessionRemote.bind", "connector.sessionRemote.push", "connector.sessionRemote.pushAll", "connector.sessionRemote.kickBySid",
		"connector.sessionRemote.kickByUid", "connector.sessionRemote.getBackendSessionByUid", "connector.channelRemote.pushMessage",
		"connector.channelRemote.broadcast", "sys.channelRemote.broadcast", "sys.msgRemote.forwardMessage", "sys.sessionRemote.kickByUid",
		"chat.msgRemote.forwardMessage", "__remote.msgRemote.forwardMessage", "user.chatRemote.kick", "master.console.stop", "monitor.kill.kill",
		"gate.gateHandler.queryEntry", "gate.gateHandler.constructor",
		"chat.chatHandler", "chat.chatHandler.", ".chatHandler.send", "chat..send", "chat.chatHandler.__proto__", "chat.chatHandler.constructor",
		"chat.chatHandler.prototype", "chat.chatHandler.toString", "chat.__proto__.send", "__proto__.chatHandler.send", "chat.chatHandler.app",
		"connector.entryHandler.__proto__", "connector.entryHandler.onUserLeave", "connector.entryHandler.constructor", "connector.entryHandler",
		"chat/chatHandler/send", "chat.chatHandler/send", "../chat.chatHandler.send", "chat.chatHandler.send?x=1", "chat.chatHandler.send#",
		strings.Repeat("a", codec.MaxRouteBytes), strings.Repeat(".", codec.MaxRouteBytes), strings.Repeat("a.", 127),
		"chat.chatHandler." + strings.Repeat("s", codec.MaxRouteBytes-len("chat.chatHandler.")),
	}
	for _, route := range []string{routeEnter, routeSend} {
		middle := strings.IndexByte(route, '.')
		routes = append(routes, route+"\x00", "\x00"+route, route[:middle]+"\x00"+route[middle:], route+" ", " "+route, route+"\n",
			"."+route, route+".",
			route+".call", route+"..", route+".apply.x", strings.ToUpper(route), strings.ReplaceAll(route, ".", ".."),
			strings.ReplaceAll(route, ".", "\u3002"), strings.Replace(route, "e", "\u0435", 1), route[:len(route)-1], route+"s",
			route[:middle], route+"\u200b",
			strings.Replace(route, ".", "%2e", 1), `["`+route+`"]`)
	}
	return routes
}

// Whatever a client calls a route by, nobody carries out anything but the three handlers there are.
func TestForeignRoutes(t *testing.T) {
	routes := foreignRoutes()
	sent := float64(2 * len(wires) * len(routes)) // as requests and notifies
	const codes = 1 << 16                         // that a route may have
	scenario{
		name:  "foreign routes",
		flags: unmetered,
		attack: func(a *arena) error {
			victim, attackers := insiders(a, "routes")
			// What the remote calls of the chat application and of Pomelo take, those of the handlers too.
			body := `{"uid":"victim*routes","username":"victim","rid":"routes","sid":"connector-server-1","name":"routes","flag":true,` +
				`"route":"onChat","msg":{"msg":"by route","from":"victim"},"content":"by route","target":"*","__route__":"chat.chatHandler.send"}`
			for _, g := range attackers {
				var all []saying
				for i, route := range routes {
					all = append(all, saying{uint32(i + 1), route, body}, saying{0, route, body})
				}
				g.id = uint32(len(routes)) + 1
				go func() { _ = g.say(all...) }() // the answers tell whether it failed
				for i, route := range routes {
					w, err := g.next()
					if err != nil {
						return fmt.Errorf("route %q: %w", route, err)
					}
					if w.id != int64(i+1) || w.body != refused {
						return fmt.Errorf("%s: route %q was carried out: %v", g.wire, route, w)
					}
				}
			}
			for _, g := range attackers[:2] {
				if err := unknownCodes(g, a.n(codes), body); err != nil {
					return err
				}
			}
			if err := envelopes(attackers); err != nil {
				return err
			}
			if err := foreignPaths(a); err != nil {
				return err
			}
			return undisturbed(victim, attackers)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", 100) },
		held:   func(d delta) error { return d.atLeast("pomelod_unknown_routes_total", sent+2*2*(codes/10)) },
		without: weakness{
			edits: []edit{{"router/proto_hybrid.go", "at.routes[string(m.Route)]", `at.routes[string(bytes.Trim(m.Route, "\x00."))]`}},
			fails: "was carried out",
		},
	}.run(t)
}

// insiders are a victim and attackers on every wire, all in a room, and have heard of each other.
func insiders(a *arena, room string) (victim *guest, attackers []*guest) {
	victim, err := a.inside(len(wires), "tcp", "victim", room, "")
	for i, wire := range wires {
		if err != nil {
			break
		}
		var g *guest
		g, err = a.inside(i, wire, "attacker-"+wire, room, "")
		attackers = append(attackers, g)
	}
	if err == nil {
		err = victim.say(saying{0, routeSend, `{"content":"all are in","target":"*"}`})
	}
	for _, g := range append(attackers, victim) {
		if err == nil {
			_, err = g.hears("all are in")
		}
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return victim, attackers
}

// undisturbed is an error unless a victim still speaks for itself and its room has heard nothing else.
func undisturbed(victim *guest, attackers []*guest) error {
	if err := victim.say(saying{0, routeSend, `{"content":"the end","target":"*"}`}); err != nil {
		return err
	}
	for _, g := range append(attackers, victim) {
		before, err := g.hears("the end")
		if err != nil {
			return err
		}
		if len(before) > 0 {
			return fmt.Errorf("%s heard %v", g.wire, before[0])
		}
	}
	return nil
}

// unknownCodes sends every code that a route may have to a server without a dictionary, which takes none: not even as a fault.
func unknownCodes(g *guest, codes int, body string) error {
	var b []byte
	for code := range codes {
		for _, head := range [][]byte{{0x01, 1}, {0x03}} { // a request with id 1, a notify
			m := append(append(head, byte(code>>8), byte(code)), body[:code%len(body)]...)
			b = append(b, g.hybrid().framed(codec.AppendPackage(nil, codec.PackageData, m))...)
		}
		if len(b) > 1<<20 {
			if err := g.hybrid().raw(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if err := g.hybrid().raw(b); err != nil {
		return err
	}
	answer, err := g.ask(routeSend, `{"content":"x","target":"nobody"}`)
	if err == nil && answer != refused {
		err = fmt.Errorf("%s: a route's code was carried out: %s", g.wire, answer)
	}
	return err
}

// envelopes says something in packets of socket.io that are for another namespace, of another event, or no events at all. What is
// taken for a message would be heard, and answered.
func envelopes(attackers []*guest) error {
	text := saying{1, routeSend, `{"content":"in an envelope","target":"*"}`}.text()
	for _, g := range attackers {
		var packets []string
		quoted := asciiString(text)
		switch s := g.sio(); {
		case s == nil:
			continue
		case s.version != "0.9":
			packets = []string{`42/admin,["message",` + quoted + `]`, `42["send",` + quoted + `]`, `42["__proto__",` + quoted + `]`,
				`42["constructor",` + quoted + `]`, `42["message",[` + quoted + `]]`, `42["message",{"toString":` + quoted + `}]`,
				`42[["message"],` + quoted + `]`, `431[` + quoted + `]`}
		default:
			packets = []string{"3::/admin:" + text, "1::/admin:" + text, "6:::" + text, "8:::" + text, "9:::" + text,
				`5:::{"name":"send","args":[` + quoted + `]}`, `5:::{"name":"__proto__","args":[` + quoted + `]}`,
				`5::/admin:{"name":"message","args":[` + quoted + `]}`, `5:::{"name":"message","args":[[` + quoted + `]]}`}
		}
		if err := g.sio().send(packets...); err != nil {
			return err
		}
		if answer, err := g.ask(routeSend, `{"content":"x","target":"nobody"}`); err != nil || answer != refused {
			return fmt.Errorf("%s: %s, %v", g.wire, answer, err)
		}
	}
	return nil
}

// foreignPaths asks the public port for what the private one has, and for what a server of Pomelo has inside.
func foreignPaths(a *arena) error {
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap?gc=1", "/readyz", "/livez", "/admin", "/__remote", "/sys",
		"/chat.chatRemote.kick", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/config/adminUser.json",
		"/page/../config", "/gate", "/gate/queryEntry/x", "/index.html\x00.js"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "CONNECT", "TRACE"} {
			p, err := a.dial(0)
			if err != nil {
				a.t.Fatal(err)
			}
			status, text, err := p.request(httpText(method, path, "", "Content-Length: 0"))
			p.Close()
			if err != nil || status < 400 {
				return fmt.Errorf("%s %q was carried out: %d %.100q, %v", method, path, status, text, err)
			}
		}
	}
	return nil
}

// TestIDs plays with the ids of requests: each is answered once, in its order, under its own id as it was written, and what is no
// request is not answered; whatever others ask under the same ids.
func TestIDs(t *testing.T) {
	const most, others = 10_000, 1_000 // requests of one of them, and of each other
	scenario{
		name:  "ids",
		flags: unmetered,
		attack: func(a *arena) error {
			_, players := insiders(a, "ids")
			done := make(chan error)
			for i, g := range players {
				n := a.n(others)
				if i == 0 {
					n = a.n(most)
				}
				go func() { done <- playIDs(g, uint64(i), n) }()
			}
			var failed error
			for range players {
				if err := <-done; err != nil {
					failed = err
				}
			}
			return failed
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", most/10) },
		held:   func(d delta) error { return d.atLeast("pomelod_malformed_total", most/10) },
		without: weakness{
			edits: []edit{{"codec/message.go", "for len(dst)-at < min(int(idBytes), maxIDBytes) {", "for at > len(dst) {"}},
			fails: "as it was written",
		},
	}.run(t)
}

// oddID is an id as a client may write it, and what it has to be answered under.
func oddID(r *rand.Rand) (b []byte) {
	switch r.IntN(8) {
	case 0: // as it should be
		for n := uint32(1 + r.IntN(300)); ; n >>= 7 {
			if n < 0x80 {
				return append(b, byte(n))
			}
			b = append(b, byte(n)|0x80)
		}
	case 1: // the browser builds', highest group first
		n := 1 + r.IntN(1<<20)
		for b = []byte{byte(n & 0x7f)}; n >= 0x80; {
			n >>= 7
			b = append([]byte{byte(n&0x7f) | 0x80}, b...)
		}
		return b
	case 2: // with needless groups
		b = []byte{byte(1+r.IntN(127)) | 0x80}
		for range r.IntN(12) {
			b = append(b, 0x80)
		}
		return append(b, 0)
	case 3:
		return []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-1
	case 4:
		return []byte{0x80, 0x80, 0x80, 0x80, 0x08} // 2^31
	case 5: // beyond 32 and 64 bits
		for range 5 + r.IntN(8) {
			b = append(b, byte(r.IntN(128))|0x80)
		}
		return append(b, byte(r.IntN(128)))
	case 6: // longer than one byte can count
		b = slices.Repeat([]byte{0x80}, 250+r.IntN(20))
		b[0] = 0x85
		return append(b, 1)
	default: // 0, a notify's
		return []byte{0}
	}
}

// idOf is what an id is on the original: groups added up in 32 bits.
func idOf(b []byte) (id uint32) {
	for i, c := range b {
		id += uint32(c&0x7f) << (7 * i % 32)
	}
	return id
}

// playIDs makes requests without waiting for any answer, and looks at what comes. The answer tells what kind of request it is for: a
// whisper to oneself, an unknown route, an enter under no name.
func playIDs(g *guest, seed uint64, n int) error {
	r := rand.New(rand.NewPCG(seed, 0))
	self := "attacker-" + g.wire
	var b []byte
	var all []saying
	var want []word
	for k := range n {
		text := fmt.Sprint(self, k)
		route, body := routeSend, fmt.Sprintf(`{"content":%q,"target":%q}`, text, self)
		answer := "{}"
		switch r.IntN(3) {
		case 0:
			route, answer = "chat.chatHandler.find", refused
		case 1:
			route, body, answer = routeEnter, `{"username":"*","rid":"ids"}`, refusedEnter
		default:
			want = append(want, word{route: text})
		}
		if g.hybrid() == nil { // four bytes, a signed number
			id := []uint32{1, 2, uint32(k), 1<<31 - 1, 1 << 31, 1<<32 - 1, r.Uint32(), 0}[r.IntN(8)]
			all = append(all, saying{id, route, body})
			if id != 0 {
				want = append(want, word{id: int64(int32(id)), body: answer})
			}
			continue
		}
		written := oddID(r)
		m := append(append(append([]byte{0}, written...), byte(len(route))), route+body...)
		b = append(b, g.hybrid().framed(codec.AppendPackage(nil, codec.PackageData, m))...)
		if id := idOf(written); id != 0 {
			want = append(want, word{id: int64(id), bytes: min(len(written), 5), body: answer})
		}
		// An answer that a client claims to have, kinds of message that there are not, and an id without an end.
		m[0] = byte(2+2*r.IntN(2)*r.IntN(3)) << 1
		b = append(b, g.hybrid().framed(codec.AppendPackage(nil, codec.PackageData, m))...)
		b = append(b, g.hybrid().framed(codec.AppendPackage(nil, codec.PackageData, slices.Repeat([]byte{0x80}, 1+r.IntN(20))))...)
	}
	failed := make(chan error, 1)
	polls := slices.Contains(pollingWires, g.wire)
	go func() {
		err := error(nil)
		switch {
		case b != nil:
			err = g.hybrid().raw(b)
		case !polls:
			err = g.say(all...)
		}
		for rest := all; polls && err == nil && len(rest) > 0; {
			part := min(len(rest), 500)
			err = g.say(rest[:part]...)
			rest = rest[part:]
		}
		failed <- err
	}()
	for i, w := range want {
		got, err := g.next()
		if err != nil {
			return fmt.Errorf("seed %d, answer %d of %d: %w", seed, i, len(want), err)
		}
		switch {
		case w.id == 0 && got.chat().Msg != w.route || w.id != got.id || w.id != 0 && w.body != got.body:
			return fmt.Errorf("%s, seed %d: %d of %d should have been %v, but %v came", g.wire, seed, i, len(want), w, got)
		case w.bytes != got.bytes:
			return fmt.Errorf("%s, seed %d: id %d was not answered as it was written, in %d bytes, but in %d",
				g.wire, seed, w.id, w.bytes, got.bytes)
		}
	}
	return <-failed
}
