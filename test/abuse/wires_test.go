//go:build linux

package abuse

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/pomelod/pomelod/codec"
)

// event is what a client is told: the answer to a request if it has an id, else a push.
type event struct {
	id          uint32
	route, body string
}

// talker is a client of some wire.
type talker interface {
	say(id uint32, route, body string) error
	hear() ([]event, error) // waits for something; may be none
	Close() error
}

// client is a talker that keeps what it hears.
type client struct {
	talker
	id     uint32
	pushes []event
}

// wires are all of those that clients speak.
var wires = []string{"tcp", "ws", "0.9 polling", "0.9 ws", "eio3 polling", "eio3 ws", "eio4 polling", "eio4 ws"}

// client connects from the i-th attacker's address, up to where requests are taken.
func (a *arena) client(i int, wire string) (*client, error) {
	p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
	if err != nil {
		return nil, err
	}
	c := &client{id: 1}
	version, transport, ok := strings.Cut(wire, " ")
	if !ok {
		a.keep(p)
		c.talker = hybrid{p}
		if wire == "ws" {
			err = p.upgrade()
		}
		if err == nil {
			err = p.login()
		}
		return c, err
	}
	s := &sio{peer: p, version: version}
	a.keep(s)
	c.talker = s
	if err := s.open(transport == "ws"); err != nil {
		return nil, fmt.Errorf("%s: %w", wire, err)
	}
	return c, nil
}

// ask sends a request and returns its answer.
func (c *client) ask(route, body string) (string, error) {
	c.id = c.id%100 + 1 // below 128, where all wires write an id alike
	if err := c.say(c.id, route, body); err != nil {
		return "", err
	}
	for {
		events, err := c.hear()
		if err != nil {
			return "", err
		}
		answer, answered := "", false
		for _, e := range events {
			if e.id == 0 {
				c.pushes = append(c.pushes, e)
			} else if e.id == c.id {
				answer, answered = e.body, true
			}
		}
		if answered {
			return answer, nil
		}
	}
}

// enters enters a room, as it is allowed to.
func (c *client) enters(user, room string) error {
	answer, err := c.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room))
	if err == nil && !strings.HasPrefix(answer, `{"users":`) {
		err = fmt.Errorf("enter: %s", answer)
	}
	return err
}

// push is the next push.
func (c *client) push() (event, error) {
	for len(c.pushes) == 0 {
		events, err := c.hear()
		if err != nil {
			return event{}, err
		}
		for _, e := range events {
			if e.id == 0 {
				c.pushes = append(c.pushes, e)
			}
		}
	}
	e := c.pushes[0]
	c.pushes = c.pushes[1:]
	return e, nil
}

// hybrid is a talker of the hybrid protocol.
type hybrid struct{ *peer }

func (h hybrid) say(id uint32, route, body string) error { return h.send(message(id, route, body)) }

func (h hybrid) hear() ([]event, error) {
	got, err := h.pkg()
	if err != nil {
		return nil, err
	}
	switch got.Type {
	case codec.PackageKick:
		return nil, fmt.Errorf("kicked: %s", got.Body)
	case codec.PackageData:
		m, err := codec.ParseMessage(got.Body)
		return []event{{m.ID, string(m.Route), string(m.Body)}}, err
	}
	return nil, nil
}

// sio is a talker of socket.io. One that polls asks for something only while it has to wait.
type sio struct {
	*peer
	version string // 0.9, eio3 or eio4
	sid     string
}

func (s *sio) path(transport string) string {
	if s.version == "0.9" {
		return "/socket.io/1/" + transport + "/" + s.sid
	}
	path := "/socket.io/?b64=1&EIO=" + s.version[3:] + "&transport=" + strings.TrimPrefix(transport, "xhr-")
	if s.sid != "" {
		path += "&sid=" + s.sid
	}
	return path
}

