package app_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// tries enters a room with a password, and returns what it is told.
func tries(c *apptest.Client, user, room, password string) string {
	body := map[string]string{"username": user, "rid": room}
	if password != "" {
		body["password"] = password
	}
	err := c.Request("connector.entryHandler.enter", body, nil)
	switch {
	case err == nil:
		return "in"
	case !errors.Is(err, client.ErrRefused):
		return err.Error()
	}
	for _, reason := range []string{"room_locked", "room_members", "password"} {
		if strings.Contains(err.Error(), `"`+reason+`"`) {
			return reason
		}
	}
	return err.Error()
}

// A program makes a room before anybody is in it: with a capacity, a password, and what it is about.
func TestARoomThatIsMadeBefore(t *testing.T) {
	a := app.New()
	sessions := map[string]*app.Session{}
	a.Handle("test.testHandler.me", func(c *app.Call) (any, error) {
		var body struct{ Name string }
		err := c.Decode(&body)
		sessions[body.Name] = c.Session
		return nil, err
	})
	s := apptest.Start(t, a)
	client := func(name string) *apptest.Client {
		t.Helper()
		c := s.Connect()
		if err := c.Request("test.testHandler.me", map[string]string{"name": name}, nil); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx := t.Context()
	room := a.Room("table-1").Wait(ctx)
	type table struct{ Game string }
	if err := errors.Join(room.SetCapacity(2), room.SetPassword("open sesame"), room.SetData(table{"chess"})); err != nil {
		t.Fatal(err)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	about := func() (list string) {
		t.Helper()
		for info, err := range a.Rooms(ctx, "table-") {
			if err != nil {
				t.Fatal(err)
			}
			one, err := a.Room(info.Name).Info(ctx)
			if err != nil || fmt.Sprint(one) != fmt.Sprint(info) {
				t.Errorf("%v alone is %v, %v", info, one, err)
			}
			list += fmt.Sprintf("%s %d/%d locked=%v password=%v %s;", info.Name, info.Members, info.Capacity, info.Locked, info.Password, info.Data)
		}
		return list
	}
	expect("made", about(), `table-1 0/2 locked=false password=true {"Game":"chess"};`)

	ann, ben, cat := client("ann"), client("ben"), client("cat")
	expect("no password", tries(ann, "ann", "table-1", ""), "password")
	expect("another one", tries(ann, "ann", "table-1", "open"), "password")
	expect("that", tries(ann, "ann", "table-1", "open sesame"), "in")
	if err := sessions["ben"].Enter(ctx, app.Place{Room: "table-1", User: "ben"}); err != nil {
		t.Errorf("a program needs no password: %v", err)
	}
	expect("the seats are taken", tries(cat, "cat", "table-1", "open sesame"), "room_members")
	var refused *app.RefusedError
	cat.Enter("cat", "elsewhere")
	if err := sessions["cat"].Join(ctx, "table-1"); !errors.As(err, &refused) || refused.Reason != "room_members" {
		t.Errorf("for a program too: %v", err)
	}
	if err := errors.Join(room.Lock(), room.SetCapacity(0), room.SetPassword("")); err != nil {
		t.Fatal(err)
	}
	expect("locked", tries(cat, "cat", "table-1", ""), "room_locked")
	expect("a member of a locked room takes another name", tries(ann, "anna", "table-1", ""), "in")
	if err := sessions["cat"].Join(ctx, "table-1"); err != nil {
		t.Errorf("not for a program: %v", err)
	}
	if err := room.Unlock(); err != nil {
		t.Fatal(err)
	}
	dan := client("dan")
	expect("unlocked", tries(dan, "dan", "table-1", ""), "in")
	expect("now", about(), `table-1 4/0 locked=false password=false {"Game":"chess"};`)

	// It is there for an hour when all have left.
	for _, c := range []*apptest.Client{ann, ben, cat, dan} {
		c.Close()
	}
	for left := 1; left > 0; {
		var err error
		if left, err = room.Count(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s.Advance(59 * time.Minute)
	var is table
	if err := room.Data(ctx, &is); err != nil || is.Game != "chess" {
		t.Errorf("%v, %v", is, err)
	}
	s.Advance(2 * time.Minute)
	if err := room.Data(ctx, &is); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("after an hour: %v", err)
	}
	expect("after an hour", about(), "")
}

// What is set before the server's first client comes is there for it.
func TestARoomOfOnStart(t *testing.T) {
	a := app.New()
	a.OnStart(func() error { return a.Room("vault").SetPassword("x") })
	s := apptest.Start(t, a)
	if got := tries(s.Connect(), "ann", "vault", "y"); got != "password" {
		t.Error(got)
	}
}

// Data is changed as one step, by whoever it is at once.
func TestUpdateData(t *testing.T) {
	a := app.New()
	apptest.Start(t, a)
	ctx, room := t.Context(), a.Room("r")
	type score struct{ By map[string]int }
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 25 {
				if err := app.UpdateData(ctx, room, func(s *score) error {
					if s.By == nil {
						s.By = map[string]int{}
					}
					s.By[fmt.Sprint(i)]++
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var got score
	if err := room.Data(ctx, &got); err != nil || fmt.Sprint(got) != "{map[0:25 1:25 2:25 3:25]}" {
		t.Errorf("%v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := app.UpdateData(ctx, room, func(s *score) error { s.By["0"] = 0; return stop }); err != stop {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"too long": room.Wait(ctx).SetData(strings.Repeat("x", 1023)),
		"too long, made by an update": app.UpdateData(ctx, a.Room("other"), func(s *string) error {
			*s = strings.Repeat("x", 1023)
			return nil
		}),
	} {
		if !errors.Is(err, app.ErrData) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := room.Wait(ctx).SetData(strings.Repeat("x", 1022)); err != nil {
		t.Error(err)
	}
	if err := app.UpdateData(ctx, room, func(s *score) error { return nil }); err == nil {
		t.Error("a text is no score")
	}
	if err := room.Wait(ctx).SetData(nil); err != nil {
		t.Error(err)
	}
	if err := room.Data(ctx, &got); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("without data: %v", err)
	}
	if err := errors.Join(room.SetCapacity(-1)); err == nil {
		t.Error("a capacity below 0")
	}
	for _, name := range []string{"", "a*b", strings.Repeat("x", 65)} {
		if err := a.Room(name).Lock(); !errors.Is(err, app.ErrName) {
			t.Errorf("a room called %q: %v", name, err)
		}
		if err := a.Room(name).Wait(ctx).SetData(1); !errors.Is(err, app.ErrName) {
			t.Errorf("data of a room called %q: %v", name, err)
		}
	}
	if err := room.SetPassword(strings.Repeat("x", 129)); err == nil {
		t.Error("a password of 129 bytes")
	}
}

// A program reads what was said, a page at a time, and what was said since.
func TestHistory(t *testing.T) {
	a := app.New()
	s := apptest.Start(t, a)
	ctx, room := t.Context(), a.Room("r").Wait(t.Context())
	if _, _, err := room.History(ctx, app.Range{}); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("no room: %v", err)
	}
	ann := s.Connect()
	ann.Enter("ann", "r")
	for i := range 5 {
		if err := ann.Say(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	ann.Enter("ann", "elsewhere") // who is told is no member, and nobody is
	texts := func(q app.Range) (list []app.Message, text string) {
		t.Helper()
		list, more, err := room.History(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.From != "ann" || m.Time.IsZero() {
				t.Errorf("%+v", m)
			}
			text += m.Text()
		}
		return list, fmt.Sprint(text, more)
	}
	all, text := texts(app.Range{})
	if text != "01234false" {
		t.Fatal(text)
	}
	for _, tc := range []struct {
		q    app.Range
		want string
	}{
		{app.Range{Limit: 2}, "34true"},
		{app.Range{Limit: 2, Before: all[3].Seq}, "12true"},
		{app.Range{Before: all[2].Seq}, "01false"},
		{app.Range{Since: all[2].Seq}, "34false"},
		{app.Range{Since: all[1].Seq, Limit: 2}, "34true"},
		{app.Range{Since: all[2].Seq, Limit: 2}, "34false"},
		{app.Range{Since: all[1].Seq, Before: all[3].Seq, Limit: 2}, "2false"},
		{app.Range{Since: all[4].Seq}, "false"},
		{app.Range{Since: "1." + strings.Split(all[4].Seq, ".")[1]}, "01234false"},
	} {
		if _, got := texts(tc.q); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.q, got, tc.want)
		}
	}
	for _, q := range []app.Range{{Since: "x"}, {Before: "1"}} {
		if _, _, err := room.History(ctx, q); err == nil {
			t.Errorf("%+v is taken", q)
		}
	}
}
