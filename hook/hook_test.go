package hook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/auth"
)

// service is a login service that answers as the test says, and the hook that asks it.
func service(t *testing.T, answer http.HandlerFunc) *Hook {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	h, err := New(s.URL + "/login?x=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.CloseIdleConnections)
	return h
}

var login = auth.Login{Token: "t", Name: "al", Room: "r", Address: netip.MustParseAddr("192.0.2.1")}

func TestAnswers(t *testing.T) {
	asked := map[int]bool{400: true, 404: true, 413: true} // nothing is wrong with the service: with the token, or with -auth-url
	var status int
	var body string
	h := service(t, func(w http.ResponseWriter, r *http.Request) {
		var q question
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q != (question{"t", "al", "r", "192.0.2.1"}) || r.Method != "POST" || r.URL.RawQuery != "x=1" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %+v, %v", r.Method, r.URL, q, err)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	for _, tc := range []struct {
		status  int
		body    string
		want    auth.Identity
		refused bool
	}{
		{200, `{"name":"alice"}`, auth.Identity{Name: "alice"}, false},
		{200, `{"name":"alice","rooms":["a","b*"],"uid":"7","until":1800000000.5,"more":1}`, auth.Identity{Name: "alice", Rooms: []string{"a", "b*"}, UID: "7", Until: time.Unix(1_800_000_000, 0)}, false},
		{200, `{"name":"alice","rooms":[]}`, auth.Identity{Name: "alice", Rooms: []string{}}, false},
		{401, ``, auth.Identity{}, true}, {401, strings.Repeat("x", 2*maxAnswer), auth.Identity{}, true},
		{403, `no`, auth.Identity{}, true},
		// Lies, and what is no answer.
		{200, ``, auth.Identity{}, false}, {200, `{}`, auth.Identity{}, false}, {200, `{"name":""}`, auth.Identity{}, false}, {200, `{"name":7}`, auth.Identity{}, false},
		{200, `{"name":"a","rooms":"x"}`, auth.Identity{}, false}, {200, `{"name":"a","until":1800000000000}`, auth.Identity{}, false}, {200, `{"name":"a","until":-1}`, auth.Identity{}, false},
		{200, `{"name":"a","uid":"` + strings.Repeat("u", 256) + `"}`, auth.Identity{}, false},
		{200, `{"name":"a","x":"` + strings.Repeat("x", maxAnswer) + `"}`, auth.Identity{}, false}, {200, `{"name":"a"}` + strings.Repeat(" ", maxAnswer), auth.Identity{}, false},
		{201, `{"name":"a"}`, auth.Identity{}, false}, {302, `{"name":"a"}`, auth.Identity{}, false}, {307, ``, auth.Identity{}, false}, {404, ``, auth.Identity{}, false}, {400, `no JSON`, auth.Identity{}, false}, {413, ``, auth.Identity{}, false}, {429, ``, auth.Identity{}, false}, {500, `{"name":"a"}`, auth.Identity{}, false},
	} {
		status, body, h.failed = tc.status, tc.body, 0
		id, err := h.Authenticate(context.Background(), login)
		if !reflect.DeepEqual(id, tc.want) || (err == nil) != (tc.want.Name != "") || errors.Is(err, auth.ErrRefused) != tc.refused {
			t.Errorf("%d %.40s: %+v, %v", tc.status, tc.body, id, err)
		}
		if failed := h.failed > 0; failed != (err != nil && !tc.refused && !asked[tc.status]) {
			t.Errorf("%d %.40s: counts as failed: %v", tc.status, tc.body, failed)
		}
	}
}

// A service that does not answer is given up after the time that it has; nobody who has gone counts against it.
func TestSlow(t *testing.T) {
	done := make(chan struct{})
	h := service(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-done:
		case <-r.Context().Done():
		}
	})
	defer close(done)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Authenticate(ctx, login); err == nil || h.failed != 0 {
		t.Errorf("%v, %d failures", err, h.failed)
	}
	h.client.Timeout = 50 * time.Millisecond
	if _, err := h.Authenticate(context.Background(), login); err == nil || errors.Is(err, auth.ErrRefused) || h.failed != 1 {
		t.Errorf("%v, %d failures", err, h.failed)
	}
}

// After five failures in a row the service is left alone; then one login tries it, and all others follow when that one was answered.
func TestCircuit(t *testing.T) {
	var asked atomic.Int32
	status := http.StatusInternalServerError
	h := service(t, func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); w.WriteHeader(status) })
	now := time.Unix(0, 0)
	h.now = func() time.Time { return now }
	ask := func() error { _, err := h.Authenticate(context.Background(), login); return err }
	for range 9 {
		_ = ask()
	}
	if n := asked.Load(); n != failures {
		t.Errorf("asked %d times", n)
	}
	now = now.Add(pause)
	if !h.begin() || h.begin() { // the second one comes while the first is asking
		t.Error("not one alone tries it")
	}
	h.end(false)
	if err := ask(); err != errOpen {
		t.Error(err)
	}
	now = now.Add(pause)
	// The one that tries it goes before it has an answer: that says nothing of the service, and the next one tries.
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Authenticate(gone, login); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	status = http.StatusUnauthorized
	for range 3 {
		if err := ask(); !errors.Is(err, auth.ErrRefused) {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != failures+3 {
		t.Errorf("asked %d times", n)
	}
}

// A service closes a connection that was idle at the moment at which it is used: the question is asked once more, under the same key, and nothing counts as failed. A
// connection that was new is not tried again: the question may have been what ended it.
func TestClosedWhileIdle(t *testing.T) {
	var mu sync.Mutex
	used := map[string]int{} // by the far address
	keys := []string{}
	most := 1 // how many questions one connection answers
	h := service(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if used[r.RemoteAddr]++; used[r.RemoteAddr] > most {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		_, _ = w.Write([]byte(`{"name":"alice"}`))
	})
	for range 2 {
		if id, err := h.Authenticate(context.Background(), login); err != nil || id.Name != "alice" {
			t.Fatal(err)
		}
	}
	asked := func() []string { // a handler that has closed the connection may still be at it
		mu.Lock()
		defer mu.Unlock()
		return keys
	}
	if keys := asked(); len(keys) != 3 || keys[0] == keys[1] || keys[1] != keys[2] || len(keys[1]) < 16 {
		t.Errorf("asked with the keys %q", keys)
	}
	h.client.CloseIdleConnections()
	mu.Lock()
	most, keys = 0, nil
	mu.Unlock()
	if _, err := h.Authenticate(context.Background(), login); err == nil || len(asked()) != 1 || h.failed != 1 {
		t.Errorf("%v, asked %d times, %d failures", err, len(asked()), h.failed)
	}
}

func TestDown(t *testing.T) {
	h, err := New("http://127.0.0.1:1/login")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Authenticate(context.Background(), login); err == nil || errors.Is(err, auth.ErrRefused) {
		t.Error(err)
	}
	for _, address := range []string{"", "login", "ftp://x/", "http://", "http://[::1", "//host/login"} {
		if _, err := New(address); err == nil {
			t.Errorf("%q is a URL", address)
		}
	}
}
