package router

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// debugLog has the log tell everything, and returns what it told since it was asked last: each line from its message on, sorted by nothing but time.
func debugLog(t *testing.T, level slog.Level) (told func() []string) {
	var b bytes.Buffer // loops are turned by hand, on this goroutine
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "addr" {
			return slog.Attr{}
		}
		return a
	}})))
	t.Cleanup(func() { slog.SetDefault(before) })
	return func() []string {
		defer b.Reset()
		return strings.Split(strings.TrimSpace(b.String()), "\n")
	}
}

// With -log-level debug a developer reads why a request was refused, and an operator who came and went; nobody reads what was said.
func TestDebugLog(t *testing.T) {
	told := debugLog(t, slog.LevelDebug)
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.SendRate = limit.Rate{PerSecond: 1, Burst: 3} })
	ann := r.login(atConnector, true)
	for _, tc := range []struct{ route, body, want string }{
		{"no.such.route", `{"x":"secret"}`, `msg="nobody handles a route here" route=no.such.route`},
		{routeSend, sendBody("secret", "*"), `msg="a request was refused" route=chat.chatHandler.send code=500 why="the session is in no room"`},
		{routeEnter, `secret`, `msg="a request was refused" route=connector.entryHandler.enter code=500 why="the body is no JSON object"`},
		{routeEnter, `{"username":"ann","rid":"r"}`, `msg="a session has entered a room" name=ann room=r`},
		{routeSend, sendBody("secret", "nobody"), `msg="a request was refused" name=ann room=r route=chat.chatHandler.send code=500 why="what it names is not there, is not allowed, or is taken"`},
		{routeSend, sendBody("secret", "*"), ``},
		{routeSend, sendBody("secret", "*"), `msg="a request was refused" name=ann room=r route=chat.chatHandler.send code=500 why=send_rate`},
	} {
		ann.ask(tc.route, tc.body)
		if lines := told(); !slices.Equal(lines, []string{tc.want}) {
			t.Errorf("%s %s: told\n%s\nwant\n%s", tc.route, tc.body, strings.Join(lines, "\n"), tc.want)
		}
	}
	ann.sock.End()
	r.net.Settle()
	if lines := told(); len(lines) != 1 || !strings.HasPrefix(lines[0], `msg="a session has left a room" name=ann room=r why=`) {
		t.Errorf("told %q", lines)
	}
}

// Whatever reason a client is told (docs/PROTOCOL.md, Reasons) the log tells too, of each route; what clients are told no reason of, such as a name that is taken, it tells as far as that is known.
func TestDebugLogTellsEachReason(t *testing.T) {
	told := debugLog(t, slog.LevelDebug)
	r := newRig(t, shape{loops: 1}, nil)
	r.login(atConnector, true).enter("ann", "r")
	bob := r.login(atConnector, false)
	l := r.node.loops[0]
	var ann *session
	l.np.Each(func(c *netpoll.Conn) {
		if s := l.session(c); s.room != nil {
			ann = s
		}
	})
	routes := l.profile(ann).routes
	told()
	tell := func(route string, answer []byte, code, why string) {
		t.Helper()
		l.explain(ann, routes[route], nil, answer)
		want := fmt.Sprintf("msg=\"a request was refused\" name=ann room=r route=%s code=%s why=%s", route, code, why)
		if lines := told(); len(lines) != 1 || lines[0] != want {
			t.Errorf("%s: told %q, want %s", answer, lines, want)
		}
	}
	for _, reason := range slices.Concat(channel.ReasonNames[:], limitNames[:]) {
		tell(routeSend, channel.RefusedFor(reason), "500", reason)
		tell(routeEnter, channel.EnterRefusedFor(reason), "500", reason)
	}
	tell(routeEnter, loginNeeded, "401", `"no login that is good for it was shown"`)
	tell(routeEnter, loginElsewhere, "500", "login")
	const taken = `why="the name or the room is missing, too long, not allowed, or taken, or the session is there already"`
	for _, body := range []string{enterBody("ann", "r"), enterBody(strings.Repeat("x", 100), "r"), enterBody("", "r"), enterBody("bob", ""), enterBody("a*b", "r"), `{}`} {
		bob.ask(routeEnter, body)
		if lines := told(); len(lines) != 1 || !strings.HasSuffix(lines[0], taken) {
			t.Errorf("%s: told %q", body, lines)
		}
	}
}

// Without it nothing of that is told.
func TestNoDebugLog(t *testing.T) {
	told := debugLog(t, slog.LevelInfo)
	ann := newRig(t, shape{loops: 1}, nil).login(atConnector, true)
	ann.ask("no.such.route", `{}`)
	ann.ask(routeSend, sendBody("x", "*"))
	ann.enter("ann", "r")
	if lines := told(); !slices.Equal(lines, []string{""}) {
		t.Errorf("told %q", lines)
	}
}
