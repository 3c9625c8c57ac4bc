//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Sixty members of a large room change their names by notify, sixty times a second each: two pushes to everybody for each, and a
// list of all names that nobody reads. Nobody else notices, and no list is made.
func TestRenames(t *testing.T) { renames("renames", 2000, "-list", "0").run(t) } // everybody is told of everybody, as in rooms of up to a thousand

func renames(name string, members int, flags ...string) scenario {
	const renamers, rate, seconds = 60, 60, 3
	return scenario{
		name:  name,
		flags: flags,
		busy:  "3,600 lists and pushes a second to thousands of readers in one process of low priority: p99 4 to 12 ms on two processors",
		late:  250 * time.Millisecond,
		attack: func(a *arena) error {
			if err := a.fill(a.n(members), "member", "renames"); err != nil {
				a.t.Fatal(err)
			}
			var all []listener
			for i := range a.n(renamers) {
				p, err := a.chatter(i, fmt.Sprint("renamer", i), "renames")
				if err != nil {
					a.t.Fatal(err)
				}
				l, err := a.listen(p)
				if err != nil {
					a.t.Fatal(err)
				}
				all = append(all, l)
			}
			a.phase() // the crowd's coming is not the attack
			before, was, began := float64(a.peak()), a.metrics(), time.Now()
			err := together(len(all), func(i int) error {
				tick := time.NewTicker(time.Second / rate)
				defer tick.Stop()
				for n := range rate * seconds {
					<-tick.C
					if err := all[i].raw(message(0, routeEnter, fmt.Sprintf(`{"username":"renamer%dx%d","rid":"renames"}`, i, n))); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil { // of all that they asked for
				err = a.await(atLeast(was["pomelod_requests_total"]+float64(len(all)*rate*seconds)*3/4), "pomelod_requests_total")
			}
			changed, took, peak := a.metrics()["pomelod_enters_total"]-was["pomelod_enters_total"], time.Since(began), a.peak()
			a.t.Logf("%.0f names were changed within %v; RSS was at most %.1f MB, %.1f before", changed, took, float64(peak)/1e6, before/1e6)
			if most := float64(len(all)) * (20 + 2*(took.Seconds()+1)); changed > most { // -enter-rate; a loop looks at the clock once a second
				err = errors.Join(err, fmt.Errorf("%.0f names were changed within %v, more than %.0f", changed, took, most))
			}
			if grown := float64(peak) - before; grown > 64e6 && !raceEnabled {
				err = errors.Join(err, fmt.Errorf("RSS rose from %.0f to %d bytes", before, peak))
			}
			return err
		},
		landed: func(d delta) error {
			if raceEnabled {
				return d.atLeast("pomelod_requests_total", renamers/10*rate*seconds/2)
			}
			return d.atLeast("pomelod_requests_total", renamers*rate*seconds*3/4)
		},
		held: func(d delta) error {
			n := float64(renamers * (rate*seconds*3/4 - 20 - 2*2*seconds))
			if raceEnabled {
				n /= 20
			}
			return d.atLeast(`pomelod_limited_total{reason="enter_rate"}`, n)
		},
		without: weakness{
			flags: []string{"-enter-rate", "0", "-list", "0"},
			edits: []edit{{"router/chat.go", "a.req.Silent = c.id == 0", "a.req.Silent = false"}, {"router/chat.go", "Key: key, Short: ch.limiter.short.Load(),", "Key: key,"}},
			fails: "names were changed within",
		},
	}
}

// arrivals have many, who are connected, enter one room within some time. Nobody else notices, as nobody is told of them, and each is told few names.
func arrivals(name string, newcomers int, within time.Duration) scenario {
	const late = 45 * time.Millisecond
	return scenario{
		name: name,
		busy: "ten thousand answers of 200 names within two seconds, and who reads them on the same two processors",
		late: late,
		attack: func(a *arena) error {
			began := time.Now() // that they come, as soon as all are connected
			var enters []func() error
			for i := range a.n(newcomers) {
				p, err := a.login(i % 250)
				if err != nil {
					a.t.Fatal(err)
				}
				l, err := a.listen(p)
				if err != nil {
					a.t.Fatal(err)
				}
				enters = append(enters, func() error {
					time.Sleep(time.Until(began.Add(within * time.Duration(i) / time.Duration(a.n(newcomers)))))
					return l.raw(message(1, routeEnter, fmt.Sprintf(`{"username":"newcomer%d","rid":"arrivals"}`, i)))
				})
			}
			before := a.metrics()
			a.phase() // that they connect is not the attack
			began = time.Now()
			if err := a.enterAll(enters, atLeast(before["pomelod_enters_total"]+float64(len(enters))), "pomelod_enters_total"); err != nil {
				return err
			}
			took := time.Since(began)
			a.t.Logf("%d entered in %v", len(enters), took)
			if most := within * 3 / 2; took > most && !raceEnabled {
				return fmt.Errorf("%d needed %v to enter, more than %v", len(enters), took, most)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_enters_total", crowd(newcomers)) },
	}
}

// A list of names that is longer than -outbound, by few members: 516 KB.
const (
	longRoom = 2000
	longName = 240
)

var longLists = []string{"-list", "0", "-max-name", "255B", "-outbound", "128KiB", "-max-package", "64KiB"}

// unread is a conn that reads nothing since its handshake, and how it enters a room. Little of what it is sent fits into its socket.
func (a *arena) unread(i int, user, room string) (p *peer, enter func() error, err error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprint(attackers, i+1))},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		}}
	conn, err := d.Dial("tcp", a.addr)
	if err != nil {
		return nil, nil, err
	}
	p = newPeer(conn)
	a.keep(p)
	return p, func() error {
		p.id++
		return p.send(message(p.id, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room)))
	}, p.login()
}

