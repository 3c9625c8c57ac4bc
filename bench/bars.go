//go:build linux

package main

import "strings"

// The figures that pomelod is to reach. A row is what one comparison is about; the load generator is told its name by -row.

// bar is one limit. What is held against it is the median over the rounds: of the figure of a server, or, with a base, of the
// ratio to the base's within each round. The limit itself is good.
type bar struct {
	row, server, figure, base string

	atLeast bool // else at most
	limit   float64
}

// met tells whether the value is on the good side.
func (b bar) met(value float64) bool { return value == b.limit || value > b.limit == b.atLeast }

const (
	cpuPerMillion = "cpu_s_per_million"
	cpuPerConn    = "cpu_us_per_conn"
	p99Latency    = "p99_us"
	rssPerConn    = "rss_per_conn"
)

const atLeast, atMost = true, false

var bars = []bar{
	// A room of 1,000, one message in flight and sixteen.
	{"broadcast-w1", "pomelod", cpuPerMillion, "floor", atMost, 1.05},
	{"broadcast-w1", "pomelod", p99Latency, "floor", atMost, 1.15},
	{"broadcast-w16", "pomelod", cpuPerMillion, "floor-tick", atMost, 1},
	{"broadcast-w16", "pomelod", p99Latency, "floor-tick", atMost, 1.25},
	{"broadcast-w16-ws", "pomelod", cpuPerMillion, "floor-tick", atMost, 1},
	{"broadcast-w16-ws", "pomelod", p99Latency, "floor-tick", atMost, 1.25},
	// 500 rooms of 20 and 2,500 of 4, 4,000 messages a second.
	{"rooms-20", "pomelod", cpuPerMillion, "floor", atMost, 1.08},
	{"rooms-20", "loops4", cpuPerMillion, "pomelod", atMost, 1.1},
	{"rooms-4", "loops4", cpuPerMillion, "pomelod", atMost, 1.1},
	// Requests to the gate, messages in rooms of one, clients that connect and enter.
	{"echo", "pomelod", cpuPerMillion, "floor", atMost, 1.2},
	{"room-of-one", "pomelod", cpuPerMillion, "floor", atMost, 1.5},
	{"connect", "pomelod", cpuPerConn, "floor", atMost, 1.5},
	// Bytes of memory of an idle member.
	{"idle-20", "pomelod", rssPerConn, "", atMost, 614},
	{"idle-1", "pomelod", rssPerConn, "", atMost, 1024},
	{"idle-4000", "pomelod", rssPerConn, "", atMost, 614},
	// All generations of clients in one room, by as many hybrid ones.
	{"mixed-w1", "pomelod/mixed", cpuPerMillion, "pomelod/hybrid", atMost, 1.15},
	{"mixed-w16", "pomelod/mixed", cpuPerMillion, "pomelod/hybrid", atMost, 1.15},
	// TLS: what it adds to a message, and an idle member's memory.
	{"tls-w1", "pomelod-tls", cpuPerMillion, "pomelod", atMost, 1.25},
	{"tls-w16", "pomelod-tls", cpuPerMillion, "pomelod", atMost, 1.5},
	{"tls-idle", "pomelod-tls", rssPerConn, "", atMost, 6 << 10},
	// Members that stop reading; a request beside a saturated room, in µs.
	{"frozen", "pomelod", "p99_by_before", "", atMost, 1.2},
	{"frozen", "pomelod", "rss_peak_by_owed", "", atMost, 1.1},
	{"neighbour", "pomelod", "echo_p99_more_us", "", atMost, 5000},
	// Other servers.
	{"broadcast-peers-w1", "nano", cpuPerMillion, "pomelod", atLeast, 2},
	{"broadcast-peers-w1", "pomelo", cpuPerMillion, "pomelod", atLeast, 3},
	{"broadcast-peers-w16", "nano", cpuPerMillion, "pomelod", atLeast, 15},
	{"broadcast-peers-w16", "pomelo", cpuPerMillion, "pomelod", atLeast, 20},
	{"broadcast-peers-w16", "centrifuge", cpuPerMillion, "pomelod", atLeast, 6},
	{"broadcast-peers-w16", "gws", cpuPerMillion, "pomelod", atLeast, 10},
	{"broadcast-peers-w16", "nbio", cpuPerMillion, "pomelod", atLeast, 10},
	{"broadcast-peers-w16", "socketio", cpuPerMillion, "pomelod", atLeast, 15},
}

// likes say what runs of a row are like, by their scenario and settings (bench.mk): a run that names no row is held against the bars of all that it is like.
var likes = map[string]string{
	"broadcast-w1": "broadcast inflight=1 rooms=1", "broadcast-w16": "broadcast inflight=16 rooms=1 wire=tcp", "broadcast-w16-ws": "broadcast inflight=16 rooms=1 wire=ws",
	"rooms-20": "rooms room-size=20", "rooms-4": "rooms room-size=4",
	"echo": "echo", "room-of-one": "broadcast members=200 rooms=200", "connect": "connect",
	"idle-20": "idle room-size=20", "idle-1": "idle room-size=1", "idle-4000": "idle room-size=4000",
	"mixed-w1": "broadcast inflight=1 rooms=1", "mixed-w16": "broadcast inflight=16 rooms=1",
	"tls-w1": "broadcast inflight=1 rooms=1", "tls-w16": "broadcast inflight=16 rooms=1", "tls-idle": "idle room-size=20",
	"frozen": "frozen", "neighbour": "neighbour",
	"broadcast-peers-w1": "broadcast inflight=1 rooms=1", "broadcast-peers-w16": "broadcast inflight=16 rooms=1",
}

// isAbout tells whether a bar is about what was measured.
func (b bar) isAbout(m *measured) bool {
	if m.row == b.row {
		return true
	}
	scenario, settings, _ := strings.Cut(likes[b.row], " ")
	if m.row != scenario || m.runs[0].Scenario != scenario { // it is named
		return false
	}
	for _, s := range strings.Fields(settings) {
		if name, value, _ := strings.Cut(s, "="); m.setting(name) != value {
			return false
		}
	}
	return len(m.values(b.server, b.base, b.figure)) > 0
}

// leastRounds is how many good rounds a verdict needs.
const leastRounds = 5

// judge holds what was measured against the bar, and says what came of it.
func (b bar) judge(m *measured) (spread, string) {
	s := spreadOf(m.values(b.server, b.base, b.figure))
	switch {
	case m.mixed != "":
		return s, "no verdict: runs of several kinds"
	case s.n == 0:
		return s, "not measured"
	case s.n < leastRounds:
		return s, "no verdict: too few rounds"
	case b.met(s.median):
		return s, "met"
	}
	return s, "**not met**"
}
