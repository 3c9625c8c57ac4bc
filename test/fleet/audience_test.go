package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/client"
)

// audience is a room of many members, by TCP, to whom one of them says something once a second; each must hear all of it, once and in order. To itself it says something twenty
// times a second: that shows how long the room is without an answer, and costs no thousands of pushes.
type audience struct {
	c       *crowd
	room    string
	speaker *client.Client
	members []*listener

	talking, listening sync.WaitGroup
	stop               chan struct{}

	sent  int64       // to all, and acknowledged
	acked []time.Time // when something was
}

// listener is one of the audience. Owned by its goroutine until that has ended.
type listener struct {
	*client.Client
	next atomic.Int64 // number of the message that comes next
	why  error
}

// manyMembers is how many an audience has where descriptors allow: each takes one here and one of a connector.
const manyMembers = 19_000

// newAudience has everybody enter, and the speaker begin.
func newAudience(c *crowd, round int) *audience {
	t := c.h.t
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const others = 1000 // what the harness, its guests and nats-server have open
	count := min(manyMembers, int(files.Cur)-others)
	if count < 100 {
		t.Fatalf("%d files may be open; a large room wants %d (ulimit -n)", files.Cur, manyMembers+others)
	}
	a := &audience{c: c, room: fmt.Sprint("many-", round), stop: make(chan struct{}), members: make([]*listener, count)}
	addrs := slices.Sorted(maps.Keys(c.h.at)) // of connectors: to ask a gate would be as many connections more
	var coming sync.WaitGroup
	next := make(chan int)
	for range 16 {
		coming.Go(func() {
			for i := range next {
				a.members[i] = &listener{Client: a.enter(addrs[i%len(addrs)], fmt.Sprint("member-", i))}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	coming.Wait()
	t.Logf("a room of %d", count)
	a.speaker = a.members[0].Client
	for _, l := range a.members {
		a.listening.Go(func() { l.listen() })
	}
	a.talking.Go(a.talk)
	return a
}

// enter enters the room by a connector.
func (a *audience) enter(addr, name string) *client.Client {
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		m, err := client.Dial(addr, patience)
		if err != nil {
			continue
		}
		if err = m.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": a.room}, nil); err == nil {
			return m
		}
		m.Close()
	}
	a.c.do(func() { a.c.wrongf("%s of the audience cannot enter", name) })
	return nil
}

func (l *listener) listen() {
	for l.Client != nil {
		push, err := l.Next()
		if err != nil {
			l.why = err
			return
		}
		_, text, is := bytes.Cut(push.Body, []byte(`"number `))
		if push.Route != "onChat" || !is {
			continue
		}
		number, _, _ := bytes.Cut(text, []byte(`"`))
		if n, err := strconv.Atoi(string(number)); err != nil || int64(n) != l.next.Load() {
			l.why = fmt.Errorf("%s came instead of number %d", push.Body, l.next.Load())
			return
		}
		l.next.Add(1)
	}
}

// talk says numbers. A refusal ends it: what was refused may have been said, so that the next number would be a riddle.
func (a *audience) talk() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; a.speaker != nil; turn++ {
		select {
		case <-a.stop:
			return
		case <-tick.C:
		}
		text, to := "to myself", "member-0"
		if turn%20 == 0 {
			text, to = fmt.Sprint("number ", a.sent), "*"
		}
		err := a.speaker.Request("chat.chatHandler.send", map[string]string{"rid": a.room, "from": "member-0", "content": text, "target": to}, nil)
		if err != nil {
			a.c.do(func() { a.c.wrongf("the speaker to many was answered: %v", err) })
			return
		}
		if to == "*" {
			a.sent++
		}
		a.acked = append(a.acked, time.Now())
	}
}

// end has the speaker fall silent, and looks whether everybody has heard everything.
func (a *audience) end() {
	t := a.c.h.t
	t.Helper()
	close(a.stop)
	await(t, "the speaker to have an answer", &a.talking)
	for late := time.Now().Add(patience / 2); time.Now().Before(late) && slices.ContainsFunc(a.members, a.lacks); time.Sleep(20 * time.Millisecond) {
	}
	for _, l := range a.members {
		if l.Client != nil {
			l.Close()
		}
	}
	await(t, "the audience to have gone", &a.listening)
	lack := 0
	for i, l := range a.members {
		if l.Client != nil && (a.lacks(l) || !errors.Is(l.why, client.ErrClosed)) {
			if lack++; lack == 1 {
				a.c.wrongf("member %d of %d heard %d of %d: %v", i, len(a.members), l.next.Load(), a.sent, l.why)
			}
		}
	}
	if lack > 1 {
		a.c.wrongf("so did %d of the audience", lack)
	}
}

// lacks tells whether somebody has not heard everything.
func (a *audience) lacks(l *listener) bool { return l.Client != nil && l.next.Load() < a.sent }