// Who enters a room with a long list of names and takes it slowly is not disconnected because others talk meanwhile, and misses nothing.
func TestSlowNewcomer(t *testing.T) {
	const words = 50
	scenario{
		name:  "slow newcomer",
		flags: longLists,
		busy:  "fifty words to two thousand members at once are much to write on two processors",
		attack: func(a *arena) error {
			if err := a.fill(a.n(longRoom), strings.Repeat("m", longName), "long"); err != nil {
				return err // they are newcomers too
			}
			speaker, err := a.chatter(0, "speaker", "long")
			if err != nil {
				a.t.Fatal(err)
			}
			a.phase()
			newcomer, enter, err := a.unread(1, "newcomer", "long")
			if err != nil {
				a.t.Fatal(err)
			}
			if err := a.enterAll([]func() error{enter}, atLeast(a.metrics()["pomelod_members"]+1), "pomelod_members"); err != nil {
				a.t.Fatal(err)
			}
			for told := ""; !strings.Contains(told, `"newcomer"`); { // that it has entered
				got, err := speaker.pkg()
				if err != nil {
					a.t.Fatal(err)
				}
				told = string(got.Body)
			}
			for n := range words {
				if answer, err := speaker.ask(routeSend, fmt.Sprintf(`{"content":"word %d#","target":"*"}`, n)); err != nil || answer != "{}" {
					return fmt.Errorf("the speaker was answered %s, %w", answer, err)
				}
			}
			answer := ""
			for id := uint32(1); id <= newcomer.id && err == nil && usersOf(answer) == nil; id++ { // it may have been refused before
				answer, err = newcomer.answer(id)
			}
			if users := usersOf(answer); err != nil || len(users) != a.n(longRoom)+2 {
				return fmt.Errorf("the newcomer was told of %d members: %w", len(users), err)
			}
			heard, err := newcomer.chats(words)
			if err != nil || heard[words-1] != fmt.Sprintf("word %d", words-1) {
				return fmt.Errorf("the newcomer heard %q, %w", heard, err)
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_sends_total", words) },
		without: weakness{edits: []edit{{"netpoll/outboxes.go", "o.moved, o.first = x.clock.now, n", "o.moved = x.clock.now"}}, fails: "pomelod_members has stayed at"},
	}.run(t)
}

// Of a long list that many do not take there is one copy.
func TestUnreadLists(t *testing.T) {
	unreadLists("unread lists", longRoom, 400, strings.Repeat("m", longName), longLists).run(t)
}

func unreadLists(name string, members, newcomers int, user string, flags []string) scenario {
	return scenario{
		name:  name,
		flags: flags,
		busy:  "half a megabyte for each newcomer, and their coming told to everybody, is much to write on two processors",
		attack: func(a *arena) error {
			if err := a.fill(a.n(members), user, "long"); err != nil {
				a.t.Fatal(err)
			}
			a.collect()
			a.phase()
			before, entered := float64(a.peak()), a.metrics()["pomelod_enters_total"]
			var enters []func() error
			for i := range a.n(newcomers) {
				_, enter, err := a.unread(i%250, fmt.Sprint("newcomer", i), "long")
				if err != nil {
					return err
				}
				enters = append(enters, enter)
			}
			if err := a.enterAll(enters, atLeast(entered+float64(a.n(newcomers))), "pomelod_enters_total"); err != nil {
				return err
			}
			peak := a.peak()
			a.t.Logf("RSS was at most %.1f MB, %.1f before; unsent %.1f MB", float64(peak)/1e6, before/1e6, a.metrics()["pomelod_unsent_bytes"]/1e6)
			if grown := float64(peak) - before; grown > 48e6 && !raceEnabled {
				return fmt.Errorf("RSS rose from %.0f to %d bytes", before, peak)
			}
			return nil
		},
		landed: func(d delta) error {
			if raceEnabled {
				return nil // the lists are short
			}
			return d.atLeast("pomelod_enters_total", float64(members+newcomers))
		},
		without: weakness{
			edits: []edit{{"netpoll/outboxes.go", "o.queue.add(segment{b: lent[max(from-begin, 0):], shared: x.memory.loan(lent)}, x.memory)", "copied(max(from, begin), end)"}},
			fails: "RSS rose from",
		},
	}
}
