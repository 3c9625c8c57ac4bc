//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

// sio speaks socket.io: 0.9, or by Engine.IO 3 or 4. While it polls it has two connections, as browsers do: one to fetch by, one to send
// by.
type sio struct {
	from, to string
	only     *peer  // by which it does everything instead, one thing after the other
	version  string // 0.9, eio3 or eio4
	ws       bool   // from the beginning
	again    bool   // a GET whose connection the server has ended meanwhile is made again
	ascii    bool   // it writes nothing else in packets of Engine.IO
	sid      string
	shown    string // the id that socket.io 4 does not keep secret

	mu        sync.Mutex // for who closes
	closed    bool
	socket    *peer // its WebSocket, once it has one
	get, post *peer

	fetching bool      // a GET is under way
	asked    time.Time // when it began
	packets  []string  // that have come and were not heard yet
	words    []word    // that have come in one packet

	sending sync.Mutex
	posted  time.Time
}

// Paths of Engine.IO 3 and 4, b64 so that payloads are text.
const (
	pathPolling = "/socket.io/?transport=polling&b64=1&EIO="
	pathSocket  = "/socket.io/?transport=websocket&EIO="
)

// openPolling opens an Engine.IO session that polls, goes no further, and returns its id. The connection stays.
func (p *peer) openPolling(version string) (sid string, err error) {
	status, text, err := p.request(httpText("GET", pathPolling+version, ""))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(text, `"sid":"`)
	sid, _, ok := strings.Cut(rest, `"`)
	if status != 200 || !ok {
		return "", fmt.Errorf("no session: %d %.80q", status, text)
	}
	return sid, nil
}

// path is where a request goes, or an upgrade.
func (s *sio) path(transport string) string {
	if s.version == "0.9" {
		return "/socket.io/1/" + transport + "/" + s.sid
	}
	path := pathPolling + s.version[3:]
	if transport == "websocket" {
		path = pathSocket + s.version[3:]
	}
	if s.sid != "" {
		path += "&sid=" + s.sid
	}
	return path
}

// polling is the request that fetches.
func (s *sio) polling() string { return httpText("GET", s.path("xhr-polling"), "") }

// posting is the request that sends a payload.
func (s *sio) posting(payload string) string {
	return httpText("POST", s.path("xhr-polling"), payload, "Content-Type: text/plain;charset=UTF-8")
}

// payload is packets as a POST has them.
func (s *sio) payload(packets ...string) string {
	switch {
	case s.version == "eio4":
		return strings.Join(packets, "\x1e")
	case s.version == "0.9" && len(packets) == 1:
		return packets[0]
	}
	var b strings.Builder
	for _, p := range packets {
		if s.version == "0.9" {
			fmt.Fprintf(&b, "\ufffd%d\ufffd%s", units(p), p)
		} else {
			fmt.Fprintf(&b, "%d:%s", units(p), p)
		}
	}
	return b.String()
}

// unpack takes packets out of a payload.
func (s *sio) unpack(body string) (packets []string, err error) {
	const mark = "\ufffd"
	switch {
	case s.version == "eio4":
		return strings.Split(body, "\x1e"), nil
	case s.version == "0.9" && !strings.HasPrefix(body, mark):
		return []string{body}, nil
	}
	end := ":"
	if s.version == "0.9" {
		end = mark
	}
	for body != "" {
		digits, rest, _ := strings.Cut(strings.TrimPrefix(body, mark), end)
		n, err := strconv.Atoi(digits)
		at := 0
		for _, r := range rest {
			if n <= 0 {
				break
			}
			n -= utf16.RuneLen(r)
			at += len(string(r))
		}
		if err != nil || n != 0 {
			return packets, fmt.Errorf("%w: a payload that goes on with %.100q", errWrong, body)
		}
		packets, body = append(packets, rest[:at]), rest[at:]
	}
	return packets, nil
}

// units is the length of text as JavaScript counts: in UTF-16.
func units(text string) int { return len(utf16.Encode([]rune(text))) }

// text is a message in the string format: four characters of id, one of the route's length, route and body.
func (s saying) text() string {
	id := s.id
	return string([]rune{rune(id >> 24), rune(id >> 16 & 255), rune(id >> 8 & 255), rune(id & 255), rune(units(s.route))}) + s.route + s.body
}

// packet is that of a message.
func (s *sio) packet(text string) string {
	switch {
	case s.version == "0.9":
		return "3:::" + text
	case s.ascii:
		return `42["message",` + asciiString(text) + `]`
	}
	return `42["message",` + quoted(text) + `]`
}

// quoted is text as a JSON string.
func quoted(text string) string {
	b, _ := json.Marshal(text) // of a string it cannot fail
	return string(b)
}

// asciiString is text as a JSON string of nothing but ASCII: the generations of Engine.IO 3 read anything else differently.
func asciiString(text string) string {
	b := []byte{'"'}
	for _, u := range utf16.Encode([]rune(text)) {
		if u < ' ' || u > '~' || u == '"' || u == '\\' {
			b = fmt.Appendf(b, `\u%04x`, u)
		} else {
			b = append(b, byte(u))
		}
	}
	return string(append(b, '"'))
}

