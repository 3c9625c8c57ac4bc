package netpoll

import (
	"log/slog"
	"net/netip"
	"syscall"
)

// readBytes is one read, so short that others need not wait long. What a conn leaves unconsumed of it is copied.
const readBytes = 16 << 10

// sockets are the descriptors of a loop's conns: whose each is, and what it is watched for. They are read, watched and closed here only;
// output writes to them. Owned by the loop.
//
// A descriptor has an owner from add until close or release. After that an event that is late finds nobody, or the owner of another
// socket with the same number, to which a false hint does no harm.
type sockets struct {
	driver Driver
	conns  *slots
	clock  *clock
	ends   *ends
	ledger *ledger

	owners []uint32 // by descriptor: its conn's slot + 1, or 0
	buf    []byte   // of one read
	read   uint64   // bytes, since the start
}

// LocalAddr is the address by which the peer reached us. Runs on the loop.
func (s *sockets) LocalAddr(c *Conn) netip.AddrPort { return s.driver.LocalAddr(int(c.fd)) }

// add gives c its socket, which is not watched yet.
func (s *sockets) add(c *Conn, fd int32) {
	for int(fd) >= len(s.owners) {
		s.owners = append(s.owners, make([]uint32, slabConns)...)
	}
	c.fd, s.owners[fd] = fd, c.slot+1
	s.ledger.unread++
}

// owner is the conn that has fd, or nil.
func (s *sockets) owner(fd int) *Conn {
	if fd >= len(s.owners) || s.owners[fd] == 0 {
		return nil
	}
	return s.conns.at(s.owners[fd] - 1)
}

// watch has the driver report what is wanted of c's socket, and always that it has failed: else a peer that is gone would keep the place of
// a conn that is not read. A conn that cannot be watched ends.
func (s *sockets) watch(c *Conn, want Interest) {
	want |= Failed
	if c.watched == want || !c.life.writable() || c.IsPull() { // mostly
		return
	}
	if err := s.driver.Watch(int(c.fd), c.watched, want); err != nil {
		slog.Error("cannot watch a socket; it is closed", "err", err, "peer", c.Peer())
		s.ends.fail(c)
		return
	}
	s.ledger.unread += int(c.watched&Readable) - int(want&Readable)
	c.watched = want
}

// receive reads c once. What it returns is valid until the next read; nil if nothing has come, or the socket has failed. ended tells that the
// peer has closed its end.
func (s *sockets) receive(c *Conn) (b []byte, ended bool) {
	n, errno := s.driver.Read(int(c.fd), s.buf)
	switch {
	case errno == syscall.EAGAIN:
		return nil, false
	case errno != 0:
		s.ends.fail(c)
		return nil, false
	case n == 0:
		return nil, true
	}
	s.read += uint64(n)
	c.active = s.clock.now
	return s.buf[:n], false
}

// finish sends the end of the stream, behind what the kernel has yet to send.
func (s *sockets) finish(c *Conn) { s.driver.CloseWrite(int(c.fd)) }

// close closes c's socket.
func (s *sockets) close(c *Conn) {
	s.disown(c) // first: the kernel may give the number to another socket at once
	s.driver.Close(int(c.fd), c.watched)
}

// release takes c's socket away, open and unwatched. If it cannot, c ends.
func (s *sockets) release(c *Conn) bool {
	if err := s.driver.Watch(int(c.fd), c.watched, None); err != nil {
		s.ends.fail(c)
		return false
	}
	s.disown(c)
	return true
}

// sever parts c from its connection, which nobody watches any more then. c keeps the descriptor.
func (s *sockets) sever(c *Conn, f func(fd int, watched Interest)) {
	f(int(c.fd), c.watched)
	s.ledger.unread += int(c.watched & Readable)
	c.watched = None
}

func (s *sockets) disown(c *Conn) {
	s.ledger.unread -= 1 - int(c.watched&Readable)
	s.owners[c.fd] = 0
}

// hand gives the socket of c to heir, watched as it is.
func (s *sockets) hand(c, heir *Conn) {
	heir.fd, heir.watched = c.fd, c.watched
	s.owners[c.fd] = heir.slot + 1
}
