package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/filter"
)

// censor is a filter for which a message is "bad" (refused), "broken" (it cannot say), "panic", "slow …" (it waits until it is freed, or gives up), "hung" (it gives up), or has a word
// "darn" that it replaces.
type censor struct {
	free    chan struct{}
	resting atomic.Bool

	mu   sync.Mutex
	said []filter.Said // guarded by mu
}

func (c *censor) judge(ctx context.Context, said filter.Said) (filter.Verdict, error) {
	c.mu.Lock()
	c.said = append(c.said, said)
	c.mu.Unlock()
	content := string(said.Content)
	switch {
	case strings.HasPrefix(content, `"slow`):
		select {
		case <-c.free:
		case <-ctx.Done():
			return filter.Verdict{}, ctx.Err()
		}
	case content == `"hung"`:
		<-ctx.Done()
		return filter.Verdict{}, ctx.Err()
	case content == `"bad"`:
		return filter.Verdict{Refused: true, Content: []byte(`"never"`)}, nil
	case content == `"broken"`:
		return filter.Verdict{Content: []byte(`"never"`)}, errors.New("it is down")
	case content == `"panic"`:
		panic("as the test wants it")
	}
	if strings.Contains(content, "darn") {
		return filter.Verdict{Content: []byte(strings.ReplaceAll(content, "darn", "d*"))}, nil
	}
	return filter.Verdict{}, nil
}

func (c *censor) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.said)
}

func filterRig(t *testing.T, sh shape, pass bool) (*rig, *censor) {
	c := &censor{free: make(chan struct{})}
	return newRig(t, sh, func(cfg *Config) {
		cfg.Filter = Filter{Judge: c.judge, Resting: c.resting.Load, Timeout: time.Minute, AtOnce: 4, Pass: pass}
	}), c
}

const refusedByFilter = `{"code":500,"reason":"filter"}`

// What is said passes, is changed or refused, to a room and to one member, by every hybrid transport, also on another loop and node; what the filter cannot look at
// is refused or said, as was chosen.
func TestFilter(t *testing.T) {
	for _, sh := range []shape{{loops: 1}, {loops: 3, roundTrip: true}, {loops: 2, fleet: "aa"}} {
		for _, pass := range []bool{false, true} {
			t.Run(fmt.Sprint(sh, pass), func(t *testing.T) {
				r, filter := filterRig(t, sh, pass)
				a, b := r.login(atConnector, true), r.login(atConnector, false)
				a.enter("ann", "r")
				b.enter("bob", "r")
				a.take()
				b.take()
				failed := refusedByFilter
				for _, tc := range []struct{ content, target, answer, heard string }{
					{"hello", "*", `{}`, "hello"}, {"oh darn it", "*", `{}`, "oh d* it"}, {"bad", "*", refusedByFilter, ""}, {"darn", "bob", `{}`, "d*"}, {"bad", "bob", refusedByFilter, ""},
					{"broken", "*", "", ""}, {"panic", "*", "", ""},
				} {
					answer, heard := tc.answer, tc.heard
					if answer == "" {
						if answer = failed; pass {
							answer, heard = `{}`, tc.content
						}
					}
					if got := a.told(routeSend, sendBody(tc.content, tc.target)); got != answer {
						t.Errorf("%s to %s: %s", tc.content, tc.target, got)
					}
					r.net.Settle()
					got := strings.Join(b.take(), "\n")
					if want := `push 0 onChat {"msg":"` + heard + `","from":"ann","target":"` + tc.target + `"}`; heard != "" && got != want || heard == "" && got != "" {
						t.Errorf("%s to %s: bob hears %s", tc.content, tc.target, got)
					}
				}
				filter.mu.Lock()
				first, fourth := filter.said[0], filter.said[3]
				filter.mu.Unlock()
				if first.Room != "r" || first.Name != "ann" || first.Target != "" || string(first.Content) != `"hello"` || !first.Address.IsValid() || fourth.Target != "bob" {
					t.Errorf("the filter is asked %+v, %+v", first, fourth)
				}
				filter.resting.Store(true)
				n := filter.count()
				want := refusedByFilter
				if pass {
					want = `{}`
				}
				if got := a.told(routeSend, sendBody("hello", "*")); got != want || filter.count() != n {
					t.Errorf("while it rests: %s, asked %d times more", got, filter.count()-n)
				}
				if got := a.told(routeSend, `{"target":"*"`); got != refused {
					t.Errorf("no JSON: %s", got)
				}
			})
		}
	}
}

