package codec

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// What the server sends to socket.io clients (protocol.md §4.2): a JSON text inside a socket.io packet. Clients of 0.9
// get the flavour of 2013, arrays of flat elements; others that of Pomelo 2.x, a single element with the payload inside.

// Bounds of adding another element to an array of the 2013 flavour.
const (
	maxMerged = 16 << 10 // bytes of the array
	maxPassed = 64       // frames before it, as each addition has to find the last one
)

// AppendPacket appends a socket.io 0.9 or Engine.IO packet, text, framed as clients of v get it.
func (v *Variant) AppendPacket(dst, packet []byte) []byte {
	if v.Framing.pull() {
		return AppendPacket(dst, packet)
	}
	return AppendWSFrame(dst, WSText, packet)
}

func (v *Variant) appendSIOPush(dst []byte, p *Push) []byte {
	at := len(dst)
	if v.Framing.sio09() {
		dst = append(dst, `3:::[`...)
		dst = p.appendRouted(dst)
		return v.frame(append(dst, ']'), at, 0)
	}
	dst = append(dst, eventOpen...)
	dst = append(dst, `{"route":`...)
	dst = AppendString(dst, p.Route)
	dst = append(dst, `,"body":`...)
	return v.frameEvent(append(p.appendRouted(dst), '}'), at)
}

// eventOpen is where the text of an event begins.
const eventOpen = `42["message","`

// appendRouted appends the payload with its route in it: the chat application's payloads all have that over socket.io,
// whatever the flavour (protocol.md §9.4).
func (p *Push) appendRouted(dst []byte) []byte {
	empty := true
	members := ScanObject(p.Body)
	for key, _, ok := members.Next(); ok; key, _, ok = members.Next() {
		if string(key) == "route" {
			return append(dst, p.Body...)
		}
		empty = false
	}
	dst = append(dst, `{"route":`...)
	dst = AppendString(dst, p.Route)
	if empty {
		return append(dst, '}')
	}
	dst = append(dst, ',')
	return append(dst, p.Body[bytes.IndexByte(p.Body, '{')+1:]...)
}

func (v *Variant) appendSIOResponse(dst []byte, id uint32, body []byte) []byte {
	if v.Framing.sio09() {
		at, head := v.lastArray(dst)
		if head > 0 { // what is written at once is one array
			dst = append(dst[:len(dst)-1], ',')
		} else {
			at = len(dst)
			dst = append(dst, `3:::[`...)
		}
		dst = appendSIOAnswer(dst, id, body)
		return v.frame(append(dst, ']'), at, head)
	}
	at := len(dst)
	return v.frameEvent(appendSIOAnswer(append(dst, eventOpen...), id, body), at)
}

func appendSIOAnswer(dst []byte, id uint32, body []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendInt(dst, int64(int32(id)), 10) // §4.1: a signed number
	dst = append(dst, `,"body":`...)
	return append(append(dst, body...), '}')
}

func (v *Variant) appendSIOKick(dst, reason []byte) []byte {
	at := len(dst)
	if v.Framing.sio09() {
		dst = append(append(dst, `3:::[{"route":"onKick","reason":`...), reason...)
		return v.AppendPacket(v.frame(append(dst, "}]"...), at, 0), []byte("0::"))
	}
	dst = append(append(dst, eventOpen+`{"route":"onKick","reason":`...), reason...)
	return v.AppendPacket(v.frameEvent(append(dst, '}'), at), []byte("41"))
}

// frameEvent makes dst[at:], the beginning of an event and its text as it is, a whole frame, in which the text is the inside of
// a JSON string. Who fetches gets pure ASCII: the two generations of Engine.IO 3 disagree about anything else
// (protocol.md §6.3).
func (v *Variant) frameEvent(dst []byte, at int) []byte {
	start, end := at+len(eventOpen), len(dst)
	dst = v.appendText(dst, dst[start:]) // behind itself, and then moved there: no other memory is needed
	dst = dst[:start+copy(dst[start:], dst[end:])]
	return v.frame(append(dst, `"]`...), at, 0)
}

func (v *Variant) appendText(dst, text []byte) []byte {
	for {
		n := skipPlain(text, 0)
		if v.Framing == FramingEIOPull {
			dst = appendASCII(dst, text[:n])
		} else {
			dst = append(dst, text[:n]...)
		}
		if n == len(text) {
			return dst
		}
		dst = appendEscape(dst, text[n])
		text = text[n+1:]
	}
}

// appendASCII writes what is above U+007F as \u escapes. s is valid UTF-8 without characters above U+FFFF, as all
// canonical JSON.
func appendASCII(dst, s []byte) []byte {
	from := 0
	for i := 0; i < len(s); {
		if s[i] < 0x80 {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch {
		case s[i] < 0xE0 && i+1 < len(s):
			dst = appendUnit(dst, rune(s[i]&0x1F)<<6|rune(s[i+1]&0x3F))
			i += 2
		case i+2 < len(s):
			dst = appendUnit(dst, rune(s[i]&0x0F)<<12|rune(s[i+1]&0x3F)<<6|rune(s[i+2]&0x3F))
			i += 3
		default:
			i = len(s)
		}
		from = i
	}
	return append(dst, s[from:]...)
}

// frame makes dst[at:], a packet of which the first head bytes are the head of an earlier, shorter form, a whole frame.
func (v *Variant) frame(dst []byte, at, head int) []byte {
	n := len(dst) - at - head
	var h [10]byte
	var want []byte
	if v.Framing.pull() {
		want = appendPacketHead(h[:0], n)
	} else {
		want = AppendWSHead(h[:0], WSText, n)
	}
	for range len(want) - head {
		dst = append(dst, 0)
	}
	copy(dst[at+len(want):], dst[at+head:at+head+n])
	copy(dst[at:], want)
	return dst
}

// lastArray finds the last frame in staged frames and tells where it begins and how long its head is; head is 0 when it is no array
// that another element may be added to. The original of 2013 tells a sender its push and its answer in one array (protocol.md §4.2;
// TestSIOBytes in router). The push was encoded once for all members, so its frame is a finished one and has to be found again.
func (v *Variant) lastArray(staged []byte) (at, head int) {
	end := 0
	for frames := 0; end < len(staged); frames++ {
		if frames == maxPassed {
			return 0, 0
		}
		at = end
		n := 0
		if head, n = v.frameSize(staged[at:]); head == 0 || n > len(staged)-at-head {
			return 0, 0 // something else is staged as well: the answer to an upgrade
		}
		end = at + head + n
	}
	if end == 0 || end-at > maxMerged {
		return 0, 0
	}
	if packet := staged[at+head:]; !bytes.HasPrefix(packet, []byte(`3:::[`)) || packet[len(packet)-1] != ']' {
		return 0, 0
	}
	return at, head
}

// frameSize is the size of the head and of the rest of the frame at the start of b; head is 0 when it is none of ours.
func (v *Variant) frameSize(b []byte) (head, n int) {
	switch {
	case v.Framing.pull() && len(b) >= packetHeadBytes:
		return packetHeadBytes, int(binary.BigEndian.Uint32(b) &^ (1 << 31))
	case v.Framing.pull() || len(b) < 2 || b[0]&0xF0 != 0x80:
		return 0, 0
	case b[1] < 126:
		return 2, int(b[1])
	case b[1] == 126 && len(b) >= 4:
		return 4, int(binary.BigEndian.Uint16(b[2:]))
	case b[1] == 127 && len(b) >= 10 && b[2]&0x80 == 0:
		return 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	return 0, 0
}
