package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pomelod/pomelod/client"
)

// speaker is a client of one wire: what client.Client is for raw TCP.
type speaker interface {
	Request(route string, body, reply any) error
	Next() (client.Push, error)
	Close() error
}

// fiveWires are one of each generation and kind of transport.
var fiveWires = []string{"tcp", "ws", "0.9 ws", "eio3 polling", "eio4 ws"}

// dialTime is for a connection and its handshake.
const dialTime = 5 * time.Second

// open connects by a wire, up to where requests are taken.
func open(wire, addr string) (speaker, error) {
	switch wire {
	case "tcp":
		return client.Dial(addr, dialTime)
	case "ws":
		conn, err := dialPackages(addr)
		if err != nil {
			return nil, err
		}
		return client.New(conn, dialTime)
	}
	return openSIO(wire, addr)
}

// packages is a WebSocket as the stream of packages that its binary messages are.
type packages struct {
	net.Conn
	rest []byte
}

func dialPackages(addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn, _, _, err := ws.Dial(ctx, "ws://"+addr+"/")
	if err != nil {
		return nil, err
	}
	return &packages{Conn: conn}, nil
}

func (p *packages) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		var err error
		if p.rest, err = wsutil.ReadServerBinary(p.Conn); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Write writes one package, which is all that client.Client writes at a time.
