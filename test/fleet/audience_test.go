package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/client"
)

// audience is a room of many members, by TCP, to whom one of them says something once a second; each must hear all of it, once and in order. To itself it says something twenty
// times a second: that shows how long the room is without an answer, and costs no thousands of pushes.
type audience struct {
	h       *harness
	room    string
	speaker *client.Client
	ears    *ears
	members []*listener // the first is the speaker

	talking, listening sync.WaitGroup
	stop               chan struct{}

	mu    sync.Mutex
	sent  int64       // to all, and acknowledged
	acked []time.Time // when something was
	wrong []string
}

// manyMembers is how many an audience has where descriptors allow: each takes one here and one of a connector.
const manyMembers = 19_000

// newAudience has everybody enter, and the speaker begin.
func newAudience(h *harness) *audience {
	t := h.t
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
	heard, err := newEars()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a := &audience{h: h, room: "many", ears: heard, stop: make(chan struct{}), members: make([]*listener, count)}
	addrs := slices.Sorted(maps.Keys(h.at)) // of connectors: to ask a gate would be as many connections more
	a.members[0] = new(listener)
	a.comes("member-0", func() (err error) {
		if a.speaker, err = client.Dial(addrs[0], dialTime); err != nil {
			return err
		}
		if err = a.speaker.Request("connector.entryHandler.enter", map[string]string{"username": "member-0", "rid": a.room}, nil); err != nil {
			a.speaker.Close()
		}
		return err
	})
	if a.speaker == nil {
		t.Fatal("nobody can speak to the room of many")
	}
	var coming sync.WaitGroup
	next := make(chan int)
	for range 16 {
		coming.Go(func() {
			for i := range next {
				name := fmt.Sprint("member-", i)
				a.comes(name, func() (err error) {
					a.members[i], err = a.ears.enter(addrs[i%len(addrs)], a.room, name)
					return err
				})
			}
		})
	}
	for i := 1; i < count; i++ {
		next <- i
	}
	close(next)
	coming.Wait()
	t.Logf("a room of %d, who entered within %v", count, time.Since(began).Round(time.Millisecond))
	a.listening.Go(func() { a.members[0].listen(a.speaker) })
	a.talking.Go(a.talk)
	return a
}

// comes has somebody enter, however often that takes.
func (a *audience) comes(name string, enter func() error) {
	var err error
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		if err = enter(); err == nil {
			return
		}
	}
	a.wrongf("%s of the audience cannot enter: %v", name, err)
}

// talk says numbers. A refusal ends it: what was refused may have been said, so that the next number would be a riddle.
func (a *audience) talk() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-a.stop:
			return
		case <-tick.C:
		}
		text, to := "to myself", "member-0"
		if turn%20 == 0 {
			text, to = fmt.Sprint("number ", a.said()), "*"
		}
		err := a.speaker.Request("chat.chatHandler.send", map[string]string{"rid": a.room, "from": "member-0", "content": text, "target": to}, nil)
		if err != nil {
			a.wrongf("the speaker to many was answered: %v", err)
			return
		}
		a.mu.Lock()
		if to == "*" {
			a.sent++
		}
		a.acked = append(a.acked, time.Now())
		a.mu.Unlock()
	}
}

// said is how much was said to all, and acknowledged.
func (a *audience) said() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent
}

func (a *audience) wrongf(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrong = append(a.wrong, fmt.Sprintf(format, args...))
}

// waits is how long the room was without an answer, at most, between two moments.
func (a *audience) waits(from, till time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return longest(a.acked, from, till)
}

// hasHeard waits until everybody has heard everything, and tells what is wrong since it did so last.
func (a *audience) hasHeard() (wrong []string) {
	said := a.said()
	lacks := func(l *listener) bool { return l != nil && l.next.Load() < said }
	for late := time.Now().Add(patience / 2); time.Now().Before(late) && slices.ContainsFunc(a.members, lacks); time.Sleep(20 * time.Millisecond) {
	}
	lack := 0
	for i, l := range a.members {
		if l != nil && lacks(l) {
			if lack++; lack == 1 {
				a.wrongf("member %d of %d heard %d of %d", i, len(a.members), l.next.Load(), said)
			}
		}
	}
	if lack > 1 {
		a.wrongf("so did %d of the audience", lack)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	wrong, a.wrong = a.wrong, nil
	return wrong
}

// end has the speaker fall silent, and sends everybody away.
func (a *audience) end() {
	t := a.h.t
	t.Helper()
	close(a.stop)
	await(t, "the speaker to have an answer", &a.talking)
	wrong := a.hasHeard()
	a.speaker.Close()
	await(t, "the speaker to have heard all", &a.listening)
	a.ears.close()
	for i, l := range a.members {
		if l != nil && !errors.Is(l.why, errMuted) && !errors.Is(l.why, client.ErrClosed) {
			wrong = append(wrong, fmt.Sprintf("member %d of %d: %v", i, len(a.members), l.why))
		}
	}
	if len(wrong) > 0 {
		t.Errorf("the room of many: %v", wrong[:min(len(wrong), 10)])
	}
}
