//go:build linux

package server

import (
	"net/http"
	"testing"
)

// Profiles are there where only this machine can ask for them, or where the operator says so; and pages whose names point here get nothing.
func TestAdminFlags(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	const profile, ready = "/debug/pprof/cmdline", "/metrics"
	for _, tc := range []struct {
		args       []string
		path, host string
		want       int
	}{
		{nil, profile, "", 200},
		{[]string{"-admin", "[::1]:0"}, profile, "", 200},
		{[]string{"-admin", "0.0.0.0:0"}, profile, "", 404},
		{[]string{"-admin", ":0"}, profile, "", 404},
		{[]string{"-admin", ":0"}, ready, "", 200},
		{[]string{"-admin", "0.0.0.0:0", "-pprof"}, profile, "", 200},
		{[]string{"-pprof=false"}, profile, "", 404},
		{nil, ready, "metrics.example.com", 403},
		{[]string{"-admin-hosts", "a.example, metrics.example.com"}, ready, "metrics.example.com", 200},
		{[]string{"-admin-hosts", "a.example, metrics.example.com"}, ready, "evil.example", 403},
	} {
		s := start(t, tc.args...)
		r, err := http.NewRequest("GET", "http://"+s.admin.Addr().String()+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.host != "" {
			r.Host = tc.host
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("%q: %s at %q answered %d", tc.args, tc.path, r.Host, resp.StatusCode)
		}
	}
}

// getStatus is the status of the answer to a GET, with a token if there is one.
func getStatus(t *testing.T, url, token string) int {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
