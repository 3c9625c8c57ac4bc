package codec

import (
	"encoding/base64"
	"strconv"
)

// PayloadForm is how packets stand in an HTTP body.
type PayloadForm uint8

// The forms of a payload.
const (
	// PayloadSIO09 is socket.io 0.9 (protocol.md §5.4): one packet is sent bare, several as
	// \ufffd<length>\ufffd<packet> each, the length in UTF-16 code units. It has no binary packets.
	PayloadSIO09 PayloadForm = iota

	// PayloadEIO3Text is Engine.IO 3 (protocol.md §6.3): <length>:<packet> each, the length in
	// UTF-16 code units. Binary data is b4<base64>. Where text is not ASCII, clients of 1.x and
	// 2.x differ (appendText3).
	PayloadEIO3Text

	// PayloadEIO3Binary is Engine.IO 3 as application/octet-stream (protocol.md §6.3): a byte 0
	// for text or 1 for binary, the decimal digits of the length in bytes as values 0 to 9, a
	// byte 255, the packet. Binary data is preceded by the type's value, 4.
	PayloadEIO3Binary

	// PayloadEIO4 is Engine.IO 4 (protocol.md §7): packets joined by U+001E, binary data as
	// b<base64>.
	PayloadEIO4
)

const (
	payloadSeparator   = '\x1e' // of PayloadEIO4
	payloadBase64      = 'b'
	engineMessage      = '4'
	payloadLengthEnd   = 0xFF // of PayloadEIO3Binary
	payloadText        = 0
	payloadBinary      = 1
	engineMessageValue = 4
)

// AppendPayload appends the packets of stream as one HTTP body. For PayloadEIO3Text they ought to be
// ASCII: 1.x clients read other text wrong. For PayloadEIO4 none may hold U+001E, which JSON escapes.
func AppendPayload(dst, stream []byte, form PayloadForm) []byte {
	if first, _, n := NextPacket(stream); form == PayloadSIO09 && n == len(stream) {
		return append(dst, first...)
	}
	for first := true; ; first = false {
		packet, isBinary, n := NextPacket(stream)
		if n == 0 {
			return dst
		}
		stream = stream[n:]
		switch form {
		case PayloadSIO09:
			dst = append(dst, replacement...)
			dst = strconv.AppendInt(dst, int64(utf16Len(packet)), 10)
			dst = append(dst, replacement...)
			dst = append(dst, packet...)
		case PayloadEIO3Text:
			dst = appendPayload3(dst, packet, isBinary)
		case PayloadEIO3Binary:
			dst = appendPayload3Binary(dst, packet, isBinary)
		case PayloadEIO4:
			if !first {
				dst = append(dst, payloadSeparator)
			}
			if isBinary {
				dst = append(dst, payloadBase64)
				dst = base64.StdEncoding.AppendEncode(dst, packet)
			} else {
				dst = append(dst, packet...)
			}
		}
	}
}

func appendPayload3(dst, packet []byte, isBinary bool) []byte {
	if !isBinary {
		dst = strconv.AppendInt(dst, int64(utf16Len(packet)), 10)
		return append(append(dst, ':'), packet...)
	}
	dst = strconv.AppendInt(dst, int64(2+base64.StdEncoding.EncodedLen(len(packet))), 10)
	dst = append(dst, ':', payloadBase64, engineMessage)
	return base64.StdEncoding.AppendEncode(dst, packet)
}

func appendPayload3Binary(dst, packet []byte, isBinary bool) []byte {
	kind, size := byte(payloadText), len(packet)
	if isBinary {
		kind, size = payloadBinary, size+1
	}
	dst = append(dst, kind)
	at := len(dst)
	dst = strconv.AppendInt(dst, int64(size), 10)
	for i := at; i < len(dst); i++ {
		dst[i] -= '0'
	}
	dst = append(dst, payloadLengthEnd)
	if isBinary {
		dst = append(dst, engineMessageValue)
	}
	return append(dst, packet...)
}
