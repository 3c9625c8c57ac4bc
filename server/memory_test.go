//go:build linux

package server

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/pomelod/pomelod/router"
)

// The budget is the cgroup's limit, else four fifths of the machine; less, where a limit of the address space leaves less.
func TestFindBudget(t *testing.T) {
	const tb, none = 1 << 40, math.MaxInt64
	known := func(n uint64) func() (uint64, error) { return func() (uint64, error) { return n, nil } }
	unknown := func(err error) func() (uint64, error) { return func() (uint64, error) { return 0, err } }
	for _, tc := range []struct {
		name            string
		flag            memoryFlag
		cgroup, machine func() (uint64, error)
		space           int64
		want            budget
	}{
		{"no cgroups", memoryAuto, unknown(memlimit.ErrCgroupsNotSupported), known(tb), none, budget{tb / 5 * 4, "machine"}},
		{"no limit", memoryAuto, unknown(memlimit.ErrNoLimit), known(tb), none, budget{tb / 5 * 4, "machine"}},
		{"a limit", memoryAuto, known(1 << 30), known(tb), none, budget{1 << 30, "cgroup"}},
		{"more than there is", memoryAuto, known(math.MaxUint64), known(tb), none, budget{tb / 5 * 4, "machine"}},
		{"given", 1 << 30, known(1 << 20), known(tb), 1 << 20, budget{1 << 30, "-memory"}},
		{"none wanted", 0, known(1 << 20), known(tb), 1 << 20, budget{0, "-memory"}},
		{"address space", memoryAuto, known(1 << 30), known(tb), 1 << 29, budget{1 << 29, "address space"}},
		{"more address space than memory", memoryAuto, known(1 << 30), known(tb), 4 << 30, budget{1 << 30, "cgroup"}},
	} {
		if got := findBudget(tc.flag, tc.cgroup, tc.machine, tc.space); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
	statm := []byte("1000 5 4 3 0 2 0\n") // pages, before anything has happened
	for limit, want := range map[uint64]int64{
		math.MaxUint64: none,
		1 << 30:        1<<30 - 1000*int64(os.Getpagesize()) - arena,
		1 << 20:        minMemory,
	} {
		if got := spaceLeft(limit, statm); got != want {
			t.Errorf("an address space of %d leaves %d, want %d", limit, got, want)
		}
	}
	if n := spaceLeft(1<<30, nil); n != none {
		t.Errorf("without /proc %d are left", n)
	}
	if b := findBudget(memoryAuto, memlimit.FromCgroup, memlimit.FromSystem, ownSpaceLeft()); b.bytes < 1<<27 || b.bytes == none {
		t.Errorf("this process may take %+v", b)
	}
	if n := goMemory(); n.taken < 1<<20 || n.taken > 1<<36 || n.lives < 1<<18 || n.lives > n.taken || n.made < n.taken/100 {
		t.Errorf("this process takes %+v bytes", n)
	}
}

// fakeMemory is a memory whose readings a test gives; it notes what was done about them.
type fakeMemory struct {
	*memory
	reading int64 // what Go takes
	lives   int64
	usage   router.Usage
	did     []string
}

func newFakeMemory(budget int64) *fakeMemory {
	f := &fakeMemory{}
	note := func(format string, args ...any) { f.did = append(f.did, fmt.Sprintf(format, args...)) }
	f.memory = &memory{
		budget:   budget,
		read:     func() (goUsage, router.Usage) { return goUsage{taken: f.reading, lives: f.lives}, f.usage },
		refuse:   func(on bool) { note("refuse %v", on) },
		buffered: func(n int64) { note("buffered %d", n) },
	}
	return f
}

// From 80% on new work is refused and from 90% on backlogs are closed, a quarter a second; both end by themselves, and not at once.
func TestMemorySteps(t *testing.T) {
	f := newFakeMemory(1000)
	now := time.Unix(0, 0)
	for _, tc := range []struct {
		reading  int64
		refusing bool
		want     string
	}{
		{790, false, "[]"},
		{800, true, "[refuse true]"},
		{850, true, "[]"},
		{750, true, "[]"},
		{749, false, "[refuse false]"},
		{790, false, "[]"},
		{900, true, "[refuse true buffered 600]"},
		{890, true, "[buffered 600]"},
		{850, true, "[buffered 600]"},
		{849, true, "[buffered 9223372036854775807]"},
		{849, true, "[]"},
		{2000, true, "[buffered 600]"},
		{100, false, "[refuse false buffered 9223372036854775807]"},
		{100, false, "[]"},
	} {
		f.did, f.reading, f.usage.Buffered = nil, tc.reading, 800
		now = now.Add(memoryEvery)
		f.step(now)
		if got := fmt.Sprint(f.did); got != tc.want || f.state().Refusing != tc.refusing {
			t.Errorf("at %d: %s, refusing %v, want %s", tc.reading, got, f.state().Refusing, tc.want)
		}
	}
}

// Backlogs that are nothing are left alone, unless the sockets before them are many and full.
func TestMemoryTakesFullSockets(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		slow int
		want string
	}{
		{0, "[refuse true buffered 10485760]"},
		{10, "[refuse true buffered 7864320]"},
		{40, "[refuse true buffered 3072]"},
		{4000, "[refuse true buffered 3072]"},
	} {
		f := newFakeMemory(1000 * mib)
		f.reading, f.usage = 950*mib, router.Usage{Slow: tc.slow, Buffered: 4096}
		f.step(time.Now())
		if got := fmt.Sprint(f.did); got != tc.want {
			t.Errorf("%d sockets are full: %s, want %s", tc.slow, got, tc.want)
		}
	}
}