// What one says keeps its order, whatever the filter takes for each; others wait for nothing. Who hangs up meanwhile is forgotten.
func TestFilterKeepsOrder(t *testing.T) {
	r, filter := filterRig(t, shape{loops: 2}, false)
	a, b, c := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
	a.enter("ann", "r")
	b.enter("bob", "r")
	c.enter("cyd", "r")
	for _, x := range []*client{a, b, c} {
		x.take()
	}
	a.request(routeSend, sendBody("slow 1", "*"))
	a.request(routeSend, sendBody("2", "*"))
	a.request(routeHistory, `{}`)
	a.request(routeSend, sendBody("darn 3", "*"))
	c.request(routeSend, sendBody("slow, and never said", "*"))
	r.until(func() bool { return filter.count() == 2 })
	c.sock.End()
	if got := b.told(routeSend, sendBody("I wait for nobody", "*")); got != `{}` {
		t.Error(got)
	}
	close(filter.free)
	var heard []string
	r.until(func() bool {
		for _, line := range b.take() {
			if _, text, is := strings.Cut(line, `{"msg":"`); is {
				text, _, _ = strings.Cut(text, `"`)
				heard = append(heard, text)
			}
		}
		return len(heard) == 4
	})
	if got := strings.Join(heard, ", "); got != "I wait for nobody, slow 1, 2, d* 3" {
		t.Errorf("bob hears %s", got)
	}
}

// Who has waited for so long that the filter would have little time is not asked about, so that the filter is not taken for one that does not answer.
func TestFilterHasTime(t *testing.T) {
	asked := 0
	v := newSieve(Filter{Timeout: time.Hour, Judge: func(context.Context, filter.Said) (filter.Verdict, error) {
		asked++
		return filter.Verdict{}, nil
	}})
	if _, err := v.judge(time.Now().Add(29*time.Minute), filter.Said{}); !errors.Is(err, context.DeadlineExceeded) || asked != 0 {
		t.Errorf("with less than half of the time: %v, asked %d times", err, asked)
	}
	if _, err := v.judge(time.Now().Add(time.Hour), filter.Said{}); err != nil || asked != 1 {
		t.Errorf("with all of the time: %v, asked %d times", err, asked)
	}
}

// What was looked at for one room is said in no other, where a program has taken its sender meanwhile.
func TestFilterWhileTheRoomChanges(t *testing.T) {
	c := &censor{free: make(chan struct{})}
	r, of, _ := furtherRig(t, shape{loops: 2}, func(cfg *Config) { cfg.Filter = Filter{Judge: c.judge, Timeout: time.Minute, AtOnce: 4} })
	a, b := r.login(atConnector, true), r.login(atConnector, false)
	a.enter("ann", "team")
	b.enter("bob", "lobby")
	id := a.request(routeSend, sendBody("slow, for the team", "*"))
	r.until(func() bool { return c.count() == 1 })
	r.changed(nil, func() error { return of["ann"].Enter(t.Context(), app.Place{Room: "lobby"}) })
	a.take()
	b.take()
	close(c.free)
	var got []string
	r.until(func() bool { got = append(got, a.take()...); return len(got) > 0 })
	if want := fmt.Sprintf("answer %d %s", id, refused); got[0] != want {
		t.Errorf("ann is told %s, want %s", got, want)
	}
	if got := pushesOf(b); len(got) > 0 {
		t.Errorf("bob hears %s", got)
	}
	if got := a.told(routeSend, sendBody("hello", "*")); got != `{}` {
		t.Error(got)
	}
}

