package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/cluster"
)

// friend is a client of examples/friends, and what it was told.
type friend struct {
	*client.Client
	t     *testing.T
	board *board
	told  []string // routes, and what a message says
	ended bool
}

func newFriend(t *testing.T, m *process, name string) *friend {
	t.Helper()
	c, err := client.Dial(m.addr("connector"), patience)
	if err != nil {
		t.Fatal(err)
	}
	f := &friend{Client: c, t: t, board: newBoard(t)}
	t.Cleanup(func() { c.Close() })
	go func() {
		for {
			push, err := c.Next()
			if err != nil {
				f.board.do(func() { f.ended = true })
				return
			}
			var said struct{ Msg, Text, Room string }
			_ = json.Unmarshal(push.Body, &said)
			f.board.do(func() { f.told = append(f.told, push.Route+" "+said.Msg+said.Text+said.Room) })
		}
	}()
	eventually(t, name+" to enter", func() bool { // refused while the room has no owner
		return c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": "lobby"}, nil) == nil
	})
	return f
}

// ask asks the program until it answers: a node that stands still for a second, as on a busy machine, refuses what is asked of rooms and users.
func (f *friend) ask(route string, body, answer any) {
	f.request("friends.friendsHandler."+route, body, answer)
}

func (f *friend) request(route string, body, answer any) {
	f.t.Helper()
	eventually(f.t, "an answer to "+route, func() bool {
		err := f.Request(route, body, answer)
		switch {
		case errors.Is(err, client.ErrRefused):
			f.t.Log(err)
		case err != nil:
			f.t.Fatal(err)
		}
		return err == nil
	})
}

// waitFor waits until it was told something, once.
func (f *friend) waitFor(what string) {
	f.t.Helper()
	f.board.wait(what, func() bool { return slices.Contains(f.told, what) })
	f.board.do(func() {
		if i := slices.Index(f.told, what); slices.Contains(f.told[i+1:], what) {
			f.t.Errorf("told twice: %s", what)
		}
	})
}

// A program is one on two real processes: its users are found wherever they are, one session each; rooms with owners on either node are joined, listed and spoken to; timers fire;
// and all of it goes on with one node when the other is killed.
func TestProgramOfTwoNodes(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "friends")
	if err := build("../..", binary, "./examples/friends"); err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, rng: rand.New(rand.NewPCG(1, 1)), nats: startNATS(t, nil), at: make(map[string]string)}
	for _, name := range []string{"a", "b"} {
		args := append(nodeFlags("127.0.0.1"), "-id", name, "-nats", h.nats.url(), "-grace", "0", "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
		h.nodes = append(h.nodes, &member{h: h, roles: cluster.RoleGate | cluster.RoleConnector | cluster.RoleChat, process: beginCommand(t, name, exec.Command(binary, args...))})
	}
	h.calm()
	a, b := h.nodes[0], h.nodes[1]
	ann, ben := newFriend(t, a.process, "ann"), newFriend(t, b.process, "ben")
	ann.ask("login", map[string]string{"uid": "1", "mood": "fine"}, nil)
	ben.ask("login", map[string]string{"uid": "2"}, nil)
	ben.ask("tell", map[string]any{"to": []string{"1", "2"}, "text": "hi"}, nil)
	ann.waitFor("onTold hi")
	ben.waitFor("onTold hi")

	const rooms = 8 // owners of both nodes, but for one case in 128
	var in struct{ Members []string }
	type listed struct {
		Members, Seats int
		Topic          string
	}
	holds := func(f *friend, members int) bool { // what was set of all rooms, as f's node tells it
		list := map[string]listed{}
		f.ask("rooms", nil, &list)
		for i := range rooms {
			if is := list[fmt.Sprint("friends-", i)]; len(list) != rooms || is.Members > members || is.Seats != 2 || is.Topic != fmt.Sprint("topic ", i) {
				t.Logf("rooms %+v", list)
				return false
			}
		}
		return true
	}
	for i := range rooms {
		[]*friend{ann, ben}[i%2].ask("open", map[string]any{"room": fmt.Sprint(i), "topic": fmt.Sprint("topic ", i), "seats": 2}, nil)
	}
	if !holds(ann, 0) || !holds(ben, 0) {
		t.Error("not all rooms are told, or not as they were made")
	}
	for i := range rooms {
		ann.ask("join", map[string]any{"room": fmt.Sprint(i)}, &in)
		ben.ask("join", map[string]any{"room": fmt.Sprint(i)}, &in)
		if fmt.Sprint(in.Members) != "[ann ben]" {
			t.Errorf("members %v", in.Members)
		}
		ann.waitFor(fmt.Sprintf("onJoined friends-%d", i))
		text := fmt.Sprint("to ", i)
		ben.request("chat.chatHandler.send", map[string]string{"rid": fmt.Sprint("friends-", i), "content": text, "target": "*"}, nil)
		ann.waitFor("onChat " + text)
	}
	for _, f := range []*friend{ann, ben} {
		list := map[string]listed{}
		if f.ask("rooms", nil, &list); len(list) != rooms || list["friends-0"] != (listed{2, 2, "topic 0"}) {
			t.Errorf("rooms %v", list)
		}
	}
	dan := newFriend(t, b.process, "dan")
	eventually(t, "a third one in a room of two to be told that it is full", func() bool {
		err := dan.Request("friends.friendsHandler.join", map[string]string{"room": "0"}, nil)
		return err != nil && strings.Contains(err.Error(), "room_members")
	})
	ann.ask("tea", nil, nil)
	ben.waitFor("onChat tea is ready")
	ann.waitFor("onChat tea is ready")

	second := newFriend(t, b.process, "ann at b")
	second.ask("login", map[string]string{"uid": "1"}, nil)
	ann.board.wait("the older session to end", func() bool { return ann.ended })
	var online struct{ Sessions int }
	if ben.ask("online", map[string]string{"uid": "1"}, &online); online.Sessions != 1 {
		t.Errorf("%d sessions of the user", online.Sessions)
	}

	other := newFriend(t, a.process, "cid")
	other.ask("login", map[string]string{"uid": "3"}, nil)
	eventually(t, "everybody to be shouted at from either node", func() bool { // a node that has just joined may miss it
		ben.ask("shout", nil, nil)
		other.board.mu.Lock()
		defer other.board.mu.Unlock()
		return slices.Contains(other.told, "onShout ")
	})
	before := 0
	ben.board.do(func() { before = len(ben.told) })
	ben.ask("tea", nil, nil) // the room may be a's, and the timer is b's
	a.kill()
	ben.board.wait("tea, although a node has died", func() bool { return slices.Contains(ben.told[before:], "onChat tea is ready") })
	eventually(t, "what was set of rooms to hold, although their owners have died", func() bool { return holds(ben, 1) })
	eventually(t, "the user of the dead node to be counted no more", func() bool {
		err := ben.Request("friends.friendsHandler.online", map[string]string{"uid": "3"}, &online)
		return err == nil && online.Sessions == 0
	})
}
