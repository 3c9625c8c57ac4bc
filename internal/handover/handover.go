//go:build linux

// Package handover is the channel between a process and the one that takes its place: messages with descriptors, over a socket pair that only the
// two have. What is said on it, in order:
//
//	old → new   Hello      what runs: formats, listeners with their sockets, the node
//	new → old   Ready      which listeners' conns it takes; or Refuse, with a sentence
//	            (the old process stops its event loops here)
//	old → new   Loop       of each event loop, what its sessions share; then
//	old → new   Conns      some of its conns, with their sockets, until all are sent
//	old → new   End        there are no more loops; what the process is in its fleet, if it is in one
//	new → old   Taken      all of it is imported and could be served; or Refuse
//	old → new   Commit     from here on the clients are the new process's
//	old → new   Released   the old process has told the service manager
//	new → old   Serving    figures
//
// Before Commit each side may give up: the new process ends, and the old one, which waits until it has, goes on as if nothing had been.
// An end of the channel after End and before Commit is a commit too: then the old process is gone, and nobody else has the sockets.
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kind says what a message is.
type Kind uint8

// The kinds of messages, in the order in which they are sent. A process that is given one that it does not expect gives up.
const (
	Hello Kind = iota + 1
	Ready
	Refuse
	Loop
	Conns
	End
	Taken
	Commit
	Released
	Serving
)

var kindNames = [...]string{"nothing", "hello", "ready", "refuse", "loop", "conns", "end", "taken", "commit", "released", "serving"}

// String is the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("message %d", uint8(k))
}

// Message is what is sent at once.
type Message struct {
	Kind Kind
	Body []byte
	// Files are descriptors. Send leaves them the sender's; what Receive returns are the receiver's.
	Files []int
}

// A message is sent in packets of a socket of type SOCK_SEQPACKET. Each begins with a head: the kind, 1 in the last packet and 0 in those
// before, and a checksum (CRC-32C) of what follows.
const (
	headBytes   = 6
	packetBytes = 32 << 10 // behind the head; a socket buffer has room for some
	packetFiles = 253      // SCM_MAX_FD: the kernel passes no more at once
	// maxBody and maxFiles are more than a message can need. They keep one that is none from taking all memory.
	maxBody, maxFiles = 1 << 30, 1 << 20
)

var (
	// ErrClosed means that the other process has closed the channel, mostly by ending.
	ErrClosed = errors.New("the other process has closed the channel")
	// ErrMalformed means that what came is no message.
	ErrMalformed = errors.New("malformed message")
	// ErrFiles means that this process may not have as many open files as it was given.
	ErrFiles = errors.New("not all descriptors could be taken: raise the limit of open files (ulimit -n, LimitNOFILE=)")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Channel is one end. One goroutine may send while another one receives.
type Channel struct {
	conn *net.UnixConn
	b    []byte // of a packet received
	oob  []byte // its descriptors
	out  []byte // a packet to be sent
}

// Pair makes a channel: one end is this process's, the other one is a file to be given to a child.
func Pair() (*Channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	c, err := Open(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "handover"), nil
}

// Open makes a channel of a descriptor, which belongs to it from now on, also when Open fails.
func Open(fd int) (*Channel, error) {
	f := os.NewFile(uintptr(fd), "handover")
	if f == nil {
		return nil, unix.EBADF
	}
	defer f.Close() // FileConn has a duplicate
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok || kind != unix.SOCK_SEQPACKET {
		conn.Close()
		return nil, fmt.Errorf("descriptor %d is no channel for a hand-over", fd)
	}
	return &Channel{conn: u, b: make([]byte, headBytes+packetBytes), oob: make([]byte, unix.CmsgSpace(4*packetFiles))}, nil
}

// Close ends the channel. What waits in Send or Receive returns. Safe from any goroutine.
func (c *Channel) Close() { _ = c.conn.Close() }

// Send sends m, for so long at most.
func (c *Channel) Send(m Message, within time.Duration) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(within))
	body, files := m.Body, m.Files
	for {
		piece, some := body[:min(len(body), packetBytes)], files[:min(len(files), packetFiles)]
		body, files = body[len(piece):], files[len(some):]
		last := byte(0)
		if len(body)+len(files) == 0 {
			last = 1
		}
		c.out = binary.BigEndian.AppendUint32(append(c.out[:0], byte(m.Kind), last), crc32.Checksum(piece, castagnoli))
		c.out = append(c.out, piece...)
		if err := c.send(c.out, some, time.Now().Add(within)); err != nil {
			return fmt.Errorf("send %v: %w", m.Kind, err)
		}
		if last == 1 {
			return nil
		}
	}
}

