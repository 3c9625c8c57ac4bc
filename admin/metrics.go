package admin

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/logsink"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// collector asks the loops for their figures when it is scraped, so that nothing on a loop is shared or counted twice.
type collector struct{ src Source }

// Metric describes one of the figures of /metrics, beside those of Go and of the process.
type Metric struct {
	Name, Help string
	Labels     []string
}

// described are those that desc was called for, in no order that matters.
var described []Metric

// Metrics are all there may be: some are only told where there is a fleet, a disk or a login. Sorted by name.
func Metrics() []Metric {
	return slices.SortedFunc(slices.Values(described), func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
}

// Reasons are the values that the label of a metric may have, by the metric's name.
func Reasons() map[string][]string {
	closed, limited, refused := router.ReasonNames()
	refused = append(refused, refusedByAcceptor[:]...)
	slices.Sort(refused)
	return map[string][]string{"pomelod_closed_total": closed, "pomelod_limited_total": limited, "pomelod_refused_total": refused}
}

// refusedByAcceptor are reasons to turn somebody away before a loop hears of it: all connections there may be, no descriptors, no memory.
var refusedByAcceptor = [...]string{"max_conns", "descriptors", "memory"}

// desc describes a figure. A label that is empty is none.
func desc(name, help string, labels ...string) *prometheus.Desc {
	labels = slices.DeleteFunc(labels, func(label string) bool { return label == "" })
	described = append(described, Metric{"pomelod_" + name, help, labels})
	return prometheus.NewDesc("pomelod_"+name, help, labels, nil)
}

// metric is one figure of a T: of a loop, which its label names, or of the disk, and then it has none.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) float64
}

// number is what figures are counted in.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

func counter[T any, N number](name, help, label string, value func(*T) N) metric[T] {
	return metric[T]{desc(name, help, label), prometheus.CounterValue, func(v *T) float64 { return float64(value(v)) }}
}

func gauge[T any, N number](name, help, label string, value func(*T) N) metric[T] {
	return metric[T]{desc(name, help, label), prometheus.GaugeValue, func(v *T) float64 { return float64(value(v)) }}
}

func seconds[T any](name, help, label string, value func(*T) time.Duration) metric[T] {
	return gauge(name, help, label, func(v *T) float64 { return value(v).Seconds() })
}

// truth is 1 while value holds.
func truth[T any](name, help, label string, value func(*T) bool) metric[T] {
	return gauge(name, help, label, func(v *T) int {
		if value(v) {
			return 1
		}
		return 0
	})
}

// figures is where the figures of one scrape go.
type figures chan<- prometheus.Metric

// tell tells what v has of the figures in of.
func tell[T any](out figures, of []metric[T], v *T, labels ...string) {
	for _, m := range of {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(v), labels...)
	}
}

