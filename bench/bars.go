//go:build linux

package main

import (
	"fmt"
	"strings"
)

// The figures that pomelod is to reach. A row is what one comparison is about; the load generator is told its name by -row.

// row is a comparison: the load, and the bars that its figures must meet.
type row struct {
	name, title string
	with        string // settings without which the bars do not hold: name=value, blanks between
	bars        []bar
}

// bar is one limit. What is held against it is the median over the rounds: of the figure of a server, or, with a base, of the
// ratio to the base's within each round.
type bar struct {
	server, figure, base string

	sense sense
	limit float64
}

// sense says on which side of its limit a figure is good. The limit itself is good.
type sense int

const (
	atMost sense = iota
	atLeast
)

func (s sense) String() string { return [...]string{"≤", "≥"}[s] }

// met tells whether the value is on the good side.
func (b bar) met(value float64) bool {
	if b.sense == atLeast {
		return value >= b.limit
	}
	return value <= b.limit
}

const (
	cpuPerMillion = "cpu_s_per_million"
	cpuPerConn    = "cpu_us_per_conn"
	p99Latency    = "p99_us"
	rssPerConn    = "rss_per_conn"
)

var barRows = []row{
	{"broadcast-w1", "A room of 1,000, one message in flight, TCP", "members=1000 rooms=1 inflight=1 rate=0 wire=tcp", []bar{
		{"pomelod", cpuPerMillion, "floor", atMost, 1.05},
		{"pomelod", p99Latency, "floor", atMost, 1.15},
	}},
	{"broadcast-w16", "A room of 1,000, sixteen in flight, TCP", "members=1000 rooms=1 inflight=16 rate=0 wire=tcp", []bar{
		{"pomelod", cpuPerMillion, "floor-tick", atMost, 1},
		{"pomelod", p99Latency, "floor-tick", atMost, 1.25},
	}},
	{"broadcast-w16-ws", "A room of 1,000, sixteen in flight, WebSocket", "members=1000 rooms=1 inflight=16 rate=0 wire=ws", []bar{
		{"pomelod", cpuPerMillion, "floor-tick", atMost, 1},
		{"pomelod", p99Latency, "floor-tick", atMost, 1.25},
	}},
	{"rooms-20", "500 rooms of 20, 4,000 messages per second", "rooms=500 room-size=20 rate=4000", []bar{
		{"pomelod", cpuPerMillion, "floor", atMost, 1.08},
		{"loops4", cpuPerMillion, "pomelod", atMost, 1.1},
	}},
	{"rooms-4", "2,500 rooms of 4", "rooms=2500 room-size=4", []bar{
		{"loops4", cpuPerMillion, "pomelod", atMost, 1.1},
	}},
	{"echo", "Requests to the gate on 200 connections", "conns=200", []bar{
		{"pomelod", cpuPerMillion, "floor", atMost, 1.2},
	}},
	{"room-of-one", "Messages in rooms of one", "", []bar{
		{"pomelod", cpuPerMillion, "floor", atMost, 1.5},
	}},
	{"connect", "Clients that connect and enter", "", []bar{
		{"pomelod", cpuPerConn, "floor", atMost, 1.5},
	}},
	{"idle-20", "Idle members in rooms of 20", "room-size=20", []bar{{"pomelod", rssPerConn, "", atMost, 614}}},
	{"idle-1", "Idle members in rooms of one", "room-size=1", []bar{{"pomelod", rssPerConn, "", atMost, 1024}}},
	{"idle-4000", "Idle members in rooms of 4,000", "room-size=4000", []bar{{"pomelod", rssPerConn, "", atMost, 614}}},
	{"mixed-w1", "All generations in one room, one in flight", "inflight=1 rate=0", []bar{
		{"pomelod/mixed", cpuPerMillion, "pomelod/hybrid", atMost, 1.15},
	}},
	{"mixed-w16", "All generations in one room, sixteen in flight", "inflight=16 rate=0", []bar{
		{"pomelod/mixed", cpuPerMillion, "pomelod/hybrid", atMost, 1.15},
	}},
	{"frozen", "Members that stop reading", "", []bar{
		{"pomelod", "p99_by_before", "", atMost, 1.2},
		{"pomelod", peakByOwed, "", atMost, 1.1},
	}},
	{"neighbour", "A request beside a saturated room", "", []bar{
		{"pomelod", echoMore, "", atMost, 5000},
	}},
	{"broadcast-peers-w1", "Other servers, one message in flight", "inflight=1 rate=0", []bar{
		{"nano", cpuPerMillion, "pomelod", atLeast, 2},
		{"pomelo", cpuPerMillion, "pomelod", atLeast, 3},
	}},
	{"broadcast-peers-w16", "Other servers, sixteen in flight", "inflight=16 rate=0", []bar{
		{"nano", cpuPerMillion, "pomelod", atLeast, 15},
		{"pomelo", cpuPerMillion, "pomelod", atLeast, 20},
		{"centrifuge", cpuPerMillion, "pomelod", atLeast, 6},
		{"gws", cpuPerMillion, "pomelod", atLeast, 10},
		{"nbio", cpuPerMillion, "pomelod", atLeast, 10},
		{"socketio", cpuPerMillion, "pomelod", atLeast, 15},
	}},
}

