// Command asone is a fleet that looks like one pomelod: tests of one process run against it. It takes pomelod's flags, starts a nats-server and nodes of
// the binary that ASONE_BINARY names, hands out one address of each kind in log lines as pomelod does, and ends all by SIGTERM. ASONE_FLEET says which
// nodes: spread (a gate, a connector and a chat node; the default), pair (two that do everything, of which clients are told one), or double (a gate, two
// connectors and two chat nodes).
//
// Its line "ready" tells of each node the id, the process and the addresses. A node that somebody kills (SIGKILL) is started again, and when all is well
// there is another such line. One that ends in any other way ends everything. Who ends all may have killed a node just before, or one that is starting: that is no error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	runtime.LockOSThread() // the death of the thread that has started a process is told to that (Pdeathsig)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "asone:", err)
		os.Exit(1)
	}
}

// node is one process after the other.
type node struct {
	id       string
	clients  bool
	followed bool // the fleet is ready when others follow the rooms that it has
	args     []string
	shows    []string // servers whose addresses are the fleet's
	*process          // the last one
}

// process is one of them.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when its log has ended and it was waited for
	err   error         // how it ended, then

	mu    sync.Mutex
	addrs map[string]string // by server
}

var out sync.Mutex // a line at a time

// startTime is how long a fleet may take to be one, also again.
const startTime = time.Minute

func run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	binary := os.Getenv("ASONE_BINARY")
	if binary == "" {
		return errors.New("ASONE_BINARY must be the path of pomelod")
	}
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	go nats.Start()
	if !nats.ReadyForConnections(startTime) {
		return errors.New("nats-server does not start")
	}
	defer nats.Shutdown()
	nodes, err := plan(os.Getenv("ASONE_FLEET"), os.Args[1:])
	if err != nil {
		return err
	}
	died := make(chan *node, len(nodes))
	for _, n := range nodes {
		if err := n.start(binary, nats.ClientURL(), died); err != nil {
			return err
		}
	}
	ready := wait(nodes)
	for {
		select {
		case err := <-ready:
			if err != nil {
				return err
			}
			say(readyLine(nodes))
		case n := <-died:
			if !n.wasKilled() {
				return fmt.Errorf("%s has ended: %v", n.id, n.err)
			}
			if err := n.start(binary, nats.ClientURL(), died); err != nil {
				return err
			}
			ready = wait(nodes) // nobody hears how an earlier one ends
		case <-signals:
			return end(nodes)
		}
	}
}

