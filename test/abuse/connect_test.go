//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// allowance is what a rate lets an address do.
type allowance struct {
	perSecond, burst int
	began            time.Time
}

// check is an error if more was done than that.
func (al allowance) check(what string, did int) error {
	if most := al.burst + 1 + int(float64(al.perSecond)*time.Since(al.began).Seconds()); did > most {
		return fmt.Errorf("%s: %d times, more than %d", what, did, most)
	}
	return nil
}

// churn connects so often, and leaves at once, after a byte, after an upgrade or after a login. It tells how many got in, of those
// who would have noticed, and how many were refused something.
func churn(from, to string, times int) (in, out int) {
	for i := range times {
		p, err := dial(from, to)
		if err != nil {
			out++
			continue
		}
		switch i % 4 {
		case 0:
			p.Close()
			continue
		case 1:
			_ = p.raw([]byte{'G'})
		default:
			if err = p.upgrade(); err == nil {
				in++
				if i%4 == 3 {
					err = p.login()
				}
			}
			if err != nil {
				out++
			}
		}
		p.reset()
	}
	return in, out
}

// welcomed waits until an address is let in again.
func (a *arena) welcomed(from string) error {
	var err error
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var p *peer
		if p, err = dial(from, a.addr); err != nil {
			continue
		}
		err = p.speak()
		p.reset()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s did not get in again: %w", from, err)
}

