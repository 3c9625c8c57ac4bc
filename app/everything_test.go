//go:build linux

package app_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/server/servertest"
)

// everything is a program that does all that a program can, from handlers, events, timers and goroutines of its own, at the same time.
type everything struct {
	app   *app.App
	count *app.Data[int]
	rooms []string

	mu sync.Mutex
	in map[*app.Session]map[string]bool // rooms, as events tell

	wrong      atomic.Pointer[string]
	away, back atomic.Int64

	begun, done atomic.Int64 // changes of rooms[0]'s data, each of which adds 1 to its N
	read        atomic.Int64 // messages of histories
}

// tally is the data of a room. That of rooms[0] only update changes; in the others set does, too.
type tally struct{ N int64 }

// password is what a client says, and a room may ask for.
const password = "sesame"

func newEverything() *everything {
	a := app.New()
	e := &everything{app: a, count: app.NewData[int](a, "count"), rooms: []string{"r0", "r1", "r2", "r3"}, in: make(map[*app.Session]map[string]bool)}
	flag := a.Flags().Int("least", 1, "`n`")
	a.Handle("a.b.act", e.act)
	a.HandleInline("a.b.inline", e.inline)
	a.Limit("a.b.inline", 1e6, 1e6)
	a.Before("", func(c *app.Call) error {
		e.count.Update(c.Session, func(n *int) { *n += *flag })
		return nil
	})
	a.Before("chat.chatHandler.send", func(c *app.Call) error {
		members, err := c.Members()
		if err != nil {
			return err
		}
		members["content"] = fmt.Sprint(members["content"], e.count.Get(c.Session))
		return c.SetBody(members)
	})
	a.After(func(c *app.Call, _ any, err error) { c.Session.Set("last", fmt.Sprint(c.Route, err)) })
	a.OnHandshake(func(h *app.Handshake) (any, error) {
		var user struct{ Secret string }
		if err := h.Decode(&user); err != nil {
			return nil, err
		}
		h.Session.Set("secret", user.Secret)
		return user.Secret, h.Context().Err()
	})
	a.OnOpen(func(s *app.Session) { e.count.Set(s, 1); s.Bind("everybody") })
	a.OnEnter(func(s *app.Session) {
		e.moved(s, s.Room(), true)
		_ = s.JoinThen(e.rooms[0], nil)
	})
	a.OnJoin(func(s *app.Session, at app.Place) { e.moved(s, at.Room, true) })
	a.OnRename(func(s *app.Session, was app.Place) { _ = s.Push("onRenamed", nil) })
	a.OnAway(func(_ *app.Session, at app.Place) { e.away.Add(1); _ = a.Room(at.Room).Push("onAway", nil) })
	a.OnReturn(func(_ *app.Session, at app.Place) { e.back.Add(1); _ = a.Room(at.Room).Push("onReturn", nil) })
	a.OnLeave(func(s *app.Session, left app.Place, _ app.Why) { e.moved(s, left.Room, false) })
	a.OnClose(func(s *app.Session) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.in[s]) > 0 {
			e.fault("a session has ended in rooms: %v", e.in[s])
		}
		delete(e.in, s)
	})
	a.Carry(func(*app.Session) ([]byte, error) { return nil, errors.New("nothing is upgraded here") }, func(*app.Session, []byte) error { return nil })
	a.OnStart(func() error {
		if _, err := a.Cron("* * * * *", func(context.Context) { _ = a.Broadcast("onMinute", nil) }); err != nil {
			return err
		}
		_, err := a.Every(10*time.Millisecond, e.tick)
		return err
	})
	a.OnStop(func(context.Context) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.in) > 0 {
			e.fault("%d sessions are left", len(e.in))
		}
	})
	return e
}

func (e *everything) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.wrong.CompareAndSwap(nil, &text)
}

// moved notes what an event says, which must be a change.
func (e *everything) moved(s *app.Session, room string, in bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.in[s] == nil {
		e.in[s] = make(map[string]bool)
	}
	if e.in[s][room] == in {
		e.fault("told twice: in %s: %v", room, in)
	}
	if e.in[s][room] = in; !in {
		delete(e.in[s], room)
	}
}

