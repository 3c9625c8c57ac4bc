//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// foreignHeads are what a browser says with a request that a page of another site makes it send to -admin, wherever that listens.
var foreignHeads = []struct{ name, head string }{
	{"a page whose name points here", "Host: evil.example:3005\r\n"},
	{"a page whose name points here, by its address", "Host: 127.0.0.1.evil.example\r\n"},
	{"a page of another site", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"},
	{"a page of another port", "Host: localhost\r\nSec-Fetch-Site: same-site\r\n"},
	{"a page of an old browser", "Host: localhost\r\nOrigin: https://evil.example\r\n"},
	{"a page without an origin", "Host: localhost\r\nOrigin: null\r\n"},
}

func foreignHeadNames() (names []string) {
	for _, h := range foreignHeads {
		names = append(names, h.name)
	}
	return names
}

// Pages that an operator's browser shows get nothing from -admin, and cost the server nothing; whoever may ask gets one profile at a time, and none for ever.
func TestAdminPages(t *testing.T) {
	const profiles, seconds = 12, 1
	paths := []string{"/metrics", "/readyz", "/livez", "/pid", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/trace?seconds=1", "/debug/pprof/profile?seconds=1"}
	ask := func(a *arena, path, head string) (status int, err error) {
		p, err := dial(attackers+"1", a.admin)
		if err != nil {
			return 0, err
		}
		defer p.reset()
		p.late = soon
		if err := p.raw([]byte("GET " + path + " HTTP/1.1\r\n" + head + "\r\n")); err != nil {
			return 0, err
		}
		status, header, _, err := p.response("GET")
		if err == nil && header.Get("Access-Control-Allow-Origin") != "" {
			err = fmt.Errorf("%s may be read by pages", path)
		}
		return status, err
	}
	scenario{
		name: "admin",
		attack: func(a *arena) error {
			var in []string
			for _, h := range foreignHeads {
				for _, path := range paths {
					status, err := ask(a, path, h.head)
					if err != nil {
						return err
					}
					if status != http.StatusForbidden {
						in = append(in, h.name)
						break
					}
				}
			}
			if len(in) > 0 {
				return errors.New("pages were let in: " + strings.Join(in, ", "))
			}
			const own = "Host: localhost\r\nSec-Fetch-Site: none\r\n"
			if status, err := ask(a, "/debug/pprof/profile?seconds=100000", own); err != nil || status != http.StatusBadRequest {
				return fmt.Errorf("a profile for ever was answered %d, %w", status, err)
			}
			// Each takes a second. So n of them, one after the other, take n.
			var made, refused atomic.Int64
			began := time.Now()
			if err := together(profiles, func(i int) error {
				status, err := ask(a, fmt.Sprint("/debug/pprof/goroutine?seconds=", seconds), own)
				switch {
				case err != nil:
					return err
				case status == http.StatusOK:
					made.Add(1)
				case status == http.StatusTooManyRequests:
					refused.Add(1)
				}
				return nil
			}); err != nil {
				return err
			}
			took := time.Since(began)
			a.t.Logf("%d profiles of a second within %v, %d refused", made.Load(), took, refused.Load())
			if n := made.Load() * seconds; float64(n) > took.Seconds() {
				return fmt.Errorf("%d profiles of a second were made within %v", n, took)
			}
			if made.Load() == 0 || made.Load()+refused.Load() != profiles {
				return fmt.Errorf("of %d profiles %d were made and %d refused", profiles, made.Load(), refused.Load())
			}
			return nil
		},
		landed: func(delta) error { return nil }, // it was answered: no metric counts who asks for metrics
		without: weakness{
			edits: []edit{{"admin/guard.go", "case !known(r.Host, hosts):", "case false:"}, {"admin/guard.go", "case foreign(r):", `case refused == "never":`}},
			fails: "pages were let in: " + strings.Join(foreignHeadNames(), ", "),
		},
		also: []weakness{{
			edits: []edit{{"admin/admin.go", "src.authorized(oneAtATime(profiles))", "src.authorized(profiles)"}},
			fails: "a profile for ever was answered",
		}, {
			edits: []edit{{"admin/guard.go", "defer func() { <-busy }()", "<-busy"}},
			fails: "profiles of a second were made within",
		}},
	}.run(t)
}

// The id of a session is told in a cookie where a generation of clients needs that, and there neither scripts nor other sites' pages get at it.
func TestCookies(t *testing.T) {
	const rounds, proxied = 10, attackers + "9"
	sets := []string{"Engine.IO 3 polling", "Engine.IO 3 JSONP"}
	scenario{
		name:  "cookies",
		flags: []string{"-trusted-proxies", proxied, "-sio-heartbeat", "1s", "-sio-timeout", "1s"},
		attack: func(a *arena) error {
			for round := range a.n(rounds) {
				for _, d := range doors {
					four := d.target == pathPolling+"4" && d.method == "GET" && round == 0 // of which the session is ended below
					if d.lasts && !four {
						continue
					}
					for _, by := range []struct {
						from, head string
						secure     bool
					}{
						{attackers + "1", "", false}, {attackers + "1", "X-Forwarded-Proto: https\r\n", false},
						{proxied, "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n", true},
					} {
						p, err := dial(by.from, a.addr)
						if err != nil {
							a.t.Fatal(err)
						}
						status, header, body, err := p.http(d.method, d.target, "Origin: https://evil.example\r\n"+by.head+d.head)
						if err == nil && four {
							_, rest, _ := strings.Cut(body, `"sid":"`)
							sid, _, _ := strings.Cut(rest, `"`)
							_, _, err = p.request(httpText("POST", d.target+"&sid="+sid, "1"))
						}
						p.reset()
						if err != nil {
							return fmt.Errorf("%s: %w", d.name, err)
						}
						cookies := header.Values("Set-Cookie")
						if want := slices.Contains(sets, d.name); len(cookies) != 1 && want || len(cookies) > 0 && !want {
							return fmt.Errorf("%s was answered %d with cookies %q", d.name, status, cookies)
						}
						for _, c := range cookies {
							if !private(c, by.secure) {
								return fmt.Errorf("%s: a cookie for everybody: %s", d.name, c)
							}
						}
					}
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd(rounds)*float64(len(doors))) },
		without: weakness{
			edits: []edit{{"router/proto_eio.go", "; Path=/; HttpOnly; SameSite=Lax", "; Path=/"}},
			fails: "a cookie for everybody",
		},
		also: []weakness{{
			edits: []edit{{"router/proto_eio.go", "if !rep.cookie {", "if !rep.cookie && rep == nil {"}},
			fails: "with cookies",
		}},
	}.run(t)
	at := "127.0.0.1:" + lowPort(t)
	scenario{
		name:  "cookies over TLS",
		flags: []string{"-tls-self", "-tls-listen", at, "-tls-gate", "none", "-sio-heartbeat", "1s", "-sio-timeout", "1s"},
		attack: func(a *arena) error {
			conn, p, _, err := shakeTLS(attackers+"1", at, nil)
			if err != nil {
				a.t.Fatal(err)
			}
			defer p.Close()
			_, header, _, err := newPeer(conn).http("GET", pathPolling+"3", "")
			if err != nil {
				return err
			}
			if c := header.Get("Set-Cookie"); !private(c, true) {
				return fmt.Errorf("a cookie that is told in the clear: %q", c)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_tls_handshakes_total", 1) },
		without: weakness{
			edits: []edit{{"router/proto_http.go", "rep.tls = s.conn.Secured() || ", "rep.tls = "}},
			fails: "a cookie that is told in the clear",
		},
	}.run(t)
}

// private tells whether a cookie with a session's id is for that server alone.
func private(cookie string, secure bool) bool {
	words := strings.Split(cookie, "; ")
	return strings.HasPrefix(cookie, "io=") && slices.Contains(words, "HttpOnly") && slices.Contains(words, "SameSite=Lax") && slices.Contains(words, "Secure") == secure
}
