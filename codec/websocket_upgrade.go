package codec

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
)

// The opening handshake of RFC 6455 §4.2, on a head that ParseHTTPHead has read. Any path,
// query and Origin is fine here and no extension is negotiated (protocol.md §2.1); whoever has
// an Origin policy applies it besides.

const (
	wsKeyBytes    = 24 // 16 bytes in base64
	wsAcceptBytes = 28 // 20 bytes of SHA-1 in base64
	wsKeyGUID     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// What CheckUpgrade returns; shared and immutable.
var (
	errUpgradeMethod     = &HTTPError{405, "a WebSocket upgrade must be a GET"}
	errUpgradeHTTP       = &HTTPError{400, "a WebSocket upgrade needs HTTP/1.1"}
	errUpgradeUpgrade    = &HTTPError{400, "Upgrade does not list websocket"}
	errUpgradeConnection = &HTTPError{400, "Connection does not list upgrade"}
	errUpgradeBody       = &HTTPError{400, "a WebSocket upgrade has no body"}
	errUpgradeVersion    = &HTTPError{426, "only WebSocket version 13 is spoken here"}
	errUpgradeKey        = &HTTPError{400, "malformed Sec-WebSocket-Key"}
)

// IsUpgrade reports whether the request asks for WebSocket at all, so that CheckUpgrade
// and not the HTTP side should answer it.
func (h *HTTPHead) IsUpgrade() bool { return h.UpgradeWebSocket }

// CheckUpgrade reports why the request cannot be upgraded, or nil. With
// nil AppendUpgradeResponse(dst, h.SecWebSocketKey, h.Subprotocol()) answers it, and the
// bytes behind the head are the first frames.
func (h *HTTPHead) CheckUpgrade() *HTTPError {
	switch {
	case string(h.Method) != "GET":
		return errUpgradeMethod
	case h.Minor != 1:
		return errUpgradeHTTP
	case !h.UpgradeWebSocket:
		return errUpgradeUpgrade
	case !h.ConnectionUpgrade:
		return errUpgradeConnection
	case h.ContentLength > 0 || h.Chunked:
		return errUpgradeBody // it would be taken for frames
	case string(h.SecWebSocketVersion) != "13":
		return errUpgradeVersion
	}
	if len(h.SecWebSocketKey) != wsKeyBytes {
		return errUpgradeKey
	}
	var nonce [wsKeyBytes / 4 * 3]byte
	if n, err := base64.StdEncoding.Decode(nonce[:], h.SecWebSocketKey); err != nil || n != 16 {
		return errUpgradeKey
	}
	return nil
}

// maxSubprotocol is the longest name of a subprotocol that is said back, bytes.
const maxSubprotocol = 64

// Subprotocol is the first subprotocol that the client offers, nil when it offers none or
// that is no token of at most 64 bytes. A client that offers some and gets none fails the
// connection (RFC 6455 §4.1; browsers, ws 8), and none here changes what is spoken.
func (h *HTTPHead) Subprotocol() []byte {
	first, _, _ := bytes.Cut(h.SecWebSocketProtocol, []byte{','})
	if first = trimOWS(first); len(first) > maxSubprotocol || !isToken(first) {
		return nil
	}
	return first
}

// AppendUpgradeResponse appends the answer that opens a WebSocket, to a request whose
// Sec-WebSocket-Key is key, RFC 6455 §4.2.2: 129 bytes, and a line with subprotocol unless
// that is empty. The key must have passed CheckUpgrade. Nothing is allocated but what dst
// needs to grow.
func AppendUpgradeResponse(dst, key, subprotocol []byte) []byte {
	var challenge [wsKeyBytes + len(wsKeyGUID)]byte
	n := copy(challenge[:], key)
	n += copy(challenge[n:], wsKeyGUID)
	sum := sha1.Sum(challenge[:n])

	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	var accept [wsAcceptBytes]byte
	base64.StdEncoding.Encode(accept[:], sum[:])
	dst = append(dst, accept[:]...)
	if len(subprotocol) > 0 {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), subprotocol...)
	}
	return append(dst, "\r\n\r\n"...)
}
