// Package seed gives random tests their seed. In a plain run it follows from the test's name, so that a run says something about the
// change at hand and not about the day's luck; make explore looks for what no seed has found yet. go test -run X ./folder -seed N has a failure again.
package seed

import (
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

var given = flag.String("seed", "", "seed of random tests: a number, or time for another in each run; by default it follows from the test's name")

// Rand is a source with a seed, which t logs.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	s, err := of(*given, t.Name())
	if err != nil {
		t.Fatalf("-seed %s: give a number, or time", *given)
	}
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

func of(given, name string) (uint64, error) {
	switch given {
	case "":
		h := fnv.New64a()
		h.Write([]byte(name))
		return h.Sum64(), nil
	case "time":
		return uint64(time.Now().UnixNano()), nil
	default:
		return strconv.ParseUint(given, 10, 64)
	}
}
