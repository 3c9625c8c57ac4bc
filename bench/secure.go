//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// secure is the TLS of one conn: crypto/tls' client, which takes from memory what the driver has read and gives the conn what is to be sent. The driver waits for
// its handshake, as crypto/tls cannot be asked to go on with one; afterwards nothing waits. Owned by the conn.
type secure struct {
	net.Conn // nil: crypto/tls asks for reading and writing only
	conn     *conn
	tls      *tls.Conn
	sealed   []byte // read, and not decrypted
	shaking  bool
}

// handshakeTime bounds how long a server may think before it says the next thing in a handshake.
const handshakeTime = 10 * time.Second

func newSecure(c *conn) *secure {
	s := &secure{conn: c}
	// The certificate was made for the occasion. Without a cache no session is resumed: each client shakes hands in whole.
	s.tls = tls.Client(s, &tls.Config{InsecureSkipVerify: true})
	return s
}

// nothingYet is the error that crypto/tls does not keep: it can be asked to read on.
var nothingYet = &net.DNSError{Err: "nothing has come yet", IsTemporary: true}

// handshake returns when the server has said its last word.
func (s *secure) handshake() error {
	s.shaking = true
	err := s.tls.Handshake()
	s.shaking = false
	if err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

// Read is for crypto/tls.
func (s *secure) Read(b []byte) (int, error) {
	if s.shaking {
		return s.wait(b)
	}
	if len(s.sealed) == 0 {
		return 0, nothingYet
	}
	n := copy(b, s.sealed)
	s.sealed = s.sealed[n:]
	return n, nil
}

// wait reads from the socket, however long that takes.
func (s *secure) wait(b []byte) (int, error) {
	for {
		n, err := unix.Read(s.conn.fd, b)
		switch {
		case n == 0 && err == nil:
			return 0, errors.New("end of stream")
		case err == nil:
			return n, nil
		case err != unix.EAGAIN && err != unix.EINTR:
			return 0, err
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(s.conn.fd), Events: unix.POLLIN}}, int(handshakeTime/time.Millisecond))
		if ready == 0 && err == nil {
			return 0, fmt.Errorf("nothing for %v", handshakeTime)
		}
	}
}

// Write is for crypto/tls, which is told that the socket takes everything: what it does not take waits in the conn.
func (s *secure) Write(b []byte) (int, error) {
	s.conn.write(b)
	return len(b), nil
}

// open decrypts what was read. The result is valid until the next open of any conn.
func (s *secure) open(sealed []byte) ([]byte, error) {
	s.sealed = sealed
	plain := s.conn.d.plain[:0]
	for {
		plain = slices.Grow(plain, recordContents)
		n, err := s.tls.Read(plain[len(plain):cap(plain)])
		plain = plain[:len(plain)+n]
		if err != nil {
			s.conn.d.plain = plain[:0]
			if errors.Is(err, nothingYet) {
				err = nil
			}
			return plain, err
		}
	}
}

// recordContents is the most that a record holds (RFC 8446, 5.1).
const recordContents = 16 << 10

// seal sends b.
func (s *secure) seal(b []byte) {
	if _, err := s.tls.Write(b); err != nil {
		s.conn.fail(fmt.Errorf("TLS: %w", err))
	}
}
