package cluster_test

import "math/rand/v2"

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
	rare := []string{"joiner", "stopped"}
	if w.quorum > 0 {
		rare = []string{"joiner", "stopped", "suspended", "suspended"}
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
