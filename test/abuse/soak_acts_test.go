//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// actor does one thing after another, as its dice fall. Everything here runs on its goroutine.
type actor struct {
	*soak
	index int
	rng   *rand.Rand
	acts  int
}

// An act of those who behave (visit, replaced, cut off and back) returns an error when the server did not treat it well. The others do what no
// client should, and do not care what becomes of them: the witnesses, the counters and the pauses tell.
var soakActs = []struct {
	name   string
	weight int
	act    func(*actor) error
}{
	{"visit", 50, (*actor).visit},
	{"replaced", 8, (*actor).replaced},
	{"cut off and back", 8, (*actor).returning},
	{"mutated stream", 20, (*actor).mutated},
	{"held and aborted", 12, (*actor).held},
	{"half a login", 8, (*actor).halfLogin},
	{"frozen reader", 4, (*actor).frozen},
	{"flood", 4, (*actor).flooding},
	{"renames", 4, (*actor).renaming},
	{"fragments", 4, (*actor).fragments},
	{"HTTP flood", 2, (*actor).pipelining},
	{"crowd", 1, (*actor).crowd},
}

// act does something.
func (a *actor) act() {
	total := 0
	for _, k := range soakActs {
		total += k.weight
	}
	roll := a.rng.IntN(total)
	for _, k := range soakActs {
		if roll -= k.weight; roll < 0 {
			a.acts++
			a.did(k.name)
			starved := a.starved.Load()
			if err := k.act(a); err != nil && starved%2 == 0 && starved == a.starved.Load() {
				a.problem("%s: %v", k.name, err)
			} else if err != nil {
				a.did("excused: the server had no descriptors")
			}
			return
		}
	}
}

// from is an address: each actor has two hundred.
func (a *actor) from() string { return fmt.Sprintf("127.0.%d.%d", 70+a.index, 1+a.rng.IntN(200)) }

// otherAddress is one from which nobody comes who behaves: a flood of polling sessions leaves no connection for others of its address.
func (a *actor) otherAddress() string {
	return fmt.Sprintf("127.0.%d.%d", 70+a.index, 201+a.rng.IntN(50))
}

// guest is one of any wire.
func (a *actor) guest() *guest {
	wire := wires[a.rng.IntN(len(wires))]
	a.did("by " + wire)
	return newGuest(a.from(), a.addr, wire)
}

// room is one of a few, in which visitors meet.
func (a *actor) room() string { return fmt.Sprint("soak", a.rng.IntN(6)) }

// name is a user's nobody else has, and content that nobody else says.
func (a *actor) name() string {
	a.acts++
	return fmt.Sprintf("guest%dx%d", a.index, a.acts)
}

// upTo is a random time.
func (a *actor) upTo(most time.Duration) time.Duration {
	return time.Duration(a.rng.Int64N(int64(most)))
}

// stay reads for a while: without it a member is ended who only waits.
func stay(g *guest, long time.Duration) error {
	for end := time.Now().Add(long); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		w, err := g.hear(left)
		switch {
		case errors.Is(err, errQuiet):
			return nil
		case err != nil:
			return err
		case w.route == "onKick":
			return fmt.Errorf("%w: %s", errKicked, w.body)
		}
	}
}

// end ends a guest: with words or without, by FIN, by RST, half, or by silence.
func (a *actor) end(g *guest) {
	if len(g.conns()) == 0 { // it could not connect
		return
	}
	if a.rng.IntN(3) == 0 { // with a request whose answer nobody will read
		_ = g.say(saying{99, routeSend, `{"content":"last words","target":"*"}`})
	}
	how := []string{"words", "FIN", "RST", "half", "silence"}[a.rng.IntN(5)]
	a.did("left by " + how)
	switch how {
	case "words":
		_ = g.bye()
	case "half":
		for _, p := range g.conns() {
			_ = p.half()
			_ = p.SetReadDeadline(time.Now().Add(a.upTo(300 * time.Millisecond)))
			_, _ = p.r.WriteTo(discard{})
		}
	case "silence":
		a.forget(g.conns()...)
		return
	}
	for _, p := range g.conns() {
		if how == "RST" {
			p.reset()
		}
		p.Close()
	}
}

