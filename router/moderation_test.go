package router

import (
	"net/netip"
	"testing"

	"github.com/pomelod/pomelod/internal/names"
)

// moderated is access under bans until the time 100, at a time.
func moderated(now int64, nets ...string) *access {
	n := &Node{}
	n.moderator.names, n.moderator.wall = new(names.Rules), func() int64 { return now }
	m := &Moderation{Nets: make(map[netip.Prefix]int64)}
	for _, net := range nets {
		m.Nets[netip.MustParsePrefix(net)] = 100
	}
	n.SetModeration(m)
	a := newAccess(Access{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.8/32")}}, nil)
	n.moderator.trusted = a.Trusted
	a.bans = &n.moderator
	return a
}

// Banned addresses cannot connect while the ban lasts; proxies and this machine can always.
func TestBannedAddresses(t *testing.T) {
	for _, tc := range []struct {
		now   int64
		addr  string
		admit bool
	}{
		{99, "192.0.2.7", false}, {99, "::ffff:192.0.2.7", false}, {100, "192.0.2.7", true}, {99, "192.0.3.7", true}, {99, "192.0.2.8", true}, {99, "127.0.0.1", true}, {99, "::1", true},
		{99, "2001:db8::7", false}, {99, "2001:db9::7", true},
	} {
		a := moderated(tc.now, "192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8", "::1/128")
		addr := netip.MustParseAddr(tc.addr)
		if _, ok := a.Admit(addr); ok != tc.admit {
			t.Errorf("%s at %d: %v", tc.addr, tc.now, ok)
		}
		if n := a.refusedBy()["ban"]; n > 0 == tc.admit {
			t.Errorf("%s at %d: %d are counted", tc.addr, tc.now, n)
		}
	}
	if _, ok := moderated(99).Admit(netip.MustParseAddr("192.0.2.7")); !ok {
		t.Error("refused without a ban")
	}
}

// Behind a proxy the client's address is banned: by WebSocket and by polling, and it is told so.
func TestBannedBehindProxy(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Access.Trusted = []netip.Prefix{netip.MustParsePrefix("::1/128")} })
	r.uncounted = true
	r.node.SetModeration(&Moderation{Nets: map[netip.Prefix]int64{netip.MustParsePrefix("192.0.2.0/24"): 0}})
	for _, from := range []string{"192.0.2.7", "192.0.3.7"} {
		for _, path := range []string{"/socket.io/?EIO=4&transport=polling", "/socket.io/1/"} {
			p := r.web(atConnector).ask("GET " + path + " HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + from + "\r\n\r\n")
			if want := map[string]int{"192.0.2.7": 403, "192.0.3.7": 200}[from]; p.status != want {
				t.Errorf("%s of %s: %d %s", path, from, p.status, p.body)
			}
		}
	}
}

// Mutes of all rooms and of one, and bans of names, hold for all spellings, and end.
func TestModeratedNames(t *testing.T) {
	now := int64(0)
	n := &Node{}
	n.moderator.names, n.moderator.wall = new(names.Rules), func() int64 { return now }
	if n.moderator.checkSend("a", "r") != nil {
		t.Error("muted by nobody")
	}
	n.SetModeration(&Moderation{Names: map[string]int64{"x": 10_000}, Muted: map[Mute]int64{{"", "a"}: 1500, {"r", "b"}: 0}, Locked: map[string]int64{"r": 10_000}})
	for _, tc := range []struct {
		now        int64
		name, room string
		want       string
	}{
		{0, "a", "r", `{"code":500,"reason":"mute","wait":2}`}, {0, "a", "other", `{"code":500,"reason":"mute","wait":2}`}, {1500, "a", "r", ""},
		{0, "b", "r", `{"code":500,"reason":"mute"}`}, {0, "b", "other", ""}, {0, "c", "r", ""},
	} {
		now = tc.now
		if got := string(n.moderator.checkSend(tc.name, tc.room)); got != tc.want {
			t.Errorf("%s in %s at %d: %s", tc.name, tc.room, tc.now, got)
		}
	}
	now = 9999
	if refusal, _ := n.moderator.checkEnter("x", "q", netip.Addr{}); string(refusal) != `{"code":500,"error":true,"reason":"ban"}` {
		t.Errorf("x: %s", refusal)
	}
	if refusal, locked := n.moderator.checkEnter("y", "r", netip.Addr{}); refusal != nil || !locked {
		t.Errorf("y: %s, %v", refusal, locked)
	}
	now = 10_000
	if refusal, locked := n.moderator.checkEnter("x", "r", netip.Addr{}); refusal != nil || locked {
		t.Errorf("later: %s, %v", refusal, locked)
	}
}

// Of rules about names that look alike the longest counts, in whatever order they are found.
func TestRulesOfNamesThatLookAlike(t *testing.T) {
	for range 20 {
		n := &Node{}
		safe := names.Safe(nil)
		n.moderator.names, n.moderator.wall = &safe, func() int64 { return 50 }
		n.SetModeration(&Moderation{Names: map[string]int64{"bob": 10, "ｂｏｂ": 0, " bob": 20, "ann": 10, "ａnn": 60}, Muted: map[Mute]int64{{"", "bob"}: 60, {"", "ｂｏｂ"}: 10}})
		for _, name := range []string{"bob", "ann"} {
			if refusal, _ := n.moderator.checkEnter(name, "r", netip.Addr{}); refusal == nil {
				t.Fatalf("%s may enter: a shorter ban has taken the place of a longer one", name)
			}
		}
		if n.moderator.checkSend("bob", "r") == nil {
			t.Fatal("bob may talk: a shorter mute has taken the place of a longer one")
		}
	}
}

// Who has connected before a ban of the address does not get into a room after it, and who is about to enter when the name or the address is banned does not
// stay.
func TestBannedOnTheWayIn(t *testing.T) {
	for what, rule := range map[string]*Moderation{
		"name":    {Names: map[string]int64{"bob": 0}},
		"address": {Nets: map[netip.Prefix]int64{netip.MustParsePrefix("2001:db8::/32"): 0}},
	} {
		r := newRig(t, shape{loops: 2}, nil)
		r.peer = netip.MustParseAddr("2001:db8::7")
		room := "r"
		for r.home(room).index != 1 {
			room += "r"
		}
		early, late := r.login(atConnector, true), r.login(atConnector, false) // on loops 0 and 1
		r.net.Settle()
		early.request(routeEnter, enterBody("bob", room))
		early.sock.Ready() // the request is in the mail to the other loop
		r.node.SetModeration(rule)
		r.net.Settle()
		if got := early.take(); len(got) != 3 || got[1] != `kick 0 {"reason":"banned"}` {
			t.Errorf("%s: %q", what, got)
		}
		if got := late.enter("bob", room); got != `{"code":500,"error":true,"reason":"ban"}` {
			t.Errorf("%s: who was there before is answered %s", what, got)
		}
		r.node.SetModeration(&Moderation{})
		if got := late.enter("bob", room); got != `{"users":["bob"]}` {
			t.Errorf("%s: who was banned has left something behind: %s", what, got)
		}
	}
}

// A ban kicks a name in all its spellings; a kick of a name is of that name.
func TestKicksOfSpellings(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(cfg *Config) { cfg.Names = names.Safe(nil) })
	r.peer = netip.MustParseAddr("fe80::7")
	kick := func(f SessionFilter) (n int) {
		t.Helper()
		if err := r.asked(func() (err error) { n, err = r.node.KickSessions(t.Context(), f, "bye"); return }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	enter := func(name, room string) { r.login(atConnector, true).enter(name, room) }
	enter("bob", "a")
	enter("ｂｏｂ", "b")
	enter("ann", "c")
	if n := kick(SessionFilter{Name: "bob"}); n != 1 {
		t.Errorf("%d are called bob", n)
	}
	enter("bob", "a")
	if n := kick(SessionFilter{Name: "Ｂob", Alike: true}); n != 0 {
		t.Errorf("%d look like Bob", n)
	}
	if n := kick(SessionFilter{Name: "ｂob", Alike: true}); n != 2 {
		t.Errorf("%d look like bob", n)
	}
	if n := kick(SessionFilter{Address: netip.MustParsePrefix("fe80::/10")}); n != 1 {
		t.Errorf("%d are of fe80::/10", n)
	}
}
