package codec

import "errors"

// The Pomelo wire on one page (protocol.md §2.2 and §2.5, big-endian throughout).
//
//	package   +------+-----------------+------------------ - -
//	          | type | body length (3) | body, 0 .. 2^24-1 bytes
//	          +------+-----------------+------------------ - -
//
//	          1 handshake      both ways          JSON
//	          2 handshake ack  client to server   empty
//	          3 heartbeat      both ways          empty
//	          4 data           both ways          one message
//	          5 kick           server to client   JSON {"reason":"..."}
//
//	message   +------+------------+----------------------+------ - -
//	          | flag | id, 1 .. 5 | route, 1 + n or 2    | body
//	          +------+------------+----------------------+------ - -
//
//	          flag    bit 0 route is a code, bits 1..3 type, bit 4 gzip
//	          id      request, response: base 128, least significant group first
//	          route   request, notify, push: length byte and text, or a 2-byte code
//
//	flow      client                          server
//	          handshake          ---->
//	                             <----        handshake
//	          handshake ack      ---->
//	                             <----        heartbeat (when they are on)
//	          data, heartbeat    <--->        data, heartbeat
//	                             <----        kick, then close
//
// Over TCP packages follow one another; over WebSocket one binary frame holds one or
// more whole packages (websocket.go has the frames).

// PackageType is the first byte of a package.
type PackageType uint8

// The package types of protocol.md §2.2. There are no others: a peer that sends one is
// not speaking this protocol.
const (
	PackageHandshake    PackageType = 1
	PackageHandshakeAck PackageType = 2
	PackageHeartbeat    PackageType = 3
	PackageData         PackageType = 4
	PackageKick         PackageType = 5
)

const (
	// PackageHeadBytes is the size of a package's type and length.
	PackageHeadBytes = 4

	// MaxPackageBody is the longest body the 3-byte length can announce, in bytes. The
	// limit that is enforced on what clients send is far lower and the caller's choice.
	MaxPackageBody = 1<<24 - 1
)

var (
	// errPackageType means that the first byte of a package is not 1..5. Over TCP the
	// connection is destroyed without an answer (protocol.md §2.2).
	errPackageType = errors.New("package type is not 1..5")

	// ErrPackageTooLong means that a package announces a body longer than the caller's
	// limit. It is reported from the head, before any of the body is buffered.
	ErrPackageTooLong = errors.New("package body exceeds the limit")
)

// Package is one package as found in a buffer.
type Package struct {
	Type PackageType
	Body []byte // aliases the parsed buffer; empty, never nil, when there is none
}

// ParsePackage reads the first package of b, whose body may have up to limit bytes, and
// returns it with the bytes it took. n == 0 without an error means that b holds only the
// beginning of a package: over TCP call again with more, over WebSocket, where packages
// do not span frames, the frame is malformed.
//
// It fails for a type that is not 1 to 5 and, with ErrPackageTooLong, for a body longer than
// limit: as soon as the 4 bytes of the head are there, so that garbage is not buffered first.
func ParsePackage(b []byte, limit int) (p Package, n int, err error) {
	if len(b) < PackageHeadBytes {
		return Package{}, 0, nil
	}
	t := PackageType(b[0])
	if t < PackageHandshake || t > PackageKick {
		return Package{}, 0, errPackageType
	}
	body := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if body > limit {
		return Package{}, 0, ErrPackageTooLong
	}
	n = PackageHeadBytes + body
	if len(b) < n {
		return Package{}, 0, nil
	}
	return Package{Type: t, Body: b[PackageHeadBytes:n:n]}, n, nil
}

// AppendPackageHead appends the head of a package of type t whose body of n bytes the
// caller appends next. It panics if n is not within 0..MaxPackageBody: a length cut to
// 24 bits would desynchronise the peer, and what we send is bounded long before this.
func AppendPackageHead(dst []byte, t PackageType, n int) []byte {
	if n < 0 || n > MaxPackageBody {
		panic("codec: package body length does not fit 24 bits")
	}
	return append(dst, byte(t), byte(n>>16), byte(n>>8), byte(n))
}

// AppendPackage appends a whole package; it panics as AppendPackageHead does.
func AppendPackage(dst []byte, t PackageType, body []byte) []byte {
	return append(AppendPackageHead(dst, t, len(body)), body...)
}
