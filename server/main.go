//go:build linux

// Package server is the whole of pomelod as one function: flags, configuration, listeners, event loops and the end in
// order. A program that adds handlers of its own calls Main with its App; cmd/pomelod calls it with none.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/pomelod/pomelod/app"
)

// Main runs pomelod with the process's arguments and environment until SIGINT or SIGTERM, and returns the exit code. app
// adds handlers, filters and events; nil adds none.
func Main(app *app.App) int { return run(app, os.Args[1:], os.Stdout, os.Stderr) }

// run is Main without the process. The exit codes are exitCode's.
func run(app *app.App, args []string, stdout, stderr *os.File) int {
	if isCommand(args) {
		return runCommand(args, &caller{app, os.Environ(), stdout, stderr})
	}
	control, program := newControl(), thisProgram()
	defer control.close()
	took, err := meetPredecessor(os.Environ())
	if err != nil {
		return fail(stderr, err)
	}
	cfg, p, err := prepare(app, args, os.Environ(), stdout, stderr)
	if p == nil { // nothing is to be started
		took.refuse(err)
		return fail(stderr, err)
	}
	// When nobody reads our log any more, logging ends, not the chat. Taken and dropped: what is ignored, children inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	logs := newLogs(stderr, cfg.logLevel)
	defer logs.close()
	p.reloads.level = &logs.level
	if cfg.fleet.on() { // the logs of several nodes may be one
		slog.SetDefault(slog.Default().With("node", cfg.fleet.id))
	}
	for _, w := range p.warnings {
		slog.Warn(w)
	}
	if cfg.printConfig {
		return fail(stderr, cfg.print(stdout, p))
	}
	manager, err := meetManager(p)
	if err != nil {
		took.refuse(err)
		return fail(stderr, settingsError{err})
	}
	p.succeed(took)
	defer manager.Close()
	if cfg.checkConfig {
		if err := checkServer(cfg, p, app); err != nil {
			return fail(stderr, err)
		}
		fmt.Fprintln(stdout, "ok")
		return 0
	}
	ctx, stop := onSignals(logs.close)
	defer stop()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer manager.handleHangups(end, p.reload)()
	srv, err := newServer(cfg, p, app)
	if err != nil {
		took.refuse(err)
	}
	if errors.As(err, new(settingsError)) {
		return fail(stderr, err)
	}
	if err == nil {
		srv.manager, srv.logs, srv.control, srv.program = manager, logs, control, program
		err = srv.runFrom(ctx)
	}
	if err != nil {
		slog.Error("pomelod ends", "err", err)
	}
	return exitCode(err)
}

// prepare reads flags and files. Without a plan there is nothing to do any more.
func prepare(app *app.App, args, environ []string, stdout, stderr io.Writer) (*settings, *plan, error) {
	cfg, err := parseFlagsWith(app, args, environ, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, nil, nil
	case err != nil:
		return nil, nil, settingsError{err}
	case cfg.showVersion:
		printVersion(stdout)
		return nil, nil, nil
	}
	p, err := cfg.plan(app)
	if err != nil {
		return nil, nil, settingsError{err}
	}
	return cfg, p, nil
}

// exitCode is 2 where flags or files must change before pomelod can start, 1 for what the machine refuses and an end out of
// order, 0 otherwise.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(settingsError)):
		return 2
	}
	if done := exited(0); errors.As(err, &done) {
		return int(done)
	}
	return 1
}

// exited is the exit code of a command that has told everything itself; it is an error only to be passed on.
type exited int

func (e exited) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// fail tells a person of err, if there is one, and returns the exit code.
func fail(stderr io.Writer, err error) int {
	if err != nil && !errors.As(err, new(exited)) {
		fmt.Fprintf(stderr, "pomelod: %v\n", err)
	}
	return exitCode(err)
}

// meetManager takes what a service manager says in the environment, and the sockets that it passes.
func meetManager(p *plan) (*manager, error) {
	if err := p.inherit(os.Environ(), os.Getpid()); err != nil {
		return nil, err
	}
	m, err := newManager(os.Environ(), os.Getpid())
	for _, key := range managerVariables { // programs that an App starts must not take them for theirs
		os.Unsetenv(key)
	}
	return m, err
}

// Run serves until ctx ends, with flags as on the command line; the environment is not read. It is for tests and for programs that own
// their process. bound, if not nil, is called once, with the listeners' addresses by name (gate, connector, an id of servers.json, admin);
// clients may connect from then on.
func Run(ctx context.Context, app *app.App, flags []string, bound func(map[string]net.Addr)) error {
	cfg, err := parseFlagsWith(app, flags, nil, io.Discard)
	if err != nil {
		return err
	}
	if !cfg.set["admin-socket"] { // of a machine there is one server that commands find by themselves, and it is no program's
		cfg.adminSocket = ""
	}
	p, err := cfg.plan(app)
	if err != nil {
		return err
	}
	if cfg.showVersion || cfg.printConfig || cfg.checkConfig {
		return errors.New("-version, -print-config and -check-config belong on a command line")
	}
	for _, w := range p.warnings {
		slog.Warn(w)
	}
	srv, err := newServer(cfg, p, app)
	if err != nil {
		return err
	}
	if bound != nil {
		addrs := make(map[string]net.Addr)
		for _, ln := range srv.listeners {
			addrs[ln.Name] = ln.Addr
		}
		if srv.admin != nil {
			addrs["admin"] = srv.admin.Addr()
		}
		bound(addrs)
	}
	return srv.run(ctx)
}
