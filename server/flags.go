//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/config"
	"github.com/pomelod/pomelod/router"
)

// settings is what the command line says.
type settings struct {
	listen, gate, admin string
	bind, advertise     string
	heartbeat           time.Duration
	dir, env            string
	loops               int
	maxConns            int
	drain, drainDelay   time.Duration
	page, move          bool
	logLevel            slog.Level
	cesu8               router.CESU8
	limits              router.Limits
	naming              naming
	login               loginSettings
	filter              filterSettings
	access              router.Access
	origins             listFlag
	historyOpen         listFlag // rooms whose history everyone may read
	rooms               *roomRules
	historyDir          string
	historySync         bool // senders wait for the disk
	historyKeep         keepFlag
	adminHosts          listFlag
	adminSocket         string // empty: none
	tokenFile           string
	rulesFile           string
	pprof               bool // if set; else where -admin is on loopback
	proxyProtocol       proxyFlag
	preset              preset
	original            original
	memory              memoryFlag
	buffered            sizeFlag // -max-buffered
	budget              budget   // what -memory comes to
	tls                 tlsSettings
	fleet               fleetSettings
	roundTrip           bool // for tests: requests and items go through their encoding

	showVersion, printConfig, checkConfig bool

	flagsFile string
	set       map[string]bool // flags that were given, on the command line, in the file or by the environment
	flags     *flag.FlagSet
	from      flagSource
	values    map[string]string // of all flags, defaults included
}

// processors is how many of them Go uses by itself; a server raises that for the whole process, and the next one must not follow.
var processors = runtime.GOMAXPROCS(0)

