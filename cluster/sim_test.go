package cluster_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/internal/race"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds TestSim runs; 0: a few, and with -failfast up to 500, to the first bad one")
	simFrom  = flag.Uint64("sim.from", 1, "the first of them")
	simTrace = flag.Bool("sim.trace", false, "tell what happens in each millisecond; with -sim.seeds 1")
)

// simFew are the seeds that TestSim and TestSimAlone run by themselves; make sim runs more. A world has one goroutine: with the race detector there are as many as run at once, twice.
var simFew = map[bool]int{false: 100, true: 4}[race.Enabled]

// simLine is what make sim ends with.
var simLine string

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // hundreds of fleets come and go: a fifth of the time would go into collecting them
	}
	code := m.Run()
	if simLine != "" {
		fmt.Print(simLine)
	}
	os.Exit(code)
}

// Whole fleets with faults: nothing that was acknowledged is lost in silence, names are unique, who is cut off returns, everything converges.
func TestSim(t *testing.T) {
	total, visited := sums{}, new(cells)
	count, first := *simSeeds, flag.Lookup("test.failfast").Value.String() == "true"
	switch {
	case count > 0:
	case first:
		count = 500
	default:
		count = simFew
	}
	for w := range runs(*simFrom, count, func(w *world) {
		w.returns, w.trace = true, *simTrace
		w.planUpgrades()
		w.planLogins()
		w.planSettings()
		w.planPrograms()
	}) {
		total.add(w.sums)
		visited.add(w.cells)
		if len(w.bad) > 0 {
			total["violations"] += len(w.bad)
			if total["bad seeds"]++; total["bad seeds"] <= 5 {
				t.Errorf("seed %d: nodes %d, quorum %d, split %v\n\t%s", w.seed, len(w.procs), w.quorum, w.split, strings.Join(w.bad[:min(len(w.bad), 6)], "\n\t"))
			}
			if first {
				break
			}
		}
	}
	for _, k := range []string{"returns", "complete returns", "expired", "deletions", "deletions told", "logins", "logins refused", "logins kicked", "logins at the end", "logins over a move", "counts", "counts in conflict", "counts read", "settings lapsed", "volatile pushes", "told of as back", "leads", "does not lead"} {
		if count >= 50 && total[k] < count {
			t.Errorf("%d %s of %d seeds", total[k], k, count)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%9d %s", total[k], k)
	}
	t.Logf("visits\n%s", visited.table())
	missed, of := visited.missed()
	if count >= 1000 && len(missed) > 0 {
		t.Errorf("nobody came to %v", missed)
	}
	rarest, times := visited.rarest()
	if count >= 2000 && times < 100*count/2000 {
		t.Errorf("only %d times: %s", times, rarest)
	}
	simLine = fmt.Sprintf("sim: %d seeds, %d nodes, %d clients, %d faults, %d moves, %d promotions, %d upgrades, %d acknowledged sends, %d deliveries checked, %d cut off, %d returns, %d expired, %d deletions, %d logins of users, %d refused, %d kicked, %d over a move, %d over a death, %d counts of programs, %d in conflict, %d lapsed, %d volatile pushes, %d told of as back, %d leads, %d of %d cells, rarest fault × state: %d (%s), %d violations\n",
		total["seeds"], total["nodes"], total["clients"], total["faults"], total["moves"], total["promotions"], total["upgrades"], total["acknowledged sends"], total["deliveries checked"], total["cut off"], total["returns"], total["expired"], total["deletions"], total["logins"], total["logins refused"], total["logins kicked"], total["logins over a move"], total["logins over a death"], total["counts"], total["counts in conflict"], total["settings lapsed"], total["volatile pushes"], total["told of as back"], total["leads"], of-len(missed), of, times, rarest, total["violations"])
}

// Seeds that found a bug, of the code or of the simulation, and what it was.
func TestSimSeeds(t *testing.T) {
	if race.Enabled {
		t.Skip("ten times as slow, and nothing here has a goroutine of its own")
	}
	for seed, bug := range map[uint64]string{
		375:  "what was sent under a view beside one's own was taken",
		720:  "an owner went on without its follower by a view that no quorum had",
		365:  "whoever waits at a connector that is stopped counted as not answered",
		689:  "the same, without a quorum",
		1231: "the same, of six",
		1563: "the same, without a bus",
	} {
		w := newWorld(seed)
		if w.run(); len(w.bad) > 0 {
			t.Errorf("seed %d (%s):\n\t%s", seed, bug, strings.Join(w.bad, "\n\t"))
		}
	}
}

// The same without followers. Rooms of who dies are born anew, and their members are told; nothing else is lost.
func TestSimAlone(t *testing.T) {
	total, count := sums{}, simFew
	if *simSeeds > 0 {
		count = *simSeeds
	}
	for w := range runs(*simFrom, count, func(w *world) {
		w.alone, w.returns, w.trace = true, true, *simTrace
		w.planUpgrades()
		w.planLogins()
		w.planSettings()
		w.planPrograms()
	}) {
		total.add(w.sums)
		if len(w.bad) > 0 {
			t.Errorf("seed %d: nodes %d, quorum %d, split %v\n\t%s", w.seed, len(w.procs), w.quorum, w.split, strings.Join(w.bad[:min(len(w.bad), 6)], "\n\t"))
		}
	}
	for _, k := range []string{"moves", "born anew", "lost partitions told", "acknowledged sends"} {
		if total[k] == 0 {
			t.Errorf("no %s", k)
		}
		t.Logf("%9d %s", total[k], k)
	}
}

// runs are worlds that have run, in order of their seeds; as many run at once as there are cores. set says what they are beside their seeds.
func runs(from uint64, count int, set func(*world)) func(yield func(*world) bool) {
	return func(yield func(*world) bool) {
		slots := make(chan chan *world, runtime.GOMAXPROCS(0))
		go func() {
			for i := range count {
				done := make(chan *world, 1)
				slots <- done
				go func() {
					w := newWorld(from + uint64(i))
					set(w)
					w.run()
					done <- w
				}()
			}
			close(slots)
		}()
		for done := range slots {
			if !yield(<-done) {
				return
			}
		}
	}
}
