package router

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// readsOf are the texts on the newest page of history that a client is told, or "refused".
func readsOf(t *testing.T, c *client) string {
	t.Helper()
	var page struct {
		Code     int
		Messages []struct{ Msg string }
	}
	answer := c.ask(routeHistory, `{"limit":200}`)
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	if page.Code != 0 {
		return "refused"
	}
	var all []string
	for _, m := range page.Messages {
		all = append(all, m.Msg)
	}
	return strings.Join(all, " ")
}

// Who has been cut off and enters again reads what was said before only if it is known to be the same: by its secret from anywhere, without one from its own address. A name that is
// banned reads nothing, whatever it was; whose secret it is may read under another name what it may have heard.
func TestReadersByAddressAndBan(t *testing.T) {
	const home, elsewhere = "192.0.2.1", "198.51.100.2"
	const secret = "a secret of a reader"
	r := newRig(t, shape{loops: 3, roundTrip: true}, func(cfg *Config) {
		keepPlaces(cfg)
		cfg.Access.LimitAll = false
	})
	r.uncounted = true
	at := func(addr string) *client {
		r.peer = netip.MustParseAddr(addr)
		return r.login(atConnector, true)
	}
	ann := at("203.0.113.9")
	ann.enter("ann", "r")
	say := func(text string) { t.Helper(); ann.ask(routeSend, sendBody(text, "*")) }
	in := map[string]*client{}
	for name, proof := range map[string]string{"home": "", "moved": "", "proven": secret, "banned": secret + " banned"} {
		in[name] = at(home)
		if got := in[name].ask(routeEnter, secretBody(name, "r", proof)); !strings.HasPrefix(got, `{"users":[`) {
			t.Fatal(got)
		}
	}
	say("one")
	if got := readsOf(t, in["banned"]); got != "one" {
		t.Errorf("a member reads %q", got)
	}
	for _, c := range in {
		c.reset()
	}
	r.net.Settle()
	say("two")

	for _, tc := range []struct{ name, addr, proof, reads string }{
		{"home", home, "", "one two"},
		{"moved", elsewhere, "", ""},
		{"proven", elsewhere, secret, "one two"},
		{"newcomer", home, "", ""},
	} {
		c := at(tc.addr)
		if got := readsOf(t, c); got != "refused" {
			t.Errorf("%s reads %q before it is in", tc.name, got)
		}
		if got := c.ask(routeEnter, secretBody(tc.name, "r", tc.proof)); !strings.HasPrefix(got, `{"users":[`) {
			t.Fatal(got)
		}
		if got := readsOf(t, c); got != tc.reads {
			t.Errorf("%s at %s reads %q, want %q", tc.name, tc.addr, got, tc.reads)
		}
	}

	r.node.SetModeration(&Moderation{Names: map[string]int64{"banned": 0}})
	if err := r.asked(func() error {
		_, err := r.node.KickSessions(t.Context(), SessionFilter{Name: "banned"}, "banned")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := at(home)
	if got := c.ask(routeEnter, secretBody("banned", "r", secret+" banned")); memberOf(t, got, "reason") != `"ban"` {
		t.Errorf("who is banned is answered %s", got)
	}
	if got := readsOf(t, c); got != "refused" {
		t.Errorf("who is banned reads %q", got)
	}
	for name, want := range map[string]struct{ proof, reads string }{"a stranger": {secret + " of a stranger", ""}, "the same": {secret + " banned", "one two"}} {
		c := at(home)
		if got := c.ask(routeEnter, secretBody(name, "r", want.proof)); !strings.HasPrefix(got, `{"users":[`) {
			t.Fatal(got)
		}
		if got := readsOf(t, c); got != want.reads {
			t.Errorf("%s, under another name than that which is banned, reads %q, want %q", name, got, want.reads)
		}
	}
}