// declareFlags makes settings of which every flag has its default, and the flags that set them.
func declareFlags() (*settings, *flag.FlagSet) {
	c := &settings{limits: router.DefaultLimits(), rooms: new(roomRules)}
	l := &c.limits
	f := flag.NewFlagSet("pomelod", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.listen, "listen", ":3050", "`address` of the connector")
	f.StringVar(&c.gate, "gate", ":3014", "`address` of the gate; none for none")
	f.StringVar(&c.admin, "admin", "127.0.0.1:3005", "`address` of /livez, /readyz, /metrics and /debug/pprof; none for none. Where -config has a master.json the default is its port, on 127.0.0.1. Keep it private")
	f.Var(&c.adminHosts, "admin-hosts", "`names` by which -admin is reached, beside addresses and names without a dot: metrics.example.com,pomelod.internal. Others are refused, as a web page may have them point here")
	f.StringVar(&c.adminSocket, "admin-socket", autoSocket, "`path` of the unix socket by which commands such as pomelod kick reach this process (docs/ADMIN.md); auto: "+systemSocket+", or pomelod/admin.sock in $XDG_RUNTIME_DIR, whichever directory is there; none for none")
	f.StringVar(&c.tokenFile, "admin-token-file", "", "`file` of lines NAME TOKEN: who has a token of it may use the admin API (/v1) and profiles on -admin. Without it that API is on the socket only")
	f.StringVar(&c.rulesFile, "rules-file", autoRules, "`file` where bans, mutes and locks are kept (pomelod ban, mute, lock); auto: rules.json in systemd's StateDirectory=, else they end with the process; none for that")
	f.BoolVar(&c.pprof, "pprof", false, "serve /debug/pprof on -admin, one profile at a time; without the flag only where -admin listens on loopback")
	f.StringVar(&c.advertise, "advertise", "", "`host[:port]` of the connector as the gate tells it to clients; by default the host by which the client reached the gate, and the port of -listen")
	f.DurationVar(&c.heartbeat, "heartbeat", 15*time.Second, "heartbeat interval told to clients, whole seconds; silent for twice as long is disconnected. 0 for none")
	f.StringVar(&c.dir, "config", "", "`directory` of a Pomelo project's configuration: servers.json, master.json, dictionary.json, serverProtos.json, clientProtos.json")
	f.StringVar(&c.env, "env", config.DefaultEnv, "`environment` of -config, as in pomelo start -e")
	f.StringVar(&c.bind, "bind", "", "`host` on which the servers of servers.json listen; empty for every address")
	f.BoolVar(&c.printConfig, "print-config", false, "print what would run, as JSON, and exit")
	f.BoolVar(&c.checkConfig, "check-config", false, "check flags and files, and exit: 0 when pomelod would start")
	f.BoolVar(&c.move, "move", true, "move a session to the event loop of the room it enters")
	f.TextVar(&c.cesu8, "cesu8", router.CESU8Auto, "auto, always or never: which js-websocket clients get emoji in protobuf strings as CESU-8. auto: those in browsers, until they send UTF-8 themselves")
	f.IntVar(&l.Spread, "spread", l.Spread, "members from which on a room uses all event loops")
	f.IntVar(&c.loops, "loops", processors, "event loops, one thread each")
	f.IntVar(&c.maxConns, "max-conns", 0, "connections in all; more are refused. 0 for what the limit of open files leaves")
	f.DurationVar(&c.drain, "drain", 5*time.Second, "`time` over which clients are sent away when pomelod ends, evenly; a few leave faster")
	f.DurationVar(&c.drainDelay, "drain-delay", 0, "`time` before that in which /readyz says no and clients are still accepted, for load balancers")
	f.BoolVar(&c.page, "page", true, "serve the chat page at / on every listener")
	f.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error: the least serious `level` that is logged")
	f.StringVar(&c.flagsFile, "flags-file", "", "`file` of flags, in lines as the environment has them (POMELOD_SESSION_RATE=50:100): read at the start, by pomelod upgrade, and by pomelod reload for those that can change while clients are there (docs/ADMIN.md). It wins over the environment, and the command line over it")
	f.BoolVar(&c.showVersion, "version", false, "print version, Go and JSON engine, and exit")

	size := func(p *int, name, text string) { f.Var((*sizeFlag)(p), name, text) }
	seconds := func(p *uint32, name, text string) { f.Var((*secondsFlag)(p), name, text) }
	size(&l.PackageBytes, "max-package", "longest message from a client, `bytes`")
	size(&l.HeadBytes, "max-head", "longest HTTP request head, `bytes`")
	size(&l.Conn.Outbound, "outbound", "what one connection may have unsent, `bytes`; beyond it is closed")
	c.buffered = sizeFlag(l.Conn.Buffered)
	f.Var(&c.buffered, "max-buffered", "what may be buffered for all connections together, unsent or received in part, `bytes`; beyond it those who have most are closed")
	size(&l.LoopBytes, "loop-backlog", "unwritten pushes of one event loop, `bytes`; beyond it new messages are refused")
	size(&l.RoomBytes, "room-backlog", "unwritten pushes of one room on one event loop, `bytes`; beyond it its new messages are refused")
	size(&l.NameBytes, "max-name", "longest name of a user or a room, in `bytes` of JSON: a Chinese character has three, an emoji, which is escaped, twelve")
	f.IntVar(&l.Inflight, "inflight", l.Inflight, "requests of one session that may wait for a worker; then it is not read")
	f.IntVar(&l.Inbox, "inbox", l.Inbox, "requests that may wait for one worker; then new ones are refused")
	f.DurationVar(&l.Delay, "max-delay", l.Delay, "when what clients send waits for `longer` until an event loop comes to it, messages are refused; 0 for never")
	seconds(&l.Conn.Stuck, "stuck-timeout", "`time` in which a connection with unsent bytes must take some")
	seconds(&l.HeadSeconds, "head-timeout", "`time` for an HTTP request head")
	seconds(&l.HandshakeSeconds, "handshake-timeout", "`time` from connect to the end of the handshake, and from the beginning of a message or an HTTP request to its end")
	seconds(&l.IdleSeconds, "idle-timeout", "`time` a client may be silent where there are no heartbeats")
	seconds(&l.RequestSeconds, "request-timeout", "`time` a worker has for a request")

	seconds(&l.KeepAliveSeconds, "keepalive-timeout", "`time` an HTTP connection may be idle")
	seconds(&l.PingSeconds, "sio-heartbeat", "`time` between two heartbeats or pings of a socket.io client")
	seconds(&l.PingTimeoutSeconds, "sio-timeout", "`time` a client of socket.io 0.9, 1 or 2 may be silent beyond that")
	seconds(&l.PingTimeout4Seconds, "sio-timeout4", "the same `time` for socket.io 3 and 4")
	c.accessFlags(f)
	c.tls.declare(f)
	f.IntVar(&l.Pulls, "max-polling", 0, "socket.io clients that poll; more are refused. 0 for as many as -max-conns")

	f.BoolVar(&c.original.on, "original", false, "do as Pomelo's sample where pomelod does otherwise by default: -grace 0, -list 0 and -names original, unless these are given")
	c.naming.declare(f)
	c.original.declare("names", string(namesOriginal))
	c.original.declare("list", "0")
	c.login.declare(f, &c.limits.Rooms.Sessions)
	c.filter.declare(f)
	c.sessionLimits(f)
	c.fleetFlags(f)
	c.historyLimits(f)
	return c, f
}

