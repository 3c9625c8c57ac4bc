// Command asone is a fleet that looks like one pomelod: tests of one process run against it. It takes pomelod's flags, starts a nats-server and nodes of
// the binary that ASONE_BINARY names, hands out one address of each kind in log lines as pomelod does, and ends all by SIGTERM. ASONE_FLEET says which
// nodes: spread (a gate, a connector and a chat node; the default), or pair (two that do everything, of which clients are told one).
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

// node is one process.
type node struct {
	id      string
	clients bool
	args    []string
	shows   []string // servers whose addresses are the fleet's

	cmd   *exec.Cmd
	admin chan string // its address, once
	read  chan struct{}
}

var out sync.Mutex // a line at a time

// startTime is how long a fleet may take to be one.
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
	for _, n := range nodes {
		if err := n.start(binary, nats.ClientURL()); err != nil {
			return err
		}
	}
	ready := make(chan error, 1)
	go func() { ready <- wait(nodes) }()
	for {
		select {
		case err := <-ready:
			if err != nil {
				return err
			}
			pids := []int{os.Getpid()} // nats-server's
			for _, n := range nodes {
				pids = append(pids, n.cmd.Process.Pid)
			}
			line, _ := json.Marshal(map[string]any{"level": "INFO", "msg": "ready", "pid": pids[0], "pids": pids})
			say(string(line))
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
	case "pair":
		return []*node{
			{id: "a", clients: true, shows: []string{"gate", "connector", admin}, args: flags("-gate", own["gate"], "-listen", own["listen"], "-admin", own["admin"])},
			{id: "b", args: flags("-gate", "127.0.0.1:0", "-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0")},
		}, nil
	}
	return nil, fmt.Errorf("ASONE_FLEET=%s: must be spread or pair", shape)
}

func (n *node) start(binary, nats string) error {
	n.admin, n.read = make(chan string, 1), make(chan struct{})
	n.cmd = exec.Command(binary, append(n.args, "-nats", nats, "-id", n.id, "-admin-socket", "none")...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	n.cmd.Stdout = os.Stdout
	log, err := n.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	go n.relay(log)
	return nil
}

// relay hands on the node's log, without what is the fleet's to say.
func (n *node) relay(log io.Reader) {
	defer close(n.read)
	s := bufio.NewScanner(log)
	for s.Buffer(nil, 4<<20); s.Scan(); {
		var line struct{ Msg, Server, Addr string }
		_ = json.Unmarshal(s.Bytes(), &line)
		if line.Msg == "listening" && line.Server == "admin" {
			select {
			case n.admin <- line.Addr:
			default:
			}
		}
		if line.Msg != "ready" && (line.Msg != "listening" || slices.Contains(n.shows, line.Server)) {
			say(s.Text())
		}
	}
}

func say(line string) {
	out.Lock()
	defer out.Unlock()
	fmt.Fprintln(os.Stderr, line)
}

// wait returns when all nodes see all of them.
func wait(nodes []*node) error {
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	late := time.Now().Add(startTime)
	for _, n := range nodes {
		var addr string
		select {
		case addr = <-n.admin:
		case <-n.read:
			return fmt.Errorf("%s has ended", n.id)
		}
		for !sees(web, addr, len(nodes)) {
			if time.Now().After(late) {
				return fmt.Errorf("%s does not see the others", n.id)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// sees tells whether the node at an admin address is ready and sees so many nodes that are well.
func sees(web *http.Client, addr string, count int) bool {
	var all struct{ Nodes []struct{ State string } }
	for path, into := range map[string]any{"/readyz": nil, "/nodes": &all} {
		r, err := web.Get("http://" + addr + path)
		if err != nil {
			return false
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || into != nil && json.Unmarshal(b, into) != nil {
			return false
		}
	}
	for _, n := range all.Nodes {
		if n.State != "ok" {
			return false
		}
	}
	return len(all.Nodes) == count
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
				<-n.read
				if failed := n.cmd.Wait(); failed != nil {
					err = errors.Join(err, fmt.Errorf("%s: %w", n.id, failed))
				}
			}
		}
	}
	return err
}
