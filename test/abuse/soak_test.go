//go:build linux

package abuse

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/seed"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoak goes on, pauses not counted; 0 for 10s, and only with -race")

const (
	soakActors = 12
	// crowdLimit is what one address may have, so that a crowd need not be one of 20,000, and crowdFrom an address that has more.
	crowdLimit = 100
	crowdFrom  = "127.0.69.1"
	// soakPatience is how long a pause may take until the server is as it was: longer than any silence that it bears.
	soakPatience = 40 * time.Second
	// soakShort is how long it takes mostly; more is told.
	soakShort = 15 * time.Second
	// soakGrace is how long who is cut off keeps its place.
	soakGrace = 4 * time.Second
)

// soakFlags make the server impatient, as each pause takes as long as its longest patience. Rooms of four and more use all loops.
var soakFlags = []string{"-heartbeat", "3s", "-sio-heartbeat", "4s", "-sio-timeout", "4s", "-sio-timeout4", "4s",
	"-handshake-timeout", "5s", "-head-timeout", "3s", "-keepalive-timeout", "4s", "-stuck-timeout", "4s",
	"-first-message-timeout", "5s", "-addr-conns", fmt.Sprint(crowdLimit), "-spread", "4", "-grace", soakGrace.String(), "-history-age", "10s"}

// soakEdits do the same where there is no flag: for sessions that are begun by HTTP, with nothing behind it.
var soakEdits = []edit{
	{"router/node.go", "ConnectSeconds: 45", "ConnectSeconds: 5"},
	{"router/proto_sio09.go", "connect09Seconds = 30", "connect09Seconds = 5"},
}

// soak is a long time in which all kinds of things happen at once, in rounds. Between them nobody but the witnesses is there,
// and the server has to have what it had at the beginning.
type soak struct {
	*server
	witness  *witness
	log      *logPipe
	crowding sync.Mutex   // one crowd at a time
	starved  atomic.Int64 // odd: the server may have no descriptors
	began    time.Time

	mu        sync.Mutex
	counts    map[string]int
	problems  []string
	forgotten []*peer
}

// did counts.
func (s *soak) did(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *soak) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) < 20 {
		at := time.Since(s.began).Round(time.Millisecond)
		s.problems = append(s.problems, fmt.Sprintf("after %v: ", at)+fmt.Sprintf(format, args...))
	}
}

// forget keeps connections until the server has ended what they are for.
func (s *soak) forget(all ...*peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = append(s.forgotten, all...)
}

// remember closes them.
func (s *soak) remember() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.forgotten {
		p.Close()
	}
	s.forgotten = nil
}

// TestSoak has guests come and go by every wire, attackers attack and the machine fail, for as long as -soak says, and looks
// whether anything grows.
func TestSoak(t *testing.T) {
	long, rounds := *soakTime, 20
	if long == 0 {
		if testing.Short() || !raceEnabled { // it is races that so short a soak may find
			t.Skip("neither -soak nor -race")
		}
		long = 10 * time.Second
	}
	if long < time.Minute {
		rounds = 2
	}
	rng := seed.Rand(t)
	s := &soak{server: newServer(t, build(t, soakEdits...), soakFlags...), counts: make(map[string]int), began: time.Now()}
	log, err := newLogPipe(&s.stderr)
	if err != nil {
		t.Fatal(err)
	}
	s.log, s.cmd.Stderr = log, log.write
	s.start()
	log.write.Close() // the server has one of its own
	s.witness = watch(t, s.server)
	defer s.remember()

	actors := make([]*actor, soakActors)
	for i := range actors {
		actors[i] = &actor{soak: s, index: i, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))}
	}
	for _, path := range []string{"/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.1"} {
		s.operate(path) // what the runtime makes once, for whoever asks first
	}
	s.witness.phase()
	base := s.settled()
	samples := []sample{s.sample(base, 0)}
	for range rounds {
		acts := s.round(actors, rng.Uint64(), long/time.Duration(rounds))
		now, err := s.pause(base)
		samples = append(samples, s.sample(now, acts))
		if err != nil {
			t.Errorf("after %v: %v", time.Since(s.began), err)
		}
		s.remember()
		if t.Failed() {
			break
		}
	}
	end := s.settled()
	for _, p := range s.witness.last().Problems {
		t.Error("a witness:", p)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	s.judge(samples, delta{base, end}, long)
	s.tell(samples, delta{base, end})
}

