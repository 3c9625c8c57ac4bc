//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/router"
)

// config is what the command line says.
type config struct {
	listen, gate, admin string
	advertise           string
	heartbeat           time.Duration
	dir                 string
	loops               int
	maxConns            int
	drain               time.Duration
	logLevel            slog.Level
	showVersion         bool
	limits              router.Limits
	roundTrip           bool
}

const usage = `pomelod is a chat server for clients of NetEase Pomelo: WebSocket and raw TCP on one port.

  pomelod                          gate on :3014, connector on :3050
  pomelod -listen :4050            connector on another port
  pomelod -config game/config      dictionary.json, serverProtos.json and clientProtos.json of a Pomelo project

Clients ask the gate (gate.gateHandler.queryEntry) for a connector, enter a room there (connector.entryHandler.enter) and
chat (chat.chatHandler.send). SIGTERM or Ctrl-C ends pomelod in order.

Flags:
`

// parseFlags reads the command line. Output of -help goes to w.
func parseFlags(args []string, w io.Writer) (*config, error) {
	c := &config{limits: router.DefaultLimits()}
	l := &c.limits
	f := flag.NewFlagSet("pomelod", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.listen, "listen", ":3050", "`address` of the connector")
	f.StringVar(&c.gate, "gate", ":3014", "`address` of the gate; empty for none")
	f.StringVar(&c.admin, "admin", "127.0.0.1:3005", "`address` of /livez, /readyz, /metrics and /debug/pprof; empty for none. Keep it private")
	f.StringVar(&c.advertise, "advertise", "", "`host[:port]` of the connector as the gate tells it to clients; by default the host by which the client reached the gate, and the port of -listen")
	f.DurationVar(&c.heartbeat, "heartbeat", 15*time.Second, "heartbeat interval told to clients, whole seconds; silent for twice as long is disconnected. 0 for none")
	f.StringVar(&c.dir, "config", "", "`directory` of a Pomelo project's configuration")
	f.IntVar(&c.loops, "loops", runtime.GOMAXPROCS(0), "event loops, one thread each")
	f.IntVar(&c.maxConns, "max-conns", 0, "connections in all; more are refused. 0 for what the limit of open files leaves")
	f.DurationVar(&c.drain, "drain", 5*time.Second, "time for clients to close their connections when pomelod ends")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error: the least serious `level` that is logged")
	f.BoolVar(&c.showVersion, "version", false, "print version, Go and JSON engine, and exit")

	size := func(p *int, name, text string) { f.Var((*sizeFlag)(p), name, text) }
	seconds := func(p *uint32, name, text string) { f.Var((*secondsFlag)(p), name, text) }
	size(&l.PackageBytes, "max-package", "longest message from a client, `bytes`")
	size(&l.HeadBytes, "max-head", "longest HTTP request head, `bytes`")
	size(&l.Conn.Outbound, "outbound", "what one connection may have unsent, `bytes`; beyond it is closed")
	outboundAll := sizeFlag(l.Conn.OutboundAll)
	f.Var(&outboundAll, "max-outbound", "what all connections together may have unsent, `bytes`; beyond it the largest are closed")
	size(&l.LoopBytes, "loop-backlog", "unwritten pushes of one event loop, `bytes`; beyond it new messages are refused")
	size(&l.RoomBytes, "room-backlog", "unwritten pushes of one room on one event loop, `bytes`; beyond it its new messages are refused")
	size(&l.NameBytes, "max-name", "longest name of a user or a room, `bytes`")
	f.IntVar(&l.Inflight, "inflight", l.Inflight, "requests of one session that may wait for a worker; then it is not read")
	f.IntVar(&l.Inbox, "inbox", l.Inbox, "requests that may wait for one worker; then new ones are refused")
	seconds(&l.Conn.Stuck, "stuck-timeout", "`time` in which a connection with unsent bytes must take some")
	seconds(&l.HeadSeconds, "head-timeout", "`time` for an HTTP request head")
	seconds(&l.HandshakeSeconds, "handshake-timeout", "`time` from connect to the end of the handshake")
	seconds(&l.IdleSeconds, "idle-timeout", "`time` a client may be silent where there are no heartbeats")
	seconds(&l.RequestSeconds, "request-timeout", "`time` a worker has for a request")

	err := f.Parse(args)
	l.Conn.OutboundAll = int64(outboundAll)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(w, usage)
		f.SetOutput(w)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w; pomelod -help lists the flags", err)
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected %q; pomelod takes flags only, see pomelod -help", f.Arg(0))
	}
	if c.showVersion {
		return c, nil
	}
	return c, c.check()
}

