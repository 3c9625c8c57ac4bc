package admin

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A page of another site, or one whose name was made to point here, gets nothing of the API, also with a token that is good: not from a browser that has learnt one.
func TestAPIOfForeignPages(t *testing.T) {
	src := withTokens(t)
	api := src.API.(*fakeAPI)
	h := handler(src)
	for name, headers := range map[string][]string{
		"a page whose name points here": {"Host", "evil.example:3005"},
		"a name like an address":        {"Host", "127.0.0.1.evil.example"},
		"another site":                  {"Host", "localhost:3005", "Sec-Fetch-Site", "cross-site"},
		"another port":                  {"Host", "localhost:3005", "Sec-Fetch-Site", "same-site"},
		"another origin":                {"Host", "localhost:3005", "Origin", "https://evil.example"},
		"a page without an origin":      {"Host", "localhost:3005", "Origin", "null"},
	} {
		for _, e := range endpoints {
			r := httptest.NewRequest(e.method, "http://x"+e.path, strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer 0123456789abcdef")
			for i := 0; i < len(headers); i += 2 {
				if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
					r.Host = headers[i+1]
				}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 403 || api.asked != "" || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s %s: %d %s, asked %q", name, e.method, e.path, w.Code, w.Body, api.asked)
			}
		}
	}
}

// A path leads nowhere but to its endpoint; what looks like one in a name is a name.
func TestAPIOfOddPaths(t *testing.T) {
	for _, path := range []string{
		"/v1/kick/", "/v1//kick", "//v1/kick", "/V1/kick", "/v1/kick/../kick", "/v1/../v1/kick", "/v1/kick%2f", "/v1%2fkick", "/v1/%2e%2e/v1/kick", "/v1/kick%00", "/v1/kick;x", `/v1/..\kick`, "/dashboard/../v1/kick",
		"/dashboard/%2e%2e/v1/kick", "/dashboard/..%2fv1%2fkick",
	} {
		a := &fakeAPI{}
		if w := askAPI(a, "POST", path, `{"name":"x","reason":"bye"}`); w.Code == 200 || a.asked != "" {
			t.Errorf("%s: %d %s, asked %q", path, w.Code, w.Body, a.asked)
		}
	}
	for _, name := range []string{"../../etc/passwd", "/", "..", "a/../b", "%2e%2e%2f", "a\x00b", "a?b#c&d=e", "\u202ea\x1b[2J"} {
		a := &fakeAPI{}
		if askAPI(a, "GET", "/v1/room?name="+url.QueryEscape(name), ""); a.asked != fmt.Sprintf("members %q", name) {
			t.Errorf("%q: asked %s", name, a.asked)
		}
	}
}
