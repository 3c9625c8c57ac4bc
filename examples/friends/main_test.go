package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
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
	rooms := map[string]Listed{}
	ask(ann, "open", map[string]any{"room": "books", "topic": "novels", "seats": 2}, nil)
	if ask(ben, "rooms", nil, &rooms); len(rooms) != 1 || rooms["friends-books"] != (Listed{0, 2, "novels"}) {
		t.Errorf("rooms %v", rooms)
	}
	var room struct{ Members []string }
	ask(ann, "join", map[string]string{"room": "books"}, &room)
	ask(ben, "join", map[string]string{"room": "books"}, &room)
	if len(room.Members) != 2 {
		t.Errorf("members %v", room.Members)
	}
	if ask(ann, "rooms", nil, &rooms); len(rooms) != 1 || rooms["friends-books"] != (Listed{2, 2, "novels"}) {
		t.Errorf("rooms %v", rooms)
	}
	cid := s.Connect()
	cid.Enter("cid", "lobby")
	if err := cid.Request("friends.friendsHandler.join", map[string]string{"room": "books"}, nil); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "room_members") {
		t.Errorf("a third one: %v", err)
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
