package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/golden"
)

// unseen is a Bus and a Home of a node that is only looked at.
type unseen struct{}

func (unseen) Send(string, []byte)            {}
func (unseen) Announce([]byte)                {}
func (unseen) Adopt(*View, channel.Node)      {}
func (unseen) Message(channel.Node, *Message) {}
func (unseen) Items(uint16, []channel.Item)   {}
func (unseen) Lost(uint16, string)            {}
func (unseen) Refused(*channel.Request, bool) {}
func (unseen) Restart(channel.Node)           {}
func newStateNode() *Node                     { return New(stateConfig, unseen{}, unseen{}) }
func newStateHolder() (*Holder, *channel.Worker) {
	w := channel.NewWorker(nil)
	return NewHolder(w, func(channel.Node, *Message) {}), w
}

var stateConfig = Config{Name: "a", Run: 1, Roles: RoleChat | RoleConnector, parts: 3, speaks: versions{1, 1}}

// stateful is a node with something of everything that goes along, and its Holder, of the partitions of a view.
func stateful() (*Node, *Holder) {
	a, b := channel.NewNode(1, 5), channel.NewNode(2, 6)
	id := func(n uint64) ViewID { return ViewID{View: n, Maker: a} }
	v := &View{ID: id(9), Members: id(8), Ancestors: []ViewID{id(8)}, Shares: []Share{
		{Owner: 1, Follower: 2, Epoch: id(3), Born: id(2), Following: id(4), Moving: id(9)}, {Owner: 2, Follower: 1, Epoch: id(5), Born: id(5), Following: id(6)},
		{Owner: 2, Joiner: 1, Epoch: id(5), Born: id(5), Joining: id(9)},
	}, Names: []Name{{Name: "a", Run: 5, Roles: RoleChat | RoleConnector, Host: "h"}, {Name: "b", Run: 6, Gone: 2, Roles: RoleChat}}}
	push := &codec.Push{Route: "onChat", Body: []byte(`{"msg":"x"}`), Stream: &codec.Stream{Room: "r", Incarnation: 12}, Seq: 13, Time: 14}
	items := []channel.Item{
		{Kind: channel.ItemPush, Epoch: id(3), N: 21, Room: 15, Seq: 13, To: channel.Addr{Node: b}, Push: push},
		{Kind: channel.ItemReply, Epoch: id(3), N: 22, Req: 4, To: channel.Addr{Node: b, Ref: 16}, Body: []byte("{}")},
	}
	request := channel.Request{Op: channel.OpSend, Part: 1, Req: 2, N: 32, From: channel.Addr{Node: a, Ref: 3}, Room: "r", User: "u", Target: "*", Content: []byte(`"x"`)}

	n := newStateNode()
	n.turned, n.beatNow, n.view, n.newest, n.retired = true, true, v, 10, "c"
	n.now, n.wall, n.beatAt, n.lookAt, n.probeTill, n.probeAt = 1000, 2000, 990, 995, 0, 1
	n.maker.ready, n.maker.ask = 100, 7
	n.peers.self.Run = 5
	n.peers.list = []*peer{
		{runID: runID{"b", 6}, heard: 998, noResponders: 3, said: &heartbeat{Versions: versions{1, 1}, Number: 17, View: id(9), Roles: RoleChat, Host: "h2", Ready: true,
			Echoes: []echo{{Peer: runID{"a", 5}, Number: 18, Alive: true}}, Terms: "-auth none"}},
		{runID: runID{"c", 7}, heard: -5},
	}
	n.peers.beats[18].number, n.peers.beats[18].at = 18, 980
	n.peers.beat, n.peers.deafUntil, n.peers.woken = 18, 1500, 970
	n.board.Merge(Note{Key: "k", At: 1900, Until: 5000, Text: []byte("t")}, 2000)
	n.Receive([]byte("a packet"))
	n.NoResponder("c")
	n.links.self.Run = 5
	n.links.adopt(v)
	n.links.send(b, &Message{Kind: KindConfirm, Part: 1, Epoch: id(5), In: 31, Out: 40})
	n.links.flush(1000, unseen{})
	n.links.send(b, &Message{Kind: KindResend, Part: 1, Epoch: id(5), Out: 40})
	n.links.send(b, &Message{Kind: KindSnapshot, Part: 0, Epoch: id(3), Naming: id(4), Index: 5, In: 1, State: []byte("state")})
	x := n.links.to(b)
	x.in[laneLive] = inStream{next: 50, part: []byte("par"), ack: true}
	x.in[laneBulk] = inStream{next: 3, broken: true}
	n.desk.view, n.desk.self = v, a
	n.desk.parts[1] = &counter{born: id(5), last: 40, in: 31, confirm: true, requests: []waiting{{r: request, at: 960, sent: id(5), deaths: 1}}}
	n.desk.toConfirm, n.desk.bytes = []uint16{1}, weightOfRequest(&request)
	n.out = []parcel{{b, &Message{Kind: KindAck, Part: 1, Epoch: id(5), Naming: id(6), Index: 19, In: 1}}}
	n.held = []parcel{{a, &Message{Kind: KindItems, Part: 0, Epoch: id(3), In: 1, Items: items}}}

	h, w := newStateHolder()
	h.view, h.self, h.clock, h.last, h.repeatAt = v, a, 900, 1000, 950
	w.Own(0, id(3))
	w.Demote(0) // it is sealed
	u := unitsOf(4, items, []askedBy{{b, asked{7, 8}}})[0]
	h.parts[0] = &held{part: 0, role: owns, epoch: id(3), born: id(2), hash: 77, kept: []keptFor{{node: b, out: 20, units: []unit{u}}}, owner: ownerSide{
		follower: &slot{node: b, naming: id(4), acked: 3, awaits: true, sent: 2, had: 2, all: true, heard: 890, marks: []mark{{4, 895}}, stuck: true, wasStuck: true},
		joiner:   &slot{node: b, naming: id(9), all: true, calledInStep: true}, sealed: id(9), queue: []Message{{Kind: KindRequest, Part: 0, Epoch: id(3), Request: channel.Request{
			Op: channel.OpLeave, Part: 0, N: 9, From: channel.Addr{Node: b, Ref: 4}, User: "v", Room: "r"}}},
		out: []unit{u}, released: 3, served: []channel.Node{a, b}, sends: 5,
	}}
	h.count(h.parts[0], 1)
	w.Own(1, id(5))
	w.Demote(1)
	h.parts[1] = &held{part: 1, role: follows, epoch: id(5), born: id(5), hash: 78, trail: followSide{naming: id(6), parts: 2, whole: true, sealed: id(7), sealIndex: 6}}
	h.parts[2] = &held{part: 2, role: waits, epoch: id(5), born: id(5), trail: followSide{naming: id(9), broken: true}}
	return n, h
}

