//go:build linux

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/history"
	"github.com/pomelod/pomelod/internal/logsink"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
	"github.com/pomelod/pomelod/web"
)

// server is everything of one process, wired together.
type server struct {
	cfg       *settings
	plan      *plan
	node      *router.Node
	drivers   []*netpoll.Epoll
	acceptor  *netpoll.Acceptor
	listeners []*netpoll.Listener
	admin     *admin.Server       // nil without -admin
	socket    *admin.Server       // the same on a unix socket; nil without
	tokens    *admin.Tokens       // nil without -admin-token-file
	mids      admin.Mids          // published by both ways to the API
	rules     *moderation         // what operators forbid
	manager   *manager            // nil when no service manager listens
	memory    *memory             // nil without a budget
	hands     *netpoll.Handshakes // nil where nobody speaks TLS
	logs      *logs               // nil when the log is not ours
	fleet     *fleetNode          // nil without -nats
	history   *history.Store      // nil without -history-dir
	ready     atomic.Bool
	accepting bool // the acceptor has the listeners
	program   program
	control   *control  // nil where nobody may ask for an upgrade
	took      *takeover // what this process has taken over, nil for nothing
	pause     *pause    // of the event loops
	frozen    atomic.Bool
	failures  atomic.Int64  // of upgrades
	retired   chan string   // which node of the fleet was asked to have this one end
	app       *app.App      // nil for none
	started   bool          // the App's OnStart functions have been called
	loopsEnd  time.Duration // loopsEndTime; tests have time, as the machine may be busy

	historyBegun bool // it is being written
}

// newServer binds every address, so that a port in use is known before anything runs.
func newServer(cfg *settings, p *plan, app *app.App) (_ *server, err error) {
	s := &server{cfg: cfg, plan: p, took: p.takeover, retired: make(chan string, 1), app: app, loopsEnd: loopsEndTime}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err = p.checkAddrs(); err != nil {
		return nil, err
	}
	unbound := s.bind()
	var kept []channel.KeptRoom
	if unbound == nil {
		if kept, err = s.openHistory(); err != nil {
			return nil, err
		}
	}
	err = s.build(app, kept)
	if unbound != nil && !errors.As(err, new(settingsError)) { // what is wrong with flags is told first, whatever the machine says
		err = unbound
	}
	if err != nil {
		return nil, err
	}
	if p.admin != "" {
		if err = s.listenAdmin(); err != nil {
			return nil, err
		}
	}
	if s.took == nil { // else the process before this one has the socket until it has given everything
		if err = s.listenSocket(); err != nil {
			return nil, err
		}
	}
	if err = s.node.StartApp(); err != nil {
		return nil, err
	}
	s.started = true
	return s, nil
}

func (s *server) bind() error {
	for i, l := range s.plan.listeners {
		if err := s.listen(uint8(i), l); err != nil {
			return err
		}
	}
	return nil
}

// checkServer is newServer without binding, and builds nothing that stays: what it does not refuse starts, if the machine has
// the addresses and the ports are free.
func checkServer(cfg *settings, p *plan, app *app.App) error {
	if err := p.checkAddrs(); err != nil {
		return err
	}
	s := &server{cfg: cfg, plan: p}
	defer s.close()
	return s.build(app, nil)
}

// build makes everything but listeners; rooms begin with what was kept of them.
func (s *server) build(app *app.App, kept []channel.KeptRoom) (err error) {
	cfg, p := s.cfg, s.plan
	if os.Getenv("GOMAXPROCS") == "" { // a loop in epoll_wait holds its P: without two more, latency triples
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), cfg.loops+2))
	}
	if p.certificates != nil {
		s.hands = netpoll.NewHandshakes(p.certificates.config(), cfg.tls.limits, nil)
	}
	s.pause = newPause()
	if err = s.makeNode(app, kept); err != nil {
		return err
	}
	if s.acceptor, err = netpoll.NewAcceptor(s.node.Loops(), cfg.maxConns); err != nil {
		return err
	}
	cfg.rooms.told = s.node.SetPolicies
	if cfg.rooms.path != "" {
		p.reloads.add("rooms", cfg.rooms.read)
	}
	p.reloads.begin(cfg, s.useFlags)
	s.memory = newMemory(s)
	if err = s.loadRules(); err != nil {
		return err
	}
	if cfg.tokenFile != "" {
		if s.tokens, err = admin.ReadTokens(cfg.tokenFile); err != nil {
			return settingsError{err}
		}
		p.reloads.add("tokens", s.tokens.Read)
	}
	return nil
}

