//go:build linux

package server

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/router"
)

// budget is how much memory pomelod may take, and what says so. 0 bytes: nothing does.
type budget struct {
	bytes  int64
	source string
}

// findBudget is -memory, or what the cgroup allows, or four fifths of what the machine has; and no more than what a limit of the
// address space leaves. The functions are memlimit's but in tests; an error of theirs means that there is no such limit.
func findBudget(flag memoryFlag, cgroup, machine func() (uint64, error), spaceLeft int64) budget {
	if flag != memoryAuto {
		return budget{int64(flag), "-memory"}
	}
	all := limitOf(machine)
	b := budget{all / 5 * 4, "machine"}
	if n := limitOf(cgroup); n < all {
		b = budget{n, "cgroup"}
	}
	if spaceLeft < b.bytes {
		b = budget{spaceLeft, "address space"}
	}
	return b
}

// limitOf is what read says, and more than any machine has when there is no limit.
func limitOf(read func() (uint64, error)) int64 {
	n, err := read()
	if err != nil || n == 0 || n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}

// arena is what Go takes of the address space at a time.
const arena = 64 << 20

// spaceLeft is how much memory a limit of the address space (ulimit -v) leaves, math.MaxInt64 for no limit. memlimit does not know
// such limits, and without this clients that do not read end the process: TestSmallAddressSpace in test/abuse shows it. Most of what Go has taken when it has
// started is room that it will not use, such as maps of all memory there could be. An arena is kept back, as the last one may not
// fit. With less than pomelod needs it starts all the same, and Go takes what it can.
func spaceLeft(limit uint64, statm []byte) int64 {
	fields := strings.Fields(string(statm)) // pages: all, then others
	if len(fields) == 0 || limit > math.MaxInt64 {
		return math.MaxInt64
	}
	pages, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return max(int64(limit)-pages*int64(os.Getpagesize())-arena, minMemory)
}

// ownSpaceLeft is spaceLeft of this process.
func ownSpaceLeft() int64 {
	var r unix.Rlimit
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil || unix.Getrlimit(unix.RLIMIT_AS, &r) != nil {
		return math.MaxInt64
	}
	return spaceLeft(r.Cur, statm)
}

// From refuseAt percent of the budget on new work is refused, until it is below refuseUntil again; the same for shedding. Go
// collects so that it stays below collectAt if it can: what is refused is refused for what lives, not for garbage.
const (
	collectAt             = 70
	refuseUntil, refuseAt = 75, 80
	shedUntil, shedAt     = 85, 90
	memoryEvery           = time.Second
	memoryWarnEvery       = time.Minute
	// Kernel memory of a socket, measured: idle, with a full send buffer, and with a full receive buffer.
	idleSocket, fullSocket, unreadSocket = 5 << 10, 256 << 10, 64 << 10
)

// memory compares what pomelod takes with its budget, once a second.
type memory struct {
	// Static after construction.
	budget   int64
	read     func() (goUsage, router.Usage)
	refuse   func(bool)  // new connections and enters
	buffered func(int64) // bound what is buffered for connections
	limit    func(int64) // have Go collect from here on; nil when GOMEMLIMIT says so already

	used     atomic.Int64
	refusing atomic.Bool
	shedding atomic.Bool

	// Owned by the goroutine that steps.
	warned time.Time
	goal   int64 // as last given to limit
}

// goUsage is what Go has of the kernel.
type goUsage struct {
	taken int64 // and has not given back
	lives int64 // of this, what the last collection has left, and what no collection can free
	made  int64 // allocated since the start
}

