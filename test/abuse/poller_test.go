//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// generation is what a client that polls speaks.
type generation int

const (
	engine3 generation = iota // Engine.IO 3: socket.io 1 and 2
	engine4                   // Engine.IO 4: socket.io 3 and 4
	socket0                   // socket.io 0.9
	generations
)

// poller is a client of socket.io that polls, on one connection for all it does.
type poller struct {
	*peer
	speaks generation
	url    string // of its session
}

// request is a whole HTTP request.
func request(method, url, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", method, url, len(body), body)
}

// answered reads the next response.
func (p *peer) answered() (status int, body string, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// exchange sends a request and returns the body of its response, which has to be 200.
func (p *poller) exchange(method, body string) (string, error) {
	if err := p.raw([]byte(request(method, p.url, body))); err != nil {
		return "", err
	}
	status, answer, err := p.answered()
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s %s: %d, %.100q", method, p.url, status, answer)
	}
	return answer, err
}

// openings are where sessions begin.
var openings = [generations]string{engine3: "/socket.io/?EIO=3&transport=polling&b64=1", engine4: "/socket.io/?EIO=4&transport=polling", socket0: "/socket.io/1/"}

// open begins a session.
func (p *poller) open() error {
	p.url = openings[p.speaks]
	body, err := p.exchange(http.MethodGet, "")
	if err != nil {
		return err
	}
	if p.speaks == socket0 {
		sid, _, _ := strings.Cut(body, ":")
		p.url += "xhr-polling/" + sid
		_, err = p.exchange(http.MethodGet, "") // 1::
		return err
	}
	_, rest, ok := strings.Cut(body, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	if !ok {
		return fmt.Errorf("no session: %.100q", body)
	}
	p.url += "&sid=" + sid
	if p.speaks == engine4 { // it is the client that connects
		if _, err = p.exchange(http.MethodPost, "40"); err == nil {
			_, err = p.exchange(http.MethodGet, "")
		}
	}
	return err
}

// packet is a request, ASCII, of an id below 128.
func (p *poller) packet(id byte, route, body string) string {
	text := "\x00\x00\x00" + string(rune(id)) + string(rune(len(route))) + route + body
	if p.speaks == socket0 {
		return "3:::" + text
	}
	b, err := json.Marshal([]string{"message", text})
	if err != nil {
		panic(err) // strings can always be written
	}
	return "42" + string(b)
}

// payload is the body of a POST with one packet many times.
func (p *poller) payload(packet string, times int) string {
	switch {
	case p.speaks == engine3:
		return strings.Repeat(strconv.Itoa(len(packet))+":"+packet, times)
	case p.speaks == engine4:
		return strings.Repeat(packet+"\x1e", times-1) + packet
	case times == 1:
		return packet
	}
	return strings.Repeat("\ufffd"+strconv.Itoa(len(packet))+"\ufffd"+packet, times)
}

// enter enters a room and waits for the answer.
func (p *poller) enter(user, room string) error {
	body := fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room)
	if _, err := p.exchange(http.MethodPost, p.payload(p.packet(1, routeEnter, body), 1)); err != nil {
		return err
	}
	answer, err := p.exchange(http.MethodGet, "")
	if err == nil && !strings.Contains(answer, "users") {
		err = fmt.Errorf("enter: %s", answer)
	}
	return err
}

// poller connects from the i-th attacker's address and begins a session.
func (a *arena) poller(i int, speaks generation) (*poller, error) {
	c, err := a.dial(i)
	if err != nil {
		return nil, err
	}
	p := &poller{peer: c, speaks: speaks}
	return p, p.open()
}

// chatterWS is chatter for a WebSocket.
func (a *arena) chatterWS(i int, user, room string) (*peer, error) {
	p, err := a.dial(i)
	if err == nil {
		err = p.upgrade()
	}
	if err == nil {
		err = p.login()
	}
	var answer string
	if err == nil {
		answer, err = p.enter(user, room)
	}
	if err == nil && !strings.Contains(answer, `"users"`) {
		err = fmt.Errorf("enter: %s", answer)
	}
	return p, err
}

// timedOut tells whether an error is that nothing happened for too long.
func timedOut(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// peakRSS is how much memory a process has had at most since it began, or since resetPeak, in bytes.
func peakRSS(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kb, err := strconv.Atoi(strings.TrimSpace(line))
	return kb << 10, err
}

// lowPort is a port nobody has, on any address, nor gets by connecting: for flags, which several servers have one after the other.
func lowPort(t testing.TB) string {
	t.Helper()
	for port := 20_000 + os.Getpid()%5000; port < 30_000; port++ {
		if l, err := net.Listen("tcp", fmt.Sprint("0.0.0.0:", port)); err == nil {
			l.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no free port")
	return ""
}

// together does something for each of n at once, and returns the first error. The rest end with their connections.
func together(n int, do func(i int) error) error {
	failed := make(chan error, n)
	for i := range n {
		go func() { failed <- do(i) }()
	}
	for range n {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

// most is the highest value that a metric has while something is done.
func (a *arena) most(name string, do func() error) (most float64, err error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err = <-done:
			return most, err
		case <-time.After(20 * time.Millisecond):
			most = max(most, a.metrics()[name])
		}
	}
}
