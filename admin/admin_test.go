package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// source is one in which all is well.
func source() Source {
	return Source{
		Snapshot: func(context.Context) (*router.Snapshot, error) { return &router.Snapshot{}, nil },
		Accepted: func() netpoll.AcceptorStats { return netpoll.AcceptorStats{} },
		Ready:    func() bool { return true },
	}
}

func ask(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// What a page of the web has a browser ask is refused, whatever it asks for; what operators and machines ask is not.
func TestGuard(t *testing.T) {
	src := source()
	src.Profiles, src.Hosts = true, []string{"metrics.example.com"}
	h := handler(src)
	for _, tc := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"an address", []string{"Host", "127.0.0.1:3005"}, 200},
		{"an address without a port", []string{"Host", "10.1.2.3"}, 200},
		{"an address of IPv6", []string{"Host", "[::1]:3005"}, 200},
		{"localhost", []string{"Host", "localhost:3005"}, 200},
		{"a container's name", []string{"Host", "pomelod:3005"}, 200},
		{"a given name", []string{"Host", "Metrics.Example.com:3005"}, 200},
		{"a given name with its dot", []string{"Host", "metrics.example.com.:3005"}, 200},
		{"a page whose name points here", []string{"Host", "evil.example:3005"}, 403},
		{"a name below a given one", []string{"Host", "evil.metrics.example.com"}, 403},
		{"a name like an address", []string{"Host", "127.0.0.1.evil.example:3005"}, 403},
		{"a probe without a host", []string{"Host", ""}, 200},
		{"only a port", []string{"Host", ":3005"}, 403},

		{"an address bar", []string{"Host", "localhost:3005", "Sec-Fetch-Site", "none"}, 200},
		{"a link of our own", []string{"Host", "localhost:3005", "Sec-Fetch-Site", "same-origin"}, 200},
		{"a page of another site", []string{"Host", "localhost:3005", "Sec-Fetch-Site", "cross-site"}, 403},
		{"a page of another port", []string{"Host", "localhost:3005", "Sec-Fetch-Site", "same-site"}, 403},
		{"our own origin", []string{"Host", "localhost:3005", "Origin", "http://localhost:3005"}, 200},
		{"another origin", []string{"Host", "localhost:3005", "Origin", "https://evil.example"}, 403},
		{"another port", []string{"Host", "localhost:3005", "Origin", "http://localhost:8080"}, 403},
		{"a page without an origin", []string{"Host", "localhost:3005", "Origin", "null"}, 403},
	} {
		for _, path := range []string{"/readyz", "/livez", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline"} {
			w := ask(h, path, tc.headers...)
			if w.Code != tc.want {
				t.Errorf("%s: %s answered %d %s", tc.name, path, w.Code, w.Body)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s may be read by pages", tc.name, path)
			}
		}
	}
}

func TestProfilesOnlyIfWanted(t *testing.T) {
	src := source()
	if w := ask(handler(src), "/debug/pprof/cmdline", "Host", "localhost"); w.Code != 404 {
		t.Error(w.Code)
	}
	src.Profiles = true
	if w := ask(handler(src), "/debug/pprof/cmdline", "Host", "localhost"); w.Code != 200 {
		t.Error(w.Code)
	}
}

// While a profile is made no other is; then one may be again.
func TestOneProfileAtATime(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	h := oneAtATime(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-end
	}))
	first := make(chan int)
	for range 2 {
		go func() { first <- ask(h, "/debug/pprof/profile").Code }()
		<-begun
		for range 3 {
			if w := ask(h, "/debug/pprof/trace"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
				t.Errorf("a second one: %d %v", w.Code, w.Header())
			}
		}
		end <- struct{}{}
		if code := <-first; code != 200 {
			t.Error(code)
		}
	}
}

// serve starts a server whose requests and answers have 200 ms.
func serve(t *testing.T) (addr string) {
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	src := source()
	src.Profiles = true
	s := New(ln, src)
	if s.http.ReadTimeout == 0 || s.http.WriteTimeout == 0 || s.http.IdleTimeout == 0 {
		t.Error("something has no deadline")
	}
	s.http.ReadTimeout, s.http.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	s.Serve()
	t.Cleanup(s.Close)
	return s.Addr().String()
}

// dial opens a connection that gives up after a while.
func dial(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// A head that does not end, and a body that does not come, end the connection.
func TestSlowRequestsEnd(t *testing.T) {
	addr := serve(t)
	for _, request := range []string{"", "GET /rea", "GET /readyz HTTP/1.1\r\nHost: localhost\r\n", "GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, request)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%q: %v", request, err)
		}
	}
}

// A profile is as long as it was asked for, however short the time for an answer is; while it is recorded there is no other.
func TestProfileTakesItsTime(t *testing.T) {
	addr, recorded := serve(t), make(chan struct{})
	go func() {
		defer close(recorded)
		for {
			start := time.Now()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.SetDeadline(start.Add(10 * time.Second))
			_, _ = io.WriteString(c, "GET /debug/pprof/trace?seconds=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
			answer, err := io.ReadAll(c)
			c.Close()
			switch {
			case strings.HasPrefix(string(answer), "HTTP/1.0 429"): // one of the others was made just then
				continue
			case err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") || time.Since(start) < time.Second:
				t.Errorf("%.100q, %v, after %v", answer, err, time.Since(start))
			}
			return
		}
	}()
	for refused := false; !refused; {
		other := dial(t, addr)
		_, _ = io.WriteString(other, "GET /debug/pprof/cmdline HTTP/1.0\r\nHost: localhost\r\n\r\n")
		answer, _ := io.ReadAll(other)
		refused = strings.HasPrefix(string(answer), "HTTP/1.0 429")
		select {
		case <-recorded:
			t.Fatal("other profiles were made meanwhile")
		default:
		}
	}
	<-recorded
}

func TestProfilesForEver(t *testing.T) {
	src := source()
	src.Profiles = true
	for _, seconds := range []string{"61", "1e9", "Inf", "NaN", "9999999999999"} {
		if w := ask(handler(src), "/debug/pprof/trace?seconds="+seconds, "Host", "localhost"); w.Code != 400 {
			t.Errorf("%s seconds: %d", seconds, w.Code)
		}
	}
}

// Beyond maxConns connections are closed at once, and a place that is given back is another's.
func TestFewConnections(t *testing.T) {
	addr := serve(t)
	served := func(c net.Conn) bool {
		_, _ = io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		n, _ := c.Read(make([]byte, 1024))
		return n > 0
	}
	var conns []net.Conn
	for i := range maxConns {
		if conns = append(conns, dial(t, addr)); !served(conns[i]) {
			t.Fatalf("connection %d is not served", i)
		}
	}
	if served(dial(t, addr)) {
		t.Fatal("one too many is served")
	}
	conns[0].Close()
	for end := time.Now().Add(10 * time.Second); !served(dial(t, addr)); {
		if time.Now().After(end) {
			t.Fatal("a place was not given back")
		}
	}
}