// parseFlags reads the environment ("KEY=value") and the command line. Output of -help goes to w.
func parseFlags(args, environ []string, w io.Writer) (*settings, error) {
	return parseFlagsWith(nil, args, environ, w)
}

// parseFlagsWith is parseFlags for a server with an App, which may have flags of its own.
func parseFlagsWith(app *app.App, args, environ []string, w io.Writer) (*settings, error) {
	return flagSource{app: app, args: args, environ: environ}.parse(w)
}

// parse reads all flags, and derives what no flag says.
func (from flagSource) parse(w io.Writer) (*settings, error) {
	c, f := declareFlags()
	programs, err := from.programFlags(f)
	if err != nil {
		return nil, err
	}
	explainFlags(f)
	if err := setEnviron(f, from.environ); err != nil {
		return nil, err
	}
	args := from.args
	if path := flagsFileOf(f, c.flagsFile, args); path != "" {
		if err := from.readFile(path, f); err != nil {
			return nil, err
		}
	}
	err = f.Parse(args)
	c.set = map[string]bool{}
	f.Visit(func(given *flag.Flag) { c.set[given.Name] = true })
	c.flags, c.from = f, from
	if err == nil {
		err = errors.Join(c.preset.apply(f, c.set), c.original.apply(f, c.set))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		printHelp(w, f, programs)
		return nil, err
	case err != nil:
		return nil, explainParse(f, err)
	case f.NArg() > 0:
		before := ""
		if i := len(args) - f.NArg(); i > 0 {
			before = args[i-1]
		}
		return nil, explainArguments(f, before, f.Args())
	}
	for _, addr := range []*string{&c.gate, &c.admin, &c.adminSocket} {
		if *addr == noAddr {
			*addr = ""
		}
	}
	if c.showVersion {
		return c, nil
	}
	if err := c.derive(f); err != nil {
		return nil, err
	}
	c.values = valuesOf(f, programs)
	return c, nil
}

// derive sets what follows from other flags and from the machine, and refuses flags that do not go together.
func (c *settings) derive(f *flag.FlagSet) error {
	if before := c.from.before; before != nil && (c.from.running || before.memory == c.memory) { // what is there has been taken meanwhile, by this process itself
		c.memory, c.budget = before.memory, before.budget
	} else {
		c.budget = findBudget(c.memory, memlimit.FromCgroup, memlimit.FromSystem, ownSpaceLeft())
	}
	if err := c.defaultBuffered(); err != nil {
		return err
	}
	if err := c.defaultHistory(); err != nil {
		return err
	}
	if err := c.naming.settle(f, c.set, c.dir != ""); err != nil {
		return err
	}
	if err := errors.Join(c.login.settle(c.set), c.filter.settle(c.set)); err != nil {
		return err
	}
	c.limits.Conn.Buffered = int64(c.buffered)
	if err := c.check(); err != nil {
		return err
	}
	return c.shareHandlers(c.from.app)
}

// check refuses what cannot work before anything is started.
func (c *settings) check() error {
	if c.heartbeat < 0 || c.heartbeat%time.Second != 0 || c.heartbeat > time.Hour {
		return fmt.Errorf("-heartbeat %v: must be whole seconds, at most an hour, or 0 for none", c.heartbeat)
	}
	if err := c.checkDrain(); err != nil {
		return err
	}
	if _, _, err := c.announced(); err != nil {
		return err
	}
	if err := c.tls.check(); err != nil {
		return err
	}
	if err := c.checkBind(); err != nil {
		return err
	}
	for _, name := range c.adminHosts {
		if strings.ContainsAny(name, ":/* ") {
			return fmt.Errorf("-admin-hosts %q: write names only, without scheme and port, for example metrics.example.com", name)
		}
	}
	if err := c.checkAccess(); err != nil {
		return err
	}
	if err := c.checkHistory(); err != nil {
		return err
	}
	if err := c.settleRooms(); err != nil {
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
	if c.limits.Pulls == 0 {
		c.limits.Pulls = c.maxConns
	}
	if err := c.shareConns(); err != nil {
		return err
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

// noAddr is a listener that there shall not be. Empty says the same, but not in the environment.
const noAddr = "none"
