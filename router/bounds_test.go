package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// The rows of "What is bounded" in docs/ARCHITECTURE.md that chat_test.go does not show: what happens at each bound, that it is counted, and that nobody
// else notices.

// forLoops runs f on one loop and on three.
func forLoops(t *testing.T, change func(*Config), f func(t *testing.T, r *rig)) {
	numbers := []int{1, 3}
	if raceEnabled {
		numbers = numbers[1:] // see fewer
	}
	for _, loops := range numbers {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { f(t, newRig(t, shape{loops: loops}, change)) })
	}
	if change == nil {
		return
	}
	t.Run("reloaded", func(t *testing.T) { // limits that come to hold while the node serves hold as those with which it has begun
		var limits Limits
		r := newRig(t, shape{loops: 2}, func(c *Config) { // what a reload does not change is there from the beginning
			before := c.Limits
			change(c)
			limits, c.Limits = c.Limits, before
		})
		r.node.SetLimits(limits, r.cfg.Access.PerAddress, Origins{})
		r.net.Settle()
		f(t, r)
	})
}

// members are n clients in one room, over either transport; what they were told so far is forgotten.
func (r *rig) members(n int, room string) (all []*client) {
	r.t.Helper()
	for i := range n {
		c := r.login(atConnector, i%2 == 0)
		if got := c.enter(fmt.Sprint("n", i), room); !strings.HasPrefix(got, `{"users":`) {
			r.t.Fatal(got)
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.take()
	}
	return all
}

// keepUp lets a second pass in which everybody shows a sign of life.
func keepUp(r *rig, all ...*client) {
	for _, c := range all {
		c.send(codec.PackageHeartbeat, nil)
	}
	r.net.Seconds(1)
}

// A member with more unsent bytes than the bound is ended, and counted; the others miss nothing.
func TestSlowMemberIsEndedAlone(t *testing.T) {
	const outbound = 20_000
	change := func(c *Config) { c.Limits.Conn.Outbound, c.Limits.PackageBytes = outbound, outbound/2 }
	forLoops(t, change, func(t *testing.T, r *rig) {
		all := r.members(6, "r")
		slow, others := all[3], append(all[:3:3], all[4:]...)
		slow.sock.Room = 0
		text := strings.Repeat("x", 1000)
		push := fmt.Sprintf(`push 0 onChat {"msg":"%s","from":"n0","target":"*"}`, text)
		left, sends := false, 0
		for !left && sends < 100 {
			sends++
			if got := all[0].ask(routeSend, sendBody(text, "*")); got != `{}` {
				t.Fatal(got)
			}
			for _, c := range others {
				got := c.take()
				left = len(got) == 2 && got[1] == `push 0 onLeave {"route":"onLeave","user":"n3"}`
				if got[0] != push || len(got) > 1 && !left {
					t.Fatalf("after %d messages: %q", sends, got)
				}
			}
		}
		if !left || !slow.sock.Closed || sends*len(push) < outbound {
			t.Errorf("gone %v, closed %v, after %d messages", left, slow.sock.Closed, sends)
		}
		if n := r.closedFor(netpoll.ReasonSlow); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// A member that takes nothing for 20 seconds is ended, however little waits for it.
func TestStuckMemberIsEndedAlone(t *testing.T) {
	forLoops(t, nil, func(t *testing.T, r *rig) {
		all := r.members(4, "r")
		all[3].sock.Room = 0
		all[0].ask(routeSend, sendBody("x", "*"))
		for range 19 {
			keepUp(r, all...)
		}
		if all[3].ended() {
			t.Fatal("ended too early")
		}
		all[1].take()
		keepUp(r, all...)
		all[1].want(`push 0 onLeave {"route":"onLeave","user":"n3"}`)
		if n := r.closedFor(netpoll.ReasonStuck); n != 1 || !all[3].sock.Closed {
			t.Errorf("%d counted, closed %v", n, all[3].sock.Closed)
		}
	})
}

// When all connections together have too much unsent, the loop that has most ends its largest backlog, and no other. Here one member has more unsent than the
// others together, so it is the one, whichever loops they are on.
func TestTotalOutboundEndsTheLargest(t *testing.T) {
	change := func(c *Config) {
		c.Limits.Conn.Outbound, c.Limits.Conn.Buffered, c.Limits.PackageBytes = 60_000, 100_000, 10_000
	}
	forLoops(t, change, func(t *testing.T, r *rig) {
		all := r.members(5, "r")
		text := strings.Repeat("x", 5000)
		largest, others := all[2], []*client{all[1], all[3]}
		for _, c := range append(others, largest) {
			c.sock.Room = 0
		}
		for range 3 {
			for _, target := range []string{"n2", "n2", "n2", "n1", "n3"} { // one after the other: the largest has most all the time
				if got := all[0].ask(routeSend, sendBody(text, target)); got != `{}` {
					t.Fatal(got)
				}
			}
		}
		if n := r.node.budget.Buffered(); n < 60_000 || largest.ended() {
			t.Fatalf("%d bytes unsent before the bound, ended %v", n, largest.ended())
		}
		for range 4 {
			for _, target := range []string{"n2", "n1", "n3"} {
				all[0].ask(routeSend, sendBody(text, target))
			}
		}
		if !largest.sock.Closed || r.closedFor(netpoll.ReasonMemory) != 1 || r.closedFor(netpoll.ReasonSlow) != 0 {
			t.Errorf("closed %v, %d counted", largest.sock.Closed, r.closedFor(netpoll.ReasonMemory))
		}
		for i, c := range others {
			c.sock.Room = -1
			c.take()
			r.net.Settle()
			chats := 0
			for _, e := range c.take() {
				if strings.HasPrefix(e, "push 0 onChat") {
					chats++
				}
			}
			if c.ended() || chats != 7 {
				t.Errorf("other %d: ended %v, has %d of 7 messages", i, c.ended(), chats)
			}
		}
		if n := r.node.budget.Buffered(); n != 0 {
			t.Errorf("%d bytes unsent at the end", n)
		}
	})
}

// A session with all its requests in flight has its other bytes unread, and answers in order when they come.
func TestInflightKeepsOrder(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Inflight = 3 })
	room := foreignRoom(r, 0)
	for _, ws := range []bool{false, true} {
		r.next = 0
		c := r.login(atConnector, ws)
		name := fmt.Sprint("n", ws)
		c.enter(name, room)
		var want []string
		for i := range 20 {
			id := c.request(routeSend, sendBody(fmt.Sprint(i), name))
			want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%d","from":"%s","target":"%s"}`, i, name, name), fmt.Sprintf("answer %d {}", id))
		}
		for range 50 {
			r.net.Events()
			r.net.TurnLoop(1)
			if n := r.inbox(); n > 3 {
				t.Fatalf("%d in flight", n)
			}
			r.net.TurnLoop(0)
		}
		c.want(want...)
	}
}

// A worker with too much to do refuses to let anybody in, with nothing changed; leaves are never refused.
func TestBusyWorkerRefusesEnter(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Inbox = 1 })
	room := foreignRoom(r, 0)
	var here []*client
	for range 4 {
		r.next = 0
		here = append(here, r.login(atConnector, true))
	}
	here[0].enter("first", room)
	for i, c := range here[1:] {
		c.request(routeEnter, enterBody(fmt.Sprint("n", i), room))
		c.sock.Ready()
	}
	here[0].sock.End()
	r.net.Settle()
	here[1].want(`answer 1 {"users":["first","n0"]}`, `push 0 onLeave {"route":"onLeave","user":"first"}`)
	here[2].want(`answer 1 ` + enterRefused)
	here[3].want(`answer 1 ` + enterRefused)
	if n := r.node.loops[0].counters.busy; n != 2 {
		t.Errorf("%d counted", n)
	}
	if got := here[2].enter("n1", room); got != `{"users":["n0","n1"]}` {
		t.Error(got)
	}
}

