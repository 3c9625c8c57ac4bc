package admin

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Fleet is what a node of a fleet tells of itself and of its bus, NATS. Counters begin with the process.
type Fleet struct {
	Connected bool   // the bus carries packets
	Serving   bool   // the node is a member and hears the others, so it takes requests
	View      uint64 // number of the newest view
	Members   int    // nodes in it
	Owned     int    // partitions that this node decides for
	Followed  int    // partitions that it could take over
	Unguarded int    // partitions of the fleet that nobody could take over

	Connections             uint64
	Sent, SentBytes         uint64
	Received, ReceivedBytes uint64
	NoResponders            uint64
	Dropped                 map[string]uint64 // packets, by reason
}

var (
	fleetConnected    = desc("fleet_connected", "1 while NATS carries packets.")
	fleetServing      = desc("fleet_serving", "1 while this node is a member of the fleet and hears enough of it to take requests.")
	fleetView         = desc("fleet_view", "Number of the newest view: equal on all nodes of one fleet, but for moments.")
	fleetMembers      = desc("fleet_members", "Nodes in the view.")
	fleetPartitions   = desc("fleet_partitions", "Partitions of which this node is the owner or a follower.", "role")
	fleetUnguarded    = desc("fleet_unguarded_partitions", "Partitions of the fleet that have no follower: one crash would lose their rooms.")
	fleetConnections  = desc("fleet_bus_connections_total", "Connections made to NATS.")
	fleetPackets      = desc("fleet_bus_packets_total", "Packets to and from NATS.", "direction")
	fleetBytes        = desc("fleet_bus_bytes_total", "Bytes in those packets.", "direction")
	fleetNoResponders = desc("fleet_bus_no_responders_total", "Packets to a node that NATS did not know.")
	fleetDropped      = desc("fleet_bus_dropped_total", "Packets dropped; links send again. away: NATS was; full: it took too little; too_long: beyond max_payload; slow: this node took too little.", "reason")
)

// collect puts the figures; on nil there are none.
func (f *Fleet) collect(put func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string)) {
	if f == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { put(d, prometheus.GaugeValue, v, labels...) }
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		put(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(fleetConnected, number(f.Connected))
	gauge(fleetServing, number(f.Serving))
	gauge(fleetView, float64(f.View))
	gauge(fleetMembers, float64(f.Members))
	gauge(fleetPartitions, float64(f.Owned), "owner")
	gauge(fleetPartitions, float64(f.Followed), "follower")
	gauge(fleetUnguarded, float64(f.Unguarded))
	count(fleetConnections, f.Connections)
	count(fleetPackets, f.Sent, "out")
	count(fleetPackets, f.Received, "in")
	count(fleetBytes, f.SentBytes, "out")
	count(fleetBytes, f.ReceivedBytes, "in")
	count(fleetNoResponders, f.NoResponders)
	for _, reason := range slices.Sorted(maps.Keys(f.Dropped)) {
		count(fleetDropped, f.Dropped[reason], reason)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
