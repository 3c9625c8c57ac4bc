// Package natsbus is a cluster.Bus over NATS (https://nats.io). It needs a nats-server 2.2 or newer and nothing of JetStream.
//
// A node has one connection, one mailbox and one subject for announcements that all nodes share. All of it comes in by one channel, so what one node
// sends another arrives in order. Nothing is kept while NATS is away: what is sent then is dropped and counted, and what is new goes out
// after a reconnect, not what is stale. Whoever needs more sends again; package cluster does.
//
//	Send, Announce ─► out (bounded) ─► one goroutine publishes ─► NATS ─► nats.go's reader ─► in (bounded) ─► one goroutine calls Handlers
//
// nats.go could reconnect by itself. Its Conn keeps one for ever, with a state that its callbacks tell only in part: a login that is refused at a
// reconnect is told to nobody, and ends it after the second time. So a Conn is used for one connection here, and a loop makes the next one: each goes the
// same way, with the same checks, and its error is the one of that attempt.
package natsbus

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pomelod/pomelod/cluster"
)

// Config says where NATS is and who is asking. Static.
type Config struct {
	// Servers are addresses, separated by commas: nats://user:password@host:4222, tls://host:4222, nats://token@host. One that works is enough; which
	// one is used is chance.
	Servers string
	// Cluster and Node say under which name the node is found. Nodes of one cluster have the same Cluster, and each a Node of its own.
	Cluster, Node string

	// Files. All are optional; the first two exclude each other.
	Credentials string // a user's JWT and seed, as nsc writes them (.creds)
	NKey        string // a user's seed
	CA          string // certificates of the authorities that may have signed the server's, PEM
	Certificate string // of this client, PEM
	Key         string // of Certificate, PEM
}

// Handlers are told what comes. They are called by one goroutine, in order. While one of them does not return, what comes waits, up to 64 MiB; beyond that
// it is dropped and counted.
type Handlers struct {
	Receive     func(packet []byte) // which it may keep
	NoResponder func(name string)   // nobody has the name of a packet that was sent
	// Changed tells whether the bus carries anything: nil, or else why not, each time that this changes. Before the first call it
	// carries nothing.
	Changed func(err error)
}

const (
	// outBytes is what may wait for NATS to take it. Links, which send again what is lost, keep 16 MiB each at most.
	outBytes = 32 << 20
	// outExtra is what announcements find beyond that: heartbeats must not be lost because somebody sends too much.
	outExtra = 1 << 20
	// inBytes is what may wait for Handlers, as much as a nats-server keeps for a client by default.
	inBytes = 64 << 20
	// between is how many messages may be between nats.go's reader and the queue in. The goroutine that moves them does nothing else.
	between = 8192

	// LeastPayload is the least max_payload of a server that is used: batches of package cluster have 256 KiB, NATS' default is 1 MiB.
	LeastPayload = 512 << 10

	// oneStep is the time for a dial, for a login, and for the server's word on subscriptions.
	oneStep = time.Second
	// pingEvery is how often the server is asked whether it lives. One that was silent for all of two such intervals is given up: that is at most
	// 2.1 s after its last word. Nodes take each other for dead after 3 s of silence (package cluster), but not while they know that it is
	// the bus that does not carry, and for 3 s after it does again. So two nodes that lose one server are back, with one more that
	// answers nothing on the way, before one of them judges the other.
	pingEvery = 700 * time.Millisecond
	// endTime is how long Close waits for what was sent before.
	endTime = time.Second
)

// Bus is a node's connection to NATS. Safe from any goroutine.
type Bus struct {
	// Static after Start.
	handlers Handlers
	subjects subjects
	servers  []server
	options  []nats.Option
	out, in  *queue
	open     context.Context // until Close begins
	end      func()
	ctx      context.Context // until everything ends at once
	cancel   func()
	running  sync.WaitGroup

	// Owned by the goroutine that connects.
	told string // what Changed was told last; empty: that the bus carries

	state atomic.Pointer[error]
	stats counters
}

var _ cluster.Bus = (*Bus)(nil)

