//go:build linux

// Package servertest starts a pomelod in the process of a test.
package servertest

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

// Start runs a pomelod with app, which may be nil, until the test ends, and returns the addresses by name. Without flags it
// listens on loopback, on free ports; -admin is off unless it is given.
func Start(t testing.TB, app *app.App, flags ...string) map[string]string {
	t.Helper()
	if !slices.Contains(flags, "-config") {
		flags = append([]string{"-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0"}, flags...)
	}
	flags = append([]string{"-admin", ""}, flags...)
	ctx, cancel := context.WithCancel(context.Background())
	bound, ended := make(chan map[string]net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, app, flags, func(addrs map[string]net.Addr) { bound <- addrs })
	}()
	addrs := make(map[string]string)
	select {
	case list := <-bound:
		for name, addr := range list {
			addrs[name] = addr.String()
		}
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("pomelod ended with: %v", err)
		}
	})
	return addrs
}
