package main

import (
	"testing"

	"github.com/pomelod/pomelod/app/apptest"
)

// The whole of the program on one node; test/fleet has it on two.
func TestFriends(t *testing.T) {
	s := apptest.Start(t, New())
	ann, ben := s.Connect(), s.Connect()
	ask := func(c *apptest.Client, route string, body, answer any) {
		t.Helper()
		if err := c.Request("friends.friendsHandler."+route, body, answer); err != nil {
			t.Fatal(err)
		}
	}
	ann.Enter("ann", "lobby")
	ben.Enter("ben", "lobby")
	ask(ann, "login", map[string]string{"uid": "1", "mood": "fine"}, nil)
	ask(ben, "login", map[string]string{"uid": "2"}, nil)
	ask(ben, "tell", map[string]any{"to": []string{"1"}, "text": "hi"}, nil)
	var told struct{ From, Text string }
	if ann.Wait("onTold", &told); told.From != "2" || told.Text != "hi" {
		t.Errorf("told %+v", told)
	}
	var room struct{ Members []string }
	ask(ann, "join", map[string]string{"room": "books"}, &room)
	ask(ben, "join", map[string]string{"room": "books"}, &room)
	if len(room.Members) != 2 {
		t.Errorf("members %v", room.Members)
	}
	rooms := map[string]int{}
	if ask(ann, "rooms", nil, &rooms); len(rooms) != 1 || rooms["friends-books"] != 2 {
		t.Errorf("rooms %v", rooms)
	}
	ask(ann, "tea", nil, nil)
	s.Advance(2 * Tea)
	var said struct{ From, Msg string }
	for said.From != "teapot" {
		ben.Wait("onChat", &said)
	}
	ask(ben, "shout", nil, nil)
	ann.Wait("onShout", nil)

	again := s.Connect()
	ask(again, "login", map[string]string{"uid": "1"}, nil)
	again.Enter("ann", "lobby") // the old session has left it
	var online struct{ Sessions int }
	if ask(ben, "online", map[string]string{"uid": "1"}, &online); online.Sessions != 1 {
		t.Errorf("%d sessions", online.Sessions)
	}
}
