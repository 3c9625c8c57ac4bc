package limit

import (
	"errors"
	"strconv"
	"strings"
)

// Rate is how often something may be done: PerSecond times a second in the long run, Burst times at once. The zero Rate is
// no limit. Neither may exceed MaxRate.
type Rate struct {
	PerSecond int
	Burst     int
}

// MaxRate bounds the numbers of a Rate: the times of a bucket stay far from overflowing.
const MaxRate = 1_000_000_000

// None tells whether r is no limit.
func (r Rate) None() bool { return r.PerSecond == 0 }

// every is the time in which one token comes back.
func (r Rate) every() int64 { return int64(1e9) / int64(r.PerSecond) }

// times is a rate n times as high; none stays none.
func (r Rate) times(n int) Rate {
	return Rate{PerSecond: min(r.PerSecond*n, MaxRate), Burst: min(r.Burst*n, MaxRate)}
}

// String is what ParseRate reads.
func (r Rate) String() string {
	if r.None() {
		return "0"
	}
	return strconv.Itoa(r.PerSecond) + ":" + strconv.Itoa(r.Burst)
}

// ErrRate means that a text is no rate.
var ErrRate = errors.New("must be a rate and a burst such as 100:500 (100 a second, 500 at once), or 0 for no limit")

// ParseRate reads "100:500", 100 a second and 500 at once; "100" is "100:100", and "0" no limit. It fails with ErrRate.
func ParseRate(text string) (Rate, error) {
	perSecond, burst, both := strings.Cut(text, ":")
	if !both {
		burst = perSecond
	}
	n, err := strconv.Atoi(perSecond)
	m, err2 := strconv.Atoi(burst)
	switch {
	case err != nil || err2 != nil || n < 0 || n > MaxRate || m > MaxRate:
		return Rate{}, ErrRate
	case n == 0 && !both:
		return Rate{}, nil
	case n == 0 || m < 1:
		return Rate{}, ErrRate
	}
	return Rate{PerSecond: n, Burst: m}, nil
}

// Bucket is a token bucket: the time at which it will be full again. So a check is an addition and two comparisons, and the
// zero value, ready to use, is a full one. Not safe for concurrent use.
type Bucket int64

// Take takes a token if there is one.
func (b *Bucket) Take(r Rate, now int64) bool {
	if !b.Has(r, now) {
		return false
	}
	b.take(r, now)
	return true
}

// Has tells whether there is a token.
func (b Bucket) Has(r Rate, now int64) bool {
	return r.None() || max(int64(b), now)+r.every()-now <= r.every()*int64(r.Burst)
}

// take takes a token that there is.
func (b *Bucket) take(r Rate, now int64) {
	if !r.None() {
		*b = Bucket(max(int64(*b), now) + r.every())
	}
}

// Full tells whether nothing of what was taken is still to come back: the bucket is as good as a new one.
func (b Bucket) Full(now int64) bool { return int64(b) <= now }
