package natsbus

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// run makes one connection after the other. It is the goroutine that connects and publishes.
func (b *Bus) run() {
	defer b.cancel()
	for {
		err := b.serve()
		b.change(err)
		b.out.empty(true)
		if err == ErrClosed {
			return
		}
		wait := 100*time.Millisecond + rand.N(150*time.Millisecond)
		if !isAny(err, ErrAbsent, ErrLost) { // somebody must change something first; no need to fill NATS' log
			wait += time.Second
		}
		select {
		case <-time.After(wait):
		case <-b.open.Done():
			b.change(ErrClosed)
			return
		}
	}
}

// serve connects, and carries packets until the connection is gone. It returns why.
func (b *Bus) serve() error {
	c, err := b.connect()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.prepare(); err != nil {
		return err
	}
	b.stats.connections.Add(1)
	b.out.empty(false)
	b.change(nil)
	return c.publish()
}

// conn is one connection.
type conn struct {
	bus    *Bus
	server string // for people
	nc     *nats.Conn
	msgs   chan *nats.Msg
	subs   []*nats.Subscription
	most   int             // the server's max_payload
	gone   context.Context // ends with the connection
	lost   context.CancelCauseFunc
	read   chan struct{} // closed when the reader has ended
	heard  atomic.Bool   // something was read since the last look
}

// connect makes a connection to one of the servers, in an order that is chance. The error is that of the last one, but one that answers tells more
// than one that does not.
func (b *Bus) connect() (*conn, error) {
	var why error
	for _, i := range rand.Perm(len(b.servers)) {
		c, err := b.dial(b.servers[i])
		switch {
		case b.open.Err() != nil && err != nil:
			return nil, ErrClosed
		case err == nil:
			return c, nil
		}
		if why == nil || errors.Is(why, ErrAbsent) {
			why = err
		}
	}
	return nil, why
}

func (b *Bus) dial(s server) (*conn, error) {
	c := &conn{bus: b, server: s.name, msgs: make(chan *nats.Msg, between), read: make(chan struct{})}
	c.gone, c.lost = context.WithCancelCause(b.ctx)
	defer context.AfterFunc(b.open, func() { c.lost(ErrClosed) })() // while this takes
	d := &dialer{ctx: c.gone, heard: &c.heard}
	options := append(b.options[:len(b.options):len(b.options)], nats.SetCustomDialer(d),
		nats.ClosedHandler(func(nc *nats.Conn) { c.lose(nc.LastError()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { c.fails(sub, err) }))
	nc, err := nats.Connect(s.url, options...)
	if err != nil {
		c.lost(err)
		return nil, explain(s.name, err, d.err)
	}
	c.nc = nc
	go c.move()
	go c.watch()
	return c, nil
}

// dialer dials for nats.go. The connection ends with ctx, so that nothing waits for a server that answers nothing.
type dialer struct {
	ctx   context.Context
	heard *atomic.Bool // set by each read
	err   error        // of the last dial
}

// heardConn notes each read.
type heardConn struct {
	net.Conn
	heard *atomic.Bool
}

func (c heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	var nd net.Dialer
	ctx, cancel := context.WithTimeout(d.ctx, oneStep)
	defer cancel()
	nc, err := nd.DialContext(ctx, network, address)
	if d.err = err; err != nil {
		return nil, err
	}
	context.AfterFunc(d.ctx, func() { nc.Close() })
	return heardConn{nc, d.heard}, nil
}

// lose ends the connection, for what the server or nats.go said last.
func (c *conn) lose(err error) {
	switch {
	case err == nil:
		err = faultf(ErrLost, "%s closed it", c.server)
	case !isAny(err, ErrForbidden, ErrCluster, ErrServer, ErrTLS, ErrLost, ErrClosed):
		if isAny(err, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAuthorization, nats.ErrAccountAuthExpired) {
			err = explain(c.server, err, nil)
		} else {
			err = faultf(ErrLost, "%s: %s", c.server, said(err))
		}
	}
	c.lost(err)
}

// fails looks at an error that nats.go met while the connection goes on. It runs on a goroutine of nats.go's.
func (c *conn) fails(sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer) && sub != nil: // what was dropped is counted at the end of the connection
	case errors.Is(err, nats.ErrPermissionViolation):
		c.lose(c.barred(err))
	default: // such as a write that took too long: what the server has of it is unknown
		c.lose(err)
	}
}

