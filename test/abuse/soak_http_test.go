//go:build linux

package abuse

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pomelod/pomelod/codec"
)

func upgradeAt(path string) string { return strings.Replace(upgradeHead, "GET / ", "GET "+path+" ", 1) }

// response reads an HTTP answer.
func (p *peer) response() (status int, body string, err error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, "", nil // what follows is no body
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// body is the body of an answer 200.
func (p *peer) body() (string, error) {
	status, body, err := p.response()
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d: %.100q", status, body)
	}
	return body, err
}

// appendTextFrame appends a text frame with a mask of zeros.
func appendTextFrame(dst []byte, text string) []byte {
	at := len(dst)
	dst = codec.AppendWSHead(dst, codec.WSText, len(text))
	dst[at+1] |= 0x80
	return append(append(dst, 0, 0, 0, 0), text...)
}

// textFrame reads a text frame.
func (p *peer) textFrame() (string, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.timeout()))
	var head [10]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return "", err
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
	if err != nil {
		return "", err
	}
	b := make([]byte, min(n, 1<<20))
	if _, err := io.ReadFull(p.r, b); err != nil {
		return "", err
	}
	switch head[0] {
	case 0x81:
		return string(b), nil
	case 0x88:
		return "", fmt.Errorf("%w: %x", errClosed, b)
	}
	return "", fmt.Errorf("a frame that begins with %x", head[0])
}
