//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// contrast makes an attack on a server with its defences, which may not fail, and on one without each of some, which must, in the
// way that is named. It is for what ends the server, where scenario is for what it survives.
func contrast(t *testing.T, attack func(t *testing.T, binary string, flags ...string) (failures []string), without ...weakness) {
	t.Run("defended", func(t *testing.T) {
		for _, f := range attack(t, build(t)) {
			t.Error(f)
		}
	})
	if raceEnabled {
		return
	}
	for _, w := range without {
		without := w.mix(t.Name())
		later(t, "undefended: "+w.fails, func(t *testing.T) {
			w.judge(t, attack(t, build(t, without.edits...), w.flags...))
		})
	}
}

// party fills rooms with guests by different wires.
func party(t *testing.T, addr string, rooms, members int) [][]*diarist {
	t.Helper()
	all := make([][]*diarist, rooms)
	for r := range all {
		for i := range members {
			g, err := newDiarist(addr, partyWires[min(i%5/2, 2)], fmt.Sprintf("guest%d-%d", r, i), fmt.Sprint("party", r)) // 2 : 2 : 1
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.leave)
			all[r] = append(all[r], g)
		}
	}
	for _, g := range slices.Concat(all...) {
		waitFor(t, g.name+" to be in", g.in)
	}
	return all
}

// ends waits until all have come to their end, and tells of who has not.
func ends(guests []*diarist, within time.Duration) (failures []string) {
	late := time.After(within)
	for _, g := range guests {
		select {
		case <-g.over:
		case <-late:
			return []string{g.name + " was not sent away"}
		}
	}
	return nil
}

// owed is what the members of a room, all of whom have ended, were owed and did not get: each must have heard what all heard, in one
// order and without gaps, up to its end; and what was acknowledged a moment before that.
func owed(room []*diarist, moment time.Duration) (failures []string) {
	fail := func(format string, args ...any) { failures = append(failures, fmt.Sprintf(format, args...)) }
	longest := room[0].heard
	for _, g := range room {
		if len(g.heard) > len(longest) {
			longest = g.heard
		}
	}
	place := make(map[string]int)
	for i, text := range longest {
		if _, twice := place[text]; twice {
			fail("%q was heard twice", text)
		}
		place[text] = i
	}
	for _, g := range room {
		from := 0
		if len(g.heard) > 0 {
			from = place[g.heard[0]]
		}
		if to := from + len(g.heard); to > len(longest) || !slices.Equal(g.heard, longest[from:to]) {
			fail("%s (%s) heard %d messages with a gap or in another order", g.name, g.wire, len(g.heard))
			continue
		}
		for _, sender := range room {
			for text, at := range sender.acked {
				if i, heard := place[text]; sender.said[text].After(g.entered) && at.Before(g.ended.Add(-moment)) && (!heard || i >= from+len(g.heard)) {
					fail("%s (%s) did not hear %q, which was acknowledged %v before its end", g.name, g.wire, text, g.ended.Sub(at))
				}
			}
		}
	}
	return failures
}

