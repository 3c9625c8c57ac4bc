// Package apptest runs an App for a unit test: the real server, without sockets, files or flags, on any system that Go runs on. Time stands still
// unless the test lets it pass.
//
//	func TestRoll(t *testing.T) {
//		ann := apptest.Start(t, newApp()).Connect()
//		var answer struct{ Dice int }
//		if err := ann.Request("area.areaHandler.roll", map[string]int{"sides": 6}, &answer); err != nil {
//			t.Fatal(err)
//		}
//		if answer.Dice < 1 || answer.Dice > 6 {
//			t.Errorf("rolled %d", answer.Dice)
//		}
//	}
//
// Package servertest starts a whole server with its flags and ports, on Linux.
package apptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/internal/names"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
	"github.com/pomelod/pomelod/router"
)

// timeout is how long a test waits for what must happen, in real time.
const timeout = 30 * time.Second

// Server runs an App until its test ends. Safe from any goroutine.
type Server struct {
	t     testing.TB
	wake  chan struct{} // something is to be done
	done  chan struct{} // closed when nobody turns the loops any more
	clock atomic.Int64  // the server's, in nanoseconds

	mu     sync.Mutex // held while loops turn
	net    *looptest.Net
	node   *router.Node
	ended  bool
	turned sync.Cond // something may have happened

	timing sync.Mutex
	timers map[*timer]struct{} // guarded by timing: of the App, that have not fired
	last   int                 // guarded by timing: number
}

// timer is one of the App's.
type timer struct {
	at     int64 // on the server's clock
	number int   // the older of two comes first
	f      func()
}

