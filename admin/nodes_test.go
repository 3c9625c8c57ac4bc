package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

// Nodes are told to whoever asks; a node is drained by a request that no page of the web can make, and only where the server allows it.
func TestNodesAndDrain(t *testing.T) {
	var drained []string
	src := source()
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 404 {
		t.Errorf("without a fleet: %d", w.Code)
	}
	broken := errors.New("it does not turn")
	var failing error
	src.Nodes = func(context.Context) (*Nodes, error) {
		return &Nodes{Asked: "a", View: 3, Nodes: []Node{{Name: "a", Roles: []string{"gate"}, State: "ok"}}}, failing
	}
	post := func(src Source, body string, headers ...string) int {
		r := httptest.NewRequest("POST", "/drain", strings.NewReader(body))
		r.Host = "127.0.0.1:3005"
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		handler(src).ServeHTTP(w, r)
		return w.Code
	}
	if code := post(src, `{"node":"a"}`); code != 403 {
		t.Errorf("where nobody may: %d", code)
	}
	src.Retire = func(_ context.Context, name string) error {
		drained = append(drained, name)
		if name != "a" {
			return errors.New("no such node")
		}
		return nil
	}
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"asked":"a","view":3,"unguarded":0,"nodes":[{"name":"a"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, tc := range []struct {
		body    string
		headers []string
		want    int
	}{
		{`{"node":"a"}`, nil, 202},
		{`{"node":"b"}`, nil, 404},
		{`{"node":""}`, nil, 400},
		{`{`, nil, 400},
		{`{"node":"` + strings.Repeat("x", 5000) + `"}`, nil, 400},
		{`{"node":"a"}`, []string{"Content-Type", "text/plain"}, 415},
		{`{"node":"a"}`, []string{"Origin", "http://evil.example"}, 403},
		{`{"node":"a"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		if code := post(src, tc.body, tc.headers...); code != tc.want {
			t.Errorf("%.40s %q: %d, want %d", tc.body, tc.headers, code, tc.want)
		}
	}
	if got := strings.Join(drained, " "); got != "a b" {
		t.Errorf("asked for %s", got)
	}
	failing = broken
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 503 || !strings.Contains(w.Body.String(), broken.Error()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
