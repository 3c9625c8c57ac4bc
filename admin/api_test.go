package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// fakeAPI notes what it is asked, and answers with err.
type fakeAPI struct {
	asked   string
	nobody  bool // is kicked everywhere
	fleet   bool // there is one
	err     error
	kickErr error // of sessions
}

func (a *fakeAPI) note(format string, args ...any) {
	if a.asked != "" {
		a.asked += "; "
	}
	a.asked += fmt.Sprintf(format, args...)
}

func (a *fakeAPI) Rooms(_ context.Context, prefix, after string, most int) ([]channel.RoomInfo, bool, error) {
	a.note("rooms %q %q %d", prefix, after, most)
	return []channel.RoomInfo{{Name: "a"}, {Name: "b/.."}}[:min(2, most)], most < 2, a.err
}

func (a *fakeAPI) LargestRooms(_ context.Context, prefix string, most int) ([]channel.RoomInfo, error) {
	a.note("largest rooms %q %d", prefix, most)
	return []channel.RoomInfo{{Name: "b", Members: 2}}, a.err
}

func (a *fakeAPI) Process() Process {
	return Process{Version: "v1", Memory: Memory{Used: 5, Budget: 9}}
}

func (a *fakeAPI) Nodes(context.Context) (*Nodes, error) { return &Nodes{Asked: "n1"}, a.err }

func (a *fakeAPI) Room(context.Context, string) (channel.RoomInfo, bool, error) {
	return channel.RoomInfo{}, false, a.err
}

func (a *fakeAPI) Members(_ context.Context, room string) ([]string, error) {
	a.note("members %q", room)
	return []string{"x", "y"}, a.err
}

func (a *fakeAPI) ListSessions(_ context.Context, f router.SessionFilter, from router.SessionCursor, most int) ([]router.SessionInfo, *router.SessionCursor, error) {
	a.note("sessions %q %q %v %v %d", f.Name, f.Prefix, f.Address, from, most)
	return []router.SessionInfo{{Address: netip.MustParseAddrPort("[::ffff:192.0.2.1]:7")}, {Address: netip.MustParseAddrPort("192.0.2.2:0")}}, &router.SessionCursor{Loop: 1, Slot: 20}, a.err
}

func (a *fakeAPI) History(_ context.Context, room string, most int) ([]byte, error) {
	a.note("history %q %d", room, most)
	return []byte(`{"messages":[]}`), a.err
}

func (a *fakeAPI) Snapshot(context.Context) (*router.Snapshot, error) {
	return &router.Snapshot{}, a.err
}

func (a *fakeAPI) Limits() map[string]string { return map[string]string{"send-rate": "10:20"} }

func (a *fakeAPI) KickMember(_ context.Context, room, name, reason string) error {
	a.note("kick %q %q %q", room, name, reason)
	return a.err
}

func (a *fakeAPI) KickSessions(_ context.Context, f router.SessionFilter, reason string) (int, error) {
	a.note("kick all %q %v %q", f.Name, f.Address, reason)
	if f.Alike != strings.HasPrefix(a.asked, "rule") {
		a.note("alike: %v", f.Alike)
	}
	return 3, cmp.Or(a.err, a.kickErr)
}

func (a *fakeAPI) KickEverywhere(_ context.Context, k Kick) (int, bool, error) {
	f, err := k.Sessions()
	a.note("kick everywhere %q %v %q %q", f.Name, f.Address, f.UID, k.Reason)
	n := 3
	if a.nobody {
		n = 0
	}
	return n, a.fleet, cmp.Or(a.err, err)
}

func (a *fakeAPI) DeleteMessages(_ context.Context, d router.Deletion) (router.Deleted, error) {
	a.note("delete %q %q %q %q", d.Room, d.Seq, d.Mid, d.User)
	return router.Deleted{Messages: 2, Unwritten: d.User == "unwritten"}, a.err
}

