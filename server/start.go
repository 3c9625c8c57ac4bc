//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/config"
)

// startCommand is `pomelod start`. It is a function because it may serve, as main does, which has the table of commands.
func startCommand() command {
	return command{
		name: "start", args: "[ENV]", most: 1, help: "start what a Pomelo project's servers.json says, as pomelo start does",
		listed: []string{"e", "d", "t", "i", "nats"},
		about: `
  pomelod start -e production -d game-server
                                  everything in one process, if all entries are of this machine
  pomelod start -e production -d game-server -nats nats://host:4222
                                  each entry of this machine in a process of its own; NATS connects them (docs/CLUSTER.md)

A process that dies is started again: at once if it has lived for ten seconds, else after 1, 2, 4 and at most 30 seconds. One that ends in order,
as after pomelod drain, or says that its settings are wrong, stays down. SIGTERM or Ctrl-C ends all: first those with clients, then the chat nodes. A
second one ends them at once. Exit code 0 says that all ended in order.

The first entry of servers.json has the admin address 127.0.0.1:3005, or master.json's port there, and the others the ports that follow. Each has an admin
socket called ID.sock, where pomelod alone would have admin.sock; with -admin-socket PATH the first one has PATH, and the others are beside it. All flags of
pomelod (pomelod -help) may be given too, and are for each process; without -memory they share what one would have. POMELOD_ADMIN is for pomelod list and
others that ask, and not for these processes.
`,
		declare: func(f *flag.FlagSet, c *caller) func([]string) error {
			s := newStarter(f, c)
			return func(words []string) error { return s.run(words, c) }
		},
	}
}

// starter is what pomelod start was told.
type starter struct {
	settings *settings
	given    *flag.FlagSet
	own      *flag.FlagSet // those of pomelod, of which given are on the command line
	environ  []string
	wrong    error // with the environment
	dir      string
	kind     string
	flags    []string // of pomelod, for each process

	project *config.Project
}

// newStarter adds the flags of pomelod to f, and Pomelo's names of some.
func newStarter(f *flag.FlagSet, by *caller) *starter {
	c, own := declareFlags()
	s := &starter{settings: c, given: f, own: own, environ: by.environ}
	if _, s.wrong = (&flagSource{app: by.app}).programFlags(own); s.wrong == nil {
		explainFlags(own)
		s.wrong = setEnviron(own, by.environ)
		own.VisitAll(func(g *flag.Flag) { g.Value.(*explainedFlag).texts = nil }) // those are in each process's environment
	}
	own.VisitAll(func(g *flag.Flag) { f.Var(g.Value, g.Name, g.Usage) })
	for _, name := range []string{"e", "environment"} {
		f.StringVar(&c.env, name, c.env, "`environment`, as -env")
	}
	for _, name := range []string{"d", "directory"} {
		f.StringVar(&s.dir, name, ".", "the project's game-server `directory`, in which config/ is")
	}
	for _, name := range []string{"t", "type"} {
		f.StringVar(&s.kind, name, "", "with -nats: only entries of this `type`, gate, connector or chat")
	}
	f.StringVar(&c.fleet.id, "i", c.fleet.id, "with -nats: only the entry with this `id`, whatever its host is")
	return s
}

// read takes what was written and reads the project.
func (s *starter) read(words []string) error {
	c := s.settings
	if s.wrong != nil {
		return s.wrong
	}
	if err := s.readFlags(); err != nil {
		return err
	}
	if len(words) > 0 {
		word, _ := strings.CutPrefix(words[0], "env=")
		if wasGiven(s.given, "e", "env", "environment") || strings.ContainsAny(word, "=/") {
			return fmt.Errorf("unexpected %q; pomelod start -help tells how", words[0])
		}
		c.env = word
	}
	switch {
	case c.printConfig:
		return errors.New("-print-config is for one process: write pomelod -config DIR -env ENV -print-config, with -nats and -id for an entry alone")
	case c.showVersion:
		return errors.New("-version stands alone: pomelod -version")
	case s.kind == "all":
		s.kind = ""
	case s.kind == "master":
		return errors.New("-t master: pomelod has no master; any node answers pomelod list")
	}
	if s.kind != "" && c.fleet.id != "" {
		return errors.New("-t and -i: give one of them")
	}
	own := []string{"e", "env", "environment", "d", "directory", "t", "type", "i", "id", "config", "nats", "check-config"}
	s.given.Visit(func(g *flag.Flag) {
		if !slices.Contains(own, g.Name) {
			for _, text := range g.Value.(*explainedFlag).texts {
				s.flags = append(s.flags, "-"+g.Name+"="+text)
			}
		}
	})
	return s.readProject()
}

