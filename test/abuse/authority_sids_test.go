//go:build linux

package abuse

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestSessionIDs speaks and listens for sessions that poll by ids that are nearly theirs, were somebody's, or are of another kind.
func TestSessionIDs(t *testing.T) {
	const guesses = 10_000 // for each victim
	scenario{
		name: "session ids",
		attack: func(a *arena) error {
			observer, err := a.inside(10, "tcp", "observer", "sids", "")
			if err != nil {
				a.t.Fatal(err)
			}
			victims := make(map[string]*guest)
			for i, wire := range []string{"0.9 polling", "eio3 polling", "eio4 polling", "eio3 ws", "eio4 ws", "0.9 ws"} {
				if victims[wire], err = a.inside(11+i, wire, wire, "sids", ""); err != nil {
					a.t.Fatal(err)
				}
			}
			if err := settle(observer, victims, "all are in"); err != nil {
				a.t.Fatal(err)
			}
			for _, wire := range []string{"eio4 polling", "eio3 polling", "0.9 polling"} {
				if err := guessIDs(a, victims[wire], a.n(guesses)); err != nil {
					return err
				}
				if err := endedID(a, wire); err != nil {
					return err
				}
			}
			if err := otherIDs(a, victims); err != nil {
				return err
			}
			return settle(observer, victims, "the end")
		},
		landed: func(d delta) error { return d.atLeast("pomelod_http_requests_total", 100) },
		held:   func(d delta) error { return d.atLeast("pomelod_http_errors_total", 3*guesses/10) },
		without: weakness{
			edits: []edit{{"router/sid.go", "subtle.ConstantTimeCompare(b[8:], want[8:])", "subtle.ConstantTimeCompare(b[:8], want[:8])"}},
			fails: "was taken for",
		},
	}.run(t)
}

// settle is an error unless everybody hears the observer, and the observer each of them, and, before the end, nobody anything else.
func settle(observer *guest, victims map[string]*guest, text string) error {
	if err := observer.say(saying{0, routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, text)}); err != nil {
		return err
	}
	all := []*guest{observer}
	for _, g := range victims {
		all = append(all, g)
	}
	for _, g := range all {
		before, err := g.hears(text)
		if err == nil && text == "the end" && len(before) > 0 {
			err = fmt.Errorf("%s heard %v", g.wire, before[0])
		}
		if err != nil {
			return err
		}
	}
	for wire, g := range victims {
		if err := g.say(saying{0, routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, wire)}); err != nil {
			return err
		}
		for _, g := range all {
			if before, err := g.hears(wire); err != nil || len(before) > 0 {
				return fmt.Errorf("%s should have heard %s, but heard %v, %v", g.wire, wire, before, err)
			}
		}
	}
	return nil
}

// nearly makes an id that differs from another, mostly in the part that proves that one was told it.
func nearly(r *rand.Rand, sid string) string {
	b, err := base64.RawURLEncoding.DecodeString(sid)
	if err != nil || len(b) != 15 {
		panic("session ids are made in another way now: " + sid)
	}
	switch r.IntN(5) {
	case 0: // a bit
		b[8+r.IntN(7)] ^= 1 << r.IntN(8)
	case 1: // the next ones of any count
		at := []int{7, 14}[r.IntN(2)]
		b[at] += byte(1 + r.IntN(255))
	case 2: // a neighbour, with the same proof
		binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)+uint64(r.IntN(200))-100)
	case 3: // none
		clear(b[8+r.IntN(7):])
	default:
		for i := range b[8:] {
			b[8+i] = byte(r.Uint32())
		}
	}
	if guess := base64.RawURLEncoding.EncodeToString(b); guess != sid {
		return guess
	}
	return nearly(r, sid)
}

// idRequest is a request of a session that polls, and what it is answered when there is no such session.
func idRequest(r *rand.Rand, wire, sid string) (request string, status int, answer string) {
	version, _, _ := strings.Cut(wire, " ")
	s := &sio{version: version, ascii: true, sid: url.QueryEscape(sid)}
	say, leave, poll := s.packet(saying{1, routeSend, `{"content":"for another","target":"*"}`}.text()), "1", s.polling()
	status, answer, told := http.StatusBadRequest, `{"code":1,"message":"Session ID unknown"}`, ""
	if told = answer; version == "0.9" {
		leave, status, answer, told = "0::", http.StatusOK, "1", "7:::1+0" // the one to every POST
	}
	switch r.IntN(4) {
	case 0:
		return s.posting(s.payload(say)), status, answer
	case 1:
		return s.posting(s.payload(leave)), status, answer
	case 2:
		if version == "0.9" {
			poll = httpText("GET", s.path("xhr-polling")+"?disconnect=1", "")
		}
	}
	return poll, status, told
}

