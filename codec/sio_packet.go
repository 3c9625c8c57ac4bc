package codec

import (
	"bytes"
	"unicode/utf8"
)

// SIOPacketType is the digit that a packet of socket.io 1 to 4 begins with.
type SIOPacketType byte

// The packet types (protocol.md §6.1).
const (
	SIOConnect SIOPacketType = '0' + iota
	SIODisconnect
	SIOEvent
	SIOAck
	SIOConnectError // in socket.io 1 and 2: error
	SIOBinaryEvent
	SIOBinaryAck
)

// sioEvent is the only event there is: its first argument is the message.
const sioEvent = "message"

// SIOPacket is a packet of socket.io 1 to 4 (protocol.md §6.1, §7), which travels in an Engine.IO
// message:
//
//	type [attachments "-"] ["/" namespace ","] [ack id] [JSON]
type SIOPacket struct {
	Type      SIOPacketType
	Namespace []byte // with its leading slash; nil: "/"
	AckID     []byte // digits; nil: no ack is wanted
	Data      []byte // JSON or empty; of an event not examined yet
}

// ParseSIOPacket reads a packet from an Engine.IO message without the engine's leading '4'. The
// slices alias b. ok is false for what is to be ignored: an unknown type, or data that is not JSON.
// The data of an event, which may be long, is left to AppendEventText.
func ParseSIOPacket(b []byte) (p SIOPacket, ok bool) {
	if len(b) == 0 || b[0] < byte(SIOConnect) || b[0] > byte(SIOBinaryAck) {
		return SIOPacket{}, false
	}
	p.Type = SIOPacketType(b[0])
	rest := b[1:]
	if p.Type == SIOBinaryEvent || p.Type == SIOBinaryAck {
		n, ok := skipDigits(rest, 0)
		if !ok || n == len(rest) || rest[n] != '-' {
			return SIOPacket{}, false
		}
		rest = rest[n+1:]
	}
	if len(rest) > 0 && rest[0] == '/' {
		p.Namespace, rest, _ = bytes.Cut(rest, []byte{','})
		if p.Type == SIOConnect { // only there may a query follow
			p.Namespace, _, _ = bytes.Cut(p.Namespace, []byte{'?'})
		}
		if len(p.Namespace) == 1 {
			p.Namespace = nil
		}
	}
	if n, ok := skipDigits(rest, 0); ok {
		p.AckID, rest = rest[:n:n], rest[n:]
	}
	if len(rest) > 0 && p.Type != SIOEvent && !ValidJSON(rest) {
		return SIOPacket{}, false
	}
	p.Data = rest
	return p, true
}

// AppendEventText appends the first argument of an event named "message", unescaped; the result is
// UTF-8 as StringValue makes it. ok is false, and dst returned as it was, if p is no such event, if
// its argument is no string, or if anything in its data is not JSON. It does not look at the
// namespace.
func (p *SIOPacket) AppendEventText(dst []byte) (text []byte, ok bool) {
	start := skipSpace(p.Data, 0)
	if p.Type != SIOEvent || start == len(p.Data) || p.Data[start] != '[' {
		return dst, false
	}
	args := scanArray(p.Data[start:])
	name, _ := args.next()
	arg, ok := args.next()
	for more := ok; more; {
		_, more = args.next()
	}
	if !ok || args.err != nil || !isMessageName(dst, name) {
		return dst, false
	}
	return appendStringValue(dst, arg)
}

// isMessageName tells whether raw, a JSON value, is the string "message". If raw has escapes, which
// no client writes, the spare capacity behind scratch may serve to undo them.
func isMessageName(scratch, raw []byte) bool {
	if string(raw) == `"`+sioEvent+`"` {
		return true
	}
	name, ok := appendStringValue(scratch, raw)
	return ok && string(name[len(scratch):]) == sioEvent
}

// appendStringValue is StringValue on raw that a scanner has accepted, without a string.
func appendStringValue(dst, raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return dst, false
	}
	at := len(dst)
	dst = appendUnescaped(dst, raw[1:len(raw)-1])
	if !utf8.Valid(dst[at:]) {
		dst = append(dst[:at], NormalizeUTF8(dst[at:])...)
	}
	return dst, true
}
