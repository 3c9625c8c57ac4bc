//go:build linux

package main

import "golang.org/x/sys/unix"

// parting is a wire whose clients can go without leaving the server in doubt: the end of the connection is the end of the
// client. part says good-bye and tells whether it is the server now that ends the connection.
type parting interface{ part(s sink) bool }

// part by WebSocket is a close frame, which the server answers.
func (w *websocket) part(s sink) bool {
	s.send(w.seal(append(w.begin(s.buffer()), 1000>>8, 1000&0xFF), wsClose))
	return true
}

// part by TCP is the end of the stream.
func (h *hybrid) part(s sink) bool { return h.ws != nil && h.ws.part(s) }

// leave ends a conn in order; it has ended when the server has ended it too. What comes meanwhile is still read: a socket
// that is closed with something unread is reset.
func (c *conn) leave() {
	if p, ok := c.wire.(parting); !ok || !p.part(c) {
		unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// reset ends a conn at once, as a client does that crashes.
func (c *conn) reset() {
	unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.end()
}