// Start runs a until the test ends. Functions of OnStart are called before it returns, those of OnStop at the end of the test. What the server's flags say is as by default: rooms
// keep 64 messages, whoever is cut off keeps its place for 12 s (-grace), names are judged (-names safe). But there are no limits on rates, and no heartbeats; so a program's flags have
// their defaults, too.
func Start(t testing.TB, a *app.App) *Server {
	t.Helper()
	s := &Server{t: t, net: looptest.New(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.turned.L = &s.mu
	limits := router.DefaultLimits()
	limits.IdleSeconds = 24 * 3600 // a test that lets time pass wants to see its own timers
	limits.History = router.History{Messages: 64, Bytes: 64 << 10, Age: 10 * time.Minute}
	limits.Rooms.Grace = 12 * time.Second
	node, err := router.NewNode(router.Config{
		Loops: 2, Limits: limits, Names: names.Safe(nil), App: a, // two: what is only right on one event loop shall show
		Profiles:  []*router.Profile{{Name: "connector", Type: router.Connector}},
		NewDriver: func(int) (netpoll.Driver, error) { return &driver{s.net.Driver(), s}, nil },
		Nanos:     s.clock.Load,
		After:     s.after,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.node = node
	for _, l := range node.Loops() {
		s.net.Attach(l)
	}
	if err := node.StartApp(); err != nil {
		t.Fatal(err)
	}
	go s.run()
	t.Cleanup(s.end)
	return s
}

// driver is a looptest driver that wakes who turns the loops.
type driver struct {
	netpoll.Driver
	s *Server
}

func (d *driver) Ring() {
	d.Driver.Ring()
	d.s.ring()
}

func (s *Server) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run turns the loops whenever something is to be done.
func (s *Server) run() {
	defer close(s.done)
	for range s.wake {
		s.mu.Lock()
		s.net.Settle()
		over := s.ended
		s.mu.Unlock()
		s.turned.Broadcast()
		if over {
			return
		}
	}
}

// end ends the server as SIGTERM does, but at once.
func (s *Server) end() {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s.mu.Lock()
	s.net.EndAll()
	s.mu.Unlock()
	s.ring()
	if err := s.node.Shutdown(ctx); err != nil {
		s.t.Errorf("the server's end: %v", err)
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.ring()
	<-s.done
	s.turned.Broadcast()
	if err := s.node.StopApp(ctx); err != nil {
		s.t.Error(err)
	}
}

// Connect makes a client that has shaken hands. It is closed when the test ends.
func (s *Server) Connect() *Client {
	s.t.Helper()
	c, err := s.TryConnect(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// TryConnect is Connect for a client that gives a user in its handshake, which may be refused: then the error wraps client.ErrRefused.
func (s *Server) TryConnect(user any) (*Client, error) {
	s.mu.Lock()
	loops := s.node.Loops()
	loop := loops[s.net.Unclosed()%len(loops)]
	conn := &conn{s: s, sock: s.net.Connect(loop, 0)}
	s.mu.Unlock()
	s.ring()
	c, err := client.Options{User: user}.New(conn, timeout)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { c.Close() })
	return &Client{Client: c, s: s, conn: conn}, nil
}

// after sets a timer of the App.
func (s *Server) after(d time.Duration, f func()) (stop func() bool) {
	s.timing.Lock()
	defer s.timing.Unlock()
	s.last++
	t := &timer{at: s.clock.Load() + int64(max(d, 0)), number: s.last, f: f}
	if s.timers == nil {
		s.timers = make(map[*timer]struct{})
	}
	s.timers[t] = struct{}{}
	return func() bool {
		s.timing.Lock()
		defer s.timing.Unlock()
		_, waits := s.timers[t]
		delete(s.timers, t)
		return waits
	}
}

// due takes the first timer out that fires by a time; nil if there is none.
func (s *Server) due(by int64) (first *timer) {
	s.timing.Lock()
	defer s.timing.Unlock()
	for t := range s.timers {
		if t.at <= by && (first == nil || t.at < first.at || t.at == first.at && t.number < first.number) {
			first = t
		}
	}
	delete(s.timers, first)
	return first
}

// Advance lets time pass for the server: timers, timeouts of handlers, slow modes, the age of what rooms keep. It counts in whole seconds, of which timers have
// any part, and returns when all that was due has been done but for what goroutines have still to do.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	s.net.Settle()
	for range (d + time.Second - 1) / time.Second {
		second := s.clock.Load() + int64(time.Second)
		for t := s.due(second); t != nil; t = s.due(second) {
			s.clock.Store(max(s.clock.Load(), t.at))
			t.f()
			s.net.Settle()
		}
		s.clock.Store(second)
		s.net.Seconds(1)
	}
	s.mu.Unlock()
	s.turned.Broadcast()
}

// Client is a client of a Server.
type Client struct {
	*client.Client
	s    *Server
	conn *conn
}

// Enter enters a room. The test fails if that is refused.
func (c *Client) Enter(user, room string) {
	c.s.t.Helper()
	if err := c.TryEnter(user, room); err != nil {
		c.s.t.Fatal(err)
	}
}

// TryEnter enters a room; a refusal is an error that wraps client.ErrRefused.
func (c *Client) TryEnter(user, room string) error {
	return c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": room}, nil)
}

// Say says something to everybody in the room. A refusal is an error that wraps client.ErrRefused.
func (c *Client) Say(text string) error {
	return c.Request("chat.chatHandler.send", map[string]string{"content": text, "target": "*"}, nil)
}

// Wait reads pushes until one of route comes, and decodes its body into v, which may be nil. The test fails when none comes in 30 s.
func (c *Client) Wait(route string, v any) {
	c.s.t.Helper()
	if err := c.wait(route, v); err != nil {
		c.s.t.Fatalf("waiting for %s: %v", route, err)
	}
}

func (c *Client) wait(route string, v any) error {
	late := time.AfterFunc(timeout, func() { c.Close() })
	defer late.Stop()
	for {
		p, err := c.Next()
		switch {
		case errors.Is(err, client.ErrClosed):
			return fmt.Errorf("it has not come in %v: %w", timeout, err)
		case err != nil:
			return err
		case p.Route == route && v != nil:
			return json.Unmarshal(p.Body, v)
		case p.Route == route:
			return nil
		}
	}
}

// Cut breaks the connection: the server sees an end without a goodbye. Close is a goodbye.
func (c *Client) Cut() {
	c.conn.cut()
	c.Close()
}