// barred is the error of a user without the rights.
func (c *conn) barred(err error) error {
	return faultf(ErrCluster, "%s says %q; grant its user publish and subscribe on %q, or correct the name of the cluster", c.server, said(err), c.bus.subjects.prefix+">")
}

// prepare subscribes, and finds out whether the server is one that can be used.
func (c *conn) prepare() error {
	if c.most = int(c.nc.MaxPayload()); c.most < LeastPayload {
		return faultf(ErrServer, "%s takes messages of at most %d bytes; set its max_payload to %d or more", c.server, c.most, LeastPayload)
	}
	if !c.nc.HeadersSupported() {
		return explain(c.server, nats.ErrHeadersNotSupported, nil)
	}
	s := &c.bus.subjects
	for _, subject := range []string{s.all, s.mailbox, s.nobody + "*"} {
		sub, err := c.nc.ChanSubscribe(subject, c.msgs)
		if err != nil {
			return faultf(ErrLost, "%s: %s", c.server, said(err))
		}
		c.subs = append(c.subs, sub)
	}
	for _, subject := range []string{s.all, s.mailbox} { // empty: nobody takes it for a packet
		if err := c.nc.Publish(subject, nil); err != nil {
			return faultf(ErrLost, "%s: %s", c.server, said(err))
		}
	}
	// What the server has against any of these it says before it answers this.
	err := c.nc.FlushTimeout(oneStep)
	if last := c.nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) {
		return c.barred(last)
	}
	if err != nil {
		return faultf(ErrLost, "%s: %s", c.server, said(err))
	}
	return nil
}

// publish hands to NATS what is sent, until the connection is gone or the bus is to end.
func (c *conn) publish() error {
	b := c.bus
	for {
		items := b.out.take()
		for i := range items {
			if err := c.put(&items[i]); err != nil {
				return err
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-b.out.wake:
		case <-c.gone.Done():
			return context.Cause(c.gone)
		case <-b.open.Done():
			return c.finish()
		}
	}
}

// finish publishes what was sent before the end.
func (c *conn) finish() error {
	for _, it := range c.bus.out.take() {
		if err := c.put(&it); err != nil {
			break
		}
	}
	c.nc.FlushTimeout(endTime)
	return ErrClosed
}

func (c *conn) put(it *item) (err error) {
	st, s := &c.bus.stats, &c.bus.subjects
	if len(it.packet) > c.most {
		st.tooLong.Add(1)
		return nil
	}
	if it.kind == announced {
		err = c.nc.Publish(s.all, it.packet)
	} else {
		mailbox, nobody := s.of(it.name)
		err = c.nc.PublishRequest(mailbox, nobody, it.packet)
	}
	if err != nil {
		c.lose(err)
		return context.Cause(c.gone)
	}
	st.sent.Add(1)
	st.sentBytes.Add(uint64(len(it.packet)))
	return nil
}

// move takes what nats.go has read, at once: its channel drops what it has no room for.
func (c *conn) move() {
	defer close(c.read)
	for {
		select {
		case m := <-c.msgs:
			c.bus.take(m)
		case <-c.gone.Done():
			return
		}
	}
}

// take looks at a message from NATS.
func (b *Bus) take(m *nats.Msg) {
	if name, ok := b.subjects.missing(m.Subject); ok {
		if m.Header.Get("Status") == "503" {
			b.stats.noResponders.Add(1)
			b.in.add(item{kind: noResponder, name: name}, 0)
		}
		return
	}
	if len(m.Data) == 0 {
		return
	}
	b.stats.received.Add(1)
	b.stats.receivedBytes.Add(uint64(len(m.Data)))
	if !b.in.add(item{kind: received, packet: m.Data}, 0) {
		b.stats.slow.Add(1)
	}
}

// watch gives up a server that is silent although nats.go asks it all the time. nats.go would notice too, but not while a write that the server does
// not take holds its lock.
func (c *conn) watch() {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for quiet := 0; quiet < 2; {
		select {
		case <-ticker.C:
		case <-c.gone.Done():
			return
		}
		if quiet++; c.heard.Swap(false) {
			quiet = 0
		}
	}
	c.lose(faultf(ErrLost, "%s has been silent", c.server))
}

// close ends the connection and waits for its reader.
func (c *conn) close() {
	for _, sub := range c.subs { // what the channel between had no room for
		if n, err := sub.Dropped(); err == nil {
			c.bus.stats.slow.Add(uint64(n))
		}
	}
	c.lost(ErrClosed)
	c.nc.Close()
	<-c.read
}
