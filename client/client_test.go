//go:build linux

package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/router"
	"github.com/pomelod/pomelod/server/servertest"
)

const timeout = 10 * time.Second

func dial(t *testing.T, addr string) *client.Client {
	t.Helper()
	c, err := client.Dial(addr, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func enter(c *client.Client, user string) error {
	return c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": "r"}, nil)
}

// A client that says nothing stays connected by its heartbeats, for longer than the server would wait without.
func TestHeartbeatsKeepAQuietClient(t *testing.T) {
	c := dial(t, servertest.Start(t, nil, "-heartbeat", "1s")["connector"])
	if err := enter(c, "a"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // the time itself is what is tested: without heartbeats the end comes after 3 s
	if err := c.Request("chat.chatHandler.send", map[string]string{"content": "x", "target": "*"}, nil); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Next(); err != nil || p.Route != "onChat" {
		t.Fatal(p, err)
	}
}

func TestKickAndCloseEndEverything(t *testing.T) {
	app := router.NewApp()
	addr := servertest.Start(t, app)["connector"]
	kicked, closing := dial(t, addr), dial(t, addr)
	if err := errors.Join(enter(kicked, "a"), enter(closing, "b")); err != nil {
		t.Fatal(err)
	}
	if err := enter(dial(t, addr), "a"); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a taken name: %v", err)
	}
	if err := app.Kick("r", "a", "go away"); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := kicked.Next()
		if err == nil {
			continue // somebody came or went before
		}
		if !strings.Contains(err.Error(), "go away") {
			t.Error(err)
		}
		break
	}
	if err := enter(kicked, "c"); err == nil {
		t.Error("asked through a connection that is gone")
	}
	closing.Close()
	if err := closing.Notify("a.b.c", nil); err != client.ErrClosed {
		t.Error(err)
	}
}

func TestServersOfferingProtobufAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dictionary.json"), []byte(`["onChat"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := servertest.Start(t, nil, "-listen", "127.0.0.1:0", "-gate", "", "-config", dir)["connector"]
	if _, err := client.Dial(addr, timeout); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Error(err)
	}
}