// makeNode makes the router's node and, in a fleet, the fleet's.
func (s *server) makeNode(app *app.App, kept []channel.KeptRoom) (err error) {
	cfg, p := s.cfg, s.plan
	profiles := make([]*router.Profile, len(p.listeners))
	for i, l := range p.listeners {
		profiles[i] = l.profile
	}
	var predecessor []byte
	var tags []int
	if t := s.took; t != nil {
		t.match(cfg, p)
		predecessor, tags = t.hello.Node, t.tags
		if err := cfg.fleet.succeeds(t.hello.Fleet); err != nil {
			return settingsError{err}
		}
	}
	var elsewhere channel.Inlet
	connectors := p.connectors(s.listeners)
	if s.fleet, err = newFleetNode(cfg, connectors, s.announce, s.retire, func(list []cluster.Note) { s.rules.News(list) }); err != nil {
		return err
	}
	if s.fleet != nil {
		elsewhere, connectors = s.fleet.Inlet(), nil
	}
	var journal channel.Journal
	if s.history != nil {
		journal = s.history
	}
	var refused error // by the kernel
	s.node, err = router.NewNode(router.Config{
		Loops: cfg.loops, Limits: cfg.limits, Access: cfg.access, RoundTrip: cfg.roundTrip, Handshakes: s.hands,
		Profiles: profiles, Connectors: connectors, Elsewhere: elsewhere, App: app, Files: cfg.files(), Stay: !cfg.move, CESU8: cfg.cesu8, Names: cfg.naming.rules(), Logins: cfg.login.logins(), Filter: cfg.filter.filter(), Policy: cfg.rooms.policy,
		Journal: journal, Restored: kept,
		Predecessor: predecessor, PredecessorTags: tags,
		NewDriver: func(int) (netpoll.Driver, error) {
			d, err := netpoll.NewEpoll()
			if err == nil {
				s.drivers = append(s.drivers, d)
			}
			refused = err
			return d, err
		},
	})
	if err == nil && s.took != nil && s.took.hello.Carries && !s.node.Carries() {
		err = errCarriesNot
	}
	if err != nil && refused == nil { // what NewNode itself refuses are flags and files
		return settingsError{err}
	}
	if err != nil {
		return err
	}
	if s.fleet != nil {
		s.fleet.Join(s.node)
	}
	return nil
}

