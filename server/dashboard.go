//go:build linux

package server

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"

	"github.com/pomelod/pomelod/admin"
)

// pomelod dashboard has a browser on this machine see the admin socket.

var dashboardCommand = command{
	name: "dashboard", help: "have a browser show what goes on, and act upon it",
	about: `
Prints the address of a page, for a browser on this machine, until it is interrupted. The address has a token that is good for that long: who has it can do
what you can by the admin socket. From another machine: ssh -L 3006:127.0.0.1:3006 HOST pomelod dashboard -listen 127.0.0.1:3006.`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		socket := socketFlag(f, c)
		listen := f.String("listen", "127.0.0.1:0", "`address` of this machine alone to listen on; port 0: any that is free")
		return func([]string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return serveDashboard(ctx, c, *socket, *listen)
		}
	},
}

// serveDashboard shows the page until ctx ends.
func serveDashboard(ctx context.Context, c *caller, socket, listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return settingsError{fmt.Errorf("-listen %s: must be a port of loopback, such as 127.0.0.1:3006, as there is no TLS", listen)}
	}
	path, err := socketOf(socket, c)
	if err != nil {
		return err
	}
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("no pomelod answers at %s: %w; give the -admin-socket of the server", path, err)
	}
	conn.Close()
	ln, err := admin.Listen(listen)
	if err != nil {
		return err
	}
	token := rand.Text()
	window := admin.Window(token, dial)
	context.AfterFunc(ctx, func() { window.Close() })
	fmt.Fprintf(c.stdout, "http://%s%s#token=%s\n", ln.Addr(), admin.DashboardPath, token)
	if err := window.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
