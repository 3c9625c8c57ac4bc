package codec

import "sync/atomic"

// MaxVariants bounds the number of different encodings of a push in one process: listeners differ in dictionary and
// protobuf, clients in transport and text.
const MaxVariants = 64

// Push is one message from the server to any number of clients. Route and Body are immutable once it has been posted.
type Push struct {
	Route string
	// Body is canonical JSON: an object, valid UTF-8, nothing above U+FFFF unescaped (AppendCanonical). It has no
	// member named "body", which would confuse socket.io clients (protocol.md §4.2).
	Body []byte
	// Extended clients are told which push of which room this is, and when it was: Stream is the room's, nil if it is no room's; Seq its number
	// there, 0 for one to a single member; Time is in Unix milliseconds.
	Stream *Stream
	Seq    uint64
	Time   int64
	// ForExtended: nobody but extended clients gets it.
	ForExtended bool
	// Shared is set when several loops will encode this push, so that encoding once and keeping it pays.
	Shared *SharedFrames
}

// SharedFrames keeps a push as it was first encoded in each variant. Safe from any goroutine.
type SharedFrames [MaxVariants]atomic.Pointer[[]byte]

// Framing says how packages travel to a client.
type Framing uint8

// The framings.
const (
	FramingTCP Framing = iota // packages back to back
	FramingWS                 // one package per binary WebSocket frame
	// socket.io (protocol.md §4): packets in WebSocket text frames, or in the stream of one who fetches (AppendPacket).
	FramingSIO09WS
	FramingSIO09Pull
	FramingEIOWS // Engine.IO 3 and 4
	FramingEIOPull
)

// WebSocket tells whether the client is at the other end of a WebSocket.
func (f Framing) WebSocket() bool { return f == FramingWS || f == FramingSIO09WS || f == FramingEIOWS }

// SocketIO tells whether the client speaks socket.io: then all bodies are JSON.
func (f Framing) SocketIO() bool { return !f.hybrid() }

// pull tells whether the client fetches.
func (f Framing) pull() bool { return f == FramingSIO09Pull || f == FramingEIOPull }

func (f Framing) hybrid() bool { return f <= FramingWS }
func (f Framing) sio09() bool  { return f == FramingSIO09WS || f == FramingSIO09Pull }

// Variant is one way in which the bytes of a push may differ between clients: settings of the listener, and what the
// client's handshake told. Static after construction; safe from any goroutine.
type Variant struct {
	Index   uint8 // unique in the process, below MaxVariants
	Framing Framing
	Dict    *Dictionary // nil: routes travel as text
	Protos  *Protos     // nil: all bodies are JSON
	CESU    bool        // protobuf strings as browsers decode them (protocol.md §2.6)
	// Extended: pushes tell of their place in the room's stream, and all bodies are JSON, as definitions would drop that.
	Extended bool
}

// AppendFrame appends the push as clients of v read it.
func (p *Push) AppendFrame(dst []byte, v *Variant) []byte {
	if p.Shared == nil {
		return p.encode(dst, v)
	}
	if f := p.Shared[v.Index].Load(); f != nil {
		return append(dst, *f...)
	}
	at := len(dst)
	dst = p.encode(dst, v)
	kept := append([]byte(nil), dst[at:]...)
	p.Shared[v.Index].Store(&kept) // two loops may both have encoded it: the same bytes
	return dst
}

func (p *Push) encode(dst []byte, v *Variant) []byte {
	if v.Extended && p.Stream != nil {
		placed := Push{Route: p.Route, Body: p.placed()}
		p = &placed
	}
	if !v.Framing.hybrid() {
		return v.appendSIOPush(dst, p)
	}
	body := p.Body
	if m := v.Protos.Server(p.Route); m != nil && !v.Extended {
		body = v.encodeBody(m, body)
	}
	if code, ok := v.Dict.Code(p.Route); ok {
		dst = v.AppendPackageHead(dst, PackageData, 1+2+len(body))
		dst = appendPushHeadCode(dst, code)
	} else {
		route := p.Route[:min(len(p.Route), MaxRouteBytes)]
		dst = v.AppendPackageHead(dst, PackageData, 1+1+len(route)+len(body))
		dst, _ = appendPushHead(dst, route)
	}
	return append(dst, body...)
}

// AppendPackageHead begins a package whose body of n bytes follows.
func (v *Variant) AppendPackageHead(dst []byte, t PackageType, n int) []byte {
	if v.Framing == FramingWS {
		dst = AppendWSHead(dst, WSBinary, PackageHeadBytes+n)
	}
	return AppendPackageHead(dst, t, n)
}

// AppendPackage appends a whole package.
func (v *Variant) AppendPackage(dst []byte, t PackageType, body []byte) []byte {
	return append(v.AppendPackageHead(dst, t, len(body)), body...)
}

// AppendResponse appends the answer to request id, which took idBytes (AppendResponseHead). body is canonical JSON; m is
// the server proto of the request's route, or nil.
func (v *Variant) AppendResponse(dst []byte, id uint32, idBytes uint8, body []byte, m *ProtoMessage) []byte {
	if !v.Framing.hybrid() {
		return v.appendSIOResponse(dst, id, body)
	}
	if m != nil && !v.Extended {
		body = v.encodeBody(m, body)
	}
	return append(v.AppendResponseHead(dst, id, idBytes, len(body)), body...)
}

// Verbatim tells whether an answer's body travels as it is, so that it may follow AppendResponseHead in pieces. m is as for
// AppendResponse.
func (v *Variant) Verbatim(m *ProtoMessage) bool {
	return v.Framing.hybrid() && (m == nil || v.Extended)
}

// AppendResponseHead begins an answer whose body of n bytes follows.
func (v *Variant) AppendResponseHead(dst []byte, id uint32, idBytes uint8, n int) []byte {
	var head [1 + maxIDBytes]byte
	h := AppendResponseHead(head[:0], id, idBytes)
	return append(v.AppendPackageHead(dst, PackageData, len(h)+n), h...)
}

// AppendKick appends what tells a client why it will be disconnected: {"reason":…}, with reason as JSON
// (protocol.md §2.8, §4.2).
func (v *Variant) AppendKick(dst, reason []byte) []byte {
	if !v.Framing.hybrid() {
		return v.appendSIOKick(dst, reason)
	}
	dst = v.AppendPackageHead(dst, PackageKick, len(`{"reason":}`)+len(reason))
	dst = append(append(dst, `{"reason":`...), reason...)
	return append(dst, '}')
}

// encodeBody encodes a body for clients that expect protobuf. What the definition cannot hold becomes an empty body, as
// with the original (protocol.md §3.2): the client still learns of the message.
func (v *Variant) encodeBody(m *ProtoMessage, body []byte) []byte {
	b, err := m.AppendEncode(make([]byte, 0, len(body)), body, ProtoOptions{CESU8: v.CESU, FillStrings: true})
	if err != nil {
		return nil
	}
	return b
}
