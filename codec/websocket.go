package codec

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"

	"github.com/gobwas/ws"
)

// The server's half of RFC 6455 on bytes already received. Of gobwas/ws only the masking
// is used: its readers want an io.Reader, its CheckHeader reports what is wrong without
// the close code and allocates to do so, its CheckCloseFrameData takes a string and knows
// neither the registered codes 1012..1014 nor that codes end at 4999.

// WSKind says what a WSEvent is; apart from WSNone it is the frame's opcode, RFC 6455 §5.2.
type WSKind uint8

// The kinds of event, and the opcodes that can be written.
const (
	WSNone   WSKind = 0 // nothing to act on: more bytes are needed, or a message goes on
	WSText   WSKind = 1
	WSBinary WSKind = 2
	WSClose  WSKind = 8
	WSPing   WSKind = 9
	WSPong   WSKind = 10
)

const wsContinuation WSKind = 0

// Close codes, RFC 6455 §7.4.1 and the IANA registry.
const (
	WSCloseNormal      = 1000 // what protocol.md §2.3 closes with
	WSCloseGoingAway   = 1001
	WSCloseProtocol    = 1002
	WSCloseNoStatus    = 1005 // a close frame without a code; never on the wire
	WSCloseInvalidData = 1007
	WSClosePolicy      = 1008
	WSCloseTooBig      = 1009
)

const (
	// maxWSControlPayload bounds ping, pong and close frames, RFC 6455 §5.5.
	maxWSControlPayload = 125

	// maxWSCloseReason is what a close frame has left for its reason, in bytes of UTF-8.
	maxWSCloseReason = maxWSControlPayload - 2
)

const (
	wsFin      = 0x80
	wsRsv      = 0x70
	wsOpcode   = 0x0f
	wsMasked   = 0x80
	wsLength   = 0x7f
	wsLength16 = 126 // a 16-bit length follows
	wsLength64 = 127 // a 64-bit length follows
)

// WSError is a fault of the peer and the close code it deserves. All values that Next
// returns are shared and immutable: a flood of bad frames must not cost allocations.
type WSError struct {
	Code   uint16 // WSCloseProtocol, WSCloseInvalidData or WSCloseTooBig
	Reason string // ASCII, fits a close frame
}

func (e *WSError) Error() string { return "websocket: " + e.Reason }

var (
	errWSRsv           = &WSError{WSCloseProtocol, "reserved bits set"}
	errWSOpcode        = &WSError{WSCloseProtocol, "reserved opcode"}
	errWSUnmasked      = &WSError{WSCloseProtocol, "frame is not masked"}
	errWSControlFrag   = &WSError{WSCloseProtocol, "fragmented control frame"}
	errWSControlLong   = &WSError{WSCloseProtocol, "control frame exceeds 125 bytes"}
	errWSLength        = &WSError{WSCloseProtocol, "length is not in its shortest form"}
	errWSLengthMSB     = &WSError{WSCloseProtocol, "length exceeds 63 bits"}
	errWSNoStart       = &WSError{WSCloseProtocol, "continuation without a message"}
	errWSInterleaved   = &WSError{WSCloseProtocol, "new message inside a fragmented one"}
	errWSCloseBody     = &WSError{WSCloseProtocol, "close frame with half a code"}
	errWSCloseCode     = &WSError{WSCloseProtocol, "invalid close code"}
	errWSText          = &WSError{WSCloseInvalidData, "text is not UTF-8"}
	errWSReason        = &WSError{WSCloseInvalidData, "close reason is not UTF-8"}
	errWSMessageTooBig = &WSError{WSCloseTooBig, "message exceeds the limit"}
)

// WSEvent is what one frame means to the server.
type WSEvent struct {
	Kind    WSKind
	Payload []byte // of the message or control frame; the reason of a close
	Code    uint16 // close only; WSCloseNoStatus when the frame has none
}

// WSReader reads what one client sends. The zero value is ready. It is a single pointer,
// nil but while a fragmented message is open, because every idle connection has one.
// Owned by the loop.
type WSReader struct {
	open *wsFragments
}

