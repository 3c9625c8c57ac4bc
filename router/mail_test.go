package router

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// With all the requests waiting that may wait, a turn carries out a slice of them, so a client of that loop is served between two turns;
// and they are carried out in the order posted.
func TestMailIsSliced(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) {
		c.Limits.RoomBytes, c.Limits.LoopBytes = 1<<30, 1<<30
		c.Limits.Conn.Outbound = 1 << 26
	})
	room := foreignRoom(r, 0)
	l := r.home(room)
	r.next = 1
	member := r.login(atConnector, false) // of the same loop
	r.next = 1
	other := r.login(atConnector, true)
	member.enter("a", room)
	member.take()
	n := 0
	for in := (*mailInlet)(l); !in.Full(); n++ {
		in.Post(channel.Request{
			Op: channel.OpPush, Part: channel.Partition(room), Room: room, Target: channel.Everybody, Route: "n", Content: fmt.Appendf(nil, `{"n":%d}`, n),
		})
	}
	if n != 16384 {
		t.Fatalf("%d fit", n)
	}
	turns, echoes := 0, 0
	for left := l.inbox.Load(); left > 0; turns++ {
		r.net.TurnLoop(l.index)
		if done := left - l.inbox.Load(); done > mailSlice || done == 0 {
			t.Fatalf("turn %d carried out %d requests", turns, done)
		}
		left = l.inbox.Load()
		before := len(other.sock.Wrote)
		other.request("no.such.route", "{}")
		other.sock.Ready() // what the next call of epoll_wait brings
		if len(other.sock.Wrote) > before {
			echoes++
		}
	}
	if want := n / mailSlice; turns != want || echoes != want {
		t.Errorf("%d turns, want %d; %d requests were answered between them", turns, want, echoes)
	}
	r.net.Settle()
	next := 0
	for _, e := range member.take() {
		if e == fmt.Sprintf(`push 0 n {"n":%d}`, next) {
			next++
		}
	}
	if next != n {
		t.Errorf("%d of %d pushes came in order", next, n)
	}
}

// Mail that takes long is carried out in shorter slices, so what a client waits for does not depend on what the others ask for.
func TestSlowMailIsSlicedByTime(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	l := r.node.loops[0]
	other := r.login(atConnector, true)
	const each = mailNanos / 20 // so a slice has 21, and those up to the next look
	done, posted := 0, 10*mailSlice
	for range posted {
		l.postRun(0, func() {
			done++
			r.net.Pass(each)
		})
	}
	for before := 0; done < posted; before = done {
		r.net.TurnLoop(l.index)
		if n := done - before; n != 24 && done < posted {
			t.Fatalf("a turn carried out %d", n)
		}
		wrote := len(other.sock.Wrote)
		other.request("no.such.route", "{}")
		if other.sock.Ready(); len(other.sock.Wrote) == wrote {
			t.Fatal("a request was not answered between two turns")
		}
	}
}

// What a turn does before, for newcomers and handshakes, takes nothing of the mail's time: in a storm of them mail would hardly be carried out, and fill up.
func TestMailHasItsOwnTime(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	l := r.node.loops[0]
	done := 0
	for range mailSlice {
		l.postRun(0, func() { done++ })
	}
	r.net.Pass(1) // an event at 0 has not looked at the clock
	began := l.np.EventNanos()
	r.net.Pass(10 * mailNanos)
	if l.np.EventNanos() != began {
		t.Fatal("another event has begun")
	}
	if l.Turn(); done != mailSlice {
		t.Errorf("a turn carried out %d of %d", done, mailSlice)
	}
}

// An answer that comes before that of an older request waits for it: nothing is dropped, and answers keep the order of requests.
func TestAnswersWaitForTheirTurn(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	room := foreignRoom(r, 0)
	c := r.login(atConnector, true)
	c.enter("a", room)
	c.take()
	for range 3 {
		c.request(routeSend, sendBody("x", "nobody"))
	}
	r.net.Events()
	l := r.node.loops[0]
	var s *session
	for slot := range l.sessions[0] {
		if in := &l.sessions[0][slot]; in.inflight() == 3 {
			s = in
		}
	}
	if s == nil {
		t.Fatal("nothing is in flight")
	}
	answer := func(i int, body string) {
		l.apply(&channel.Item{Kind: channel.ItemReply, To: l.addr(s.conn), Req: s.x.pending[i].req, Body: []byte(body)})
	}
	answer(2, `{"n":3}`)
	answer(2, `{"n":"again"}`) // of a second owner, say
	answer(1, `{"n":2}`)
	c.want()
	answer(0, `{"n":1}`)
	for range 100 {
		l.np.Turn()
	}
	c.want(`answer 2 {"n":1}`, `answer 3 {"n":2}`, `answer 4 {"n":3}`)
	r.net.Settle() // the owner's own answers come too late
	c.want()
}
