//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fleet is the leader's view of its helpers (helper.go): the processes that hold a share of the members who only listen. A
// nil *fleet has none of them, and does nothing.
type fleet struct {
	run     *run
	split   split
	helpers []*remote
	conns   int // theirs
}

// remote is one helper.
type remote struct {
	process int
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan outcome // closed when the process has ended
}

// fleetFlags are the settings of a fleet.
type fleetFlags struct {
	processes int
	cpus      cpuList
}

func (s *fleetFlags) flags(f *flag.FlagSet) {
	f.IntVar(&s.processes, "processes", 1, "processes of the load generator: all but one hold members who only listen, some 19,000 each")
	f.Var(&s.cpus, "helper-cpus", "`cpus` for those; by default that of the load generator")
}

// maxProcesses: each has source addresses of its own, 127.0.1.x, 127.0.2.x and so on.
const maxProcesses = 100

// start starts the helpers for a crowd of members in rooms of size, of each of which some send.
func (s *fleetFlags) start(w *crowd, members, size, senders int) (*fleet, error) {
	switch n := s.processes; {
	case n < 1 || n > maxProcesses:
		return nil, fmt.Errorf("-processes %d: from 1 to %d", n, maxProcesses)
	case n == 1:
		return nil, nil
	case n > members:
		return nil, errors.New("-processes: there are fewer members")
	case w.run.slices > 1:
		return nil, errors.New("-processes and -slices: give one of them; helpers do not rest")
	}
	r := w.run
	f := &fleet{run: r, split: split{s.processes, members, size, senders}}
	w.split = f.split
	for i := 1; i < s.processes; i++ {
		h, err := launch(i, s.cpus)
		if err == nil {
			f.helpers = append(f.helpers, h)
			err = h.tell(order{Do: "setup", Process: i, Split: f.split, Connectors: r.target.connectors, Wire: r.entrant.mix.text, Tag: r.tag, Patience: r.patience})
		}
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("helper %d: %w", i, err)
		}
	}
	return f, nil
}

// launch starts this program once more. The main goroutine is locked to its thread, as Pdeathsig and affinity need.
func launch(process int, cpus []int) (*remote, error) {
	h := &remote{process: process, cmd: exec.Command("/proc/self/exe", helperName), answers: make(chan outcome, 1)}
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in, err := h.cmd.StdinPipe()
	out, err2 := h.cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(cpus) > 0 { // a child inherits the cpus of the thread that starts it
		var own unix.CPUSet
		set := cpuSet(cpus)
		if err := errors.Join(unix.SchedGetaffinity(0, &own), unix.SchedSetaffinity(0, &set)); err != nil {
			return nil, fmt.Errorf("-helper-cpus: %w", err)
		}
		defer unix.SchedSetaffinity(0, &own)
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.in = in
	go h.listen(out)
	return h, nil
}

// listen passes on what the helper answers. It sleeps while the server is measured: nobody asks then.
func (h *remote) listen(out io.Reader) {
	for d := json.NewDecoder(out); ; {
		var a outcome
		if d.Decode(&a) != nil {
			break
		}
		h.answers <- a
	}
	h.cmd.Wait()
	close(h.answers)
}

// tellTime bounds how long a helper may leave an order unread.
const tellTime = 5 * time.Second

func (h *remote) tell(o order) error {
	if p, ok := h.in.(interface{ SetWriteDeadline(time.Time) error }); ok {
		p.SetWriteDeadline(time.Now().Add(tellTime))
	}
	return json.NewEncoder(h.in).Encode(o)
}

// tell gives all helpers an order.
func (f *fleet) tell(o order) {
	for _, h := range f.helpers {
		h.tell(o) // one that has ended is noticed when it does not answer
	}
}

// helperTime is how long a helper may take for an order, besides -patience. To join a large room is the longest.
const helperTime = 10 * time.Minute

// await gets the answers to an order, by helper, while the leader's own conns go on. One that cannot be had is zero, and
// the error says why.
func (f *fleet) await(what string) (answers []outcome, err error) {
	end := clock() + int64(helperTime+f.run.patience)
	for _, h := range f.helpers {
		a, e := h.answer(f.run.driver, end)
		if errors.Is(e, errInterrupted) {
			return answers, e
		}
		if e == nil && a.Error != "" {
			e = errors.New(a.Error)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("helper %d, %s: %w", h.process, what, e))
		}
		answers = append(answers, a)
	}
	return answers, err
}