// What the kernel has for the sockets counts, and Go collects so much the sooner.
func TestMemoryCountsSockets(t *testing.T) {
	const mib = 1 << 20
	f := newFakeMemory(1000 * mib)
	var limit int64
	f.limit = func(n int64) { limit = n }
	f.reading = 100 * mib
	f.usage = router.Usage{Conns: 51200, Slow: 1000}
	f.step(time.Now())
	if want := int64(100+250+250) * mib; f.used.Load() != want || limit != 200*mib {
		t.Errorf("used %d, want %d; Go's limit %d MiB", f.used.Load(), want, limit/mib)
	}
	f.usage.Conns *= 10
	f.step(time.Now())
	if limit != 125*mib {
		t.Errorf("Go's limit %d MiB", limit/mib)
	}
	f.lives = 240 * mib // collecting frees none of it
	f.step(time.Now())
	if limit != 300*mib {
		t.Errorf("Go's limit %d MiB, where 240 live", limit/mib)
	}
	f.lives = 800 * mib // a quarter more is all of the budget
	f.step(time.Now())
	if want := f.percent(shedUntil); limit != want {
		t.Errorf("Go's limit %d MiB, where 800 live, want %d", limit/mib, want/mib)
	}
}

// The largest backlogs together may be a quarter of the budget, unless the operator says otherwise.
func TestOutboundIsPartOfTheBudget(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want int64
	}{
		{[]string{"-memory", "256MiB"}, 64 << 20},
		{[]string{"-memory", "100GiB"}, 256 << 20},
		{[]string{"-memory", "0"}, 256 << 20},
		{[]string{"-limits", "off"}, 256 << 20},
		{[]string{"-memory", "256MiB", "-max-buffered", "100MiB"}, 100 << 20},
		{[]string{"-memory", "32MiB", "-outbound", "16MiB"}, 16 << 20},
	} {
		c, err := parseFlags(tc.args, nil, io.Discard)
		if err != nil || c.limits.Conn.Buffered != tc.want {
			t.Errorf("%v: %v, %v", tc.args, c, err)
		}
	}
	if _, err := parseFlags([]string{"-memory", "1MiB"}, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "-memory 0") {
		t.Errorf("1 MiB: %v", err)
	}
}

// Short of memory a server refuses connections and enters, says so, and is not ready; who is in goes on. When there is enough again
// everything is as before.
func TestShortOfMemory(t *testing.T) {
	cfg, err := parseFlags([]string{"-admin", "127.0.0.1:0", "-listen", "127.0.0.1:0", "-gate", "", "-memory", "100MiB"}, nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cfg.plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServer(cfg, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reading atomic.Int64
	srv.memory.read = func() (goUsage, router.Usage) { return goUsage{taken: reading.Load()}, srv.node.Usage() }
	srv.memory.limit = nil
	s := startServer(t, srv)
	in, out := login(t, s.addr("connector")), login(t, s.addr("connector"))
	in.enter("in", "r")
	readyUntil(t, s, http.StatusOK) // it is not, at first, for another reason
	reading.Store(81 << 20)
	if text := readyUntil(t, s, http.StatusServiceUnavailable); !strings.Contains(text, "memory is short") {
		t.Errorf("not ready for %q", text)
	}
	if got := out.enter("out", "r"); got != `{"code":500,"error":true,"reason":"memory"}` {
		t.Error(got)
	}
	if got := in.ask("chat.chatHandler.send", `{"content":"x","target":"*"}`); got != `{}` {
		t.Error(got)
	}
	conn, err := net.DialTCP("tcp", nil, s.addr("connector"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("a new connection got %d bytes, %v", n, err)
	}
	text := metricsOf(t, s)
	for _, want := range []string{"pomelod_memory_short 1\n", "pomelod_refused_total{reason=\"memory\"} 1\n", `pomelod_limited_total{reason="memory"} 1` + "\n", "pomelod_memory_budget_bytes 1.048576e+08\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
	reading.Store(1 << 20)
	readyUntil(t, s, http.StatusOK)
	if got := out.enter("out", "r"); got != `{"users":["in","out"]}` {
		t.Error(got)
	}
	login(t, s.addr("connector"))
}

// readyUntil asks /readyz until it answers with a status, and returns the text.
func readyUntil(t *testing.T, s *running, status int) string {
	t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + s.admin.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == status {
			return string(text)
		}
		if time.Now().After(end) {
			t.Fatalf("/readyz answers %d %s", resp.StatusCode, text)
		}
	}
}

func metricsOf(t *testing.T, s *running) string {
	t.Helper()
	resp, err := http.Get("http://" + s.admin.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
