//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// TestNames fights over names: many enter under one at once, guess the secret of who has it, and enter, change and leave as fast as
// they can.
func TestNames(t *testing.T) {
	const crowd, guesses = 200, 1000
	scenario{
		name: "names",
		// Without a grace, as it is told at once who has gone; the rate would refuse the guesses before the name's secret does, which is what is judged.
		flags: []string{"-grace", "0", "-enter-rate", "0"},
		attack: func(a *arena) error {
			observer, err := a.inside(200, "tcp", "observer", "names", "")
			if err != nil {
				a.t.Fatal(err)
			}
			guests := make([]*guest, a.n(crowd))
			for i := range guests {
				if guests[i], err = a.listener(i, wires[i%len(wires)]); err != nil {
					a.t.Fatal(err)
				}
			}
			if err := oneWins(observer, guests); err != nil {
				return err
			}
			holder, err := lastWins(observer, guests)
			if err != nil {
				return err
			}
			if err := guessSecrets(a, observer, holder, a.n(guesses)); err != nil {
				return err
			}
			return churnNames(a, observer)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", crowd/10) },
		held: func(d delta) error {
			if err := d.atLeast("pomelod_sessions_replaced_total", crowd/10-1); err != nil {
				return err
			}
			return d.atLeast("pomelod_enters_refused_total", (crowd+guesses)/10-2)
		},
		without: weakness{
			edits: []edit{{"channel/decide.go", "(d.r.Key == 0 || d.state.keys[m] != d.r.Key)", "d.state.keys[m] == 1"}},
			fails: "got the name",
		},
	}.run(t)
}

// atOnce has every guest enter under a name at the same time, and returns those who did.
func atOnce(guests []*guest, name string, more func(i int) string) (in []int, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	start := make(chan bool)
	for i, g := range guests {
		all.Go(func() {
			<-start
			users, failed := g.enter(name, "names", more(i))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case failed != nil:
				err = failed
			case users != nil && !slices.Equal(users, []string{"observer", name}):
				err = fmt.Errorf("%s entered as %s and was told of %q", g.wire, name, users)
			case users != nil:
				in = append(in, i)
			}
		})
	}
	close(start)
	all.Wait()
	return in, err
}

// oneWins has a crowd enter under one name, each with a secret of its own or none: one may, and all others are refused.
func oneWins(observer *guest, guests []*guest) error {
	for _, secrets := range []bool{false, true} {
		in, err := atOnce(guests, "wanted", func(i int) string {
			if !secrets {
				return ""
			}
			return fmt.Sprintf(`,"secret":"my own secret, number %d"`, i)
		})
		if err != nil {
			return err
		}
		if len(in) != 1 {
			return fmt.Errorf("%d of %d got the name", len(in), len(guests))
		}
		winner := guests[in[0]] // goes on under another name, so that this one is free
		if users, err := winner.enter("winner", fmt.Sprint("elsewhere", secrets), ""); err != nil || users == nil {
			return fmt.Errorf("the winner left and was answered %q, %v", users, err)
		}
		for _, want := range []string{"onAdd", "onLeave"} {
			if w, err := observer.next(); err != nil || w.route != want || !strings.Contains(w.body, `"wanted"`) {
				return fmt.Errorf("the observer should have heard %s, but heard %v, %v", want, w, err)
			}
		}
	}
	return nil
}

// lastWins has a crowd with one secret between them enter under one name: each takes the place of the one before, who is told so, and
// nobody else hears of it. The one who is left is returned.
func lastWins(observer *guest, guests []*guest) (holder *guest, err error) {
	in, err := atOnce(guests, "shared", func(int) string { return `,"secret":"` + sharedSecret + `"` })
	if err != nil {
		return nil, err
	}
	if len(in) != len(guests) {
		return nil, fmt.Errorf("only %d of %d had the secret", len(in), len(guests))
	}
	if w, err := observer.next(); err != nil || w.route != "onAdd" {
		return nil, fmt.Errorf("the observer should have heard of one, but heard %v, %v", w, err)
	}
	if err := observer.say(saying{0, routeSend, `{"content":"who is it","target":"shared"}`}); err != nil {
		return nil, err
	}
	for _, g := range guests {
		w, err := g.next()
		switch {
		case err != nil:
			return nil, err
		case w.chat().Msg == "who is it" && holder == nil:
			holder = g
		case w.route != "onKick" || !strings.Contains(w.body, "replaced by a new session of yours"):
			return nil, fmt.Errorf("%s was replaced and told %v", g.wire, w)
		}
	}
	if holder == nil {
		return nil, errors.New("nobody has the name")
	}
	return holder, nil
}

const sharedSecret = "between you and me: 42"

