package router

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/internal/names"
	"github.com/pomelod/pomelod/netpoll"
)

// reset breaks a client's connection off; the server notices when its loop next looks at the socket.
func (c *client) reset() {
	c.sock.Err = syscall.ECONNRESET
	c.sock.Ready()
}

// Who is cut off again before it has the answer to its return is told everything when it returns at last, also what was said to it alone: nothing is lost
// with sessions that never heard of it, and nothing comes twice.
func TestReturnIsCutOff(t *testing.T) {
	for _, roundTrip := range []bool{false, true} {
		t.Run(fmt.Sprintf("roundTrip=%v", roundTrip), func(t *testing.T) {
			r := newRig(t, shape{loops: 3, roundTrip: roundTrip}, keepPlaces)
			const enterBob = `{"username":"bob","rid":"r",` + secretOfB + `}`
			ann, bob := r.login(atConnector, false), r.login(atConnector, true)
			ann.enter("ann", "r")
			bob.ask(routeEnter, enterBob)
			bob.reset()
			r.net.Settle()
			ann.ask(routeSend, sendBody("to all", "*"))
			ann.ask(routeSend, sendBody("to bob", "bob"))
			ann.take()
			var told []string
			take := func(c *client) (n int) {
				for _, line := range c.take() {
					if strings.Contains(line, "onChat") {
						told = append(told, line)
						n++
					}
				}
				return n
			}
			unheard := 0
			for range 6 { // on each loop; on the room's own the answer is there at once
				c := r.login(atConnector, true)
				c.request(routeEnter, enterBob)
				r.net.Events()
				c.reset()
				r.net.Settle()
				if take(c) == 0 {
					unheard++
				}
			}
			last := r.login(atConnector, true)
			if got := last.ask(routeEnter, enterBob); got != `{"users":["ann","bob"]}` {
				t.Fatal(got)
			}
			take(last)
			if len(told) != 2 || !strings.Contains(told[0], "to all") || !strings.Contains(told[1], "to bob") || unheard == 0 {
				t.Errorf("told %q; %d returns had no answer", told, unheard)
			}
			ann.want()
		})
	}
}

// A kick by name or by address ends places, too, and says how many.
func TestKickEndsPlaces(t *testing.T) {
	r := newRig(t, shape{loops: 3}, keepPlaces)
	r.uncounted = true
	ann := r.login(atConnector, false)
	ann.enter("ann", "r")
	for name, at := range map[string]string{"bob": "192.0.2.1", "carol": "192.0.2.2", "dan": "2001:db8::1", "eve": "127.0.0.1"} {
		r.peer = netip.MustParseAddr(at)
		c := r.login(atConnector, true)
		c.ask(routeEnter, secretBody(name, "r", strings.Repeat(name, 6)))
		c.reset()
		r.net.Settle()
	}
	ann.take()
	for _, tc := range []struct {
		filter SessionFilter
		gone   string
	}{
		{SessionFilter{Name: "nobody"}, ""},
		{SessionFilter{Name: "bob", Address: netip.MustParsePrefix("192.0.2.2/32")}, ""},
		{SessionFilter{Name: "eve"}, "eve"},
		{SessionFilter{Address: netip.MustParsePrefix("192.0.2.2/32")}, "carol"},
		{SessionFilter{Address: netip.MustParsePrefix("2001:db8::1/128")}, ""}, // only its /64 is known
		{SessionFilter{Address: netip.MustParsePrefix("2001:db8::/64")}, "dan"},
		{SessionFilter{Address: netip.MustParsePrefix("192.0.2.0/24")}, "bob"},
	} {
		count := 0
		if err := r.asked(func() (err error) { count, err = r.node.KickSessions(context.Background(), tc.filter, "bye"); return }); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
		if tc.gone == "" {
			ann.want()
		} else {
			ann.want(`push 0 onLeave {"route":"onLeave","user":"` + tc.gone + `"}`)
		}
		if want := min(len(tc.gone), 1); count != want {
			t.Errorf("%+v: %d kicked, want %d", tc.filter, count, want)
		}
	}
}

