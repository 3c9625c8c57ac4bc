//go:build linux

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/internal/handover"
	"github.com/pomelod/pomelod/router"
)

// takeover is the new process's side of an upgrade (upgrade.go). Nil in a process that was started in another way.
type takeover struct {
	ch    *handover.Channel
	hello *handover.Greeting
	files []int // that came with it, until somebody has them
	tags  []int // of the old process's listeners, here

	loops   []loopTaken
	whole   bool // all has come, and is imported
	figures admin.Takeover
}

// loopTaken is what is known of one event loop.
type loopTaken struct {
	frozen, served int64 // when it last turned there, and first here; nanoseconds of CLOCK_MONOTONIC
	conns          int
}

// releaseTime is how long a new process that serves waits for the old one to tell the service manager of it.
const releaseTime = 3 * time.Second

// forever is for what only the old process decides: when it ends, so does the channel.
const forever = math.MaxInt64 / 2 * time.Nanosecond

// errNoChild means that the old process, which ends its child when an upgrade fails, would end another one and go on beside this one.
var errNoChild = errors.New(`pomelod was started by a script that waits for it: have the script use exec (exec pomelod "$@")`)

// errJoins means that a running server would have become a node of a fleet, whose rooms belong to others.
var errJoins = errors.New("-nats: a running server cannot become a node of a fleet by an upgrade: restart it with these flags")

// errCarriesNot means that sessions would come along of which the program could make nothing.
var errCarriesNot = errors.New("the running program carries its sessions (App.Carry), and this one does not: register it here too, or restart instead of upgrading")

// meetPredecessor hears from the process whose place this one shall take, if it was started for that.
func meetPredecessor(environ []string) (*takeover, error) {
	value := variables(environ, handoverEnv)[handoverEnv]
	if value == "" {
		return nil, nil
	}
	os.Unsetenv(handoverEnv)
	fd, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("%s=%q is no number; only pomelod itself sets it", handoverEnv, value)
	}
	unix.CloseOnExec(fd)
	maker, credErr := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED) // the process that has made the pair
	ch, err := handover.Open(fd)
	if err != nil {
		return nil, fmt.Errorf("%s=%d: %w; only pomelod itself sets it", handoverEnv, fd, err)
	}
	t := &takeover{ch: ch, figures: admin.Takeover{Closed: make(map[string]int)}}
	m, err := ch.Expect(handover.Hello, upgradeTimes.ready)
	if err == nil {
		t.files = m.Files
		t.hello, err = handover.ParseGreeting(m.Body, len(m.Files), handoverFormat())
	}
	if err == nil && (credErr != nil || int(maker.Pid) != os.Getppid()) {
		err = errNoChild
	}
	if err != nil {
		t.refuse(err)
		return nil, err
	}
	atStep(newGreeted)
	return t, nil
}

// handoverFormat is router's, or a test's.
var handoverFormat = router.HandoverFormat

// upgrades is how many there have been.
func (t *takeover) upgrades() int {
	if t == nil {
		return 0
	}
	return t.hello.Upgrades + 1
}

// refuse tells the old process why this one ends, if err is not nil.
func (t *takeover) refuse(err error) {
	if t == nil || err == nil {
		return
	}
	_ = t.ch.Send(handover.Message{Kind: handover.Refuse, Body: []byte(err.Error())}, time.Second)
	handover.CloseFiles(t.files)
	t.ch.Close()
}