// life is the packet that says that the client is there.
func (s *sio) life() string {
	return map[string]string{"0.9": "2::", "eio3": "2", "eio4": "3"}[s.version]
}

// goodbye is the packet with which a page leaves.
func (s *sio) goodbye() string {
	return map[string]string{"0.9": "0::", "eio3": "41", "eio4": "1"}[s.version]
}

var errLeft = errors.New("closed by its own client")

// connect is the connection that c is for, made anew if there is none. It has no other if there is an only one.
func (s *sio) connect(c **peer) (*peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *c != nil {
		return *c, nil
	}
	if s.closed {
		return nil, errLeft
	}
	p, err := s.only, error(nil)
	if p == nil {
		p, err = dial(s.from, s.to)
	}
	if err == nil {
		*c = p
	}
	return p, err
}

// disconnect closes the connection that c is for.
func (s *sio) disconnect(c **peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *c != nil {
		(*c).Close()
	}
	*c = nil
}

func (s *sio) open() error {
	if s.version == "0.9" {
		if err := s.handshake(); err != nil {
			return err
		}
	}
	if s.ws {
		if err := s.takeOver(); err != nil {
			return err
		}
	}
	if s.version != "0.9" {
		var first struct{ SID string }
		packet, err := s.read(patience)
		if err != nil {
			return err
		}
		if packet == "" || packet[0] != '0' || json.Unmarshal([]byte(packet[1:]), &first) != nil || first.SID == "" {
			return fmt.Errorf("instead of a handshake: %.100q", packet)
		}
		s.sid = first.SID
	}
	if s.version == "eio4" {
		if err := s.send("40"); err != nil {
			return err
		}
	}
	packet, err := s.read(patience)
	if want := map[string]string{"0.9": "1::", "eio3": "40", "eio4": "40{"}[s.version]; err == nil && !strings.HasPrefix(packet, want) {
		err = fmt.Errorf("instead of a session: %.100q", packet)
	}
	var connected struct{ SID string }
	if s.version == "eio4" && err == nil {
		err = json.Unmarshal([]byte(packet[2:]), &connected)
		s.shown = connected.SID
	}
	return err
}

// handshake is that of 0.9. Its connection is the one to send by.
func (s *sio) handshake() error {
	p, err := s.connect(&s.post)
	if err != nil {
		return err
	}
	_, body, err := p.request(httpText("GET", "/socket.io/1/", ""))
	sid, _, ok := strings.Cut(body, ":")
	if err == nil && !ok {
		err = fmt.Errorf("handshake answered %.100q", body)
	}
	s.sid, s.posted = sid, time.Now()
	return err
}

// takeOver has the session travel by a WebSocket of its own from now on.
func (s *sio) takeOver() error {
	p, err := s.upgraded()
	if err != nil {
		return err
	}
	s.useSocket(p)
	return nil
}