func (out figures) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (out figures) count(d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// countEach counts what counts has, by the last label.
func (out figures) countEach(d *prometheus.Desc, counts map[string]uint64, labels ...string) {
	for which, n := range counts {
		out.count(d, n, append(labels[:len(labels):len(labels)], which)...)
	}
}

type loopFigures = router.LoopSnapshot

var loopMetrics = []metric[loopFigures]{
	gauge("connections", "Open client sockets.", "loop", func(l *loopFigures) int { return l.Net.Conns }),
	gauge("tls_connections", "Open client sockets whose clients speak TLS, or shake hands.", "loop", func(l *loopFigures) int { return l.Net.Secured }),
	gauge("polling_sessions", "Sessions whose clients poll: they have no socket of their own.", "loop", func(l *loopFigures) int { return l.Net.Pulls }),
	counter("opened_total", "Client sockets and polling sessions opened.", "loop", func(l *loopFigures) uint64 { return l.Net.Opened }),
	counter("read_bytes_total", "Bytes read from clients.", "loop", func(l *loopFigures) uint64 { return l.Net.BytesRead }),
	counter("written_bytes_total", "Bytes written to clients.", "loop", func(l *loopFigures) uint64 { return l.Net.BytesWritten }),
	counter("writes_total", "Write calls to client sockets.", "loop", func(l *loopFigures) uint64 { return l.Net.Writes }),
	counter("writes_postponed_total", "Writes for which the kernel had no memory (ENOBUFS, ENOMEM); what they carried was kept and sent later.", "loop", func(l *loopFigures) uint64 { return l.Net.WritesNoBuffers }),
	counter("rounds_total", "Rounds of passes: each wrote to all members of a group what they lacked.", "loop", func(l *loopFigures) uint64 { return l.Net.Rounds }),
	counter("volatile_outdated_total", "Volatile pushes of programs that were not written, as a later one of their route came first, by group of members.", "loop", func(l *loopFigures) uint64 { return l.Net.Outdated }),
	counter("volatile_withheld_total", "Volatile pushes of programs that a member was not written, as it had not taken what it was written before.", "loop", func(l *loopFigures) uint64 { return l.Net.Withheld }),
	counter("ticks_total", "Times an event loop looked for clients that are late or silent: once a second, less when it is starved.", "loop", func(l *loopFigures) uint64 { return l.Net.Ticks }),
	counter("panics_total", "Panics on an event loop; each closed the connection, or those of the room, that it was for, if it was for one.", "loop", func(l *loopFigures) uint64 { return l.Net.Panics }),
	counter("overrun_refused_total", "Messages refused because a loop came to its clients' bytes too late (-max-delay).", "loop", func(l *loopFigures) uint64 { return l.Overrun }),
	gauge("backlog_bytes", "Pushes not yet passed on.", "loop", func(l *loopFigures) int { return l.Net.Backlog }),
	seconds("loop_delay_seconds", "For how long events last waited until the loop came to them.", "loop", func(l *loopFigures) time.Duration { return l.Net.Delay }),
	gauge("slow_connections", "Connections with unsent bytes.", "loop", func(l *loopFigures) int { return l.Net.Slow }),
	gauge("unread_connections", "Connections that are not read; what their clients send waits in the kernel.", "loop", func(l *loopFigures) int { return l.Net.Unread }),
	counter("requests_total", "Requests and notifies of clients.", "loop", func(l *loopFigures) uint64 { return l.Requests }),
	counter("unknown_routes_total", "Requests for routes that nobody handles.", "loop", func(l *loopFigures) uint64 { return l.UnknownRoutes }),
	counter("malformed_total", "Data packages that were no message.", "loop", func(l *loopFigures) uint64 { return l.Malformed }),
	counter("handshakes_refused_total", "Handshakes answered 500 or 501.", "loop", func(l *loopFigures) uint64 { return l.HandshakesRefused }),
	counter("names_refused_total", "Enters refused because of a bad name of user or room.", "loop", func(l *loopFigures) uint64 { return l.NamesRefused }),
	counter("http_errors_total", "HTTP requests that were refused.", "loop", func(l *loopFigures) uint64 { return l.HTTPErrors }),
	counter("http_requests_total", "HTTP requests served, polling included.", "loop", func(l *loopFigures) uint64 { return l.HTTPRequests }),
	counter("upgrades_total", "Polling sessions that changed to a WebSocket.", "loop", func(l *loopFigures) uint64 { return l.Upgrades }),
	counter("moves_total", "Connections moved to the event loop of their session.", "loop", func(l *loopFigures) uint64 { return l.Moves }),
	counter("polling_refused_total", "Polling sessions refused: as many as -max-polling there already.", "loop", func(l *loopFigures) uint64 { return l.PullsRefused }),
	counter("inbox_full_total", "Requests refused because the worker of the room had too many.", "loop", func(l *loopFigures) uint64 { return l.Busy }),
	counter("throttled_total", "Times a client was not read until it took what it had asked for.", "loop", func(l *loopFigures) uint64 { return l.Net.Throttled }),
	counter("yields_total", "Times a client had asked for so much at once that others were served first.", "loop", func(l *loopFigures) uint64 { return l.Net.Yielded }),
	counter("put_off_total", "Times the connections of one address had asked for so much together that others were served first.", "loop", func(l *loopFigures) uint64 { return l.Net.PutOff }),
	counter("handlers_refused_total", "Calls refused because App.MaxRunning others waited for handlers already, or twice as many goroutines ran.", "loop", func(l *loopFigures) uint64 { return l.HandlersRefused }),
	counter("handler_timeouts_total", "Calls given up because their handler took longer than App.Timeout.", "loop", func(l *loopFigures) uint64 { return l.HandlerTimeouts }),
	counter("inflight_waits_total", "Times a session was not read because it had as many requests in flight as it may.", "loop", func(l *loopFigures) uint64 { return l.InflightWaits }),
	counter("request_timeouts_total", "Requests that a worker did not answer in time.", "loop", func(l *loopFigures) uint64 { return l.Timeouts }),
	counter("gaps_total", "Rooms disconnected because a push was missing. Should be 0.", "loop", func(l *loopFigures) uint64 { return l.Gaps }),
}

type workerFigures = router.WorkerSnapshot

var workerMetrics = []metric[workerFigures]{
	gauge("rooms", "Rooms with members.", "worker", func(w *workerFigures) int { return w.Rooms }),
	gauge("members", "Members of rooms.", "worker", func(w *workerFigures) int { return w.Members }),
	counter("enters_total", "Enters granted.", "worker", func(w *workerFigures) uint64 { return w.Enters }),
	counter("enters_refused_total", "Enters refused: a name that is taken, or too much to do.", "worker", func(w *workerFigures) uint64 { return w.EntersRefused }),
	counter("sessions_replaced_total", "Enters that took the place of an older session of the same user.", "worker", func(w *workerFigures) uint64 { return w.Replaced }),
	counter("leaves_total", "Members that left.", "worker", func(w *workerFigures) uint64 { return w.Leaves }),
	counter("sends_total", "Messages accepted.", "worker", func(w *workerFigures) uint64 { return w.Sends }),
	counter("sends_refused_total", "Messages refused.", "worker", func(w *workerFigures) uint64 { return w.SendsRefused }),
	counter("outlet_full_total", "Enters, messages and pages refused because members' connections have too much to take already.", "worker", func(w *workerFigures) uint64 { return w.Busy }),
	counter("pushes_total", "Pushes posted, counted once for each event loop.", "worker", func(w *workerFigures) uint64 { return w.Pushes }),
	gauge("rooms_empty", "Rooms without members that keep what was said, or what a program has set.", "worker", func(w *workerFigures) int { return w.EmptyRooms }),
	gauge("history_messages", "Messages that rooms keep.", "worker", func(w *workerFigures) int { return w.Kept }),
	gauge("history_bytes", "Memory of what rooms keep that this process owns.", "worker", func(w *workerFigures) int64 { return int64(w.KeptBytes) }),
	gauge("history_followed_bytes", "Memory of what rooms keep that other processes own and this one follows.", "worker", func(w *workerFigures) int { return int(w.FollowedBytes) }),
	counter("history_repeated_total", "Messages told to who entered, as they had been said before.", "worker", func(w *workerFigures) uint64 { return w.Repeated }),
	counter("history_incomplete_total", "Returns for which not everything was there that had been missed.", "worker", func(w *workerFigures) uint64 { return w.Incomplete }),
	gauge("members_away", "Members that were cut off, and whose place is kept for them.", "worker", func(w *workerFigures) int { return w.Away }),
	gauge("rooms_large", "Rooms that have had more than -list members since they were empty.", "worker", func(w *workerFigures) int { return w.LargeRooms }),
	counter("members_counted_total", "Times that extended clients in a large room were told how many there are.", "worker", func(w *workerFigures) uint64 { return w.Counts }),
	counter("members_pages_total", "Pages of members that members asked for.", "worker", func(w *workerFigures) uint64 { return w.MemberPages }),
	counter("members_cut_total", "Members that were cut off, and whose place was kept.", "worker", func(w *workerFigures) uint64 { return w.Cuts }),
	counter("members_returned_total", "Members that were cut off and came back in time.", "worker", func(w *workerFigures) uint64 { return w.Returned }),
	counter("members_expired_total", "Members that were cut off and did not come back in time.", "worker", func(w *workerFigures) uint64 { return w.Expired }),
	counter("members_unread_total", "Members that were cut off and did not come back, although private messages were kept for them; these are lost.", "worker", func(w *workerFigures) uint64 { return w.Unread }),
	counter("history_pages_total", "Pages of history that members asked for.", "worker", func(w *workerFigures) uint64 { return w.Pages }),
	counter("history_forgotten_total", "Rooms that lost what they kept, as there was no memory for it or no place for another room.", "worker", func(w *workerFigures) uint64 { return w.Forgotten }),
	counter("sends_repeated_total", "Messages that were sent again, and answered as the first time.", "worker", func(w *workerFigures) uint64 { return w.SentAgain }),
	counter("room_panics_total", "Panics in a room; each cost a request.", "worker", func(w *workerFigures) uint64 { return w.Panics }),
}

var snapshotMetrics = []metric[router.Snapshot]{
	gauge("addresses", "Client addresses that have connections, or had so recently that it counts.", "", func(s *router.Snapshot) int { return s.Addresses.Addresses }),
	counter("addresses_shared_total", "Times that an address had to share its limits with others, as there were too many to tell apart.", "", func(s *router.Snapshot) uint64 { return s.Addresses.Shared }),
	gauge("unsent_bytes", "Bytes kept for clients that do not take them; what they share counts once.", "", func(s *router.Snapshot) int64 { return s.Unsent }),
	gauge("inbound_bytes", "Bytes of messages that have arrived in part, and of what waits to be handled; a few kilobytes of a client do not count.", "", func(s *router.Snapshot) int64 { return s.Inbound }),
	counter("misrouted_total", "Answers and pushes of other nodes, or for them, that were dropped: the event loop that they name is not there.", "", func(s *router.Snapshot) uint64 { return s.Misrouted }),
	counter("handler_panics_total", "Panics in handlers of the App; each was answered 500.", "", func(s *router.Snapshot) uint64 { return s.HandlerPanics }),
}

// Those of what not every process has are told where there is a login, a filter, TLS.
var (
	loginMetrics  = []metric[router.Snapshot]{gauge("logins_waiting", "Logins that wait to be judged.", "", func(s *router.Snapshot) int { return s.LoginsWaiting })}
	filterMetrics = []metric[router.Snapshot]{gauge("filter_waiting", "Messages that wait for the filter.", "", func(s *router.Snapshot) int { return s.FilterWaiting })}
	tlsMetrics    = []metric[netpoll.HandshakeStats]{gauge("tls_handshakes", "TLS handshakes begun and not over.", "", func(h *netpoll.HandshakeStats) int { return h.Running })}
)

var kindMetrics = []metric[router.HandlersSnapshot]{
	gauge("handlers_running", "Goroutines that run functions of the App: handlers, or filters of the chat application's routes.", "kind", func(h *router.HandlersSnapshot) int { return h.Running }),
	gauge("handlers_given_up", "Those of them whose call was given up, as its time was over or its client had gone.", "kind", func(h *router.HandlersSnapshot) int { return h.GivenUp }),
}

var memoryMetrics = []metric[Memory]{
	gauge("memory_bytes", "Memory of Go and, estimated, of the kernel for the sockets.", "", func(m *Memory) int64 { return m.Used }),
	gauge("memory_budget_bytes", "What may be taken; 0 without a limit.", "", func(m *Memory) int64 { return m.Budget }),
	gauge("memory_short", "1 when new connections and enters are refused for want of memory, 2 when the largest backlogs are closed too.", "", (*Memory).level),
}

var acceptorMetrics = []metric[netpoll.AcceptorStats]{
	counter("accepted_total", "Connections accepted.", "", func(a *netpoll.AcceptorStats) uint64 { return a.Accepted }),
	counter("accept_pauses_total", "Times accepting paused for lack of descriptors or memory.", "", func(a *netpoll.AcceptorStats) uint64 { return a.Pauses }),
}

var logMetrics = []metric[logsink.Stats]{
	counter("log_errors_total", "Log lines that could not be written: the disk is full, or the reader of the log is gone.", "", func(l *logsink.Stats) uint64 { return l.Errors }),
	counter("log_dropped_total", "Log lines lost because nobody reads the log, or too slowly.", "", func(l *logsink.Stats) uint64 { return l.Dropped }),
	counter("log_suppressed_total", "Warnings and errors not logged because one place in the program logged too many.", "", func(l *logsink.Stats) uint64 { return l.Suppressed }),
}

var takeoverMetrics = []metric[Takeover]{
	counter("takeovers_total", "Upgrades (pomelod upgrade) since the first process.", "", func(t *Takeover) int { return t.Upgrades }),
	counter("takeover_failures_total", "Upgrades that failed, after which this process went on.", "", func(t *Takeover) int { return t.Failures }),
	gauge("takeover_connections", "Connections and polling sessions that this process took over.", "", func(t *Takeover) int { return t.Connections }),
	gauge("takeover_bytes", "State that this process took over.", "", func(t *Takeover) int64 { return t.Bytes }),
}

// Those with more labels, or a value of each label.
var (
	waitDesc     = desc("loop_wait_seconds", "For how long events waited until the loop came to them.", "loop")
	closedDesc   = desc("closed_total", "Client sockets and polling sessions closed, by reason.", "loop", "reason")
	sessionsDesc = desc("sessions", "Sessions, by what they travel by.", "loop", "transport")
	refusedDesc  = desc("refused_total", "Connections, handshakes and requests turned away at once, by reason.", "reason")
	loginsDesc   = desc("logins_total", "Logins, by what became of them.", "result")
	filteredDesc = desc("filtered_total", "Messages that the filter was to look at, by what became of them.", "result")
	limitedDesc  = desc("limited_total", "What limits refused, by reason.", "reason")
	handsDesc    = desc("tls_handshakes_total", "TLS handshakes that are over, by result: done, resumed (also done), failed, late, evicted.", "result")
	tookClosed   = desc("takeover_closed", "Connections and polling sessions that could not go along, by reason.", "reason")
	tookFrozen   = desc("takeover_freeze_seconds", "For how long connections were not served meanwhile: 0.5 is the median, 1 the longest.", "quantile")
	stuckDesc    = desc("stuck", "1 when an event loop did not answer in time; the other figures are missing then.")
	infoDesc     = desc("info", "What runs.", "version", "json")
)

// Describe implements prometheus.Collector. The collector is unchecked: what it tells is fixed by the tables above.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	out := figures(metrics)
	c.collectProcess(out)
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	s, err := c.src.Snapshot(ctx)
	if err != nil {
		out.gauge(stuckDesc, 1)
		return
	}
	out.gauge(stuckDesc, 0)
	out.snapshot(s)
	for i := range s.Loops {
		out.loop(&s.Loops[i], strconv.Itoa(i))
	}
	for i := range s.Workers {
		tell(out, workerMetrics, &s.Workers[i], strconv.Itoa(i))
	}
}

