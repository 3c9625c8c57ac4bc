//go:build linux

package client_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server/servertest"
)

const timeout = 30 * time.Second

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

// A client reads who is in its room by pages.
func TestMembers(t *testing.T) {
	addr := servertest.Start(t, nil, "-list", "2")["connector"]
	var clients []*client.Client
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		c := dial(t, addr)
		if err := enter(c, name); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	var all []string
	for after, pages := "", 1; ; pages++ {
		page, err := clients[1].Members(after, 2)
		if err != nil || page.Count != 5 {
			t.Fatal(page, err)
		}
		all = append(all, page.Users...)
		if after = page.Next; after == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if got := strings.Join(all, " "); got != "a b c d e" {
		t.Errorf("told %s", got)
	}
	if page, err := clients[0].Members("", 0); err != nil || len(page.Users) != 5 || page.Next != "" {
		t.Error(page, err)
	}
	if _, err := clients[0].Members("none.1", 2); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a place of another room: %v", err)
	}
	if _, err := dial(t, addr).Members("", 2); !errors.Is(err, client.ErrRefused) {
		t.Errorf("outside of rooms: %v", err)
	}
}

func TestKickAndCloseEndEverything(t *testing.T) {
	a := app.New()
	addr := servertest.Start(t, a)["connector"]
	kicked, closing := dial(t, addr), dial(t, addr)
	if err := errors.Join(enter(kicked, "a"), enter(closing, "b")); err != nil {
		t.Fatal(err)
	}
	if err := enter(dial(t, addr), "a"); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a taken name: %v", err)
	}
	if err := a.Room("r").Kick("a", "go away"); err != nil {
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

// sample is the configuration of Pomelo's chat sample, and more: an answer and a nested message in protobuf.
func sample(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"dictionary.json": `["onChat","onAdd","onLeave"]`,
		"serverProtos.json": `{"onChat":{"required string msg":1,"required string from":2,"required string target":3},
			"message Point":{"required uInt32 x":1,"optional sInt32 y":2},
			"game.gameHandler.where":{"required Point at":1,"repeated Point path":2,"message Other":{"optional float f":1},"optional Other other":3}}`,
		"clientProtos.json": `{"chat.chatHandler.send":{"required string rid":1,"required string content":2,"required string from":3,"required string target":4},
			"connector.entryHandler.enter":{"required string username":1,"required string rid":2},
			"game.gameHandler.where":{"optional uInt32 depth":1}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sameJSON tells whether two texts mean the same push; escapes may differ.
func sameJSON(a, b []byte) bool {
	var x, y struct{ Route, User, Msg, From, Target string }
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && x == y
}

// A server's dictionary and protobuf definitions make no difference to who uses the client.
func TestDictionaryAndProtobuf(t *testing.T) {
	a := app.New()
	asked := make(chan string, 2) // what the handler was given; it has answered before the client goes on
	a.Handle("game.gameHandler.where", func(c *app.Call) (any, error) {
		asked <- string(c.Body)
		return json.RawMessage(`{"at":{"x":1,"y":-2},"path":[{"x":3},{"x":4}],"other":{"f":0.5}}`), nil
	})
	addr := servertest.Start(t, a, "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-config", sample(t))["connector"]
	c := dial(t, addr)
	if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "a", "rid": "r"}, nil); err != nil {
		t.Fatal(err)
	}
	body := map[string]string{"rid": "r", "content": "中😀 <&>", "from": "a", "target": "*"}
	if err := c.Request("chat.chatHandler.send", body, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []client.Push{{"onChat", []byte(`{"msg":"中😀 <&>","from":"a","target":"*"}`)}, {"onAdd", []byte(`{"route":"onAdd","user":"b"}`)}} {
		p, err := c.Next()
		if err != nil || p.Route != want.Route || !sameJSON(p.Body, want.Body) {
			t.Errorf("%s %s, %v; want %s %s", p.Route, p.Body, err, want.Route, want.Body)
		}
		if want.Route == "onChat" {
			if err := enter(dial(t, addr), "b"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var where json.RawMessage
	if err := c.Request("game.gameHandler.where", map[string]int{"depth": 7}, &where); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != `{"depth":7}` {
		t.Errorf("the server was asked %s", got)
	}
	if want := `{"at":{"x":1,"y":-2},"path":[{"x":3},{"x":4}],"other":{"f":0.5}}`; string(where) != want {
		t.Errorf("got  %s\nwant %s", where, want)
	}
	if err := c.Request("game.gameHandler.where", struct{}{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != `{}` {
		t.Errorf("the server was asked %s", got)
	}
	if err := c.Request("chat.chatHandler.send", map[string]string{"content": "x"}, nil); err == nil || !strings.Contains(err.Error(), "required field missing") {
		t.Errorf("a body without a required field: %v", err)
	}
	if err := c.Request("no.such.route", struct{}{}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a route outside the dictionary: %v", err)
	}
}