// succeed takes the sockets of the old process's listeners for those of the plan that are configured with the same address, and finds out whose clients
// can go on here.
func (p *plan) succeed(t *takeover) {
	if t == nil {
		return
	}
	files := t.files
	t.files = nil
	find := func(old *handover.Listener, is func(*plannedListener) bool) int {
		return slices.IndexFunc(p.listeners, func(l plannedListener) bool { return l.addr == old.Addr && is(&l) })
	}
	var renamed []int
	for i := range t.hello.Listeners {
		old := &t.hello.Listeners[i]
		at := find(old, func(l *plannedListener) bool { return l.profile.Name == old.Name })
		if at < 0 && !strings.HasSuffix(old.Addr, ":0") { // which port that was says the name alone
			renamed = append(renamed, i)
			continue
		}
		p.take(at, files[i])
	}
	for _, i := range renamed { // the port is not another's to bind
		p.take(find(&t.hello.Listeners[i], func(*plannedListener) bool { return true }), files[i])
	}
	if t.hello.Admin != "" {
		at := -1
		if p.admin == t.hello.Admin {
			at = len(p.listeners)
		}
		p.take(at, files[len(files)-1])
	}
	p.takeover = t
}

// take has listener at use a socket; -1 is none.
func (p *plan) take(at, fd int) {
	if _, taken := p.inherited[at]; at < 0 || taken {
		_ = unix.Close(fd)
		return
	}
	p.inherited[at] = fd
}

// match finds out which tags the old process's listeners have in this one, by name. Clients that were told something that does not hold here cannot come
// along, and come back by themselves.
func (t *takeover) match(cfg *settings, p *plan) {
	for _, old := range t.hello.Listeners {
		t.tags = append(t.tags, slices.IndexFunc(p.listeners, func(l plannedListener) bool {
			return l.profile.Name == old.Name && cfg.told(l.profile) == old.Told
		}))
	}
}

// takeOver takes all that the old process has. It returns nil when its clients are this process's.
func (s *server) takeOver(ctx context.Context) error {
	t := s.took
	stop := context.AfterFunc(ctx, t.ch.Close) // a signal before this process serves is heard
	defer stop()
	if err := s.fleet.hear(ctx); err != nil {
		t.refuse(err)
		return err
	}
	if err := t.ch.Send(handover.Message{Kind: handover.Ready, Body: handover.AppendTags(nil, t.tags)}, upgradeTimes.ready); err != nil {
		return err
	}
	atStep(newReady)
	err := s.importLoops()
	if err == nil {
		err = t.ch.Send(handover.Message{Kind: handover.Taken}, upgradeTimes.frozen)
	}
	if err == nil {
		atStep(newTaken)
		_, err = t.ch.Expect(handover.Commit, forever)
	}
	if errors.Is(err, handover.ErrClosed) && t.whole { // the old process is gone, and nobody else has its clients
		err = nil
	}
	if err != nil {
		t.refuse(err)
		return err
	}
	if !stop() {
		slog.Warn("a signal has come too late to keep this process from taking over")
	}
	atStep(newCommit)
	return nil
}

// runFrom takes over what another process has, if this one was started for that, and serves until ctx ends.
func (s *server) runFrom(ctx context.Context) error {
	if s.took != nil {
		if err := s.takeOver(ctx); err != nil {
			s.close()
			return fmt.Errorf("take over from the running process: %w", err)
		}
		s.rules.refresh() // what was given to that one since this one has read them
	}
	s.control.listen()
	if s.took == nil {
		go debug.FreeOSMemory() // what starting has left: 3 MB, which Go would keep for minutes although nobody may come
	}
	watch, end := context.WithCancel(ctx)
	defer end()
	go watchLeftovers(watch)
	return s.run(ctx)
}

