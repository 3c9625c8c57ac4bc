package router

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// carrying is an App that tells what it was told, and carries a session's number, unless that is odd.
func carrying(told *[]string) *app.App {
	tell := func(format string, args ...any) { *told = append(*told, fmt.Sprintf(format, args...)) }
	a, next := app.New(), 0
	a.OnOpen(func(s *app.Session) { s.Set("number", next); tell("open %d", next); next++ })
	a.OnClose(func(s *app.Session) { tell("close %v", s.Get("number")) })
	a.OnEnter(func(s *app.Session) { tell("enter %v %v", s.Get("number"), s.Place()) })
	a.OnLeave(func(s *app.Session, left app.Place, why app.Why) { tell("leave %v %v %v", s.Get("number"), left, why) })
	a.HandleInline("game.number.tell", func(c *app.Call) (any, error) {
		return map[string]any{"number": c.Session.Get("number"), "uid": c.Session.UID(), "place": fmt.Sprint(c.Session.Place())}, nil
	})
	a.Carry(func(s *app.Session) ([]byte, error) {
		n := s.Get("number").(int)
		switch n {
		case 13:
			panic("as the test wants it")
		case 15:
			return nil, errors.New("no")
		case 17:
			return make([]byte, 2<<20), nil
		}
		return []byte{byte(n)}, nil
	}, func(s *app.Session, b []byte) error {
		if b[0] == 19 {
			return errors.New("not known here")
		}
		s.Set("number", int(b[0]))
		tell("unpack %d %v %s", b[0], s.Place(), s.UID())
		return nil
	})
	return a
}

// A session that an App carries goes along as often as nodes take over: the program knows it again, with its room, name and uid, and is told of its end once, by
// the node that has it then. It goes to no other loop of its node.
func TestCarriedSessions(t *testing.T) {
	var told []string
	r := newRig(t, shape{loops: 2, follow: true}, func(c *Config) { c.App = carrying(&told) })
	c := r.login(atConnector, true)
	c.enter("a", "r")
	other := r.login(atConnector, false)
	for range 3 {
		told = nil
		r.cfg.App = carrying(&told) // an App is one node's
		r.handOver(false)
		slices.Sort(told)
		if want := "unpack 0 {r a} |unpack 1 { } "; strings.Join(told, "|") != want {
			t.Fatalf("told %q, want %s", told, want)
		}
		if got := c.ask("game.number.tell", "{}"); got != `{"number":0,"place":"{r a}","uid":""}` {
			t.Fatal(got)
		}
	}
	told = nil
	other.enter("b", "r")
	c.sock.End()
	r.net.Settle()
	if want := "enter 1 {r b}|leave 0 {r a} cut|close 0"; strings.Join(told, "|") != want {
		t.Errorf("told %q, want %s", told, want)
	}
}

// A program that takes the place of one that did not watch its sessions, or of none, is told of all that come along: first that they open, and then where they are.
func TestProgramMeetsWhoWasThere(t *testing.T) {
	r := newRig(t, shape{loops: 2, follow: true}, nil)
	c, other := r.login(atConnector, true), r.login(atConnector, false)
	c.enter("a", "r")
	var told []string
	r.cfg.App = carrying(&told)
	r.handOver(false)
	slices.Sort(told) // their loops come one after the other
	if len(told) != 3 || !strings.HasPrefix(told[0], "enter ") || !strings.HasSuffix(told[0], " {r a}") || told[1] != "open 0" || told[2] != "open 1" {
		t.Fatalf("told %q, want of two that open, and of one that enters", told)
	}
	told = nil
	other.enter("b", "r")
	c.sock.End()
	r.net.Settle()
	if len(told) != 3 || !strings.Contains(told[0], " {r b}") || !strings.Contains(told[1], " {r a} cut") || !strings.HasPrefix(told[2], "close ") {
		t.Errorf("told %q", told)
	}
}

