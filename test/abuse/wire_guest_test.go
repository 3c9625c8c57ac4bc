//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// wires are the ways in which clients come.
var wires = []string{"tcp", "ws", "0.9 polling", "0.9 ws", "eio3 polling", "eio3 ws", "eio4 polling", "eio4 ws"}

// pollingWires are those of them that poll.
var pollingWires = []string{"0.9 polling", "eio3 polling", "eio4 polling"}

// saying is a message of a client: a request, or a notify if id is 0.
type saying struct {
	id          uint32
	route, body string
}

// word is something that a client is told: an answer, or a push; a kick is a push with the route onKick.
type word struct {
	id    int64  // 0: a push
	bytes int    // that the id of an answer took; hybrid only
	route string // of a push
	body  string
}

// chat is what an onChat says.
type chat struct {
	Msg  any
	From string
}

func (w word) chat() (c chat) {
	if w.route == "onChat" {
		_ = json.Unmarshal([]byte(w.body), &c)
	}
	return c
}

func (w word) String() string {
	if w.id != 0 {
		return fmt.Sprintf("answer %d: %.200s", w.id, w.body)
	}
	return fmt.Sprintf("%s: %.200s", w.route, w.body)
}

// talker is a client of one of the wires that does as the protocol says, as long as it is asked to. One goroutine may hear while
// another says something.
type talker interface {
	// open connects and shakes hands: requests may follow.
	open() error
	// say sends messages in as few pieces as the wire knows.
	say(all ...saying) error
	// hear returns what comes next, errQuiet when nothing begins to come within a while. What keeps the session alive is answered;
	// what only the wire needs is no word.
	hear(within time.Duration) (word, error)
	// beat sends what such a client sends to stay alive.
	beat() error
	// upgrade changes from polling to a WebSocket, where the wire can.
	upgrade() error
	// bye says that the session is over, where the wire has words for that.
	bye() error
	// conns are the connections that it has.
	conns() []*peer
	// Close closes them, and ends a session that would outlive them.
	Close() error
}

var (
	errQuiet  = errors.New("nothing comes")
	errKicked = errors.New("kicked")
	// errWrong is what the server must not do; other errors are the end of a connection.
	errWrong = errors.New("wrong")
)

// guest is a client that keeps to the rules, on any wire.
type guest struct {
	talker
	wire   string
	id     uint32
	pushes []word    // that came while it waited for answers
	babble bool      // it says what is no message, too: whatever that is answered
	told   chan word // what it is told, once listen was called
	err    error     // why told was closed
}

// newGuest is a guest who has yet to open.
func newGuest(from, to, wire string) *guest {
	version, transport, _ := strings.Cut(wire, " ")
	if transport == "" {
		return &guest{talker: &hybrid{from: from, to: to, ws: wire == "ws"}, wire: wire}
	}
	return &guest{talker: &sio{from: from, to: to, version: version, ws: transport == "ws"}, wire: wire}
}

// guest connects from the i-th attacker's address, up to where requests are taken.
func (a *arena) guest(i int, wire string) (*guest, error) {
	g := newGuest(fmt.Sprint(attackers, i+1), a.addr, wire)
	a.keep(g)
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", wire, err)
	}
	return g, nil
}

// listener is a guest that takes down all it is told, in order, whatever it does. It speaks ASCII.
func (a *arena) listener(i int, wire string) (*guest, error) {
	g, err := a.guest(i, wire)
	if err != nil {
		return nil, err
	}
	if s := g.sio(); s != nil {
		s.ascii = true
	}
	for _, p := range g.conns() {
		p.late = time.Minute
	}
	g.told = make(chan word, 1<<16)
	go func() {
		defer close(g.told)
		for {
			w, err := g.hear(time.Minute) // next says how much silence is too much
			if err != nil {
				g.err = err
				return
			}
			if w != (word{}) {
				g.told <- w
			}
		}
	}()
	return g, nil
}

// inside is listener and entering a room; more are members of the body, beginning with a comma.
func (a *arena) inside(i int, wire, user, room, more string) (*guest, error) {
	g, err := a.listener(i, wire)
	if err != nil {
		return nil, err
	}
	return g, g.mustEnter(wire, user, room, more)
}

// mustEnter is enter where a refusal is an error; who says in it which guest it was.
func (g *guest) mustEnter(who, user, room, more string) error {
	users, err := g.enter(user, room, more)
	if err == nil && users == nil {
		err = errors.New("refused")
	}
	if err != nil {
		return fmt.Errorf("%s enters as %s: %w", who, user, err)
	}
	return nil
}

// sio is the guest's socket.io, nil of one that has none.
func (g *guest) sio() *sio { s, _ := g.talker.(*sio); return s }

// hybrid is the connection of a guest that speaks the hybrid protocol, nil of another.
func (g *guest) hybrid() *peer {
	if h, ok := g.talker.(*hybrid); ok {
		return h.peer
	}
	return nil
}

