//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Clients stop at every stage between connecting and chatting: these bring them there.

// handshakePackage is what a client says first. Its user makes it as long as one that takes its time needs.
var handshakePackage = codec.AppendPackage(nil, codec.PackageHandshake,
	[]byte(`{"sys":{"type":"abuse","version":"1"},"user":"`+strings.Repeat("u", 200)+`"}`))

var heartbeatPackage = codec.AppendPackage(nil, codec.PackageHeartbeat, nil)

// Paths of Engine.IO 3 and 4, b64 so that payloads are text.
const (
	pathPolling = "/socket.io/?transport=polling&b64=1&EIO="
	pathSocket  = "/socket.io/?transport=websocket&EIO="
)

// http sends an HTTP request and reads its answer; head is lines with their ends. The connection stays as both sides leave it.
func (p *peer) http(method, target, head, body string) (status int, header http.Header, text string, err error) {
	if body != "" {
		head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	if err := p.raw([]byte(method + " " + target + " HTTP/1.1\r\nHost: h\r\n" + head + "\r\n" + body)); err != nil {
		return 0, nil, "", err
	}
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

// openPolling opens an Engine.IO session that polls, and returns its id. The connection stays.
func (p *peer) openPolling(version string) (sid string, err error) {
	status, _, text, err := p.http("GET", pathPolling+version, "", "")
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

// upgradeLines are what makes a request an upgrade.
var upgradeLines = strings.Join(strings.Split(upgradeHead, "\r\n")[2:6], "\r\n") + "\r\n"

// upgradeTo is upgrade on another path than the root.
func (p *peer) upgradeTo(target string) error {
	status, _, text, err := p.http("GET", target, upgradeLines, "")
	if err == nil && status != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %d %.80q", status, text)
	}
	p.ws = err == nil
	return err
}

// frame is a client's frame, masked with zeros.
func frame(kind codec.WSKind, last bool, payload []byte) []byte {
	b := codec.AppendWSHead(nil, kind, len(payload))
	if !last {
		b[0] &^= 0x80
	}
	b[1] |= 0x80
	return append(append(b, 0, 0, 0, 0), payload...)
}

// shake is login without the ack.
func (p *peer) shake() error {
	if err := p.send(handshakePackage); err != nil {
		return err
	}
	_, err := p.pkg()
	return err
}

// reset closes a connection so that the other end gets a reset.
func (p *peer) reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
}

// stage is a kind of client that comes as far as open brings it.
type stage struct {
	name string
	open func(p *peer) error // nil: it only connects
	// say is what it says after so many tenths of a second; nil: nothing.
	say func(tenths int) []byte
}

// drip says a text byte by byte.
func drip(text []byte) func(int) []byte {
	return func(tenths int) []byte {
		if tenths >= len(text) {
			return nil
		}
		return text[tenths : tenths+1]
	}
}

func stageNames(stages []stage) string {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = s.name
	}
	return strings.Join(names, ", ")
}

// linger brings so many clients to each stage, from four addresses, and lets them say what they say there. The error names the
// stages at which any was still connected in the end.
func (a *arena) linger(stages []stage, each int, end time.Duration) error {
	type client struct {
		*peer
		stage int
	}
	var clients []client
	for i := range each {
		for at, s := range stages {
			p, err := a.dial(i % 4)
			if err == nil && s.open != nil {
				err = s.open(p)
			}
			if err != nil {
				a.t.Fatalf("%s: %v", s.name, err)
			}
			p.late = end
			clients = append(clients, client{p, at})
		}
	}
	var reading sync.WaitGroup
	stays := make([]atomic.Bool, len(stages))
	for _, c := range clients {
		reading.Go(func() {
			if _, err := c.gone(); err != nil {
				stays[c.stage].Store(true)
			}
		})
	}
	gone := make(chan struct{})
	go func() { reading.Wait(); close(gone) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for tenths := 0; ; tenths++ {
		select {
		case <-gone:
			var left []stage
			for at, s := range stages {
				if stays[at].Load() {
					left = append(left, s)
				}
			}
			if len(left) > 0 {
				return errors.New("still connected: " + stageNames(left))
			}
			return nil
		case <-tick.C:
		}
		for _, c := range clients {
			if say := stages[c.stage].say; say != nil {
				_, _ = c.Write(say(tenths)) // an error is what it has been waiting for
			}
		}
	}
}