// A filter that says nothing is given up in time, and what waits behind it without being asked; beyond what may wait of one address more is refused.
func TestFilterThatHangs(t *testing.T) {
	r, filter := filterRig(t, shape{loops: 1}, false)
	r.node.sieve.Timeout = 30 * time.Millisecond
	r.node.sieve.atOnce = 1
	r.node.sieve.most = 4 * 3 * (filterCost + 200)
	var all []*client
	for i := range 6 {
		c := r.login(atConnector, i%2 == 0)
		c.enter(fmt.Sprint("user", i), fmt.Sprint("room", i))
		c.take()
		all = append(all, c)
	}
	r.node.sieve.add(netip.MustParseAddr("198.51.100.1"), 0, func() { <-filter.free })
	for _, c := range all {
		c.request(routeSend, sendBody("hung", "*"))
	}
	r.net.Settle() // all of them wait behind that, or are too many, however long it takes
	close(filter.free)
	answers := 0
	r.until(func() bool {
		for _, c := range all {
			for _, line := range c.take() {
				if line != "answer 2 "+refusedByFilter {
					t.Errorf("told %s", line)
				}
				answers++
			}
		}
		return answers == len(all)
	})
	results := r.node.loops[0].counters.filtered
	if results[filterBusy] == 0 || results[filterFailed] == 0 || results[filterBusy]+results[filterFailed] != uint64(len(all)) || filter.count() > int(results[filterFailed]) {
		t.Errorf("%v", results)
	}
	if n := r.node.sieve.length(); n != 0 {
		t.Errorf("%d wait still", n)
	}
}

// What is at the filter when another process takes over is neither lost nor said twice, and what waits behind it keeps its order: the next process has its own filter look at it.
func TestFilterWhileNodesTakeOver(t *testing.T) {
	for _, filtered := range []bool{true, false} {
		for _, ws := range []bool{true, false} {
			t.Run(fmt.Sprint(filtered, ws), func(t *testing.T) {
				r, before := filterRig(t, shape{loops: 2}, false)
				defer close(before.free)
				a, b := r.login(atConnector, ws), r.login(atConnector, true)
				a.enter("ann", "r")
				b.enter("bob", "r")
				a.take()
				b.take()
				slow := a.request(routeSend, sendBody("slow darn 1", "*"))
				r.until(func() bool { return before.count() == 1 })
				next := a.request(routeSend, sendBody("2", "*"))
				r.net.Settle()
				after := &censor{free: make(chan struct{})}
				r.cfg.Filter.Judge, r.cfg.Filter.Resting = after.judge, nil
				if !filtered {
					r.cfg.Filter = Filter{}
				}
				r.handOver(false)
				if filtered {
					r.until(func() bool { return after.count() == 1 })
					if told := append(a.take(), pushesOf(b)...); len(told) > 0 {
						t.Errorf("told before it was looked at: %s", told)
					}
				}
				close(after.free)
				var told, heard []string
				r.until(func() bool {
					told, heard = append(told, a.take()...), append(heard, pushesOf(b)...)
					return len(told) >= 4 && len(heard) >= 2
				})
				r.net.Settle()
				told, heard = append(told, a.take()...), append(heard, pushesOf(b)...)
				text := "slow d* 1"
				if !filtered {
					text = "slow darn 1"
				}
				if want := []string{"onChat " + text, "onChat 2"}; !slices.Equal(heard, want) {
					t.Errorf("bob hears\n%s\nwant\n%s", strings.Join(heard, "\n"), strings.Join(want, "\n"))
				}
				answers := slices.DeleteFunc(told, func(line string) bool { return !strings.HasPrefix(line, "answer") })
				if want := []string{fmt.Sprintf("answer %d {}", slow), fmt.Sprintf("answer %d {}", next)}; !slices.Equal(answers, want) {
					t.Errorf("ann is answered %q, want %q", answers, want)
				}
			})
		}
	}
}