func (p *packages) Write(b []byte) (int, error) {
	if err := wsutil.WriteClientBinary(p.Conn, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// sio speaks socket.io 0.9, or 1 to 4 by Engine.IO 3 or 4. All text is ASCII.
type sio struct {
	version string
	url     string          // of the session, polling
	http    *http.Client    // polling
	socket  net.Conn        // else
	done    context.Context // polling: ends with Close
	cancel  context.CancelFunc
	pushes  chan client.Push
	closed  chan struct{}

	writing sync.Mutex
	mu      sync.Mutex
	id      uint32
	waiting map[uint32]chan []byte
	err     error
}

func openSIO(wire, addr string) (*sio, error) {
	version, transport, _ := strings.Cut(wire, " ")
	s := &sio{version: version, pushes: make(chan client.Push, 4096), closed: make(chan struct{}), waiting: make(map[uint32]chan []byte),
		http: &http.Client{Transport: &http.Transport{}}}
	s.done, s.cancel = context.WithCancel(context.Background())
	err := s.open(addr, transport)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", wire, err)
	}
	return s, nil
}

func (s *sio) open(addr, transport string) error {
	path := "/socket.io/?EIO=" + s.version[len(s.version)-1:] + "&transport="
	if s.version == "0.9" {
		body, err := s.do(http.MethodGet, "http://"+addr+"/socket.io/1/", "", dialTime)
		sid, _, ok := strings.Cut(string(body), ":")
		if err != nil || !ok {
			return fmt.Errorf("handshake %.80q: %w", body, err)
		}
		path = "/socket.io/1/websocket/" + sid
	} else if transport == "ws" {
		path += "websocket"
	}
	if transport != "ws" {
		return s.openPolling("http://" + addr + path + "polling&b64=1")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, "ws://"+addr+path)
	if err != nil {
		return err
	}
	s.socket = conn
	var in io.ReadWriter = conn
	if early != nil { // what came with the answer to the handshake
		in = struct {
			io.Reader
			io.Writer
		}{io.MultiReader(io.LimitReader(early, int64(early.Buffered())), conn), conn}
	}
	_ = conn.SetReadDeadline(time.Now().Add(dialTime))
	if s.version == "eio4" {
		if _, err := wsutil.ReadServerText(in); err != nil { // the handshake
			return err
		}
		if err := s.send("40"); err != nil {
			return err
		}
	}
	if first, err := wsutil.ReadServerText(in); err != nil || !bytes.HasPrefix(first, []byte(map[string]string{"0.9": "1::", "eio4": "40"}[s.version])) {
		return fmt.Errorf("instead of a session %.80q: %w", first, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	go s.read(func() ([]string, error) {
		b, err := wsutil.ReadServerText(in)
		return []string{string(b)}, err
	})
	return nil
}

// openPolling is for Engine.IO 3, of which the client pings.
func (s *sio) openPolling(url string) error {
	body, err := s.do(http.MethodGet, url, "", dialTime)
	if err != nil {
		return err
	}
	packets, err := unpack(body)
	var first struct{ SID string }
	if err != nil || len(packets) == 0 || json.Unmarshal([]byte(packets[0][1:]), &first) != nil {
		return fmt.Errorf("handshake %.80q: %w", body, err)
	}
	s.url = url + "&sid=" + first.SID
	go s.read(func() ([]string, error) {
		body, err := s.do(http.MethodGet, s.url, "", time.Minute)
		if err != nil {
			return nil, err
		}
		return unpack(body)
	})
	go func() {
		ping := time.NewTicker(20 * time.Second)
		defer ping.Stop()
		for {
			select {
			case <-ping.C:
				_ = s.send("2") // who reads sees what is wrong
			case <-s.closed:
				return
			}
		}
	}()
	return nil
}

// do makes a request of HTTP.
func (s *sio) do(method, url, body string, within time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.done, within)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	r.Close = method == http.MethodPost // the server may end a connection at which nothing comes just when something does
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.80q", resp.Status, answer)
	}
	return answer, err
}

// unpack takes packets out of a payload of Engine.IO 3.
func unpack(b []byte) (packets []string, err error) {
	for len(b) > 0 {
		digits, rest, _ := bytes.Cut(b, []byte(":"))
		n, err := strconv.Atoi(string(digits))
		if err != nil || n < 1 || n > len(rest) {
			return nil, fmt.Errorf("a payload that goes on with %.80q", b)
		}
		packets, b = append(packets, string(rest[:n])), rest[n:]
	}
	return packets, nil
}

// send sends a packet.
func (s *sio) send(packet string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.socket != nil {
		return wsutil.WriteClientText(s.socket, []byte(packet))
	}
	_, err := s.do(http.MethodPost, s.url, fmt.Sprintf("%d:%s", len(packet), packet), time.Minute)
	return err
}

// read takes packets until the session ends.
func (s *sio) read(next func() ([]string, error)) {
	for {
		packets, err := next()
		for _, p := range packets {
			if err == nil {
				err = s.take(p)
			}
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// take takes one packet.
func (s *sio) take(packet string) (err error) {
	switch {
	case packet == "2::", packet == "2" && s.version == "eio4":
		return s.send(map[string]string{"0.9": "2::", "eio4": "3"}[s.version])
	case packet == "1" || packet == "41" || strings.HasPrefix(packet, "0::") || strings.HasPrefix(packet, "7::"):
		return fmt.Errorf("the server ends the session: %.80q", packet)
	}
	var texts []json.RawMessage
	if inner, ok := strings.CutPrefix(packet, "3:::"); ok && s.version == "0.9" {
		err = json.Unmarshal([]byte(inner), &texts)
	} else if inner, ok := strings.CutPrefix(packet, "42"); ok && s.version != "0.9" {
		var event []string
		if err = json.Unmarshal([]byte(inner), &event); err == nil && len(event) == 2 {
			texts = []json.RawMessage{json.RawMessage(event[1])}
		}
	}
	for _, text := range texts {
		if err == nil {
			err = s.hear(text)
		}
	}
	return err
}

// hear takes one message: an answer, or a push.
func (s *sio) hear(text json.RawMessage) error {
	var m struct {
		ID    uint32
		Route string
		Body  json.RawMessage
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if m.Body == nil {
		m.Body = text // the flavour of 2013 has a push's members beside the route
	}
	if m.ID == 0 {
		select {
		case s.pushes <- client.Push{Route: m.Route, Body: m.Body}:
			return nil
		default:
			return client.ErrBacklog
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.waiting[m.ID]; answer != nil {
		delete(s.waiting, m.ID)
		answer <- m.Body
	}
	return nil
}

// Request implements speaker.
func (s *sio) Request(route string, body, reply any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer := make(chan []byte, 1)
	s.mu.Lock()
	s.id++
	id := s.id
	s.waiting[id] = answer
	s.mu.Unlock()
	text := string([]rune{rune(id >> 24), rune(id >> 16 & 255), rune(id >> 8 & 255), rune(id & 255), rune(len(route))}) + route + string(b)
	packet := "3:::" + text
	if s.version != "0.9" {
		quoted := strconv.QuoteToASCII(text) // JSON, but for what it writes as \x or \a
		quoted = strings.NewReplacer(`\x`, `\u00`, `\a`, `\u0007`, `\v`, `\u000b`).Replace(quoted)
		packet = `42["message",` + quoted + `]`
	}
	if err := s.send(packet); err != nil {
		s.fail(err)
	}
	select {
	case b = <-answer:
	case <-s.closed:
		return fmt.Errorf("%s: %w", route, s.reason())
	}
	var status struct{ Code int }
	if err := json.Unmarshal(b, &status); err == nil && status.Code != 0 && status.Code != 200 {
		return fmt.Errorf("%s: %w: %s", route, client.ErrRefused, b)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(b, reply)
}

// Next implements speaker.
func (s *sio) Next() (client.Push, error) {
	select {
	case p := <-s.pushes:
		return p, nil
	default:
	}
	select {
	case p := <-s.pushes:
		return p, nil
	case <-s.closed:
		return client.Push{}, s.reason()
	}
}

var errClosed = errors.New("closed by its own client")

// Close implements speaker. Who polls says goodbye, which a broken connection would not.
func (s *sio) Close() error {
	if s.url != "" && s.reason() == nil {
		_ = s.send("1")
	}
	s.fail(errClosed)
	return nil
}

func (s *sio) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sio) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	s.cancel()
	if s.socket != nil {
		s.socket.Close()
	}
	s.http.CloseIdleConnections()
	close(s.closed)
}