// visit enters, talks, goes from room to room, and leaves. A visitor keeps to the rules, so nothing may go wrong.
func (a *actor) visit() error {
	g := a.guest()
	defer a.end(g)
	if err := g.open(); err != nil {
		return fmt.Errorf("open %s: %w", g.wire, err)
	}
	name, room, users := a.name(), "", []string(nil)
	for range 2 + a.rng.IntN(12) {
		what := a.rng.IntN(20)
		if room == "" && what < 14 {
			what = 10
		}
		var answer string
		var err error
		switch {
		case what < 6:
			content := a.name()
			body := fmt.Sprintf(`{"content":%q,"target":"*"}`, content+strings.Repeat(".", a.rng.IntN(3000)))
			g.pushes = nil
			answer, err = g.ask(routeSend, body)
			if err == nil && (answer != "{}" || !has(g.pushes, content+".", content+`"`, content+`\"`)) {
				err = fmt.Errorf("said %s, heard %.300q, answered %.100s", content, g.pushes, answer)
			}
			a.did("said")
		case what < 9:
			to, _ := json.Marshal(users[a.rng.IntN(len(users))])
			answer, err = g.ask(routeSend, fmt.Sprintf(`{"content":"psst","target":%s}`, to))
			if err == nil && answer != "{}" && answer != refused { // refused to who has left
				err = fmt.Errorf("a whisper was answered %.100s", answer)
			}
			a.did("whispered")
		case what < 12:
			next := a.room()
			if next == room {
				name = a.name()
			}
			answer, err = g.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, name, next))
			if users = usersOf(answer); err == nil && !slices.Contains(users, name) {
				err = fmt.Errorf("%s entered %s: %.200s", name, next, answer)
			}
			room = next
			a.did("entered")
		case what < 13:
			err = g.say(saying{0, routeSend, `{"content":"a notify","target":"*"}`})
			a.did("notified")
		case what < 15:
			if answer, err = g.ask("no.such.route", `{}`); err == nil && !strings.Contains(answer, "500") {
				err = fmt.Errorf("no.such.route was answered %.100s", answer)
			}
		case what < 16:
			err = g.beat()
		case what < 17:
			err = g.upgrade()
		default:
			err = stay(g, a.upTo(100*time.Millisecond))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", stateOf(g), err)
		}
	}
	return nil
}

// replaced enters twice with one secret: the second takes the place of the first.
func (a *actor) replaced() error {
	older, newer := a.guest(), a.guest()
	defer a.end(older)
	defer a.end(newer)
	name := a.name()
	body := fmt.Sprintf(`{"username":%q,"rid":%q,"secret":"0123456789abcdef%s"}`, name, a.room(), name)
	for _, g := range []*guest{older, newer} {
		if err := g.open(); err != nil {
			return fmt.Errorf("open %s: %w", g.wire, err)
		}
		if answer, err := g.ask(routeEnter, body); err != nil || !slices.Contains(usersOf(answer), name) {
			return fmt.Errorf("enter %s: %.100s, %w", stateOf(g), answer, err)
		}
	}
	if err := stay(older, patience); !errors.Is(err, errKicked) {
		return fmt.Errorf("instead of a kick %s got: %w", stateOf(older), err)
	}
	return nil
}

// returning is cut off, and returns with its secret by a wire of any kind: others are told neither of its going nor of its coming, if it is back
// before its place is another's.
func (a *actor) returning() error {
	friend, older, newer := a.guest(), a.guest(), a.guest()
	defer a.end(friend)
	defer a.end(newer)
	name, room := a.name(), a.name()
	body := fmt.Sprintf(`{"username":%q,"rid":%q,"secret":"0123456789abcdef%s"}`, name, room, name)
	if err := friend.open(); err != nil {
		return fmt.Errorf("open %s: %w", friend.wire, err)
	}
	if err := friend.join("friend", room); err != nil {
		return fmt.Errorf("join %s: %w", stateOf(friend), err)
	}
	cut := time.Now()
	for _, g := range []*guest{older, newer} {
		if err := g.open(); err != nil {
			return fmt.Errorf("open %s: %w", g.wire, err)
		}
		if answer, err := g.ask(routeEnter, body); err != nil || !slices.Contains(usersOf(answer), name) {
			return fmt.Errorf("enter %s: %.100s, %w", stateOf(g), answer, err)
		}
		if g == older {
			cut = time.Now()
			for _, p := range g.conns() {
				p.reset()
			}
		}
	}
	inTime := time.Since(cut) < soakGrace/2
	if answer, err := newer.ask(routeSend, `{"content":"back","target":"*"}`); err != nil || answer != "{}" {
		return fmt.Errorf("who is back: %s: %.100s, %w", stateOf(newer), answer, err)
	}
	told, err := friend.hears("back")
	switch {
	case err != nil:
		return fmt.Errorf("the friend of who is back: %s: %w", stateOf(friend), err)
	case !inTime:
		a.did("back too late to be judged")
	case len(told) != 1 || told[0].route != "onAdd":
		return fmt.Errorf("the friend of who is back was told %v", told)
	}
	return nil
}