// What was at the filter when another process took over has its time from when that one asks its own, however long it is until it does: what it waited before, and while loops were not
// turned, does not count, and nothing is given up where there is no filter any more.
func TestFilterWhileATakeoverIsSlow(t *testing.T) {
	for _, filtered := range []bool{true, false} {
		t.Run(fmt.Sprint(filtered), func(t *testing.T) {
			over, asked := make(chan struct{}), make(chan struct{})
			r := newRig(t, shape{loops: 1}, func(cfg *Config) {
				cfg.Filter = Filter{Timeout: time.Second, AtOnce: 1, Judge: func(context.Context, filter.Said) (filter.Verdict, error) {
					close(asked)
					<-over
					return filter.Verdict{}, nil
				}}
			})
			before := r.node.sieve
			a, b := r.login(atConnector, true), r.login(atConnector, true)
			a.enter("ann", "r")
			b.enter("bob", "r")
			a.take()
			b.take()
			id := a.request(routeSend, sendBody("hello", "*"))
			r.net.Settle()
			<-asked
			late := int(before.seconds()) + 1
			if !filtered {
				r.cfg.Filter = Filter{}
			} else {
				r.cfg.Filter.Judge = func(context.Context, filter.Said) (filter.Verdict, error) { return filter.Verdict{}, nil }
			}
			r.handOver(false)
			r.net.Late(0, late)
			var told, heard []string
			r.until(func() bool {
				told, heard = append(told, a.take()...), append(heard, pushesOf(b)...)
				return len(told) >= 2
			})
			heard = append(heard, pushesOf(b)...)
			if want := fmt.Sprintf("answer %d {}", id); !slices.Contains(told, want) || !slices.Equal(heard, []string{"onChat hello"}) {
				t.Errorf("ann is told %q, want %s; bob hears %q", told, want, heard)
			}
			if n := r.node.loops[0].counters.panics; n > 0 {
				t.Errorf("%d panics", n)
			}
			close(over)
			r.until(before.idle)
		})
	}
}

// A filter that outstays its time, which ends no goroutine of its by itself, is counted as one that fails, and its message is refused or said, as was chosen.
func TestFilterThatOutstaysItsTime(t *testing.T) {
	for _, pass := range []bool{false, true} {
		t.Run(fmt.Sprint(pass), func(t *testing.T) {
			over := make(chan struct{})
			r := newRig(t, shape{loops: 1}, func(cfg *Config) {
				cfg.Filter = Filter{Timeout: time.Second, AtOnce: 1, Pass: pass, Judge: func(context.Context, filter.Said) (filter.Verdict, error) {
					<-over
					return filter.Verdict{Content: []byte(`"too late"`)}, nil
				}}
			})
			a, b := r.login(atConnector, true), r.login(atConnector, false)
			a.enter("ann", "r")
			b.enter("bob", "r")
			a.take()
			b.take()
			id := a.request(routeSend, sendBody("hello", "*"))
			r.net.Seconds(int(r.node.sieve.seconds()) + 1)
			close(over)
			r.until(func() bool { return r.node.sieve.idle() })
			r.net.Settle()
			want, says := refusedByFilter, 0
			if pass {
				want, says = `{}`, 1
			}
			answers := slices.DeleteFunc(a.take(), func(line string) bool { return !strings.HasPrefix(line, "answer") })
			if len(answers) != 1 || answers[0] != fmt.Sprintf("answer %d %s", id, want) {
				t.Errorf("ann is told %q, want %s", answers, want)
			}
			if heard := pushesOf(b); len(heard) != says || says == 1 && heard[0] != "onChat hello" {
				t.Errorf("bob hears %q", heard)
			}
			c := &r.node.loops[0].counters
			if c.filtered[filterFailed] != 1 || c.handlerTimeouts != 0 || c.timeouts != 0 {
				t.Errorf("counted as failed %d times, as a handler's %d, as a worker's %d", c.filtered[filterFailed], c.handlerTimeouts, c.timeouts)
			}
		})
	}
}

// idle tells whether nothing is looked at any more.
func (v *sieve) idle() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.running == 0
}
