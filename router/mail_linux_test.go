package router

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/channel"
	pomelo "github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/netpoll"
)

// With 16,384 requests waiting for a loop that epoll turns, a client of that loop is answered within 5 ms. One of many tries has to show it: in the
// others the machine had something else to do. Without slices an answer takes as long as all the requests, in each try.
func TestAnswerBesideMail(t *testing.T) {
	const bar, tries = 5 * time.Millisecond, 60
	for _, bytes := range []int{100, 4000} {
		t.Run(fmt.Sprint("bytes=", bytes), func(t *testing.T) {
			l := runLoop(t)
			member, other := connectLoop(t, l), connectLoop(t, l)
			if err := member.Request(routeEnter, map[string]string{"username": "member", "rid": "room"}, nil); err != nil {
				t.Fatal(err)
			}
			go func() {
				for _, err := member.Next(); err == nil; _, err = member.Next() {
				}
			}()
			push := channel.Request{
				Op: channel.OpPush, Part: channel.Partition("room"), Room: "room", Target: channel.Everybody, Route: "n",
				Content: fmt.Appendf(nil, `{"text":"%s"}`, strings.Repeat("x", bytes)),
			}
			for try := 1; ; try++ {
				took := answerBeside(t, l, other, push)
				if took <= bar {
					t.Logf("try %d took %v", try, took)
					return
				}
				if try == tries {
					t.Fatalf("each of %d answers took more than %v, the last one %v", tries, bar, took)
				}
			}
		})
	}
}

// answerBeside is how long c waits for an answer while l carries out as many requests as fit.
func answerBeside(t *testing.T, l *loop, c *pomelo.Client, r channel.Request) time.Duration {
	full, begin := make(chan struct{}), make(chan struct{})
	l.postRun(0, func() { close(full); <-begin })
	<-full
	for in := (*mailInlet)(l); !in.Full(); {
		in.Post(r)
	}
	most := l.inbox.Load()
	close(begin)
	for l.inbox.Load() == most { // until the loop is at it: before, it would read c's request first
		runtime.Gosched()
	}
	began := time.Now()
	if err := c.Request("no.such.route", map[string]any{}, nil); !errors.Is(err, pomelo.ErrRefused) {
		t.Fatal(err)
	}
	took := time.Since(began)
	empty := make(chan struct{})
	l.postRun(0, func() { close(empty) })
	<-empty
	return took
}

// runLoop is the loop of a node that has one, and whose epoll turns it until the test ends.
func runLoop(t *testing.T) *loop {
	d, err := netpoll.NewEpoll()
	if err != nil {
		t.Fatal(err)
	}
	limits := DefaultLimits()
	limits.RoomBytes, limits.LoopBytes, limits.Conn.Outbound = 1<<30, 1<<30, 1<<27
	node, err := NewNode(Config{
		Loops: 1, Limits: limits, Profiles: []*Profile{{Name: "connector", Type: Connector}},
		NewDriver: func(int) (netpoll.Driver, error) { return d, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	l, ended := node.loops[0], make(chan error)
	go func() { ended <- d.Run(l.np) }()
	t.Cleanup(func() {
		closed := make(chan struct{})
		l.postRun(0, func() {
			l.np.Each(func(c *netpoll.Conn) { l.np.Kill(c, netpoll.ReasonHandler) })
			close(closed)
		})
		<-closed
		d.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		d.CloseAll()
	})
	return l
}

// connectLoop is a client of l.
func connectLoop(t *testing.T, l *loop) *pomelo.Client {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.np.Adopt(ends[0], netpoll.ConnState{})
	f := os.NewFile(uintptr(ends[1]), "client")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	c, err := pomelo.New(conn, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