// Whoever connects too often, has too many connections or begins too many sessions is refused; his neighbours are not, and he
// gets in again as soon as he behaves.
func TestConnectChurn(t *testing.T) {
	const (
		tries      = 10_000 // of one address, and as many of others
		others     = 22
		connects   = 500 // at once, and 100 a second
		handshakes = 200 // and 10 a second
		conns      = 400
	)
	scenario{
		name: "churn",
		flags: []string{"-addr-connects", fmt.Sprintf("100:%d", connects), "-addr-handshakes", fmt.Sprintf("10:%d", handshakes),
			"-addr-conns", fmt.Sprint(conns), "-sio-heartbeat", "1s", "-sio-timeout", "1s"},
		attack: func(a *arena) error {
			began := time.Now()
			often, begun := allowance{100, connects, began}, allowance{10, handshakes, began}
			from := func(i int) string { return fmt.Sprint(attackers, i) }
			kinds := []func() error{
				func() error { // connects all the time
					in, _ := churn(from(1), a.addr, max(a.n(tries), 4*connects))
					return often.check("connected", in)
				},
				func() error { // keeps what it gets
					in := 0
					for range connects - 20 {
						p, err := dial(from(2), a.addr)
						if err != nil {
							return err
						}
						a.keep(p)
						if p.upgrade() == nil {
							in++
						}
					}
					return allowance{burst: conns}.check("kept a connection", in)
				},
				func() error { // shakes hands all the time
					in := 0
					for range connects - 20 {
						p, err := dial(from(3), a.addr)
						if err != nil {
							return err
						}
						if err := p.login(); err == nil {
							in++
						} else if !strings.Contains(err.Error(), "500") {
							return err
						}
						p.reset()
					}
					return begun.check("began a session", in)
				},
				func() error { // the same by polling, over one connection, as if it were a proxy's
					p, err := dial(from(4), a.addr)
					if err != nil {
						return err
					}
					defer p.reset()
					in := 0
					for i := range connects {
						status, head, _, err := p.http("GET", pathPolling+"3", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", i%200))
						switch {
						case err != nil:
							return err
						case status == 200:
							in++
						case status != 429 || head.Get("Retry-After") == "":
							return fmt.Errorf("polling was answered %d %v", status, head)
						}
					}
					return begun.check("began to poll", in)
				},
				func() error { // many who do nothing that they may not
					for i := range others {
						if _, out := churn(from(10+i), a.addr, a.n(tries)/others); out > 0 {
							return fmt.Errorf("an innocent address was refused %d times", out)
						}
					}
					return nil
				},
			}
			all := make([]error, len(kinds))
			var working sync.WaitGroup
			for i, kind := range kinds {
				working.Go(func() { all[i] = kind() })
			}
			working.Wait()
			a.close() // what the second has kept
			for _, again := range []string{from(1), from(2), from(3), from(4), witnessFrom} {
				all = append(all, a.welcomed(again))
			}
			return errors.Join(all...)
		},
		landed: func(d delta) error {
			return d.atLeast("pomelod_accepted_total", crowd(tries))
		},
		held: func(d delta) error {
			return errors.Join(
				d.atLeast(`pomelod_refused_total{reason="addr_connects"}`, crowd(tries/2)),
				d.atLeast(`pomelod_refused_total{reason="addr_conns"}`, connects-20-conns),
				d.atLeast(`pomelod_refused_total{reason="addr_handshakes"}`, 100))
		},
		without: weakness{
			flags: []string{"-addr-connects", "0", "-addr-handshakes", "0", "-addr-conns", "0"},
			fails: "the attacker: connected:",
		},
	}.run(t)
}

// resetStages are clients at every stage at which a connection can be reset: open brings them there.
var resetStages = []stage{
	{name: "before it is accepted"},
	{name: "with its first bytes", open: func(p *peer) error { return p.raw([]byte(upgradeHead)) }},
	{name: "in a head", open: func(p *peer) error {
		_, _, _, err := p.http("OPTIONS", pathPolling+"4", "")
		return errors.Join(err, p.raw([]byte(upgradeHead[:90])))
	}},
	{name: "in a body", open: func(p *peer) error {
		_, err := p.openPolling("3")
		return errors.Join(err, p.raw([]byte(httpText("POST", pathPolling+"3&sid=x", "2:4", "Content-Length: 1000"))))
	}},
	{name: "in a package", open: func(p *peer) error {
		return errors.Join(p.login(), p.raw(message(1, routeSend, `{"content":"x"}`)[:12]))
	}},
	{name: "in a frame", open: func(p *peer) error {
		return errors.Join(p.upgrade(), p.login(), p.raw(p.framed(message(1, routeSend, `{"content":"x"}`))[:15]))
	}},
	{name: "with unread answers", open: func(p *peer) error {
		err := p.login()
		for i := range uint32(50) {
			err = errors.Join(err, p.send(message(i+1, "no.such.route", "{}")))
		}
		return err
	}},
	{name: "while it polls", open: func(p *peer) error {
		sid, err := p.openPolling("3")
		return errors.Join(err, p.raw([]byte(httpText("GET", pathPolling+"3&sid="+sid, ""))))
	}},
	{name: "while it enters", open: func(p *peer) error {
		enter := message(1, routeEnter, fmt.Sprintf(`{"username":%q,"rid":"resets"}`, p.LocalAddr()))
		return errors.Join(p.upgrade(), p.login(), p.send(enter))
	}},
}

// Resets cost nobody but those who send them, at whatever stage: nothing of them is left behind.
func TestResets(t *testing.T) {
	const (
		each    = 400 // at each stage
		members = 100 // of a room in which somebody speaks; three times
	)
	var reset atomic.Int64
	scenario{
		name:  "resets",
		flags: []string{"-sio-heartbeat", "1s", "-sio-timeout", "1s"},
		attack: func(a *arena) error {
			before := a.metrics()["pomelod_members"]
			reset.Store(0)
			var working sync.WaitGroup
			var all [4]error
			for w := range all {
				working.Go(func() {
					for i := range a.n(each) / len(all) {
						for _, s := range resetStages {
							p, err := dial(fmt.Sprint(attackers, 1+(i+w)%4), a.addr)
							if err != nil {
								all[w] = err
								return
							}
							if s.open != nil {
								if err := s.open(p); err != nil {
									all[w] = fmt.Errorf("%s: %w", s.name, err)
								}
							}
							p.reset()
							reset.Add(1)
						}
					}
				})
			}
			working.Wait()
			if err := errors.Join(all[:]...); err != nil {
				return err
			}
			for round := range 3 {
				if err := a.resetRoom(round, a.n(members)); err != nil {
					return err
				}
				reset.Add(int64(a.n(members)))
			}
			return a.await(atMost(before), "pomelod_members") // those who were reset have left their rooms
		},
		landed: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_accepted_total", float64(reset.Load())),
				d.atLeast(`pomelod_closed_total{reason="reset"}`, float64(reset.Load())*0.7)) // of some the end is read first
		},
		held: func(d delta) error {
			if n := d.grown("pomelod_panics_total") + d.grown("pomelod_gaps_total"); n > 0 {
				return fmt.Errorf("%v panics and gaps", n)
			}
			return nil
		},
		without: weakness{
			edits: []edit{{"router/session.go", "\tl.depart(s, why)\n\tl.releaseAll", "\tl.releaseAll"}}, // of Closed: every end is a leave
			fails: "pomelod_members has stayed at",
			alone: true,
		},
	}.run(t)
}

