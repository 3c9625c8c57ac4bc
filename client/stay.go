package client

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/codec"
)

const routeEnter = "connector.entryHandler.enter"

// Stay says how somebody enters a room, and comes back to it whenever the connection has ended.
type Stay struct {
	// Dial connects: at first, and for each return. It asks the gate for a connector, say, and dials that with Options, which should be Extended and have a secret in User:
	// then the place is kept for whoever knows the secret, and what was said meanwhile is told at the return.
	Dial func(ctx context.Context) (*Client, error)
	// User is the name in the room, Room the room.
	User, Room string
	// Token is shown with each enter where one has to log in; empty: none, or it is in the User of the Options.
	Token string
	// Password is the room's, where a program has given it one; empty: none.
	Password string
	// History is how many messages from before the first enter are told, as far as the room gives them to this client; 200 at most.
	History int
	// Returned is called after each return, by Next, before the pushes that follow; nil: nobody need know.
	Returned func(Entered)
}

// Entered is what an enter was answered.
type Entered struct {
	Users []string `json:"users"` // who is in the room; in a large one the newest
	Count int      `json:"count"` // of a large room: how many are there; else 0
	Seq   string   `json:"seq"`   // how far the room's stream has come; empty if the client is not extended
	// Complete tells, after a return, that every message since the last push is told; else some may be missing.
	Complete bool `json:"complete"`
	Rest     bool `json:"rest"` // more was missed than follows an enter, and pages of history had all of it: Stay reads them first
}

// Member is somebody in a room who comes back after each cut. Safe from any goroutine, but for Next, which one calls at a time.
type Member struct {
	how    Stay
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc

	mu sync.Mutex // guards what follows
	on *Client

	// For Next alone.
	first    Entered
	queue    []Push // are told before what on has
	since    string // the place of the last push that was told
	began    time.Time
	attempts int         // to return, since a connection was stable
	release  func() bool // has ctx let go of on
}

// Enter connects and enters the room. The member stays there until ctx ends or Close is called.
func (s Stay) Enter(ctx context.Context) (*Member, error) {
	m := &Member{how: s}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	entered, err := m.connect()
	if err != nil {
		m.Close()
		return nil, err
	}
	m.first, m.since = entered, entered.Seq
	return m, nil
}

// Entered is what the first enter was answered.
func (m *Member) Entered() Entered { return m.first }

// Client is the connection by now. It may have ended, and then the member has another one soon.
func (m *Member) Client() *Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// Request is that of the connection by now. If that ends before the answer is there, nobody knows whether the request took effect.
func (m *Member) Request(route string, body, reply any) error {
	return m.Client().Request(route, body, reply)
}

// Notify is that of the connection by now.
func (m *Member) Notify(route string, body any) error { return m.Client().Notify(route, body) }

// Close leaves the room. Next that waits fails with ErrClosed.
func (m *Member) Close() error {
	m.cancel(ErrClosed)
	if on := m.Client(); on != nil {
		on.Close()
	}
	return nil
}

// Next waits for the next push. When the connection has ended it comes back first: it connects and enters again, for as long as it takes, with longer and longer pauses between
// attempts, of up to 30 s. What an extended client has missed follows, in order and once. It fails with ErrClosed after Close, with the context's cause when that has ended, and with a
// *KickedError if the server does not want it back.
func (m *Member) Next() (Push, error) {
	for {
		p, err := m.next()
		switch {
		case err == nil:
			if at := p.Place(); at.Room == m.how.Room && at.Seq != "" {
				m.since = at.Seq
			}
			return p, nil
		case m.ctx.Err() != nil:
			return Push{}, context.Cause(m.ctx)
		case sentAway(err):
			return Push{}, err
		}
		if err := m.comeBack(); err != nil {
			return Push{}, err
		}
	}
}

// Invitation ends the reasons of kicks after which a client shall come back at once: the server could not keep its word that each member is told everything.
const Invitation = "; please enter again"

// sentAway tells whether a connection has ended as the server does not want the member back.
func sentAway(err error) bool {
	var kicked *KickedError
	return errors.As(err, &kicked) && !strings.HasSuffix(kicked.Reason, Invitation)
}