// next is the next thing that the guest is told.
func (g *guest) next() (word, error) {
	const within = patience / 4
	if g.told != nil {
		select {
		case w, ok := <-g.told:
			if !ok {
				return word{}, fmt.Errorf("%s: %w", g.wire, g.err)
			}
			return w, nil
		case <-time.After(within):
			return word{}, fmt.Errorf("%s: %w: was told nothing for %v", g.wire, errWrong, within)
		}
	}
	for {
		w, err := g.hear(patience)
		if errors.Is(err, errQuiet) {
			err = fmt.Errorf("%w: was told nothing for %v", errWrong, patience)
		}
		if err != nil {
			return word{}, fmt.Errorf("%s: %w", g.wire, err)
		}
		if w != (word{}) {
			return w, nil
		}
	}
}

// ask sends a request and returns its answer. A kick is an error, and so is the answer to anything else.
func (g *guest) ask(route, body string) (string, error) {
	g.id++
	if err := g.say(saying{g.id, route, body}); err != nil {
		return "", err
	}
	for {
		w, err := g.next()
		switch {
		case err != nil:
			return "", fmt.Errorf("%.30s: %w", route, err)
		case w.id == int64(g.id):
			return w.body, nil
		case w.id != 0 && g.babble:
			continue
		case w.id != 0:
			return "", fmt.Errorf("%s: %w: asked %d and was told %v", g.wire, errWrong, g.id, w)
		case w.route == "onKick":
			return "", fmt.Errorf("%s: %w: %s", g.wire, errKicked, w.body)
		}
		g.pushes = append(g.pushes, w)
	}
}

// push is the next push, beginning with those that came before answers.
func (g *guest) push() (word, error) {
	if len(g.pushes) > 0 {
		w := g.pushes[0]
		g.pushes = g.pushes[1:]
		return w, nil
	}
	for {
		if w, err := g.next(); err != nil || w.id == 0 {
			return w, err
		}
	}
}

// hears reads up to the onChat that says so, and returns what was told before.
func (g *guest) hears(msg string) (before []word, err error) {
	if before, err = g.upTo(func(w word) bool { return w.chat().Msg == msg }); err != nil {
		err = fmt.Errorf("waiting for %q: %w", msg, err)
	}
	return before, err
}

// upTo reads up to a word, and returns what was told before.
func (g *guest) upTo(is func(word) bool) (before []word, err error) {
	for {
		w, err := g.next()
		if err != nil || is(w) {
			return before, err
		}
		before = append(before, w)
	}
}

const (
	refused      = `{"code":500}`
	refusedEnter = `{"code":500,"error":true}`
)

// enter enters a room and returns who is in there, nil when the guest is refused. more is as inside has it.
func (g *guest) enter(user, room, more string) (users []string, err error) {
	return g.enterAs(fmt.Sprintf("%q", user), fmt.Sprintf("%q", room), more)
}

// enterAs is enter by names as JSON has them.
func (g *guest) enterAs(user, room, more string) (users []string, err error) {
	answer, err := g.ask(routeEnter, `{"username":`+user+`,"rid":`+room+more+`}`)
	if err != nil || answer == refusedEnter {
		return nil, err
	}
	if users = usersOf(answer); users == nil {
		err = fmt.Errorf("%w: enter was answered %.200s", errWrong, answer)
	}
	return users, err
}

// join is enter for who is allowed to.
func (g *guest) join(user, room string) error {
	users, err := g.enter(user, room, "")
	if err == nil && users == nil {
		err = errors.New("enter was refused")
	}
	return err
}

// hybrid speaks Pomelo's own protocol, by TCP or WebSocket.
type hybrid struct {
	from, to string
	client   string // the address that a PROXY header says; "": there is none
	ws       bool
	*peer
}

func (h *hybrid) open() (err error) {
	if h.peer, err = dial(h.from, h.to); err != nil {
		return err
	}
	if h.client != "" {
		if err = h.raw(proxyHeader(h.client, 1)); err != nil {
			return err
		}
	}
	return h.loginBy(h.ws)
}

func (h *hybrid) say(all ...saying) error {
	var b []byte
	for _, s := range all {
		b = append(b, h.framed(message(s.id, s.route, s.body))...)
	}
	return h.raw(b)
}

func (h *hybrid) hear(within time.Duration) (w word, err error) {
	if err := h.begins(within); err != nil {
		return w, err
	}
	got, err := h.pkg()
	if err != nil {
		return w, err
	}
	switch got.Type {
	case codec.PackageHeartbeat: // not answered, as the server answers those of clients at once: it would go on for ever
		return w, nil
	case codec.PackageKick:
		return word{route: "onKick", body: string(got.Body)}, nil
	case codec.PackageData:
		m, err := codec.ParseMessage(got.Body)
		if m.Type == codec.MessageResponse {
			return word{id: int64(m.ID), bytes: int(m.IDBytes), body: string(m.Body)}, err
		}
		return word{route: string(m.Route), body: string(m.Body)}, err
	}
	return w, fmt.Errorf("%w: a package of type %d: %.100q", errWrong, got.Type, got.Body)
}

func (h *hybrid) beat() error { return h.send(heartbeat) }

func (h *hybrid) upgrade() error { return nil }

func (h *hybrid) bye() error {
	if !h.ws {
		return nil
	}
	return h.raw(wsFrame(0x88, []byte{3, 0xe8})) // code 1000
}

func (h *hybrid) conns() []*peer {
	if h.peer == nil {
		return nil
	}
	return []*peer{h.peer}
}

func (h *hybrid) Close() error {
	for _, p := range h.conns() {
		p.Close()
	}
	return nil
}
