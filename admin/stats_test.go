package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// Figures of loops and workers are added up.
func TestStats(t *testing.T) {
	s := &router.Snapshot{
		Loops: []router.LoopSnapshot{
			{Net: netpoll.Stats{Conns: 2, BytesRead: 10, BytesWritten: 20, Writes: 3, Delay: 1500 * time.Microsecond, Waits: netpoll.Waits{Count: [16]uint64{1, 2, 15: 3}}}, Requests: 7, Sessions: map[string]int64{"tcp": 1, "websocket": 1}},
			{Net: netpoll.Stats{Conns: 3, BytesRead: 1, Waits: netpoll.Waits{Count: [16]uint64{1: 4}}}, Requests: 1, Sessions: map[string]int64{"tcp": 3}},
		},
		Workers: []router.WorkerSnapshot{{Rooms: 1, Members: 4, Sends: 5, Enters: 6, Leaves: 2}, {Rooms: 2, Members: 1, Away: 1}},
		Limited: map[string]uint64{"ban": 2, "mute": 1}, Refused: map[string]uint64{"origin": 4},
	}
	want := Stats{Scope: "node", Version: "v1", Time: 5000, Connections: 5, Sessions: map[string]int64{"tcp": 4, "websocket": 1}, Rooms: 3, Members: 5, Away: 1, Memory: 5, MemoryBudget: 9,
		Totals: map[string]uint64{"requests": 8, "sends": 5, "enters": 6, "leaves": 2, "writes": 3, "read_bytes": 11, "written_bytes": 20, "limited": 3, "refused": 4},
		Loops:  []LoopStats{{Connections: 2, DelayMS: 1.5, Requests: 7}, {Connections: 3, Requests: 1}}}
	want.Waits = []Wait{{32, 1}, {65, 6}, {131, 0}, {262, 0}, {524, 0}, {1048, 0}, {2097, 0}, {4194, 0}, {8388, 0}, {16777, 0}, {33554, 0}, {67108, 0}, {134217, 0}, {268435, 0}, {536870, 0}, {0, 3}}
	if got := statsOf(s, Process{"v1", Memory{Used: 5, Budget: 9}}, time.UnixMilli(5000)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// What has a mid is published once; what failed may be asked again, and what is old is forgotten.
func TestPublishedOnce(t *testing.T) {
	now := time.UnixMilli(1e12)
	m := &Mids{now: func() time.Time { return now }}
	done, fails := 0, error(nil)
	do := func() (Done, error) {
		if _, err := m.once("a", func() (Done, error) { t.Error("twice at once"); return Done{}, nil }); err != errUnderWay {
			t.Errorf("while it is under way: %v", err)
		}
		done++
		return Done{Scope: ScopeNode, Count: &done}, fails
	}
	fails = app.ErrBusy
	if _, err := m.once("a", do); !errors.Is(err, app.ErrBusy) {
		t.Error(err)
	}
	fails = nil
	for i := range 3 {
		if answer, err := m.once("a", do); err != nil || answer.Repeated != (i > 0) || done != 2 {
			t.Errorf("time %d: %+v, %v, done %d times", i, answer, err, done)
		}
	}
	if now = now.Add(midsFor); must(m.once("a", do)).Repeated {
		t.Error("it is remembered for too long")
	}
	for i := range 2 * midsMost {
		now = now.Add(time.Millisecond)
		must(m.once(fmt.Sprint(i), func() (Done, error) { return Done{Scope: ScopeNode}, nil }))
		if len(m.done) > midsMost {
			t.Fatalf("%d are remembered", len(m.done))
		}
	}
	if !must(m.once(fmt.Sprint(2*midsMost-100), do)).Repeated || must(m.once("a", do)).Repeated {
		t.Error("it is not the oldest that are forgotten")
	}
	for range 2 {
		if must(m.once("", func() (Done, error) { return Done{Scope: ScopeNode}, nil })).Repeated {
			t.Error("what has no mid is no repetition")
		}
	}
}

func must[T any](v T, _ error) T { return v }

// What was published by one way to the API is known at the other.
func TestPublishedOnceByBothWays(t *testing.T) {
	src := withTokens(t)
	src.Mids = new(Mids)
	byTCP := src
	src.local = true
	for i, h := range []http.Handler{handler(src), handler(byTCP)} {
		r := httptest.NewRequest("POST", "http://localhost/v1/publish", strings.NewReader(`{"room":"r","route":"x","body":{},"mid":"1"}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer 0123456789abcdef")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || strings.Contains(w.Body.String(), "repeated") != (i == 1) {
			t.Errorf("way %d: %d %s", i, w.Code, w.Body)
		}
	}
}

// Who made a rule is cut where it is too long, between letters, also in files and what other nodes say.
func TestByIsBounded(t *testing.T) {
	long := strings.Repeat("é", 100)
	r := Rule{Kind: RuleLock, Room: "r", By: long}
	if err := r.Check(); err != nil || r.By != long[:maxBy] {
		t.Errorf("%v, by %q", err, r.By)
	}
	if got := cutBy("a" + long); got != ("a" + long)[:maxBy-1] {
		t.Errorf("cut within a letter: %q", got)
	}
	if got := cutBy("ann (token)"); got != "ann (token)" {
		t.Error(got)
	}
}

// To whom something is published, once for each mid.
func TestPublish(t *testing.T) {
	a := &fakeAPI{}
	handler := func(body string) int { return askAPI(a, "POST", "/v1/publish", body).Code }
	for body, want := range map[string]int{
		`{"room":"r","route":"x","body":{},"mid":"1"}`: 200, `{"uid":"u","route":"x","body":{}}`: 404, `{"uid":"u","room":"r","route":"x","body":{}}`: 400, `{"uid":"u","all":true,"route":"x","body":{}}`: 400,
		`{"route":"x","body":{}}`: 400, fmt.Sprintf(`{"room":"r","route":"x","body":{},"mid":%q}`, string(make([]byte, 200))): 400, `{"user":"` + channel.Everybody + `","route":"x","body":{}}`: 400,
	} {
		if got := handler(body); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}

// What is published to sessions of a fleet is told with how many nodes have done it, and whether they had before; another room, or another name, is another publish, whatever its mid.
func TestPublishInAFleet(t *testing.T) {
	a := &fakeAPI{fleet: true}
	for body, want := range map[string]string{
		`{"user":"x","route":"onX","body":{}}`:                     `{"scope":"fleet","count":7,"nodes":3}`,
		`{"uid":"x","route":"onX","body":{},"mid":"said before"}`:  `{"scope":"fleet","count":7,"nodes":3,"repeated":true}`,
		`{"all":true,"route":"onX","body":{},"mid":"said before"}`: `{"scope":"fleet","count":7,"nodes":3,"repeated":true}`,
	} {
		if w := askAPI(a, "POST", "/v1/publish", body); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("%s: %d %s, want %s", body, w.Code, w.Body, want)
		}
	}
	ids := make(map[string]Publish)
	for _, p := range []Publish{{Room: "a", Mid: "1"}, {Room: "b", Mid: "1"}, {Room: "a", Mid: "2"}, {Room: "a", User: "x", Mid: "1"}, {User: "x", Mid: "1"}, {UID: "x", Mid: "1"}, {All: true, Mid: "1"}} {
		if other, has := ids[p.ID()]; has || p.ID() == "" {
			t.Errorf("%+v has the id of %+v, %q", p, other, p.ID())
		}
		ids[p.ID()] = p
	}
	if id := (&Publish{All: true}).ID(); id != "" {
		t.Errorf("without a mid it has the id %s", id)
	}
}
