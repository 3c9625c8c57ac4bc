package codec

import "encoding/binary"

// The packets of a polling session come and go several to an HTTP body, in one of four framings
// (payload_http.go). Inside the server they wait in a fifth, a stream, which is quick to append to
// and to cut:
//
//	+--------+----------------------+----------------------+
//	| binary | length, big-endian   | packet               |
//	| 1 bit  | 31 bits              | length bytes         |
//	+--------+----------------------+----------------------+
//
// A text packet is UTF-8 and begins with its type, a digit; a binary one is the data of an
// Engine.IO message without the type.

// packetHeadBytes is what a stream adds to each packet.
const packetHeadBytes = 4

const packetBinary = 1 << 31

// appendPacketHead appends the head of a text packet of n bytes, n < 1<<31; they must follow.
func appendPacketHead(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// AppendPacket appends a text packet.
func AppendPacket(dst, packet []byte) []byte {
	return append(appendPacketHead(dst, len(packet)), packet...)
}

// NextPacket cuts the first packet off a stream: it aliases stream and took n bytes of it with its
// head. n == 0 means that stream holds no whole packet.
func NextPacket(stream []byte) (packet []byte, isBinary bool, n int) {
	if len(stream) < packetHeadBytes {
		return nil, false, 0
	}
	head := binary.BigEndian.Uint32(stream)
	size := int(head &^ packetBinary)
	if size > len(stream)-packetHeadBytes {
		return nil, false, 0
	}
	n = packetHeadBytes + size
	return stream[packetHeadBytes:n:n], head&packetBinary != 0, n
}

// endPacket writes the head of the packet whose bytes were appended behind room for it at stream[at:].
func endPacket(stream []byte, at int, isBinary bool) []byte {
	head := uint32(len(stream) - at - packetHeadBytes)
	if isBinary {
		head |= packetBinary
	}
	binary.BigEndian.PutUint32(stream[at:], head)
	return stream
}
