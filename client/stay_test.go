//go:build linux

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server/servertest"
)

// stay is a member of a room that comes back.
func stay(t *testing.T, addr string, change func(*client.Stay)) *client.Member {
	t.Helper()
	options := client.Options{Extended: true, User: map[string]string{"secret": "known to this test alone"}}
	s := client.Stay{Dial: func(context.Context) (*client.Client, error) { return options.Dial(addr, timeout) }, User: "bot", Room: "r"}
	if change != nil {
		change(&s)
	}
	m, err := s.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func say(t *testing.T, c *client.Client, text string) {
	t.Helper()
	if err := c.Request("chat.chatHandler.send", map[string]string{"content": text, "target": "*"}, nil); err != nil {
		t.Fatal(err)
	}
}

// heard is the next message that m is told.
func heard(t *testing.T, m *client.Member) string {
	t.Helper()
	for {
		p, err := m.Next()
		if err != nil {
			t.Fatal(err)
		}
		var said struct{ Msg string }
		if p.Route == "onChat" && json.Unmarshal(p.Body, &said) == nil {
			if at := p.Place(); at.Room != "r" || at.Seq == "" || at.Time == 0 {
				t.Fatalf("%s has no place", p.Body)
			}
			return said.Msg
		}
	}
}

// Whoever comes back is told all that was said meanwhile, in order and once, also where that is more than follows an enter; and returns as often as it is cut off.
func TestStayMissesNothing(t *testing.T) {
	addr := servertest.Start(t, nil, "-limits", "off", "-history", "1000")["connector"]
	var returns []client.Entered
	bot := stay(t, addr, func(s *client.Stay) { s.Returned = func(e client.Entered) { returns = append(returns, e) } })
	ann := dial(t, addr)
	if err := enter(ann, "ann"); err != nil {
		t.Fatal(err)
	}
	said, told := 0, 0
	for i, n := range []int{3, 450, 250} {
		say(t, ann, fmt.Sprint(said))
		if said++; heard(t, bot) != fmt.Sprint(told) {
			t.Fatalf("not told %d", told)
		}
		told++
		bot.Client().Close()
		for range n {
			say(t, ann, fmt.Sprint(said))
			said++
		}
		for ; told < said; told++ {
			if got := heard(t, bot); got != fmt.Sprint(told) {
				t.Fatalf("told %s, want %d", got, told)
			}
		}
		if len(returns) != i+1 || !returns[i].Complete {
			t.Fatalf("returns: %+v", returns)
		}
	}
}

// A room with a password is returned to by it, also where the server keeps no places.
func TestStayKnowsThePassword(t *testing.T) {
	a := app.New()
	addr := servertest.Start(t, a, "-grace", "0")["connector"]
	room := a.Room("r").Wait(t.Context())
	if err := room.SetPassword("open sesame"); err != nil {
		t.Fatal(err)
	}
	returns := 0
	bot := stay(t, addr, func(s *client.Stay) {
		s.Password = "open sesame"
		s.Returned = func(client.Entered) { returns++ }
	})
	bot.Client().Close()
	said := make(chan error, 1)
	go func() {
		err := room.Say("server", "hello")
		for late := time.Now().Add(timeout); errors.Is(err, app.ErrAbsent) && time.Now().Before(late); time.Sleep(10 * time.Millisecond) { // until it is back
			err = room.Say("server", "hello")
		}
		said <- err
	}()
	if got := heard(t, bot); got != "hello" || returns != 1 {
		t.Errorf("told %s after %d returns", got, returns)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
}

// Where the room keeps less than was said meanwhile the return says that it is not complete, and what is kept is told.
func TestStayTellsOfAGap(t *testing.T) {
	addr := servertest.Start(t, nil, "-limits", "off", "-history", "20")["connector"]
	complete := true
	bot := stay(t, addr, func(s *client.Stay) { s.Returned = func(e client.Entered) { complete = e.Complete } })
	ann := dial(t, addr)
	if err := enter(ann, "ann"); err != nil {
		t.Fatal(err)
	}
	bot.Client().Close()
	for i := range 50 {
		say(t, ann, fmt.Sprint(i))
	}
	for i := 30; i < 50; i++ {
		if got := heard(t, bot); got != fmt.Sprint(i) {
			t.Fatalf("told %s, want %d", got, i)
		}
	}
	if complete {
		t.Error("30 messages are missing, and it says that none is")
	}
}

// A message that is too long to be kept is missing, though what was said before it is kept.
func TestStayTellsOfAMessageThatIsNotKept(t *testing.T) {
	addr := servertest.Start(t, nil, "-limits", "off", "-history-bytes", "4KiB")["connector"]
	complete := true
	bot := stay(t, addr, func(s *client.Stay) { s.Returned = func(e client.Entered) { complete = e.Complete } })
	ann := dial(t, addr)
	if err := enter(ann, "ann"); err != nil {
		t.Fatal(err)
	}
	say(t, ann, "before")
	heard(t, bot)
	bot.Client().Close()
	for _, text := range []string{"one", strings.Repeat("x", 5000), "two"} {
		say(t, ann, text)
	}
	for _, want := range []string{"one", "two"} {
		if got := heard(t, bot); got != want {
			t.Fatalf("told %.20q, want %q", got, want)
		}
	}
	if complete {
		t.Error("a message is missing, and it says that none is")
	}
}

// A member keeps no connection but its last.
func TestStayForgetsConnections(t *testing.T) {
	addr := servertest.Start(t, nil, "-heartbeat", "0")["connector"]
	bot := stay(t, addr, nil)
	ann := dial(t, addr)
	if err := enter(ann, "ann"); err != nil {
		t.Fatal(err)
	}
	old := weak.Make(bot.Client())
	bot.Client().Close()
	say(t, ann, "are you there?")
	heard(t, bot)
	for end := time.Now().Add(timeout); old.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the first connection is kept")
		}
		time.Sleep(time.Millisecond)
	}
}

