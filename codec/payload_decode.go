package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// errPayload is returned by AppendPackets for a body that is not a payload of its form: the session
// it came for is closed (protocol.md §6.3, §7).
var errPayload = errors.New("malformed payload")

// maxPayloadDigits is how long the length before a packet may be, leading zeros counted: more than
// any packet needs, and no overflow.
const maxPayloadDigits = 9

// AppendPackets appends the packets of an HTTP body to stream. None is empty, text is UTF-8, and
// those of Engine.IO begin with a type there is. body is not changed. On an error the packets
// before the fault have been appended, which the original would have processed too.
//
// PayloadSIO09 has no errors: garbage is skipped, a POST is answered alike whatever is in it.
func AppendPackets(stream, body []byte, form PayloadForm) ([]byte, error) {
	switch form {
	case PayloadEIO3Text:
		return appendPackets3(stream, NormalizeUTF8(body))
	case PayloadEIO3Binary:
		return appendPackets3Binary(stream, body)
	case PayloadEIO4:
		return appendPackets4(stream, NormalizeUTF8(body))
	}
	return appendPackets09(stream, NormalizeUTF8(body)), nil
}

func appendPackets09(stream, body []byte) []byte {
	if len(body) == 0 {
		return stream
	}
	if !bytes.HasPrefix(body, []byte(replacement)) {
		return AppendPacket(stream, body)
	}
	for {
		rest, ok := bytes.CutPrefix(body, []byte(replacement))
		if !ok {
			return stream
		}
		n, i, ok := payloadLength(rest, '0')
		if !ok {
			return stream
		}
		if rest, ok = bytes.CutPrefix(rest[i:], []byte(replacement)); !ok {
			return stream
		}
		end, missing := skipUnits(rest, n)
		if missing > 0 {
			return stream
		}
		if end > 0 {
			stream = AppendPacket(stream, rest[:end])
		}
		body = rest[end:]
	}
}

func appendPackets3(stream, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return stream, errPayload
	}
	for len(body) > 0 {
		n, i, ok := payloadLength(body, '0')
		if !ok || i == len(body) || body[i] != ':' {
			return stream, errPayload
		}
		body = body[i+1:]
		end, missing := skipUnits(body, n)
		if missing > 0 {
			return stream, errPayload
		}
		packet := body[:end]
		body = body[end:]
		switch {
		case end == 0: // "0:", no packet at all
		case end > 1 && packet[0] == payloadBase64 && packet[1] == engineMessage:
			if stream, ok = appendBase64(stream, packet[2:]); !ok {
				return stream, errPayload
			}
		case isEngineType(packet[0]):
			stream = appendText3(stream, packet)
		default:
			return stream, errPayload
		}
	}
	return stream, nil
}

// appendText3 appends a text packet of PayloadEIO3Text. A 1.x client has encoded it as UTF-8 twice,
// a 2.x client once, and nothing tells which of them it is. So the Rule of §6.3: characters that are
// all below U+0100, not all ASCII, and UTF-8 when read as bytes, are those bytes. In the header of a
// 2.x client's message a character above U+007F usually has an ASCII one behind it, is no UTF-8, and
// stays; only ids from 0xC280 on can have two such characters together that are taken for one.
func appendText3(stream, packet []byte) []byte {
	at := len(stream)
	stream = appendPacketHead(stream, 0)
	stream, ok := appendLatin1(stream, packet)
	if !ok || !utf8.Valid(stream[at+packetHeadBytes:]) {
		stream = append(stream[:at+packetHeadBytes], packet...)
	}
	return endPacket(stream, at, false)
}

// appendLatin1 appends the characters of s, valid UTF-8, as one byte each, as long as they fit.
func appendLatin1(dst, s []byte) (out []byte, ok bool) {
	for {
		i := skipASCII(s)
		dst = append(dst, s[:i]...)
		if i == len(s) {
			return dst, true
		}
		if s[i] > 0xC3 { // the lead byte of what is above U+00FF
			return dst, false
		}
		dst = append(dst, s[i]<<6|s[i+1]&0x3F)
		s = s[i+2:]
	}
}

// skipASCII returns the index of the first byte that is not ASCII.
func skipASCII(s []byte) int {
	const tops = 0x8080808080808080
	i := 0
	for i+8 <= len(s) && binary.LittleEndian.Uint64(s[i:])&tops == 0 {
		i += 8
	}
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

func appendPackets3Binary(stream, body []byte) ([]byte, error) {
	for len(body) > 0 {
		kind := body[0]
		n, i, ok := payloadLength(body[1:], 0)
		i++
		if !ok || kind > payloadBinary || i == len(body) || body[i] != payloadLengthEnd || n > len(body)-i-1 {
			return stream, errPayload
		}
		packet := body[i+1 : i+1+n]
		body = body[i+1+n:]
		switch {
		case n == 0:
		case kind == payloadText && isEngineType(packet[0]):
			stream = AppendPacket(stream, NormalizeUTF8(packet))
		case kind == payloadBinary && packet[0] == engineMessageValue:
			at := len(stream)
			stream = append(appendPacketHead(stream, 0), packet[1:]...)
			stream = endPacket(stream, at, true)
		default:
			return stream, errPayload
		}
	}
	return stream, nil
}

func appendPackets4(stream, body []byte) ([]byte, error) {
	for more := true; more; {
		var packet []byte
		packet, body, more = bytes.Cut(body, []byte{payloadSeparator})
		ok := len(packet) > 0
		switch {
		case ok && packet[0] == payloadBase64:
			stream, ok = appendBase64(stream, packet[1:])
		case ok && isEngineType(packet[0]):
			stream = AppendPacket(stream, packet)
		default:
			ok = false
		}
		if !ok {
			return stream, errPayload
		}
	}
	return stream, nil
}

// isEngineType tells whether c is one of Engine.IO's packet types, open to noop.
func isEngineType(c byte) bool { return '0' <= c && c <= '6' }

// payloadLength reads the decimal number at the head of b, whose digits start from zero, and returns
// how many digits it has.
func payloadLength(b []byte, zero byte) (n, digits int, ok bool) {
	for digits < len(b) && b[digits]-zero < 10 {
		if digits == maxPayloadDigits {
			return 0, 0, false
		}
		n = n*10 + int(b[digits]-zero)
		digits++
	}
	return n, digits, digits > 0
}

// appendBase64 appends a binary packet; padding may be missing, the original does not mind.
func appendBase64(stream, text []byte) ([]byte, bool) {
	at := len(stream)
	stream = appendPacketHead(stream, 0)
	stream, err := base64.RawStdEncoding.AppendDecode(stream, bytes.TrimRight(text, "="))
	if err != nil {
		return stream[:at], false
	}
	return endPacket(stream, at, true), true
}