// wsFragments is a message that has begun and not ended. Its buffer grows with what has
// arrived, never with what was announced.
type wsFragments struct {
	kind  WSKind
	more  bool // it has more than one fragment
	valid int  // text: buf[:valid] is whole UTF-8, after it at most the start of a rune
	buf   []byte
}

// Kept is how many bytes of memory the reader takes for the fragments of a message that has yet to end: 0 mostly.
func (r *WSReader) Kept() int {
	if r.open == nil {
		return 0
	}
	return int(unsafe.Sizeof(*r.open)) + cap(r.open.buf)
}

// Began tells whether the frame that Next took last, if that was a fragment, was the first of its message.
func (r *WSReader) Began() bool { return r.open != nil && !r.open.more }

// Next reads at most one frame from the start of b and returns what it means and the
// bytes it took. n == 0 without an error means that b ends inside the frame. A frame that
// only carries a message forward gives WSNone with n > 0. limit bounds the payload of a
// message, all fragments together, in bytes.
//
// The payload is unmasked in place once the frame is complete: it lies in b, or for a
// fragmented message in a buffer of the reader's own, and is valid until the next call or
// until b changes. The n bytes must not be passed in again.
//
// Whatever the head alone reveals is reported before the payload has arrived. After an error
// or a close the connection is over; call Next no more.
func (r *WSReader) Next(b []byte, limit int) (ev WSEvent, n int, err *WSError) {
	head, size, err := r.parseHead(b, limit)
	if err != nil {
		return WSEvent{}, 0, err
	}
	if head == 0 || len(b)-head < size {
		return WSEvent{}, 0, nil
	}
	n = head + size
	payload := b[head:n:n]
	ws.Cipher(payload, [4]byte(b[head-4:head]), 0)

	kind, fin := WSKind(b[0]&wsOpcode), b[0]&wsFin != 0
	switch {
	case kind == WSClose:
		ev, err = parseWSClose(payload)
	case kind >= WSClose:
		ev = WSEvent{Kind: kind, Payload: payload}
	case fin && kind != wsContinuation:
		ev = WSEvent{Kind: kind, Payload: payload}
		if kind == WSText && !utf8.Valid(payload) {
			err = errWSText
		}
	default:
		ev, err = r.fragment(kind, fin, payload)
	}
	if err != nil {
		return WSEvent{}, 0, err
	}
	return ev, n, nil
}

// parseHead checks as much of the frame's head as b holds, RFC 6455 §5.2. It returns the
// size of the whole head, 0 while b ends inside it, and that of the payload.
func (r *WSReader) parseHead(b []byte, limit int) (head, size int, err *WSError) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if err := r.checkHead(b[0], b[1]); err != nil {
		return 0, 0, err
	}

	head = 2
	length := uint64(b[1] & wsLength)
	switch length {
	case wsLength16:
		if head += 2; len(b) < head {
			return 0, 0, nil
		}
		if length = uint64(binary.BigEndian.Uint16(b[2:])); length < wsLength16 {
			return 0, 0, errWSLength
		}
	case wsLength64:
		if head += 8; len(b) < head {
			return 0, 0, nil
		}
		length = binary.BigEndian.Uint64(b[2:])
		if length>>63 != 0 {
			return 0, 0, errWSLengthMSB
		}
		if length <= 0xffff {
			return 0, 0, errWSLength
		}
	}

	if b[0]&wsOpcode < byte(WSClose) { // control frames have their own bound
		room := limit
		if r.open != nil {
			room -= len(r.open.buf)
		}
		if room < 0 || length > uint64(room) {
			return 0, 0, errWSMessageTooBig
		}
	}
	if head += 4; len(b) < head { // the mask
		return 0, 0, nil
	}
	return head, int(length), nil
}

// checkHead applies the rules that the first two bytes of a frame decide. No extension is
// ever negotiated, so every reserved bit is a fault (RFC 6455 §5.2, §5.4, §5.5).
func (r *WSReader) checkHead(b0, b1 byte) *WSError {
	kind, fin := WSKind(b0&wsOpcode), b0&wsFin != 0
	switch {
	case b0&wsRsv != 0:
		return errWSRsv
	case b1&wsMasked == 0:
		return errWSUnmasked
	}
	switch kind {
	case WSClose, WSPing, WSPong:
		if !fin {
			return errWSControlFrag
		}
		if b1&wsLength > maxWSControlPayload {
			return errWSControlLong
		}
	case wsContinuation:
		if r.open == nil {
			return errWSNoStart
		}
	case WSText, WSBinary:
		if r.open != nil {
			return errWSInterleaved
		}
	default:
		return errWSOpcode
	}
	return nil
}