// renaming changes its name by notify, more often at once than it may.
func (a *actor) renaming() error {
	g := a.guest()
	defer a.end(g)
	if g.open() != nil {
		return nil
	}
	room := a.room()
	_, _ = g.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, a.name(), room))
	for range 40 {
		if g.say(saying{0, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, a.name(), room)}) != nil {
			return nil
		}
	}
	_ = stay(g, a.upTo(200*time.Millisecond))
	return nil
}

// frozen is a member of a busy room who does not read, or not for a while.
func (a *actor) frozen() error {
	g := a.guest()
	defer a.end(g)
	if g.open() != nil {
		return nil
	}
	for _, p := range g.conns() {
		p.narrow()
	}
	room := "frozen " + a.name()
	if _, err := g.ask(routeEnter, fmt.Sprintf(`{"username":"frozen","rid":%q}`, room)); err != nil {
		return nil
	}
	if s := g.sio(); s != nil && a.rng.IntN(2) == 0 && s.socket == nil {
		_ = s.fetch() // and the answer is not read
	}
	talker, err := chatter(a.from(), a.addr, "talker", room)
	if err != nil {
		return fmt.Errorf("talker: %w", err)
	}
	defer talker.Close()
	for range 10 + a.rng.IntN(20) {
		body := fmt.Sprintf(`{"content":"%s","target":"*"}`, strings.Repeat("much ", a.rng.IntN(12000)))
		if answer, err := talker.ask(routeSend, body); err != nil || answer != "{}" {
			return fmt.Errorf("a talker beside a frozen member: %s, %w", answer, err)
		}
	}
	if a.rng.IntN(2) == 0 { // it thaws
		for {
			if _, err := g.hear(50 * time.Millisecond); err != nil {
				break
			}
		}
	}
	return nil
}

// flooding sends more than a session may.
func (a *actor) flooding() error {
	g := a.guest()
	defer a.end(g)
	if g.open() != nil {
		return nil
	}
	_, _ = g.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, a.name(), a.room()))
	what := []struct{ route, body string }{
		{routeSend, `{"content":"flood","target":"*"}`},
		{routeEnter, `{"username":"flood","rid":"flood"}`},
		{"no.such.route", `{}`},
		{"", "\x00\xff"},
	}[a.rng.IntN(4)]
	for range 1 + a.rng.IntN(5) {
		if g.say(slices.Repeat([]saying{{0, what.route, what.body}}, 400)...) != nil {
			break
		}
	}
	if a.rng.IntN(2) == 0 {
		_ = stay(g, a.upTo(300*time.Millisecond))
	}
	return nil
}

// crowd connects more often from one address than it may.
func (a *actor) crowd() error {
	if !a.crowding.TryLock() {
		return nil
	}
	defer a.crowding.Unlock()
	var all []*peer
	for range crowdLimit + 20 {
		if p, err := dial(crowdFrom, a.addr); err == nil {
			all = append(all, p)
		}
	}
	for _, p := range all {
		if a.rng.IntN(2) == 0 {
			p.reset()
		}
		p.Close()
	}
	return nil
}

// stateOf describes a guest in a problem.
func stateOf(g *guest) string {
	s := g.sio()
	if s == nil {
		return g.wire
	}
	var err error
	if s.fetching && s.socket == nil { // what the server says by the GET may tell why
		if err = s.get.begins(time.Second); err == nil {
			err = s.fetched()
		}
	}
	return fmt.Sprintf("%s upgraded=%v fetching=%v %v, had yet to hear %.200q", g.wire, s.socket != nil, s.fetching, err, s.packets)
}

// has tells whether one of the pushes has one of the parts.
func has(pushes []word, parts ...string) bool {
	return slices.ContainsFunc(pushes, func(w word) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(w.body, part) })
	})
}