// step takes one reading and acts on it.
func (m *memory) step(now time.Time) {
	goes, usage := m.read()
	full := int64(usage.Slow)*fullSocket + int64(usage.Unread)*unreadSocket
	kernel := int64(usage.Conns)*idleSocket + full
	used := goes.taken + kernel
	m.used.Store(used)
	if goal := m.goalFor(goes.lives, kernel); m.limit != nil && goal/m.granule() != m.goal/m.granule() {
		m.goal = goal
		m.limit(goal)
	}
	if was := m.refusing.Load(); was != crossed(was, used, m.percent(refuseUntil), m.percent(refuseAt)) {
		m.refusing.Store(!was)
		m.refuse(!was)
		if was {
			slog.Info("memory suffices again; new connections and enters are taken", "used", used, "budget", m.budget)
		}
	}
	was := m.shedding.Load()
	is := crossed(was, used, m.percent(shedUntil), m.percent(shedAt))
	m.shedding.Store(is)
	switch {
	case is: // a quarter of the backlogs each second, the largest first, until there is enough
		// Where they and their sockets are a hundredth of the budget, it would end people for nothing. Sockets that are full count even
		// if next to nothing waits behind each: else many such would fill the memory and be left alone.
		m.buffered(max(usage.Buffered/4*3, m.budget/100-full))
	case was:
		m.buffered(math.MaxInt64)
	}
	if m.refusing.Load() && now.Sub(m.warned) >= memoryWarnEvery {
		m.warned = now
		slog.Warn("memory is short; new connections and enters are refused", "used", used, "kernel", kernel, "budget", m.budget,
			"closing_backlogs", is, "hint", "give pomelod more (MemoryMax=, -memory), or lower -max-conns")
	}
}

// goalFor is from where on Go collects: at collectAt, less what the kernel has. But where that is less than what lives, as where thousands of sockets are
// not read, collecting frees nothing, and Go would do nothing else for half of the time that there is; then it is a quarter above what lives. Not beyond
// shedUntil, though: else garbage alone would end people, and what they had would be given back too late for a cgroup.
func (m *memory) goalFor(lives, kernel int64) int64 {
	return max(m.percent(collectAt)-kernel, m.budget/8, min(lives+lives/4, m.percent(shedUntil)))
}

// granule is how far Go's limit must move to be set anew.
func (m *memory) granule() int64 { return max(m.budget/64, 1) }

func (m *memory) percent(n int64) int64 { return m.budget / 100 * n }

// crossed is a threshold with hysteresis.
func crossed(was bool, n, until, at int64) bool { return n >= at || was && n >= until }

// state is for the admin server.
func (m *memory) state() admin.Memory {
	if m == nil {
		return admin.Memory{}
	}
	return admin.Memory{Used: m.used.Load(), Budget: m.budget, Refusing: m.refusing.Load(), Closing: m.shedding.Load()}
}

// watchMemory steps until ctx ends. Without a budget it does nothing.
func (s *server) watchMemory(ctx context.Context) {
	m := s.memory
	if m == nil {
		return
	}
	slog.Info("memory", "budget", m.budget, "source", s.cfg.budget.source)
	if m.limit != nil {
		before := debug.SetMemoryLimit(-1)
		defer debug.SetMemoryLimit(before)
	}
	m.step(time.Now())
	for range ticks(ctx, memoryEvery) {
		m.step(time.Now())
	}
}

// newMemory is the watch over s, nil without a budget.
func newMemory(s *server) *memory {
	if s.cfg.budget.bytes == 0 {
		return nil
	}
	m := &memory{
		budget:   s.cfg.budget.bytes,
		read:     func() (goUsage, router.Usage) { return goMemory(), s.node.Usage() },
		refuse:   func(on bool) { s.acceptor.SetRefuse(on); s.node.SetShort(on) },
		buffered: s.node.SetBuffered,
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		m.limit = func(n int64) { debug.SetMemoryLimit(n) }
	}
	return m
}

// goMemory reads what Go has of the kernel.
func goMemory() goUsage {
	names := []string{"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/gc/heap/live:bytes",
		"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes", "/gc/heap/allocs:bytes"}
	samples, bytes := make([]metrics.Sample, len(names)), make([]int64, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for i, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			panic(fmt.Sprintf("runtime/metrics has no %s", s.Name))
		}
		bytes[i] = int64(s.Value.Uint64())
	}
	taken, heap := bytes[0]-bytes[1], bytes[3]+bytes[4]+bytes[5]
	return goUsage{taken: taken, lives: bytes[2] + taken - heap, made: bytes[6]}
}
