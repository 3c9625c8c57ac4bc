//go:build linux

package abuse

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// Sessions of clients that poll belong to who has their id: it cannot be guessed, and who has one cannot do with it what does not
// fit together.
func TestSessionGames(t *testing.T) {
	const seed, guesses = 1, 10_000 // of each wire
	scenario{
		name: "session games",
		attack: func(a *arena) error {
			rnd := rand.New(rand.NewPCG(seed, seed))
			for i, wire := range pollingWires {
				err := a.guess(i, wire, rnd, a.n(guesses))
				if err == nil {
					err = a.games(i, wire)
				}
				if err != nil {
					return fmt.Errorf("%s (seed %d): %w", wire, seed, err)
				}
			}
			return a.unhurt()
		},
		landed: func(d delta) error { return d.atLeast("pomelod_http_requests_total", 5) },
		held: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_http_errors_total", guesses/10), d.atLeast("pomelod_upgrades_total", 1))
		},
		without: weakness{
			edits: []edit{{"router/sid.go", "(b[8:], want[8:]) != 1 {", "(b[8:], want[8:]) > 1 {"}},
			fails: "was taken for the session of another",
		},
	}.run(t)
}

// stolen is said for sessions of others.
var stolen = saying{1, routeSend, `{"content":"stolen","target":"*"}`}

// guess tries ids that are none, by polls, posts and upgrades. Most are like that of a victim, who must not notice.
func (a *arena) guess(i int, wire string, rnd *rand.Rand, n int) error {
	victim, err := a.guest(i, wire)
	if err != nil {
		return err
	}
	if err := victim.join("victim", "victims "+wire); err != nil {
		return err
	}
	s := victim.sio()
	p, err := a.dial(100 + i)
	if err != nil {
		return err
	}
	p.late = soon // a poll that is held: there must be a session
	thief := &sio{version: s.version}
	for g := range n {
		thief.sid = likeID(s.sid, g, rnd)
		if thief.sid == s.sid {
			continue
		}
		request := thief.polling()
		switch g % 4 {
		case 1:
			request = thief.posting(thief.payload(thief.packet(stolen.text())))
		case 2:
			if s.version == "0.9" {
				request = httpText("GET", thief.path("xhr-polling")+"?disconnect=1", "")
			} else {
				request = thief.posting(thief.payload("1"))
			}
		case 3:
			if g%16 == 3 { // each costs a connection
				if err := a.guessUpgrade(100+i, thief); err != nil {
					return err
				}
			}
			continue
		}
		status, answer, err := p.request(request)
		if err != nil {
			return fmt.Errorf("%q was taken for the session of another, or not answered: %w", thief.sid, err)
		}
		known := status == http.StatusOK
		if s.version == "0.9" { // a POST is always answered alike, and what is not there is advised to begin anew
			known = answer != "7:::1+0" && answer != "1"
		}
		if known {
			return fmt.Errorf("%q was taken for the session of another, %q: %d %q", thief.sid, s.sid, status, answer)
		}
	}
	answer, err := victim.ask(routeSend, `{"content":"still here","target":"*"}`)
	if answer != "{}" || len(victim.pushes) != 1 || !strings.Contains(victim.pushes[0].body, "still here") {
		err = fmt.Errorf("the victim was answered %s and told %v: %w", answer, victim.pushes, err)
	}
	return err
}

