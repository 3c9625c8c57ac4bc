//go:build linux

package abuse

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(witnessEnv); addr != "" {
		runWitnesses(addr)
		return
	}
	dir, err := os.MkdirTemp("", "pomelod-abuse")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	builds.dir = dir
	yield()
	runtime.GOMAXPROCS(1) // attackers keep one processor busy, not all: the server is elsewhere
	code := m.Run()
	if !runUndefended() {
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// scenario is one kind of abuse, made while the witnesses chat. It runs twice: against a server that has its defences, where nobody
// but the attacker may notice anything, and against one without the defence in question, where somebody has to.
type scenario struct {
	name    string
	program string   // a package with a main function that has an App; empty for ./cmd/pomelod
	flags   []string // of the server, in both runs
	edits   []edit   // of the source in both runs: a fault for the attack to find
	// prepare changes how the server is started: its limits, where it logs to. May be nil.
	prepare func(s *server)
	// attack makes the attack, all of it, and says what an attacker may not see: an answer it should not get, a connection that
	// outlives what it did. Such errors count as failures of the defence; what keeps the attack from being made ends the test
	// (a.t.Fatal, on the test's goroutine).
	attack func(a *arena) error
	// landed is an error unless the server's counters say that the attack arrived, as they do in both runs.
	landed func(d delta) error
	// held is an error unless the counters say what the defence did. May be nil.
	held func(d delta) error
	// without is the server without the defence, and what must come of it. also are others, each a server of its own.
	without weakness
	also    []weakness
	// busy is for attacks that keep both processors busy by legal means: how soon the witnesses hear is told, and judged by late only.
	busy string // why
	// late is how much later than in the quiet second the witnesses may hear of a busy attack, beside what the machine adds: less than they do without
	// the defence. 0: it is not judged.
	late time.Duration
	// elsewhere has the attack made on another server first, of the same kind, on the same processors: how late the witnesses hear meanwhile is what
	// the attack takes of the machine, by legal means. On their own server they may hear 5 ms later than that, and no more. So it can be judged how soon
	// they hear of a busy attack, on a busy machine too. Not with late.
	elsewhere bool
	// together says that the second run uses something that ends with the test, and so comes at once.
	together bool
}

// weakness switches a defence off, by flags (added to the scenario's, the later ones win) or in the source.
type weakness struct {
	flags []string
	edits []edit
	fails string // a part of the failure that must come of it
	alone bool   // it shows in other attacks too (mix)
}

// arena is where an attack takes place.
type arena struct {
	t *testing.T
	*server
	*witness
	mu       sync.Mutex
	peers    []io.Closer
	audience *audience // nil until somebody listens
	defended bool      // the server has its defences
}

// attackers are addresses that no witness has.
const attackers = "127.0.66."

// n is a number of things to do, less with the race detector, which needs five to ten times as long for each.
func (a *arena) n(number int) int {
	if raceEnabled {
		return max(1, number/10)
	}
	return number
}

// keep has a connection, or a guest, closed when the attack is over.
func (a *arena) keep(c io.Closer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peers = append(a.peers, c)
}

// dial connects from the i-th attacker's address, 0 to 253; the connection is closed when the attack is over.
func (a *arena) dial(i int) (*peer, error) {
	p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
	if err == nil {
		a.keep(p)
	}
	return p, err
}

// login is dial and the handshake.
func (a *arena) login(i int) (*peer, error) {
	p, err := a.dial(i)
	if err != nil {
		return nil, err
	}
	return p, p.login()
}

// chatter is login and entering a room.
func (a *arena) chatter(i int, user, room string) (*peer, error) {
	p, err := chatter(fmt.Sprint(attackers, i+1), a.addr, user, room)
	if err == nil {
		a.keep(p)
	}
	return p, err
}

func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.peers {
		p.Close()
	}
	a.peers = nil
	if a.audience != nil {
		_ = a.audience.Close()
		a.audience = nil
	}
}

// delta is what counters have grown by, and gauges as they were at the end of the attack.
type delta struct{ before, after metrics }

// grown is by how much a counter has grown: name, or name{reason="…"}.
func (d delta) grown(name string) float64 { return d.after[name] - d.before[name] }

// reasons begin the names of counters that say why somebody was ended or refused, and how late the server was.
var reasons = []string{"pomelod_closed_total{reason", "pomelod_refused_total{", "pomelod_limited_total{reason", "pomelod_overrun_refused_total", "pomelod_inbox_full_total",
	"pomelod_outlet_full_total", "pomelod_request_timeouts_total", "pomelod_loop_delay_seconds{", "pomelod_accept_pauses_total"}

