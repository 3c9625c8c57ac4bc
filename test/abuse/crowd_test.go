//go:build linux

package abuse

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// lodger is a client that talks and listens until it is sent away, and takes down both: what a server owes those who are in when it
// ends is judged by what all of them have.
type lodger struct {
	name string
	wire string // tcp, ws, polling
	*peer
	poll *poll

	mu      sync.Mutex
	entered time.Time
	heard   []string // texts, in order
	said    map[string]time.Time
	acked   map[string]time.Time
	waits   map[uint32]string // texts by the ids of requests
	refused []string
	ended   time.Time     // or when it asked for the last time, if it polls: only then it gets something
	end     string        // how
	over    chan struct{} // closed at the end
}

// lodgings are how guests come. What each gets as a goodbye is in goodbyes.
var lodgings = []string{"tcp", "ws", "polling"}

// goodbyes tell whether an end is that of a server that ends in order: the end of the stream, a close frame with code 1001, Engine.IO's
// close packet, or, for a client that has had all there was and held no GET at that moment, an unknown session at its next one.
var goodbyes = map[string]func(end string) bool{
	"tcp": func(end string) bool { return end == endOfStream },
	"ws":  func(end string) bool { return end == "close 1001" },
	"polling": func(end string) bool {
		return end == "packet 1" || strings.HasPrefix(end, "400") && strings.Contains(end, "unknown")
	},
}

const endOfStream = "end of stream"

// newGuest enters a room and listens.
func newGuest(addr, wire, name, room string) (*lodger, error) {
	g := &lodger{name: name, wire: wire, said: make(map[string]time.Time), acked: make(map[string]time.Time),
		waits: make(map[uint32]string), over: make(chan struct{})}
	body := fmt.Sprintf(`{"username":%q,"rid":%q}`, name, room)
	if wire == "polling" {
		g.poll = &poll{url: "http://" + addr + "/socket.io/?EIO=4&transport=polling"}
		if err := g.poll.open(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		go g.listen()
		return g, g.poll.say(1, routeEnter, body)
	}
	p, err := dial(witnessFrom, addr)
	if err == nil && wire == "ws" {
		err = p.upgrade()
	}
	if err == nil {
		err = p.login()
	}
	if err == nil {
		g.peer = p
		err = p.send(message(1, routeEnter, body))
	}
	if err != nil {
		if p != nil {
			p.Close()
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	g.late = time.Hour // its end is the server's
	go g.listen()
	return g, nil
}

// in tells whether it has entered.
func (g *lodger) in() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.entered.IsZero()
}

// talk says something again and again until the end, answered or not; texts are the name and a number from first on.
func (g *lodger) talk(every time.Duration, first int) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for n := first; ; n++ {
		select {
		case <-g.over:
			return
		case <-ticks.C:
		}
		text, id := fmt.Sprint(g.name, " ", n), uint32(n+2)
		body := fmt.Sprintf(`{"content":%q,"target":"*"}`, text)
		g.mu.Lock()
		g.said[text], g.waits[id] = time.Now(), text
		g.mu.Unlock()
		if g.poll != nil {
			_ = g.poll.say(id, routeSend, body)
		} else {
			_ = g.send(message(id, routeSend, body)) // who is gone hears of it
		}
	}
}

// listen hears until the end.
func (g *lodger) listen() {
	how := ""
	for how == "" {
		if g.poll != nil {
			how = g.fetch()
		} else {
			how = g.hear()
		}
	}
	g.mu.Lock()
	if g.end = how; g.poll == nil {
		g.ended = time.Now()
	}
	g.mu.Unlock()
	g.close()
	close(g.over)
}

func (g *lodger) close() {
	if g.peer != nil {
		g.Close()
	} else {
		g.poll.client.CloseIdleConnections()
	}
}

// hear takes a package, and returns how the connection has ended if it has.
func (g *lodger) hear() string {
	got, err := g.pkg()
	switch {
	case errors.Is(err, io.EOF) && !g.ws:
		return endOfStream
	case errors.Is(err, errClosed): // its length and the code follow
		code := make([]byte, 2)
		_, _ = io.ReadFull(g.r, code)
		return fmt.Sprint("close ", binary.BigEndian.Uint16(code))
	case err != nil:
		return err.Error()
	case got.Type == codec.PackageKick:
		return "kick " + string(got.Body)
	case got.Type != codec.PackageData:
		return ""
	}
	m, err := codec.ParseMessage(got.Body)
	if err != nil {
		return err.Error()
	}
	if m.Type == codec.MessageResponse {
		g.answered(m.ID, string(m.Body))
	} else if string(m.Route) == "onChat" {
		g.take(m.Body)
	}
	return ""
}

func (g *lodger) answered(id uint32, body string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch text, asked := g.waits[id]; {
	case id == 1 && strings.Contains(body, `"users"`):
		g.entered = time.Now()
	case asked && body == "{}":
		g.acked[text] = time.Now()
	default:
		g.refused = append(g.refused, body)
	}
}

func (g *lodger) take(body []byte) {
	var chat struct{ Msg string }
	_ = json.Unmarshal(body, &chat) // what is no message is none that was said
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = append(g.heard, chat.Msg)
}

// poll is Engine.IO 4 by polling, one GET at a time.
type poll struct {
	client http.Client
	url    string
}

func (p *poll) get() ([]string, error) {
	resp, err := p.client.Get(p.url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %q", resp.Status, b)
	}
	return strings.Split(string(b), "\x1e"), err
}

func (p *poll) post(packet string) error {
	resp, err := p.client.Post(p.url, "text/plain;charset=UTF-8", strings.NewReader(packet))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (p *poll) open() error {
	p.client.Transport = &http.Transport{MaxIdleConnsPerHost: 2}
	packets, err := p.get()
	if err != nil {
		return err
	}
	var open struct{ Sid string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(packets[0], "0")), &open); err != nil {
		return fmt.Errorf("%q: %w", packets, err)
	}
	p.url += "&sid=" + open.Sid
	return p.post("40")
}

// say posts a request, as the socket.io client of Pomelo writes it: four characters of id, one of the route's length, route, body.
func (p *poll) say(id uint32, route, body string) error {
	text := []rune{rune(id >> 24), rune(id >> 16 & 0xff), rune(id >> 8 & 0xff), rune(id & 0xff), rune(len(route))}
	b, err := json.Marshal([]string{"message", string(text) + route + body})
	if err != nil {
		return err
	}
	return p.post("42" + string(b))
}

// fetch gets once, and returns how the session has ended if it has.
func (g *lodger) fetch() string {
	g.mu.Lock()
	g.ended = time.Now()
	g.mu.Unlock()
	packets, err := g.poll.get()
	if err != nil {
		return err.Error()
	}
	for _, packet := range packets {
		var event []json.RawMessage
		var text string
		switch {
		case packet == "2":
			_ = g.poll.post("3")
		case packet == "" || packet == "6" || strings.HasPrefix(packet, "40"):
		case !strings.HasPrefix(packet, "42"):
			return "packet " + packet
		case json.Unmarshal([]byte(packet[2:]), &event) != nil || len(event) != 2 || json.Unmarshal(event[1], &text) != nil:
			return "packet " + packet
		default:
			var m struct {
				ID   uint32
				Body json.RawMessage
			}
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				return err.Error()
			}
			if m.ID != 0 {
				g.answered(m.ID, string(m.Body))
			} else if strings.HasPrefix(text, `{"route":"onChat"`) {
				g.take(m.Body)
			}
		}
	}
	return ""
}
