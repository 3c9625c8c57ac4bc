//go:build linux

package main

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server"
	"github.com/pomelod/pomelod/server/servertest"
)

// The whole server with its flag: a client shows its token in the handshake, is cut off by a reset, and comes back by the token.
func TestServer(t *testing.T) {
	g := NewGuard()
	addr := servertest.Start(t, g.App(), "-login-key", "sixteen bytes or more")["connector"]
	token := g.Token("ann", time.Now().Add(time.Hour))
	for range 3 {
		conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Options{User: shown(token)}.New(conn, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Dial(addr, 30*time.Second); err != nil {
		t.Errorf("without a token, which may come later: %v", err)
	}
}

// Without a key that is long enough the server does not start.
func TestAKeyIsNeeded(t *testing.T) {
	for _, key := range []string{"", "short"} {
		flags := []string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-login-key", key}
		err := server.Run(t.Context(), NewGuard().App(), flags, func(map[string]net.Addr) { t.Errorf("it has started with the key %q", key) })
		if err == nil || !strings.Contains(err.Error(), "-login-key") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}
