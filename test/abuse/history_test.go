//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	routeHistory = "chat.chatHandler.history"
	routeMembers = "chat.chatHandler.members"
)

// pageOf are the messages of a page of history.
func pageOf(answer string) (said []string, err error) {
	var page struct{ Messages []struct{ Msg string } }
	if err := json.Unmarshal([]byte(answer), &page); err != nil || page.Messages == nil {
		return nil, fmt.Errorf("instead of a page: %.100s", answer)
	}
	for _, m := range page.Messages {
		said = append(said, m.Msg)
	}
	return said, nil
}

// Members who ask for all that was said, or for all who are there, again and again, are told little more of it than they may ask for: a page costs an enter,
// and one more for each 16 KiB.
func TestPages(t *testing.T) {
	scan{name: "history scans", route: routeHistory, metric: "pomelod_history_pages_total", asks: 40,
		each: 20/4 + 2, every: 0.5, // 56 KiB cost four; and one that is owed for
	}.scenario().run(t)
	scan{name: "members scans", route: routeMembers, metric: "pomelod_members_pages_total", asks: 100, each: 20 + 1, every: 2}.scenario().run(t)
}

// scan asks for pages.
type scan struct {
	name, route, metric string
	asks                int     // of each reader
	each, every         float64 // pages of each reader at once, and more a second
}

