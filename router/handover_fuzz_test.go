package router

import (
	"bytes"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// FuzzImportLoop reads any bytes as a node, and as what the sessions of its loop share: they are refused, or make a loop that turns, and that exports what
// makes the same loop again.
func FuzzImportLoop(f *testing.F) {
	r := newRig(f, shape{loops: 1}, keepPlaces)
	r.login(atConnector, false).enter("a", "r")
	r.login(atConnector, true).ask(routeSend, sendBody("said", "*"))
	gone := r.login(atConnector, false)
	gone.ask(routeEnter, `{"username":"bob","rid":"r",`+secretOfB+`}`)
	r.empty()
	for _, takes := range []func(uint8) bool{nil, func(uint8) bool { return false }} { // with those who are to leave, too
		st, err := r.node.ExportLoop(0, takes)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.node.Export(), st.Shared)
	}
	near := twoNodes(f, shape{loops: 1}, 1, nil)
	near.login(atConnector, false).enter("a", "r")
	near.empty()
	st, err := near.node.ExportLoop(0, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(near.node.Export(), st.Shared)
	cfg := r.cfg
	f.Fuzz(func(t *testing.T, node, shared []byte) {
		if len(node) == 0 || len(shared) > 16<<10 { // a new node; and what takes long
			return
		}
		// take is a node that has taken it, nil if it was refused, and what that has when it has carried out what there was to do.
		take := func(node, shared []byte) (*Node, []byte) {
			net := looptest.New()
			cfg := cfg
			cfg.Predecessor, cfg.Nanos = node, net.Now
			cfg.NewDriver = func(int) (netpoll.Driver, error) { return net.Driver(), nil }
			n, err := NewNode(cfg)
			if err != nil {
				return nil, nil
			}
			net.Attach(n.Loops()[0])
			if lost, err := n.ImportLoop(0, &LoopState{Shared: bytes.Clone(shared)}); lost != 0 {
				t.Fatalf("%d conns of none are lost", lost)
			} else if err != nil {
				return nil, nil
			}
			net.Settle()
			l := n.loops[0]
			if s := l.np.Stats(); s.Panics+l.counters.panics+l.worker.Stats().Panics != 0 {
				t.Fatal("a panic was contained; it should not have been")
			}
			st, err := n.ExportLoop(0, nil)
			if err != nil || len(st.Conns)+len(st.Stays) > 0 {
				t.Fatalf("%+v, %v", st, err)
			}
			return n, st.Shared
		}
		n, once := take(node, shared)
		if n == nil {
			return
		}
		if again, twice := take(n.Export(), once); again == nil || !bytes.Equal(twice, once) {
			t.Fatalf("exported  %x\nand again %x", once, twice)
		}
	})
}