// open begins a session.
func (s *sio) open(ws bool) error {
	if s.version == "0.9" {
		_, body, err := s.request(httpText("GET", "/socket.io/1/?t=1", ""))
		if err != nil {
			return err
		}
		s.sid, _, _ = strings.Cut(body, ":")
	}
	if ws {
		if err := s.changeOver(); err != nil {
			return err
		}
	}
	for {
		packets, err := s.packets()
		if err != nil {
			return err
		}
		for _, p := range packets {
			switch {
			case strings.HasPrefix(p, "0{"):
				var first struct{ SID string }
				if err := json.Unmarshal([]byte(p[1:]), &first); err != nil {
					return err
				}
				s.sid = first.SID
				if s.version == "eio4" {
					if err := s.packet("40"); err != nil {
						return err
					}
				}
			case p == "1::", strings.HasPrefix(p, "40"):
				return nil
			}
		}
	}
}

// upgradeHead asks for a WebSocket for the session, or for a new one.
func (s *sio) upgradeHead() string {
	return strings.Replace(upgradeHead, "/", s.path("websocket"), 1)
}

// changeOver makes the connection a WebSocket.
func (s *sio) changeOver() error {
	if err := s.raw([]byte(s.upgradeHead())); err != nil {
		return err
	}
	_ = s.SetReadDeadline(time.Now().Add(s.timeout()))
	resp, err := http.ReadResponse(s.r, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %s", resp.Status)
	}
	s.ws = err == nil
	return err
}

func (s *sio) say(id uint32, route, body string) error {
	return s.packet(s.text(sioMessage(id, route, body)))
}

// Close ends the session too, which would outlive its connection.
func (s *sio) Close() error {
	if !s.ws && s.sid != "" {
		s.late = time.Second
		if s.version == "0.9" {
			_, _, _ = s.request(httpText("GET", s.path("xhr-polling")+"?disconnect=1", ""))
		} else {
			_ = s.packet("1")
		}
	}
	return s.peer.Close()
}

// sioMessage is a message as socket.io clients have it: a character for each byte of the head.
func sioMessage(id uint32, route, body string) string {
	return string([]rune{rune(id >> 24), rune(id >> 16 & 0xff), rune(id >> 8 & 0xff), rune(id & 0xff), rune(len(route))}) + route + body
}

// text is the packet of a message.
func (s *sio) text(message string) string {
	if s.version == "0.9" {
		return "3:::" + message
	}
	b, _ := json.Marshal(message) // of a string it cannot fail
	return `42["message",` + string(b) + `]`
}

// packet sends a packet.
func (s *sio) packet(p string) error {
	if s.ws {
		return s.raw(wsFrame(0x81, []byte(p)))
	}
	status, answer, err := s.request(s.post(p))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("POST: %d %q", status, answer)
	}
	return err
}

// post is the request that sends a packet.
func (s *sio) post(p string) string {
	if s.version == "eio3" {
		p = strconv.Itoa(units(p)) + ":" + p
	}
	return httpText("POST", s.path("xhr-polling"), p, "Content-Type: text/plain;charset=UTF-8")
}

