package router

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// Marks at which requests are refused, or wait, before anything has changed, and which no single request reaches: what the loop's rooms have yet to
// write, what its worker has yet to do, and what is buffered for all. Those of a room are in TestCrowdedRoomRefuses, of time in
// TestOverrunLoopRefusesMessages, of memory in TestShortOfMemory, of mail in TestFullLoopRefuses.

// A loop whose rooms have too much to write together, none of them for itself, admits nothing that adds to it, in whatever room; leaves go through,
// and when it is written the loop goes on.
func TestFullLogsRefuse(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.LoopBytes = 3000 })
	all := r.members(40, "large")
	calm, friend, gone, late := r.login(atConnector, false), r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
	for i, c := range []*client{calm, friend, gone} {
		c.enter(fmt.Sprint("calm", i), "calm")
	}
	for _, c := range []*client{calm, friend, gone} {
		c.take()
	}
	l := r.node.loops[0]
	say := func(text string) {
		all[0].request(routeSend, sendBody(text, "*"))
		all[0].sock.Ready()
	}
	text := strings.Repeat("x", 1000)
	r.net.WriteNanos = 100_000 // a turn has time for few of the members
	for range 3 {
		say(text)
	}
	r.net.TurnLoop(0)
	if n := l.backlog.Load(); n <= int64(l.node.limits.Load().LoopBytes) || l.rooms.crowded.Load() != nil {
		t.Fatalf("the logs have %d bytes, crowded rooms: %v", n, l.rooms.crowded.Load())
	}
	before := l.worker.Stats().Busy
	toAll, toOne := calm.request(routeSend, sendBody("x", "*")), calm.request(routeSend, sendBody("x", "calm1"))
	enter := late.request(routeEnter, enterBody("late", "elsewhere"))
	gone.sock.End()
	for _, c := range []*client{calm, late, gone} {
		c.sock.Ready()
	}
	if n := l.worker.Stats().Busy - before; n != 3 {
		t.Errorf("%d refusals were counted", n)
	}
	r.net.Settle()
	calm.want(fmt.Sprintf("answer %d %s", toAll, refused), fmt.Sprintf("answer %d %s", toOne, refused), `push 0 onLeave {"route":"onLeave","user":"calm2"}`)
	late.want(fmt.Sprintf("answer %d %s", enter, enterRefused))
	friend.want(`push 0 onLeave {"route":"onLeave","user":"calm2"}`)
	for i, c := range all[1:] {
		if got := c.take(); len(got) != 3 {
			t.Fatalf("member %d of the large room got %d of 3 messages", i+1, len(got))
		}
	}
	if got := calm.ask(routeSend, sendBody("again", "*")); got != `{}` {
		t.Errorf("when all was written it answered %s", got)
	}
	if got := late.enter("late", "elsewhere"); got != `{"users":["late"]}` {
		t.Errorf("when all was written it answered an enter %s", got)
	}
}

// What waits for a worker counts by what it weighs, so a few long messages fill its inbox as many short ones do: for sessions that say
// something or enter, and for programs. What sets things free is posted all the same.
func TestInboxCountsContents(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Inbox = 3 })
	room := foreignRoom(r, 0)
	at := func(loop int) *client { r.next = loop; return r.login(atConnector, false) }
	long, short, late, gone, near := at(0), at(0), at(0), at(0), at(1)
	for i, c := range []*client{long, short, gone, near} {
		c.enter(fmt.Sprint("n", i), room)
	}
	for _, c := range []*client{long, short, gone, near} {
		c.take()
	}
	one := long.request(routeSend, sendBody(strings.Repeat("x", 2<<12), "nobody")) // weighs three
	two := short.request(routeSend, sendBody("x", "*"))
	three := late.request(routeEnter, enterBody("late", room))
	gone.sock.End()
	for _, c := range []*client{long, short, late, gone} {
		c.sock.Ready()
	}
	if n := r.home(room).inbox.Load(); n != 3+1 {
		t.Errorf("what waits weighs %d: the message should weigh 3, and the leave 1", n)
	}
	push := channel.Request{Op: channel.OpPush, Room: room, Target: channel.Everybody, Route: "n", Content: []byte(`{}`)}
	if err := r.node.request(push); !errors.Is(err, app.ErrBusy) {
		t.Errorf("a program's push: %v", err)
	}
	near.request(routeSend, sendBody("near", "*")) // the worker's own loop has the same inbox
	near.sock.Ready()
	if n := r.node.loops[0].counters.busy + r.node.loops[1].counters.busy; n != 3 {
		t.Errorf("%d refusals were counted", n)
	}
	r.net.Settle()
	long.want(fmt.Sprintf("answer %d %s", one, refused), // there is nobody of that name
		`push 0 onLeave {"route":"onLeave","user":"n2"}`)
	short.want(fmt.Sprintf("answer %d %s", two, refused), `push 0 onLeave {"route":"onLeave","user":"n2"}`)
	late.want(fmt.Sprintf("answer %d %s", three, enterRefused))
	near.want(fmt.Sprintf("answer 2 %s", refused), `push 0 onLeave {"route":"onLeave","user":"n2"}`)
	if err := r.node.request(push); err != nil {
		t.Errorf("when the inbox was empty a program's push: %v", err)
	}
	r.net.Settle()
	for _, c := range []*client{long, short, near} {
		c.want(`push 0 n {}`)
	}
	if got := late.enter("late", room); got != `{"users":["n0","n1","n3","late"]}` {
		t.Errorf("when the inbox was empty it answered an enter %s", got)
	}
}

