//go:build linux

package abuse

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	return wsFrame(0x82, packages)
}

// pkg reads the next package; a WebSocket has one in each frame.
func (p *peer) pkg() (codec.Package, error) {
	from := io.Reader(p.r)
	if p.ws {
		b, err := p.payload(0x82)
		if err != nil {
			return codec.Package{}, err
		}
		from = bytes.NewReader(b)
	}
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	var head [codec.PackageHeadBytes]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return codec.Package{}, err
	}
	got := codec.Package{Type: codec.PackageType(head[0]), Body: make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))}
	_, err := io.ReadFull(from, got.Body)
	return got, err
}

// What a client says to be let in and to stay.
var (
	handshake    = codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"abuse","version":"1"}}`))
	handshakeAck = codec.AppendPackage(nil, codec.PackageHandshakeAck, nil)
	heartbeat    = codec.AppendPackage(nil, codec.PackageHeartbeat, nil)
)

// login shakes hands.
func (p *peer) login() error {
	if err := p.send(handshake); err != nil {
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
	return p.send(handshakeAck)
}

// loginBy is login by WebSocket or TCP.
func (p *peer) loginBy(ws bool) error {
	if ws {
		if err := p.upgrade(); err != nil {
			return err
		}
	}
	return p.login()
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

// join is login and enter. A server that is too far behind refuses who enters until it has caught up (-max-delay): who is refused without a reason
// asks again.
func (p *peer) join(user, room string) error {
	if err := p.login(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(catchUp) {
		answer, err := p.enter(user, room)
		switch {
		case err != nil:
			return err
		case usersOf(answer) != nil:
			return nil
		case answer != refusedEnter || time.Now().After(end):
			return fmt.Errorf("enter: %s", answer)
		}
	}
}

// catchUp is how long one waits who has been refused because the server was too busy: for -enter-rate that is not too often.
const catchUp = 500 * time.Millisecond

// usersOf are the users in the answer to an enter; nil if it is none.
func usersOf(answer string) []string {
	var in struct{ Users []string }
	_ = json.Unmarshal([]byte(answer), &in)
	return in.Users
}

// chatter is dial and join.
func chatter(from, to, user, room string) (*peer, error) {
	p, err := dial(from, to)
	if err != nil {
		return nil, err
	}
	if err := p.join(user, room); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// chatterWS is chatter for a WebSocket, of the i-th attacker.
func (a *arena) chatterWS(i int, user, room string) (*peer, error) {
	p, err := a.dial(i)
	if err == nil {
		err = p.upgrade()
	}
	if err == nil {
		err = p.join(user, room)
	}
	return p, err
}

// gone waits until the server has closed the connection, and returns what it sent before. It is an error if it does not.
func (p *peer) gone() ([]byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	b, err := io.ReadAll(p.r)
	if timedOut(err) {
		return b, fmt.Errorf("still connected after %v", p.timeout())
	}
	return b, nil
}

// begins waits until something can be read; what has begun to come is waited for patiently.
func (p *peer) begins(within time.Duration) error {
	_ = p.SetReadDeadline(time.Now().Add(within))
	if _, err := p.r.Peek(1); timedOut(err) {
		return errQuiet
	} else if err != nil {
		return err
	}
	return nil
}

// timedOut tells whether an error is that nothing happened for too long.
func timedOut(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// reset closes a connection so that the other end gets a reset.
func (p *peer) reset() {
	_ = p.tcp().SetLinger(0)
	p.Close()
}

func (p *peer) tcp() *net.TCPConn { return p.Conn.(*net.TCPConn) }

// half tells the server that nothing more comes.
func (p *peer) half() error { return p.tcp().CloseWrite() }