// A loop with too much in its mail has nothing new admitted for it, by workers of other loops either; what was admitted arrives,
// leaves go through, and when the mail has been read it goes on.
func TestFullLoopRefuses(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.LoopBytes = 2000 })
	room := foreignRoom(r, 0)
	at := func(loop int, name string) *client {
		r.next = loop
		c := r.login(atConnector, false)
		if name != "" {
			c.enter(name, room)
		}
		return c
	}
	far, gone, near, late := at(0, "far"), at(1, "gone"), at(1, "near"), at(1, "")
	for _, c := range []*client{far, near} {
		c.take()
	}
	text := strings.Repeat("x", 500)
	for range 8 {
		near.request(routeSend, sendBody(text, "*"))
	}
	near.request(routeSend, sendBody(text, "far"))
	late.request(routeEnter, enterBody("late", room))
	gone.sock.End()
	for _, c := range []*client{near, late, gone} {
		c.sock.Ready()
	}
	for r.net.TurnLoop(1) { // and loop 0 does not turn
	}
	accepted, rejected := 0, 0
	for _, e := range near.take() {
		switch {
		case strings.HasSuffix(e, " {}"):
			accepted++
		case strings.HasSuffix(e, refused):
			rejected++
		}
	}
	late.want("answer 1 " + enterRefused)
	if busy := r.node.loops[1].worker.Stats().Busy; accepted != 4 || rejected != 5 || busy != 6 {
		t.Errorf("%d accepted, %d refused, %d counted", accepted, rejected, busy)
	}
	far.want()
	r.net.Settle()
	if got := far.take(); len(got) != accepted+1 || got[accepted] != `push 0 onLeave {"route":"onLeave","user":"gone"}` {
		t.Errorf("got %d of %d messages: %.60q", len(got), accepted, got)
	}
	if got := late.enter("late", room); got != `{"users":["far","near","late"]}` {
		t.Error(got)
	}
}