// plan is the nodes of a fleet, with the addresses of a command line shared out among them. Chat nodes are last.
func plan(shape string, args []string) ([]*node, error) {
	own := map[string]string{"listen": "127.0.0.1:0", "gate": "127.0.0.1:0", "admin": "127.0.0.1:0"}
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(strings.TrimPrefix(args[i], "-"), "=")
		if _, is := own[name]; !is {
			rest = append(rest, args[i])
			continue
		}
		if !has {
			i++
			if i == len(args) {
				return nil, fmt.Errorf("-%s: its value is missing", name)
			}
			value = args[i]
		}
		own[name] = value
	}
	admin := "admin"
	if own["admin"] == "" { // nobody wants it, but for wait
		own["admin"], admin = "127.0.0.1:0", ""
	}
	flags := func(more ...string) []string { return append(slices.Clone(rest), more...) }
	switch shape {
	case "", "spread":
		return []*node{
			{id: "gate-1", clients: true, shows: []string{"gate"}, args: flags("-role", "gate", "-gate", own["gate"], "-admin", "127.0.0.1:0")},
			{id: "connector-1", clients: true, shows: []string{"connector", admin}, args: flags("-role", "connector", "-listen", own["listen"], "-admin", own["admin"])},
			{id: "chat-1", args: flags("-role", "chat", "-admin", "127.0.0.1:0")},
		}, nil
	case "double":
		return []*node{
			{id: "gate-1", clients: true, shows: []string{"gate"}, args: flags("-role", "gate", "-gate", own["gate"], "-admin", "127.0.0.1:0")},
			{id: "connector-1", clients: true, shows: []string{"connector", admin}, args: flags("-role", "connector", "-listen", own["listen"], "-admin", own["admin"])},
			{id: "connector-2", clients: true, args: flags("-role", "connector", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0")},
			{id: "chat-1", followed: true, args: flags("-role", "chat", "-admin", "127.0.0.1:0")},
			{id: "chat-2", followed: true, args: flags("-role", "chat", "-admin", "127.0.0.1:0")},
		}, nil
	case "pair":
		return []*node{
			{id: "a", clients: true, shows: []string{"gate", "connector", admin}, args: flags("-gate", own["gate"], "-listen", own["listen"], "-admin", own["admin"])},
			{id: "b", args: flags("-gate", "127.0.0.1:0", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0")},
		}, nil
	}
	return nil, fmt.Errorf("ASONE_FLEET=%s: must be spread, pair or double", shape)
}

// start starts a process, and has died told of its end.
func (n *node) start(binary, nats string, died chan<- *node) error {
	p := &process{ended: make(chan struct{}), addrs: make(map[string]string)}
	p.cmd = exec.Command(binary, append(n.args, "-nats", nats, "-id", n.id, "-admin-socket", "none")...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout = os.Stdout
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	n.process = p
	go func() {
		p.relay(log, n.shows)
		p.err = p.cmd.Wait()
		close(p.ended)
		died <- n
	}()
	return nil
}

// wasKilled tells whether the process, which has ended, was killed by a signal that it cannot catch.
func (p *process) wasKilled() bool { return p.endedBy(syscall.SIGKILL) }

// endedBy tells whether the process, which has ended, did so by a signal.
func (p *process) endedBy(by syscall.Signal) bool {
	status, is := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return is && status.Signaled() && status.Signal() == by
}

// relay hands on the process's log, without what is the fleet's to say.
func (p *process) relay(log io.Reader, shows []string) {
	s := bufio.NewScanner(log)
	for s.Buffer(nil, 4<<20); s.Scan(); {
		var line struct{ Msg, Server, Addr string }
		_ = json.Unmarshal(s.Bytes(), &line)
		if line.Msg == "listening" {
			p.mu.Lock()
			p.addrs[line.Server] = line.Addr
			p.mu.Unlock()
		}
		if line.Msg != "ready" && (line.Msg != "listening" || slices.Contains(shows, line.Server)) {
			say(s.Text())
		}
	}
}

// addr is where the process listens as a server; empty: nowhere yet.
func (p *process) addr(server string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrs[server]
}

func say(line string) {
	out.Lock()
	defer out.Unlock()
	fmt.Fprintln(os.Stderr, line)
}

// readyLine says that all is well, and which nodes there are.
func readyLine(nodes []*node) string {
	type row struct {
		ID        string `json:"id"`
		PID       int    `json:"pid"`
		Gate      string `json:"gate,omitempty"`
		Connector string `json:"connector,omitempty"`
		Admin     string `json:"admin"`
	}
	var rows []row
	pids := []int{os.Getpid()} // nats-server's
	for _, n := range nodes {
		rows = append(rows, row{n.id, n.cmd.Process.Pid, n.addr("gate"), n.addr("connector"), n.addr("admin")})
		pids = append(pids, n.cmd.Process.Pid)
	}
	line, _ := json.Marshal(map[string]any{"level": "INFO", "msg": "ready", "pid": pids[0], "pids": pids, "nodes": rows})
	return string(line)
}

// wait says when the processes that the nodes are now are one fleet.
func wait(nodes []*node) <-chan error {
	var fleet []*process
	followed := false
	for _, n := range nodes {
		fleet = append(fleet, n.process)
		followed = followed || n.followed
	}
	ready := make(chan error, 1)
	go func() {
		web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
		for late := time.Now().Add(startTime); !areOne(web, fleet, followed); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(late) {
				ready <- errors.New("the nodes do not see each other")
				return
			}
		}
		ready <- nil
	}()
	return ready
}

// areOne tells whether all processes are ready and see each other well, and nobody else, and whether all rooms have a follower where they must.
func areOne(web *http.Client, fleet []*process, followed bool) bool {
	runs := make(map[string]uint64)
	for _, p := range fleet {
		var all struct {
			Unguarded int
			Nodes     []struct {
				Name, State string
				Run         uint64
			}
		}
		if admin := p.addr("admin"); admin == "" || !get(web, admin, "/readyz", nil) || !get(web, admin, "/nodes", &all) {
			return false
		}
		if len(all.Nodes) != len(fleet) || followed && all.Unguarded > 0 {
			return false
		}
		for _, n := range all.Nodes {
			if run, known := runs[n.Name]; n.State != "ok" || known && run != n.Run {
				return false
			}
			runs[n.Name] = n.Run
		}
	}
	return true
}

func get(web *http.Client, admin, path string, into any) bool {
	r, err := web.Get("http://" + admin + path)
	if err != nil {
		return false
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return err == nil && r.StatusCode == http.StatusOK && (into == nil || json.Unmarshal(b, into) == nil)
}

// end ends those with clients, and then the others.
func end(nodes []*node) (err error) {
	for _, clients := range []bool{true, false} {
		for _, n := range nodes {
			if n.clients == clients {
				_ = n.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
		for _, n := range nodes {
			if n.clients == clients {
				<-n.ended
				starting := n.addr("admin") == "" && n.endedBy(syscall.SIGTERM) // it did not catch it yet
				if n.err != nil && !n.wasKilled() && !starting {
					err = errors.Join(err, fmt.Errorf("%s: %w", n.id, n.err))
				}
			}
		}
	}
	return err
}
