package cluster_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/membus"
)

// heir is the process that is to take the place of another one. It is on the bus some time before, so what comes in between comes twice, or is sent again.
type heir struct {
	port  *membus.Port
	early [][]byte
	till  int64 // ms: the upgrade is given up
}

const (
	upgradeWait = 3000 // ms: how long an upgrade waits for copies of partitions to arrive
	freezeMost  = 250  // ms: how long nobody turns, at most
	freezeShort = 100  // the same where nobody is to notice: an owner goes on without a follower that says nothing for 300 ms
)

// planUpgrades draws when which process is replaced. They have random numbers of their own, so a seed's other faults are the same without.
func (w *world) planUpgrades() {
	w.upgrades, w.freeze = rand.New(rand.NewPCG(w.seed, 13)), freezeMost
	for range w.upgrades.IntN(8) {
		w.upgradeAt(3000+int64(w.upgrades.IntN(9000)), w.upgrades.IntN(len(w.procs)))
	}
}

func (w *world) upgradeAt(at int64, i int) {
	w.plan(fault{at: at, kind: faultUpgrade, a: i})
}

// upgrade has the process go on in another one, or begins that: first the heir gets what is sent, then it is given what the process has. Every fourth time the old
// process goes on after all.
func (p *proc) upgrade() {
	w := p.w
	switch {
	case p.heir == nil:
		h := &heir{till: w.now + upgradeWait}
		h.port = p.connect(func(b []byte) {
			if p.heir == h {
				h.early = append(h.early, b)
			} else {
				p.node.Receive(b)
			}
		})
		p.heir = h
		w.upgradeAt(w.now+1+int64(w.upgrades.IntN(10)), p.i)
		return
	case !p.running() || p.frozen > w.now:
		w.upgradeAt(w.now+1, p.i)
		return
	}
	p.holder.Flush()
	node, err := p.node.Export()
	if err != nil {
		w.violation("%s cannot be upgraded: %v", p.name, err)
		p.giveUp()
		return
	}
	holder, err := p.holder.Export()
	switch {
	case errors.Is(err, cluster.ErrMoving) && w.now < p.heir.till:
		w.upgradeAt(w.now+1, p.i)
		return
	case err != nil:
		w.sums["upgrades that found copies on their way for too long"]++
		p.giveUp()
		return
	case w.upgrades.IntN(4) == 0:
		w.sums["upgrades called off"]++
		p.giveUp()
		return
	}
	w.cells.upgraded(p)
	w.sums["upgrades"]++
	w.logf("UPGRADE %s, %d and %d bytes", p.name, len(node), len(holder))
	p.succeed(node, holder)
	p.frozen = w.now + int64(w.upgrades.IntN(w.freeze))
}

// succeed goes on as the heir, which has what the process has exported.
func (p *proc) succeed(node, holder []byte) {
	w := p.w
	if s := p.holder.Stats(); s.Differs > 0 {
		w.violation("%s has followed with another state %d times", p.name, s.Differs)
	}
	early := p.heir.early
	p.port.Close()
	p.make(p.heir.port)
	p.heir = nil
	if err := p.node.Import(node); err != nil {
		w.violation("%s: import: %v", p.name, err)
		return
	}
	if err := p.holder.Import(p.node.View(), p.node.Self(), holder); err != nil {
		w.violation("%s: import of the Holder: %v", p.name, err)
		return
	}
	node2, _ := p.node.Export()
	holder2, err := p.holder.Export()
	if err != nil || !bytes.Equal(node2, node) || !bytes.Equal(holder2, holder) {
		w.violation("%s exports something else than it has imported (%v)", p.name, err)
	}
	for _, b := range early {
		p.node.Receive(b)
	}
	p.woken = true
}

// giveUp ends an heir that is not needed.
func (p *proc) giveUp() {
	if p.heir != nil {
		p.heir.port.Close()
		p.heir = nil
	}
}

// A fleet that is well, and whose processes are replaced all the time, has one view to the end: to the others nothing happens.
func TestSimUpgradesGoUnnoticed(t *testing.T) {
	total := sums{}
	for w := range runs(*simFrom, max(2, simFew/5), func(w *world) {
		w.upgrades, w.freeze, w.faults, w.shifts, w.split = rand.New(rand.NewPCG(w.seed, 13)), freezeShort, nil, false, false
		for i := range w.procs {
			w.faults = append(w.faults, fault{at: 1 + int64(i), kind: faultStart, a: i})
			for at := int64(settled); at < simStop; at += 100 + int64(w.upgrades.IntN(1500)) {
				w.upgradeAt(at, i)
			}
		}
	}) {
		total.add(w.sums)
		if len(w.bad) > 0 {
			t.Errorf("seed %d: %q", w.seed, w.bad)
		}
		if w.later > 0 {
			t.Errorf("seed %d: %d views were made after all had settled", w.seed, w.later)
		}
	}
	if total["upgrades"] < simFew {
		t.Errorf("%d upgrades", total["upgrades"])
	}
	t.Logf("%d upgrades, %d called off, %d deliveries checked", total["upgrades"], total["upgrades called off"], total["deliveries checked"])
}

// settled is when a fleet without faults has dealt out its partitions, ms.
const settled = 7000
