package codec

import "bytes"

// SIO09Type is the digit that a packet of socket.io 0.9 begins with.
type SIO09Type byte

// The packet types (protocol.md §5.2).
const (
	SIO09Disconnect SIO09Type = '0' + iota
	SIO09Connect
	SIO09Heartbeat
	SIO09Message
	SIO09JSON
	SIO09Event
	SIO09Ack
	SIO09Error
	SIO09Noop
)

// SIO09Packet is a packet of socket.io 0.9 (protocol.md §5.2):
//
//	type ":" [id ["+"]] ":" [endpoint] [":" data]
type SIO09Packet struct {
	Type     SIO09Type
	ID       []byte // digits; nil: no ack is wanted
	DataAck  bool   // the id ended in '+': whoever handles the packet acknowledges it, not the transport
	Endpoint []byte
	Data     []byte
}

// ParseSIO09Packet reads one packet. The slices alias b. ok is false for what is to be ignored: an
// unknown type, an id that is no number, less than two colons.
func ParseSIO09Packet(b []byte) (p SIO09Packet, ok bool) {
	if len(b) < 3 || b[0] < byte(SIO09Disconnect) || b[0] > byte(SIO09Noop) || b[1] != ':' {
		return SIO09Packet{}, false
	}
	p.Type = SIO09Type(b[0])
	rest := b[2:]
	if n, ok := skipDigits(rest, 0); ok {
		p.ID, rest = rest[:n:n], rest[n:]
	}
	if len(rest) > 0 && rest[0] == '+' {
		p.DataAck, rest = p.ID != nil, rest[1:]
	}
	if len(rest) == 0 || rest[0] != ':' {
		return SIO09Packet{}, false
	}
	p.Endpoint, p.Data, _ = bytes.Cut(rest[1:], []byte{':'})
	return p, true
}

// AppendText appends the text that p delivers as a message: the data of type 3, or the first
// argument of an event named "message" if it is a string. The result is UTF-8. ok is false, and dst
// returned as it was, for every other packet. It does not look at the endpoint.
func (p *SIO09Packet) AppendText(dst []byte) (text []byte, ok bool) {
	switch p.Type {
	case SIO09Message:
		return append(dst, NormalizeUTF8(p.Data)...), true
	case SIO09Event:
		return p.appendEventText(dst)
	}
	return dst, false
}

// appendEventText reads {"name":"message","args":["text",...]}. Of members that come twice the last
// one counts, as for JSON.parse.
func (p *SIO09Packet) appendEventText(dst []byte) ([]byte, bool) {
	var name, args []byte
	o := ScanObject(p.Data)
	for {
		key, value, ok := o.Next()
		if !ok {
			break
		}
		switch string(key) {
		case "name":
			name = value
		case "args":
			args = value
		}
	}
	if o.Err() != nil || len(args) == 0 || args[0] != '[' || !isMessageName(dst, name) {
		return dst, false
	}
	list := scanArray(args)
	arg, ok := list.next()
	if !ok {
		return dst, false
	}
	return appendStringValue(dst, arg)
}
