package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
)

// What a turn has for guests of a room is written before it grows with the messages of the turn.
func TestGuestsBytesAreBounded(t *testing.T) {
	const guests, messages, bytes = 10, 100, 100 << 10
	r, of, _ := furtherRig(t, shape{loops: 1}, nil)
	for i := range guests {
		name := string(rune('a' + i))
		c := r.login(atConnector, true)
		c.enter(name, "lobby")
		r.changed(nil, func() error { return of[name].Join(t.Context(), "team") })
	}
	l := r.node.loops[0]
	var vg *variantGroup
	for _, room := range l.rooms.byID {
		for _, g := range room.groups {
			if g.guests != nil {
				vg = g
			}
		}
	}
	if vg == nil || len(vg.guests.sessions) != guests {
		t.Fatal("no guests")
	}
	l.rooms.encoded = make([]byte, bytes)
	most := 0
	for range messages { // no socket is full: they all take what is written
		l.rooms.pushToGuests(vg, "onChat", nil)
		staged := 0
		for _, s := range vg.guests.sessions {
			staged += s.conn.Queued()
		}
		most = max(most, staged)
	}
	if most == 0 || most > maxStaged+bytes {
		t.Errorf("%d bytes wait for guests, of %d", most, guests*messages*bytes)
	}
}

// Who comes back before the cut of its old session is noticed finds its places in all its rooms, as after a cut that was noticed.
func TestReturnToSeveralRoomsBeforeTheCutIsNoticed(t *testing.T) {
	const enterBob = `{"username":"bob","rid":"one",` + secretOfB + `}`
	for _, sh := range shapes {
		r, of, _ := furtherRig(t, sh, keepPlaces)
		w, v := r.login(atConnector, true), r.login(atConnector, false)
		w.enter("w", "one")
		v.enter("v", "two")
		bob := r.login(atConnector, true)
		bob.ask(routeEnter, enterBob)
		r.changed(nil, func() error { return of["bob"].Join(t.Context(), "two") })
		w.take()
		v.take()
		delete(of, "bob")
		again := r.login(atConnector, true)
		if got := again.ask(routeEnter, enterBob); got != `{"users":["w","bob"]}` {
			t.Error(got)
		}
		r.net.Settle()
		if got := strings.Join(bob.take(), "\n"); !strings.Contains(got, "replaced by a new session of yours") {
			t.Errorf("the old one was told %q", got)
		}
		v.ask(routeSend, sendBody("meanwhile", "*"))
		r.changed(nil, func() error { return of["bob"].Join(t.Context(), "two") })
		wantPushes(t, again, "onChat meanwhile")
		wantPushes(t, v, "onChat meanwhile") // nobody has left, and nobody has come
		wantPushes(t, w)
		v.ask(routeSend, sendBody("now", "bob"))
		wantPushes(t, again, "onChat now")
	}
}

// The end of a further room is no end of its guests' sessions; that of the first one, which the client has entered, is.
func TestEndOfAFurtherRoom(t *testing.T) {
	for _, sh := range shapes {
		r, of, events := furtherRig(t, sh, nil)
		a := r.login(atConnector, true)
		a.enter("a", "one")
		r.changed(nil, func() error { return of["a"].Join(t.Context(), "two") })
		events()
		closeRoom := func(room string) {
			t.Helper()
			r.changed(nil, func() error { return r.node.KickMember(t.Context(), room, channel.Everybody, "closed") })
		}
		closeRoom("two")
		if got := events(); got != "a leaves two: "+string(app.Closed) {
			t.Error(got)
		}
		r.changed(nil, func() error { return of["a"].Join(t.Context(), "two") })
		if got := a.ask(routeSend, `{"content":"x","target":"*","rid":"two"}`); got != "{}" {
			t.Error(got)
		}
		wantPushes(t, a, "onChat x")
		events()
		closeRoom("one")
		if got := strings.Join(a.take(), "\n"); !strings.Contains(got, `{"reason":"closed"}`) {
			t.Errorf("told %q", got)
		}
		if got := events(); got != "a leaves one: kick, a leaves two: kick" {
			t.Error(got)
		}
		for _, l := range r.loops() {
			if l.counters.gaps+l.counters.panics > 0 {
				t.Error("gaps, or panics")
			}
		}
	}
}