func (a *fakeAPI) Drain(_ context.Context, node string) (Node, error) {
	a.note("drain %q", node)
	return Node{Name: node, Roles: []string{"chat"}, State: "draining", Owns: 7}, a.err
}

func (a *fakeAPI) Upgrade(ctx context.Context) (string, error) {
	late, _ := ctx.Deadline()
	a.note("upgrade within %v", time.Until(late).Round(time.Minute))
	return "process 7 has taken over", a.err
}

func (a *fakeAPI) Reload() (Reloaded, error) {
	a.note("reload")
	return Reloaded{Read: []string{"rules"}, Changed: []string{"rooms=7"}}, a.err
}

func (a *fakeAPI) Rules() ([]Rule, bool) {
	a.note("rules")
	return nil, true
}

func (a *fakeAPI) RoomPolicy(room string) RoomPolicy {
	a.note("policy of %q", room)
	return RoomPolicy{Scope: ScopeFleet, Room: room}
}

func (a *fakeAPI) SetRule(r Rule, lift bool) (bool, error) {
	until := "ever"
	if r.Until != nil {
		until = r.Until.Sub(r.At).String()
	}
	a.note("rule %s %q %q %q for %s, %q, lift %v", r.Kind, r.Name, r.Address, r.Room, until, r.Reason, lift)
	if r.Policy != nil {
		text, _ := json.Marshal(r.Policy)
		a.note("%s", text)
	}
	return true, a.err
}

func (a *fakeAPI) PublishRoom(_ context.Context, p router.Publication) (router.Published, error) {
	a.note("push %q %q %q %s", p.Room, p.User, p.Route, p.Body)
	if p.Mid != "" {
		a.note("mid %q", p.Mid)
	}
	return router.Published{Seq: "a.1", Time: 5, Loops: 2, Members: 3, Again: p.Mid == "said before"}, a.err
}

func (a *fakeAPI) PublishEverywhere(_ context.Context, p Publish) (Spread, error) {
	if p.UID != "" {
		a.note("uid %q", p.UID)
	}
	a.note("push all %q %q %s", p.User, p.Route, p.Body)
	if a.fleet {
		return Spread{Sessions: 7, Nodes: 3, Again: p.Mid == "said before"}, a.err
	}
	return Spread{}, a.err
}

