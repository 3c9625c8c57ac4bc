package channel

import "testing"

// Of names with one fold only one is in a room, whichever spelling came first. Who looks for somebody finds her by her name, else by its fold,
// and she is told by the name that she has.
func TestNamesThatLookAlike(t *testing.T) {
	s := newStage(t)
	enter := func(from Addr, user, fold, prev string, key uint64) {
		s.handle(Request{Op: OpEnter, From: from, User: user, Fold: fold, Prev: prev, Room: "r", Key: key})
	}
	alike := `{"code":500,"error":true,"reason":"name_alike"}`
	enter(at(0, 1), "ann", "", "", 0)
	enter(at(0, 2), "Ｂob", "Bob", "", 0)
	s.take()
	enter(at(0, 3), "ａnn", "ann", "", 0)
	s.want("0 reply 3 " + alike)
	enter(at(0, 3), "Bob", "", "", 0)
	s.want("0 reply 3 " + alike)
	enter(at(0, 3), "Boｂ", "Bob", "", 9)
	s.want("0 reply 3 " + alike)
	enter(at(0, 3), "Ｂob", "Bob", "", 0) // the name itself
	s.want("0 reply 3 " + `{"code":500,"error":true}`)
	enter(at(0, 3), "bob", "", "", 0)
	s.want("0 "+userText(2, "onAdd", "bob"), `0 enter 3 #2 {"users":["ann","Ｂob","bob"]}`)
	if n := s.w.Stats(); n.Limited[ReasonAlike] != 3 || n.EntersRefused != 4 {
		t.Errorf("%+v", n)
	}

	tell := func(target, fold string) {
		s.handle(Request{Op: OpSend, From: at(0, 3), User: "bob", Room: "r", Target: target, Fold: fold, Content: []byte(`"x"`)})
	}
	direct := func(to, name string) string {
		return "0 direct " + to + ` #2 onChat {"msg":"x","from":"bob","target":"` + name + `"}`
	}
	tell("ann", "")
	s.want(direct("1", "ann"), "0 reply 3 {}")
	tell("ａnn", "ann")
	s.want(direct("1", "ann"), "0 reply 3 {}")
	tell("Bob", "")
	s.want(direct("2", "Ｂob"), "0 reply 3 {}")
	tell("Boｂ", "Bob")
	s.want(direct("2", "Ｂob"), "0 reply 3 {}")
	tell("ｃat", "cat")
	s.want("0 reply 3 " + `{"code":500}`)

	// One changes one's own spelling, and the fold is free when its owner has left.
	enter(at(0, 2), "Bob", "", "Ｂob", 0)
	s.want("0 leave 2 #2", "0 "+userText(3, "onLeave", "Ｂob"), "0 "+userText(4, "onAdd", "Bob"), `0 enter 2 #4 {"users":["ann","bob","Bob"]}`)
	s.leave(at(0, 1), "ann", "r")
	s.take()
	enter(at(1, 4), "ａnn", "ann", "", 0)
	s.want("0 "+userText(6, "onAdd", "ａnn"), `1 enter 4 #6 {"users":["bob","Bob","ａnn"]}`)
	for addr, name := range map[Addr]string{at(0, 2): "Bob", at(0, 3): "bob", at(1, 4): "ａnn"} {
		s.leave(addr, name, "r")
	}
	if f := s.w.state.folds; len(f.by)+len(f.of) != 0 || s.w.state.rooms != 0 {
		t.Errorf("left over: %v", f)
	}
}

// The same user, as its key proves, returns under another spelling: the old session is kicked, its name leaves and the new one enters. It
// may be in the room under a third name meanwhile, and be all there is.
func TestTheSameUserReturnsUnderAnotherSpelling(t *testing.T) {
	s := newStage(t)
	s.w.KeepHistory(History{Messages: 8, Bytes: 1 << 10})
	enter := func(from Addr, user, fold, prev string, ext *Extended) {
		s.handle(Request{Op: OpEnter, From: from, User: user, Fold: fold, Prev: prev, Room: "r", Key: 7, Ext: ext})
	}
	enter(at(0, 1), "ann", "", "", nil)
	s.send(at(0, 1), "ann", "r", Everybody, `"x"`)
	s.enter(at(1, 2), "bob", "r")
	s.take()
	enter(at(1, 3), "ａnn", "ann", "", nil)
	s.want("0 kick 1 #2 replaced by a new session of yours", "1 "+userText(3, "onLeave", "ann"),
		"0 "+userText(4, "onAdd", "ａnn"), "1 "+userText(4, "onAdd", "ａnn"), `1 enter 3 #4 {"users":["bob","ａnn"]}`)
	s.leave(at(0, 1), "ann", "r") // the old session's end
	s.want()
	if m := s.w.state.member(s.w.state.find(s.room("r"), "ａnn")); m.mark.entry() != 0 {
		t.Errorf("it may read from %d on, and was there from the beginning", m.mark.entry())
	}

	enter(at(1, 4), "cat", "", "", nil)
	s.leave(at(1, 2), "bob", "r")
	s.take()
	enter(at(1, 4), "ann", "", "cat", nil) // both others go, and with them nobody is left
	s.take()
	if got := s.members("r"); got != `{"users":["ann"]}` {
		t.Error(got)
	}
	checkState(t, &s.w.state)
}
