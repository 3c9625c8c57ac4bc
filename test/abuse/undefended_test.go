//go:build linux

package abuse

import (
	"flag"
	"regexp"
	"runtime"
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
