package cluster_test

import (
	"math/rand/v2"

	"github.com/pomelod/pomelod/cluster"
)

// A fault.
type faultKind int

const (
	faultKill faultKind = iota // and restart, or not
	faultCut                   // both ways between two
	faultCutOneWay
	faultGroups  // the fleet falls apart
	faultAway    // one has no bus
	faultAllAway // nobody has
	faultPause   // one or two are stopped
	faultLoss    // the bus loses every third packet
	faultDrain
	faultClock // the wall clock of one jumps
	faultKinds

	// What follows from faults.
	faultStart
	faultLossEnds
	faultDrainEnds

	faultUpgrade // one goes on in another process; drawn by planUpgrades
)

var faultNames = [...]string{"kill", "cut", "one-way cut", "groups", "away", "all away", "pause", "loss", "drain", "clock", "", "start", "", "", "upgrade"}

type fault struct {
	at   int64 // ms
	kind faultKind
	a, b int
	for_ int64
	till int64 // before, it waits until some partition or node is in the state of the column when; 0: it does not
	when int
}

// fail lets the faults happen whose time has come.
func (w *world) fail() {
	if w.now >= w.failsAt {
		w.failsAt = never
		for i := 0; i < len(w.faults); i++ {
			f := &w.faults[i]
			switch {
			case f.at < w.now:
			case f.at > w.now:
				w.failsAt = min(w.failsAt, f.at)
			case w.now < f.till && !w.met()[f.when]:
				f.at++
				w.failsAt = f.at
			default:
				w.failOnce(*f)
			}
		}
	}
	if w.net.Loss > 0.1 {
		w.lossy = w.now
	}
	for _, p := range w.procs {
		if !p.running() || p.away() {
			p.sick = w.now
		}
		if p.node != nil {
			p.node.Away(p.away())
		}
	}
}

// plan has a fault happen later.
func (w *world) plan(f fault) {
	w.faults = append(w.faults, f)
	w.failsAt = min(w.failsAt, f.at)
}

func (w *world) failOnce(f fault) {
	p, q := w.procs[f.a], w.procs[f.b]
	till := min(w.now+f.for_, simLast)
	if f.kind < faultKinds {
		w.logf("FAULT %s %s %s till %d", faultNames[f.kind], p.name, q.name, till)
		w.sums["faults"]++
		w.sums["fault "+faultNames[f.kind]]++
		w.cells.fault(w, f.kind)
	}
	then := func(kind faultKind, at int64) { w.plan(fault{at: at, kind: kind, a: f.a}) }
	switch f.kind {
	case faultKill:
		chats := 0
		for _, x := range w.procs {
			if x.up && x.roles&cluster.RoleChat != 0 {
				chats++
			}
		}
		if !p.up || p.roles&cluster.RoleChat != 0 && chats < 2 {
			return
		}
		p.kill()
		if w.rng.IntN(3) > 0 || len(w.procs) == 2 || w.quorum > 0 {
			then(faultStart, w.now+50+int64(w.rng.IntN(3000)))
		}
	case faultCut:
		w.net.Cut(p.name, q.name, till*ms)
		w.net.Cut(q.name, p.name, till*ms)
	case faultCutOneWay:
		w.net.Cut(p.name, q.name, till*ms)
	case faultGroups:
		g := w.rng.IntN(1 << len(w.procs))
		for a, x := range w.procs {
			for b, y := range w.procs {
				if g>>a&1 != g>>b&1 {
					w.net.Cut(x.name, y.name, till*ms)
				}
			}
		}
	case faultAway:
		p.awayTill = till
		if p.up {
			p.port.Away(till * ms)
		}
	case faultAllAway:
		w.net.Away(till * ms)
		for _, x := range w.procs {
			x.awayTill = max(x.awayTill, till)
		}
	case faultPause:
		p.paused = till
		if w.rng.IntN(3) == 0 {
			q.paused = till
		}
	case faultLoss:
		w.net.Loss = 0.3
		then(faultLossEnds, till)
	case faultLossEnds:
		w.net.Loss = 0.001
	case faultDrain:
		p.draining = true
		then(faultDrainEnds, till)
	case faultDrainEnds:
		p.draining = false
		if p.node != nil {
			p.node.Drain(false)
		}
	case faultClock:
		p.skew += int64(w.rng.IntN(20000)) - 10000
	case faultStart:
		if !p.up {
			p.boot()
		}
	case faultUpgrade:
		if p.up {
			p.upgrade()
		}
	}
}

// planFaults draws the faults of a run. Kills and pauses are the most frequent. Of every second run they are dense: most of them come before the
// fleet has got over the one before, so that each meets nodes that are held or suspended and partitions without a follower.
func (w *world) planFaults(nodes int, dense bool) {
	count, last := 2+w.rng.IntN(4), int64(0)
	if dense {
		count += 2
	}
	for i := range count {
		k := faultKind(w.rng.IntN(int(faultKinds) + 3))
		switch {
		case k > faultKinds:
			k = faultKill
		case k == faultKinds:
			k = faultPause
		}
		if dense && w.quorum > 0 && i == 0 {
			k = []faultKind{faultGroups, faultGroups, faultAway, faultAllAway, faultPause}[w.rng.IntN(5)]
		}
		f := fault{at: 3500 + int64(w.rng.IntN(6500)), kind: k, a: w.rng.IntN(nodes), b: w.rng.IntN(nodes), for_: 300 + int64(w.rng.IntN(6000))}
		if dense && i > 0 && w.rng.IntN(4) > 0 {
			f.at = min(last+int64(w.rng.IntN(2500)), 10000)
		}
		last = f.at
		w.faults = append(w.faults, f)
		if k >= faultCut && k <= faultAway {
			w.split = true
		}
	}
}

// wish adds some faults, and has all but the first be of any kind alike, and wait for a state in which a fault seldom finds anybody by chance. The first one often
// leads to such a state.
func (w *world) wish() {
	rng := rand.New(rand.NewPCG(w.seed, 11))
	rare := []int{columnOf("joiner"), columnOf("stopped")}
	if w.quorum > 0 {
		rare = append(rare, columnOf("suspended"), columnOf("suspended"))
	}
	for range 3 {
		nodes := len(w.procs)
		w.faults = append(w.faults, fault{at: 4000 + int64(rng.IntN(6000)), a: rng.IntN(nodes), b: rng.IntN(nodes), for_: 300 + int64(rng.IntN(6000))})
	}
	first := true
	for i := range w.faults {
		f := &w.faults[i]
		switch {
		case f.kind >= faultKinds:
			continue
		case !first:
			f.kind = faultKind(rng.IntN(int(faultKinds)))
			f.when, f.till = rare[rng.IntN(len(rare))], min(f.at+2500, 11000)
		case w.quorum == 0 && rng.IntN(2) == 0:
			f.kind = faultPause
		}
		first = false
		w.split = w.split || f.kind >= faultCut && f.kind <= faultAway
	}
}
