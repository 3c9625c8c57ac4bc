//go:build linux

package abuse

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// peer is a client of the hybrid protocol that does what it is told, sense or not. Not safe for several goroutines, but one may
// read while another writes.
type peer struct {
	net.Conn
	r    *bufio.Reader
	ws   bool
	id   uint32
	late time.Duration // for each read and write; 0 is patience
}

// dial connects from an address of loopback.
func dial(from, to string) (*peer, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	return newPeer(conn), nil
}

func newPeer(conn net.Conn) *peer { return &peer{Conn: conn, r: bufio.NewReader(conn)} }

// upgradeHead is the head of a WebSocket handshake.
const upgradeHead = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// upgrade makes it a WebSocket.
func (p *peer) upgrade() error {
	if err := p.raw([]byte(upgradeHead)); err != nil {
		return err
	}
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade: %s", resp.Status)
	}
	p.ws = true
	return nil
}

func (p *peer) timeout() time.Duration {
	if p.late > 0 {
		return p.late
	}
	return patience
}

// raw sends bytes as they are.
func (p *peer) raw(b []byte) error {
	_ = p.SetWriteDeadline(time.Now().Add(p.timeout()))
	_, err := p.Write(b)
	return err
}

// send sends packages, which a WebSocket takes as one binary message with a mask of zeros.
func (p *peer) send(packages []byte) error { return p.raw(p.framed(packages)) }

func (p *peer) framed(packages []byte) []byte {
	if !p.ws {
		return packages
	}
	head := codec.AppendWSHead(nil, codec.WSBinary, len(packages))
	head[1] |= 0x80
	return append(append(head, 0, 0, 0, 0), packages...)
}

// pkg reads the next package.
func (p *peer) pkg() (codec.Package, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	if p.ws {
		if err := p.frameHead(); err != nil {
			return codec.Package{}, err
		}
	}
	var head [codec.PackageHeadBytes]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return codec.Package{}, err
	}
	got := codec.Package{Type: codec.PackageType(head[0]), Body: make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))}
	_, err := io.ReadFull(p.r, got.Body)
	return got, err
}

// frameHead reads the head of a binary frame; pings and pongs do not come unasked.
func (p *peer) frameHead() error {
	var head [2]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return err
	}
	if head[0] == 0x88 {
		return errClosed
	}
	if head[0] != 0x82 {
		return fmt.Errorf("a frame that begins with %x", head[0])
	}
	_, err := p.r.Discard(map[byte]int{126: 2, 127: 8}[head[1]])
	return err
}

// errClosed: the server sent a close frame.
var errClosed = errors.New("closed by the server")

// login shakes hands.
func (p *peer) login() error {
	if err := p.send(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"abuse","version":"1"}}`))); err != nil {
		return err
	}
	got, err := p.pkg()
	if err != nil {
		return err
	}
	if got.Type != codec.PackageHandshake {
		return fmt.Errorf("instead of a handshake: type %d, %.80q", got.Type, got.Body)
	}
	var answer struct{ Code int }
	if err := json.Unmarshal(got.Body, &answer); err != nil || answer.Code != 200 {
		return fmt.Errorf("handshake: %.80q", got.Body)
	}
	return p.send(codec.AppendPackage(nil, codec.PackageHandshakeAck, nil))
}

// message is a package with a request, or with a notify if id is 0.
func message(id uint32, route, body string) []byte {
	m := codec.Message{Type: codec.MessageRequest, ID: id, Route: []byte(route), Body: []byte(body)}
	if id == 0 {
		m.Type = codec.MessageNotify
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		panic(err) // a route beyond 255 bytes: those are made by hand
	}
	return codec.AppendPackage(nil, codec.PackageData, b)
}

// ask sends a request and returns its answer; what comes before it is left out, a kick is an error.
func (p *peer) ask(route, body string) (string, error) {
	p.id++
	if err := p.send(message(p.id, route, body)); err != nil {
		return "", err
	}
	return p.answer(p.id)
}

// answer reads up to the answer of a request. Heartbeats on the way are not answered: each would be answered with another at once.
func (p *peer) answer(id uint32) (string, error) {
	for {
		got, err := p.pkg()
		if err != nil {
			return "", err
		}
		switch got.Type {
		case codec.PackageKick:
			return "", fmt.Errorf("kicked: %s", got.Body)
		case codec.PackageData:
			m, err := codec.ParseMessage(got.Body)
			if err != nil {
				return "", err
			}
			if m.Type == codec.MessageResponse && m.ID == id {
				return string(m.Body), nil
			}
		}
	}
}

const (
	routeEnter = "connector.entryHandler.enter"
	routeSend  = "chat.chatHandler.send"
)

// enter enters a room and returns the answer.
func (p *peer) enter(user, room string) (string, error) {
	return p.ask(routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room))
}

// chatter is dial, login and enter.
func chatter(from, to, user, room string) (*peer, error) {
	p, err := dial(from, to)
	if err != nil {
		return nil, err
	}
	err = p.login()
	var answer string
	if err == nil {
		answer, err = p.enter(user, room)
	}
	var in struct{ Users []string }
	if err == nil && (json.Unmarshal([]byte(answer), &in) != nil || in.Users == nil) {
		err = fmt.Errorf("enter: %s", answer)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// gone waits until the server has closed the connection, and returns what it sent before. It is an error if it does not.
func (p *peer) gone() ([]byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	b, err := io.ReadAll(p.r)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return b, fmt.Errorf("still connected after %v", p.timeout())
	}
	return b, nil
}
