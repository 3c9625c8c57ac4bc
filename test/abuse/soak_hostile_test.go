//go:build linux

package abuse

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// discard takes what is read and forgets it.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// narrow has the kernel take little that is not read.
func (p *peer) narrow() { _ = p.tcp().SetReadBuffer(4096) }

// mutated says something sensible with mistakes in it, in pieces.
func (a *actor) mutated() error {
	p, err := dial(a.from(), a.addr)
	if err != nil {
		return nil
	}
	b := a.mutate(a.stream())
	for len(b) > 0 {
		n := len(b)
		if a.rng.IntN(2) == 0 {
			n = 1 + a.rng.IntN(n)
		}
		if p.raw(b[:n]) != nil {
			break
		}
		b = b[n:]
	}
	_ = p.SetReadDeadline(time.Now().Add(a.upTo(200 * time.Millisecond)))
	_, _ = p.r.WriteTo(discard{})
	a.drop(p)
	return nil
}

// drop leaves a connection in one of the ways that need no words.
func (a *actor) drop(all ...*peer) {
	for _, p := range all {
		switch a.rng.IntN(3) {
		case 0:
			p.reset()
		case 1:
			p.Close()
		default:
			a.forget(p)
		}
	}
}

// stream is what a client may say on a connection, from the beginning on.
func (a *actor) stream() []byte {
	name, room := "mutant of "+a.name(), a.room() // with a mistake or two still no guest's name
	enter := fmt.Sprintf(`{"username":%q,"rid":%q}`, name, room)
	said := `{"content":"mutant \u00e9 \ud83d\ude00","target":"*"}`
	hybrid := [][]byte{
		handshake, handshakeAck,
		message(1, routeEnter, enter), message(2, routeSend, said), message(0, routeSend, said),
		heartbeat, message(3, routeEnter, enter),
	}
	g := newGuest(a.from(), a.addr, pollingWires[a.rng.IntN(len(pollingWires))]).sio()
	packets := []string{g.packet(saying{1, routeEnter, enter}.text()), g.packet(saying{2, routeSend, said}.text()), g.life()}
	if g.version == "eio4" {
		packets = slices.Insert(packets, 0, "40")
	}
	switch a.rng.IntN(4) {
	case 0:
		return slices.Concat(hybrid...)
	case 1:
		b := []byte(upgradeHead)
		p := &peer{ws: true}
		for _, packages := range hybrid {
			b = append(b, p.framed(packages)...)
		}
		return b
	}
	if (g.version == "0.9" || a.rng.IntN(2) == 0) && g.open() != nil { // a session to say it in
		return nil
	}
	defer a.drop(g.conns()...)
	if a.rng.IntN(2) == 0 {
		b := []byte(upgradeAt(g.path("websocket")))
		if g.sid != "" && g.version != "0.9" {
			packets = slices.Insert(packets, 0, "2probe", "5")
		}
		for _, packet := range packets {
			b = append(b, textFrame(packet)...)
		}
		return b
	}
	b := []byte(g.posting(g.payload(packets...)))
	b = append(b, g.polling()...)
	return append(b, g.posting(g.payload(packets[0]))...)
}

// mutate makes up to eight mistakes.
func (a *actor) mutate(b []byte) []byte {
	for range a.rng.IntN(9) {
		if len(b) == 0 {
			return b
		}
		i := a.rng.IntN(len(b))
		j := min(len(b), i+a.rng.IntN(20))
		switch a.rng.IntN(6) {
		case 0:
			b[i] ^= 1 << a.rng.IntN(8)
		case 1:
			b[i] = byte(a.rng.Uint32())
		case 2:
			b = slices.Delete(b, i, j)
		case 3:
			b = slices.Insert(b, i, slices.Clone(b[i:j])...)
		case 4:
			b = slices.Insert(b, i, []byte{0, 0xff, 0x80, '\r', '\n', 4, 0x7f, 0}[a.rng.IntN(8)])
		default:
			if a.rng.IntN(4) == 0 {
				b = b[:i]
			}
		}
	}
	return b
}