// frozenGuests enter rooms by TCP and WebSocket, and read nothing from then on.
func frozenGuests(t *testing.T, addr string, rooms, members int) {
	t.Helper()
	for r := range rooms {
		for i := range members {
			p, err := dialSmall(witnessFrom, addr)
			if err == nil {
				err = p.loginBy(i%2 == 0)
			}
			if err == nil {
				t.Cleanup(func() { p.Close() })
				_, err = p.enter(fmt.Sprintf("frozen%d-%d", r, i), fmt.Sprint("party", r))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// until has the server's log say something.
func (s *server) until(text string) {
	s.t.Helper()
	waitFor(s.t, text, func() bool { return strings.Contains(s.stderr.String(), text) })
}

// Half the members of busy rooms read nothing, and much waits for them, when SIGTERM comes: pomelod ends with 0 and in time all the same.
func TestEndWithFrozenReaders(t *testing.T) {
	const drain, rooms, frozen, backlog = time.Second, 2, 20, 5 << 20
	contrast(t, func(t *testing.T, binary string, flags ...string) (failures []string) {
		s := start(t, binary, append([]string{"-drain", drain.String(), "-outbound", "64MiB", "-max-buffered", "1GiB", "-limits", "off"}, flags...)...)
		frozenGuests(t, s.addr, rooms, frozen)
		body := fmt.Sprintf(`{"content":%q,"target":"*"}`, strings.Repeat("x", 100<<10))
		for r := range rooms {
			p, err := chatter(witnessFrom, s.addr, "sender", fmt.Sprint("party", r))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			for range 25 { // 2.5 MB to each of the frozen, more than their sockets hold
				if answer, err := p.ask(routeSend, body); err != nil || answer != "{}" {
					t.Fatal(answer, err)
				}
			}
		}
		if err := s.await(atLeast(backlog), "pomelod_unsent_bytes"); err != nil { // what members share counts once
			t.Fatal("the attack did not land: ", err)
		}
		began := time.Now()
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(drain + patience):
			s.kill()
			return []string{"pomelod does not end"}
		}
		if took := time.Since(began); s.err != nil || took > drain+soon {
			failures = append(failures, fmt.Sprintf("pomelod ended with %v after %v", s.err, took))
		}
		return failures
	}, weakness{edits: []edit{{"server/end.go", "context.WithTimeout(context.Background(), s.cfg.drain+drainGrace)", "context.WithCancel(context.Background())"},
		{"netpoll/life.go", "lingerSeconds = 2 ", "lingerSeconds = 60 "}}, fails: "pomelod does not end"})
}

// A second SIGTERM ends pomelod at once, and with 1, however busy it is. Otherwise it ends when the drain is over, and with 0.
func TestSecondSignal(t *testing.T) {
	const drain = 2 * soon
	contrast(t, func(t *testing.T, binary string, flags ...string) (failures []string) {
		s := start(t, binary, append([]string{"-drain", drain.String()}, flags...)...)
		all := party(t, s.addr, 1, 50)
		var talking sync.WaitGroup
		defer talking.Wait()
		for _, g := range all[0][:4] {
			talking.Go(func() { g.talk(20 * time.Millisecond) })
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		s.until(`"msg":"ending"`)
		time.Sleep(200 * time.Millisecond) // what comes within 100 ms of the first is the same signal, twice
		began := time.Now()
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.ended
		if took := time.Since(began); s.cmd.ProcessState.ExitCode() != 1 || took > drain/2 {
			failures = append(failures, fmt.Sprintf("pomelod ended with %v, %v after the second signal", s.cmd.ProcessState, took))
		}
		return failures
	}, weakness{edits: []edit{{"server/end.go", "case time.Since(first) >= sameSignal:", "case false:"}}, fails: "after the second signal"})
}

// SIGTERM while three rooms of 50 are busy, by every wire: clients are sent away one after the other, each with the goodbye of its
// protocol and everything it was owed, and pomelod ends with 0 in time.
func TestEndUnderLoad(t *testing.T) {
	const drain = 2 * time.Second
	contrast(t, func(t *testing.T, binary string, flags ...string) (failures []string) {
		fail := func(format string, args ...any) { failures = append(failures, fmt.Sprintf(format, args...)) }
		s := start(t, binary, append([]string{"-drain", drain.String()}, flags...)...)
		rooms, members := 3, 50
		if raceEnabled {
			rooms, members = 1, 20
		}
		all := party(t, s.addr, rooms, members)
		guests := slices.Concat(all...)
		var talking sync.WaitGroup
		for _, room := range all {
			for i, rate := range []int{50, 50, 50, 50, 10} { // two by TCP, two by WebSocket, one that polls
				talking.Go(func() { room[i].talk(time.Second / time.Duration(rate)) })
			}
		}
		late := watchLateness()
		if err := s.await(atLeast(float64(rooms*150)), "pomelod_sends_total"); err != nil {
			t.Fatal("the attack did not land: ", err)
		}
		began := time.Now()
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		failures = ends(guests, drain+patience)
		<-s.ended
		took, ownLate := time.Since(began), late.end()
		if len(failures) > 0 {
			return failures
		}
		talking.Wait()
		if s.err != nil || took > drain+soon {
			fail("pomelod ended with %v after %v", s.err, took)
		}
		heard, acked := 0, 0
		for _, room := range all {
			for _, g := range room {
				tooLate := ownLate > 100*time.Millisecond && errors.Is(g.end, syscall.ECONNREFUSED) // it polls, and there was no server any more
				if !goodbyes[g.wire](g.end) && !tooLate {
					fail("%s (%s) ended by \"%v\", %v after the signal", g.name, g.wire, g.end, g.ended.Sub(began))
				}
				if len(g.refused) > 0 {
					fail("%s was refused %d times: %s", g.name, len(g.refused), g.refused[0])
				}
				heard, acked = heard+len(g.heard), acked+len(g.acked)
			}
			failures = append(failures, owed(room, 200*time.Millisecond+ownLate)...)
		}
		slices.SortFunc(guests, func(a, b *diarist) int { return a.ended.Compare(b.ended) })
		spread := guests[len(guests)*9/10].ended.Sub(guests[len(guests)/10].ended)
		if spread < drain/2 && !raceEnabled { // a few are sent away faster
			fail("all at once: four fifths were sent away within %v", spread)
		}
		t.Logf("%d heard, %d acknowledged; four fifths were sent away within %v, the end took %v; this process was %v late", heard, acked, spread, took, ownLate)
		return failures
	},
		weakness{flags: []string{"-drain", "0"}, fails: "all at once"},
		weakness{edits: []edit{{"router/drain.go", "		l.endWith(s, reasonShutdown, codec.WSCloseGoingAway, \"server is shutting down\")",
			"		_ = codec.WSCloseGoingAway\n		l.np.Kill(s.conn, reasonShutdown)"}}, fails: "(ws) ended by"},
	)
}