func (h *remote) answer(d *driver, end int64) (outcome, error) {
	for clock() < end {
		select {
		case a, ok := <-h.answers:
			if !ok {
				return a, fmt.Errorf("it ended: %v", h.cmd.ProcessState)
			}
			return a, nil
		default:
		}
		if _, err := d.turn(10 * time.Millisecond); err != nil {
			return outcome{}, err
		}
	}
	return outcome{}, errors.New("no answer")
}

// join has the members join, here and there, until there are n of them in rooms of size.
func (f *fleet) join(w *crowd, n, size int) error {
	if f == nil {
		return w.join(n, size)
	}
	f.tell(order{Do: "join", Joined: n})
	if err := w.join(n, size); err != nil {
		return err
	}
	w.run.progress("waiting for helpers")
	if _, err := f.await("join"); err != nil {
		return err
	}
	return f.quiet(w)
}

// quiet waits until nothing is pushed any more to anybody.
func (f *fleet) quiet(w *crowd) error {
	f.tell(order{Do: "quiet"})
	answers, err := f.await("quiet")
	if err != nil {
		return err
	}
	f.conns = 0
	for i, a := range answers {
		f.conns += a.Conns
		if a.Faults.void() {
			return fmt.Errorf("helper %d: %s", i+1, cmp.Or(strings.Join(a.Faults.Reasons, "; "), fmt.Sprintf("%+v", a.Faults)))
		}
	}
	return w.settle()
}

// drain gets what helpers found, once the leader's own messages are all accounted for: deliveries of the window go to its
// meter, faults to the run.
func (f *fleet) drain(t *traffic) error {
	if f == nil {
		return nil
	}
	o := order{Do: "drain", From: t.m.from, Till: t.m.till}
	for _, s := range t.crowd.senders {
		o.Accepted = append(o.Accepted, [2]uint32{s.answers - s.refused, s.sent - s.refused})
	}
	answers, err := f.found(o)
	for _, a := range answers {
		t.m.got += a.Deliveries
		t.m.reads += a.Reads
	}
	return err
}

// check gets the faults that helpers found where nothing was said.
func (f *fleet) check() error {
	if f == nil {
		return nil
	}
	_, err := f.found(order{Do: "drain"})
	return err
}

// found gives helpers their last order. One that has ended is a fault too, for nobody knows what its members missed.
func (f *fleet) found(o order) ([]outcome, error) {
	f.tell(o)
	answers, err := f.await("count")
	for i, a := range answers {
		f.run.faults().add(a.Faults, fmt.Sprintf("helper %d: ", i+1))
	}
	return answers, f.excuse(err)
}

// open is how many conns the helpers had when it was last quiet.
func (f *fleet) open() int {
	if f == nil {
		return 0
	}
	return f.conns
}

// excuse makes a fault of an error, but for an interrupt: there was a measurement, and it is void.
func (f *fleet) excuse(err error) error {
	if err == nil || errors.Is(err, errInterrupted) {
		return err
	}
	f.run.faults().reason("%v", err)
	return nil
}

// add takes what another process found.
func (f *faults) add(other faults, who string) {
	f.Lost += other.Lost
	f.Disordered += other.Disordered
	f.Duplicated += other.Duplicated
	f.Strange += other.Strange
	f.Closed += other.Closed
	for _, reason := range other.Reasons {
		f.reason("%s%s", who, reason)
	}
}

// quitTime is how long a helper may take to end its conns.
const quitTime = 2 * time.Second

// stop ends the helpers.
func (f *fleet) stop() {
	if f == nil {
		return
	}
	f.tell(order{Do: "quit"})
	end := time.Now().Add(quitTime)
	for _, h := range f.helpers {
		late := time.AfterFunc(time.Until(end), func() { h.cmd.Process.Kill() })
		for range h.answers {
		}
		late.Stop()
	}
}
