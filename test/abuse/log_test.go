//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shortLog is a queue of some hundred lines, so that it need not take long to fill.
var shortLog = []edit{{"internal/logsink/writer.go", "const queueBytes = 1 << 20", "const queueBytes = 16 << 10"}}

// grumble has the server log lines, one for a SIGHUP, until a counter has grown by some. It is an error if that does not happen.
func (a *arena) grumble(counter string, some float64) error {
	before := a.metrics()[counter]
	for end := time.Now().Add(patience / 2); a.metrics()[counter] < before+some; {
		if time.Now().After(end) {
			return fmt.Errorf("%s does not grow", counter)
		}
		for range 200 {
			if err := a.server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				return err
			}
			time.Sleep(20 * time.Microsecond) // or the kernel makes one of many
		}
	}
	return nil
}

// provoke exceeds what one address may do, about which the acceptor logs, and then comes from another address: an acceptor that
// waits for the log takes nobody any more.
func (a *arena) provoke() error {
	for range 20 {
		if _, err := a.dial(0); err != nil {
			return err
		}
	}
	p, err := a.dial(1)
	if err != nil {
		return err
	}
	p.late = soon
	if err := p.login(); err != nil {
		return fmt.Errorf("nobody is accepted any more: %w", err)
	}
	return nil
}

// provoked are the limits for provoke; the witnesses' address keeps to them.
var provoked = []string{"-addr-connects", "1:10"}

// The log goes to a full disk: lines are lost and counted, each after one try.
func TestLogToFullDisk(t *testing.T) {
	const lines = 300
	scenario{
		name:    "log to a full disk",
		flags:   provoked,
		prepare: logTo(func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_WRONLY, 0) }),
		attack: func(a *arena) error {
			if err := a.provoke(); err != nil {
				return err
			}
			if err := a.spins(); err != nil {
				return err
			}
			return a.grumble("pomelod_log_errors_total", lines)
		},
		landed: func(d delta) error { return d.atLeast(`pomelod_refused_total{reason="addr_connects"}`, 10) },
		held:   func(d delta) error { return d.atLeast("pomelod_log_errors_total", lines) },
		without: weakness{
			edits: []edit{{"internal/logsink/writer.go", "				w.errors.Add(1)", "				for err != nil {\n					_, err = w.out.Write(line)\n				}"}},
			fails: "pomelod_log_errors_total has grown by 0",
		},
	}.run(t)
}

// logTo has the server log to a file.
func logTo(open func() (*os.File, error)) func(s *server) {
	return func(s *server) {
		f, err := open()
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { f.Close() })
		s.cmd.Stderr = f
	}
}

// pipeTo has the server log to a pipe with room for few lines, whose reader is given to take.
func pipeTo(take func(reader *os.File)) func(s *server) {
	return func(s *server) {
		r, w, err := os.Pipe()
		if err == nil {
			_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { w.Close() })
		s.cmd.Stderr = w
		take(r)
	}
}

// Nobody reads the log, which is a pipe: neither the acceptor nor anybody else waits for that.
func TestLogThatNobodyReads(t *testing.T) {
	const lines = 300
	var reader *os.File
	scenario{
		name:    "log that nobody reads",
		flags:   provoked,
		edits:   shortLog,
		prepare: pipeTo(func(r *os.File) { reader = r }),
		attack: func(a *arena) error {
			defer reader.Close() // or who waits for it could not end
			for range 100 {      // the pipe is full then
				_ = a.server.cmd.Process.Signal(syscall.SIGHUP)
				time.Sleep(time.Millisecond)
			}
			if err := a.provoke(); err != nil {
				return err
			}
			if err := a.spins(); err != nil {
				return err
			}
			return a.grumble("pomelod_log_dropped_total", lines)
		},
		landed: func(d delta) error { return d.atLeast(`pomelod_refused_total{reason="addr_connects"}`, 1) },
		held:   func(d delta) error { return d.atLeast("pomelod_log_dropped_total", lines) },
		without: weakness{
			edits: []edit{{"server/log.go", "logHandler(l.writer, ", "logHandler(w, "}},
			fails: "nobody is accepted any more",
		},
	}.run(t)
}

// The reader of the log goes (SIGPIPE): the server stays, and so does who chats.
func TestLogWithoutReader(t *testing.T) {
	const lines = 300
	var reader *os.File
	scenario{
		name:    "log without a reader",
		flags:   provoked,
		prepare: pipeTo(func(r *os.File) { reader = r }),
		attack: func(a *arena) error {
			reader.Close()
			for range 20 {
				_ = a.server.cmd.Process.Signal(syscall.SIGHUP)
				time.Sleep(50 * time.Millisecond)
				if a.over() {
					return nil // which is told without us
				}
			}
			if err := a.provoke(); err != nil {
				a.dies()
				return err
			}
			return a.grumble("pomelod_log_errors_total", lines)
		},
		landed: func(d delta) error { return d.atLeast(`pomelod_refused_total{reason="addr_connects"}`, 1) },
		held:   func(d delta) error { return d.atLeast("pomelod_log_errors_total", lines) },
		without: weakness{
			edits: []edit{{"server/main.go", "	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)", "	_, _ = signal.Notify, syscall.SIGPIPE"}},
			fails: "ended",
		},
	}.run(t)
}

// Clients cause the same fault over and over, here a panic that is put into the source for them: the log has some of it, and how much
// there was.
func TestLogFlood(t *testing.T) {
	const faults, most = 1000, 40
	scenario{
		name: "log flood",
		edits: []edit{{"router/proto_hybrid.go", "	m, err := codec.ParseMessage(b)\n	if err != nil {",
			"	m, err := codec.ParseMessage(b)\n	if string(m.Body) == `\"fault\"` {\n		panic(\"a fault\")\n	}\n	if err != nil {"}},
		attack: func(a *arena) error {
			n := a.n(faults)
			for i := range n {
				p, err := a.login(i % 100)
				if err == nil {
					err = p.send(message(0, routeSend, `"fault"`))
				}
				if err != nil {
					a.t.Fatal(err)
				}
				if _, err := p.gone(); err != nil {
					return err
				}
				p.Close()
			}
			if lines := strings.Count(a.stderr.String(), "\n"); lines > most {
				return fmt.Errorf("the log has %d lines after %d faults", lines, n)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_panics_total", faults/10) },
		held: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_log_suppressed_total", faults/10-20), d.atLeast(`pomelod_closed_total{reason="panic"}`, faults/10))
		},
		without: weakness{
			edits: []edit{{"internal/logsink/limit.go", "!h.admit(r) {", "false {"}},
			fails: "the log has",
		},
	}.run(t)
}