// asAnother makes requests under ids that are nobody's.
func asAnother(a *arena, wire string, sids []string, seed uint64) error {
	p, err := a.dial(int(seed % 100))
	if err != nil {
		a.t.Fatal(err)
	}
	defer p.Close()
	p.late = soon // such a request is not held
	r := rand.New(rand.NewPCG(seed, 1))
	for len(sids) > 0 {
		some := sids[:min(len(sids), 100)]
		sids = sids[len(some):]
		all := ""
		status, answers := make([]int, len(some)), make([]string, len(some))
		for i, sid := range some {
			var request string
			request, status[i], answers[i] = idRequest(r, wire, sid)
			all += request
		}
		if err := p.raw([]byte(all)); err != nil {
			return err
		}
		for i, sid := range some {
			if got, _, text, err := p.response("GET"); err != nil || got != status[i] || text != answers[i] {
				return fmt.Errorf("seed %d: the id %q was taken for a session of %s: %d %.100q, not %q; %v",
					seed, sid, wire, got, text, answers[i], err)
			}
		}
	}
	return nil
}

// guessIDs guesses the id of a session, also by WebSocket, which would take the whole of it.
func guessIDs(a *arena, victim *guest, guesses int) error {
	r := rand.New(rand.NewPCG(uint64(guesses), 2))
	own := victim.sio()
	var sids []string
	for range guesses {
		sids = append(sids, nearly(r, own.sid))
	}
	if own.version != "0.9" { // which has it in the path, where not everything may stand
		sids = append(sids, " ", "%", strings.Repeat("A", 20), strings.Repeat("-", 20), own.sid[:19], own.sid+"A", own.sid[:19]+"=",
			own.sid+"\x00", own.sid[:12]+"\n\n\n\n\n\n\n\n", strings.ToLower(own.sid), "../"+own.sid, strings.Repeat("x", 2000))
	}
	if err := asAnother(a, victim.wire, sids, 1); err != nil {
		return err
	}
	for range 50 {
		p, err := a.dial(1)
		if err != nil {
			a.t.Fatal(err)
		}
		p.late = soon
		guess := &sio{version: own.version, sid: nearly(r, own.sid)}
		err = p.upgradeTo(guess.path("websocket"))
		if own.version != "0.9" {
			if err == nil || !strings.Contains(err.Error(), "400") {
				return fmt.Errorf("the id %q was taken for a session of %s by an upgrade: %v", guess.sid, victim.wire, err)
			}
		} else if err != nil { // it is accepted, and told so
			return err
		} else if text, err := p.payload(0x81); err != nil || string(text) != "7:::1+0" {
			return fmt.Errorf("the id %q was taken for a session of %s by an upgrade: %q, %v", guess.sid, victim.wire, text, err)
		}
		p.Close()
	}
	return nil
}

// endedID uses the id of a session that has ended, and of one whose place has been taken by another in the server's tables.
func endedID(a *arena, wire string) error {
	g, err := a.listener(2, wire)
	if err != nil {
		a.t.Fatal(err)
	}
	g.Close()
	var heirs []*guest
	for range 3 {
		heir, err := a.listener(3, wire)
		if err != nil {
			a.t.Fatal(err)
		}
		heirs = append(heirs, heir)
	}
	if err := asAnother(a, wire, slices.Repeat([]string{g.sio().sid}, 8), 2); err != nil {
		return err
	}
	for _, heir := range heirs {
		heir.Close()
	}
	return nil
}

// otherIDs uses ids for what they are not for: those of one generation of socket.io with another, those that socket.io 4 shows to the
// page, those of sessions over WebSocket for polling.
func otherIDs(a *arena, victims map[string]*guest) error {
	for as, of := range map[string]string{"0.9 polling": "eio4 polling", "eio3 polling": "0.9 polling", "eio4 polling": "0.9 polling"} {
		if err := asAnother(a, as, slices.Repeat([]string{victims[of].sio().sid}, 8), 3); err != nil {
			return err
		}
	}
	shown := victims["eio4 polling"].sio().shown
	if shown == "" {
		a.t.Fatal("socket.io 4 shows no id")
	}
	if err := asAnother(a, "eio4 polling", []string{shown, shown, shown, shown, victims["eio4 ws"].sio().shown}, 5); err != nil {
		return err
	}
	for _, wire := range []string{"eio3 ws", "eio4 ws"} {
		s := victims[wire].sio()
		for _, method := range []string{"GET", "POST"} {
			p, err := a.dial(4)
			if err != nil {
				a.t.Fatal(err)
			}
			p.late = soon
			status, text, err := p.request(httpText(method, s.path("xhr-polling"), "1"))
			if err != nil || status != http.StatusBadRequest {
				return fmt.Errorf("the id of %s was taken for polling: %d %q, %v", wire, status, text, err)
			}
			if err := p.upgradeTo(s.path("websocket")); err == nil {
				return fmt.Errorf("the id of %s was taken for another WebSocket", wire)
			}
			p.Close()
		}
	}
	return asAnother(a, "0.9 polling", []string{victims["0.9 ws"].sio().sid, victims["0.9 ws"].sio().sid, victims["eio4 ws"].sio().sid}, 4)
}
