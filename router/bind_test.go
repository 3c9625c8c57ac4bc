package router

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/internal/hosting"
)

// knownTo is a session as an App knows it.
func (r *rig) knownTo(a *app.App, uid string) *appClient {
	r.t.Helper()
	for _, l := range r.loops() {
		for i := range l.sessions {
			for j := range l.sessions[i] {
				if k := l.sessions[i][j].appClient(); k != nil && k.UID() == uid {
					return k
				}
			}
		}
	}
	r.t.Fatalf("no session is %s's", uid)
	return nil
}

// bindRig is a rig whose program knows sessions by the names under which they have entered a room.
func bindRig(t *testing.T, sh shape, names ...string) (r *rig, a *app.App, of map[string]*app.Session, count func(uid string) int) {
	a, of = app.New(), make(map[string]*app.Session)
	a.OnEnter(func(s *app.Session) { of[s.User()] = s })
	r = appRig(t, sh, a)
	for _, name := range names {
		r.login(atConnector, true).enter(name, "lobby")
	}
	return r, a, of, func(uid string) (n int) {
		t.Helper()
		r.changed(nil, func() (err error) { n, err = a.CountUID(t.Context(), uid); return err })
		return n
	}
}

// posted waits until something is posted. Nobody turns the loop meanwhile, so it is not answered.
func posted(t *testing.T, n *Node, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was posted in 30 s")
		}
	}
	n.posting.Lock() // whoever posts has done so
	defer n.posting.Unlock()
}

// A session whose login is refused has not stopped being whose it was for a moment: nobody has got in there meanwhile.
func TestRefusedLoginKeepsItsClaim(t *testing.T) {
	for _, sh := range shapes {
		r, a, of, count := bindRig(t, sh, "ann", "ben", "cid")
		one := app.Logins{Most: 1}
		r.changed(nil, func() error { return of["ann"].Login(t.Context(), "u", one) })
		r.changed(nil, func() error { return of["cid"].Login(t.Context(), "v", one) })
		of["ben"].Bind("w")
		r.net.Settle()
		ann, ben := r.knownTo(a, "u"), r.knownTo(a, "w")
		var errs [2]error
		for i, k := range []*appClient{ann, ben} { // before a loop turns
			login := hosting.Login{UID: []string{"v", "u"}[i], Most: 1, Done: func(_ int, err error) { errs[i] = err }}
			if err := k.Login(&login); err != nil {
				t.Fatal(err)
			}
		}
		r.net.Settle()
		for i, who := range []string{"ann", "ben"} {
			var refused *app.RefusedError
			if !errors.As(errs[i], &refused) || refused.Reason != "sessions" {
				t.Errorf("%s: %v", who, errs[i])
			}
		}
		if got := fmt.Sprintln(of["ann"].UID(), of["ben"].UID(), of["cid"].UID(), count("u"), count("v"), count("w")); got != "u w v 1 1 1\n" {
			t.Errorf("whose they are, and how many are counted: %s", got)
		}
	}
}

// Whatever is asked for a session at a time, in the end it is counted as a session of whose it is, and of nobody else's.
func TestBindsOfASessionAtOnce(t *testing.T) {
	r, _, of, count := bindRig(t, shape{loops: 2}, "ann")
	ann := of["ann"]
	for range 50 {
		done := make(chan error, 4)
		for _, bind := range []func() error{
			func() error { ann.Bind("a"); return nil },
			func() error { ann.Bind("b"); return nil },
			func() error { return ann.Login(t.Context(), "c", app.Logins{Most: 1}) },
			func() error { return ann.Login(t.Context(), "d", app.Logins{Most: 1, KickOld: true}) },
		} {
			go func() { done <- bind() }()
		}
		for range cap(done) {
			if err := r.asked(func() error { return <-done }); err != nil {
				t.Fatal(err)
			}
		}
		r.net.Settle()
		for _, uid := range []string{"a", "b", "c", "d"} {
			want := 0
			if ann.UID() == uid {
				want = 1
			}
			if got := count(uid); got != want {
				t.Fatalf("it is %q's and is counted %d times as one of %s's", ann.UID(), got, uid)
			}
		}
	}
}