// A ban of a name ends the places of all its spellings; a kick of a name is of that name, and one of a login, of which places tell nothing, ends none.
func TestBanEndsPlacesOfSpellings(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(cfg *Config) {
		keepPlaces(cfg)
		cfg.Names = names.Safe(nil)
	})
	away := func(name, room string) {
		t.Helper()
		c := r.login(atConnector, true)
		if got := c.ask(routeEnter, secretBody(name, room, "the secret of somebody")); !strings.HasPrefix(got, `{"users":[`) {
			t.Fatal(got)
		}
		c.reset()
		r.net.Settle()
	}
	away("bob", "a")
	away("ｂｏｂ", "b")
	away("ann", "c")
	for _, tc := range []struct {
		filter SessionFilter
		want   int
	}{
		{SessionFilter{UID: "7"}, 0},
		{SessionFilter{Name: "ｂob"}, 0},
		{SessionFilter{Name: "ｂob", Alike: true}, 2},
		{SessionFilter{Name: "ann"}, 1},
	} {
		count := 0
		if err := r.asked(func() (err error) { count, err = r.node.KickSessions(t.Context(), tc.filter, "bye"); return }); err != nil {
			t.Fatal(err)
		}
		if count != tc.want {
			t.Errorf("%+v: %d kicked, want %d", tc.filter, count, tc.want)
		}
	}
}

// What the end of a place leads to on its own loop, where the stream of the room has a gap and those who poll leave at once, does not come before what other
// loops are told of it.
func TestKickEndsPlacesBeforeAnythingElse(t *testing.T) {
	r := newRig(t, shape{loops: 2}, keepPlaces)
	r.uncounted = true
	room := "r"
	for i := 0; r.home(room).index != 0; i++ {
		room = fmt.Sprint("r", i)
	}
	in := func(i int, polls bool) (n int) {
		l := r.node.loops[i]
		l.np.Each(func(c *netpoll.Conn) {
			if l.session(c).room != nil && c.IsPull() == polls {
				n++
			}
		})
		return n
	}
	bob := r.login(atConnector, true)
	bob.ask(routeEnter, secretBody("bob", room, "the secret of bob"))
	bob.reset()
	r.net.Settle()
	var ann *client // the last one is on the other loop
	for i := 0; in(1, false) == 0 && i < 10; i++ {
		ann = r.login(atConnector, true)
		ann.enter(fmt.Sprint("ann", i), room)
	}
	for i := 0; in(0, true) == 0 && i < 10; i++ {
		if i%2 == 1 { // connections go to the loops in turn, and each client has so many
			r.web(atConnector)
		}
		r.sioLogin(flavour{version: 4}).ask(routeEnter, enterBody(fmt.Sprint("poller", i), room))
	}
	r.net.Settle()
	if in(1, false) == 0 || in(0, true) == 0 {
		t.Fatal("they are on the wrong loops")
	}
	ann.take()
	for _, known := range r.node.loops[0].rooms.byID {
		known.seq += 7
	}
	if err := r.asked(func() error {
		_, err := r.node.KickSessions(t.Context(), SessionFilter{Name: "bob"}, "bye")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.net.Settle()
	if got := ann.take(); len(got) < 2 || got[0] != `push 0 onLeave {"route":"onLeave","user":"bob"}` || !strings.Contains(got[1], "onLeave") {
		t.Errorf("told %q", got)
	}
}

// A session that the next node cannot take is cut off there: nobody is left in a room for ever. Who has a secret may return.
func TestLostInAHandOver(t *testing.T) {
	for _, tc := range []struct {
		name string
		harm func(cfg *Config, st *LoopState)
		lost int
	}{
		{"its listener is gone", func(cfg *Config, _ *LoopState) { cfg.PredecessorTags = slices.Repeat([]int{-1}, len(cfg.Profiles)) }, 2},
		{"there is more of it than is known", func(_ *Config, st *LoopState) {
			for i := range st.Conns {
				s, _ := netpoll.ParseConnState(st.Conns[i].State)
				s.Handler = append(s.Handler, 0)
				st.Conns[i].State = s.Append(nil)
			}
		}, 0}, // taken, and ended at once
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, keepPlaces)
			r.uncounted = true
			a, b := r.login(atConnector, false), r.login(atConnector, true)
			a.enter("a", "r")
			b.ask(routeEnter, `{"username":"b","rid":"r",`+secretOfB+`}`)
			r.empty()
			st, err := r.node.ExportLoop(0, nil)
			if err != nil || len(st.Conns) != 2 {
				t.Fatalf("%+v, %v", st, err)
			}
			cfg := r.cfg
			cfg.Predecessor = r.node.Export()
			tc.harm(&cfg, st)
			r.net = r.net.Successor()
			if r.node, err = NewNode(cfg); err != nil {
				t.Fatal(err)
			}
			r.net.Attach(r.node.Loops()[0])
			if lost, err := r.node.ImportLoop(0, st); err != nil || lost != tc.lost {
				t.Fatalf("%d lost, %v", lost, err)
			}
			r.net.Settle()
			if s := r.node.loops[0].worker.Stats(); s.Members != 1 || s.Away != 1 {
				t.Errorf("%d members, %d of them away", s.Members, s.Away)
			}
		})
	}
}
