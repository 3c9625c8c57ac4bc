//go:build linux

// Command pomelod is a chat server that speaks NetEase Pomelo's wire: gate, connector and chat workers in one process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code. 2 is for a command line that cannot work.
func run(args []string, stdout, stderr *os.File) int {
	cfg, err := parseFlags(args, os.Environ(), stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "pomelod: %v\n", err)
		return 2
	}
	if cfg.showVersion {
		printVersion(stdout)
		return 0
	}
	p, err := cfg.plan()
	if err != nil {
		fmt.Fprintf(stderr, "pomelod: %v\n", err)
		return 2
	}
	slog.SetDefault(slog.New(logHandler(stderr, cfg.logLevel)))
	for _, w := range p.warnings {
		slog.Warn(w)
	}
	switch {
	case cfg.printConfig:
		if err := cfg.print(stdout, p); err != nil {
			fmt.Fprintf(stderr, "pomelod: %v\n", err)
			return 1
		}
		return 0
	case cfg.checkConfig:
		fmt.Fprintln(stdout, "ok")
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	srv, err := newServer(cfg, p)
	if err == nil {
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		err = srv.run(ctx)
	}
	if err != nil {
		slog.Error("pomelod ends", "err", err)
		return 1
	}
	return 0
}

// logHandler writes text where a person reads and JSON where a machine does.
func logHandler(w *os.File, level slog.Level) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if isTerminal(w) {
		return slog.NewTextHandler(w, opts)
	}
	return slog.NewJSONHandler(w, opts)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
