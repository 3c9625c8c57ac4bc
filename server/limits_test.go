//go:build linux

package server

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/router"
)

// -limits chooses defaults; a flag that is given wins, on the command line or by the environment; 0 is no limit in all of them.
func TestPresets(t *testing.T) {
	parse := func(environ []string, args ...string) router.Limits {
		t.Helper()
		c, err := parseFlags(args, environ, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return c.limits
	}
	public := parse(nil)
	if public.SessionRate != (limit.Rate{PerSecond: 100, Burst: 200}) || public.SendRate != (limit.Rate{PerSecond: 60, Burst: 200}) || public.EnterRate != (limit.Rate{PerSecond: 2, Burst: 20}) ||
		public.Flood != 1000 || public.EarlyBytes != 16<<10 || public.EarlyPackages != 64 || public.FirstSeconds != 600 ||
		public.Rooms != (channel.Limits{Members: 100_000, Rooms: 1_000_000, List: 1000, Grace: 12 * time.Second}) {
		t.Errorf("public: %+v", public)
	}
	off := parse(nil, "-limits", "off")
	if off.SessionRate != (limit.Rate{}) || off.SendRate != (limit.Rate{}) || off.EnterRate != (limit.Rate{}) || off.Flood != 0 || off.EarlyBytes != 0 || off.EarlyPackages != 0 ||
		off.FirstSeconds != 0 || off.Rooms != (channel.Limits{List: 1000, Grace: 12 * time.Second}) {
		t.Errorf("off: %+v", off)
	}
	c, err := parseFlags([]string{"-limits=off"}, nil, io.Discard)
	if err != nil || c.budget.bytes != 0 {
		t.Errorf("off: %+v, %v", c.budget, err)
	}
	some := parse([]string{"POMELOD_ROOMS=5", "POMELOD_LIMITS=off"}, "-session-rate", "7", "-slow-mode", "1.5s", "-handshake-bytes", "1KiB")
	off.SessionRate, off.EarlyBytes, off.Rooms = limit.Rate{PerSecond: 7, Burst: 7}, 1024, channel.Limits{Rooms: 5, List: 1000, Grace: 12 * time.Second, Slow: 1500 * time.Millisecond}
	if some != off {
		t.Errorf("got  %+v\nwant %+v", some, off)
	}
	for _, name := range []string{"session-rate", "send-rate", "enter-rate", "flood", "handshake-bytes", "handshake-packages", "first-message-timeout", "room-members", "rooms", "slow-mode", "memory"} {
		c, err := parseFlags([]string{"-" + name, "0"}, nil, io.Discard)
		if err != nil {
			t.Errorf("-%s 0: %v", name, err)
		} else if v := c.flags.Lookup(name).Value.String(); v != "0" && v != "0s" {
			t.Errorf("-%s 0 is printed as %s", name, v)
		}
	}
	c, err = parseFlags([]string{"-send-rate", "2:10", "-memory", "2GiB"}, nil, io.Discard)
	if err != nil || c.limits.SendRate != (limit.Rate{PerSecond: 2, Burst: 10}) || c.budget != (budget{2 << 30, "-memory"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if got := c.flags.Lookup("send-rate").Value.String(); got != "2:10" {
		t.Error(got)
	}
}

// What cannot be is refused with the flag's name.
func TestLimitMistakes(t *testing.T) {
	for _, args := range []string{
		"-limits none", "-limits PUBLIC", "-session-rate fast", "-session-rate 1:", "-session-rate -1", "-session-rate 0:5", "-session-rate 5:0", "-session-rate NaN",
		"-session-rate 1e99", "-session-rate +Inf", "-send-rate 2000000", "-send-rate 0.5:1", "-flood -1", "-flood 70000", "-handshake-bytes -1", "-handshake-bytes x",
		"-handshake-packages 70000", "-first-message-timeout 1ms", "-room-members many", "-rooms -5", "-slow-mode 25h", "-slow-mode 1us", "-slow-mode -1s", "-memory much", "-memory -1",
		"-grace -1s", "-grace 6m", "-grace long", "-history -1", "-history many", "-history 10001", "-history-bytes x", "-history-bytes 2GiB", "-history-age 25h", "-history-age -1s", "-history-memory -1", "-history-open a*b", "-history-open **",
	} {
		list := strings.Fields(args)
		if _, err := parseFlags(list, nil, io.Discard); err == nil || !strings.Contains(err.Error(), list[0]) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// The defaults leave every limit as documented in -help: "0" in none of public's but -slow-mode.
func TestPublicIsNotOff(t *testing.T) {
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"session-rate", "send-rate", "enter-rate", "flood", "handshake-bytes", "handshake-packages", "first-message-timeout", "room-members", "rooms", "memory"} {
		if f := c.flags.Lookup(name); f.DefValue == "0" || f.DefValue == "0s" || f.DefValue != f.Value.String() {
			t.Errorf("-%s: default %s, value %s", name, f.DefValue, f.Value)
		}
	}
}