func mustExport(t testing.TB, export func() ([]byte, error)) []byte {
	t.Helper()
	b, err := export()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What StateVersion stands for: the bytes of both sides of a node, without what package channel encodes, which has a version of its own.
func TestGoldenStates(t *testing.T) {
	g := golden.New("cluster.StateVersion", StateVersion)
	g.Text("kinds of messages", fmt.Sprint(kinds-1))
	n, h := stateful()
	n.desk.parts[1].requests, n.held[0].m.Items = nil, nil
	g.Bytes("node", mustExport(t, n.Export))
	g.Bytes("node that has not turned", mustExport(t, newStateNode().Export))
	o := &h.parts[0].owner
	o.queue, o.out[0].items = nil, nil
	g.Bytes("owner", o.export(nil))
	h.parts[0], h.parts[1] = nil, nil
	g.Bytes("holder of a partition that it waits for", mustExport(t, h.Export))
	for kind := KindRequest; kind < kinds; kind++ {
		g.Text(fmt.Sprint("fields of message ", kind), fmt.Sprintf("%x", fieldsOf[kind]))
	}
	g.Check(t)
}

// Who imports what was exported is the same, down to what the window counts.
func TestImportIsExport(t *testing.T) {
	n, h := stateful()
	node, holder := mustExport(t, n.Export), mustExport(t, h.Export)
	n2 := newStateNode()
	if err := n2.Import(node); err != nil {
		t.Fatal(err)
	}
	h2, w := newStateHolder()
	if err := h2.Import(n2.View(), n2.Self(), holder); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustExport(t, n2.Export), node) || !bytes.Equal(mustExport(t, h2.Export), holder) {
		t.Error("what was imported is exported as something else")
	}
	if n2.links.kept != n.links.kept || n2.desk.bytes != n.desk.bytes || n2.links.to(n.view.Node(2)).out[laneBulk].end != n.links.to(n.view.Node(2)).out[laneBulk].end {
		t.Errorf("links keep %d of %d bytes, the desk %d of %d", n2.links.kept, n.links.kept, n2.desk.bytes, n.desk.bytes)
	}
	for node := range h.kept {
		if got, want := h2.tallyOf(node).own, h.tallyOf(node).own; got != want {
			t.Errorf("%d of %d bytes are not confirmed by %x", got, want, uint64(node))
		}
	}
	if w.Owns(0) || !w.Shadows(0) || !w.Shadows(1) {
		t.Error("a partition that moves is decided for, or one is missing")
	}
	if news := n2.News(); len(news) != 1 || news[0].Key != "k" {
		t.Errorf("the notes are no news: %v", news)
	}
}

