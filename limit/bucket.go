package limit

// Bucket is a token bucket, stored as the time at which it will be full again, in nanoseconds. A check is an addition and two comparisons;
// the zero value is a full bucket. Not safe for concurrent use.
//
// A Limiter of golang.org/x/time/rate does the same in 80 bytes, with a lock and a clock of its own. There are three buckets for each address
// and each session, and a session's are asked for each message.
//
// A caller may reuse one reading of the clock for a while. Then a bucket may refuse too early, which a new reading settles, and may give
// at most what the rate allows in the time since that reading too much.
type Bucket int64

// Take takes a token, and returns false if there is none.
func (b *Bucket) Take(r Rate, now int64) bool {
	if !b.Has(r, now) {
		return false
	}
	b.take(r, 1, now)
	return true
}

// Has reports whether the bucket holds a token.
func (b Bucket) Has(r Rate, now int64) bool {
	return r.None() || b.Debt(now)+r.every() <= r.every()*int64(r.Burst)
}

// TakeUpTo takes n tokens, or fewer so that one token is left.
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

// Charge takes n tokens for what has been done already, even if there are fewer: the next that asks waits for them.
func (b *Bucket) Charge(r Rate, n int, now int64) {
	b.take(r, n, now)
	*b = min(*b, Bucket(now+MaxFill))
}

// ChargePart is Charge for n of the parts of a token. What is charged in many small parts adds up. n times the nanoseconds of a token must fit
// into an int64.
func (b *Bucket) ChargePart(r Rate, n, parts int, now int64) {
	if !r.None() {
		*b = min(Bucket(max(int64(*b), now)+int64(n)*r.every()/int64(parts)), Bucket(now+MaxFill))
	}
}

// Debt is how long the bucket needs to be full again, in nanoseconds: 0 for a full one, at most MaxFill. Bucket(now + debt) is the same
// bucket on another clock, which reads now.
func (b Bucket) Debt(now int64) int64 { return max(int64(b)-now, 0) }
