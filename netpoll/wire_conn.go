package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"time"
	"unsafe"
)

// The rest of net.Conn: crypto/tls calls the setters of deadlines, and nobody waits here.

func (*wire) Close() error                     { return nil }
func (*wire) LocalAddr() net.Addr              { return nil }
func (*wire) RemoteAddr() net.Addr             { return nil }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

// A tls.Conn keeps the buffers by which it reads, grown to the longest record and the longest handshake message that ever came; that is most of
// what an idle conn has. As wire never leaves anything in the first, and a handshake that has left something in the second fails, they are taken away while it is idle. Their fields are
// private: where a release of Go has others, rawInput and hand are 0, nothing is taken away, and conns are larger (TestSecuredIdleBytes tells).
var rawInput, hand = field[bytes.Buffer]("rawInput"), field[bytes.Buffer]("hand")

// Secrets that a server needs no longer when a handshake is over: of a conn's exporter, by which programs bind their own protocols to it, and of its tickets.
var exporter, resumption = field[func(string, []byte, int) ([]byte, error)]("ekm"), field[[]byte]("resumptionSecret")

// field is where a tls.Conn has a field of this name and type; 0: it has none.
func field[T any](name string) uintptr {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return 0
	}
	return f.Offset
}

// forget frees what a conn needs no longer when its handshake is over.
func forget(c *tls.Conn) {
	if exporter != 0 {
		*(*func(string, []byte, int) ([]byte, error))(unsafe.Add(unsafe.Pointer(c), exporter)) = nil
	}
	if resumption != 0 {
		*(*[]byte)(unsafe.Add(unsafe.Pointer(c), resumption)) = nil
	}
}

func bufferAt(c *tls.Conn, field uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), field))
}

// lend has c read by memory that the caller takes back (takeBack) before anybody else uses it.
func lend(c *tls.Conn, memory []byte) {
	if rawInput != 0 {
		*bufferAt(c, rawInput) = *bytes.NewBuffer(memory[:0])
	}
}

// takeBack ends lend. It also takes the buffer of handshake messages, unless a part of one is there.
func takeBack(c *tls.Conn) {
	if rawInput != 0 {
		*bufferAt(c, rawInput) = bytes.Buffer{}
	}
	if hand != 0 && !begunMessage(c) {
		*bufferAt(c, hand) = bytes.Buffer{}
	}
}

// begunMessage tells whether c keeps a part of a handshake message.
func begunMessage(c *tls.Conn) bool { return hand != 0 && bufferAt(c, hand).Len() > 0 }