// Figures that are made of others of the same run.
const (
	echoMore     = "echo_p99_more_us"
	peakByOwed   = "rss_peak_by_owed"
	refusedShare = "refused_share"
)

// frozenBytes is what one member that does not read may have unsent: the default of pomelod's -outbound.
const frozenBytes = 512 << 10

var derived = []struct {
	name string
	of   func(f figures) (float64, bool)
}{
	{echoMore, func(f figures) (float64, bool) {
		beside, ok := f.get("echo_p99_us")
		alone, also := f.get("echo_alone_p99_us")
		return beside - alone, ok && also
	}},
	// The peak while members were frozen, by what there was before and may be owed to those that do not read.
	{peakByOwed, func(f figures) (float64, bool) {
		peak, ok := f.get("rss_peak_bytes")
		before, also := f.get("before_rss_bytes")
		n, counted := f.get("frozen")
		if !ok || !also || !counted || before+n == 0 {
			return 0, false
		}
		return peak / (before + n*frozenBytes), true
	}},
	{refusedShare, func(f figures) (float64, bool) {
		refused, ok := f.get("refused")
		messages, also := f.get("messages")
		return refused / max(messages, 1), ok && also
	}},
}

// The floor itself must cost what it costs on a machine that is fit to judge, or the ratios to it say little.
const (
	floorRow              = "broadcast-w1"
	floorLeast, floorMost = 3.5, 6.0 // CPU-s/M
)

// curve is a family of rows that differ in one number, with which their names end. They have no bars.
type curve struct{ prefix, title, axis string }

var (
	growthCurves = []curve{
		{"curve-members-", "Members of a room", "members"},
		{"curve-rooms-", "Rooms", "rooms"},
		{"curve-size-", "Bytes of a message's content", "bytes"},
		{"curve-loops-", "Event loops", "loops"},
	}
	loadCurve = curve{"curve-load-", "Offered load", "messages per second"}
)

// leastRounds is how many good rounds a verdict needs.
const leastRounds = 5

// verdict is what came of a bar.
type verdict int

const (
	noVerdict verdict = iota // why says why not
	barMet
	barMissed
	unmeasured
)

// judged is a bar with what was measured.
type judged struct {
	bar
	spread
	verdict verdict
	why     string // there is no verdict
}

// judge holds what was measured of the row against its bars. quick: without verdicts.
func (w row) judge(m *measured, quick bool) (all []judged) {
	wrong := w.unlike(m) != ""
	for _, b := range w.bars {
		j := judged{bar: b, spread: spreadOf(m.values(b.server, b.base, b.figure))}
		switch {
		case m.mixed != "":
			j.why = "runs of several kinds"
		case j.n == 0:
			j.verdict = unmeasured
		case quick:
			j.why = "a quick look"
		case wrong:
			j.why = "other settings"
		case j.n < leastRounds:
			j.why = fmt.Sprintf("only %s", count(j.n, "good round"))
		case b.met(j.median):
			j.verdict = barMet
		default:
			j.verdict = barMissed
		}
		all = append(all, j)
	}
	return all
}

// unlike says in which settings the runs are not what the bars are for.
func (w row) unlike(m *measured) string {
	var differ []string
	for _, s := range strings.Fields(w.with) {
		name, want, _ := strings.Cut(s, "=")
		if got := m.setting(name); got != want {
			differ = append(differ, fmt.Sprintf("-%s %s instead of %s", name, got, want))
		}
	}
	return strings.Join(differ, ", ")
}