// packets waits for packets. Pings are answered.
func (s *sio) packets() (list []string, err error) {
	if s.ws {
		kind, b, err := s.frame()
		if err != nil {
			return nil, err
		}
		if kind == 8 {
			return nil, errClosed
		}
		list = []string{string(b)}
	} else {
		status, body, err := s.request(httpText("GET", s.path("xhr-polling"), ""))
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET: %d %q", status, body)
		}
		list = s.split(body)
	}
	for _, p := range list {
		switch {
		case p == "2" && s.version == "eio4":
			err = s.packet("3")
		case p == "2::" && s.version == "0.9":
			err = s.packet("2::")
		case p == "1" && s.version != "0.9", strings.HasPrefix(p, "0::"), strings.HasPrefix(p, "7:"):
			err = fmt.Errorf("the session has ended: %q", p)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// split takes a payload apart.
func (s *sio) split(body string) (list []string) {
	if s.version == "eio4" {
		return strings.Split(body, "\x1e")
	}
	between := ":"
	if s.version == "0.9" {
		if between = "\ufffd"; !strings.HasPrefix(body, between) {
			return []string{body}
		}
	}
	for body != "" {
		length, rest, _ := strings.Cut(strings.TrimPrefix(body, "\ufffd"), between)
		n, err := strconv.Atoi(length)
		end := 0
		for _, r := range rest {
			if n <= 0 {
				break
			}
			n -= utf16.RuneLen(r)
			end += len(string(r))
		}
		if err != nil || end == 0 {
			return append(list, body)
		}
		list, body = append(list, rest[:end]), rest[end:]
	}
	return list
}

func (s *sio) hear() (list []event, err error) {
	packets, err := s.packets()
	for _, p := range packets {
		text, is := strings.CutPrefix(p, "3:::")
		if !is && s.version == "0.9" {
			continue
		}
		if s.version != "0.9" {
			if text, is = strings.CutPrefix(p, "42"); !is {
				continue
			}
			var args []string
			if err := json.Unmarshal([]byte(text), &args); err != nil || len(args) != 2 {
				return nil, fmt.Errorf("a packet %.200q: %w", p, err)
			}
			text = args[1]
		}
		var told []struct {
			ID    int32
			Route string
			Body  json.RawMessage
		}
		if !strings.HasPrefix(text, "[") {
			text = "[" + text + "]"
		}
		var raw []json.RawMessage
		if err := errors.Join(json.Unmarshal([]byte(text), &told), json.Unmarshal([]byte(text), &raw)); err != nil {
			return nil, fmt.Errorf("a message %.200q: %w", text, err)
		}
		for i, m := range told {
			if m.Body == nil { // a push as socket.io 0.9 has it
				m.Body = raw[i]
			}
			list = append(list, event{uint32(m.ID), m.Route, string(m.Body)})
		}
	}
	return list, err
}

// frame reads a frame of the server's.
func (p *peer) frame() (kind byte, b []byte, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	var head [10]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(p.r, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(p.r, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	if err == nil && n > 1<<20 {
		err = fmt.Errorf("a frame of %d bytes", n)
	}
	if err != nil {
		return 0, nil, err
	}
	b = make([]byte, n)
	_, err = io.ReadFull(p.r, b)
	return head[0] & 0x0f, b, err
}

// wsFrame is a frame with the shortest length and a mask of zeros; first is FIN, reserved bits and opcode.
func wsFrame(first byte, payload []byte) []byte {
	b := codec.AppendWSHead(nil, codec.WSBinary, len(payload))
	b[0] = first
	b[1] |= 0x80
	return append(append(b, 0, 0, 0, 0), payload...)
}

// httpText is a request; one with a body has its length, unless the headers say something about that.
func httpText(method, target, body string, headers ...string) string {
	text := method + " " + target + " HTTP/1.1\r\nHost: h\r\n"
	sized := body == "" && method != "POST"
	for _, h := range headers {
		text += h + "\r\n"
		sized = sized || strings.HasPrefix(h, "Content-Length") || strings.HasPrefix(h, "Transfer-Encoding")
	}
	if !sized {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return text + "\r\n" + body
}

// request sends a request and reads its answer.
func (p *peer) request(request string) (status int, body string, err error) {
	if err := p.raw([]byte(request)); err != nil {
		return 0, "", err
	}
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// unhurt is an error if anything in the server has panicked, or if a line of its log is not an object of JSON.
func (a *arena) unhurt() error {
	now := a.metrics()
	var all []error
	for _, name := range []string{"pomelod_panics_total", "pomelod_room_panics_total", "pomelod_handler_panics_total"} {
		if n, ok := now[name]; n != 0 || !ok {
			all = append(all, fmt.Errorf("%s is %v", name, n))
		}
	}
	log := a.stderr.String()
	for _, line := range strings.Split(log[:strings.LastIndexByte(log, '\n')+1], "\n") {
		var object map[string]any
		if line != "" && json.Unmarshal([]byte(line), &object) != nil || strings.Contains(line, "panic") {
			all = append(all, fmt.Errorf("a line of the log: %.300q", line))
		}
	}
	if len(all) > 3 {
		all = append(all[:3], fmt.Errorf("and %d more", len(all)-3))
	}
	return errors.Join(all...)
}