// readFlags takes what the file of -flags-file says, which the command line wins over.
func (s *starter) readFlags() error {
	path := s.settings.flagsFile
	if path == "" {
		return nil
	}
	lines, err := readFlags(path)
	if err != nil {
		return fmt.Errorf("the flags of -flags-file: %w", err)
	}
	return setFlags(s.own, slices.DeleteFunc(lines, func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		name, _ := flagOf(key)
		return wasGiven(s.given, append(pomeloNames[name], name)...)
	}), path)
}

// pomeloNames are the other names that pomelod start has for flags.
var pomeloNames = map[string][]string{"env": {"e", "environment"}, "id": {"i"}}

// wasGiven tells whether one of several flags was given.
func wasGiven(f *flag.FlagSet, names ...string) (is bool) {
	f.Visit(func(g *flag.Flag) { is = is || slices.Contains(names, g.Name) })
	return is
}

// readProject finds the configuration and reads it.
func (s *starter) readProject() (err error) {
	c := s.settings
	if c.dir == "" || wasGiven(s.given, "d", "directory") && !wasGiven(s.given, "config") { // POMELOD_CONFIG is a default
		c.dir = s.dir
		for _, sub := range []string{"config", "game-server/config"} {
			if st, err := os.Stat(filepath.Join(s.dir, sub)); err == nil && st.IsDir() {
				c.dir = filepath.Join(s.dir, sub)
				break
			}
		}
	}
	if st, err := os.Stat(c.dir); err != nil || !st.IsDir() {
		return fmt.Errorf("-d %q is no directory; give the project's game-server directory, in which config/ is", s.dir)
	}
	if s.project, err = c.project(); err != nil {
		return err
	}
	if len(s.project.Servers) == 0 {
		return fmt.Errorf("there are no gates, connectors and chat servers for environment %q in servers.json of %s; give another one by -e", c.env, c.dir)
	}
	return nil
}

// choose is the entries that this command starts, each as a process of its own.
func (s *starter) choose(local func(host string) bool) ([]*config.Server, error) {
	var chosen []*config.Server
	var ids, hosts []string
	for i := range s.project.Servers {
		e := &s.project.Servers[i]
		ids = append(ids, e.ID)
		if !slices.Contains(hosts, e.Host) {
			hosts = append(hosts, e.Host)
		}
		if s.settings.fleet.id != "" && e.ID == s.settings.fleet.id || s.settings.fleet.id == "" && (s.kind == "" || s.kind == e.Type) && local(e.Host) {
			chosen = append(chosen, e)
		}
	}
	switch {
	case len(chosen) > 0:
		return chosen, nil
	case s.settings.fleet.id != "":
		return nil, fmt.Errorf("-i %s: servers.json in %s has no such entry for environment %q; it has %s", s.settings.fleet.id, s.settings.dir, s.settings.env, strings.Join(ids, ", "))
	case s.kind != "" && !slices.ContainsFunc(s.project.Servers, func(e config.Server) bool { return e.Type == s.kind }):
		return nil, fmt.Errorf("-t %s: servers.json in %s has no entry of that type for environment %q; types are gate, connector and chat", s.kind, s.settings.dir, s.settings.env)
	}
	return nil, fmt.Errorf("no entry of servers.json in %s is of this machine; their hosts are %s. Start one all the same by -i %s", s.settings.dir, strings.Join(hosts, ", "), ids[0])
}

// isLocal tells whether a host of servers.json is this machine: one of its addresses, a name of one, or its own name.
func isLocal(host string) bool {
	if own, err := os.Hostname(); host == "" || host == "localhost" || err == nil && strings.EqualFold(host, own) {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	texts := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		if texts, err = net.LookupHost(host); err != nil {
			return false
		}
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return false
		}
		return ip.IsUnspecified() || ip.IsLoopback() || slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(net.IP(ip.AsSlice()))
		})
	})
}

// one is the command line of one process that is all entries; an error if that cannot be.
func (s *starter) one(local func(host string) bool) ([]string, error) {
	if s.kind != "" || s.settings.fleet.id != "" {
		return nil, errors.New("-t and -i make one process of several, which NATS connects: give -nats too, or drop them")
	}
	for i := range s.project.Servers {
		if e := &s.project.Servers[i]; !local(e.Host) {
			return nil, fmt.Errorf("%s of servers.json is of another machine, %s: give -nats, which connects the processes; or to serve all entries from this one: pomelod -config %s -env %s", e.ID, e.Host, s.settings.dir, s.settings.env)
		}
	}
	return append(s.common(), s.flags...), nil
}

func (s *starter) common() []string {
	args := []string{"-config=" + s.settings.dir, "-env=" + s.settings.env}
	if s.settings.checkConfig {
		args = append(args, "-check-config")
	}
	return args
}

