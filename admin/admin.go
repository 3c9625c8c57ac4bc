// Package admin serves what operators and their machines ask: health, metrics, profiles and an API (api.go), on a unix socket (socket.go) and on an
// address of its own that is not for clients. Who reaches the socket may ask everything. Who reaches the address may ask for figures without a password,
// and use the API with a token (token.go). What both keep out is the web: pages that an operator's browser shows (guard.go).
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/internal/logsink"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// Source is what a Server shows. Its functions must be safe from any goroutine.
type Source struct {
	Snapshot func(context.Context) (*router.Snapshot, error) // metrics of all event loops; waits for them
	Accepted func() netpoll.AcceptorStats
	Ready    func() bool                           // what /readyz answers
	Trouble  func() error                          // why it answers no all the same; nil where nothing else can be wrong
	Fleet    func() *Fleet                         // nil, or returns nil, where there is none
	Memory   func() Memory                         // nil where no budget is watched
	Logs     func() logsink.Stats                  // nil where the log goes elsewhere
	Takeover func() Takeover                       // nil where there are no upgrades
	Nodes    func(context.Context) (*Nodes, error) // the fleet's; nil where there is none
	Disk     func() *Disk                          // nil, or returns nil, where nothing is kept on disk
	Version  string

	// API is what /v1 asks and tells. It is served on a Socket, and elsewhere where there are Tokens.
	API    API
	Tokens *Tokens
	Mids   *Mids // what was published by an id, whatever way it came; nil: by this one alone
	// Profiles turns on /debug/pprof.
	Profiles bool
	// Hosts are the host names that requests may carry, besides IP addresses and names without a dot. All others are refused, as a web page
	// could send them (guard.go).
	Hosts []string

	local bool // it is for a Socket
}

// Memory is how much memory the process uses, in bytes.
type Memory struct {
	Used     int64
	Budget   int64 // 0: no budget
	Refusing bool  // new connections and enters are refused
	Closing  bool  // the connections with the largest backlogs are being closed
}

// Takeover is what a process has taken over from the one before it (pomelod upgrade), and how often it has tried in vain to hand that over.
type Takeover struct {
	Upgrades                int            // since the first process; 0: this is the first
	Failures                int            // after which this process has gone on
	Connections             int            // taken, polling sessions included
	Lost                    int            // that could not be taken, although they should
	Closed                  map[string]int // that could not go along, by reason
	Bytes                   int64
	FreezeMedian, FreezeMax time.Duration // for which connections were not served
}

// memory is what Memory tells, if anybody does.
func (s *Source) memory() Memory {
	if s.Memory == nil {
		return Memory{}
	}
	return s.Memory()
}

// snapshotTimeout is how long a loop has to answer before it counts as stuck.
const snapshotTimeout = 2 * time.Second

// Server is the admin HTTP server.
type Server struct {
	ln   net.Listener
	http *http.Server
}

// Listen binds addr ("host:port"), for New.
func Listen(addr string) (net.Listener, error) {
	ln, err := net.Listen(netpoll.Network(addr), addr)
	if err != nil {
		return nil, fmt.Errorf("listen for admin on %q: %w", addr, err)
	}
	return ln, nil
}

// New makes a server of a listener, which belongs to it from now on. Serve begins to answer.
func New(ln net.Listener, src Source) *Server {
	_, src.local = ln.(*Socket)
	return &Server{ln: &fewConns{Listener: ln}, http: &http.Server{
		Handler:        handler(src),
		ReadTimeout:    readTimeout,
		WriteTimeout:   answerTimeout,
		IdleTimeout:    2 * time.Minute, // a scrape a minute keeps its connection
		MaxHeaderBytes: 16 << 10,
		ConnContext:    withPeer,
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}}
}

// Addr is the address the server is bound to.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Dup is a descriptor of the listening socket, for another process. It is the caller's.
func (s *Server) Dup() (fd int, err error) {
	ln, ok := s.ln.(*fewConns).Listener.(syscall.Conn)
	if !ok {
		return -1, errors.New("the admin's listener has no descriptor")
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	e := raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(e, err)
}

// Unlink removes the file of a Socket, for another process to make its own: it must not be removed when that has been done.
func (s *Server) Unlink() {
	if socket, ok := s.ln.(*fewConns).Listener.(*Socket); ok {
		socket.remove()
	}
}

// Serve answers on a goroutine of its own until Close.
func (s *Server) Serve() {
	go func() {
		if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("admin server ended; metrics and health are gone", "err", err)
		}
	}()
}

// Retire takes no new requests, and returns when those that are being answered are, or have to be given up: an upgrade, which ends this process, is one of them.
func (s *Server) Retire() {
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTimeout)
	defer cancel()
	_ = s.http.Shutdown(ctx)
}

// Close ends the server: requests that are being answered have a second.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.http.Shutdown(ctx)
	_ = s.http.Close()
	_ = s.ln.Close()
}

const (
	// readTimeout is how long a request may take to come.
	readTimeout = 5 * time.Second
	// answerTimeout is how long an answer may take, with the time until its reader has taken it. A profile has as long beyond what it
	// records: pprof sees to that.
	answerTimeout = 15 * time.Second
)

// handler answers /livez, /readyz, /pid, /metrics, in a fleet /nodes, with src.Profiles /debug/pprof, and with src.API /v1 and /dashboard/.
func handler(src Source) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{src: src})

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 2 * snapshotTimeout}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
		defer cancel()
		_, err := src.Snapshot(ctx)
		answer(w, err)
	})
	mux.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		if m := src.memory(); !src.Ready() {
			err = errors.New("not accepting clients")
		} else if m.Refusing {
			err = fmt.Errorf("memory is short (%d of %d bytes): new connections and enters are refused", m.Used, m.Budget)
		}
		if err == nil && src.Trouble != nil {
			err = src.Trouble()
		}
		answer(w, err)
	})
	if src.Nodes != nil {
		mux.HandleFunc("GET /nodes", src.nodes)
	}
	if src.Profiles {
		profiles := http.NewServeMux()
		profiles.HandleFunc("GET /debug/pprof/", pprof.Index)
		profiles.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		profiles.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		profiles.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		profiles.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.Handle("/debug/pprof/", src.authorized(oneAtATime(profiles)))
	}
	if src.API != nil && (src.local || src.Tokens != nil) {
		mux.Handle("/v1/", src.authorized(newAPI(src.API, src.Mids)))
		serveDashboard(mux)
	}
	return guard(src.Hosts, mux)
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
