package router

import (
	"net"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/pomelod/pomelod/codec"
)

// Endpoint is a connector as a gate announces it.
type Endpoint struct {
	Host string // empty: the host by which the client reached the gate
	Port int
	// TLS is whether clients are to speak TLS there. A client that comes to a gate by TLS is sent to such a connector, if there is one, and any other client to another one.
	TLS bool
	// Named is whether a certificate is for Host. If none is, clients are told the name by which they have come, which has one: they would
	// refuse Host.
	Named bool
}

// nameFor is the host to tell a client, in place of any other, so that the certificate is for it; empty: none.
func (l *loop) nameFor(s *session, to *Endpoint) string {
	if !to.TLS || to.Named {
		return ""
	}
	return l.np.ServerName(s.conn)
}

// String is host:port.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Announced is an endpoint and how many sessions its process has.
type Announced struct {
	Endpoint
	Load uint64
}

// directory is what a gate knows of connectors. Immutable, but for given. Safe from any goroutine.
type directory struct {
	list  []Announced
	load  bool            // the least load, else by the hash of the uid
	given []atomic.Uint64 // clients sent to each since its load was told
}

// SetConnectors has the node's gates announce these connectors from now on, in this order; none: they refuse. Clients are told one by Pomelo's
// hash of their uid, or by load the one with the fewest sessions. Safe from any goroutine.
func (n *Node) SetConnectors(list []Announced, byLoad bool) {
	for i := range n.connectors {
		fit := slices.Clone(list)
		if fit = slices.DeleteFunc(fit, func(a Announced) bool { return a.TLS != (i == 1) }); len(fit) == 0 {
			fit = list
		}
		d := &directory{list: fit, load: byLoad, given: make([]atomic.Uint64, len(fit))}
		d.goOn(n.connectors[i].Load())
		n.connectors[i].Store(d)
	}
}

// goOn takes over from the directory before it how many clients were sent to connectors of which nothing new is told: it may be another one's load that has changed.
func (d *directory) goOn(before *directory) {
	if before == nil {
		return
	}
	for i := range d.list {
		if at := slices.Index(before.list, d.list[i]); at >= 0 {
			d.given[i].Store(before.given[at].Load())
		}
	}
}

// pick chooses a connector for a raw JSON uid. There is one.
func (d *directory) pick(uid []byte) Endpoint {
	n, index := len(d.list), 0
	switch name, isString := codec.StringValue(uid); {
	case d.load:
		index = d.least()
	case isString && n > 1: // what is no string hashes to 0
		index = codec.Dispatch(name, n)
	}
	return d.list[index].Endpoint
}

// least is the connector with the fewest sessions, as far as is known: clients that were sent there since count.
func (d *directory) least() (best int) {
	fewest := uint64(0)
	for i := range d.list {
		if sum := d.list[i].Load + d.given[i].Load(); i == 0 || sum < fewest {
			best, fewest = i, sum
		}
	}
	d.given[best].Add(1)
	return best
}
