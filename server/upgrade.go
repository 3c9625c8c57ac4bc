//go:build linux

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/handover"
	"github.com/pomelod/pomelod/router"
)

// An upgrade: this process starts the binary that is there now, and gives it all it has: listeners, rooms, sessions and their sockets (package
// handover has the messages). takeover.go is the other side. Until Commit nothing has been given away, as descriptors are only duplicated: whatever
// goes wrong, the new process is killed, and when it is gone the event loops here go on. After Commit this process never touches those clients' sockets
// again, whatever happens.

// The times of an upgrade. Static but for tests.
var upgradeTimes = struct {
	ready   time.Duration // for the new process to read flags and files and to say that it could serve
	frozen  time.Duration // from the stop of the event loops to Taken; clients wait meanwhile
	serving time.Duration // from Commit until the new process says that it serves
	end     time.Duration // from then, beyond -drain, for the old one to end: more than it takes, with an App's OnStop functions
}{30 * time.Second, 5 * time.Second, 20 * time.Second, 20 * time.Second}

// A step is what has just been done in an upgrade, by the old process or the new one. Tests end either there.
type step string

// The steps, in their order.
const (
	oldStarted  step = "old started" // the new process
	oldGreeted  step = "old greeted"
	oldReady    step = "old ready" // has heard Ready
	oldStopped  step = "old stopped"
	oldExported step = "old exported"
	oldSentLoop step = "old sent loop"
	oldSentAll  step = "old sent all"
	oldTaken    step = "old taken" // has heard Taken
	oldCommit   step = "old commit"
	oldReleased step = "old released"

	newGreeted  step = "new greeted"
	newReady    step = "new ready"
	newLoop     step = "new loop" // has imported one
	newTaken    step = "new taken"
	newCommit   step = "new commit"
	newServing  step = "new serving"
	newReleased step = "new released"
)

// atStep is called after each step; tests set it.
var atStep = func(step) {}

// errProcessOne means that nobody would be left to be process 1.
var errProcessOne = errors.New("pomelod is process 1 here, with which the container ends: start it below an init (docker run --init) to upgrade it, or restart it")

// errStarted means that what has started this process would take it for dead.
var errStarted = errors.New("pomelod start runs this process, and would not know the new one: end that command and start it again, or run each node as a service of its own to upgrade it")

// upgradeRequest asks for an upgrade.
type upgradeRequest struct {
	done chan<- upgradeResult // takes one; nil if nobody waits
}

// upgradeResult is what becomes of an upgrade.
type upgradeResult struct {
	text string
	err  error
}

// replacedError is what becomes of an upgrade whose new process has everything, and has failed since: this one does not go on.
type replacedError struct {
	pid int
	err error
}

func (e *replacedError) Error() string {
	return fmt.Sprintf("the upgrade has happened: process %d has all clients and takes the place of this one, which ends; but it has not said that it serves: %v", e.pid, e.err)
}

func (e *replacedError) Unwrap() error { return e.err }

// keptError is why nothing has come of an upgrade: all is as it was.
type keptError struct{ err error }

func (e *keptError) Error() string {
	return "no upgrade; this process goes on as before: " + e.err.Error()
}

func (e *keptError) Unwrap() error { return e.err }

// successor is the new process.
type successor struct {
	ch    *handover.Channel
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended and is reaped
	err   error         // valid then
}