// String tells those that have grown.
func (d delta) String() string {
	var list []string
	for name := range d.after {
		if n := d.grown(name); n > 0.001 && slices.ContainsFunc(reasons, func(begins string) bool { return strings.HasPrefix(name, begins) }) {
			list = append(list, fmt.Sprint(strings.TrimPrefix(name, "pomelod_"), " ", n))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// atLeast is an error unless a counter has grown so much.
func (d delta) atLeast(name string, n float64) error {
	if _, ok := d.after[name]; !ok {
		return fmt.Errorf("there is no metric %s", name)
	}
	if got := d.grown(name); got < n {
		return fmt.Errorf("%s has grown by %v, not by %v", name, got, n)
	}
	return nil
}

const (
	quietTime = time.Second
	// barely is how much later than otherwise the witnesses may hear.
	barely = 5 * time.Millisecond
	// attempts are made before the witnesses' p99 is judged: what else the machine does may hurt it, but not every time.
	attempts = 3
	// mayKeep is by how much RSS may have grown after an attack: pages that Go's heap keeps for the next one.
	mayKeep = 24 << 20
)

// run runs a scenario with and without its defence.
func (sc scenario) run(t *testing.T) {
	t.Run(sc.name, func(t *testing.T) {
		sc.defended(t)
		if raceEnabled {
			return // what is broken on purpose need not be looked at for races
		}
		for i, w := range append([]weakness{sc.without}, sc.also...) {
			name := "undefended"
			if i > 0 {
				name += ": " + w.fails
			}
			without := &mix{edits: slices.Concat(sc.edits, w.edits)}
			if sc.program == "" && sc.edits == nil && !sc.together {
				without = w.mix(t.Name())
			}
			sc.undefended(t, name, func(t *testing.T) {
				failures, _ := sc.once(t, sc.build(t, without.edits), slices.Concat(sc.flags, w.flags), false)
				w.judge(t, failures)
			})
		}
	})
}

// defended runs a scenario with its defence.
func (sc scenario) defended(t *testing.T) {
	t.Run("defended", func(t *testing.T) {
		binary := sc.build(t, sc.edits)
		for attempt := 1; ; attempt++ {
			failures, late := sc.once(t, binary, sc.flags, true)
			if late != "" && (len(failures) > 0 || attempt == attempts) {
				failures = append(failures, late)
			}
			if late == "" || len(failures) > 0 {
				for _, f := range failures {
					t.Error(f)
				}
				return
			}
			t.Logf("attempt %d: %s", attempt, late)
		}
	})
}

// judge fails the test unless what must come of the weakness is among what went wrong.
func (w weakness) judge(t *testing.T, failures []string) {
	t.Helper()
	all := strings.Join(failures, "\n")
	if !strings.Contains(all, w.fails) || w.fails == "" {
		t.Errorf("without its defence the server did not fail with %q but with: %s", w.fails, all)
	}
	t.Logf("failed as it should: %.300s", all)
}

// undefended runs the second half of a scenario: now, or when all the first ones are over.
func (sc scenario) undefended(t *testing.T, name string, half func(t *testing.T)) {
	if sc.together {
		t.Run(name, half)
		return
	}
	later(t, name, half)
}

func (sc scenario) build(t *testing.T, edits []edit) string {
	return buildProgram(t, cmp.Or(sc.program, "./cmd/pomelod"), edits...)
}

// once runs a scenario and returns what went wrong; how late the witnesses heard is told apart.
func (sc scenario) once(t *testing.T, binary string, flags []string, defended bool) (failures []string, late string) {
	t.Helper()
	s := newServer(t, binary, flags...)
	if sc.prepare != nil {
		sc.prepare(s)
	}
	s.start()
	defer func() { // not with the test: the next attempt may want its ports, and the processor for itself
		if err := s.end(); err != nil {
			t.Errorf("%v; it said:\n%s", err, s.said())
		}
	}()
	a := &arena{t: t, server: s, witness: watch(t, s), defended: defended}
	defer a.witness.end() // before the server, which has nobody to wait for then
	defer a.close()
	before := s.settled()
	for range 10 { // those of the scrape itself come and go
		before["go_goroutines"] = max(before["go_goroutines"], s.metrics()["go_goroutines"])
	}
	a.phase() // from now on
	if sc.judgesTime(defended) {
		time.Sleep(quietTime)
	} else {
		time.Sleep(4 * every)
	}
	quiet := a.phase()
	for end := time.Now().Add(patience); quiet.Heard == 0 && len(quiet.Problems) == 0 && time.Now().Before(end); quiet = a.phase() { // others may have all processors
		time.Sleep(4 * every)
	}
	if len(quiet.Problems) > 0 || quiet.Heard == 0 {
		t.Fatalf("before the attack: %d heard, %q", quiet.Heard, quiet.Problems)
	}

	if sc.elsewhere {
		quiet = quiet.orLater(sc.onAnother(a, binary, flags))
	}
	began := time.Now()
	if err := sc.attack(a); err != nil {
		failures = append(failures, "the attacker: "+err.Error())
	}
	took := time.Since(began)
	during := a.phase()
	if s.over() {
		return append(failures, fmt.Sprintf("pomelod ended: %v; it said:\n%s", s.err, s.said())), ""
	}
	d := delta{before, s.metrics()}
	if err := sc.landed(d); err != nil && defended { // without the defence it has to hurt
		t.Errorf("the attack did not land: %v", err)
	}
	if sc.held != nil {
		if err := sc.held(d); err != nil {
			failures = append(failures, "the counters: "+err.Error())
		}
	}
	for _, p := range during.Problems {
		failures = append(failures, "a witness: "+p)
	}
	allowed := sc.allowed(quiet, during)
	t.Logf("%d messages heard in %v: p99 %v (quiet %v), max %v; the machine's own p99 %v (quiet %v)",
		during.Heard, took, during.P99, quiet.P99, during.Max, during.Machine, quiet.Machine)
	if sc.judgesTime(defended) {
		t.Logf("a p99 of %v is allowed", allowed)
	}
	if during.P99 > allowed && sc.judgesTime(defended) {
		late = fmt.Sprintf("the witnesses heard late: p99 %v, more than %v (quiet %v)", during.P99, allowed, quiet.P99)
	}

	if len(failures) > 0 {
		t.Logf("what the server counted meanwhile: %s", d)
	}
	if !defended && len(failures) > 0 {
		return failures, late
	}
	a.close()
	if err := s.recovers(before); err != nil {
		failures = append(failures, err.Error())
	}
	for _, p := range a.last().Problems {
		failures = append(failures, "a witness: "+p)
	}
	return failures, late
}

// onAnother makes the attack on another server of the same kind, and returns what the witnesses saw meanwhile.
func (sc scenario) onAnother(a *arena, binary string, flags []string) report {
	a.t.Helper()
	s := newServer(a.t, binary, flags...)
	s.start()
	b := &arena{t: a.t, server: s, witness: a.witness, defended: a.defended}
	a.phase()
	_ = sc.attack(b) // how that server does is judged when it is the witnesses' own
	seen := a.phase()
	b.close()
	if err := s.end(); err != nil {
		a.t.Errorf("%v; it said:\n%s", err, s.said())
	}
	if len(seen.Problems) > 0 || seen.Heard == 0 {
		a.t.Fatalf("while another server was attacked: %d heard, %q", seen.Heard, seen.Problems)
	}
	a.t.Logf("while another server was attacked: p99 %v, max %v; the machine's own p99 %v", seen.P99, seen.Max, seen.Machine)
	a.phase() // that it ends is not the attack
	return seen
}

// judgesTime tells whether it is judged how soon the witnesses hear.
func (sc scenario) judgesTime(defended bool) bool {
	return (sc.busy == "" || sc.late > 0 || sc.elsewhere) && !raceEnabled && (defended || sc.elsewhere)
}

// allowed is the p99 that the witnesses may have. What the machine adds to an echo between two sockets it adds many times to a server that has all
// processors busy: who sleeps most of the time is let run first.
func (sc scenario) allowed(quiet, during report) time.Duration {
	const times = 10
	machine := max(0, during.Machine-quiet.Machine)
	switch {
	case sc.elsewhere:
		return quiet.P99 + barely + machine
	case sc.busy != "":
		return quiet.P99 + sc.late + times*machine
	}
	return max(2*quiet.P99, quiet.P99+barely) + machine
}

// settled returns the metrics with the garbage collected.
func (s *server) settled() metrics {
	s.collect()
	return s.metrics()
}

// restores are gauges that have to go back to where they were.
var restores = []string{"process_open_fds", "pomelod_connections", "pomelod_sessions", "pomelod_polling_sessions",
	"pomelod_members", "pomelod_rooms", "pomelod_inbound_bytes", "pomelod_memory_short", "pomelod_stuck"}

// recovers waits until what the server has is what it had before; the last thing that is not is the error.
func (s *server) recovers(before metrics) error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = s.differs(before); err == nil {
			return nil
		}
	}
	return err
}

func (s *server) differs(before metrics) error {
	now := s.settled()
	var all []error
	for _, name := range restores {
		if _, ok := now[name]; !ok {
			all = append(all, fmt.Errorf("there is no metric %s", name))
		}
		if now[name] > before[name] {
			all = append(all, fmt.Errorf("%s is %v, was %v", name, now[name], before[name]))
		}
	}
	if was, is := before["go_goroutines"], now["go_goroutines"]; is > was {
		all = append(all, fmt.Errorf("go_goroutines is %v, was %v", is, was))
	}
	if was, is := before["process_resident_memory_bytes"], now["process_resident_memory_bytes"]; is > was+mayKeep && !raceEnabled {
		all = append(all, fmt.Errorf("RSS is %.1f MB, was %.1f", is/1e6, was/1e6))
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("after the attack: %w", errors.Join(all...))
}