func (e *everything) room() app.Room { return e.app.Room(e.rooms[rand.IntN(len(e.rooms))]) }

// tick asks what can be asked off the loops.
func (e *everything) tick(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = e.app.Leads(ctx, "ticks")
	for range e.app.Rooms(ctx, "r") {
	}
	_, _ = e.app.CountUID(ctx, "everybody")
	for _, s := range e.app.SessionsOf("everybody") {
		_ = fmt.Sprint(s.UID(), s.User(), s.Room(), s.Rooms(), s.Place(), s.Closed(), s.RemoteAddr(), s.Get("last"))
	}
	_, _ = e.app.PushUIDs(e.app.UIDs(), "onTick", nil)
	room := e.room()
	_, _ = room.Count(ctx)
	members, _ := room.Members(ctx)
	for _, m := range members {
		_ = room.PushUser(m.User, "onUser", m.String())
		_ = room.PushExcept(m.User, "onOthers", nil)
	}
	_ = room.PushVolatile("onVolatile", nil)
	_ = room.Wait(ctx).Push("onWaited", nil)
	e.look(ctx, room)
	e.compare(ctx)
}

// set changes one of the things that a program sets of a room.
func (e *everything) set(room app.Room) error {
	switch rand.IntN(6) {
	case 0:
		return room.SetCapacity(4 * rand.IntN(3))
	case 1:
		return room.SetPassword([]string{"", password}[rand.IntN(2)])
	case 2:
		return room.Lock()
	case 3, 4: // more often than it is locked, so that most clients come in
		return room.Unlock()
	default:
		if room.Name() == e.rooms[0] {
			return room.SetCapacity(0)
		}
		return room.SetData(tally{-1})
	}
}

// update adds 1 to the data of one of two rooms, of which one has it set by others meanwhile.
func (e *everything) update(ctx context.Context) error {
	room := e.app.Room(e.rooms[rand.IntN(2)])
	if room.Name() == e.rooms[0] {
		e.begun.Add(1)
	}
	err := app.UpdateData(ctx, room, func(data *tally) error { data.N++; return nil })
	if err == nil && room.Name() == e.rooms[0] {
		e.done.Add(1)
	}
	return err
}

// compare compares the data of rooms[0] with the changes of it: none is lost, and none is made twice.
func (e *everything) compare(ctx context.Context) {
	done := e.done.Load()
	var data tally
	if err := e.app.Room(e.rooms[0]).Data(ctx, &data); err != nil && !errors.Is(err, app.ErrAbsent) {
		return // the server ends
	}
	if begun := e.begun.Load(); data.N < done || data.N > begun {
		e.fault("data of %s: %d after %d to %d changes", e.rooms[0], data.N, done, begun)
	}
}

// look reads what there is to know of a room, and judges it.
func (e *everything) look(ctx context.Context, room app.Room) {
	if info, err := room.Info(ctx); err == nil && (info.Name != room.Name() || info.Capacity%4 != 0 || info.Capacity > 8) {
		e.fault("room %s: %+v", room.Name(), info)
	}
	seen := make(map[string]bool)
	for before := ""; ; { // pages, from the newest to the oldest; all of them together have a message once
		page, more, err := room.History(ctx, app.Range{Before: before, Limit: 20})
		if err != nil {
			return
		}
		for _, m := range page {
			if text := m.Text(); seen[m.Seq] || !strings.HasPrefix(text, "hi") && text != "late" {
				e.fault("history of %s: %s from %s: %q, seen %v", room.Name(), m.Seq, m.From, text, seen[m.Seq])
			}
			seen[m.Seq] = true
			e.read.Add(1)
		}
		if !more || len(page) == 0 {
			return
		}
		before = page[0].Seq
	}
}