// A kick ends a stay, unless it asks to come back.
func TestStayAndKicks(t *testing.T) {
	a := app.New()
	addr := servertest.Start(t, a)["connector"]
	returned := 0
	bot := stay(t, addr, func(s *client.Stay) { s.Returned = func(client.Entered) { returned++ } })
	ann := dial(t, addr)
	if err := enter(ann, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := a.Room("r").Wait(t.Context()).Kick("bot", "messages were lost; please enter again"); err != nil {
		t.Fatal(err)
	}
	say(t, ann, "welcome back")
	if heard(t, bot); returned != 1 {
		t.Errorf("returned %d times", returned)
	}
	if err := a.Room("r").Wait(t.Context()).Kick("bot", "enough"); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := bot.Next()
		if err == nil {
			continue
		}
		var kicked *client.KickedError
		if !errors.As(err, &kicked) || kicked.Reason != "enough" {
			t.Error(err)
		}
		break
	}
}

// So does one before the enter of a return is answered.
func TestStayEndsByAKickWhileItReturns(t *testing.T) {
	a := app.New()
	var enters atomic.Int32
	a.Before("connector.entryHandler.enter", func(c *app.Call) error {
		if enters.Add(1) > 1 {
			c.Session.Kick("enough")
			<-c.Context().Done()
		}
		return nil
	})
	bot := stay(t, servertest.Start(t, a)["connector"], nil)
	bot.Client().Close()
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := bot.Next(); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		var kicked *client.KickedError
		if !errors.As(err, &kicked) || kicked.Reason != "enough" {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Fatal("it goes on after a kick")
	}
}

// Close, and the end of the context, end a stay, also while it tries to come back to a server that is gone.
func TestStayEnds(t *testing.T) {
	addr := servertest.Start(t, nil)["connector"]
	trying := make(chan struct{}, 100)
	gone := func(s *client.Stay) {
		first, dial := true, s.Dial
		s.Dial = func(ctx context.Context) (*client.Client, error) {
			if first {
				first = false
				return dial(ctx)
			}
			trying <- struct{}{}
			return nil, errors.New("gone, as the test wants it")
		}
	}
	bot := stay(t, addr, gone)
	ended := make(chan error, 1)
	go func() {
		_, err := bot.Next()
		ended <- err
	}()
	bot.Client().Close()
	<-trying
	bot.Close()
	select {
	case err := <-ended:
		if err != client.ErrClosed {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Fatal("Next goes on after Close")
	}

	if err := enter(dial(t, addr), "taken"); err != nil {
		t.Fatal(err)
	}
	refused := client.Stay{Dial: func(context.Context) (*client.Client, error) { return client.Dial(addr, timeout) }, User: "taken", Room: "r"}
	if _, err := refused.Enter(t.Context()); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a name that somebody has: %v", err)
	}
	short := client.Stay{Dial: func(context.Context) (*client.Client, error) { return client.Dial(addr, timeout) }, User: "short", Room: "r"}
	ctx, cancel := context.WithCancel(t.Context())
	m, err := short.Enter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = m.Next()
	}
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// An extended client gets bodies as JSON, whatever definitions the server has.
func TestExtendedWithDictionaryAndProtobuf(t *testing.T) {
	addr := servertest.Start(t, nil, "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-config", sample(t))["connector"]
	bot := stay(t, addr, nil)
	if !bot.Client().Extended() {
		t.Fatal("the server does not know of places")
	}
	say(t, bot.Client(), "中😀 <&>")
	if got := heard(t, bot); got != "中😀 <&>" {
		t.Error(got)
	}
	page, err := bot.Client().History("", 0)
	if err != nil || len(page.Messages) != 1 || page.More {
		t.Fatal(page, err)
	}
	var msg string
	if err := json.Unmarshal(page.Messages[0].Msg, &msg); err != nil || msg != "中😀 <&>" {
		t.Error(msg, err)
	}
}