func (s *server) listenAdmin() error {
	src := s.source()
	ln, err := s.plan.inheritedAdmin()
	if err != nil {
		return err
	}
	if ln == nil {
		if ln, err = admin.Listen(s.plan.admin); err != nil {
			return explain(err, "-admin", s.plan.admin)
		}
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	loopback := ok && addr.IP.IsLoopback()
	if src.Hosts, src.Profiles = s.cfg.adminHosts, s.cfg.pprof; !s.cfg.set["pprof"] {
		src.Profiles = loopback
	}
	s.admin = admin.New(ln, src)
	return nil
}

// source is what the admin servers show.
func (s *server) source() admin.Source {
	src := admin.Source{Snapshot: s.node.Snapshot, Accepted: s.acceptor.Stats, Ready: s.ready.Load, Trouble: s.fleet.trouble, Fleet: s.fleet.stats, Memory: s.memory.state, Version: Version,
		Logs: func() logsink.Stats { return s.logs.stats() }, Takeover: s.takeoverFigures, Disk: s.historyFigures, API: api{s.node, s.rules, s}, Tokens: s.tokens, Mids: &s.mids}
	if s.fleet != nil {
		src.Nodes = s.fleet.nodes
	}
	return src
}

// files are what is served by HTTP.
func (c *settings) files() (files []router.File) {
	if !c.page {
		return nil
	}
	for _, f := range web.Files(c.login.page) {
		served := router.File{Path: f.Path, ContentType: f.ContentType, ETag: f.ETag, Body: f.Body, Gzip: f.Gzip}
		if f.CSP {
			served.Headers = append(served.Headers, codec.HTTPHeader{Name: "Content-Security-Policy", Value: web.Policy},
				codec.HTTPHeader{Name: "Referrer-Policy", Value: "no-referrer"})
		}
		files = append(files, served)
	}
	return files
}

func (s *server) listen(tag uint8, l plannedListener) error {
	var ln *netpoll.Listener
	fd, inherited := s.plan.inherited[int(tag)]
	var err error
	if inherited {
		ln, err = netpoll.Inherit(l.profile.Name, fd, tag)
	} else if ln, err = netpoll.Listen(l.profile.Name, l.addr, tag); err != nil {
		err = explain(err, l.flag, l.addr)
	}
	if err != nil {
		return err
	}
	if !inherited && len(s.plan.inherited) > 0 {
		slog.Warn("no socket was passed for this listener; it is bound, and refuses clients while pomelod restarts", "id", ln.Name, "addr", ln.Addr.String())
	}
	ln.Max = l.max
	if ip := ln.Addr.AddrPort().Addr().Unmap(); !ip.IsUnspecified() {
		l.profile.Addr = ip
	}
	s.listeners = append(s.listeners, ln)
	return nil
}

// explain adds to an error of binding what an operator can do about it. source is the flag or file the address is from.
func explain(err error, source, addr string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another process has this port; stop it (ss -ltnp shows it) or change %s", err, source)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need CAP_NET_BIND_SERVICE; give it, or change %s", err, source)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine does not have that address; change %s", err, source)
	}
	return fmt.Errorf("%w; correct %s (%s)", err, source, addr)
}

// run serves until ctx ends, then ends in order: not ready, no new clients, goodbyes, and at last the loops.
func (s *server) run(ctx context.Context) error {
	if s.history != nil {
		s.history.Start()
		s.historyBegun = true
	}
	var running, watching sync.WaitGroup
	failed := make(chan error, len(s.drivers)+2+len(s.listeners)) // loops, the acceptor, the fleet, listeners: nobody waits
	for i, l := range s.node.Loops() {
		running.Go(func() {
			s.took.turns(i)
			if err := s.turn(i, l); err != nil {
				failed <- err
			}
		})
	}
	running.Go(func() {
		if err := s.acceptor.Run(); err != nil {
			failed <- fmt.Errorf("acceptor: %w", err)
		}
	})
	if s.hands != nil {
		for range shakers() {
			running.Go(s.hands.Run)
		}
	}
	s.accepting = true
	s.fleet.start(func(err error) { failed <- err })
	for i, ln := range s.listeners {
		if err := s.acceptor.Add(ln); err != nil {
			failed <- fmt.Errorf("accept on %s: %w", ln.Addr, err)
			continue
		}
		_, inherited := s.plan.inherited[i]
		slog.Info("listening", "server", string(s.plan.listeners[i].profile.Type), "id", ln.Name, "addr", ln.Addr.String(), "inherited", inherited, "tls", s.plan.listeners[i].profile.TLS)
	}
	if s.admin != nil {
		s.admin.Serve()
		slog.Info("listening", "server", "admin", "addr", s.admin.Addr().String())
	}
	if s.took == nil {
		s.serveSocket()
	}
	watch, endWatch := context.WithCancel(context.Background())
	defer endWatch()
	watching.Go(func() { s.watch(watch) })
	watching.Go(func() { s.watchMemory(watch) })
	if s.plan.certificates != nil {
		watching.Go(func() { s.plan.certificates.watch(watch) })
	}
	if s.cfg.login.judge != nil {
		watching.Go(func() { s.cfg.login.watch(watch) })
	}

	replaced, err := s.serve(ctx, failed)
	switch {
	case replaced:
	case err == nil:
		s.end(s.cfg.drainDelay)
	default:
		s.end(0)
	}
	endWatch() // before the loops: they answer nobody then
	watching.Wait()
	err = errors.Join(err, s.endLoops(&running))
	s.fleet.close()
	s.close()
	slog.Info("ended")
	return err
}