// askAPI asks an API as one who comes by the socket does.
func askAPI(a API, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	src := source()
	src.API, src.local = a, true
	r := httptest.NewRequest(method, "http://pomelod"+target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler(src).ServeHTTP(w, r)
	return w
}

// A ban that holds is no error, though a loop that is stuck has kicked nobody.
func TestBanWhileALoopIsStuck(t *testing.T) {
	w := askAPI(&fakeAPI{kickErr: fmt.Errorf("event loop 1: %w", router.ErrStuck)}, "POST", "/v1/ban", `{"name":"x"}`)
	var done Done
	if err := json.Unmarshal(w.Body.Bytes(), &done); err != nil || w.Code != 200 || done.Kept == nil || done.Count != nil || !strings.Contains(done.Warning, "the ban holds") || !strings.Contains(done.Warning, "event loop 1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What each request asks of the server, and what it is answered.
func TestAPI(t *testing.T) {
	for _, tc := range []struct {
		request, body string
		status        int
		asked, answer string
	}{
		{"GET /v1/rooms", "", 200, `rooms "" "" 100`, `{"scope":"node","rooms":[{"name":"a","members":0,"kept":0},{"name":"b/..","members":0,"kept":0}]}`},
		{"GET /v1/rooms?prefix=a%2f..&after=b&limit=1", "", 200, `rooms "a/.." "b" 1`, `{"scope":"node","rooms":[{"name":"a","members":0,"kept":0}],"next":"a"}`},
		{"GET /v1/stats", "", 200, "", ""},
		{"GET /v1/rooms?by=members&limit=5", "", 200, `largest rooms "" 5`, `{"scope":"node","rooms":[{"name":"b","members":2,"kept":0}]}`},
		{"GET /v1/rooms?by=members&after=b", "", 400, "", ""},
		{"GET /v1/rooms?by=age", "", 400, "", ""},
		{"GET /v1/rooms?limit=0", "", 400, "", `{"error":"limit \"0\": must be 1 to 1000"}`},
		{"GET /v1/rooms?limit=1001", "", 400, "", ""},
		{"GET /v1/rooms?perfix=a", "", 400, "", `{"error":"there is no parameter \"perfix\"; there are prefix, after, limit, by"}`},
		{"GET /v1/rooms?prefix=a&prefix=b", "", 400, "", `{"error":"the parameter prefix is there twice"}`},
		{"GET /v1/rooms?prefix=%ff", "", 400, "", ""},
		{"GET /v1/room?name=r", "", 200, `members "r"`, `{"scope":"fleet","name":"r","members":2,"kept":0,"users":["x","y"]}`},
		{"GET /v1/room", "", 400, "", `{"error":"the parameter name is missing"}`},
		{"GET /v1/sessions", "", 200, `sessions "" "" invalid Prefix {0 0} 100`, `{"scope":"node","sessions":[{"address":"192.0.2.1:7","transport":"","loop":0},{"address":"192.0.2.2","transport":"","loop":0}],"next":"1.20"}`},
		{"GET /v1/sessions?name=x&address=::ffff:192.0.2.1&after=1.20", "", 200, `sessions "x" "" 192.0.2.1/32 {1 20} 100`, ""},
		{"GET /v1/sessions?address=2001:db8::/32", "", 200, `sessions "" "" 2001:db8::/32 {0 0} 100`, ""},
		{"GET /v1/sessions?prefix=a%2f&limit=5", "", 200, `sessions "" "a/" invalid Prefix {0 0} 5`, ""},
		{"GET /v1/nodes", "", 200, "", `{"asked":"n1","view":0,"unguarded":0,"nodes":[]}`},
		{"GET /v1/sessions?address=localhost", "", 400, "", ""},
		{"GET /v1/sessions?after=-1.0", "", 400, "", ""},
		{"GET /v1/sessions?after=x", "", 400, "", ""},
		{"GET /v1/history?room=r&limit=5", "", 200, `history "r" 5`, `{"scope":"fleet","history":{"messages":[]}}`},
		{"GET /v1/limits", "", 200, "", `{"scope":"node","limits":{"send-rate":"10:20"},"limited":null,"refused":null}`},
		{"GET /v1/kick", "", 405, "", ""},
		{"GET /v1/nothing", "", 404, "", ""},
		{"GET /v1/room/../rooms", "", 307, "", ""},

		{"POST /v1/kick", `{"name":"x","room":"r","reason":"bye"}`, 200, `kick "r" "x" "bye"`, `{"scope":"fleet"}`},
		{"POST /v1/kick", `{"name":"x","reason":"bye"}`, 200, `kick everywhere "x" invalid Prefix "" "bye"`, `{"scope":"node","count":3}`},
		{"POST /v1/kick", `{"address":"10.0.0.0/8","reason":"bye"}`, 200, `kick everywhere "" 10.0.0.0/8 "" "bye"`, `{"scope":"node","count":3}`},
		{"POST /v1/kick", `{"uid":"u","reason":"bye"}`, 200, `kick everywhere "" invalid Prefix "u" "bye"`, ""},
		{"POST /v1/kick", `{"all":true,"reason":"bye"}`, 200, `kick everywhere "" invalid Prefix "" "bye"`, ""},
		{"POST /v1/kick", `{"all":false,"reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"all":true,"name":"x","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"uid":"u","room":"r","reason":"bye"}`, 400, "", `{"error":"room goes with name only"}`},
		{"POST /v1/kick", `{"uid":"` + strings.Repeat("u", 1025) + `","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"name":"x"}`, 400, "", `{"error":"reason: must be 1 to 1024 bytes; clients are shown it"}`},
		{"POST /v1/kick", `{"name":"x","reason":"` + strings.Repeat("r", 1025) + `"}`, 400, "", ""},
		{"POST /v1/kick", `{"reason":"bye"}`, 400, "", `{"error":"give name, address, uid or all, one of them"}`},
		{"POST /v1/kick", `{"name":"x","address":"10.0.0.1","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"address":"10.0.0.1","room":"r","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"name":"*","room":"r","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"nmae":"x","reason":"bye"}`, 400, "", ""},
		{"POST /v1/kick", `{"name":"x","reason":"bye"}{}`, 400, "", ""},
		{"POST /v1/kick", ``, 400, "", ""},
		{"POST /v1/kick?name=x", `{"name":"x","reason":"bye"}`, 400, "", ""},
		{"POST /v1/publish", `{"room":"r","route":"onX","body":{"a":1}}`, 200, `push "r" "" "onX" {"a":1}`, `{"scope":"fleet","count":3,"seq":"a.1","time":5,"delivered":2}`},
		{"POST /v1/publish", `{"room":"r","route":"onX","body":{},"mid":"said before"}`, 200, `push "r" "" "onX" {}; mid "said before"`, `{"scope":"fleet","count":3,"seq":"a.1","time":5,"delivered":2,"repeated":true}`},
		{"POST /v1/publish", `{"room":"r","user":"x","route":"onX","body":{}}`, 200, `push "r" "x" "onX" {}`, `{"scope":"fleet","count":3,"seq":"a.1","time":5,"delivered":2}`},
		{"POST /v1/publish", `{"user":"x","route":"onX","body":{}}`, 404, `push all "x" "onX" {}`, ""},
		{"POST /v1/publish", `{"all":true,"route":"onX","body":{}}`, 404, `push all "" "onX" {}`, ""},
		{"POST /v1/publish", `{"all":true,"room":"r","route":"onX","body":{}}`, 400, "", ""},
		{"POST /v1/publish", `{"room":"r","user":"*","route":"onX","body":{}}`, 400, "", ""},
		{"POST /v1/publish", `{"route":"onX","body":{}}`, 400, "", ""},
		{"POST /v1/close", `{"room":"r","reason":"bye"}`, 200, `kick "r" "*" "bye"`, `{"scope":"fleet"}`},
		{"POST /v1/close", `{"reason":"bye"}`, 400, "", `{"error":"room is missing"}`},
		{"POST /v1/rooms", `{}`, 405, "", ""},
		{"POST /v1/delete", `{"room":"r","seq":"a.1"}`, 200, `delete "r" "a.1" "" ""`, `{"scope":"fleet","count":2}`},
		{"POST /v1/delete", `{"room":"r","user":"unwritten"}`, 200, `delete "r" "" "" "unwritten"`, `{"scope":"fleet","count":2,"warning":"` + warnUnwritten + `"}`},
		{"POST /v1/delete", `{"room":"r","mid":"m"}`, 200, `delete "r" "" "m" ""`, `{"scope":"fleet","count":2}`},
		{"POST /v1/delete", `{"room":"r","user":"x"}`, 200, `delete "r" "" "" "x"`, `{"scope":"fleet","count":2}`},
		{"POST /v1/delete", `{"room":"r","user":"x","seq":"a.1"}`, 400, "", `{"error":"give seq, mid or user, one of them"}`},
		{"POST /v1/delete", `{"room":"r"}`, 400, "", ""},
		{"POST /v1/delete", `{"seq":"a.1"}`, 400, "", `{"error":"room is missing"}`},
		{"POST /v1/delete", `{"room":"r","seq":1}`, 400, "", ""},

		{"POST /v1/reload", "{}", 200, "reload", `{"scope":"node","read":["rules"],"changed":["rooms=7"],"later":[]}`},
		{"POST /v1/reload", "", 400, "", ""},
		{"POST /v1/drain", `{"node":"b"}`, 200, `drain "b"`, `{"scope":"fleet","node":{"name":"b","run":0,"roles":["chat"],"host":"","sessions":0,"owns":7,"follows":0,"state":"draining","maker":false,"view":0,"silent_ms":0}}`},
		{"POST /v1/drain", `{}`, 400, "", `{"error":"node is missing"}`},
		{"POST /v1/drain", `{"nodes":"b"}`, 400, "", ""},
		{"GET /v1/drain", "", 405, "", ""},
		{"POST /v1/upgrade", `{}`, 200, "upgrade within 2m0s", `{"scope":"node","result":"process 7 has taken over"}`},
		{"POST /v1/upgrade", `{"force":true}`, 400, "", ""},
		{"GET /v1/rules", "", 200, "rules", `{"scope":"fleet","kept":true,"rules":[]}`},
		{"POST /v1/ban", `{"name":"x","for":"1h30m","reason":"bye"}`, 200, `rule ban "x" "" "" for 1h30m0s, "bye", lift false; kick all "x" invalid Prefix "bye"`, `{"scope":"fleet","count":3,"kept":true}`},
		{"POST /v1/ban", `{"address":"192.0.2.7/24"}`, 200, `rule ban "" "192.0.2.0/24" "" for ever, "", lift false; kick all "" 192.0.2.0/24 "banned"`, ""},
		{"POST /v1/ban", `{"address":"::ffff:10.1.2.3/104"}`, 200, `rule ban "" "10.0.0.0/8" "" for ever, "", lift false; kick all "" 10.0.0.0/8 "banned"`, ""},
		{"POST /v1/ban", `{"address":"fe80::7%eth0"}`, 200, `rule ban "" "fe80::7/128" "" for ever, "", lift false; kick all "" fe80::7/128 "banned"`, ""},
		{"POST /v1/ban", `{"address":"::ffff:192.0.2.7"}`, 200, `rule ban "" "192.0.2.7/32" "" for ever, "", lift false; kick all "" 192.0.2.7/32 "banned"`, ""},
		{"POST /v1/ban", `{"address":"192.0.2.7","name":"x"}`, 400, "", ""},
		{"POST /v1/ban", `{"address":"192.0.2.7/33"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"x","room":"r"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"*"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"x","for":"0s"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"x","for":"-1h"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"x","for":"forever"}`, 400, "", ""},
		{"POST /v1/ban", `{"name":"x","for":"999999h"}`, 400, "", ""},
		{"POST /v1/unban", `{"name":"x"}`, 200, `rule ban "x" "" "" for ever, "", lift true`, `{"scope":"fleet","kept":true}`},
		{"POST /v1/unban", `{"name":"x","for":"1h"}`, 400, "", ""},
		{"POST /v1/mute", `{"name":"x","room":"r","for":"90s"}`, 200, `rule mute "x" "" "r" for 1m30s, "", lift false`, ""},
		{"POST /v1/mute", `{"room":"r"}`, 400, "", ""},
		{"POST /v1/unmute", `{"name":"x"}`, 200, `rule mute "x" "" "" for ever, "", lift true`, ""},
		{"POST /v1/lock", `{"room":"r"}`, 200, `rule lock "" "" "r" for ever, "", lift false`, ""},
		{"POST /v1/lock", `{"room":"r","name":"x"}`, 400, "", ""},
		{"POST /v1/unlock", `{"room":"r"}`, 200, `rule lock "" "" "r" for ever, "", lift true`, ""},

		{"GET /v1/policy?room=r", "", 200, `policy of "r"`, `{"scope":"fleet","room":"r","policy":{},"holds":{},"kept":false}`},
		{"GET /v1/policy", "", 400, "", `{"error":"the parameter room is missing"}`},
		{"PUT /v1/policy?room=r", `{"slow":"5s","hold":"20ms","members":0,"list":7,"grace":"0s","enter":"program","history":"none","locked":false}`, 200,
			`rule policy "" "" "r" for ever, "", lift false; {"hold":"20ms","slow":"5s","members":0,"list":7,"grace":"0s","enter":"program","history":"none","locked":false}; policy of "r"`, ""},
		{"PUT /v1/policy?room=r", `{}`, 200, `rule policy "" "" "r" for ever, "", lift true; policy of "r"`, ""},
		{"PUT /v1/policy", `{}`, 400, "", `{"error":"the parameter room is missing"}`},
		{"PUT /v1/policy?room=" + strings.Repeat("r", 1025), `{}`, 400, "", `{"error":"room: may have 1024 bytes"}`},
		{"PUT /v1/policy?room=r", `{"hold":"2s"}`, 400, "", `{"error":"hold 2s: must be whole milliseconds, at most 1s, or 0 for none"}`},
		{"PUT /v1/policy?room=r", `{"slow":"25h"}`, 400, "", `{"error":"slow 25h0m0s: must be whole milliseconds, at most 24h0m0s, or 0 for none"}`},
		{"PUT /v1/policy?room=r", `{"slow":"-1s"}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"slow":"5"}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"members":-1}`, 400, "", `{"error":"members -1: must not be negative; 0 is no limit"}`},
		{"PUT /v1/policy?room=r", `{"list":-1}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"grace":"1s"}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"enter":"login"}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"history":"all"}`, 400, "", ""},
		{"PUT /v1/policy?room=r", `{"slwo":"5s"}`, 400, "", ""},
		{"POST /v1/policy?room=r", `{}`, 405, "", `{"error":"ask for this by GET or PUT"}`},
	} {
		a := &fakeAPI{}
		method, target, _ := strings.Cut(tc.request, " ")
		w := askAPI(a, method, target, tc.body)
		if w.Code != tc.status || a.asked != tc.asked || tc.answer != "" && strings.TrimSpace(w.Body.String()) != tc.answer {
			t.Errorf("%s %s: %d %s, asked %s", tc.request, tc.body, w.Code, w.Body, a.asked)
		}
	}
}

// Who is at no node of a fleet is not known, so that nobody is here is no error there.
func TestKickInAFleet(t *testing.T) {
	const kick = `{"name":"x","reason":"bye"}`
	if w := askAPI(&fakeAPI{nobody: true}, "POST", "/v1/kick", kick); w.Code != 404 {
		t.Errorf("without one: %d %s", w.Code, w.Body)
	}
	if w := askAPI(&fakeAPI{nobody: true, fleet: true}, "POST", "/v1/kick", kick); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"scope":"fleet","count":0}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// What goes wrong in the server has a status that tells whom to blame.
func TestAPIErrors(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{app.ErrAbsent, 404}, {router.ErrNoMessage, 404}, {router.ErrNoPlace, 400}, {app.ErrBusy, 503}, {app.ErrObject, 400}, {app.ErrTooLong, 400}, {app.ErrRoute, 400},
		{fmt.Errorf("%w (loop [1] of 2)", router.ErrStuck), 504}, {&RuleFileError{errors.New("disk full")}, 507}, {context.DeadlineExceeded, 504}, {errors.New("x"), 500},
		{ErrNotNow, 503}, {fmt.Errorf("%w: %w", ErrPartly, app.ErrBusy), 504}, {router.ErrUnwritten, 503}, {router.ErrMessage, 400}, {app.ErrNotSent, 503}, {fmt.Errorf("room r: %w", app.ErrUnknown), 504},
	} {
		w := askAPI(&fakeAPI{err: tc.err}, "POST", "/v1/close", `{"room":"r","reason":"bye"}`)
		if !strings.Contains(w.Body.String(), strings.ReplaceAll(tc.err.Error(), `"`, `\"`)) || w.Code != tc.status {
			t.Errorf("%v: %d %s", tc.err, w.Code, w.Body)
		}
	}
}

// What is no JSON by its own word is not carried out: a form of a foreign page cannot say that it is JSON. Nor is what is too long, or from elsewhere.
func TestAPIRefusesForeignWrites(t *testing.T) {
	const kick = `{"name":"x","room":"r","reason":"bye"}`
	for _, tc := range []struct {
		name    string
		body    string
		headers []string
		want    int
	}{
		{"a form", kick, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"text", kick, []string{"Content-Type", "text/plain"}, 415},
		{"nothing said", kick, []string{"Content-Type", ""}, 415},
		{"with a charset", kick, []string{"Content-Type", "application/json; charset=utf-8"}, 200},
		{"another site", kick, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another origin", kick, []string{"Origin", "https://evil.example"}, 403},
		{"too long", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413},
	} {
		a := &fakeAPI{}
		if w := askAPI(a, "POST", "/v1/kick", tc.body, tc.headers...); w.Code != tc.want || (a.asked != "") != (tc.want == 200) {
			t.Errorf("%s: %d %.100s, asked %q", tc.name, w.Code, w.Body, a.asked)
		}
	}
}

// By TCP the API is there with a token only, and then so are profiles.
func TestAPINeedsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("ann 0123456789abcdef\nbob fedcba9876543210\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := ReadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	src := source()
	src.API, src.Profiles = &fakeAPI{}, true
	if w := ask(handler(src), "/v1/rooms", "Host", "localhost"); w.Code != 404 {
		t.Errorf("without tokens: %d", w.Code)
	}
	src.Tokens = tokens
	for _, tc := range []struct {
		header string
		want   int
	}{
		{"", 401}, {"Bearer ", 401}, {"Bearer 0123456789abcde", 401}, {"Bearer 0123456789abcdefx", 401}, {"0123456789abcdef", 401}, {"Basic 0123456789abcdef", 401},
		{"Bearer ann", 401}, {"Bearer 0123456789abcdef", 200}, {"Bearer fedcba9876543210", 200},
	} {
		for _, path := range []string{"/v1/rooms", "/debug/pprof/cmdline"} {
			if w := ask(handler(src), path, "Host", "localhost", "Authorization", tc.header); w.Code != tc.want {
				t.Errorf("%q: %s: %d", tc.header, path, w.Code)
			}
		}
	}
	if w := ask(handler(src), "/readyz", "Host", "localhost"); w.Code != 200 {
		t.Errorf("/readyz: %d", w.Code)
	}
}

// logged collects log lines.
type logged struct{ lines *[]string }

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logged) WithGroup(string) slog.Handler            { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	*l.lines = append(*l.lines, line)
	return nil
}

// Every write is a log line that says who and what, done or not, and never what was said; a read is none.
func TestWritesAreLogged(t *testing.T) {
	var lines []string
	before := slog.Default()
	slog.SetDefault(slog.New(logged{&lines}))
	defer slog.SetDefault(before)
	src := source()
	src.API, src.local = &fakeAPI{}, true
	for _, request := range []string{`GET /v1/rooms `, `POST /v1/kick {"name":"x","reason":"bye"}`, `POST /v1/publish {"room":"r","route":"onChat","body":{"msg":"secret"}}`, `POST /v1/close {"room":"r"}`, `POST /v1/drain {"node":"b"}`, `POST /v1/upgrade {}`} {
		parts := strings.SplitN(request, " ", 3)
		r := httptest.NewRequest(parts[0], "http://pomelod"+parts[1], strings.NewReader(parts[2]))
		r.Header.Set("Content-Type", "application/json")
		r = r.WithContext(context.WithValue(r.Context(), whoKey{}, "ann"))
		handler(src).ServeHTTP(httptest.NewRecorder(), r)
	}
	want := []string{
		"done for an operator who=ann what=kick name=x address= uid= all=false room= reason=bye count=3",
		"done for an operator who=ann what=publish room=r user= uid= all=false route=onChat mid= bytes=16 count=3",
		"an operator's request was not carried out who=ann what=close room=r reason= err=reason: must be 1 to 1024 bytes; clients are shown it",
		"done for an operator who=ann what=drain node=b state=draining",
		"done for an operator who=ann what=upgrade result=process 7 has taken over",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// openAPI is what the test below reads of docs/openapi.json.
type openAPI struct {
	OpenAPI    string                          `json:"openapi"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct{ Name, In string }
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct{ Content map[string]media }
}

type media struct{ Schema schema }

type schema struct {
	Ref                  string            `json:"$ref"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties any               `json:"additionalProperties"`
}

// fieldsOf are the members of a Go struct's JSON, sorted.
func fieldsOf(v any) (names []string) {
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for i := range t.NumField() {
			if f := t.Field(i); f.Anonymous {
				walk(f.Type)
			} else {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				names = append(names, name)
			}
		}
	}
	walk(reflect.TypeOf(v))
	slices.Sort(names)
	return names
}

// docs/openapi.json has every endpoint with its parameters, and no other; its schemas have the members that the server reads and writes.
func TestOpenAPIIsTheServer(t *testing.T) {
	b, err := os.ReadFile("../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc openAPI
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi is %q", doc.OpenAPI)
	}
	described := make(map[string]bool)
	for path, methods := range doc.Paths {
		for method := range methods {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, e := range endpoints {
		name := e.method + " " + e.path
		op := doc.Paths[e.path][strings.ToLower(e.method)]
		if !described[name] || op.Summary == "" || op.OperationID == "" {
			t.Errorf("%s is not described", name)
			continue
		}
		delete(described, name)
		var query []string
		for _, p := range op.Parameters {
			query = append(query, p.Name)
		}
		if !slices.Equal(query, e.query) {
			t.Errorf("%s: parameters %v are described, there are %v", name, query, e.query)
		}
		if _, has := op.RequestBody.Content["application/json"]; has != e.writes() {
			t.Errorf("%s: a body is described: %v", name, has)
		}
		for _, status := range []string{"200", "default"} {
			if op.Responses[status].Content["application/json"].Schema.Ref == "" {
				t.Errorf("%s: the answer %s is not described", name, status)
			}
		}
	}
	for name := range described {
		t.Errorf("%s is described, and there is none", name)
	}
	structs := map[string]any{
		"Stats": Stats{}, "Wait": Wait{}, "Nodes": Nodes{}, "Node": Node{}, "LoopStats": LoopStats{}, "Rooms": Rooms{}, "RoomAnswer": RoomAnswer{}, "Room": Room{}, "Sessions": Sessions{}, "Session": Session{}, "Limits": Limits{}, "Done": Done{},
		"Kick": Kick{}, "Rule": Rule{}, "Rules": Rules{}, "Forbid": Forbid{}, "Reload": Reload{}, "Nothing": struct{}{}, "Publish": Publish{}, "Close": Close{}, "Delete": Delete{}, "Policy": Policy{}, "RoomPolicy": RoomPolicy{}, "Drain": Drain{}, "Drained": Drained{}, "Upgraded": Upgraded{}, "History": History{}, "Error": Error{},
	}
	for name, s := range doc.Components.Schemas {
		v, has := structs[name]
		if !has {
			t.Errorf("schema %s is of nothing", name)
			continue
		}
		delete(structs, name)
		var names []string
		for property := range s.Properties {
			names = append(names, property)
		}
		if slices.Sort(names); !slices.Equal(names, fieldsOf(v)) {
			t.Errorf("schema %s has %v, the server %v", name, names, fieldsOf(v))
		}
	}
	for name := range structs {
		t.Errorf("%s has no schema", name)
	}
}
