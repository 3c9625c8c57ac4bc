package limit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Rate says how often something may be done: PerSecond times a second in the long run, to a thousandth, and Burst times at once. The
// zero Rate is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// The bounds of a Rate. Within them the times of a Bucket stay far below 2^63 ns, even at 16 times the rate (Table).
const (
	MinPerSecond = 0.001
	MaxPerSecond = 1_000_000
	MaxBurst     = 1_000_000
	MaxFill      = 24 * 3600 * int64(1e9) // how long an empty bucket may take to be full again, in nanoseconds
)

// Check returns an error if r is out of bounds. The error names the bounds.
func (r Rate) Check() error {
	fits := r.PerSecond >= MinPerSecond && r.PerSecond <= MaxPerSecond && r.Burst >= 1 && r.Burst <= MaxBurst
	if r == (Rate{}) || fits && float64(r.Burst)/r.PerSecond*1e9 <= float64(MaxFill) {
		return nil
	}
	return fmt.Errorf("%v: must be %g to %d a second and 1 to %d at once, and no more at once than a day allows; or 0 for no limit",
		r, MinPerSecond, MaxPerSecond, MaxBurst)
}

// None reports whether r sets no limit.
func (r Rate) None() bool { return r.Burst == 0 }

// every is the time in nanoseconds in which one token comes back.
func (r Rate) every() int64 { return int64(1e9 / r.PerSecond) }

// times is a rate n times as high; none stays none.
func (r Rate) times(n int) Rate {
	return Rate{PerSecond: r.PerSecond * float64(n), Burst: r.Burst * n}
}

// String formats r as ParseRate reads it: "100:500", or "0" for no limit.
func (r Rate) String() string {
	if r == (Rate{}) {
		return "0"
	}
	return strconv.FormatFloat(r.PerSecond, 'f', -1, 64) + ":" + strconv.Itoa(r.Burst)
}

// errRate means that a text is no rate.
var errRate = errors.New("must be a rate and a burst such as 100:500 (100 a second, 500 at once), or 0 for no limit")

// ParseRate parses "100:500", which is 100 a second and 500 at once. "100" is "100:100"; "0" is no limit. The error tells an operator what
// to write.
func ParseRate(text string) (Rate, error) {
	perSecond, burst, both := strings.Cut(text, ":")
	if !both {
		burst = perSecond
	}
	n, err := strconv.Atoi(perSecond)
	m, err2 := strconv.Atoi(burst)
	switch {
	case err != nil || err2 != nil || (n < 1 || m < 1) && text != "0":
		return Rate{}, errRate
	case n == 0:
		return Rate{}, nil
	}
	r := Rate{PerSecond: float64(n), Burst: m}
	return r, r.Check()
}
