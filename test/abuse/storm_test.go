//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// observer counts who is in its room by what it is told.
type observer struct {
	*peer
	in        map[string]bool
	most      int
	unmatched int // additions of who was in, leaves of who was not
}

// observe reads until it is told of "the end" entering, and everybody else has left.
func (o *observer) observe() error {
	o.in = make(map[string]bool)
	for ended := false; !ended || len(o.in) > 0; {
		got, err := o.pkg()
		if err != nil {
			return fmt.Errorf("the observer, with %d in its room: %w", len(o.in), err)
		}
		if got.Type != codec.PackageData {
			continue
		}
		m, err := codec.ParseMessage(got.Body)
		if err != nil {
			return err
		}
		var change struct{ User string }
		if err := json.Unmarshal(m.Body, &change); err != nil {
			return err
		}
		add := string(m.Route) == "onAdd"
		switch {
		case change.User == "the end":
			ended = ended || add
		case add == o.in[change.User]:
			o.unmatched++
		case add:
			o.in[change.User] = true
		default:
			delete(o.in, change.User)
		}
		o.most = max(o.most, len(o.in))
	}
	return nil
}

// Two hundred clients who go in and out of a room as fast as they may: there are never more in it than may be, nor more rooms, and
// who watches is told of everyone who comes and goes.
func TestStorm(t *testing.T) {
	const clients, turns, roomMembers, rooms = 200, 30, 60, 60
	scenario{
		name:  "storm",
		flags: []string{"-room-members", fmt.Sprint(roomMembers), "-rooms", fmt.Sprint(rooms), "-enter-rate", "0"},
		attack: func(a *arena) error {
			p, err := a.chatter(0, "observer", "storm")
			if err != nil {
				a.t.Fatal(err)
			}
			o := &observer{peer: p}
			observed := make(chan error, 1)
			go func() { observed <- o.observe() }()
			var comers []*peer
			for i := range a.n(clients) {
				p, err := a.dial(i)
				if err == nil {
					err = p.loginBy(i%2 == 1)
				}
				if err != nil {
					a.t.Fatal(err)
				}
				comers = append(comers, p)
			}
			most, err := a.most("pomelod_rooms", func() error {
				return together(len(comers), func(i int) error { return comeAndGo(comers[i], i, turns) })
			})
			if err != nil {
				return err
			}
			last, err := a.login(0)
			if err != nil {
				a.t.Fatal(err)
			}
			for in := false; !in; { // until there is room
				answer, err := last.enter("the end", "storm")
				if err != nil {
					return err
				}
				in = strings.Contains(answer, "users")
			}
			if err := <-observed; err != nil {
				return err
			}
			a.t.Logf("at most %d members, %v rooms", o.most+1, most)
			if o.unmatched > 0 {
				err = errors.Join(err, fmt.Errorf("the observer was told %d times of who was in already, or was not", o.unmatched))
			}
			if o.most+1 > roomMembers {
				err = errors.Join(err, fmt.Errorf("the room had %d members", o.most+1))
			}
			if most > rooms*5/4 { // the figures of two workers are not of the same moment
				err = errors.Join(err, fmt.Errorf("there were %v rooms", most))
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", clients*turns/10) },
		held: func(d delta) error {
			if raceEnabled {
				return nil // there are too few for that
			}
			return errors.Join(d.atLeast(`pomelod_limited_total{reason="room_members"}`, 1), d.atLeast(`pomelod_limited_total{reason="rooms"}`, 1))
		},
		without: weakness{flags: []string{"-room-members", "0", "-rooms", "0"}, fails: "the room had"},
	}.run(t)
}

// comeAndGo enters the observed room and one of its own in turn, and leaves.
func comeAndGo(p *peer, i, turns int) error {
	defer p.Close()
	for range turns {
		for _, room := range []string{"storm", fmt.Sprint("own", i)} {
			if _, err := p.enter(fmt.Sprint("comer", i), room); err != nil {
				return err
			}
		}
	}
	return nil
}

// A program that says fifty things a second is never bothered; who pastes 300 lines at once is told of those that were not sent.
func TestPaste(t *testing.T) {
	const lines, burst = 300, 200
	scenario{
		name:  "paste",
		flags: []string{"-session-rate", "100:400"}, // so that it is the other one that refuses
		attack: func(a *arena) error {
			bot, err := newChatRoom(a, "bots", 2, 100, 100)
			if err != nil {
				a.t.Fatal(err)
			}
			pasted := make(chan error, 1)
			go func() { pasted <- paste(a, lines, burst, "send_rate") }()
			_, err = bot.talk(func() {})
			return errors.Join(err, <-pasted)
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_sends_total", 2*100+burst) },
		held:    func(d delta) error { return d.atLeast(`pomelod_limited_total{reason="send_rate"}`, lines-burst-60) },
		without: weakness{flags: []string{"-send-rate", "0", "-session-rate", "0"}, fails: "pasted 300 lines, of which 300 were sent"},
	}.run(t)
}

// Where members have to wait between two messages, and after entering, who pastes a hundred lines is told why they are refused. Nobody
// watches: slow mode is for all rooms, and a stall of the machine brings what a witness says at once, too.
func TestSlowMode(t *testing.T) {
	const lines = 100
	for _, tc := range []struct {
		name, slow string
		sent       int
	}{{"defended", "1s", 0}, {"undefended", "0", lines}} {
		t.Run(tc.name, func(t *testing.T) {
			a := &arena{t: t, server: start(t, build(t), "-slow-mode", tc.slow)}
			defer a.close()
			before := a.metrics()
			if err := paste(a, lines, tc.sent, "slow_mode"); err != nil {
				t.Error(err)
			}
			if err := (delta{before, a.metrics()}).atLeast(`pomelod_limited_total{reason="slow_mode"}`, float64(lines-tc.sent)*3/4); err != nil {
				t.Error(err)
			}
		})
	}
}

// paste says many things at once, and is an error unless about as many as may be are sent, and the rest are refused for reason.
func paste(a *arena, lines, may int, reason string) error {
	p, err := a.chatter(5, "paster", "pasted")
	if err != nil {
		return err
	}
	var all []byte
	for i := range lines {
		all = append(all, message(uint32(i+2), routeSend, fmt.Sprintf(`{"content":"line %d","target":"*"}`, i))...)
	}
	if err := p.raw(all); err != nil {
		return err
	}
	sent := 0
	for i := range lines {
		answer, err := p.answer(uint32(i + 2))
		if err != nil {
			return err
		}
		switch {
		case answer == `{}`:
			sent++
		case !strings.Contains(answer, fmt.Sprintf(`"reason":%q`, reason)):
			return fmt.Errorf("line %d was answered %s", i, answer)
		}
	}
	if sent < may || sent > may+lines/4 { // a stall lets some more through
		return fmt.Errorf("pasted %d lines, of which %d were sent, not %d", lines, sent, may)
	}
	return nil
}
