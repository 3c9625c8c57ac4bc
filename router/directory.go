package router

import (
	"net"
	"strconv"
	"sync/atomic"

	"github.com/pomelod/pomelod/codec"
)

// Endpoint is a connector as a gate announces it.
type Endpoint struct {
	Host string // empty: the host by which the client reached the gate
	Port int
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
	n.connectors.Store(&directory{list: list, load: byLoad, given: make([]atomic.Uint64, len(list))})
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

// least is the connector with the fewest sessions, as far as is known: whoever was sent there since counts.
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
