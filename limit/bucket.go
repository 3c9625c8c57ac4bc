package limit

// Bucket is a token bucket: the time at which it will be full again, in nanoseconds. So a check is an addition and two comparisons, and
// the zero value, ready to use, is a full one. A time that is too early, such as a reading of the clock that is reused for a
// second, only makes a bucket refuse what it has room for, or lets a full one give what the rate is for the difference more. Not safe for
// concurrent use.
type Bucket int64

// Take takes a token if there is one.
func (b *Bucket) Take(r Rate, now int64) bool {
	if !b.Has(r, now) {
		return false
	}
	b.take(r, 1, now)
	return true
}

// Has tells whether there is a token.
func (b Bucket) Has(r Rate, now int64) bool {
	return r.None() || b.Debt(now)+r.every() <= r.every()*int64(r.Burst)
}

// TakeUpTo takes n tokens, or as many as there are while one is left.
func (b *Bucket) TakeUpTo(r Rate, n int, now int64) {
	if r.None() {
		return
	}
	spare := r.Burst - 1 - int((b.Debt(now)+r.every()-1)/r.every())
	b.take(r, max(min(n, spare), 0), now)
}

// take takes n tokens that there are.
func (b *Bucket) take(r Rate, n int, now int64) {
	if !r.None() {
		*b = Bucket(max(int64(*b), now) + int64(n)*r.every())
	}
}

// Charge takes n tokens for what has been done already, those that there are not too: the next who asks waits for them.
func (b *Bucket) Charge(r Rate, n int, now int64) {
	b.take(r, n, now)
	*b = min(*b, Bucket(now+MaxFill))
}

// Debt is the time in which the bucket will be full, in nanoseconds: 0 when it is as good as a new one, and never more than
// MaxFill. Bucket(now + debt) is the same bucket on a clock that reads now.
func (b Bucket) Debt(now int64) int64 { return max(int64(b)-now, 0) }