// resetRoom fills a room with members who do not read, has somebody speak there, and resets all members at once, with
// what was said on its way. The speaker goes on.
func (a *arena) resetRoom(round, members int) error {
	room := fmt.Sprint("resets", round)
	speaker, err := a.chatter(100, "speaker", room)
	if err != nil {
		return err
	}
	defer speaker.Close()
	var all []*peer
	for i := range members {
		join := a.login
		if i%2 > 0 {
			join = a.socket
		}
		p, err := join(i % 8)
		if err == nil {
			_, err = p.enter(fmt.Sprint("member", i), room)
		}
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	for range 20 {
		speaker.id++
		if err := speaker.send(message(speaker.id, routeSend, `{"content":"`+strings.Repeat("x", 2000)+`","target":"*"}`)); err != nil {
			return err
		}
	}
	for _, p := range all {
		p.reset()
	}
	if answer, err := speaker.answer(speaker.id); err != nil || answer != "{}" {
		return fmt.Errorf("the speaker was told %q, %v", answer, err)
	}
	if answer, err := speaker.ask(routeSend, `{"content":"anybody here?","target":"*"}`); err != nil || answer != "{}" {
		return fmt.Errorf("the speaker was told %q, %v", answer, err)
	}
	return nil
}

// socket is login by WebSocket.
func (a *arena) socket(i int) (*peer, error) {
	p, err := a.dial(i)
	if err == nil {
		err = p.loginBy(true)
	}
	return p, err
}

// A full server refuses newcomers, those who poll too, and serves those who are in; who leaves makes room.
func TestFullServer(t *testing.T) {
	const (
		most  = 300
		tries = 1500
	)
	scenario{
		name: "full",
		// One address polls until the server is full, so that it may have all: that it may not is another scenario's.
		flags: []string{"-max-conns", fmt.Sprint(most), "-addr-conns", "0", "-sio-heartbeat", "1s", "-sio-timeout", "2s"},
		attack: func(a *arena) error {
			member, err := a.chatter(200, "member", "full")
			if err != nil {
				a.t.Fatal(err)
			}
			poller, err := a.dial(201)
			if err != nil {
				a.t.Fatal(err)
			}
			if _, err := poller.openPolling("3"); err != nil {
				a.t.Fatal(err)
			}
			var in []*peer
			for i := range a.n(tries) + most {
				p, err := a.dial(i % 8)
				if err != nil {
					return err
				}
				switch { // every wire
				case i%2 == 0:
					err = p.upgrade()
				default:
					err = p.shake()
				}
				if err == nil {
					in = append(in, p)
				}
			}
			polls := 1
			for range most + 100 {
				status, _, text, err := poller.http("GET", pathPolling+"3", "")
				if status == 200 {
					polls++
					continue
				}
				if err != nil || status != 503 {
					return fmt.Errorf("a poller was told %d %q, %v", status, text, err)
				}
				break // and disconnected
			}
			var all []error
			if len(in) > most || polls > most {
				all = append(all, fmt.Errorf("got in: %d and %d who poll", len(in), polls))
			}
			if answer, err := member.ask(routeSend, `{"content":"x","target":"*"}`); err != nil || answer != "{}" {
				all = append(all, fmt.Errorf("who was in was told %q, %v", answer, err))
			}
			in[0].reset()
			return errors.Join(append(all, a.welcomed(fmt.Sprint(attackers, 250)))...)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", most-2*pairs) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="max_conns"}`, crowd(tries)),
				d.atLeast("pomelod_polling_refused_total", 1))
		},
		without: weakness{flags: []string{"-max-conns", "0"}, fails: "got in: "},
	}.run(t)
}

