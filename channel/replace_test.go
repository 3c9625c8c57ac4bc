package channel

import "testing"

// A session takes the place of an older one with the same key: that one is kicked, the list stays as it is, and nobody else is
// told. Whoever has another key, or none, finds the name taken.
func TestEnterReplaces(t *testing.T) {
	s := newStage(t)
	keyed := func(from Addr, user, prev string, key uint64) {
		s.handle(Request{Op: OpEnter, From: from, User: user, Room: "r", Prev: prev, Key: key})
	}
	keyed(at(0, 1), "a", "", 7)
	keyed(at(0, 2), "b", "", 0)
	s.take()

	refused := `{"code":500,"error":true}`
	keyed(at(1, 3), "a", "", 8)
	s.want("1 reply 3 " + refused)
	keyed(at(1, 3), "a", "", 0)
	s.want("1 reply 3 " + refused)
	keyed(at(1, 3), "b", "", 7)
	s.want("1 reply 3 " + refused)

	keyed(at(1, 3), "a", "", 7)
	s.want("0 kick 1 #1 replaced by a new session of yours", `1 enter 3 #1 {"users":["a","b"]}`)
	s.leave(at(0, 1), "a", "r") // the old session's end
	s.want()
	s.send(at(0, 1), "a", "r", "*", `"x"`)
	s.want("0 reply 1 " + `{"code":500}`)
	s.send(at(1, 3), "a", "r", "*", `"x"`)
	push := `push #2 onChat {"msg":"x","from":"a","target":"*"}`
	s.want("0 "+push, "1 "+push, "1 reply 3 {}")

	// The new one can be replaced as well, and so by somebody who is in the room under another name.
	keyed(at(1, 4), "c", "", 7)
	s.take()
	keyed(at(1, 4), "a", "c", 7)
	s.want("1 leave 4 #3", "0 "+userText(4, "onLeave", "c"), "1 "+userText(4, "onLeave", "c"),
		"1 kick 3 #4 replaced by a new session of yours", `1 enter 4 #4 {"users":["a","b"]}`)
	if got := s.w.Stats(); got.Members != 2 || got.Replaced != 2 {
		t.Errorf("%+v", got)
	}

	// The key goes with the member: the next one of that name has its own.
	s.leave(at(1, 4), "a", "r")
	s.take()
	keyed(at(0, 5), "a", "", 0)
	s.take()
	keyed(at(0, 6), "a", "", 7)
	s.want("0 reply 6 " + refused)
	s.leave(at(0, 5), "a", "r")
	s.leave(at(0, 2), "b", "r")
	if len(s.w.state.keys) != 0 || s.w.state.rooms != 0 {
		t.Errorf("left over: %v, %d", s.w.state.keys, s.w.state.rooms)
	}
}