// useSocket has the session travel by p, and its other connections closed.
func (s *sio) useSocket(p *peer) {
	if s.only == nil {
		s.disconnect(&s.get)
		s.disconnect(&s.post)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket, s.get, s.post = p, nil, nil
}

// upgraded is a new WebSocket of this session, or the first of a new one.
func (s *sio) upgraded() (p *peer, err error) {
	if p = s.only; p == nil {
		if p, err = dial(s.from, s.to); err != nil {
			return nil, err
		}
	}
	if err := p.upgradeTo(s.path("websocket")); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// read returns the next packet.
func (s *sio) read(within time.Duration) (string, error) {
	if len(s.packets) == 0 && s.socket != nil {
		if err := s.socket.begins(within); err != nil {
			return "", err
		}
		b, err := s.socket.payload(0x81)
		return string(b), err
	}
	if len(s.packets) == 0 {
		if err := s.poll(within); err != nil {
			return "", err
		}
	}
	packet := s.packets[0]
	s.packets = s.packets[1:]
	return packet, nil
}

// poll gets packets by a GET, which may be under way already.
func (s *sio) poll(within time.Duration) error {
	first := s.get == nil || s.fetching
	err := s.fetch()
	if err == nil {
		err = s.get.begins(within)
	}
	if err != nil && !errors.Is(err, errQuiet) && !first && s.again {
		s.disconnect(&s.get)
		asked := s.asked
		s.fetching = false
		if err = s.fetch(); err == nil {
			err = s.get.begins(within)
		}
		s.asked = asked
	}
	if err == nil {
		err = s.fetched()
	}
	return err
}

// fetch has a GET under way.
func (s *sio) fetch() error {
	if s.fetching {
		return nil
	}
	s.asked = time.Now()
	p, err := s.connect(&s.get)
	if err != nil {
		return err
	}
	s.fetching = true
	return p.raw([]byte(s.polling()))
}

// fetched reads the answer of the GET.
func (s *sio) fetched() error {
	body, err := s.get.ok()
	if err != nil {
		return err
	}
	s.fetching = false
	packets, err := s.unpack(body)
	s.packets = append(s.packets, packets...)
	return err
}

// send sends packets, in one POST where it polls.
func (s *sio) send(packets ...string) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.socket != nil {
		var b []byte
		for _, p := range packets {
			b = append(b, textFrame(p)...)
		}
		return s.socket.raw(b)
	}
	if time.Since(s.posted) > time.Second && s.only == nil { // the server ends idle ones
		s.disconnect(&s.post)
	}
	p, err := s.connect(&s.post)
	if err != nil {
		return err
	}
	if err := p.raw([]byte(s.posting(s.payload(packets...)))); err != nil {
		return err
	}
	body, err := p.ok()
	if want := map[string]string{"0.9": "1", "eio3": "ok", "eio4": "ok"}[s.version]; err == nil && body != want {
		err = fmt.Errorf("a POST was answered %.100q", body)
	}
	s.posted = time.Now()
	return err
}

func (s *sio) say(all ...saying) error {
	packets := make([]string, len(all))
	for i, one := range all {
		packets[i] = s.packet(one.text())
	}
	return s.send(packets...)
}

func (s *sio) hear(within time.Duration) (w word, err error) {
	if len(s.words) == 0 {
		packet, err := s.read(within)
		if err != nil {
			return w, err
		}
		switch {
		case packet == "2" && s.version == "eio4":
			return w, s.send("3")
		case packet == "2::":
			return w, s.send("2::")
		}
		if s.words, err = s.parse(packet); err != nil || len(s.words) == 0 {
			return w, err
		}
	}
	w, s.words = s.words[0], s.words[1:]
	return w, nil
}

// parse takes the messages out of a packet; what is none has none.
func (s *sio) parse(packet string) (all []word, err error) {
	var texts []json.RawMessage
	if inner, ok := strings.CutPrefix(packet, "3:::"); ok && s.version == "0.9" {
		err = json.Unmarshal([]byte(inner), &texts)
	} else if inner, ok := strings.CutPrefix(packet, "42"); ok && s.version != "0.9" {
		var event []string
		if err = json.Unmarshal([]byte(inner), &event); err == nil && len(event) != 2 {
			err = errors.New("no message")
		} else if err == nil {
			texts = []json.RawMessage{json.RawMessage(event[1])}
		}
	} else if packet == "1" || packet == "41" || strings.HasPrefix(packet, "0::") || strings.HasPrefix(packet, "7::") {
		return nil, fmt.Errorf("%w: packet %.100s", errClosed, packet)
	}
	for _, text := range texts {
		var m struct {
			ID    int64
			Route string
			Body  json.RawMessage
		}
		if err = errors.Join(err, json.Unmarshal(text, &m)); m.Body == nil {
			m.Body = text // the flavour of 2013 has a push's members beside the route
		}
		all = append(all, word{id: m.ID, route: m.Route, body: string(m.Body)})
		if m.ID != 0 {
			all[len(all)-1].route = ""
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: the packet %.200q: %w", errWrong, packet, err)
	}
	return all, err
}

func (s *sio) beat() error { return s.send(s.life()) }

// upgrade changes over as browsers do: it asks by the WebSocket, lets the GET end, and says that it has changed.
func (s *sio) upgrade() error {
	if s.version == "0.9" || s.socket != nil {
		return nil
	}
	p, err := s.upgraded()
	if err != nil {
		return err
	}
	if err = p.raw([]byte(textFrame("2probe"))); err == nil {
		var answer []byte
		if answer, err = p.payload(0x81); err == nil && string(answer) != "3probe" {
			err = fmt.Errorf("a probe was answered %.100q", answer)
		}
	}
	if err == nil && s.fetching {
		err = s.fetched()
	}
	if err == nil {
		err = p.raw([]byte(textFrame("5")))
	}
	if err != nil {
		p.Close()
		return fmt.Errorf("upgrade: %w", err)
	}
	s.useSocket(p)
	return nil
}

func (s *sio) bye() error { return s.send(s.goodbye()) }

func (s *sio) conns() (all []*peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []*peer{s.socket, s.get, s.post} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// Close says goodbye for a session that polls, by a connection of its own, and takes what it is told last: both would be kept.
func (s *sio) Close() error {
	s.mu.Lock()
	over := s.closed || s.socket != nil || s.sid == ""
	s.closed = true
	s.mu.Unlock()
	if !over {
		if p, err := dial(s.from, s.to); err == nil {
			p.late = time.Second
			packet := "1"
			if s.version == "0.9" {
				packet = "0::"
			}
			_, _, _ = p.request(s.posting(s.payload(packet)))
			_, _, _ = p.request(s.polling())
			p.Close()
		}
	}
	for _, p := range s.conns() {
		p.Close()
	}
	return nil
}