// What is no state, or another node's, is refused.
func TestImportRefuses(t *testing.T) {
	n, h := stateful()
	node, holder := mustExport(t, n.Export), mustExport(t, h.Export)
	for i := range node {
		if newStateNode().Import(node[:i]) == nil {
			t.Errorf("%d of %d bytes of a node are taken", i, len(node))
		}
	}
	for i := range holder {
		if h, _ := newStateHolder(); h.Import(n.view, n.Self(), holder[:i]) == nil {
			t.Errorf("%d of %d bytes of a Holder are taken", i, len(holder))
		}
	}
	other := bytes.Clone(node)
	other[0]++
	if err := newStateNode().Import(other); !errors.Is(err, ErrState) {
		t.Errorf("another version: %v", err)
	}
	for what, c := range map[string]Config{"name": {Name: "b", Roles: stateConfig.Roles, parts: 3}, "roles": {Name: "a", Roles: RoleChat, parts: 3}, "partitions": {Name: "a", Roles: stateConfig.Roles, parts: 4}} {
		if err := New(c, unseen{}, unseen{}).Import(node); !errors.Is(err, ErrState) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	c := stateConfig
	c.speaks = versions{2, 3}
	if err := New(c, unseen{}, unseen{}).Import(node); err == nil || errors.Is(err, ErrState) {
		t.Errorf("a link in a version that the program does not speak: %v", err)
	}
	h2, _ := newStateHolder()
	if err := h2.Import(nil, 0, holder); !errors.Is(err, ErrState) {
		t.Errorf("a Holder without a view: %v", err)
	}
}

// A link with a window of more than 1 GiB goes along, to a process that keeps as much and to one that keeps less.
func TestExportOfAWideLink(t *testing.T) {
	n, _ := stateful()
	n.links.memory = 8 << 30
	n.links.adopt(n.view)
	wide := n.links.to(n.view.Node(2)).out[laneLive].flight
	node := mustExport(t, n.Export)
	for _, memory := range []int64{8 << 30, 64 << 20} {
		c := stateConfig
		c.LinkMemory = memory
		n2 := New(c, unseen{}, unseen{})
		if err := n2.Import(node); err != nil {
			t.Fatalf("%d bytes are kept: %v", memory, err)
		}
		if flight := n2.links.to(n.view.Node(2)).out[laneLive].flight; wide != 2<<30 || flight != memory/4 {
			t.Errorf("%d bytes are kept: %d of %d may be on their way", memory, flight, wide)
		}
	}
}

// A leave is never given up, however many owners die while they have it: a node that has one can go on in another process, as in that of a program with which they do not.
func TestExportOfALeaveThatOwnersDieWith(t *testing.T) {
	n, _ := stateful()
	c := n.desk.parts[1]
	w := &c.requests[0]
	w.r = channel.Request{Op: channel.OpLeave, Part: 1, N: w.r.N, From: w.r.From, Room: "r", User: "u"}
	for range poisonDeaths + 1 {
		n.desk.ownerDied(c, w.sent)
	}
	node, n2 := mustExport(t, n.Export), newStateNode()
	if err := n2.Import(node); err != nil {
		t.Fatal(err)
	}
	if got := n2.desk.parts[1].requests; len(got) != 1 || got[0].r.Op != channel.OpLeave || got[0].deaths != poisonDeaths {
		t.Errorf("%+v", got)
	}
}

// Whatever is imported without an error is exported as something that is imported again, and that can be turned.
func FuzzImport(f *testing.F) {
	n, h := stateful()
	f.Add(mustExport(f, n.Export), mustExport(f, h.Export))
	f.Add(mustExport(f, newStateNode().Export), mustExport(f, h.Export))
	f.Fuzz(func(t *testing.T, node, holder []byte) {
		n := newStateNode()
		if n.Import(node) != nil {
			return
		}
		again := mustExport(t, n.Export)
		if err := newStateNode().Import(again); err != nil {
			t.Fatal(err)
		}
		h, _ := newStateHolder()
		if h.Import(n.View(), n.Self(), holder) != nil {
			return
		}
		again = mustExport(t, h.Export)
		h2, _ := newStateHolder()
		if err := h2.Import(n.View(), n.Self(), again); err != nil {
			t.Fatal(err)
		}
		h.Tick(h.last + ms)
		h.Flush()
	})
}
