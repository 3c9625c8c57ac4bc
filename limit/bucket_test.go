package limit

import (
	"math/rand/v2"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

const second = int64(1e9)

// A bucket gives its burst at once, then one token each time one has come back, to the nanosecond.
func TestBucket(t *testing.T) {
	r := Rate{PerSecond: 4, Burst: 3}
	var b Bucket
	take := func(now int64, want bool) {
		t.Helper()
		if got := b.Take(r, now); got != want {
			t.Fatalf("at %d: %v, want %v", now, got, want)
		}
	}
	start := 10 * second
	for range 3 {
		take(start, true)
	}
	take(start, false)
	take(start+second/4-1, false)
	take(start+second/4, true)
	take(start+second/4, false)
	if b.Debt(start+second-1) != 1 || b.Debt(start+second) != 0 {
		t.Error("full at the wrong time")
	}
	for range 3 { // idle for long: no more than the burst
		take(start+100*second, true)
	}
	take(start+100*second, false)
}

// A refusal takes nothing: who asks too often gets as much as who asks just often enough.
func TestRefusalTakesNothing(t *testing.T) {
	r := Rate{PerSecond: 100, Burst: 10}
	var b Bucket
	granted := 0
	for now := int64(0); now < 10*second; now += second / 10_000 {
		if b.Take(r, now) {
			granted++
		}
	}
	if granted != 10*100+10-1 && granted != 10*100+10 {
		t.Errorf("%d granted in 10 s", granted)
	}
}

func TestNoRateIsNoLimit(t *testing.T) {
	var b Bucket
	for range 100 {
		if !b.Take(Rate{}, 0) || b.Debt(0) != 0 {
			t.Fatal("the zero rate limits")
		}
	}
}

// A bucket agrees with one that counts tokens, however it is asked.
func TestBucketModel(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := Rate{PerSecond: float64(1 + rnd.IntN(2000)), Burst: 1 + rnd.IntN(20)}
		every := r.every()
		var b Bucket
		have := every * int64(r.Burst) // in the model: tokens, in the time that they take to come back
		now, last := int64(rnd.IntN(1000)), int64(0)
		last = now
		for i := range 2000 {
			now += rnd.Int64N(2 * every)
			have = min(have+now-last, every*int64(r.Burst))
			last = now
			want := have >= every
			if want {
				have -= every
			}
			if got := b.Take(r, now); got != want {
				t.Fatalf("seed %d, step %d: %v, want %v", seed, i, got, want)
			}
			if debt := every*int64(r.Burst) - have; b.Debt(now) != debt {
				t.Fatalf("seed %d, step %d: debt %d, want %d", seed, i, b.Debt(now), debt)
			}
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{"0": {}, "5": {5, 5}, "5:9": {5, 9}, "1000:20000": {1000, 20000}, "9:1": {9, 1}} {
		got, err := ParseRate(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if again, err := ParseRate(got.String()); err != nil || again != got {
			t.Errorf("%q came back as %v, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "x", "1:", ":1", "1:0", "-1", "1:-1", "0:5", "5:5:5", "1e3", " 1", "0:0"} {
		if r, err := ParseRate(text); err != errRate {
			t.Errorf("%q is taken: %v, %v", text, r, err)
		}
	}
}

// What a bucket cannot keep is refused, and the largest rates that it can keep do not overflow, also where a network has a multiple.
func TestRateCheck(t *testing.T) {
	for _, r := range []Rate{{}, {MinPerSecond, 1}, {MaxPerSecond, MaxBurst}, {MaxPerSecond, 1}, {1, 86400}, {12, MaxBurst}, {0.001, 86}} {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		for _, r := range []Rate{r, r.times(levelTimes[levels-1])} {
			b := Bucket(0)
			b.TakeUpTo(r, 1<<40, 1<<61)
			if !r.None() && (b.Debt(1<<61) > MaxFill || !b.Take(r, 1<<61) || b.Take(r, 1<<61)) {
				t.Errorf("%v: not one token is left of all: %d", r, b)
			}
		}
	}
	for _, r := range []Rate{{0, 1}, {1, 0}, {-1, 1}, {MaxPerSecond + 1, 1}, {0.0001, 1}, {1, -1}, {100, MaxBurst + 1}, {0.001, 87}, {1, 86401}} {
		if r.Check() == nil {
			t.Errorf("%v was accepted", r)
		}
	}
}

// TakeUpTo leaves one token where there is one, and takes none that is not there.
func TestTakeUpTo(t *testing.T) {
	r := Rate{PerSecond: 10, Burst: 5}
	for _, c := range []struct{ taken, n, left int }{{0, 0, 5}, {0, 3, 2}, {0, 4, 1}, {0, 9, 1}, {3, 9, 1}, {4, 1, 1}, {5, 1, 0}} {
		var b Bucket
		for range c.taken {
			b.Take(r, second)
		}
		b.TakeUpTo(r, c.n, second)
		left := 0
		for b.Take(r, second) {
			left++
		}
		if left != c.left {
			t.Errorf("%+v: %d left", c, left)
		}
	}
}

// What is charged in parts adds up, and is owed where the bucket has less.
func TestChargePart(t *testing.T) {
	r := Rate{PerSecond: 2, Burst: 20}
	var b Bucket
	for range 1024 {
		b.ChargePart(r, 400, 1<<14, second)
	}
	if debt := b.Debt(second); debt < 12*second || debt > 13*second { // 25 tokens
		t.Errorf("%d ns until it is full", debt)
	}
	if b.Take(r, second) || b.Take(r, 3*second) || !b.Take(r, 4*second) {
		t.Error("what is owed is not waited for")
	}
	b.ChargePart(Rate{}, 1<<40, 1, second)
	b.ChargePart(r, 1<<30, 1, second)
	if debt := b.Debt(second); debt != MaxFill {
		t.Errorf("a debt of %d ns", debt)
	}
}

// exactBucket is a token bucket without rounding: tokens come all the time, counted in 10^-12, and a take needs a whole one.
type exactBucket struct {
	milli, burst, tokens int64
	at                   int64
}

const token = 1e12

func (b *exactBucket) take(now int64) bool {
	if passed := now - b.at; passed > b.burst/b.milli {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.tokens+passed*b.milli, b.burst)
	}
	b.at = now
	if b.tokens < token {
		return false
	}
	b.tokens -= token
	return true
}

// A bucket whose clock is read as a loop does, when a second has passed and before anything is refused, against an exact one with silences
// up to a day:
//   - What the exact one admits of a session that keeps to it is admitted, always.
//   - No more are admitted than burst, what the rate allows in that time and one second, and one.
func TestBucketWithAnOldClock(t *testing.T) {
	rnd := seed.Rand(t)
	for range 300 {
		milli := []int64{1, 100, 999, 1000, 50_000, 60_000, 333_333, 1_000_000, 10_000_000}[rnd.IntN(9)]
		r := Rate{PerSecond: float64(milli) / 1000, Burst: []int{1, 2, 7, 200, 1000}[rnd.IntN(5)]}
		if r.Check() != nil {
			continue
		}
		polite := rnd.IntN(2) == 0
		now := rnd.Int64N(400 * 24 * 3600 * second)
		var b Bucket
		exact := exactBucket{milli: milli, burst: int64(r.Burst) * token, tokens: int64(r.Burst) * token, at: now}
		admitted, began, read := 0, now, now
		for i := range 2000 {
			switch rnd.IntN(6) {
			case 0: // at once
			case 1:
				if rnd.IntN(20) == 0 {
					now += rnd.Int64N(24 * 3600 * second)
				} else {
					now += rnd.Int64N(3 * second)
				}
			default: // about as fast as is allowed
				now += int64(float64(second) / r.PerSecond * (0.5 + rnd.Float64()))
			}
			if now-read >= second {
				read = now
			}
			before := exact
			want := exact.take(now)
			if polite && !want { // it waits
				exact = before
				continue
			}
			got := b.Take(r, read)
			if !got {
				read = now
				got = b.Take(r, read)
			}
			if polite && !got {
				t.Fatalf("%v: message %d was refused at %d ns, with %d tokens", r, i, now, before.tokens)
			}
			if got {
				admitted++
			}
			if most := float64(r.Burst) + r.PerSecond*1.0001*(float64(now-began)/1e9+1) + 1; float64(admitted) > most {
				t.Fatalf("%v: %d admitted in %d ns, at most %.1f may be", r, admitted, now-began, most)
			}
		}
	}
}