// A Bind while a login is under way holds: that changes nothing when it is answered.
func TestBindGoesBeforeALoginUnderWay(t *testing.T) {
	r, a, of, count := bindRig(t, shape{loops: 1}, "ann")
	ann := of["ann"]
	ann.Bind("first")
	r.net.Settle()
	k := r.knownTo(a, "first")
	done := make(chan error, 1)
	go func() { done <- ann.Login(t.Context(), "login", app.Logins{Most: 1}) }()
	posted(t, r.node, func() bool { return k.courier.(*loop).mailBytes.Load() > 0 })
	ann.Bind("second")
	if err := r.asked(func() error { return <-done }); err != nil {
		t.Error(err)
	}
	r.net.Settle()
	if got := fmt.Sprintln(ann.UID(), count("first"), count("login"), count("second")); got != "second 0 0 1\n" {
		t.Errorf("whose it is, and how many are counted: %s", got)
	}
}

// While somebody waits for a login the session does not go along in an upgrade: nobody would answer.
func TestLoginUnderWayStays(t *testing.T) {
	r, a, of, _ := bindRig(t, shape{loops: 1}, "ann")
	ann := of["ann"]
	ann.Bind("u")
	r.net.Settle()
	k := r.knownTo(a, "u")
	s := k.courier.(*loop).clientOf(k)
	k.packed = new(hosting.Carried)
	if why := s.exportable(); why != 0 {
		t.Fatal(why)
	}
	done := make(chan error, 1)
	go func() { done <- ann.Login(t.Context(), "v", app.Logins{Most: 1}) }()
	posted(t, r.node, func() bool { return k.courier.(*loop).mailBytes.Load() > 0 })
	if why := s.exportable(); why != staysHandled {
		t.Error("it may go:", why)
	}
	if err := r.asked(func() error { return <-done }); err != nil {
		t.Error(err)
	}
	if why := s.exportable(); why != 0 {
		t.Error(why)
	}
	k.bindings = append(k.bindings, binding{Login: new(hosting.Login)}) // one that was given up before its answer has come: that may still make the session another's
	if why := s.exportable(); why != staysHandled {
		t.Error("it may go:", why)
	}
	k.bindings = nil
	ann.Bind("w")
	if why := s.exportable(); why != staysHandled { // the App was asked before
		t.Error("it may go:", why)
	}
}

// An operator means by a uid also the sessions that a program has bound to it, whether they are counted or not: to push to them, to list and to kick them.
func TestOperatorsNameBoundSessions(t *testing.T) {
	for _, sh := range shapes {
		r, _, of, _ := bindRig(t, sh, "ann", "ben", "cid")
		of["ann"].Bind("u")
		r.changed(nil, func() error { return of["ben"].Login(t.Context(), "u", app.Logins{}) })
		of["cid"].Bind("v")
		r.net.Settle()
		pushed, kicked, list := 0, 0, []SessionInfo(nil)
		err := r.asked(func() (err error) {
			if pushed, err = r.node.PublishSessions(t.Context(), SessionFilter{UID: "u"}, "onX", []byte(`{}`)); err == nil {
				list, _, err = r.node.ListSessions(t.Context(), SessionFilter{UID: "u"}, SessionCursor{}, 10)
			}
			if err == nil {
				kicked, err = r.node.KickSessions(t.Context(), SessionFilter{UID: "u"}, "bye")
			}
			return err
		})
		if err != nil || pushed != 2 || kicked != 2 || len(list) != 2 || list[0].UID != "u" || list[1].UID != "u" {
			t.Errorf("%v: %v, %d are pushed to, %d kicked, listed %+v", sh, err, pushed, kicked, list)
		}
	}
}