// importLoops gives every event loop what it had in the old process, until that says that there is no more.
func (s *server) importLoops() error {
	t := s.took
	var st *router.LoopState
	missing := 0
	done := func() error { // with the loop that has come
		if st == nil {
			return nil
		}
		if missing != 0 {
			return fmt.Errorf("%d connections are missing: %w", missing, handover.ErrMalformed)
		}
		lost, err := s.node.ImportLoop(len(t.loops)-1, st)
		t.figures.Lost += lost
		closeConns(st)
		atStep(newLoop)
		return err
	}
	for {
		m, err := t.ch.Receive(upgradeTimes.ready)
		if err != nil {
			return fmt.Errorf("the old process has given up: %w", err)
		}
		t.figures.Bytes += int64(len(m.Body))
		switch m.Kind {
		case handover.Loop, handover.End:
			if err := done(); err != nil {
				return err
			}
			if st = nil; m.Kind == handover.End {
				if len(t.loops) != s.cfg.loops {
					return fmt.Errorf("%d of %d event loops have come: %w", len(t.loops), s.cfg.loops, handover.ErrMalformed)
				}
				if err := s.fleet.take(m.Body); err != nil {
					return err
				}
				t.whole = true
				return nil
			}
			head, err := handover.ParseLoopHead(m.Body)
			if err != nil || len(t.loops) == s.cfg.loops {
				return cmp.Or(err, handover.ErrMalformed)
			}
			st, missing = &router.LoopState{Shared: head.Shared}, head.Conns
			t.loops = append(t.loops, loopTaken{frozen: head.Frozen, conns: head.Conns})
			t.figures.Connections += head.Conns
			for why, n := range head.Stays {
				t.figures.Closed[why] += n
			}
		case handover.Conns:
			conns, err := handover.ParseConns(&m)
			if err != nil || st == nil {
				handover.CloseFiles(m.Files)
				return handover.ErrMalformed
			}
			missing -= len(conns)
			for _, c := range conns {
				st.Conns = append(st.Conns, router.ExportedConn(c))
			}
		default:
			handover.CloseFiles(m.Files)
			return fmt.Errorf("got %v: %w", m.Kind, handover.ErrMalformed)
		}
	}
}

// closeConns closes the sockets of conns that nobody has taken.
func closeConns(st *router.LoopState) {
	for _, c := range st.Conns {
		if c.FD >= 0 {
			_ = unix.Close(c.FD)
		}
	}
}

// turns notes that an event loop is about to turn.
func (t *takeover) turns(i int) {
	if t != nil && i < len(t.loops) {
		t.loops[i].served = monotonic()
	}
}

// finish tells the old process that clients are served here. All event loops turn.
func (t *takeover) finish() {
	f := &t.figures
	f.Upgrades = t.upgrades()
	f.FreezeMedian, f.FreezeMax = t.freezes()
	closed := 0
	var reasons []string
	for why, n := range f.Closed {
		closed += n
		reasons = append(reasons, fmt.Sprintf("%s: %d", why, n))
	}
	slices.Sort(reasons)
	slog.Info("took over", "connections", f.Connections, "lost", f.Lost, "closed", closed, "reasons", strings.Join(reasons, ", "), "bytes", f.Bytes,
		"freeze_p50", f.FreezeMedian.String(), "freeze_max", f.FreezeMax.String(), "upgrades", f.Upgrades, "from", t.hello.Version)
	text := fmt.Sprintf("%d connections moved, %d closed, frozen for %v at most", f.Connections, closed+f.Lost, f.FreezeMax.Round(time.Millisecond))
	_ = t.ch.Send(handover.Message{Kind: handover.Serving, Body: []byte(text)}, time.Second)
	atStep(newServing)
	_, _ = t.ch.Expect(handover.Released, releaseTime) // the service manager must hear from the old process first
	t.ch.Close()
	atStep(newReleased)
}

// freezes are the median and the longest of the times for which conns were not served.
func (t *takeover) freezes() (median, longest time.Duration) {
	all, conns := slices.Clone(t.loops), 0
	slices.SortFunc(all, func(a, b loopTaken) int { return cmp.Compare(a.served-a.frozen, b.served-b.frozen) })
	for _, l := range all {
		conns += l.conns
		longest = time.Duration(l.served - l.frozen)
	}
	median = longest
	for i, before := 0, 0; i < len(all); i++ {
		if before += all[i].conns; 2*before >= conns {
			return time.Duration(all[i].served - all[i].frozen), longest
		}
	}
	return median, longest
}

// takeoverFigures are for the admin server.
func (s *server) takeoverFigures() admin.Takeover {
	f := admin.Takeover{}
	if s.ready.Load() && s.took != nil {
		f = s.took.figures
	}
	f.Failures = int(s.failures.Load())
	return f
}