// Stats count packets since Start.
type Stats struct {
	Connections   uint64 // that were made; each but the first is a reconnect
	Sent          uint64 // handed to NATS
	SentBytes     uint64
	Received      uint64
	ReceivedBytes uint64
	NoResponders  uint64 // packets that nobody received
	Away          uint64 // dropped: sent while there was no connection
	Full          uint64 // dropped: more than 32 MiB waited for NATS
	TooLong       uint64 // dropped: longer than the server's max_payload
	Slow          uint64 // dropped: more than 64 MiB waited for Receive
}

type counters struct {
	connections, sent, sentBytes, received, receivedBytes, noResponders, away, full, tooLong, slow atomic.Uint64
}

// New makes a bus that does not connect yet. The error is of a setting that cannot work, or of a file that cannot be read; whether NATS is there is found
// out after Start.
func New(c Config) (*Bus, error) {
	s, err := newSubjects(c.Cluster, c.Node)
	if err != nil {
		return nil, err
	}
	b := &Bus{subjects: s, out: newQueue(outBytes), in: newQueue(inBytes)}
	if b.servers, err = parseServers(c.Servers); err != nil {
		return nil, err
	}
	if b.options, err = options(&c); err != nil {
		return nil, err
	}
	b.open, b.end = context.WithCancel(context.Background())
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.out.empty(true)
	why := faultf(ErrAbsent, "none was asked yet")
	b.state.Store(&why)
	b.told = why.Error()
	return b, nil
}

// Start begins to connect, and goes on until Close. It is called once, before Close.
func (b *Bus) Start(h Handlers) {
	b.handlers = h
	b.running.Go(b.run)
	b.running.Go(b.call)
}

// Send implements cluster.Bus.
func (b *Bus) Send(name string, packet []byte) {
	b.add(item{kind: sent, name: name, packet: packet}, 0)
}

// Announce implements cluster.Bus.
func (b *Bus) Announce(packet []byte) { b.add(item{kind: announced, packet: packet}, outExtra) }

func (b *Bus) add(it item, extra int) {
	if len(it.packet) == 0 {
		return // what NATS says itself has no content either
	}
	if b.Err() != nil {
		b.stats.away.Add(1)
		return
	}
	it.packet = append([]byte(nil), it.packet...)
	if !b.out.add(it, extra) {
		b.stats.full.Add(1)
	}
}

// Err is nil while the bus carries packets, and else a sentence why not, as Changed has it.
func (b *Bus) Err() error { return *b.state.Load() }

// Stats are the counters at this moment.
func (b *Bus) Stats() Stats {
	c := &b.stats
	return Stats{
		Connections: c.connections.Load(), Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(), Received: c.received.Load(),
		ReceivedBytes: c.receivedBytes.Load(), NoResponders: c.noResponders.Load(), Away: c.away.Load(), Full: c.full.Load(),
		TooLong: c.tooLong.Load(), Slow: c.slow.Load(),
	}
}

// Close sends what was sent before, for a second at most, and ends the connection. When it returns, no handler
// is called any more; so none of them may call it.
func (b *Bus) Close() {
	b.end()
	timer := time.AfterFunc(endTime, b.cancel)
	defer timer.Stop()
	b.running.Wait()
	b.cancel()
}

// change tells what has become of the connection, once for each text. Owned by the goroutine that connects.
func (b *Bus) change(err error) {
	b.state.Store(&err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == b.told {
		return
	}
	b.told = text
	b.in.add(item{kind: changed, err: err}, inBytes)
}

// call hands on what comes in. It is the goroutine on which handlers run.
func (b *Bus) call() {
	for {
		items := b.in.take()
		if len(items) == 0 {
			select {
			case <-b.in.wake:
			case <-b.ctx.Done():
				return
			}
		}
		for _, it := range items {
			if b.ctx.Err() != nil {
				return
			}
			switch it.kind {
			case received:
				b.handlers.Receive(it.packet)
			case noResponder:
				b.handlers.NoResponder(it.name)
			case changed:
				b.handlers.Changed(it.err)
			}
		}
	}
}
