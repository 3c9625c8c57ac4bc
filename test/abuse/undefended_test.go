//go:build linux

package abuse

import (
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// The halves without a defence come after all others. Nothing of them is judged by time, so they may disturb each other: they, and the
// building of their servers, take as many processors as there are. Most of the time they wait, for what ought to happen and does not: so there
// are a few to each processor.
var halves struct {
	sync.Mutex
	all  []testing.InternalTest
	seen map[string]bool // with -count there are several of a name
}

var alone = flag.Bool("alone", false, "build a server for each defence that is taken away, instead of one for a few of them")

// mix is a server without a few defences that have nothing to do with each other: to build one for each would take longer than all attacks. What each
// attack must fail with is its own, so it is the defence in question that was missed.
type mix struct {
	edits []edit
	of    []string // whose defences they are
}

const mixed = 8 // defences at most

var mixes struct {
	all []*mix
	of  map[string]*mix // by edits
}

// mix is the server without the defence of w: built when all who share it are known. It shares it with others that are not in the same files, nor of the
// same test.
func (w weakness) mix(test string) *mix {
	key := fmt.Sprint(w.edits)
	if m := mixes.of[key]; m != nil {
		return m
	}
	m := &mix{}
	if len(w.edits) > 0 && !w.alone && !*alone {
		at := slices.IndexFunc(mixes.all, func(m *mix) bool { return len(m.of) < mixed && !slices.Contains(m.of, test) && !m.shares(w.edits) })
		if at < 0 {
			at, mixes.all = len(mixes.all), append(mixes.all, m)
		}
		m = mixes.all[at]
	}
	m.edits = append(m.edits, w.edits...)
	m.of = append(m.of, test)
	if mixes.of == nil {
		mixes.of = make(map[string]*mix)
	}
	mixes.of[key] = m
	return m
}

// shares tells whether any of the edits is in a file that has some.
func (m *mix) shares(edits []edit) bool {
	return slices.ContainsFunc(edits, func(e edit) bool {
		return slices.ContainsFunc(m.edits, func(o edit) bool { return o.File == e.File })
	})
}

// later has a subtest of t run when the tests are over, in parallel with others of its kind. What it uses must not end with t.
func later(t *testing.T, name string, half func(t *testing.T)) {
	halves.Lock()
	defer halves.Unlock()
	name = t.Name() + "/" + name
	if halves.seen[name] {
		return
	}
	if halves.seen == nil {
		halves.seen = make(map[string]bool)
	}
	halves.seen[name] = true
	halves.all = append(halves.all, testing.InternalTest{Name: name, F: func(t *testing.T) { t.Parallel(); half(t) }})
}

// runUndefended runs them, those that -run lets pass, and tells whether all failed as they should.
func runUndefended() bool {
	const few = 2
	runtime.GOMAXPROCS(runtime.NumCPU())
	_ = flag.Set("test.parallel", strconv.Itoa(few*runtime.NumCPU()))
	return len(halves.all) == 0 || testing.RunTests(regexp.MatchString, halves.all)
}