func (sc scan) scenario() scenario {
	const askers, messages, length = 40, 7, 8 << 10
	return scenario{
		name: sc.name,
		busy: "eleven megabytes at once, for attackers who take them",
		late: 100 * time.Millisecond,
		attack: func(a *arena) error {
			speaker, err := a.chatter(0, "speaker", "scanned")
			if err != nil {
				a.t.Fatal(err)
			}
			n := max(4, a.n(askers))
			readers := make([]*peer, n)
			for i := range readers {
				if readers[i], err = a.chatter(1, fmt.Sprint("reader", i), "scanned"); err != nil {
					a.t.Fatal(err)
				}
			}
			for range messages {
				if answer, err := speaker.ask(routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, strings.Repeat("x", length))); err != nil || answer != "{}" {
					return fmt.Errorf("the speaker was answered %s, %w", answer, err)
				}
			}
			before, began := a.metrics()[sc.metric], time.Now()
			var ask []byte
			for id := range uint32(sc.asks) {
				ask = append(ask, message(id+1000, sc.route, `{"limit":200}`)...)
			}
			if err := together(n, func(i int) error {
				if err := readers[i].raw(ask); err != nil {
					return err
				}
				for id := range uint32(sc.asks) {
					if _, err := readers[i].answer(id + 1000); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			took := time.Since(began)
			pages := a.metrics()[sc.metric] - before
			a.t.Logf("%d readers were told %v pages in %v", n, pages, took)
			if pages < float64(n) {
				a.t.Errorf("the attack did not land: %v pages", pages)
			}
			if most := float64(n) * (sc.each + sc.every*(took.Seconds()+1)); pages > most {
				return fmt.Errorf("%v pages were told, more than %.0f", pages, most)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast(sc.metric, 4) },
		held: func(d delta) error {
			return d.atLeast(`pomelod_limited_total{reason="enter_rate"}`, crowd(askers)*float64(sc.asks)/2)
		},
		without: weakness{flags: []string{"-enter-rate", "0"}, fails: "pages were told, more than"},
	}
}

// Who makes rooms and fills them with what is kept does not push out what others' rooms keep: empty rooms go first, then those that keep most. Who pushes out
// what a room of its own keeps, by talking, is not noticed elsewhere; and who returns there is told that something is missing.
func TestHistoryWipes(t *testing.T) {
	const rooms, length, words, pushed = 200, 60 << 10, 5, 70 // four times what may be kept; more than a room keeps
	scenario{
		name:  "history wipes",
		flags: []string{"-history-memory", "3MiB", "-grace", "0"},
		busy:  "what is judged is what is kept",
		attack: func(a *arena) error {
			var keepers []*guest
			for i, wire := range wires {
				g, err := a.guest(i, wire)
				if err == nil {
					err = g.join("keeper", fmt.Sprint("kept", i))
				}
				for n := 0; err == nil && n < words; n++ {
					_, err = g.ask(routeSend, fmt.Sprintf(`{"content":"word %d","target":"*"}`, n))
				}
				if err != nil {
					a.t.Fatal(err)
				}
				keepers = append(keepers, g)
			}
			before := a.metrics()["pomelod_history_forgotten_total"]
			say := message(2, routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, strings.Repeat("x", length)))
			if err := together(4, func(of int) error {
				for i := of; i < rooms; i += 4 {
					p, err := a.chatter(i, "hoarder", fmt.Sprint("hoard", i))
					if err != nil {
						return err
					}
					if err := p.raw(say); err != nil {
						return err
					}
					if _, err := p.answer(2); err != nil {
						return err
					}
					if i%2 == 0 { // the room is empty then
						_ = p.half()
						_, _ = p.gone()
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if forgotten := a.metrics()["pomelod_history_forgotten_total"] - before; forgotten < rooms/2 {
				a.t.Errorf("the attack did not land: %v rooms were forgotten", forgotten)
			}
			var all []error
			for _, g := range keepers {
				answer, err := g.ask(routeHistory, "{}")
				if err != nil {
					return err
				}
				if said, err := pageOf(answer); err != nil || len(said) != words || said[0] != "word 0" {
					all = append(all, fmt.Errorf("what a small room kept has gone (%s): %q, %w", g.wire, said, err))
				}
			}
			return errors.Join(append(all, a.pushedOut(pushed))...)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sends_total", rooms) },
		held:   func(d delta) error { return d.atLeast("pomelod_history_incomplete_total", 1) },
		without: weakness{
			edits: []edit{{"channel/shelves.go", "for i := shelfCount - 1; i > 0; i-- {", "for i := 1; i < shelfCount; i++ {"}},
			fails: "what a small room kept has gone",
		},
		also: []weakness{{
			edits: []edit{{"channel/recall.go", "complete = known && first <= x.Since.Number && lost <= x.Since.Number", "complete = known && first <= x.Since.Number && lost <= d.seq"}},
			fails: "was not told that something is missing",
		}},
	}.run(t)
}

// pushedOut has a member say more than its room keeps while another one is not there, who is told so when it returns.
func (a *arena) pushedOut(words int) error {
	const secret, wire = `,"secret":"the secret of who returns","seq":true`, "eio4 ws"
	pusher, err := a.guest(100, "tcp")
	if err == nil {
		err = pusher.join("pusher", "pushed")
	}
	if err != nil {
		return err
	}
	enter := func(more string) (answer string, err error) {
		g, err := a.guest(101, wire)
		if err == nil {
			answer, err = g.ask(routeEnter, `{"username":"who returns","rid":"pushed"`+secret+more+`}`)
		}
		return answer, err
	}
	answer, err := enter("")
	var in struct{ Seq string }
	if err == nil {
		err = json.Unmarshal([]byte(answer), &in)
	}
	if err != nil || in.Seq == "" {
		return fmt.Errorf("an enter was answered %s, %w", answer, err)
	}
	var all []saying
	for n := range words {
		all = append(all, saying{0, routeSend, fmt.Sprintf(`{"content":"push %d","target":"*"}`, n)})
	}
	if err := pusher.say(append(all, saying{0, routeSend, `{"content":"pushed","target":"*"}`})...); err != nil {
		return err
	}
	if _, err := pusher.hears("pushed"); err != nil {
		return err
	}
	answer, err = enter(fmt.Sprintf(`,"since":%q`, in.Seq)) // in place of the first
	if err != nil || !slices.Equal(usersOf(answer), []string{"pusher", "who returns"}) {
		return fmt.Errorf("a return was answered %s, %w", answer, err)
	}
	if !strings.Contains(answer, `"complete":false`) {
		return fmt.Errorf("who returns was not told that something is missing: %s", answer)
	}
	return nil
}