// held polls, and does with GETs and POSTs what no client should.
func (a *actor) held() error {
	guest := newGuest(a.from(), a.addr, pollingWires[a.rng.IntN(len(pollingWires))])
	g := guest.sio()
	defer a.end(guest)
	if g.open() != nil {
		return nil
	}
	if a.rng.IntN(2) == 0 {
		_, _ = guest.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, a.name(), a.room()))
	}
	if g.fetch() != nil {
		return nil
	}
	p, err := dial(a.from(), a.addr)
	if err != nil {
		return nil
	}
	defer a.drop(p)
	head := strings.Replace(g.posting(""), "Content-Length: 0", "Content-Length: 5000", 1)
	fetch := g.polling()
	probe := upgradeAt(g.path("websocket")) + textFrame("2probe")
	stranger := strings.Replace(fetch, g.sid[:4], "AAAA", 1)
	said := []struct {
		what, text string
	}{
		{"POST that is not ended", head + "3:::half of "},
		{"GET that takes the place of another", fetch},
		{"GETs behind each other", strings.Repeat(fetch, 4)},
		{"POST that is too long", strings.Replace(g.posting(""), "Content-Length: 0", "Content-Length: 50000000", 1)},
		{"POST that is no payload", g.posting("\ufffd9\ufffdno payload")},
		{"POST beside a POST", head},
		{"probe that is left alone", probe},
		{"probe and a frame that is none", probe + "\xff\xff\xff"},
		{"GET for a stranger's session", stranger},
	}[a.rng.IntN(9)]
	a.did(said.what)
	_ = p.raw([]byte(said.text))
	if a.rng.IntN(2) == 0 { // the one who holds the GET is gone while something is said to it
		g.get.reset()
	}
	_ = p.begins(a.upTo(200 * time.Millisecond))
	return nil
}

// halfLogin begins to connect, and goes no further.
func (a *actor) halfLogin() error {
	p, err := dial(a.from(), a.addr)
	if err != nil {
		return nil
	}
	all := []string{"", upgradeHead, string(handshake), httpText("GET", "/", ""), httpText("GET", "/no/such/page", ""),
		httpText("GET", "/socket.io/1/", ""), httpText("GET", pathPolling+"4", "")}
	b := all[a.rng.IntN(len(all))]
	if a.rng.IntN(2) == 0 && len(b) > 0 {
		b = b[:a.rng.IntN(len(b))]
	}
	_ = p.raw([]byte(b))
	_ = p.begins(a.upTo(100 * time.Millisecond))
	a.drop(p)
	return nil
}

// fragments sends what WebSocket messages are made of, pings in between, and mostly not the last of it.
func (a *actor) fragments() error {
	p, err := dial(a.from(), a.addr)
	if err != nil {
		return nil
	}
	defer a.drop(p)
	if p.upgrade() != nil || a.rng.IntN(2) == 0 && p.login() != nil {
		return nil
	}
	op := byte(0x02) // binary, not the last
	for range 1 + a.rng.IntN(16) {
		frame := wsFrame(op, make([]byte, a.rng.IntN(20_000)))
		if p.raw(frame) != nil || a.rng.IntN(4) == 0 && p.raw(wsFrame(0x89, nil)) != nil {
			return nil
		}
		op = 0x00
	}
	if a.rng.IntN(3) == 0 {
		_ = p.raw(wsFrame(0x80, nil))
	}
	_ = p.begins(a.upTo(200 * time.Millisecond))
	return nil
}

// pipelining asks over HTTP as fast as it is answered, or faster.
func (a *actor) pipelining() error {
	paths := []string{"/gate/queryEntry", "/", "/pomelo.js", "/no/such/page", pathPolling + "3"}
	burst := []byte(strings.Repeat(httpText("GET", paths[a.rng.IntN(len(paths))], ""), 100))
	for range 1 + a.rng.IntN(4) {
		p, err := dial(a.otherAddress(), a.addr)
		if err != nil {
			return nil
		}
		defer a.drop(p)
		end := time.Now().Add(a.upTo(300 * time.Millisecond))
		reads := a.rng.IntN(4) > 0
		if reads {
			go func() { _, _ = p.r.WriteTo(discard{}) }()
		}
		_ = p.SetWriteDeadline(end)
		for range 100 {
			if _, err := p.Conn.Write(burst); err != nil {
				break
			}
		}
	}
	return nil
}