// check refuses what cannot work before anything is started.
func (c *config) check() error {
	if c.heartbeat < 0 || c.heartbeat%time.Second != 0 || c.heartbeat > time.Hour {
		return fmt.Errorf("-heartbeat %v: must be whole seconds, at most an hour, or 0 for none", c.heartbeat)
	}
	if c.listen == "" {
		return errors.New("-listen is empty: give the connector an address, for example -listen :3050")
	}
	if _, err := c.endpoint(3050); err != nil {
		return err
	}
	most, err := maxSockets()
	if err != nil {
		return err
	}
	if c.maxConns == 0 {
		c.maxConns = most
	}
	if c.maxConns < 1 || c.maxConns > most {
		return fmt.Errorf("-max-conns %d: this process may open files for 1 to %d connections; raise the limit (ulimit -n, LimitNOFILE=) or lower -max-conns", c.maxConns, most)
	}
	return c.limits.Check()
}

// maxSockets is what the limit of open files leaves for clients: some are kept for listeners, files, admin and whatever libraries open.
func maxSockets() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	n := int(min(r.Cur, math.MaxInt32))
	return n - min(512, n/4), nil
}

// endpoint is the connector as gates announce it; port is that of the listener.
func (c *config) endpoint(port int) (router.Endpoint, error) {
	e := router.Endpoint{Host: c.advertise, Port: port}
	if host, p, err := net.SplitHostPort(c.advertise); err == nil {
		e.Host = host
		if strings.Contains(host, ":") {
			e.Host = "[" + host + "]"
		}
		if e.Port, err = strconv.Atoi(p); err != nil || e.Port < 1 || e.Port > 65535 {
			return e, fmt.Errorf("-advertise %q: the port must be a number from 1 to 65535", c.advertise)
		}
	}
	return e, nil
}

// wire reads the files that change what clients are told, as far as they are there.
func (c *config) wire() (dict *codec.Dictionary, protos *codec.Protos, err error) {
	if c.dir == "" {
		return nil, nil, nil
	}
	if st, err := os.Stat(c.dir); err != nil || !st.IsDir() {
		return nil, nil, fmt.Errorf("-config %q is no directory; give the config/ directory of a Pomelo project", c.dir)
	}
	read := func(name string) []byte {
		b, e := os.ReadFile(filepath.Join(c.dir, name))
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return b
	}
	user, server, client := read("dictionary.json"), read("serverProtos.json"), read("clientProtos.json")
	if err != nil {
		return nil, nil, err
	}
	if user != nil {
		routes, err := codec.ParseUserDictionary(user)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", filepath.Join(c.dir, "dictionary.json"), err)
		}
		dict = codec.NewDictionary(router.HandlerRoutes(), routes)
	}
	if server != nil || client != nil {
		if protos, err = codec.ParseProtos(server, client); err != nil {
			return nil, nil, fmt.Errorf("serverProtos.json or clientProtos.json in %s: %w", c.dir, err)
		}
	}
	return dict, protos, nil
}

// sizeFlag is a number of bytes: 4096, 256KiB, 16MiB, 1GiB.
type sizeFlag int

var sizeUnits = []struct {
	suffix string
	factor int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (s *sizeFlag) String() string {
	for _, u := range sizeUnits {
		if n := int(*s); n != 0 && n%u.factor == 0 && u.factor > 1 {
			return strconv.Itoa(n/u.factor) + u.suffix
		}
	}
	return strconv.Itoa(int(*s))
}

func (s *sizeFlag) Set(text string) error {
	for _, u := range sizeUnits {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || n <= 0 || n > math.MaxInt/u.factor {
				break
			}
			*s = sizeFlag(n * u.factor)
			return nil
		}
	}
	return errors.New("must be a size such as 4096, 256KiB, 16MiB or 1GiB")
}

// secondsFlag is a time of whole seconds.
type secondsFlag uint32

func (s *secondsFlag) String() string { return (time.Duration(*s) * time.Second).String() }

func (s *secondsFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d%time.Second != 0 || d > 24*time.Hour {
		return errors.New("must be whole seconds from 1s to 24h, such as 20s or 5m")
	}
	*s = secondsFlag(d / time.Second)
	return nil
}