// likeID is the g-th guess.
func likeID(id string, g int, rnd *rand.Rand) string {
	raw, _ := base64.RawURLEncoding.DecodeString(id) // of the server's ids it cannot fail
	switch g / 4 % 4 {
	case 0: // another bit
		bit := g / 16 % (8 * len(raw))
		raw[bit/8] ^= 1 << (bit % 8)
	case 1: // another conn, with what proves this one
		binary.BigEndian.PutUint64(raw, binary.BigEndian.Uint64(raw)+uint64(rnd.IntN(1000)+1))
	case 2: // this conn, with other proof
		for i := 8; i < len(raw); i++ {
			raw[i] = byte(rnd.Uint32())
		}
	case 3:
		odd := []string{id[1:], id + "A", id + "%00", "A" + id[1:], strings.ToLower(id), id[:19] + "=", "0",
			strings.Repeat("A", 20), strings.Repeat("A", 4000), "%2e%2e", "__proto__", "-", "AAAA/" + id[5:]}
		return odd[rnd.IntN(len(odd))]
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// guessUpgrade tries to take a session over.
func (a *arena) guessUpgrade(i int, thief *sio) error {
	p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	p.late = soon
	said, err := p.exchange(upgradeAt(thief.path("websocket")))
	refused := strings.Contains(said, " 400 ") || strings.Contains(said, "7:::1+0") || strings.Contains(said, " 404 ")
	if err != nil || !refused {
		return fmt.Errorf("%q was taken for the session of another by an upgrade: %.300q, %w", thief.sid, said, err)
	}
	return nil
}

// exchange sends something and returns all that the server says up to its end.
func (p *peer) exchange(b string) (string, error) {
	if err := p.raw([]byte(b)); err != nil {
		return "", err
	}
	said, err := p.gone()
	return string(said), err
}

// games does with a session of its own what does not fit together. That is refused; the session goes on.
func (a *arena) games(i int, wire string) error {
	c, err := a.guest(i, wire)
	if err != nil {
		return err
	}
	if err := c.join("player", "games "+wire); err != nil {
		return err
	}
	s := c.sio()
	steps := []struct {
		name string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"two polls at once", func() error { return a.pollTwice(i, c) }},
		{"a path of another generation", func() error { return a.elsewhere(i, s) }},
		{"probes that say something else", func() error { return a.probes(i, s) }},
		{"the upgrade", func() error { return change(s) }},
		{"requests to a WebSocket's session", func() error { return a.tooLate(i, s) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		answer, err := c.ask(routeSend, `{"content":"x","target":"*"}`)
		if answer != "{}" {
			return fmt.Errorf("%s: the session suffered: %s, %w", step.name, answer, err)
		}
		if len(c.pushes) != 1 {
			return fmt.Errorf("%s: told %d times: %v", step.name, len(c.pushes), c.pushes)
		}
		c.pushes = nil
	}
	return nil
}

// pollTwice polls on two connections at once. One has to give way with nothing to tell, and what comes then is told once.
func (a *arena) pollTwice(i int, c *guest) error {
	s := c.sio()
	type got struct {
		packets []string
		err     error
	}
	answers := make(chan got, 2)
	for range 2 {
		p, err := a.dial(i)
		if err != nil {
			return err
		}
		go func() {
			beside := &sio{only: p, version: s.version, sid: s.sid}
			err := beside.poll(soon)
			answers <- got{beside.packets, err}
		}()
	}
	idle := map[string]string{"0.9": "8::", "eio3": "6", "eio4": "6"}[s.version]
	if g := <-answers; g.err != nil || len(g.packets) != 1 || g.packets[0] != idle {
		return fmt.Errorf("the first was answered %q, %w", g.packets, g.err)
	}
	if err := c.say(saying{101, routeSend, `{"content":"only once","target":"*"}`}); err != nil {
		return err
	}
	g := <-answers
	all, err := g.packets, g.err
	for err == nil && !strings.Contains(strings.Join(all, ""), "101") { // the push may have come before the answer
		err = s.poll(patience)
		all, s.packets = append(all, s.packets...), nil
	}
	if n := strings.Count(strings.Join(all, ""), "only once"); err != nil || n != 1 {
		return fmt.Errorf("told %d times: %q, %w", n, all, err)
	}
	return nil
}

// once makes a request on a connection of its own.
func (a *arena) once(i int, request string) (status int, answer string, err error) {
	p, err := a.dial(i)
	if err != nil {
		return 0, "", err
	}
	p.late = soon
	return p.request(request)
}

// elsewhere asks for the session by the paths of other generations.
func (a *arena) elsewhere(i int, s *sio) error {
	for _, version := range []string{"0.9", "eio4"} {
		if version == "0.9" == (s.version == "0.9") {
			continue
		}
		b := &sio{version: version, sid: s.sid}
		for _, r := range []string{b.polling(), b.posting(b.payload("0::")), b.posting(b.payload("1"))} {
			_, answer, err := a.once(i, r)
			if err != nil || answer != "7:::1+0" && answer != "1" && !strings.Contains(answer, `"code":1,`) {
				return fmt.Errorf("%.60q was answered %q, %w", r, answer, err)
			}
		}
	}
	return nil
}

// probes opens WebSockets that may take an Engine.IO session over, and does not go on as it should.
func (a *arena) probes(i int, s *sio) error {
	if s.version == "0.9" {
		return nil // there a WebSocket takes over at once
	}
	upgrade := upgradeAt(s.path("websocket"))
	for _, packets := range [][]string{{"3probe"}, {"6"}, {"42[]"}, {""}, {"2probe", "2probe ", "5"}, {"2probe", "55"}} {
		p, err := a.dial(i)
		if err != nil {
			return err
		}
		p.late = soon
		frames := ""
		for _, p := range packets {
			frames += textFrame(p)
		}
		if said, err := p.exchange(upgrade + frames); err != nil {
			return fmt.Errorf("%q was answered %q, %w", packets, said, err)
		}
	}
	var both [2]*peer
	for n := range both {
		p, err := a.dial(i)
		if err != nil {
			return err
		}
		p.late = soon
		both[n] = p
	}
	if err := both[0].upgradeTo(s.path("websocket")); err != nil {
		return err
	}
	if said, err := both[1].exchange(upgrade + textFrame("2probe") + textFrame("5")); err != nil {
		return fmt.Errorf("a second one was answered %q, %w", said, err)
	}
	if said, err := both[0].exchange(textFrame("5 ")); err != nil {
		return fmt.Errorf("a change of mind was answered %q, %w", said, err)
	}
	return nil
}

// change has the session travel by WebSocket from now on.
func change(s *sio) error {
	if s.version == "0.9" {
		return s.takeOver()
	}
	return s.upgrade()
}

// tooLate polls, posts and upgrades, for a session that travels by WebSocket.
func (a *arena) tooLate(i int, s *sio) error {
	for _, r := range []string{s.polling(), s.posting(s.payload(s.packet(stolen.text()))), s.posting(s.payload("1")),
		httpText("GET", s.path("xhr-polling")+"?disconnect=1", "")} {
		status, answer, err := a.once(i, r)
		if err != nil || status == http.StatusOK && answer != "7:::1+0" && answer != "1" {
			return fmt.Errorf("%.60q was answered %d %q, %w", r, status, answer, err)
		}
	}
	return a.guessUpgrade(i, s)
}
