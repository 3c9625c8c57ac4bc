package app_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// A handshake is answered as the program says, or refused, and what it has found out about the session is there when that opens.
func TestHandshake(t *testing.T) {
	a := app.New()
	score := app.NewData[int](a, "score")
	opened, closed := make(chan string, 10), make(chan string, 10)
	a.OnHandshake(func(h *app.Handshake) (any, error) {
		var user struct{ Name string }
		if err := h.Decode(&user); err != nil {
			return nil, err
		}
		switch user.Name {
		case "":
			return nil, nil
		case "panic":
			panic("planted")
		case "goexit":
			runtime.Goexit()
		case "coded":
			return nil, &app.Error{Code: 403, Body: map[string]string{"reason": "no"}}
		case "unfit":
			return make(chan int), nil
		case "long":
			return strings.Repeat("x", 16<<20), nil
		case "pushes":
			_ = h.Session.Push("onEarly", nil) // reaches nobody: the session is not open
		}
		h.Session.Bind(user.Name)
		score.Set(h.Session, len(user.Name))
		return map[string]string{"hello": user.Name, "type": h.Type}, nil
	})
	a.OnOpen(func(s *app.Session) { opened <- fmt.Sprint(s.UID(), " ", score.Get(s)) })
	a.OnClose(func(s *app.Session) { closed <- s.UID() })
	s := apptest.Start(t, a)
	for _, tc := range []struct {
		user any
		want string
	}{
		{map[string]string{"name": "ann"}, `{"hello":"ann","type":"go-tcp"}`},
		{map[string]string{"name": "pushes"}, `{"hello":"pushes","type":"go-tcp"}`},
		{nil, ""}, {map[string]string{}, ""},
		{7, `{"code":500}`}, {map[string]int{"name": 1}, `{"code":500}`},
		{map[string]string{"name": "panic"}, `{"code":500}`}, {map[string]string{"name": "goexit"}, `{"code":500}`},
		{map[string]string{"name": "unfit"}, `{"code":500}`}, {map[string]string{"name": "long"}, `{"code":500}`},
		{map[string]string{"name": "coded"}, `{"code":403,"reason":"no"}`},
	} {
		c, err := s.TryConnect(tc.user)
		if refused := strings.HasPrefix(tc.want, `{"code"`); refused {
			if !errors.Is(err, client.ErrRefused) || !strings.HasSuffix(err.Error(), tc.want) {
				t.Errorf("%v: %v, want %s", tc.user, err, tc.want)
			}
			continue
		}
		if err != nil || string(c.User()) != tc.want {
			t.Errorf("%v: %s, %v; want %s", tc.user, c.User(), err, tc.want)
			continue
		}
		var want string
		if tc.want == "" {
			want = " 0"
		} else {
			name := tc.user.(map[string]string)["name"]
			want = fmt.Sprint(name, " ", len(name))
		}
		if got := soon(t, opened); got != want {
			t.Errorf("%v: opened as %q, want %q", tc.user, got, want)
		}
		if err := c.TryEnter("u", "r"); err != nil { // and it goes on
			t.Error(err)
		}
		c.Close()
		soon(t, closed)
	}
	if n := len(opened) + len(closed); n > 0 {
		t.Errorf("%d calls of OnOpen and OnClose for handshakes that were refused", n)
	}
	if len(a.SessionsOf("ann")) > 0 {
		t.Error("a session that has ended is bound")
	}
}

// A client that goes while its handshake is looked at ends that, and nobody else waits for it.
func TestHandshakeIsGivenUp(t *testing.T) {
	a := app.New()
	begun, ended := make(chan bool), make(chan error, 1)
	a.OnHandshake(func(h *app.Handshake) (any, error) {
		if h.User == nil {
			return nil, nil
		}
		close(begun)
		<-h.Context().Done()
		ended <- h.Context().Err()
		return nil, nil
	})
	s := apptest.Start(t, a)
	failed := make(chan error, 1)
	go func() {
		_, err := s.TryConnect("slow")
		failed <- err
	}()
	soon(t, begun)
	s.Connect().Enter("ann", "r")
	for {
		select {
		case <-ended:
			if err := soon(t, failed); err == nil {
				t.Error("a handshake that took too long was accepted")
			}
			return
		case <-time.After(time.Millisecond):
			s.Advance(time.Second) // -handshake-timeout
		}
	}
}