// act does one of the things that a session can have done.
func (e *everything) act(c *app.Call) (any, error) {
	s, room := c.Session, e.room()
	var err error
	switch n := rand.IntN(20); n {
	case 0:
		err = s.Enter(c.Context(), app.Place{Room: room.Name()})
	case 1, 2:
		err = s.Join(c.Context(), room.Name())
	case 3:
		err = s.Leave(c.Context(), room.Name())
	case 4:
		err = s.EnterThen(app.Place{Room: room.Name()}, func(error) { _ = s.LeaveThen(room.Name(), nil) })
	case 5:
		err = s.Login(c.Context(), fmt.Sprint("user ", rand.IntN(3)), app.Logins{Most: 1, KickOld: true})
	case 6:
		err = e.app.KickUID(fmt.Sprint("user ", rand.IntN(3)), "go")
	case 7:
		err = room.Kick(s.User(), "go")
	case 8:
		s.Kick("go")
		<-s.Done()
	case 9:
		err = room.SetSlowMode(time.Duration(rand.IntN(2)) * time.Millisecond)
	case 10:
		var timer *app.Timer
		if timer, err = room.AfterFunc(time.Millisecond, func() { _ = room.Say("server", "late") }); err == nil && rand.IntN(2) == 0 {
			timer.Stop()
		}
	case 11:
		_, err = e.app.AfterFunc(time.Millisecond, func(context.Context) { _ = s.Push("onLater", nil) })
	case 12, 13:
		err = e.set(room.Wait(c.Context()))
	case 14, 15:
		for range 5 {
			err = errors.Join(err, e.update(c.Context()))
		}
	case 16:
		e.look(c.Context(), room)
	case 17:
		e.compare(c.Context())
	default:
		for range 20 {
			err = errors.Join(err, room.PushVolatile(fmt.Sprint("onAt", n), nil))
		}
	}
	return nil, err
}

func (e *everything) inline(c *app.Call) (any, error) {
	var body struct{ N int }
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	return body, errors.Join(c.Session.Push("onInline", body), e.room().Say("server", "hi"), e.set(e.room()))
}

// A program does everything at once while its clients enter, speak, rename, switch, are cut off and come back. Each event comes once, and in the end nobody is left. With the race
// detector this is the test that no two of these meet.
func TestEverythingAtOnce(t *testing.T) {
	rng := seed.Rand(t)
	e := newEverything()
	t.Cleanup(func() { // behind the server's end
		if text := e.wrong.Load(); text != nil {
			t.Error(*text)
		}
		if e.back.Load() == 0 || e.away.Load() == 0 { // returns may be more: who was cut off before the answer to its enter was in no room, and has a place
			t.Errorf("%d returns, %d places kept", e.back.Load(), e.away.Load())
		}
		if e.done.Load() == 0 || e.read.Load() == 0 {
			t.Errorf("%d changes of data, %d messages read", e.done.Load(), e.read.Load())
		}
	})
	addr := servertest.Start(t, e.app, "-loops", "3", "-least", "2", "-drain", "0", "-log-level", "error", "-send-rate", "0", "-enter-rate", "0")["connector"]
	var clients sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		clients.Go(func() {
			// Six stays are enough but for chance: go on until somebody was away and has returned, ten times as long at most.
			for n := 0; n < 6 || n < 60 && (e.back.Load() == 0 || e.away.Load() == 0); n++ {
				e.visit(t, addr, fmt.Sprint("c", i), rng)
			}
		})
	}
	clients.Wait()
}

// visit is a client's stay, which ends in one of the ways that there are.
func (e *everything) visit(t *testing.T, addr, name string, rng *rand.Rand) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	c, err := client.Options{User: map[string]string{"secret": "the secret of " + name}, Extended: rng.IntN(2) == 0}.New(conn, 30*time.Second)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	go func() { // it reads what it is told
		for {
			if _, err := c.Next(); err != nil {
				return
			}
		}
	}()
	for range 25 {
		switch rng.IntN(6) {
		case 0:
			_ = c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": e.rooms[rng.IntN(len(e.rooms))], "password": []string{"", password}[rng.IntN(2)]}, nil)
		case 1:
			_ = c.Notify("chat.chatHandler.send", map[string]string{"content": "hi", "target": "*"})
		case 2:
			_ = c.Request("a.b.inline", map[string]int{"n": 1}, nil)
		default:
			_ = c.Request("a.b.act", nil, nil)
		}
	}
	if rng.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0) // a cut
		conn.Close()
	}
}