// While more is buffered for all than may be, whoever has something kept is not read, so nobody's hoard grows while others are ended for theirs; who
// has nothing kept is served. When the largest hoard is gone, everybody goes on.
func TestFullBudgetReadsNobodyOn(t *testing.T) {
	for _, loops := range []int{1, 3} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) {
			const most = 100_000
			r := newRig(t, shape{loops: loops}, func(c *Config) {
				c.Limits.Conn.Outbound, c.Limits.PackageBytes, c.Limits.Conn.Buffered = most/2, most/4, most
			})
			all := r.members(2, "r")
			free, half := all[0], all[1]
			var hoarders []*client
			for i := range byte(7) { // of addresses of their own, or a turn reads few of them (shares)
				r.peer = netip.AddrFrom4([4]byte{192, 0, 2, i})
				hoarders = append(hoarders, r.login(atConnector, i%2 == 0))
			}
			request := half.message(7, "no.such.route", "{}")
			half.sock.Send(request[:len(request)/2])
			half.sock.Ready()
			for _, c := range hoarders {
				b := c.bytes(codec.PackageData, make([]byte, most/4-100))
				c.sock.Send(b[:len(b)-1])
			}
			for i := 0; r.node.budget.Buffered() <= most; i++ {
				if i == 10*len(hoarders) {
					t.Fatalf("%d bytes are buffered, of %d that may be", r.node.budget.Buffered(), most)
				}
				hoarders[i%len(hoarders)].sock.Ready()
			}
			half.sock.Send(request[len(request)/2:])
			id := free.request("no.such.route", "{}")
			half.sock.Ready()
			free.sock.Ready()
			if got := half.take(); len(got) > 0 {
				t.Errorf("one with something kept was read on: %q", got)
			}
			free.want(fmt.Sprintf("answer %d %s", id, refused))
			r.net.Settle()
			if n := r.closedFor(netpoll.ReasonMemory); n == 0 || n == uint64(len(hoarders)) {
				t.Errorf("%d of %d hoarders were ended", n, len(hoarders))
			}
			if got := fmt.Sprint(half.take()); !strings.Contains(got, "answer 7 "+refused) || half.ended() {
				t.Errorf("ended %v; afterwards it got %s", half.ended(), got)
			}
		})
	}
}

// Of what all connections of an address send at once a turn takes a few long reads, and the rest waits for later ones; who comes from elsewhere is
// served in between. In the end everything is read.
func TestLongReadsOfOneAddress(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	const crowd, long = 40, 16 << 10
	var all []*client
	for range crowd {
		all = append(all, r.login(atConnector, false))
	}
	r.peer = netip.MustParseAddr("2001:db8:1::1")
	other := r.login(atConnector, true)
	for _, c := range all {
		b := c.bytes(codec.PackageData, make([]byte, 3*long))
		c.sock.Send(b[:len(b)-1])
	}
	id := other.request("no.such.route", "{}")
	r.net.Events()
	if n := r.node.budget.Inbound(); n < long || n > crowd/4*long {
		t.Errorf("%d bytes were read at once, of %d that have come", n, crowd*3*long)
	}
	other.want(fmt.Sprintf("answer %d %s", id, refused))
	r.net.Settle()
	if n := r.node.budget.Inbound(); n < crowd*3*long {
		t.Errorf("in the end %d bytes were read of %d", n, crowd*3*long)
	}
}