// Sessions that a program cannot pack stay and are counted, whatever it does instead; one that it cannot unpack is sent away.
func TestSessionsThatAreNotCarried(t *testing.T) {
	var told []string
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = carrying(&told) })
	r.uncounted = true
	var clients []*client
	for range 20 {
		clients = append(clients, r.login(atConnector, false))
	}
	r.empty()
	if err := r.node.Pack(time.Minute); err != nil {
		t.Fatal(err)
	}
	st, err := r.node.ExportLoop(0, nil)
	if err != nil || st.Stays[staysKnown.String()] != 3 || len(st.Conns) != 17 {
		t.Fatalf("%v stay, %d go, %v", st.Stays, len(st.Conns), err)
	}
	cfg := r.cfg
	cfg.App, cfg.Predecessor = carrying(&told), r.node.Export()
	r.net = r.net.Successor()
	if r.node, err = NewNode(cfg); err != nil {
		t.Fatal(err)
	}
	r.net.Attach(r.node.Loops()[0])
	told = nil
	if lost, err := r.node.ImportLoop(0, st); lost != 0 || err != nil {
		t.Fatalf("%d are lost, %v", lost, err)
	}
	r.net.Settle()
	if n := len(slices.DeleteFunc(told, func(s string) bool { return !strings.HasPrefix(s, "unpack") })); n != 16 {
		t.Errorf("%d were unpacked", n)
	}
	if open(r, clients[19]) || !open(r, clients[18]) {
		t.Error("who could not be unpacked is still there, or somebody else is not")
	}
}

// A program whose function blocks keeps an upgrade from being, and nobody waiting. When it goes on it is asked about no other session: these are served again, by
// handlers that may be changing what it would pack.
func TestPackingThatBlocks(t *testing.T) {
	a, free := app.New(), make(chan struct{})
	var asked atomic.Int64
	a.OnOpen(func(*app.Session) {})
	a.Carry(func(*app.Session) ([]byte, error) { asked.Add(1); <-free; return nil, nil }, func(*app.Session, []byte) error { return nil })
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = a })
	for range 3 {
		r.login(atConnector, false)
	}
	r.empty()
	if err := r.node.Pack(time.Millisecond); !errors.Is(err, errPack) {
		t.Error(err)
	}
	close(free)
	for isPacking() {
		runtime.Gosched()
	}
	if n := asked.Load(); n > 1 {
		t.Errorf("the program was asked about %d sessions more, which are served again", n-1)
	}
}

// What a program pushes to a session while the node rests, or whom it kicks, waits: a program that pushes all the time must not keep the node from being exported.
func TestProgramsWaitWhileNodesRest(t *testing.T) {
	var known *app.Session
	a := app.New()
	a.OnOpen(func(s *app.Session) { known = s })
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = a })
	r.login(atConnector, false)
	for _, tc := range []struct {
		what string
		do   func() error
	}{
		{"postPush", func() error { return known.Push("onNews", map[string]string{"text": "news"}) }},
		{"postKick", func() error { known.Kick("enough"); return nil }},
	} {
		what := tc.what
		r.empty()
		release, err := r.node.Rest(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- tc.do() }()
		for !isIn("router.(*loop)."+what+"(") || !isIn("sync.(*RWMutex).RLock(") {
			select {
			case <-done:
				t.Fatalf("%s does not wait", what)
			default:
				runtime.Gosched()
			}
		}
		if _, err := r.node.ExportLoop(0, nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		release()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		r.net.Settle()
	}
}

// isPacking tells whether a goroutine of Pack is left.
func isPacking() bool { return isIn("router.(*Node).Pack.func") }

// isIn tells whether some goroutine is in a function.
func isIn(function string) bool {
	b := make([]byte, 1<<20)
	return strings.Contains(string(b[:runtime.Stack(b, true)]), function)
}

// When a hand-over has failed nothing stays of what the program has told for it: the next one asks again, and until then its sessions cannot go.
func TestUnpackedSessionsStay(t *testing.T) {
	var told []string
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = carrying(&told) })
	r.login(atConnector, false).enter("a", "r")
	r.empty()
	stays := func() int {
		st, err := r.node.ExportLoop(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return st.Stays[staysKnown.String()]
	}
	for range 2 {
		if err := r.node.Pack(time.Minute); err != nil {
			t.Fatal(err)
		}
		if n := stays(); n != 0 {
			t.Fatalf("%d sessions stay that are carried", n)
		}
		r.node.Unpack()
		if n := stays(); n != 1 {
			t.Fatalf("%d sessions stay of which nothing was told since", n)
		}
	}
}