// collectProcess tells what no loop has to be asked for.
func (c *collector) collectProcess(out figures) {
	out.gauge(infoDesc, 1, c.src.Version, codec.JSONEngine())
	accepted := c.src.Accepted()
	tell(out, acceptorMetrics, &accepted)
	for i, n := range [...]uint64{accepted.Refused, accepted.Starved, accepted.Turned} {
		out.count(refusedDesc, n, refusedByAcceptor[i])
	}
	memory := c.src.memory()
	tell(out, memoryMetrics, &memory)
	if c.src.Fleet != nil {
		c.src.Fleet().collect(out)
	}
	if c.src.Logs != nil {
		logs := c.src.Logs()
		tell(out, logMetrics, &logs)
	}
	if c.src.Disk != nil {
		if disk := c.src.Disk(); disk != nil {
			tell(out, diskMetrics, disk)
		}
	}
	if c.src.Takeover != nil {
		t := c.src.Takeover()
		t.collect(out)
	}
}

func (t *Takeover) collect(out figures) {
	tell(out, takeoverMetrics, t)
	out.gauge(tookClosed, float64(t.Lost), "lost")
	for why, n := range t.Closed {
		out.gauge(tookClosed, float64(n), why)
	}
	out.gauge(tookFrozen, t.FreezeMedian.Seconds(), "0.5")
	out.gauge(tookFrozen, t.FreezeMax.Seconds(), "1")
}

