package fleet

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pomelod/pomelod/internal/freeport"
)

// patience is for what takes milliseconds on an idle machine.
const patience = 60 * time.Second

// natsServer is a nats-server in this process, on a port of loopback that it keeps over restarts.
type natsServer struct {
	t       *testing.T
	options server.Options
	*server.Server
}

// startNATS starts one. change may set options; nil: none.
func startNATS(t *testing.T, change func(*server.Options)) *natsServer {
	t.Helper()
	s := &natsServer{t: t, options: server.Options{Host: "127.0.0.1", Port: freeport.Get(t), NoSigs: true, NoLog: true}}
	if change != nil {
		change(&s.options)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start() {
	s.t.Helper()
	options := s.options
	srv, err := server.NewServer(&options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server = srv
	go srv.Start()
	if !srv.ReadyForConnections(patience) {
		s.t.Fatal("nats-server does not start")
	}
}

func (s *natsServer) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

func (s *natsServer) url() string { return "nats://" + s.address() }

func (s *natsServer) address() string {
	return net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port))
}

// kick ends the connection of a node, as an operator can.
func (s *natsServer) kick(node string) {
	s.t.Helper()
	z, err := s.Connz(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range z.Conns {
		if c.Name == "pomelod "+node {
			if err := s.DisconnectClientByID(c.Cid); err != nil {
				s.t.Fatal(err)
			}
			return
		}
	}
	s.t.Fatalf("%s has no connection", node)
}

// board is state that handlers change and a test waits for. Guarded by mu.
type board struct {
	t       *testing.T
	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

func newBoard(t *testing.T) *board { return &board{t: t, changed: make(chan struct{})} }

// do changes the state.
func (b *board) do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait returns when done is true. It looks after each change, and now and then for what is not on the board.
func (b *board) wait(what string, done func() bool) {
	b.t.Helper()
	late := time.After(patience)
	for {
		b.mu.Lock()
		ok, changed := done(), b.changed
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond):
		case <-late:
			b.t.Fatalf("there is no end of the wait for %s", what)
		}
	}
}
