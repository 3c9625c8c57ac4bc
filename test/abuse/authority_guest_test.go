//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf16"

	"github.com/pomelod/pomelod/codec"
)

// guestWires are the ways in which clients come.
var guestWires = []string{"tcp", "ws", "sio09-ws", "sio09-xhr", "eio3-ws", "eio3-polling", "eio4-ws", "eio4-polling"}

// stranger is a client of any wire, made of bytes. It takes down all it is told, in order.
type stranger struct {
	*peer        // by which it sends
	fetch *peer  // by which one that polls is told things
	wire  string // of guestWires
	path  string // of one that polls
	sid   string // of a socket.io client
	shown string // the one of socket.io 3 and later that is no secret
	told  chan word
	err   error // why told was closed

	closed atomic.Bool
}

// word is something that a stranger is told: an answer, or a push; a kick is a push with the route onKick.
type word struct {
	id    int64  // 0: a push
	bytes int    // that the id of an answer took; hybrid only
	route string // of a push
	body  string
}

// saying is a message of a stranger; a notify if id is 0.
type saying struct {
	id          uint32
	route, body string
}

// chat is what an onChat says.
type chat struct {
	Msg  any
	From string
}

func (w word) chat() (c chat) {
	if w.route == "onChat" {
		_ = json.Unmarshal([]byte(w.body), &c)
	}
	return c
}

func (w word) String() string {
	if w.id != 0 {
		return fmt.Sprintf("answer %d: %.200s", w.id, w.body)
	}
	return fmt.Sprintf("%s: %.200s", w.route, w.body)
}

