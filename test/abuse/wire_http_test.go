//go:build linux

package abuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pomelod/pomelod/codec"
)

const (
	// upgradeLines are what makes a request one for a WebSocket.
	upgradeLines = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	// upgradeHead is such a request for the hybrid protocol.
	upgradeHead = "GET / HTTP/1.1\r\nHost: h\r\n" + upgradeLines + "\r\n"
)

// upgradeAt is upgradeHead with another path than the root.
func upgradeAt(path string) string { return strings.Replace(upgradeHead, "/", path, 1) }

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

// request sends a request and reads its answer. The connection stays as both sides leave it.
func (p *peer) request(text string) (status int, body string, err error) {
	if err := p.raw([]byte(text)); err != nil {
		return 0, "", err
	}
	method, _, _ := strings.Cut(text, " ")
	status, _, body, err = p.response(method)
	return status, body, err
}

// http is request for who looks at the headers of the answer, or has some; head is lines with their ends.
func (p *peer) http(method, target, head string) (status int, header http.Header, body string, err error) {
	if err := p.raw([]byte(method + " " + target + " HTTP/1.1\r\nHost: h\r\n" + head + "\r\n")); err != nil {
		return 0, nil, "", err
	}
	return p.response(method)
}

// response reads the answer to a request of some method.
func (p *peer) response(method string) (status int, header http.Header, body string, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

// ok reads the body of an answer 200.
func (p *peer) ok() (string, error) {
	status, _, body, err := p.response("GET")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d: %.100q", status, body)
	}
	return body, err
}

// upgrade makes it a WebSocket.
func (p *peer) upgrade() error { return p.upgradeTo("/") }

// upgradeTo is upgrade on another path than the root.
func (p *peer) upgradeTo(target string) error {
	status, text, err := p.request(upgradeAt(target))
	if err == nil && status != http.StatusSwitchingProtocols {
		err = fmt.Errorf("upgrade: %d %.80q", status, text)
	}
	p.ws = err == nil
	return err
}

// wsFrame is a client's frame with the shortest length and a mask of zeros; first is FIN, reserved bits and opcode.
func wsFrame(first byte, payload []byte) []byte {
	b := codec.AppendWSHead(nil, codec.WSBinary, len(payload))
	b[0] = first
	b[1] |= 0x80
	return append(append(b, 0, 0, 0, 0), payload...)
}

func textFrame(text string) string { return string(wsFrame(0x81, []byte(text))) }

func binaryFrame(bytes string) string { return string(wsFrame(0x82, []byte(bytes))) }

// errClosed: the server ended the session with the words that the protocol has for that.
var errClosed = errors.New("closed by the server")

// payload reads a frame that begins with first; pings, pongs and fragments do not come unasked. A close frame is errClosed, with its code.
func (p *peer) payload(first byte) ([]byte, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	var head [10]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return nil, err
	}
	n := uint64(head[1])
	var err error
	switch n {
	case 126:
		_, err = io.ReadFull(p.r, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(p.r, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	if err == nil && n > 1<<24 {
		err = fmt.Errorf("a frame of %d bytes", n)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(p.r, b)
	switch {
	case err != nil:
		return nil, err
	case head[0] == 0x88 && len(b) >= 2:
		return nil, fmt.Errorf("%w: close %d", errClosed, binary.BigEndian.Uint16(b))
	case head[0] == 0x88:
		return nil, errClosed
	case head[0] != first:
		return nil, fmt.Errorf("a frame that begins with %x", head[0])
	}
	return b, nil
}
