//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// Members are replaced by who has their secret, while others speak and enter, in one batch of mail with it: a newcomer begins where its room stands, and
// not where who was replaced stood. So nobody is told that messages were lost, when none was.
func TestEnterBehindReplace(t *testing.T) {
	const rounds, rooms = 4, 60
	scenario{
		name: "enters behind replaces",
		// On the loop of who is replaced and of the newcomer nobody else is of their room. Members stay on the loops to which they came, as those do that poll
		// and those of large rooms.
		flags: []string{"-loops", "3", "-move=false"},
		busy:  "the server is stopped for moments, so that all comes at once",
		attack: func(a *arena) error {
			for round := range rounds {
				if err := a.replaces(fmt.Sprint("replaced", round, "x"), a.n(rooms)); err != nil {
					return err
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sessions_replaced_total", crowd(rounds*rooms)*0.9) },
		held: func(d delta) error {
			return errors.Join(d.atMost("pomelod_gaps_total", 0), d.atMost("pomelod_panics_total", 0))
		},
		without: weakness{
			edits: []edit{{"router/room.go", "(r.seq != it.Seq || r.epoch != it.Epoch)", "r.epoch != it.Epoch"}},
			fails: "messages were lost",
		},
	}.run(t)
}

// replaces fills so many rooms, and has somebody be replaced, somebody speak and somebody enter in each, all at once.
func (a *arena) replaces(name string, rooms int) error {
	type quartet struct{ old, other, next, newcomer *peer } // conns go to the loops in turn: the newcomer has that of the old
	all := make([]quartet, rooms)
	const secret = `{"username":"a","rid":%q,"secret":"0123456789abcdef"}`
	for i := range all {
		q, room := &all[i], fmt.Sprint(name, i)
		for _, p := range []**peer{&q.old, &q.other, &q.next, &q.newcomer} {
			var err error
			if *p, err = a.login(i % 200); err != nil {
				a.t.Fatal(err)
			}
		}
		if answer, err := q.old.ask(routeEnter, fmt.Sprintf(secret, room)); err != nil || usersOf(answer) == nil {
			return fmt.Errorf("an enter was answered %s, %w", answer, err)
		}
		if answer, err := q.other.enter("b", room); err != nil || usersOf(answer) == nil {
			return fmt.Errorf("an enter was answered %s, %w", answer, err)
		}
	}
	if err := a.server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		a.t.Fatal(err)
	}
	defer a.server.cmd.Process.Signal(syscall.SIGCONT)
	a.stopped()
	for i, q := range all {
		room := fmt.Sprint(name, i)
		q.next.id, q.newcomer.id = 1, 1
		if err := errors.Join(q.next.send(message(1, routeEnter, fmt.Sprintf(secret, room))),
			q.other.send(message(0, routeSend, `{"content":"x","target":"*"}`)),
			q.newcomer.send(message(1, routeEnter, fmt.Sprintf(`{"username":"c","rid":%q}`, room)))); err != nil {
			return err
		}
	}
	_ = a.server.cmd.Process.Signal(syscall.SIGCONT)
	for _, q := range all {
		for _, p := range []*peer{q.next, q.newcomer} {
			if answer, err := p.answer(1); err != nil || usersOf(answer) == nil {
				return fmt.Errorf("an enter was answered %s, %w", answer, err)
			}
		}
		if answer, err := q.next.ask(routeSend, `{"content":"y","target":"*"}`); err != nil || answer != "{}" {
			return fmt.Errorf("what was said was answered %s, %w", answer, err)
		}
		for _, p := range []*peer{q.newcomer, q.other} {
			if err := p.hears("y"); err != nil {
				return err
			}
		}
		for _, p := range []*peer{q.old, q.other, q.next, q.newcomer} {
			p.Close()
		}
	}
	return nil
}

// hears reads until something is said in its room; a kick is an error.
func (p *peer) hears(text string) error {
	for {
		got, err := p.pkg()
		if err != nil {
			return err
		}
		switch got.Type {
		case codec.PackageKick:
			return fmt.Errorf("kicked: %s", got.Body)
		case codec.PackageData:
			m, err := codec.ParseMessage(got.Body)
			if err != nil {
				return err
			}
			var chat struct{ Msg string }
			if string(m.Route) == "onChat" {
				if err := json.Unmarshal(m.Body, &chat); err != nil {
					return err
				}
			}
			if chat.Msg == text {
				return nil
			}
		}
	}
}
