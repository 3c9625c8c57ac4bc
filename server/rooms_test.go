//go:build linux

package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

func TestRoomsFileIsRead(t *testing.T) {
	for _, tc := range []struct{ file, want string }{
		{``, "EOF"},
		{`{"rooms":[]} x`, "behind"},
		{`{"rooms":[{"match":"a","holds":"1ms"}]}`, `"holds"`},
		{`{"rooms":[{"hold":"1ms"}]}`, "match is missing"},
		{`{"rooms":[{"match":"a*b"}]}`, "at the end only"},
		{`{"rooms":[{"match":"a","hold":"1us"}]}`, "whole milliseconds"},
		{`{"rooms":[{"match":"a","hold":"2s"}]}`, "at most 1s"},
		{`{"rooms":[{"match":"a","hold":"-1ms"}]}`, "hold -1ms"},
		{`{"rooms":[{"match":"a","hold":20}]}`, "hold"},
		{`{"rooms":[{"match":"a","hold":"soon"}]}`, "no time"},
		{`{"rooms":[{"match":"a","slow":"25h"}]}`, "at most 24h"},
		{`{"rooms":[{"match":"a","members":-1}]}`, "must not be negative"},
		{`{"rooms":[{"match":"a","list":-1}]}`, "list -1"},
		{`{"rooms":[{"match":"a","list":"1"}]}`, "list"},
		{`{"rooms":[{"match":"a","grace":"5s"}]}`, "grace 5s: must be 0"},
		{`{"rooms":[{"match":"a","grace":"-1s"}]}`, "grace -1s"},
		{`{"rooms":[{"match":"a","grace":0}]}`, "grace"},
		{`{"rooms":[{"match":"a","enter":"login"}]}`, "must be anyone, or program"},
		{`{"rooms":[{"match":"a","enter":true}]}`, "enter"},
		{`{"rooms":[{"match":"a","history":"all"}]}`, "everyone, present"},
		{`{"rooms":[{"match":"a*"},{"match":"ab"}]}`, `entry 2: match "ab" can never hold`},
		{`{"rooms":[{"match":"*"},{"match":"a*"}]}`, "can never hold"},
		{`{"rooms":[{"match":"a"},{"match":"a"}]}`, "can never hold"},
		{`{"rooms":[` + strings.Repeat(`{"match":"a"},`, maxRoomRules) + `{"match":"a"}]}`, "at most 1000"},
		{strings.Repeat(" ", maxRoomsFile+1), "more than"},
		{`{}`, ""},
		{`{"rooms":[{"match":"ab"},{"match":"a*"},{"match":"*"}]}`, ""},
	} {
		_, err := parseRooms([]byte(tc.file))
		if got := ""; err != nil {
			if got = err.Error(); tc.want == "" || !strings.Contains(got, tc.want) {
				t.Errorf("%.80s: %s; want %q", tc.file, got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("%.80s was accepted; want %q", tc.file, tc.want)
		}
	}
}

// The first entry that a room's name fits holds, and what it does not say is as the flags have it.
func TestRoomPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rooms.json")
	write(t, file, `{"rooms":[
		{"match":"world","hold":"20ms","slow":"0s","history":"none"},
		{"match":"world*","members":0,"locked":true},
		{"match":"duel*","list":7,"grace":"0s","enter":"program"},
		{"match":"open","enter":"anyone"},
		{"match":"*","hold":"5ms","history":"everyone"}]}`)
	c, err := parseFlags([]string{"-rooms-file", file, "-slow-mode", "3s", "-room-members", "50", "-list", "100", "-history-open", "worldly"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for room, want := range map[string]router.Policy{
		"world":   {Members: 50, List: 100, Hold: 20 * time.Millisecond, Readers: channel.ReadersNobody},
		"duels":   {Members: 50, List: 7, Slow: 3 * time.Second, NoGrace: true, Program: true},
		"open":    {Members: 50, List: 100, Slow: 3 * time.Second},
		"world 2": {List: 100, Slow: 3 * time.Second, Locked: true},
		"worldly": {List: 100, Slow: 3 * time.Second, Locked: true, Readers: channel.ReadersEveryone},
		"":        {Members: 50, List: 100, Slow: 3 * time.Second, Hold: 5 * time.Millisecond, Readers: channel.ReadersEveryone},
	} {
		if got := c.rooms.policy(room); got != want {
			t.Errorf("%q: %+v, want %+v", room, got, want)
		}
	}
	if _, err := parseFlags([]string{"-rooms-file", file + "x"}, nil, nil); err == nil || !strings.Contains(err.Error(), "-rooms-file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A reload changes what holds, all of it or nothing.
func TestRoomsAreReloaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rooms.json")
	write(t, file, `{"rooms":[{"match":"vip*","locked":true}]}`)
	a := administer(t, "-rooms-file", file)
	alice := login(t, a.addr("connector"))
	refused := `{"code":500,"error":true,"reason":"room_locked"}`
	if got := alice.enter("alice", "vip 1"); got != refused {
		t.Errorf("alice is answered %s", got)
	}
	write(t, file, `{"rooms":[{"match":"vip*","locked":"no"}]}`)
	if out, code := a.command("reload"); code == 0 || !strings.Contains(out, file) {
		t.Errorf("a broken file: exit %d, %s", code, out)
	}
	if got := alice.enter("alice", "vip 1"); got != refused {
		t.Errorf("after a broken file alice is answered %s", got)
	}
	write(t, file, `{"rooms":[{"match":"lobby","locked":true}]}`)
	if out := a.must("reload"); !strings.Contains(out, "rooms") {
		t.Errorf("reload says %q", out)
	}
	if got := alice.enter("alice", "vip 1"); !strings.Contains(got, `"users"`) {
		t.Errorf("after a reload alice is answered %s", got)
	}
	if got := alice.enter("alice", "lobby"); got != refused {
		t.Errorf("of the lobby alice is answered %s", got)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