// next is the next push of the connection by now.
func (m *Member) next() (p Push, err error) {
	if len(m.queue) > 0 {
		p, m.queue = m.queue[0], m.queue[1:]
		return p, nil
	}
	return m.Client().Next()
}

// stable is how long a connection lasts whose end begins with a short pause.
const stable = 10 * time.Second

// comeBack has the member back in its room.
func (m *Member) comeBack() error {
	if time.Since(m.began) > stable {
		m.attempts = 0
	}
	for {
		pause := min(30*time.Second, time.Second<<min(m.attempts, 5))
		pause = pause/2 + rand.N(pause/2) // those who have lost one server come back one by one
		m.attempts++
		select {
		case <-time.After(pause):
		case <-m.ctx.Done():
			return context.Cause(m.ctx)
		}
		switch entered, err := m.connect(); {
		case err == nil:
			if m.how.Returned != nil {
				m.how.Returned(entered)
			}
			return nil
		case sentAway(err):
			return err
		}
	}
}

// connect makes a connection, and enters the room by it.
func (m *Member) connect() (e Entered, err error) {
	c, err := m.how.Dial(m.ctx)
	if err != nil {
		return e, err
	}
	if m.release != nil {
		m.release() // else ctx would keep each connection that there ever was
	}
	m.release = context.AfterFunc(m.ctx, func() { c.Close() })
	m.began = time.Now()
	ask := struct {
		User    string `json:"username"`
		Room    string `json:"rid"`
		Token   string `json:"token,omitempty"`
		Pass    string `json:"password,omitempty"`
		Since   string `json:"since,omitempty"`
		History int    `json:"history,omitempty"`
	}{m.how.User, m.how.Room, m.how.Token, m.how.Password, m.since, m.how.History}
	if m.since != "" {
		ask.History = 0
	}
	if err = c.Request(routeEnter, ask, &e); err == nil {
		m.mu.Lock()
		m.on = c // not before: a request that came before the enter would be refused
		m.mu.Unlock()
		if m.since != "" && e.Seq != "" && !e.Complete {
			err = m.readMissed(c, &e)
		}
	}
	if err != nil {
		c.Close()
	}
	return e, err
}

// missedPages is how many pages are read of what was missed: what comes meanwhile waits.
const missedPages = 10

// readMissed reads by pages what does not follow the answer to an enter, as that has the newest only.
func (m *Member) readMissed(c *Client, e *Entered) error {
	var (
		missed    []Message // oldest first
		following []Push    // all that the server has sent before the last page, so all that follows the enter
		told      = make(map[string]bool)
		reached   bool // what the member was told before
	)
	for before, pages := e.Seq, 0; pages < missedPages && !reached; pages++ {
		page, err := c.History(before, 200)
		if err != nil && !errors.Is(err, ErrRefused) {
			return err
		}
		for len(c.pushes) > 0 { // after each page, or those of a busy room might be too many
			p := <-c.pushes
			following = append(following, p)
			told[p.Place().Seq] = true
		}
		known := 0
		for known < len(page.Messages) && isUpTo(page.Messages[known].Seq, m.since) {
			known++
		}
		missed = append(page.Messages[known:len(page.Messages):len(page.Messages)], missed...)
		if reached = known > 0; err != nil || !page.More || len(page.Messages) == 0 { // an error: too many pages for now
			break
		}
		before = page.Messages[0].Seq
	}
	var queue []Push
	for _, said := range missed {
		if told[said.Seq] {
			continue
		}
		body, err := json.Marshal(struct {
			Message
			Room string `json:"rid"`
		}{said, m.how.Room})
		if err != nil {
			return err
		}
		queue = append(queue, Push{Route: "onChat", Body: body})
	}
	e.Complete = reached && e.Rest
	m.queue = append(queue, following...)
	m.since = e.Seq // all before it is here
	return nil
}

// isUpTo tells whether a place in a room's stream is another one of the same numbering, or before it.
func isUpTo(seq, other string) bool {
	q, ok1 := codec.ParseSeq(seq)
	of, ok2 := codec.ParseSeq(other)
	return ok1 && ok2 && q.Incarnation == of.Incarnation && q.Number <= of.Number
}