// start starts the new process.
func (p *program) start() (*successor, error) {
	cmd, ch, file, err := p.next()
	if err != nil {
		return nil, err
	}
	err = cmd.Start()
	file.Close()
	if err != nil {
		ch.Close()
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	n := &successor{ch: ch, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		n.err = cmd.Wait()
	}()
	return n, nil
}

// kill ends the new process, and returns when there is none any more. The channel is closed only then: its end would be a commit.
func (n *successor) kill() {
	_ = n.cmd.Process.Kill()
	<-n.ended
	n.ch.Close()
}

// endTime is more than a process takes to end when it has closed the channel.
const endTime = 5 * time.Second

// explain adds to an error with the new process how that ended, if it did by itself.
func (n *successor) explain(err error) error {
	if !errors.Is(err, handover.ErrClosed) {
		return err
	}
	select {
	case <-n.ended:
	case <-time.After(endTime):
		return err
	}
	return fmt.Errorf("the new process has ended (%v); its log says why", cmp.Or[any](n.err, "exit status 0"))
}

// upgrade hands this server over to a new process, and tells whether that has replaced it. If not, everything is as it was. If so this process has to
// end; what could not go along has been sent away, and an error means that the new process has failed since.
func (s *server) upgrade(ctx context.Context) (text string, replaced bool, err error) {
	if os.Getenv(startedEnv) != "" {
		return "", false, errStarted
	}
	if os.Getpid() == 1 {
		return "", false, errProcessOne
	}
	if s.fleet != nil && s.fleet.bus.Err() != nil {
		return "", false, fmt.Errorf("the new process could not go on as this node without NATS: %w", s.fleet.bus.Err())
	}
	began := time.Now()
	slog.Info("upgrading", "path", s.program.path)
	next, err := s.program.start()
	if err != nil {
		return "", false, err
	}
	h, committed := &handing{server: s, next: next}, false
	defer func() {
		if !committed {
			err = next.explain(err)
			next.kill() // first: both must never serve
			h.undo()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = next.cmd.Process.Kill() })
	defer stop()
	atStep(oldStarted)
	if h.tags, err = s.introduce(next); err != nil {
		return "", false, err
	}
	for until := time.Now().Add(movesTime); ; {
		if err = s.fleet.still(ctx, until); err != nil {
			return "", false, err
		}
		if err = h.freeze(); !errors.Is(err, cluster.ErrMoving) || time.Now().After(until) {
			break
		}
		h.undo()
	}
	if err == nil {
		err = h.send()
	}
	if err == nil && !stop() { // the new process may be dead; SIGTERM was first
		err = fmt.Errorf("pomelod is to end: %w", context.Cause(ctx))
	}
	if err == nil {
		err = next.ch.Send(handover.Message{Kind: handover.Commit}, time.Second)
	}
	if err != nil {
		return "", false, err
	}
	committed = true
	s.mustEnd()
	atStep(oldCommit)
	text, err = h.leave(began)
	return text, true, err
}

// answerUpgrade carries out a request, and tells whether another process has replaced this one.
func (s *server) answerUpgrade(ctx context.Context, request upgradeRequest) (replaced bool, err error) {
	text, replaced, err := s.upgrade(ctx)
	if !replaced {
		s.failures.Add(1)
		slog.Error("no upgrade; this process goes on as before", "err", err)
		err = &keptError{err}
	}
	if request.done != nil {
		request.done <- upgradeResult{text, err}
	}
	return replaced, err
}

// introduce tells the new process what runs, and returns which tags its listeners have there, once it is ready.
func (s *server) introduce(next *successor) (tags []int, err error) {
	g := &handover.Greeting{
		Protocol: handover.Protocol, Format: handoverFormat(), Version: Version, Node: s.node.Export(), Carries: s.node.Carries(), Upgrades: s.took.upgrades(),
		Fleet: s.fleet.greeting(&s.cfg.fleet),
	}
	m := handover.Message{Kind: handover.Hello}
	for i, ln := range s.listeners {
		l := &s.plan.listeners[i]
		g.Listeners = append(g.Listeners, handover.Listener{Name: ln.Name, Addr: l.addr, Told: s.cfg.told(l.profile)})
		m.Files = append(m.Files, ln.FD())
	}
	if s.admin != nil {
		fd, err := s.admin.Dup()
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		g.Admin = s.plan.admin
		m.Files = append(m.Files, fd)
	}
	m.Body = g.Append(nil)
	if err := next.ch.Send(m, upgradeTimes.ready); err != nil {
		return nil, err
	}
	atStep(oldGreeted)
	ready, err := next.ch.Expect(handover.Ready, upgradeTimes.ready)
	if err != nil {
		return nil, err
	}
	atStep(oldReady)
	return handover.ParseTags(ready.Body, len(s.listeners))
}

// told is what clients of a listener have been told that must go on holding: when they are silent for too long, and how they encode.
func (c *settings) told(p *router.Profile) string {
	l := &c.limits
	return fmt.Sprintf("%s, TLS %v, heartbeat %d s, dictionary %s, protos %s, sio %d+%d s, %d s", p.Type, p.TLS, p.HeartbeatSeconds, p.Dict.Version(), p.Protos.Version(),
		l.PingSeconds, l.PingTimeoutSeconds, l.PingTimeout4Seconds)
}

// handing is a server whose event loops rest, while it is handed over.
type handing struct {
	*server
	next    *successor
	tags    []int // of the listeners, in the new process
	begun   bool  // freeze was
	stopped bool  // the event loops rest
	rested  bool  // so does the fleet's side of the process
	pressed bool  // nothing is published here for the whole fleet
	at      int64 // when it began, in nanoseconds of CLOCK_MONOTONIC
	end     time.Time
	release func() // lets programs post again
	states  []*router.LoopState
	inFleet []byte // what the process is in its fleet
	stays   int
}

// takes tells whether the new process takes conns of a listener.
func (h *handing) takes(tag uint8) bool { return h.tags[tag] >= 0 }

// freeze stops accepting and all event loops, and finds out what each has. Nobody is served from here on.
func (h *handing) freeze() error {
	if err := h.rules.publishes.rest(); err != nil {
		return err
	}
	h.pressed = true
	h.begun = true
	h.frozen.Store(true)
	h.acceptor.Pause()
	h.at, h.end = monotonic(), time.Now().Add(h.server.fleet.mayRest(upgradeTimes.frozen))
	if err := h.pause.begin(h.drivers, time.Until(h.end)); err != nil {
		return err
	}
	h.stopped = true
	atStep(oldStopped)
	if h.server.fleet != nil {
		if err := h.server.fleet.Rest(time.Until(h.end)); err != nil {
			return err
		}
		h.rested = true
	}
	if err := h.flushHistory(); err != nil { // senders that wait for the disk are answered here
		return err
	}
	for {
		release, err := h.node.Rest(time.Until(h.end))
		if err != nil {
			return err
		}
		if h.server.fleet.settle() {
			release()
			continue
		}
		if err = h.export(); err == nil {
			h.release = release
			atStep(oldExported)
			return nil
		}
		release()
		if !errors.Is(err, router.ErrAtWork) { // else somebody has asked for figures meanwhile
			return err
		}
	}
}

// export has all loops tell what they have.
func (h *handing) export() error {
	h.states, h.stays = h.states[:0], 0
	fleet, err := h.server.fleet.export() // first: with copies on their way all of this is for nothing
	if err != nil {
		return err
	}
	h.inFleet = fleet
	if err := h.node.Pack(time.Until(h.end)); err != nil {
		return err
	}
	for i := range h.drivers {
		st, err := h.node.ExportLoop(i, h.takes)
		if err != nil {
			return err
		}
		for _, n := range st.Stays {
			h.stays += n
		}
		h.states = append(h.states, st)
	}
	return nil
}

// send gives the new process all of it, and returns when that has it.
func (h *handing) send() error {
	for i, st := range h.states {
		head := handover.LoopHead{Frozen: h.at, Conns: len(st.Conns), Stays: st.Stays, Shared: st.Shared}
		if err := h.tell(handover.Message{Kind: handover.Loop, Body: head.Append(nil)}); err != nil {
			return err
		}
		m := handover.Message{Kind: handover.Conns}
		for k, c := range st.Conns {
			handover.AppendConn(&m, handover.Conn(c))
			if m.Full() || k == len(st.Conns)-1 {
				if err := h.tell(m); err != nil {
					return err
				}
				m = handover.Message{Kind: handover.Conns, Body: m.Body[:0], Files: m.Files[:0]}
			}
		}
		h.states[i] = nil // it is long
		atStep(oldSentLoop)
	}
	if err := h.tell(handover.Message{Kind: handover.End, Body: h.inFleet}); err != nil {
		return err
	}
	h.inFleet = nil // it may be as long
	atStep(oldSentAll)
	_, err := h.next.ch.Expect(handover.Taken, time.Until(h.end))
	if err == nil {
		atStep(oldTaken)
	}
	return err
}

func (h *handing) tell(m handover.Message) error { return h.next.ch.Send(m, time.Until(h.end)) }

// undo has everything go on as before. There is no new process any more.
func (h *handing) undo() {
	if !h.begun {
		return
	}
	if h.release != nil {
		h.release()
	}
	if h.rested {
		h.server.fleet.Resume()
	}
	if h.stopped {
		h.node.Unpack()
		h.pause.end()
	}
	h.acceptor.Resume()
	h.frozen.Store(false)
	if h.pressed {
		h.rules.publishes.resume()
	}
	*h = handing{server: h.server, next: h.next, tags: h.tags}
}

// mustEnd has this process, whose clients are another one's, end at the latest when all that it may still do is over: hung, it would hold memory, and sockets of
// clients that have gone, for ever.
func (s *server) mustEnd() {
	time.AfterFunc(upgradeTimes.serving+s.cfg.drain+upgradeTimes.end, func() {
		slog.Error("this process, which another one has replaced, does not end by itself; it is ended", "stacks", stacks())
		if s.logs != nil {
			s.logs.close()
		}
		os.Exit(1)
	})
}

// leave introduces the new process to the service manager, and sends away the clients that could not go along.
func (h *handing) leave(began time.Time) (text string, err error) {
	h.ready.Store(false)
	if h.rested {
		h.server.fleet.Cede()
		go h.server.fleet.close()
	}
	h.acceptor.Close() // their sockets live on there
	h.closeHistory()   // the new process waits for it
	if h.admin != nil {
		go h.admin.Retire() // the command that has asked for the upgrade waits for what comes of it
	}
	if h.socket != nil {
		h.socket.Unlink() // before the new process hears that it is released
		go h.socket.Retire()
	}
	pid := h.next.cmd.Process.Pid
	h.manager.replaced(pid)
	_ = h.next.ch.Send(handover.Message{Kind: handover.Released}, time.Second)
	atStep(oldReleased)
	m, err := h.next.ch.Expect(handover.Serving, upgradeTimes.serving)
	if err != nil { // and its clients are cut off with it
		err = h.next.explain(err)
		slog.Error("the new process, which has all clients, does not say that it serves", "pid", pid, "err", err)
		err = &replacedError{pid, err}
	}
	text = fmt.Sprintf("process %d has taken over: %s", pid, m.Body)
	slog.Info("another process has taken over; this one ends", "pid", pid, "stays", h.stays, "took", time.Since(began).String())
	h.release()
	if h.stays > 0 {
		for i, d := range h.drivers {
			h.node.Sever(i, h.takes, d.Sever)
		}
		h.pause.end()
		h.sendAway()
	}
	h.next.ch.Close()
	return text, err
}

// monotonic is the time of CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return now.Nano()
}