// serve is ready once all loops turn, and returns when ctx ends, something has failed, or another process has replaced this one.
func (s *server) serve(ctx context.Context, failed <-chan error) (replaced bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	turning := make(chan *router.Snapshot, 1)
	go func() {
		if first, err := s.node.Snapshot(ctx); err == nil {
			turning <- first
		}
	}()
	var requests <-chan upgradeRequest // once it is ready
	var signals <-chan os.Signal
	for {
		var request upgradeRequest
		select {
		case first := <-turning:
			if len(failed) > 0 { // a listener that does not accept, say
				continue
			}
			if s.took != nil {
				s.took.finish()
				if use, err := s.rules.read(); err == nil { // the process before this one may have written it meanwhile
					use()
				}
				s.serveSocket()
			}
			s.ready.Store(true)
			s.cfg.warnConns()
			slog.Info("ready", "loops", s.cfg.loops, "max_conns", s.cfg.maxConns, "pid", os.Getpid())
			for _, secured := range []bool{false, true} {
				if page := s.pageURL(secured); page != "" {
					s.logs.tell("chat page: " + page)
				}
			}
			if s.took != nil {
				s.manager.tell(fmt.Sprintf("MAINPID=%d", os.Getpid()))
			}
			s.manager.ready(status(first))
			requests, signals = s.control.asked()
			continue
		case <-ctx.Done():
			slog.Info("ending", "drain", s.cfg.drain.String(), "drain_delay", s.cfg.drainDelay.String())
			return false, nil
		case by := <-s.retired:
			slog.Info("ending, as pomelod drain asked for", "asked", by, "drain", s.cfg.drain.String(), "drain_delay", s.cfg.drainDelay.String())
			return false, nil
		case err := <-failed:
			return false, err
		case request = <-requests:
		case <-signals:
		}
		if replaced, err := s.answerUpgrade(ctx, request); replaced {
			return true, err
		}
	}
}

// pageURL is where a browser on this machine finds the chat page, with TLS or without; empty without one.
func (s *server) pageURL(secured bool) string {
	scheme := "http://"
	if secured {
		scheme = "https://"
	}
	for i, l := range s.listeners {
		if p := s.plan.listeners[i].profile; !s.cfg.page || p.Type != router.Connector || p.TLS != secured {
			continue
		}
		host := "localhost"
		if ip := l.Addr.AddrPort().Addr().Unmap(); !ip.IsUnspecified() && !ip.IsLoopback() {
			host = ip.String()
		}
		return scheme + net.JoinHostPort(host, strconv.Itoa(l.Addr.Port)) + "/"
	}
	return ""
}

// close frees what newServer took.
func (s *server) close() {
	if s.admin != nil {
		s.admin.Close()
	}
	if s.socket != nil {
		s.socket.Close()
	}
	if s.acceptor != nil {
		s.acceptor.Close()
	}
	s.closeHistory() // the loops have ended
	if !s.accepting {
		s.fleet.close()
		for _, ln := range s.listeners {
			ln.Close()
		}
	}
	for _, d := range s.drivers {
		d.CloseAll()
	}
	if s.started {
		s.started = false
		ctx, cancel := context.WithTimeout(context.Background(), appStopTime)
		defer cancel()
		if err := s.node.StopApp(ctx); err != nil {
			slog.Warn(err.Error())
		}
	}
}
