package fleet

import (
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// rest brings a fleet by hand to rest, and returns what it is then.
func (a *alone) rest(t *testing.T, clock int64) []byte {
	t.Helper()
	if err := a.Rest(time.Minute); err != nil {
		t.Fatal(err)
	}
	if a.Rest(0) == nil {
		t.Error("it rests twice")
	}
	for range 10 {
		a.loops.turn()
		if !a.Settle() {
			b, err := a.Export(clock)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatal("it does not come to rest")
	return nil
}

// Another process goes on as the node: the same run, partitions, sessions' answers and clock; and the old one never speaks again.
func TestHandOver(t *testing.T) {
	var notes []cluster.Note
	var told [][]cluster.Connector
	change := func(c *Config) {
		c.News = func(list []cluster.Note) { notes = append(notes, list...) }
		c.Connectors = func(list []cluster.Connector) { told = append(told, list) }
	}
	a := newAlone(2, change)
	a.pass(2500)
	a.Write([]cluster.Note{{Key: "k", At: 1, Text: []byte("t")}})
	a.Inlet().Post(enter("lobby", "ann", 3))
	a.pass(5)
	a.Inlet().Post(enter("lobby", "bob", 4)) // nobody has looked at it yet
	at := a.clock()
	state := a.rest(t, 1e12)
	delivered := len(a.loops.delivered)

	b := newAlone(2, change)
	b.net, b.at = a.net, a.at
	notes, told = nil, nil
	if err := b.Import(state, 1e12+5e6); err != nil {
		t.Fatal(err)
	}
	if passed := b.clock() - at; passed < 5e6 || passed > 60e9 {
		t.Errorf("its clock is %d ns ahead", passed)
	}
	if len(notes) != 1 || len(told) != 1 || len(told[0]) != 1 || b.Status().Self != a.Status().Self || b.Status().Owned != channel.Partitions || b.Status().Suspended {
		t.Errorf("notes %v, connectors %v, %+v", notes, told, b.Status())
	}
	b.pass(5)
	if len(b.loops.delivered) == 0 {
		t.Fatal("what was on its way is lost")
	}
	last := b.loops.delivered[len(b.loops.delivered)-1]
	if last.Kind != channel.ItemEnter || last.Req != 4 || last.Count != 2 {
		t.Errorf("%+v", last)
	}
	if b.Import(state[:len(state)-1], 1e12) == nil || newAlone(3, nil).Import(state, 1e12) == nil {
		t.Error("half a state, or that of other loops, is taken")
	}

	sent := a.net.Stats.Sent + a.net.Stats.Nobody
	a.Cede()
	if err := a.Run(t.Context()); err != nil || len(a.loops.delivered) != delivered || a.net.Stats.Sent+a.net.Stats.Nobody != sent {
		t.Errorf("the old one goes on (%v)", err)
	}
}

// An upgrade that fails leaves a node as it was.
func TestHandOverCalledOff(t *testing.T) {
	a := newAlone(2, nil)
	a.pass(2500)
	a.Inlet().Post(enter("lobby", "ann", 3))
	a.rest(t, 1e12)
	a.Resume()
	a.pass(5)
	if len(a.loops.delivered) != 1 || a.Status().Owned != channel.Partitions {
		t.Errorf("%+v, %+v", a.loops.delivered, a.Status())
	}
}