// fragment adds one frame to the fragmented message, which it may begin or end.
func (r *WSReader) fragment(kind WSKind, fin bool, payload []byte) (WSEvent, *WSError) {
	f := r.open
	if f == nil {
		f = &wsFragments{kind: kind}
		r.open = f
	} else {
		f.more = true
	}
	f.buf = append(f.buf, payload...)
	if f.kind == WSText && !f.checkText(fin) {
		return WSEvent{}, errWSText
	}
	if !fin {
		return WSEvent{}, nil
	}
	r.open = nil
	return WSEvent{Kind: f.kind, Payload: f.buf}, nil
}

// checkText reports whether the text can still become valid, or with fin is. Each byte is
// looked at once, but for the up to three of a rune that fragments have split.
func (f *wsFragments) checkText(fin bool) bool {
	end := len(f.buf)
	if !fin {
		end = wholeRunes(f.buf[f.valid:]) + f.valid
	}
	if !utf8.Valid(f.buf[f.valid:end]) {
		return false
	}
	f.valid = end
	return true
}

// wholeRunes returns the length of p without a rune that p ends in the middle of. What
// can no longer become a rune counts as whole, so that it is found invalid at once.
func wholeRunes(p []byte) int {
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return len(p)
}

// parseWSClose reads the body of a close frame, RFC 6455 §5.5.1.
func parseWSClose(p []byte) (WSEvent, *WSError) {
	switch len(p) {
	case 0:
		return WSEvent{Kind: WSClose, Payload: p, Code: WSCloseNoStatus}, nil
	case 1:
		return WSEvent{}, errWSCloseBody
	}
	code, reason := binary.BigEndian.Uint16(p), p[2:]
	if !validWSCloseCode(code) {
		return WSEvent{}, errWSCloseCode
	}
	if !utf8.Valid(reason) {
		return WSEvent{}, errWSReason
	}
	return WSEvent{Kind: WSClose, Payload: reason, Code: code}, nil
}

// validWSCloseCode says whether a peer may send code: one that RFC 6455 §7.4.1 or the IANA
// registry (1012..1014) assigns, but for those that stand for "there was no close frame",
// or one from the ranges of libraries and applications, §7.4.2.
func validWSCloseCode(code uint16) bool {
	switch {
	case code >= 3000:
		return code <= 4999
	case code == 1004, code == 1005, code == 1006:
		return false
	default:
		return code >= 1000 && code <= 1014
	}
}

// AppendWSHead appends the head of an unfragmented, unmasked frame whose payload of n
// bytes follows; n is at most maxWSControlPayload for ping, pong and close.
func AppendWSHead(dst []byte, kind WSKind, n int) []byte {
	dst = append(dst, wsFin|byte(kind))
	switch {
	case n < wsLength16:
		return append(dst, byte(n))
	case n <= 0xffff:
		return append(dst, wsLength16, byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, wsLength64), uint64(n))
	}
}

// AppendWSFrame appends a whole frame, under the same conditions as AppendWSHead.
func AppendWSFrame(dst []byte, kind WSKind, payload []byte) []byte {
	return append(AppendWSHead(dst, kind, len(payload)), payload...)
}

// AppendWSClose appends a close frame. Code 0 or WSCloseNoStatus gives one without a body,
// so that the code of a close event can be echoed as it is. reason is UTF-8 and is cut, at
// a rune, to maxWSCloseReason.
func AppendWSClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 || code == WSCloseNoStatus {
		return AppendWSHead(dst, WSClose, 0)
	}
	if len(reason) > maxWSCloseReason {
		end := maxWSCloseReason
		for end > 0 && !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	dst = AppendWSHead(dst, WSClose, 2+len(reason))
	dst = append(dst, byte(code>>8), byte(code))
	return append(dst, reason...)
}
