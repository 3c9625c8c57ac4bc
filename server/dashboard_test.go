//go:build linux

package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// pomelod dashboard prints an address; behind it are the page for everybody, and what it asks for with the token; at its end nobody answers there.
func TestDashboardCommand(t *testing.T) {
	a := administer(t)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveDashboard(ctx, &caller{stdout: in}, a.socket, "127.0.0.1:0") }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	page, token, found := strings.Cut(strings.TrimSpace(line), "#token=")
	root, isPage := strings.CutSuffix(page, "dashboard/")
	if !found || !isPage || len(token) < 16 {
		t.Fatalf("it prints %q", line)
	}
	for _, tc := range []struct {
		path, token string
		want        int
	}{{"dashboard/", "", 200}, {"dashboard/dashboard.js", "", 200}, {"v1/rooms", "", 401}, {"v1/rooms", token[1:], 401}, {"v1/rooms", token, 200}, {"metrics", "", 401}} {
		if got := getStatus(t, root+tc.path, tc.token); got != tc.want {
			t.Errorf("%s with %q: %d, want %d", tc.path, tc.token, got, tc.want)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if resp, err := http.Get(page); err == nil {
		resp.Body.Close()
		t.Error("it still answers")
	}

	for _, listen := range []string{"0.0.0.0:0", ":3006", "localhost:3006", "192.0.2.1:0", "3006"} {
		if err := serveDashboard(ctx, &caller{stdout: io.Discard}, a.socket, listen); !errors.As(err, new(settingsError)) {
			t.Errorf("-listen %s: %v", listen, err)
		}
	}
	if err := serveDashboard(ctx, &caller{stdout: io.Discard}, a.socket+".not", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "no pomelod answers") {
		t.Errorf("without a server: %v", err)
	}
}