// Names of users and rooms take 1 to 64 bytes in a list, and can be shown. A refused one changes nothing.
func TestNameBounds(t *testing.T) {
	good := []string{
		"a", strings.Repeat("x", 64), strings.Repeat("王", 21), strings.Repeat(smile, 5) + "王x", strings.Repeat(`"`, 32), strings.Repeat(`\`, 32), " ", `"`, `\`, "\u00a0", "\u200b", "undefined",
	}
	bad := []string{
		"", strings.Repeat("x", 65), strings.Repeat("王", 22), strings.Repeat(smile, 5) + "王xy", strings.Repeat(`"`, 33), strings.Repeat(`\`, 33), "*", "a*b", "\x00", "\t", "a\x1f", "\x7f", "\u0085",
	}
	r := newRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, true)
	c.enter("present", "present")
	refusals := uint64(0)
	for _, name := range bad {
		for _, body := range []string{enterBody(name, "r"), enterBody("u", name)} {
			refusals++
			if got := c.ask(routeEnter, body); got != enterRefused {
				t.Errorf("%s: %s", body, got)
			}
		}
	}
	if n := r.node.loops[0].counters.namesRefused; n != refusals {
		t.Errorf("%d of %d counted", n, refusals)
	}
	if got := c.ask(routeSend, sendBody("x", "present")); got != `{}` {
		t.Errorf("the refusals changed something: %s", got)
	}
	for _, name := range good {
		want := fmt.Sprintf(`{"users":[%s]}`, codec.AppendString(nil, name))
		if got := c.enter(name, "r"); got != want {
			t.Errorf("user %q: got %s, want %s", name, got, want)
		}
		if got := c.enter("u", name); got != `{"users":["u"]}` {
			t.Errorf("room %q: %s", name, got)
		}
	}
}

// An HTTP head may have 16 KiB, whether it comes at once or in pieces, and whether or not it would have ended.
func TestHeadBound(t *testing.T) {
	head := func(n int) []byte {
		const open, end = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + upgradeKey + "\r\nX: ", "\r\n\r\n"
		return []byte(open + strings.Repeat("x", n-len(open)-len(end)) + end)
	}
	for _, tc := range []struct {
		name   string
		bytes  []byte
		piece  int
		status string
	}{
		{"at the bound", head(16384), 16384, "101"},
		{"at the bound, in pieces", head(16384), 100, "101"},
		{"beyond", head(16385), 16385, "431"},
		{"beyond, in pieces", head(16385), 100, "431"},
		{"without an end", head(20_000)[:16385], 1000, "431"},
		{"far beyond", head(200_000), 50_000, "431"},
	} {
		r := newRig(t, shape{loops: 1}, nil)
		c := r.connect(atConnector, false)
		for b := tc.bytes; len(b) > 0; b = b[min(tc.piece, len(b)):] {
			c.sock.Send(b[:min(tc.piece, len(b))])
			r.net.Settle()
		}
		if got := string(c.sock.Wrote); !strings.HasPrefix(got, "HTTP/1.1 "+tc.status+" ") || c.ended() != (tc.status == "431") {
			t.Errorf("%s: ended %v, %q", tc.name, c.ended(), got)
		}
	}
}

// A connection that was ended for a package too long counts as too_long, also when the frame's length gave it away first.
func TestTooLongIsCounted(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.PackageBytes = 1000 })
		c := r.login(atConnector, ws)
		c.send(codec.PackageData, make([]byte, 1001))
		c.rest()
		if n := r.closedFor(reasonTooLong); n != 1 {
			t.Errorf("%d counted as too_long, %d as protocol", n, r.closedFor(reasonProtocol))
		}
	})
}

// A message whose push could not be queued for a healthy member is refused to its sender; nobody hears of it. The longest that
// can be reaches everybody, and nobody is ended for it.
func TestPushBound(t *testing.T) {
	change := func(c *Config) {
		c.Limits.Conn.Outbound, c.Limits.PackageBytes = 2<<20, 1<<20
		c.Profiles[atConnector].Protos = parseProtos(t, chatServerProtos, `{}`)
		c.Profiles = append(c.Profiles, &Profile{Name: "plain", Type: Connector})
	}
	forLoops(t, change, func(t *testing.T, r *rig) {
		all := r.members(3, "r")
		plain := r.login(2, true)
		plain.enter("plain", "r")
		for _, c := range all {
			c.take()
		}
		const room = 1<<20 - pushOverhead
		for _, tc := range []struct {
			name, content string
			accepted      bool
		}{
			{"one too long", strings.Repeat("x", room-1), false}, // and two quotes
			{"too long once escaped", strings.Repeat(smile, room/12+1), false},
			{"the longest", strings.Repeat("x", room-2), true},
			{"the longest once escaped", strings.Repeat(smile, room/12-1), true},
		} {
			want := refused
			if tc.accepted {
				want = `{}`
			}
			body := fmt.Sprintf(`{"content":"%s","target":"*"}`, tc.content)
			if got := all[0].ask(routeSend, body); got != want {
				t.Fatalf("%s: answered %s, want %s", tc.name, got, want)
			}
			for i, c := range append(all[:3:3], plain) {
				got := c.take()
				if len(got) != 0 != tc.accepted || c.ended() {
					t.Errorf("%s: member %d got %d events, ended %v", tc.name, i, len(got), c.ended())
				}
			}
		}
	})
}

// With limits that start accepts (-max-package 8MiB -outbound 64MiB), a message whose characters grow by being escaped may pass
// half of a connection's bound and still not the format's 2^24-1 bytes. It once ended the process; it is refused.
func TestPushBeyondTheFormatIsRefused(t *testing.T) {
	forLoops(t, func(c *Config) { c.Limits.Conn.Outbound, c.Limits.PackageBytes = 64<<20, 8<<20 }, func(t *testing.T, r *rig) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("the loop, so the process, panics: %v", p)
			}
		}()
		all := r.members(3, foreignRoom3(r))
		sender := all[0]
		id := sender.request(routeSend, fmt.Sprintf(`{"content":"%s","target":"*"}`, strings.Repeat(smile, 1_900_000)))
		r.net.Settle()
		sender.want(fmt.Sprintf("answer %d %s", id, refused))
		for i, c := range all {
			if c.ended() {
				t.Errorf("member %d was ended", i)
			}
		}
		if n := r.closedFor(netpoll.ReasonPanic); n != 0 {
			t.Errorf("%d connections ended by panics", n)
		}
		all[1].wantWorking()
	})
}

// foreignRoom3 is a room that, when there are other loops, lives on another loop than the first client.
func foreignRoom3(r *rig) string {
	if len(r.node.loops) == 1 {
		return "r"
	}
	return foreignRoom(r, 0)
}

// A member that asks for much more than it takes is not read on until it has taken it: one batch of bytes cannot make
// the server build answer upon answer.
func TestAnswersThrottleTheirAsker(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.NameBytes = 255 })
		for i := range 400 { // a list of more than throttleBytes
			r.login(atConnector, false).enter(strings.Repeat("n", 240)+fmt.Sprint(i), "r")
		}
		c := r.login(atConnector, ws)
		before := r.node.loops[0].counters.requests
		for i := range 100 {
			c.request(routeEnter, enterBody(fmt.Sprint("name", i%2), "r"))
		}
		c.sock.Ready()
		if n := r.node.loops[0].counters.requests - before; n != 1 {
			t.Errorf("%d requests were carried out before the first answer was taken", n)
		}
		c.sock.Room = 0 // and while nothing is taken, none
		r.net.Settle()
		if n := r.node.loops[0].counters.requests - before; n > 3 {
			t.Errorf("%d requests were carried out although nothing was taken", n)
		}
		c.sock.Room = -1
		r.net.Settle()
		answers := 0
		for _, e := range c.take() {
			if strings.HasPrefix(e, "answer") {
				answers++
			}
		}
		if answers != 100 {
			t.Errorf("%d of 100 requests were answered", answers)
		}
		if r.node.loops[0].np.Stats().Throttled == 0 {
			t.Error("not counted")
		}
	})
}

// Notifies need credits as requests do: a flood of one client does not fill a worker's inbox for the others.
func TestNotifyFloodKeepsToItsCredits(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	c := r.login(atConnector, false)
	c.enter("a", foreignRoom(r, 0))
	for range 3000 {
		c.notify(routeSend, sendBody("x", "nobody"))
	}
	r.net.Events()
	r.net.Events()
	if n := r.inbox(); n != int64(r.node.limits.Load().Inflight) {
		t.Errorf("%d wait for the worker", n)
	}
	r.net.Settle()
	c.want()
}