// round lets everybody act for a while, and returns how often.
func (s *soak) round(actors []*actor, seed uint64, long time.Duration) (acts int) {
	end := time.Now().Add(long)
	var all sync.WaitGroup
	all.Go(func() { s.faults(rand.New(rand.NewPCG(seed, 0)), end) })
	var done atomic.Int64
	for _, a := range actors {
		all.Go(func() {
			for time.Now().Before(end) {
				a.act()
				done.Add(1)
				time.Sleep(a.upTo(50 * time.Millisecond)) // as nobody acts all the time
			}
		})
	}
	all.Wait()
	return int(done.Load())
}

// pause waits until the server has nothing more than at the beginning, and returns its metrics with the garbage collected.
func (s *soak) pause(base metrics) (now metrics, err error) {
	began := time.Now()
	for last := ""; time.Since(began) < soakPatience; time.Sleep(100 * time.Millisecond) {
		now = s.settled()
		if err = unlike(now, base); err == nil {
			if took := time.Since(began); took > soakShort {
				s.t.Logf("after %v: the pause took %v; what was there to the last: %s", time.Since(s.began).Round(time.Second), took, last)
			}
			return now, nil
		}
		last = err.Error()
	}
	return now, err
}

// unlike tells in what the server is not as it was.
func unlike(now, base metrics) error {
	var all []string
	for _, name := range append(restores, "go_goroutines", "pomelod_addresses") {
		is, ok := now[name]
		if was := base[name]; !ok || is != was && (is > was || name != "go_goroutines") {
			all = append(all, fmt.Sprintf("%s is %v, was %v", name, is, was))
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("in a pause %s", strings.Join(all, ", "))
	}
	return nil
}

// sample is what there was in a pause, and before it.
type sample struct {
	metrics
	at    time.Duration
	acts  int
	heard report
}

func (s *soak) sample(m metrics, acts int) sample {
	heard := s.witness.phase()
	for _, p := range heard.Problems {
		s.problem("a witness: %s", p)
	}
	return sample{m, time.Since(s.began), acts, heard}
}

// judge fails the test when something grew, or went wrong that nobody noticed.
func (s *soak) judge(samples []sample, d delta, long time.Duration) {
	t := s.t
	for _, p := range s.problems {
		t.Error(p)
	}
	for _, g := range growth(samples) {
		t.Error(g)
	}
	for _, name := range []string{"panics_total", "room_panics_total", "handler_panics_total", "gaps_total", "request_timeouts_total",
		"overrun_refused_total", "addresses_shared_total", "log_errors_total", "log_dropped_total"} {
		if n := d.grown("pomelod_" + name); n != 0 {
			t.Errorf("%s has grown by %v", name, n)
		}
	}
	text := s.stderr.String()
	for _, bad := range []string{"panic", "DATA RACE", `"level":"ERROR"`, "stuck"} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("the log: %.4000s", text[max(0, i-300):])
		}
	}
	if long < time.Minute {
		return // too short for everything to have happened
	}
	for _, name := range []string{`closed_total{reason="flood"}`, `closed_total{reason="silent"}`, `closed_total{reason="slow"}`,
		`closed_total{reason="protocol"}`, `closed_total{reason="handshake_timeout"}`, `refused_total{reason="addr_conns"}`,
		`refused_total{reason="descriptors"}`, `limited_total{reason="session_rate"}`, "sessions_replaced_total", "upgrades_total",
		"moves_total", "http_errors_total", "members_cut_total", "members_returned_total", "members_expired_total"} {
		if err := d.atLeast("pomelod_"+name, 1); err != nil {
			t.Error(err)
		}
	}
}

