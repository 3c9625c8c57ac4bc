//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// island is a network of its own, connected by a cable that can be cut.
type island struct {
	cable string // our end
	host  string // our address on it
	do    chan func()
}

// newIsland needs the rights of root; without them, or without ip(8), the test is skipped.
func newIsland(t *testing.T) *island {
	t.Helper()
	pid := os.Getpid()
	network := fmt.Sprintf("10.213.%d.", pid%250) // of this process: others may do the same
	ours, theirs := network+"1", network+"2"
	l := &island{cable: fmt.Sprint("abuse", pid), host: ours, do: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the network with its last socket
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- err
			return
		}
		ready <- nil
		for f := range l.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Skip("no network of one's own:", err)
	}
	t.Cleanup(func() {
		_ = ip("link", "del", l.cable) // the kernel would keep it for as long as it tries to say goodbye
		close(l.do)
	})
	var tid int
	l.run(func() { tid = unix.Gettid() })
	err := ip("link", "add", l.cable, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(tid))
	if err == nil {
		err = errors.Join(ip("addr", "add", ours+"/30", "dev", l.cable), ip("link", "set", l.cable, "up"))
	}
	if err == nil {
		l.run(func() {
			err = errors.Join(ip("addr", "add", theirs+"/30", "dev", "eth0"), ip("link", "set", "eth0", "up"))
		})
	}
	if err != nil {
		t.Skip("no network of one's own:", err)
	}
	return l
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w, %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// run does something on the island.
func (l *island) run(f func()) {
	done := make(chan struct{})
	l.do <- func() { f(); close(done) }
	<-done
}

// cut cuts the cable, or mends it.
func (l *island) cut(off bool) error {
	return ip("link", "set", l.cable, map[bool]string{true: "down", false: "up"}[off])
}

// Clients whose network is gone, without a word, are let go when they have been silent for too long, whether somebody talks to them
// or not; whoever is in their room is told.
func TestVanishedClients(t *testing.T) {
	const vanished = 20
	land := newIsland(t)
	port := lowPort(t)
	scenario{
		name: "vanished clients", together: true,
		flags: []string{"-listen", "0.0.0.0:" + port, "-heartbeat", "1s"},
		attack: func(a *arena) error {
			if err := land.cut(false); err != nil {
				a.t.Fatal(err)
			}
			p, err := a.chatter(0, "observer", "vanishing")
			if err != nil {
				a.t.Fatal(err)
			}
			o := &observer{peer: p}
			p.late = soon
			observed := make(chan error, 1)
			go func() { observed <- o.observe() }()
			ended := make(chan struct{})
			defer close(ended)
			go o.stayAlive(ended, time.Second/2)
			for i := range vanished {
				var c net.Conn
				land.run(func() { c, err = net.DialTimeout("tcp", net.JoinHostPort(land.host, port), patience) })
				if err != nil {
					a.t.Fatal(err)
				}
				p := newPeer(c)
				a.keep(p)
				if err = p.loginBy(i%2 == 1); err == nil {
					_, err = p.enter(fmt.Sprint("vanishing", i), []string{"vanishing", "elsewhere"}[i/2%2])
				}
				if err != nil {
					a.t.Fatal(err)
				}
			}
			if err := land.cut(true); err != nil {
				a.t.Fatal(err)
			}
			if _, err := a.chatter(0, "the end", "vanishing"); err != nil {
				a.t.Fatal(err)
			}
			return <-observed
		},
		landed: func(d delta) error { return d.atLeast("pomelod_enters_total", vanished) },
		held: func(d delta) error {
			return d.atLeast(`pomelod_closed_total{reason="silent"}`, vanished)
		},
		without: weakness{flags: []string{"-heartbeat", "0", "-idle-timeout", "1h"}, fails: "the observer, with 10 in its room"},
	}.run(t)
}

// stayAlive sends heartbeats.
func (p *peer) stayAlive(ended <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			_ = p.send(heartbeat)
		}
	}
}
