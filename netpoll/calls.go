package netpoll

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// calls calls the handler for one conn at a time. A panic there costs that conn only: it ends with ReasonPanic.
type calls struct {
	handler Handler
	ends    *ends
	panics  uint64 // since the start
}

func (k *calls) open(c *Conn, state []byte) {
	defer k.rescue(c)
	k.handler.Open(c, state)
}

func (k *calls) data(c *Conn, b []byte) (used int, next Transfer) {
	used = len(b) // if it panics
	defer k.rescue(c)
	return k.handler.Data(c, b)
}

func (k *calls) due(c *Conn) {
	defer k.rescue(c)
	k.handler.Due(c)
}

func (k *calls) late(c *Conn) {
	defer k.rescue(c)
	k.handler.Late(c)
}

func (k *calls) write(c *Conn, b []byte) int {
	defer k.rescue(c)
	return k.handler.Write(c, b)
}

func (k *calls) closed(c *Conn) {
	defer k.rescue(c)
	k.handler.Closed(c, c.reason)
}

func (k *calls) rescue(c *Conn) {
	if r := recover(); r != nil {
		k.panics++
		slog.Error("panic while handling a connection; it is closed", "panic", fmt.Sprint(r), "peer", c.Peer(), "stack", string(debug.Stack()))
		k.ends.Kill(c, ReasonPanic)
	}
}
