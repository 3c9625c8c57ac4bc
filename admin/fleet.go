package admin

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

var fleetMetrics = []metric[Fleet]{
	truth("fleet_connected", "1 while NATS carries packets.", "", func(f *Fleet) bool { return f.Connected }),
	truth("fleet_serving", "1 while this node is a member of the fleet and hears enough of it to take requests.", "", func(f *Fleet) bool { return f.Serving }),
	gauge("fleet_view", "Number of the newest view: equal on all nodes of one fleet, but for moments.", "", func(f *Fleet) uint64 { return f.View }),
	gauge("fleet_members", "Nodes in the view.", "", func(f *Fleet) int { return f.Members }),
	gauge("fleet_unguarded_partitions", "Partitions of the fleet that have no follower: one crash would lose their rooms.", "", func(f *Fleet) int { return f.Unguarded }),
	counter("fleet_bus_connections_total", "Connections made to NATS.", "", func(f *Fleet) uint64 { return f.Connections }),
	counter("fleet_bus_no_responders_total", "Packets to a node that NATS did not know.", "", func(f *Fleet) uint64 { return f.NoResponders }),
}

var (
	fleetPartitions = desc("fleet_partitions", "Partitions of which this node is the owner or a follower.", "role")
	fleetPackets    = desc("fleet_bus_packets_total", "Packets to and from NATS.", "direction")
	fleetBytes      = desc("fleet_bus_bytes_total", "Bytes in those packets.", "direction")
	fleetDropped    = desc("fleet_bus_dropped_total", "Packets dropped; links send again. away: NATS was; full: it took too little; too_long: beyond max_payload; slow: this node took too little.", "reason")
)

// collect tells the figures; on nil there are none.
func (f *Fleet) collect(out figures) {
	if f == nil {
		return
	}
	tell(out, fleetMetrics, f)
	out.gauge(fleetPartitions, float64(f.Owned), "owner")
	out.gauge(fleetPartitions, float64(f.Followed), "follower")
	out.count(fleetPackets, f.Sent, "out")
	out.count(fleetPackets, f.Received, "in")
	out.count(fleetBytes, f.SentBytes, "out")
	out.count(fleetBytes, f.ReceivedBytes, "in")
	out.countEach(fleetDropped, f.Dropped)
}
