//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// diarist is a guest that talks and listens until it is sent away, and takes down both: what a server owes those who are in when it
// ends is judged by what all of them have.
type diarist struct {
	*guest
	name string

	mu      sync.Mutex
	entered time.Time
	heard   []string // texts, in order
	said    map[string]time.Time
	acked   map[string]time.Time
	waits   map[uint32]string // texts by the ids of requests
	refused []string
	ended   time.Time     // or when it asked for the last time, if it polls: only then it gets something
	end     error         // how
	over    chan struct{} // closed at the end
}

// lateness watches how late this process is at most, which is that of all diarists: what others have said may have waited so long before
// it is read, and the end before it is noticed.
type lateness struct {
	stop chan struct{}
	most chan time.Duration
}

func watchLateness() *lateness {
	l := &lateness{make(chan struct{}), make(chan time.Duration)}
	go func() {
		const step = 5 * time.Millisecond
		most := time.Duration(0)
		for last := time.Now(); ; {
			select {
			case <-l.stop:
				l.most <- most
				return
			case <-time.After(step):
				now := time.Now()
				most, last = max(most, now.Sub(last)-step), now
			}
		}
	}()
	return l
}

// end ends watching. Call it once.
func (l *lateness) end() time.Duration { close(l.stop); return <-l.most }

// partyWires are how diarists come. What each gets as a goodbye is in goodbyes.
var partyWires = []string{"tcp", "ws", "eio4 polling"}

// goodbyes tell whether an end is that of a server that ends in order: the end of the stream, a close frame with code 1001, Engine.IO's
// close packet, or, for a client that has had all there was and held no GET at that moment, an unknown session at its next one.
var goodbyes = map[string]func(end error) bool{
	"tcp": func(end error) bool { return errors.Is(end, io.EOF) },
	"ws":  func(end error) bool { return errors.Is(end, errClosed) && strings.HasSuffix(end.Error(), "close 1001") },
	"eio4 polling": func(end error) bool {
		return errors.Is(end, errClosed) && strings.HasSuffix(end.Error(), "packet 1") ||
			strings.Contains(end.Error(), "answered 400") && strings.Contains(end.Error(), "unknown")
	},
}

// newDiarist enters a room and listens.
func newDiarist(addr, wire, name, room string) (*diarist, error) {
	d := &diarist{guest: newGuest(witnessFrom, addr, wire), name: name, said: make(map[string]time.Time), acked: make(map[string]time.Time),
		waits: make(map[uint32]string), over: make(chan struct{})}
	if s := d.sio(); s != nil {
		s.again = true
	}
	err := d.open()
	if err == nil {
		go d.listen()
		err = d.say(saying{1, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, name, room)})
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// in tells whether it has entered.
func (d *diarist) in() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.entered.IsZero()
}

// talk says something again and again until the end, answered or not; texts are the name and a number.
func (d *diarist) talk(every time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for n := 1; ; n++ {
		select {
		case <-d.over:
			return
		case <-ticks.C:
		}
		text, id := fmt.Sprint(d.name, " ", n), uint32(n+2)
		d.mu.Lock()
		d.said[text], d.waits[id] = time.Now(), text
		d.mu.Unlock()
		_ = d.say(saying{id, routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, text)}) // who is gone hears of it
	}
}

// listen hears until the end, which is the server's.
func (d *diarist) listen() {
	var how error
	for how == nil {
		var w word
		w, how = d.hear(time.Hour)
		switch {
		case how != nil:
		case w.route == "onKick":
			how = fmt.Errorf("%w: %s", errKicked, w.body)
		case w.route == "onChat":
			text, _ := w.chat().Msg.(string) // what is none was not said
			d.mu.Lock()
			d.heard = append(d.heard, text)
			d.mu.Unlock()
		case w.id != 0:
			d.answered(uint32(w.id), w.body)
		}
	}
	d.mu.Lock()
	d.end, d.ended = how, time.Now()
	if s := d.sio(); s != nil {
		d.ended = s.asked
	}
	d.mu.Unlock()
	d.leave()
	close(d.over)
}

// leave closes its connections, without a word.
func (d *diarist) leave() {
	for _, p := range d.conns() {
		p.Close()
	}
}

func (d *diarist) answered(id uint32, body string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch text, asked := d.waits[id]; {
	case id == 1 && usersOf(body) != nil:
		d.entered = time.Now()
	case asked && body == "{}":
		d.acked[text] = time.Now()
	default:
		d.refused = append(d.refused, body)
	}
}
