package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/web"
)

// withTokens is a source that answers the API with a token.
func withTokens(t *testing.T) Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("ann 0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	src := source()
	var err error
	if src.Tokens, err = ReadTokens(path); err != nil {
		t.Fatal(err)
	}
	src.API = &fakeAPI{}
	return src
}

// The page is where the API is, and under a policy that allows nothing from elsewhere; other sites, foreign names and frames are kept out.
func TestDashboard(t *testing.T) {
	src := source()
	if w := ask(handler(src), DashboardPath, "Host", "localhost"); w.Code != 404 {
		t.Errorf("without an API: %d", w.Code)
	}
	src = withTokens(t)
	h := handler(src)
	for _, f := range web.Dashboard() {
		w := ask(h, f.Path, "Host", "localhost")
		if w.Code != 200 || w.Body.String() != string(f.Body) || w.Header().Get("Content-Type") != f.ContentType {
			t.Errorf("%s: %d %v", f.Path, w.Code, w.Header())
		}
		if policy := w.Header().Get("Content-Security-Policy"); (policy == web.DashboardPolicy) != (f.Path == DashboardPath) {
			t.Errorf("%s: the policy is %q", f.Path, policy)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": ""} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", f.Path, name, got, want)
			}
		}
		for _, foreign := range [][]string{
			{"Host", "localhost", "Sec-Fetch-Site", "cross-site"}, {"Host", "localhost", "Origin", "https://evil.example"}, {"Host", "evil.example"},
		} {
			if w := ask(h, f.Path, foreign...); w.Code != 403 {
				t.Errorf("%s with %v: %d", f.Path, foreign, w.Code)
			}
		}
	}
	for _, path := range []string{"/dashboard/nothing", "/dashboard/../metrics/x", "/chat/"} {
		if w := ask(h, path, "Host", "localhost"); w.Code == 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := ask(h, "/dashboard", "Host", "localhost"); w.Code != 301 || w.Header().Get("Location") != DashboardPath {
		t.Errorf("without its slash: %d %v", w.Code, w.Header())
	}
}

// A window shows the page to anybody, and all else to who has its token. It judges other sites and foreign names itself.
func TestWindow(t *testing.T) {
	src := source()
	src.API = &fakeAPI{}
	ln, err := ListenSocket(filepath.Join(t.TempDir(), "admin.sock"), 0)
	if err != nil {
		t.Fatal(err)
	}
	s := New(ln, src)
	s.Serve()
	defer s.Close()
	down := false
	h := Window("secret", func(ctx context.Context) (net.Conn, error) {
		if down {
			return nil, os.ErrNotExist
		}
		return new(net.Dialer).DialContext(ctx, "unix", ln.Addr().String())
	}).Handler
	kick := func(headers ...string) int {
		r := httptest.NewRequest(http.MethodPost, "/v1/kick", strings.NewReader(`{"name":"x","reason":"bye"}`))
		r.Host = "127.0.0.1:3006"
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for name, tc := range map[string]struct{ got, want int }{
		"the page":                   {ask(h, DashboardPath, "Host", "127.0.0.1:3006").Code, 200},
		"a script":                   {ask(h, "/dashboard/api.js", "Host", "127.0.0.1:3006").Code, 200},
		"the page, for another site": {ask(h, DashboardPath, "Host", "127.0.0.1:3006", "Sec-Fetch-Site", "cross-site").Code, 403},
		"the page, by a bound name":  {ask(h, DashboardPath, "Host", "evil.example:3006").Code, 403},
		"rooms":                      {ask(h, "/v1/rooms", "Host", "127.0.0.1:3006").Code, 401},
		"rooms with a wrong token":   {ask(h, "/v1/rooms", "Host", "127.0.0.1:3006", "Authorization", "Bearer secre").Code, 401},
		"rooms with the token":       {ask(h, "/v1/rooms", "Host", "127.0.0.1:3006", "Authorization", "Bearer secret").Code, 200},
		"metrics":                    {ask(h, "/metrics", "Host", "127.0.0.1:3006").Code, 401},
		"profiles":                   {ask(h, "/debug/pprof/cmdline", "Host", "127.0.0.1:3006").Code, 401},
		"a way around":               {ask(h, "/dashboard/../v1/rooms", "Host", "127.0.0.1:3006").Code, 307},
		"a kick":                     {kick(), 401},
		"a kick with the token":      {kick("Authorization", "Bearer secret", "Origin", "http://127.0.0.1:3006"), 200},
		"a kick of another site":     {kick("Authorization", "Bearer secret", "Origin", "https://evil.example"), 403},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %d, want %d", name, tc.got, tc.want)
		}
	}
	down = true
	if w := ask(h, "/v1/nodes", "Host", "127.0.0.1:3006", "Authorization", "Bearer secret"); w.Code != 502 && w.Code != 200 { // it may have a connection left
		t.Errorf("without a server: %d %s", w.Code, w.Body)
	}
}

// Of who asks a window for the page without a token the socket is sent no body: it would wait for that, and has few connections.
func TestWindowPassesOnNoBody(t *testing.T) {
	var asked atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if b, err := io.ReadAll(r.Body); err != nil || len(b) > 0 || r.ContentLength != 0 {
			t.Errorf("%s: a body of %d bytes, %q %v", r.URL.Path, r.ContentLength, b, err)
		}
	}))
	defer backend.Close()
	h := Window("secret", func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", backend.Listener.Addr().String())
	}).Handler
	files := web.Dashboard()
	for _, f := range files {
		r := httptest.NewRequest(http.MethodGet, f.Path, strings.NewReader("0123456789"))
		r.Host = "127.0.0.1:3006"
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if got := int(asked.Load()); got != len(files) {
		t.Errorf("%d of %d were asked for", got, len(files))
	}
}
