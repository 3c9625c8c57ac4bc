package netpoll

import "syscall"

// What a TLS record is, as far as this package has to know without its keys (RFC 8446 §5.1, RFC 5246 §6.2.1).
const (
	recordHead     = 5             // type, version, length
	recordLongest  = 16<<10 + 2048 // behind the head; crypto/tls refuses longer ones by their head
	recordContents = 16 << 10      // bytes of ours that one record takes
)

// recordEnd is the length of the record that b begins with, or 0 while it is not whole. One that is too long counts as whole with its head, by
// which crypto/tls refuses it.
func recordEnd(b []byte) int {
	if len(b) < recordHead {
		return 0
	}
	n := recordHead + int(b[3])<<8 + int(b[4])
	switch {
	case n > recordHead+recordLongest:
		return recordHead
	case n > len(b):
		return 0
	}
	return n
}

// recordsEnd is the length of the whole records that b begins with.
func recordsEnd(b []byte) (n int) {
	for {
		k := recordEnd(b[n:])
		if k == 0 {
			return n
		}
		n += k
	}
}

// nothing is the error of wire.Read when no whole record is there. crypto/tls keeps every error of a transport, but for those that call themselves
// temporary: after these it reads on where it was (TestCryptoTLSReadsOn holds each release of Go to that).
type nothing struct{}

func (nothing) Error() string   { return "no record is there yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// wire is the transport of a tls.Conn. It gives whole records only, one at a time, so that crypto/tls keeps no piece of one, and reads
// nothing ahead: what has come and is not decrypted is here, where it is counted. What is sealed goes to the socket at once, if it takes it.
//
// While a handshake runs, its coroutine has the wire; then the loop. It is never used by two at a time.
type wire struct {
	in    []byte // whole records, and perhaps a piece of the next
	left  int    // of the record at the front of in, what has yet to be read
	taken int    // records begun, since this was made 0
	out   []byte // sealed, and not taken by the socket

	yield func(struct{}) bool // of the handshake's coroutine, which waits by it; nil: nobody may wait
	to    Driver              // nil: what is sealed waits in out
	fd    int
	errno syscall.Errno // of the last write, if the socket has failed
}

// Read gives a piece of one record. Without a whole one it waits, in a coroutine, or fails with nothing.
func (w *wire) Read(b []byte) (int, error) {
	for w.left == 0 {
		if w.left = recordEnd(w.in); w.left > 0 {
			w.taken++
			break
		}
		if w.yield == nil {
			return 0, nothing{}
		}
		if !w.yield(struct{}{}) {
			return 0, syscall.ECONNABORTED
		}
	}
	n := copy(b, w.in[:w.left])
	w.in, w.left = w.in[n:], w.left-n
	return n, nil
}

// Write takes everything.
func (w *wire) Write(b []byte) (n int, err error) {
	if w.to != nil && len(w.out) == 0 {
		n = w.send(b)
	}
	w.out = append(w.out, b[n:]...)
	return len(b), nil
}

// send writes b to the socket, and returns how much of it that took.
func (w *wire) send(b []byte) int {
	n, errno := w.to.Write(w.fd, b)
	if errno != 0 && errno != syscall.EAGAIN {
		w.errno = errno
		return 0
	}
	return n
}

// flush sends what waits in out, and returns how much the socket took.
func (w *wire) flush() (n int) {
	if len(w.out) == 0 || w.to == nil {
		return 0
	}
	n = w.send(w.out)
	if w.out = w.out[:copy(w.out, w.out[n:])]; len(w.out) == 0 {
		w.out = nil
	}
	return n
}

// failure is the error of writes since it was asked last; 0 is none.
func (w *wire) failure() syscall.Errno {
	errno := w.errno
	w.errno = 0
	return errno
}