// guessSecrets tries to take a name whose holder has a secret.
func guessSecrets(a *arena, observer, holder *guest, guesses int) error {
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat(sharedSecret, 6)
	wrong := []string{`null`, `true`, `0`, `1`, `""`, `[]`, `{}`, `["` + sharedSecret + `"]`, `{"secret":"` + sharedSecret + `"}`,
		`"` + sharedSecret[:16] + `"`, `"` + sharedSecret + ` "`, `" ` + sharedSecret + `"`, `"` + sharedSecret + `\u0000"`,
		`"` + strings.ToUpper(sharedSecret) + `"`, `"` + long + `"`,
		`"` + strings.Repeat("a", 16) + `"`, `"shared*names0000"`, `-1`, `1e999`, `"\ud800000000000000000"`}
	for i := 0; i < guesses; {
		g, err := a.listener(i%200, wires[i/100%len(wires)])
		if err != nil {
			a.t.Fatal(err)
		}
		for range min(100, guesses) { // as many as a session may enter at once
			secret := wrong[r.IntN(len(wrong))]
			if r.IntN(2) == 0 { // nearly the right one
				b := []byte(sharedSecret)
				b[r.IntN(len(b))] = byte('A' + r.IntN(26))
				secret = `"` + string(b) + `"`
			}
			users, err := g.enter("shared", "names", `,"secret":`+secret)
			if users != nil || err != nil {
				return fmt.Errorf("%s got the name with the secret %s, %v", g.wire, secret, err)
			}
			i++
		}
		g.Close()
	}
	for i, secret := range wrong { // in the handshake
		p, err := a.dial(i)
		if err != nil {
			a.t.Fatal(err)
		}
		err = p.send([]byte(packed(codec.PackageHandshake, `{"sys":{"type":"abuse"},"user":{"secret":`+secret+`}}`)))
		if err == nil {
			_, err = p.pkg()
		}
		if err == nil {
			err = p.send(handshakeAck)
		}
		if err != nil {
			a.t.Fatal(err)
		}
		if answer, err := p.enter("shared", "names"); err != nil || answer != refusedEnter {
			return fmt.Errorf("the secret %s got the name by the handshake: %s, %v", secret, answer, err)
		}
		p.Close()
	}
	if err := holder.say(saying{0, routeSend, `{"content":"still me","target":"*"}`}); err != nil {
		return err
	}
	before, err := observer.hears("still me")
	if err == nil && len(before) > 0 {
		err = fmt.Errorf("while secrets were guessed the observer heard %v", before[0])
	}
	holder.Close()
	if w, failed := observer.next(); err == nil && (failed != nil || w.route != "onLeave") {
		err = fmt.Errorf("the observer should have heard the holder leave, but heard %v, %v", w, failed)
	}
	return err
}

// churnNames enters, takes over, changes and leaves a few names from many connections, and ends them in every way. What the observer
// hears of each name alternates, and in the end the list has who is there.
func churnNames(a *arena, observer *guest) error {
	const fighters, seed = 4, 7
	names := []string{"a", "b"}
	failed := make(chan error)
	end := time.Now().Add(2 * time.Second)
	for i := range fighters {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		go func() {
			err := error(nil)
			for err == nil && time.Now().Before(end) {
				err = fight(a, i, r, names)
			}
			failed <- err
		}()
	}
	var err error
	for range fighters {
		if e := <-failed; e != nil {
			err = fmt.Errorf("seed %d: %w", seed, e)
		}
	}
	if err != nil {
		return err
	}
	// All have gone, and the names are free as soon as the server has noticed.
	want := []string{"observer"}
	for i, name := range names {
		g, err := a.listener(i, "ws")
		if err != nil {
			a.t.Fatal(err)
		}
		var users []string
		waitFor(a.t, "the name "+name+" to be free", func() bool {
			users, err = g.enter(name, "names", "")
			return users != nil || err != nil
		})
		want = append(want, name)
		if err != nil || i == len(names)-1 && !slices.Equal(users, want) {
			return fmt.Errorf("seed %d: after all the room has %q, not %q; %v", seed, users, want, err)
		}
	}
	if err := observer.say(saying{0, routeSend, `{"content":"after all","target":"*"}`}); err != nil {
		return err
	}
	heard, err := observer.hears("after all")
	if err != nil {
		return err
	}
	return balanced(heard, names)
}

// balanced is an error unless everybody came before going and speaking, and is there in the end.
func balanced(heard []word, names []string) error {
	there := make(map[string]bool)
	for i, w := range heard {
		var who struct{ User string }
		_ = json.Unmarshal([]byte(w.body), &who)
		switch {
		case w.route == "onChat" && there[w.chat().From]:
			continue
		case w.route == "onAdd" && !there[who.User], w.route == "onLeave" && there[who.User]:
			there[who.User] = w.route == "onAdd"
			continue
		}
		return fmt.Errorf("%v was heard, %d-th of %d; there are %v", w, i, len(heard), there)
	}
	for _, name := range names {
		if !there[name] {
			return fmt.Errorf("%s is there, but the observer heard it leave; %d things were heard", name, len(heard))
		}
	}
	return nil
}

// fight is one connection's part in the churn.
func fight(a *arena, i int, r *rand.Rand, names []string) error {
	g, err := a.listener(i, []string{"tcp", "ws", "eio4 ws", "eio4 polling"}[i%4])
	if err != nil {
		return err
	}
	defer g.Close()
	for range 1 + r.IntN(4) {
		name, room := names[r.IntN(len(names))], "names"
		if r.IntN(4) == 0 {
			room = "elsewhere"
		}
		more := ""
		if r.IntN(2) == 0 {
			more = `,"secret":"the secret of ` + name + ` for all"`
		}
		body := fmt.Sprintf(`{"username":%q,"rid":%q%s}`, name, room, more)
		if r.IntN(3) == 0 { // and away, before the answer
			_ = g.say(saying{1, routeEnter, body}, saying{2, routeSend, `{"content":"bye","target":"*"}`})
			if r.IntN(2) == 0 {
				for _, p := range g.conns() { // by a reset
					_ = p.tcp().SetLinger(0)
				}
			}
			return nil
		}
		users, err := g.enter(name, room, more)
		if errors.Is(err, errWrong) {
			return err
		}
		if err != nil {
			return nil // replaced
		}
		if users != nil && !slices.Contains(users, name) {
			return fmt.Errorf("%s entered as %s and was told of %q", g.wire, name, users)
		}
	}
	return nil
}
