package codec

import "errors"

// MessageType is the kind of a message, bits 1..3 of its flag byte.
type MessageType uint8

// The message types of protocol.md §2.5. A peer can send 4..7 too: ParseMessage
// reports them, with neither id nor route, and AppendMessage refuses them.
const (
	MessageRequest  MessageType = 0
	MessageNotify   MessageType = 1
	MessageResponse MessageType = 2
	MessagePush     MessageType = 3
)

const (
	// MaxRouteBytes is the longest route text, in bytes of UTF-8: its length is one byte.
	MaxRouteBytes = 255

	// MaxMessageHeadBytes is the largest flag, id and route together, for sizing buffers.
	MaxMessageHeadBytes = 1 + maxIDBytes + 1 + MaxRouteBytes

	maxIDBytes = 5 // 32 bits in groups of 7

	flagCode      = 0x01 // the route is a code
	flagTypeShift = 1
	flagTypeMask  = 0x07
	flagGzip      = 0x10 // the body is compressed (Inflater); the other three bits mean nothing
)

var (
	// errMessageEmpty means that a data package had no body, so no flag byte.
	errMessageEmpty = errors.New("message is empty")

	// errMessageID means that a message ends inside its id.
	errMessageID = errors.New("message ends inside its id")

	// errMessageRoute means that a message ends inside its route or before it.
	errMessageRoute = errors.New("message ends inside its route")

	// errMessageType means that a message to be encoded has a type above 3.
	errMessageType = errors.New("message type cannot be encoded")

	// errRouteTooLong means that a route to be encoded has more than MaxRouteBytes.
	errRouteTooLong = errors.New("route exceeds 255 bytes")
)

// Message is one message as found in the body of a data package. Its slices alias that
// body and share its lifetime.
type Message struct {
	Type       MessageType
	ID         uint32 // request and response; a request with id 0 is a notify
	IDBytes    uint8  // bytes that ID took, for AppendResponseHead; 255: that many or more
	Route      []byte // the route as text, when the message has one and not Compressed
	Code       uint16 // the route's dictionary code, when it has one and is Compressed
	Compressed bool   // flag bit 0; a response may carry it although it has no route
	Gzip       bool   // flag bit 4; nothing is inflated here
	Body       []byte // never nil, may be empty
}

func (t MessageType) hasID() bool { return t == MessageRequest || t == MessageResponse }

func (t MessageType) hasRoute() bool {
	return t == MessageRequest || t == MessageNotify || t == MessagePush
}

// ParseMessage reads the one message that b, the body of a data package, consists of
// (protocol.md §2.5). A body that ends before its head does is an error, as it is for
// the original; every other input is a message.
func ParseMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return Message{}, errMessageEmpty
	}
	flag := b[0]
	m := Message{
		Type:       MessageType(flag >> flagTypeShift & flagTypeMask),
		Compressed: flag&flagCode != 0,
		Gzip:       flag&flagGzip != 0,
	}
	b = b[1:]

	if m.Type.hasID() {
		id, n := parseMessageID(b)
		if n == 0 {
			return Message{}, errMessageID
		}
		m.ID, m.IDBytes, b = id, uint8(min(n, 255)), b[n:]
	}

	if m.Type.hasRoute() {
		switch {
		case m.Compressed:
			if len(b) < 2 {
				return Message{}, errMessageRoute
			}
			m.Code, b = uint16(b[0])<<8|uint16(b[1]), b[2:]
		default:
			if len(b) == 0 || len(b) < 1+int(b[0]) {
				return Message{}, errMessageRoute
			}
			end := 1 + int(b[0])
			m.Route, b = b[1:end:end], b[end:]
		}
	}
	m.Body = b
	return m, nil
}

// parseMessageID reads an id and the bytes it took, 0 when b ends first. It computes what
// the original computes: groups are added up in 32 bits and a shift counts modulo 32. So
// trailing zero groups change nothing, ids up to 2^32-1 are exact (above 2^31-1 the
// original calls them negative), and a longer id gets the same wrong value on both servers.
func parseMessageID(b []byte) (id uint32, n int) {
	shift := uint32(0)
	for i, c := range b {
		id += uint32(c&0x7f) << (shift & 31)
		if c < 0x80 {
			return id, i + 1
		}
		shift += 7
	}
	return 0, 0
}

func appendMessageID(dst []byte, id uint32) []byte {
	for id >= 0x80 {
		dst = append(dst, byte(id)|0x80)
		id >>= 7
	}
	return append(dst, byte(id))
}

// AppendResponseHead appends the head of the response to request id; the body follows. The id gets as many bytes as
// the request's had (idBytes, 0 for as many as it needs; at most maxIDBytes). For that, too, is how clients know it: the
// browser builds of Pomelo write the most significant group first, so their 128 is 81 00, which we read as 1; an answer
// to 01 would find no request.
func AppendResponseHead(dst []byte, id uint32, idBytes uint8) []byte {
	dst = append(dst, byte(MessageResponse)<<flagTypeShift)
	at := len(dst)
	dst = appendMessageID(dst, id)
	for len(dst)-at < min(int(idBytes), maxIDBytes) {
		dst[len(dst)-1] |= 0x80
		dst = append(dst, 0)
	}
	return dst
}

// appendPushHead appends the head of a push whose route travels as text; the body
// follows. A route of more than MaxRouteBytes is an error, and dst is returned as it was.
func appendPushHead(dst []byte, route string) ([]byte, error) {
	if len(route) > MaxRouteBytes {
		return dst, errRouteTooLong
	}
	dst = append(dst, byte(MessagePush)<<flagTypeShift, byte(len(route)))
	return append(dst, route...), nil
}

// appendPushHeadCode appends the head of a push whose route is in the dictionary under
// code; the body follows.
func appendPushHeadCode(dst []byte, code uint16) []byte {
	return append(dst, byte(MessagePush)<<flagTypeShift|flagCode, byte(code>>8), byte(code))
}

// AppendMessage appends m in full, for clients, tests and whoever needs a message that
// the heads above do not cover. Members that the type does not have are not written: the
// id of a notify or push, the route of a response. An unknown type
// or a route of more than MaxRouteBytes is an error, and dst is returned as it was.
func AppendMessage(dst []byte, m Message) ([]byte, error) {
	if m.Type > MessagePush {
		return dst, errMessageType
	}
	withText := m.Type.hasRoute() && !m.Compressed
	if withText && len(m.Route) > MaxRouteBytes {
		return dst, errRouteTooLong
	}

	flag := byte(m.Type) << flagTypeShift
	if m.Compressed {
		flag |= flagCode
	}
	if m.Gzip {
		flag |= flagGzip
	}
	dst = append(dst, flag)
	if m.Type.hasID() {
		dst = appendMessageID(dst, m.ID)
	}
	switch {
	case withText:
		dst = append(dst, byte(len(m.Route)))
		dst = append(dst, m.Route...)
	case m.Type.hasRoute():
		dst = append(dst, byte(m.Code>>8), byte(m.Code))
	}
	return append(dst, m.Body...), nil
}