// mayGrow is by how much, beside a tenth, the most of the last third of the pauses may be above the most of the first: a pool, a
// slab or a stack that happened not to be needed before.
var mayGrow = map[string]float64{"process_resident_memory_bytes": 8 << 20, "go_memstats_heap_alloc_bytes": 2 << 20}

// growth tells which memory goes on growing. The first sample is of a server that had nothing to do yet.
func growth(samples []sample) (all []string) {
	third := (len(samples) - 1) / 3
	if third < 2 {
		return nil
	}
	for name, more := range mayGrow {
		first, last := most(samples[1:1+third], name), most(samples[len(samples)-third:], name)
		if last > first*1.1+more {
			all = append(all, fmt.Sprintf("%s has grown from %.1f MB in the first third to %.1f in the last", name, first/1e6, last/1e6))
		}
	}
	return all
}

// most is the highest value of a metric.
func most(samples []sample, name string) (highest float64) {
	for _, m := range samples {
		highest = max(highest, m.metrics[name])
	}
	return highest
}

// tell logs the samples, what was done and what the server counted.
func (s *soak) tell(samples []sample, d delta) {
	var b strings.Builder
	columns := []struct {
		title, name string
		unit        float64
	}{
		{"goroutines", "go_goroutines", 1}, {"threads", "go_threads", 1}, {"fds", "process_open_fds", 1},
		{"conns", "pomelod_connections", 1}, {"sessions", "pomelod_sessions", 1}, {"polling", "pomelod_polling_sessions", 1},
		{"members", "pomelod_members", 1},
		{"rooms", "pomelod_rooms", 1}, {"addresses", "pomelod_addresses", 1}, {"unsent", "pomelod_unsent_bytes", 1},
		{"heap MB", "go_memstats_heap_alloc_bytes", 1e6}, {"in use MB", "go_memstats_heap_inuse_bytes", 1e6},
		{"RSS MB", "process_resident_memory_bytes", 1e6},
	}
	fmt.Fprintf(&b, "%8s", "after")
	for _, c := range columns {
		fmt.Fprintf(&b, "%11s", c.title)
	}
	fmt.Fprintf(&b, "%7s%8s%10s\n", "acts", "heard", "p99")
	for _, m := range samples {
		fmt.Fprintf(&b, "%8v", m.at.Round(time.Second))
		for _, c := range columns {
			if c.unit == 1 {
				fmt.Fprintf(&b, "%11.0f", m.metrics[c.name])
			} else {
				fmt.Fprintf(&b, "%11.1f", m.metrics[c.name]/c.unit)
			}
		}
		fmt.Fprintf(&b, "%7d%8d%10v\n", m.acts, m.heard.Heard, m.heard.P99.Round(time.Millisecond))
	}
	b.WriteString("\ndone:\n")
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "%8d %s\n", s.counts[what], what)
	}
	b.WriteString("\ncounted by the server:\n")
	for _, name := range slices.Sorted(maps.Keys(d.after)) {
		if n := d.grown(name); n != 0 && strings.HasPrefix(name, "pomelod_") && strings.Contains(name, "_total") {
			fmt.Fprintf(&b, "%12.0f %s\n", n, strings.TrimPrefix(name, "pomelod_"))
		}
	}
	s.t.Log(b.String())
}

// 300 KB more in each pause is growth; a high-water mark that is reached early is none.
func TestSoakNoticesGrowth(t *testing.T) {
	samples := func(grows float64) (all []sample) {
		for i := range 21 {
			heap := 10e6 + grows*float64(i)
			all = append(all, sample{metrics: metrics{"process_resident_memory_bytes": 160e6, "go_memstats_heap_alloc_bytes": heap}})
		}
		all[0].metrics = metrics{"process_resident_memory_bytes": 50e6, "go_memstats_heap_alloc_bytes": 2e6}
		return all
	}
	if got := growth(samples(0)); got != nil {
		t.Errorf("what does not grow: %q", got)
	}
	if got := growth(samples(300e3)); len(got) != 1 || !strings.Contains(got[0], "heap_alloc") {
		t.Errorf("what grows: %q", got)
	}
}
