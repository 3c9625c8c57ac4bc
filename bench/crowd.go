//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const idEnter = 1 // the first request of every member; its messages follow

// crowd is members in rooms, and what they say there.
type crowd struct {
	run     *run
	members []*member
	rooms   []*room
	joined  int
	in      int64 // when the last one was
	pushes  int64 // of any kind
	err     error // why joining failed

	// How they join.
	abreast int           // so many come up at a time
	wait    time.Duration // for what is there in a turn; 0 spins
	inTurn  int           // rooms that members enter in turn; 0: the next one when one is full
	took    histogram     // from connecting to the answer of enter

	// Of the traffic; nil and zero before.
	senders []*sender
	load    *traffic
}

// room is the members that hear each other.
type room struct {
	name    string
	members []*member
	senders []*sender
}

// member is one client that has entered, or is about to.
type member struct {
	crowd   *crowd
	conn    *conn
	name    string
	room    *room
	streams []stream // by the senders of its room
	place   int      // in its room
	begun   int64
	sender  *sender // nil: only listens
	joined  bool
}

// pipeline is how many clients come up at a time: enough to keep a server busy, few enough for its backlog.
const pipeline = 64

func newCrowd(r *run) *crowd { return &crowd{run: r, abreast: pipeline, wait: 100 * time.Millisecond} }

// quiet is how long nothing must have been pushed before a crowd counts as settled.
const quiet = 300 * time.Millisecond

// join brings up members until there are n, size of them in each room, and waits until all is quiet. Joining one room is a push to each member for each one that follows, so O(n²) of them.
func (w *crowd) join(n, size int) error {
	r := w.run
	begun := clock()
	for w.joined < n {
		for len(w.members) < n && len(w.members)-w.joined < w.abreast {
			if err := w.begin(len(w.members), size); err != nil {
				return err
			}
		}
		before := w.joined
		if _, err := r.driver.turn(w.wait); err != nil {
			return err
		}
		switch now := clock(); {
		case w.err != nil:
			return w.err
		case r.faults().void():
			return errors.New("join: " + strings.Join(r.faults().Reasons, "; "))
		case w.joined > before:
			begun = now
			r.progress("joined %d of %d", w.joined, n)
		case now-begun > int64(30*time.Second):
			return fmt.Errorf("join: nothing for 30s; %d of %d had joined", w.joined, n)
		}
	}
	return w.settle()
}

// begin connects member i.
func (w *crowd) begin(i, size int) error {
	n := i / size
	if w.inTurn > 0 {
		n = i % w.inTurn
	}
	for n >= len(w.rooms) {
		w.rooms = append(w.rooms, &room{name: fmt.Sprintf("%s-%d", w.run.tag, len(w.rooms))})
	}
	// Names are equally long, and so are their pushes.
	m := &member{crowd: w, name: fmt.Sprintf("m%05d", i), room: w.rooms[n], place: len(w.rooms[n].members), begun: clock()}
	m.room.members = append(m.room.members, m)
	w.members = append(w.members, m)
	return w.run.connect(i, m)
}

// settle waits until nothing is pushed any more.
func (w *crowd) settle() error {
	w.run.progress("waiting for quiet")
	last, since := w.pushes, clock()
	for {
		if _, err := w.run.driver.turn(50 * time.Millisecond); err != nil {
			return err
		}
		now := clock()
		if w.pushes != last {
			last, since = w.pushes, now
		}
		if now-since > int64(quiet) {
			return nil
		}
	}
}

func (m *member) ready(c *conn) {
	m.conn = c
	c.request(routeEnter, fmt.Appendf(nil, `{"username":%q,"rid":%q}`, m.name, m.room.name))
}

func (m *member) answered(_ *conn, id uint32, body []byte) {
	if m.joined && m.sender != nil && id > idEnter {
		m.sender.answered(id-idEnter, string(body) == "{}")
		return
	}
	if m.joined || id != idEnter {
		m.crowd.run.faults().Strange++
		return
	}
	if !strings.HasPrefix(string(body), `{"users":[`) {
		m.crowd.err = fmt.Errorf("enter of %s answered %.100s", m.name, body)
		return
	}
	m.joined = true
	m.crowd.joined++
	m.crowd.in = m.crowd.run.driver.now
	m.crowd.took.record(m.crowd.in - m.begun)
}

func (m *member) pushed(_ *conn, route, body []byte) {
	w := m.crowd
	w.pushes++
	k, ok := findMark(body)
	if !ok && (string(route) == "onAdd" || string(route) == "onLeave") { // who leaves is counted where its conn ends
		return
	}
	if !ok || k.sender >= len(w.senders) || w.senders[k.sender].member.room != m.room {
		w.run.faults().Strange++
		w.run.faults().reason("push that belongs to no message: %.80q", body)
		return
	}
	s := w.senders[k.sender]
	if m.streams[s.slot].take(k.number, w.run.faults()) {
		w.load.delivered(s, k, w.run.driver.now)
	}
}

// wayOf is how client i comes in.
func (r *run) wayOf(i int) way { return r.entrant.ways[i%len(r.entrant.ways)] }

// connect begins connection number i, to the connector of its way.
func (r *run) connect(i int, cl client) error {
	w := r.wayOf(i)
	to, err := pick(r.target.connectors, w.tls, w.connector)
	if err != nil {
		return fmt.Errorf("-wire %s: connectors: %w", w.name, err)
	}
	_, err = r.driver.connect(i, to, w.wire(), cl)
	return err
}

// connectGate is connect to the gate.
func (r *run) connectGate(i int, cl client) error {
	w := r.wayOf(i)
	to, err := pick(r.target.gates, w.tls, 0)
	if err != nil {
		return fmt.Errorf("-wire %s: gates: %w; perhaps give -gate-addr", w.name, err)
	}
	_, err = r.driver.connect(i, to, w.wire(), cl)
	return err
}
