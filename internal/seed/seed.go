// Package seed gives random tests a seed that they print and accept: go test -run X ./folder -seed N has a failure again.
package seed

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var given = flag.Uint64("seed", 0, "seed of random tests; 0 takes the time")

// Rand is a source with the seed of -seed, or another each time, which t logs.
func Rand(t testing.TB) *rand.Rand {
	s := *given
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}