// send sends a packet.
func (c *Channel) send(b []byte, files []int, end time.Time) error {
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	for {
		_, _, err := c.conn.WriteMsgUnix(b, oob, nil)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.ETOOMANYREFS) && time.Now().Before(end): // so many are under way, until the other one has taken some
			time.Sleep(time.Millisecond)
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
			return ErrClosed
		default:
			return err
		}
	}
}

// Receive waits for a message, for so long at most. On an error no descriptors are left open.
func (c *Channel) Receive(within time.Duration) (m Message, err error) {
	defer func() {
		if err != nil {
			CloseFiles(m.Files)
			m = Message{}
		}
	}()
	_ = c.conn.SetReadDeadline(time.Now().Add(within))
	for first := true; ; first = false {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.b, c.oob)
		switch {
		case n == 0 && err == nil, errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
			return m, ErrClosed
		case err != nil:
			return m, err
		}
		files, err := parseFiles(c.oob[:oobn])
		m.Files = append(m.Files, files...)
		switch {
		case flags&unix.MSG_CTRUNC != 0:
			return m, ErrFiles
		case err != nil:
			return m, err
		case flags&unix.MSG_TRUNC != 0:
			return m, ErrMalformed
		}
		kind, last, piece, err := parsePacket(c.b[:n])
		if err != nil || !first && kind != m.Kind || len(m.Body)+len(piece) > maxBody || len(m.Files) > maxFiles {
			return m, ErrMalformed
		}
		m.Kind = kind
		m.Body = append(m.Body, piece...)
		if last {
			return m, nil
		}
	}
}

// Expect is Receive of one kind. That the other process refuses is an error with what it says.
func (c *Channel) Expect(kind Kind, within time.Duration) (Message, error) {
	m, err := c.Receive(within)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, fmt.Errorf("the other process has not said %v in time: %w", kind, os.ErrDeadlineExceeded)
	case err != nil:
		return m, fmt.Errorf("wait for %v: %w", kind, err)
	case m.Kind == kind:
		return m, nil
	}
	CloseFiles(m.Files)
	if m.Kind == Refuse {
		return Message{}, Refused(m.Body)
	}
	return Message{}, fmt.Errorf("wait for %v: got %v: %w", kind, m.Kind, ErrMalformed)
}

// Refused is the error of Expect when the other process refuses. It is what that says.
type Refused string

func (r Refused) Error() string { return string(r) }

// parsePacket takes a packet apart.
func parsePacket(b []byte) (kind Kind, last bool, piece []byte, err error) {
	if len(b) < headBytes || b[1] > 1 || b[0] == 0 || int(b[0]) >= len(kindNames) || binary.BigEndian.Uint32(b[2:]) != crc32.Checksum(b[headBytes:], castagnoli) {
		return 0, false, nil, ErrMalformed
	}
	return Kind(b[0]), b[1] == 1, b[headBytes:], nil
}

// parseFiles are the descriptors that came with a packet.
func parseFiles(oob []byte) (files []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		files = append(files, fds...)
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// CloseFiles closes descriptors that are not needed.
func CloseFiles(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}