// nodeArgs is the command line of one entry of several. NATS' address goes by the environment, where nobody sees its password.
// An admin socket that was given is the first one's.
func (s *starter) nodeArgs(e *config.Server, share int64, first bool) []string {
	args := append(s.common(), "-id="+e.ID)
	if share > 0 {
		args = append(args, "-memory="+strconv.FormatInt(share, 10))
	}
	args = append(args, s.flags...)
	if path := s.settings.adminSocket; !first && path != autoSocket && path != noAddr { // a path is one process's
		args = append(args, "-admin-socket="+filepath.Join(filepath.Dir(path), socketName(e.ID)))
	}
	return args
}

// nodeEnviron is the environment of each of several processes. What a service manager says is for this process, and POMELOD_ADMIN for those that ask.
func (s *starter) nodeEnviron() []string {
	environ := slices.DeleteFunc(slices.Clone(s.environ), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return key == "POMELOD_NATS" || key == "POMELOD_CHECK_CONFIG" || key == "POMELOD_ID" || key == "POMELOD_ADMIN" || slices.Contains(managerVariables, key)
	})
	how := startedEnv + "=1"
	if wasGiven(s.given, "nats") {
		how = startedByNATS
	}
	return append(environ, "POMELOD_NATS="+string(s.settings.fleet.nats), how)
}

// startedByNATS says to a process that the command line of pomelod start has -nats: what the environment has wins over a file of flags, as that would.
const startedByNATS = startedEnv + "=nats"

// run carries the command out.
func (s *starter) run(words []string, c *caller) error {
	if err := s.read(words); err != nil {
		return settingsError{err}
	}
	stdout, stderr := fileOf(c.stdout, os.Stdout), fileOf(c.stderr, os.Stderr)
	if s.settings.fleet.nats == "" {
		line, err := s.one(isLocal)
		if err != nil {
			return settingsError{err}
		}
		if code := run(c.app, line, stdout, stderr); code != 0 {
			return exited(code)
		}
		return nil
	}
	nodes, err := s.nodes(c.app)
	if err != nil {
		return err
	}
	if s.settings.checkConfig {
		fmt.Fprintln(c.stdout, "ok")
		return nil
	}
	logs := newLogs(stderr, s.settings.logLevel)
	defer logs.close()
	if code := newProcesses(thisProgram(), s.nodeEnviron(), nodes).run(logs.close); code != 0 {
		return exited(code)
	}
	return nil
}

// fileOf is w, if that is a file.
func fileOf(w io.Writer, otherwise *os.File) *os.File {
	if f, ok := w.(*os.File); ok {
		return f
	}
	return otherwise
}

// nodes makes sure that each process would start, as far as flags and files go.
func (s *starter) nodes(app *app.App) (nodes []*nodeProcess, err error) {
	chosen, err := s.choose(isLocal)
	if err != nil {
		return nil, settingsError{err}
	}
	var share int64
	var seen addresses
	for i, e := range chosen {
		args := s.nodeArgs(e, share, i == 0)
		c, p, err := prepare(app, args, s.nodeEnviron(), io.Discard, io.Discard)
		if err == nil && i == 0 && s.settings.memory == memoryAuto && len(chosen) > 1 && c.budget.bytes > 0 { // all of them have what one would have
			share = c.budget.bytes / int64(len(chosen))
			args = s.nodeArgs(e, share, true)
			c, p, err = prepare(app, args, s.nodeEnviron(), io.Discard, io.Discard)
		}
		if err == nil && c.set["admin"] && c.admin != "" && len(chosen) > 1 {
			err = settingsError{errors.New("-admin is for one process: drop it, and each has one of its own (pomelod start -help); or give -i too")}
		}
		if err == nil {
			err = checkServer(c, p, app)
		}
		if err != nil {
			if len(chosen) > 1 {
				err = fmt.Errorf("%s: %w", e.ID, err)
			}
			return nil, err
		}
		if err := seen.add(e.ID, p); err != nil {
			return nil, err
		}
		args = slices.DeleteFunc(args, func(a string) bool { return a == "-check-config" })
		nodes = append(nodes, &nodeProcess{id: e.ID, clients: e.Type != "chat", args: args, admin: p.admin, check: func() error {
			c, p, err := prepare(app, args, s.nodeEnviron(), io.Discard, io.Discard)
			if err != nil {
				return err
			}
			return checkServer(c, p, app)
		}})
	}
	return nodes, nil
}

// addresses are what several processes of this machine would bind.
type addresses struct {
	ids  []string
	list []wanted
}

// add refuses addresses of a process that another one would take.
func (a *addresses) add(id string, p *plan) error {
	before := len(a.list)
	for _, w := range p.wanted() {
		if err := w.parse(); err != nil {
			return settingsError{fmt.Errorf("%s: %w", id, err)}
		}
		for i, other := range a.list[:before] {
			if other.collides(w) {
				return settingsError{fmt.Errorf("%s (%s %s) and %s (%s %s) would take the same port: give each a port of its own, or start them one by one with -i", a.ids[i], other.source, other.addr, id, w.source, w.addr)}
			}
		}
		a.ids, a.list = append(a.ids, id), append(a.list, w)
	}
	return nil
}
