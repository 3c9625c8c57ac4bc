//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// server is everything of one process, wired together.
type server struct {
	cfg       *config
	node      *router.Node
	drivers   []*netpoll.Epoll
	acceptor  *netpoll.Acceptor
	listeners []*netpoll.Listener
	admin     *admin.Server // nil without -admin
	ready     atomic.Bool
}

// Profiles by tag.
const (
	tagConnector = iota
	tagGate
)

// newServer binds every address, so that a port in use is known before anything runs.
func newServer(cfg *config) (_ *server, err error) {
	s := &server{cfg: cfg}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if os.Getenv("GOMAXPROCS") == "" { // a loop in epoll_wait holds its P: without two more, latency triples
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), cfg.loops+2))
	}
	dict, protos, err := cfg.wire()
	if err != nil {
		return nil, err
	}
	if err = s.listen(tagConnector, "connector", cfg.listen); err != nil {
		return nil, err
	}
	if cfg.gate != "" {
		if err = s.listen(tagGate, "gate", cfg.gate); err != nil {
			return nil, err
		}
	}
	connector, err := cfg.endpoint(s.listeners[0].Addr.Port)
	if err != nil {
		return nil, err
	}
	s.node, err = router.NewNode(router.Config{
		Loops: cfg.loops, Limits: cfg.limits, RoundTrip: cfg.roundTrip,
		Profiles: []*router.Profile{
			tagConnector: {Name: "connector", Type: router.Connector, HeartbeatSeconds: int(cfg.heartbeat / time.Second), Dict: dict, Protos: protos},
			tagGate:      {Name: "gate", Type: router.Gate, Protos: protos},
		},
		Connectors: []router.Endpoint{connector},
		NewDriver: func(int) (netpoll.Driver, error) {
			d, err := netpoll.NewEpoll()
			if err == nil {
				s.drivers = append(s.drivers, d)
			}
			return d, err
		},
	})
	if err != nil {
		return nil, err
	}
	if s.acceptor, err = netpoll.NewAcceptor(s.node.Loops(), cfg.maxConns); err != nil {
		return nil, err
	}
	if cfg.admin != "" {
		if s.admin, err = admin.Listen(cfg.admin, admin.Source{Snapshot: s.node.Snapshot, Accepted: s.acceptor.Stats, Ready: s.ready.Load, Version: version}); err != nil {
			return nil, explain(err, "admin", cfg.admin)
		}
	}
	return s, nil
}

func (s *server) listen(tag uint8, name, addr string) error {
	ln, err := netpoll.Listen(name, addr, tag)
	if err != nil {
		return explain(err, name, addr)
	}
	s.listeners = append(s.listeners, ln)
	return nil
}

// explain adds to an error of binding what an operator can do about it.
func explain(err error, name, addr string) error {
	flag := map[string]string{"connector": "-listen", "gate": "-gate", "admin": "-admin"}[name]
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another process has this port; stop it (ss -ltnp shows it) or choose another with %s", err, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need CAP_NET_BIND_SERVICE; choose another with %s", err, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine does not have that address; correct %s %s", err, flag, addr)
	}
	return fmt.Errorf("%w; correct %s %q", err, flag, addr)
}

// run serves until ctx ends, then ends in order: not ready, no new clients, goodbyes, and at last the loops.
func (s *server) run(ctx context.Context) error {
	var running sync.WaitGroup
	failed := make(chan error, len(s.drivers)+1)
	for i, l := range s.node.Loops() {
		running.Go(func() {
			if err := s.drivers[i].Run(l); err != nil {
				failed <- fmt.Errorf("event loop %d: %w", i, err)
			}
		})
	}
	running.Go(func() {
		if err := s.acceptor.Run(); err != nil {
			failed <- fmt.Errorf("acceptor: %w", err)
		}
	})
	for _, ln := range s.listeners {
		if err := s.acceptor.Add(ln); err != nil {
			return err
		}
		slog.Info("listening", "server", ln.Name, "addr", ln.Addr.String())
	}
	if s.admin != nil {
		s.admin.Serve()
		slog.Info("listening", "server", "admin", "addr", s.admin.Addr())
	}
	s.ready.Store(true)
	slog.Info("ready", "loops", s.cfg.loops, "max_conns", s.cfg.maxConns, "pid", os.Getpid())

	var err error
	select {
	case <-ctx.Done():
		slog.Info("ending", "drain", s.cfg.drain.String())
	case err = <-failed:
	}
	s.ready.Store(false)
	s.acceptor.Close()
	drain, cancel := context.WithTimeout(context.Background(), s.cfg.drain)
	defer cancel()
	if e := s.node.Shutdown(drain); e != nil {
		slog.Warn("not all clients left in order", "err", e)
	}
	for _, d := range s.drivers {
		d.Stop()
	}
	running.Wait()
	s.close()
	slog.Info("ended")
	return err
}

// close frees what newServer took.
func (s *server) close() {
	if s.admin != nil {
		s.admin.Close()
	}
	for _, d := range s.drivers {
		d.CloseAll()
	}
}

// addr is the address of a listener, for tests.
func (s *server) addr(tag int) *net.TCPAddr { return s.listeners[tag].Addr }