// foreign are origins of pages that may not connect where only https://chat.example.com may.
var foreign = []string{
	"https://evil.example", "http://chat.example.com", "https://chat.example.com.evil.example", "https://evilchat.example.com",
	"https://chat.example.com:8443", "https://chat.example.com@evil.example", "https://evil.example/.wild.example", "https://wild.example",
	"null", "file://", "https://chat.example.com https://evil.example", "*", "https://",
}

// doors are what a page can ask for. Behind those that have lasts stands a session that waits for its client for longer than this
// scenario does.
var doors = []struct {
	name, method, target, head string
	lasts                      bool
}{
	{"WebSocket", "GET", "/", upgradeLines, false},
	{"Engine.IO 3 polling", "GET", pathPolling + "3", "", false},
	{"Engine.IO 4 polling", "GET", pathPolling + "4", "", true},
	{"Engine.IO 3 JSONP", "GET", pathPolling + "3&j=0", "", false},
	{"Engine.IO 3 POST", "POST", pathPolling + "3&sid=x", "Content-Length: 0\r\n", false},
	{"Engine.IO 3 WebSocket", "GET", pathSocket + "3", upgradeLines, false},
	{"Engine.IO 4 WebSocket", "GET", pathSocket + "4", upgradeLines, false},
	{"socket.io 0.9", "GET", "/socket.io/1/", "", true},
	{"socket.io 0.9 JSONP", "GET", "/socket.io/1/?jsonp=0", "", true},
	{"socket.io 0.9 polling", "GET", "/socket.io/1/xhr-polling/x", "", false},
	{"socket.io 0.9 WebSocket", "GET", "/socket.io/1/websocket/x", upgradeLines, false},
	{"the gate", "GET", "/gate/queryEntry?uid=u", "", false},
	{"the gate's POST", "POST", "/gate/queryEntry", "Content-Length: 0\r\n", false},
	{"a preflight", "OPTIONS", "/gate/queryEntry", "Access-Control-Request-Method: POST\r\n", false},
	{"a preflight of Engine.IO", "OPTIONS", pathPolling + "4", "", false},
	{"the page's own path by WebSocket", "GET", "/pomelo.js", upgradeLines, false},
}

// Pages of another origin than those allowed may not connect by any wire that a browser has; others may.
func TestForeignPages(t *testing.T) {
	const rounds = 10
	knock := func(a *arena, i int, method, target, head string) (status int, cors bool) {
		p, err := dial(fmt.Sprint(attackers, 1+i%8), a.addr)
		if err != nil {
			a.t.Fatal(err)
		}
		defer p.reset()
		status, answer, _, err := p.http(method, target, head)
		if err != nil {
			a.t.Fatal(err)
		}
		return status, answer.Get("Access-Control-Allow-Origin") != ""
	}
	scenario{
		name:  "foreign pages",
		flags: []string{"-origins", "https://chat.example.com,https://*.wild.example", "-sio-heartbeat", "1s", "-sio-timeout", "1s"},
		attack: func(a *arena) error {
			var open []string
			for i := range a.n(rounds) {
				for _, d := range doors {
					in := false
					for _, origin := range foreign {
						status, cors := knock(a, i, d.method, d.target, "Origin: "+origin+"\r\n"+d.head)
						in = in || status != 403 || cors
					}
					if in && i == 0 {
						open = append(open, d.name)
					}
					if d.lasts {
						continue
					}
					for _, head := range []string{"", "Origin: https://chat.example.com\r\n", "Origin: https://a.b.wild.example\r\n"} {
						if status, _ := knock(a, i, d.method, d.target, head+d.head); status == 403 {
							return fmt.Errorf("%s was refused to %q", d.name, head)
						}
					}
				}
			}
			if len(open) > 0 {
				return errors.New("foreign pages were let in: " + strings.Join(open, ", "))
			}
			return nil
		},
		landed: func(d delta) error {
			return d.atLeast("pomelod_accepted_total", crowd(rounds)*float64(len(doors)*len(foreign)))
		},
		held: func(d delta) error {
			return d.atLeast(`pomelod_refused_total{reason="origin"}`, crowd(rounds)*float64(len(doors)*len(foreign)))
		},
		without: weakness{flags: []string{"-origins", ""}, fails: "foreign pages were let in: " + strings.Join(doorNames(), ", ")},
	}.run(t)
}

func doorNames() (names []string) {
	for _, d := range doors {
		names = append(names, d.name)
	}
	return names
}
