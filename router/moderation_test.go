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
	if refusal, _ := n.moderator.checkEnter("x", "q"); string(refusal) != `{"code":500,"error":true,"reason":"ban"}` {
		t.Errorf("x: %s", refusal)
	}
	if refusal, locked := n.moderator.checkEnter("y", "r"); refusal != nil || !locked {
		t.Errorf("y: %s, %v", refusal, locked)
	}
	now = 10_000
	if refusal, locked := n.moderator.checkEnter("x", "r"); refusal != nil || locked {
		t.Errorf("later: %s, %v", refusal, locked)
	}
}