// stranger connects the i-th attacker by a wire, up to where it may send messages.
func (a *arena) stranger(i int, wire string) (*stranger, error) {
	p, err := a.dial(i)
	if err != nil {
		return nil, err
	}
	g := &stranger{peer: p, wire: wire, told: make(chan word, 1<<16)}
	p.late = time.Minute // of silence; next says how long it is too long for
	switch wire {
	case "tcp":
		err = p.login()
	case "ws":
		if err = p.upgrade(); err == nil {
			err = p.login()
		}
	default:
		if strings.HasSuffix(wire, "-ws") {
			err = g.openSocket()
		} else if g.fetch, err = a.dial(i); err == nil {
			g.fetch.late = time.Minute
			err = g.openPolling()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", wire, err)
	}
	go g.listen()
	a.keep(g)
	return g, nil
}

// Close closes its connections. The session of one that polls would outlive them, so that says goodbye.
func (g *stranger) Close() error {
	if g.fetch != nil && !g.closed.Swap(true) {
		if p, err := dial(g.LocalAddr().(*net.TCPAddr).IP.String(), g.RemoteAddr().String()); err == nil {
			goodbye := "1"
			if g.wire[0] == 's' {
				goodbye = "0::"
			}
			_, _, _ = p.httpAsk("POST", g.path, goodbye)
			_, _, _ = p.httpAsk("GET", g.path, "") // what it was kicked for would wait for that
			p.Close()
		}
		g.fetch.Close()
	}
	return g.peer.Close()
}

// inside is stranger and entering a room; more are members of the body, beginning with a comma.
func (a *arena) inside(i int, wire, user, room, more string) (*stranger, error) {
	g, err := a.stranger(i, wire)
	if err != nil {
		return nil, err
	}
	users, err := g.goIn(user, room, more)
	if err == nil && users == nil {
		err = errors.New("refused")
	}
	if err != nil {
		return nil, fmt.Errorf("%s enters as %s: %w", wire, user, err)
	}
	return g, nil
}

// goIn enters a room and returns who is in there, nil when the stranger is refused.
func (g *stranger) goIn(user, room, more string) (users []string, err error) {
	answer, err := g.call(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q%s}`, user, room, more))
	if err != nil || answer == `{"code":500,"error":true}` {
		return nil, err
	}
	var in struct{ Users []string }
	if json.Unmarshal([]byte(answer), &in) != nil || in.Users == nil {
		err = fmt.Errorf("%w: enter was answered %.200s", errWrong, answer)
	}
	return in.Users, err
}

func (g *stranger) eio() byte    { return g.wire[3] }
func (g *stranger) hybrid() bool { return g.wire == "tcp" || g.wire == "ws" }

func (g *stranger) openSocket() error {
	if g.wire == "sio09-ws" {
		if err := g.handshake09(g.peer); err != nil {
			return err
		}
		if err := g.upgradeAt("/socket.io/1/websocket/" + g.sid); err != nil {
			return err
		}
		return g.until(g.text, "1::")
	}
	if err := g.upgradeAt(fmt.Sprintf("/socket.io/?EIO=%c&transport=websocket", g.eio())); err != nil {
		return err
	}
	if g.eio() == '4' {
		if err := g.raw(guestFrame("40")); err != nil {
			return err
		}
	}
	return g.until(g.text, "40")
}

func (g *stranger) openPolling() error {
	if g.wire == "sio09-xhr" {
		if err := g.handshake09(g.peer); err != nil {
			return err
		}
		g.path = "/socket.io/1/xhr-polling/" + g.sid
		return g.until(g.packets, "1::")
	}
	g.path = fmt.Sprintf("/socket.io/?EIO=%c&transport=polling&b64=1", g.eio())
	text, err := g.packets()
	if err != nil {
		return err
	}
	if g.sid == "" {
		return fmt.Errorf("no session id: %q", text)
	}
	g.path += "&sid=" + g.sid
	if g.eio() == '3' {
		if text[len(text)-1] == "40" {
			return nil
		}
	} else if err := g.post("40"); err != nil {
		return err
	}
	return g.until(g.packets, "40")
}

// until reads up to the packet that begins so.
func (g *stranger) until(read func() ([]string, error), begin string) error {
	for {
		all, err := read()
		if err != nil {
			return err
		}
		for _, p := range all {
			if strings.HasPrefix(p, begin) {
				return nil
			}
		}
	}
}

func (g *stranger) handshake09(p *peer) error {
	_, text, err := p.httpAsk("GET", "/socket.io/1/", "")
	g.sid, _, _ = strings.Cut(text, ":")
	return err
}

// listen takes down what the stranger is told until the end.
func (g *stranger) listen() {
	defer close(g.told)
	for {
		if g.hybrid() {
			p, err := g.pkg()
			if err != nil {
				g.err = err
				return
			}
			switch p.Type {
			case codec.PackageKick:
				g.told <- word{route: "onKick", body: string(p.Body)}
			case codec.PackageData:
				m, err := codec.ParseMessage(p.Body)
				if err != nil {
					g.err = err
					return
				}
				w := word{body: string(m.Body), route: string(m.Route)}
				if m.Type == codec.MessageResponse {
					w = word{id: int64(m.ID), bytes: int(m.IDBytes), body: w.body}
				}
				g.told <- w
			}
			continue
		}
		read := g.text
		if g.fetch != nil {
			read = g.packets
		}
		all, err := read()
		for _, p := range all {
			g.take(p)
		}
		if err != nil {
			g.err = err
			return
		}
	}
}

// take takes down a packet of socket.io.
func (g *stranger) take(packet string) {
	var elements []json.RawMessage
	if text, ok := strings.CutPrefix(packet, "3:::"); ok && g.wire[0] == 's' {
		_ = json.Unmarshal([]byte(text), &elements)
	} else if strings.HasPrefix(packet, "42") && g.wire[0] == 'e' {
		var event []string
		_ = json.Unmarshal([]byte(packet[2:]), &event)
		if len(event) == 2 {
			elements = append(elements, json.RawMessage(event[1]))
		}
	} else {
		return // what socket.io says for itself
	}
	if elements == nil {
		g.told <- word{route: "no JSON", body: packet}
	}
	for _, b := range elements {
		var e struct {
			ID    int64
			Route string
			Body  json.RawMessage
		}
		if json.Unmarshal(b, &e) != nil {
			e.Route = "no JSON"
		}
		if e.Body == nil {
			e.Body = b // the flavour of 2013 has its members beside the route
		}
		w := word{id: e.ID, route: e.Route, body: string(e.Body)}
		if w.id != 0 {
			w.route = ""
		}
		g.told <- w
	}
}

// errWrong is what the server must not do; other errors are the end of a connection.
var errWrong = errors.New("wrong")

// next is the next thing that the stranger is told.
func (g *stranger) next() (word, error) {
	select {
	case w, ok := <-g.told:
		if !ok {
			return word{}, fmt.Errorf("%s: %w", g.wire, g.err)
		}
		return w, nil
	case <-time.After(patience / 4):
		return word{}, fmt.Errorf("%s: %w: was told nothing for %v", g.wire, errWrong, patience/4)
	}
}

// call sends a request and returns its answer; pushes before it are left out, a kick is an error.
func (g *stranger) call(route, body string) (string, error) {
	g.id++
	if err := g.say(saying{g.id, route, body}); err != nil {
		return "", err
	}
	for {
		w, err := g.next()
		if err != nil {
			return "", err
		}
		switch {
		case w.id == int64(g.id):
			return w.body, nil
		case w.id != 0:
			return "", fmt.Errorf("%s: %w: asked %d and was told %v", g.wire, errWrong, g.id, w)
		case w.route == "onKick":
			return "", fmt.Errorf("%s: kicked: %s", g.wire, w.body)
		}
	}
}

// hears reads up to the onChat that says so, and returns what was told before.
func (g *stranger) hears(msg string) (before []word, err error) {
	if before, err = g.upTo(func(w word) bool { return w.chat().Msg == msg }); err != nil {
		err = fmt.Errorf("waiting for %q: %w", msg, err)
	}
	return before, err
}

// upTo reads up to a word, and returns what was told before.
func (g *stranger) upTo(is func(word) bool) (before []word, err error) {
	for {
		w, err := g.next()
		if err != nil || is(w) {
			return before, err
		}
		before = append(before, w)
	}
}

// say sends messages all at once.
func (g *stranger) say(all ...saying) error {
	var b []byte
	var packets []string
	for _, s := range all {
		switch {
		case g.hybrid():
			b = append(b, g.framed(message(s.id, s.route, s.body))...)
		case g.wire[0] == 's':
			packets = append(packets, "3:::"+s.text())
		default:
			packets = append(packets, `42["message",`+asciiString(s.text())+`]`)
		}
	}
	if packets != nil {
		return g.write(packets...)
	}
	return g.raw(b)
}

// write sends packets of socket.io.
func (g *stranger) write(packets ...string) error {
	if g.fetch != nil {
		return g.post(packets...)
	}
	var b []byte
	for _, p := range packets {
		b = append(b, guestFrame(p)...)
	}
	return g.raw(b)
}

// text is a message in the string format of socket.io clients.
func (s saying) text() string {
	id := s.id
	return string([]rune{rune(id >> 24), rune(id >> 16 & 255), rune(id >> 8 & 255), rune(id & 255), rune(utf16Units(s.route))}) + s.route + s.body
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

func utf16Units(s string) int { return len(utf16.Encode([]rune(s))) }

// post sends packets with one POST.
func (g *stranger) post(packets ...string) error {
	var b strings.Builder
	for i, p := range packets {
		switch {
		case g.wire[0] == 's' && len(packets) == 1:
			b.WriteString(p)
		case g.wire[0] == 's':
			fmt.Fprintf(&b, "\ufffd%d\ufffd%s", utf16Units(p), p)
		case g.eio() == '3':
			fmt.Fprintf(&b, "%d:%s", utf16Units(p), p)
		default:
			if i > 0 {
				b.WriteByte(0x1e)
			}
			b.WriteString(p)
		}
	}
	status, answer, err := g.httpAsk("POST", g.path, b.String())
	if err == nil && (status != http.StatusOK || answer != "ok" && answer != "1") {
		err = fmt.Errorf("POST: %d %.200q", status, answer)
	}
	return err
}

// packets fetches with one GET.
func (g *stranger) packets() (all []string, err error) {
	status, body, err := g.fetch.httpAsk("GET", g.path, "")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("GET: %d %.200q", status, body)
	}
	switch {
	case g.wire[0] == 'e' && g.eio() == '4':
		all = strings.Split(body, "\x1e")
	case g.wire[0] == 's' && !strings.HasPrefix(body, "\ufffd"):
		all = []string{body}
	default:
		end := ":"
		if g.wire[0] == 's' {
			end = "\ufffd"
		}
		units := utf16.Encode([]rune(body))
		for len(units) > 0 {
			digits, _, _ := strings.Cut(strings.TrimPrefix(string(utf16.Decode(units[:min(len(units), 12)])), end), end)
			from := len(digits) + 1
			if g.wire[0] == 's' {
				from++
			}
			n, err := strconv.Atoi(digits)
			if err != nil || from+n > len(units) {
				return all, fmt.Errorf("GET: %.200q", body)
			}
			all = append(all, string(utf16.Decode(units[from:from+n])))
			units = units[from+n:]
		}
	}
	for _, p := range all {
		if err := g.control(p); err != nil {
			return all, err
		}
	}
	return all, nil
}

// text reads a frame with a packet.
func (g *stranger) text() ([]string, error) {
	p, err := g.guestFrame()
	if err != nil {
		return nil, err
	}
	return []string{p}, g.control(p)
}

// errGoodbye: the server ended the session.
var errGoodbye = errors.New("the session was ended by the server")

// control looks at what socket.io says for itself.
func (g *stranger) control(packet string) error {
	switch {
	case packet == "41" || packet == "1" || packet == "0::" || strings.HasPrefix(packet, "7:::"):
		return errGoodbye
	case strings.HasPrefix(packet, "0{"):
		var open struct{ SID string }
		_ = json.Unmarshal([]byte(packet[1:]), &open)
		g.sid = open.SID
	case strings.HasPrefix(packet, "40{"):
		var connected struct{ SID string }
		_ = json.Unmarshal([]byte(packet[2:]), &connected)
		g.shown = connected.SID
	}
	return nil
}

// guestFrame is a client's frame.
func guestFrame(text string) []byte {
	head := codec.AppendWSHead(nil, codec.WSText, len(text))
	head[1] |= 0x80
	return append(append(head, 0, 0, 0, 0), text...)
}

// guestFrame reads a server's frame.
func (p *peer) guestFrame() (string, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	var head [2]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return "", err
	}
	if head[0] == 0x88 {
		return "", errClosed
	}
	n, long := int(head[1]), make([]byte, map[byte]int{126: 2, 127: 8}[head[1]])
	if _, err := io.ReadFull(p.r, long); err != nil {
		return "", err
	}
	if len(long) > 0 {
		n = 0
		for _, c := range long {
			n = n<<8 | int(c)
		}
	}
	if head[0] != 0x81 || n > 1<<24 {
		return "", fmt.Errorf("a frame that begins with %x and has %d bytes", head[0], n)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(p.r, text)
	return string(text), err
}

// upgradeAt is upgrade with a path.
func (p *peer) upgradeAt(path string) error {
	if err := p.raw([]byte(strings.Replace(upgradeHead, "GET /", "GET "+path, 1))); err != nil {
		return err
	}
	status, text, err := p.httpAnswer("GET")
	if err == nil && status != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %d %.200q", status, text)
	}
	return err
}

// httpAsk makes one HTTP request.
func (p *peer) httpAsk(method, path, body string) (status int, answer string, err error) {
	if err := p.raw(httpRequest(method, path, body)); err != nil {
		return 0, "", err
	}
	return p.httpAnswer(method)
}

func httpRequest(method, path, body string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body)
}

func (p *peer) httpAnswer(method string) (status int, answer string, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, "", nil
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