// snapshot tells what all loops have together.
func (out figures) snapshot(s *router.Snapshot) {
	tell(out, snapshotMetrics, s)
	out.countEach(refusedDesc, s.Refused)
	out.countEach(limitedDesc, s.Limited)
	for i := range s.Handlers {
		tell(out, kindMetrics, &s.Handlers[i], s.Handlers[i].Kind)
	}
	if h := s.Handshakes; h != nil {
		out.countEach(handsDesc, map[string]uint64{"done": h.Done, "resumed": h.Resumed, "failed": h.Failed, "late": h.Late, "evicted": h.Evicted})
		tell(out, tlsMetrics, h)
	}
	if s.Logins != nil {
		out.countEach(loginsDesc, s.Logins)
		tell(out, loginMetrics, s)
	}
	if s.Filtered != nil {
		out.countEach(filteredDesc, s.Filtered)
		tell(out, filterMetrics, s)
	}
}

// loop tells what one loop has.
func (out figures) loop(l *loopFigures, label string) {
	tell(out, loopMetrics, l, label)
	out <- histogramOf(&l.Net.Waits, label)
	out.countEach(closedDesc, l.Closed, label)
	for transport, n := range l.Sessions {
		out.gauge(sessionsDesc, float64(n), label, transport)
	}
}

// histogramOf is a loop's waits.
func histogramOf(w *netpoll.Waits, loop string) prometheus.Metric {
	count, buckets := uint64(0), make(map[float64]uint64, len(w.Count))
	for i, n := range w.Count {
		if count += n; i < len(w.Count)-1 {
			buckets[netpoll.WaitBound(i).Seconds()] = count
		}
	}
	return prometheus.MustNewConstHistogram(waitDesc, count, w.Sum.Seconds(), buckets, loop)
}

// level is how short memory is.
func (m *Memory) level() float64 {
	switch {
	case m.Closing:
		return 2
	case m.Refusing:
		return 1
	}
	return 0
}
