package router

import (
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/golden"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/internal/wirebytes"
	"github.com/pomelod/pomelod/netpoll"
)

// What the versions of a node, a loop and a session stand for: their bytes, with sessions of all wires in all phases.
func TestGoldenStates(t *testing.T) {
	g := golden.New("nodeStateVersion, loopStateVersion, sessionVersion", nodeStateVersion<<16|loopStateVersion<<8|sessionVersion)
	g.Text("phases", fmt.Sprintf("%d", []phase{opening, working, ended}))
	g.Text("protocols", fmt.Sprintf("%d", []protocolID{protoSniff, protoProxy, protoHTTP, protoProbe3, protoProbe4, protoEIO3, protoEIO4, protoSIO09, protoHybrid, protoTLS}))
	g.Text("framings", fmt.Sprintf("%d", []codec.Framing{codec.FramingTCP, codec.FramingWS, codec.FramingSIO09WS, codec.FramingSIO09Pull, codec.FramingEIOWS, codec.FramingEIOPull}))
	g.Text("tasks", fmt.Sprintf("%d", []task{taskPoll, taskPost, taskProbe}))
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Access = Access{} })
	var err error
	if r.node.sids, err = newSIDs([16]byte([]byte("sixteen bytes of"))); err != nil {
		t.Fatal(err)
	}
	r.node.id = channel.NewNode(1, 2)
	g.Bytes("node", r.node.Export())
	for i, b := range exportedSessions(t) {
		g.Bytes(fmt.Sprint("session ", i), b)
	}
	who := &identity{Identity: auth.Identity{Name: "name", UID: "uid", Rooms: []string{"r", "q*"}, Until: time.UnixMilli(5)}}
	g.Bytes("login", (&rare{who: who, token: "token"}).append(nil))
	g.Bytes("login that counts as two users' session", (&rare{who: who, key: 6, claims: []string{"uid\x00a", "name\x00b"}}).append(nil))
	var told []string
	r = newRig(t, shape{loops: 1}, func(c *Config) { c.App = carrying(&told) })
	r.login(atConnector, false)
	r.empty()
	if err := r.node.Pack(time.Minute); err != nil {
		t.Fatal(err)
	}
	r.node.loops[0].np.Each(func(c *netpoll.Conn) {
		g.Bytes("session that a program carries", r.node.loops[0].exportSession(r.node.loops[0].session(c)))
	})

	r = newRig(t, shape{loops: 1}, nil)
	r.login(atConnector, false).enter("a", "r")
	l := r.node.loops[0]
	l.np.Each(func(c *netpoll.Conn) {
		if err := l.postChange(l.addr(c), hosting.Change{Kind: hosting.ChangeJoin, Room: "q", Done: func(error) {}}); err != nil {
			t.Fatal(err)
		}
	})
	r.empty()
	l.np.Each(func(c *netpoll.Conn) { g.Bytes("session in two rooms", l.exportSession(l.session(c))) })

	// A loop whose rooms are another node's has what is its own alone.
	r = twoNodes(t, shape{loops: 1}, 1, nil)
	for _, room := range []string{"r", "q"} {
		r.login(atConnector, false).enter("a", room)
	}
	for _, room := range r.node.loops[0].rooms.byID {
		room.epoch = channel.Epoch{View: 7, Maker: channel.NewNode(3, 1)} // else the other node's, which has begun just now
	}
	r.empty()
	st, err := r.node.ExportLoop(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	shared := wirebytes.NewReader(st.Shared)
	_, _ = shared.Byte(), shared.Block() // the names are netpoll's
	g.Bytes("loop, behind its names", shared.Rest())
	g.Check(t)
}
