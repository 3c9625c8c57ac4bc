package limit

import (
	"math/rand/v2"
	"testing"
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
	if b.Full(start+second-1) || !b.Full(start+second) {
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
		if !b.Take(Rate{}, 0) || !b.Full(0) {
			t.Fatal("the zero rate limits")
		}
	}
}

// A bucket agrees with one that counts tokens, however it is asked.
func TestBucketModel(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := Rate{PerSecond: 1 + rnd.IntN(2000), Burst: 1 + rnd.IntN(20)}
		every := second / int64(r.PerSecond)
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
			if full := have == every*int64(r.Burst); b.Full(now) != full {
				t.Fatalf("seed %d, step %d: full is %v", seed, i, !full)
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
	for _, text := range []string{"", "x", "1:", ":1", "1:0", "-1", "1:-1", "0:5", "5:5:5", "1e3", "2000000000", "1:2000000000", " 1"} {
		if r, err := ParseRate(text); err != ErrRate {
			t.Errorf("%q is taken: %v, %v", text, r, err)
		}
	}
}

// The largest rates do not overflow.
func TestLargestRates(t *testing.T) {
	for _, r := range []Rate{{1, MaxRate}, {MaxRate, MaxRate}, {MaxRate, 1}} {
		b := Bucket(0)
		if !b.Take(r, 1<<61) {
			t.Errorf("%v refuses the first", r)
		}
		if r.Burst > 1 && !b.Take(r, 1<<61) {
			t.Errorf("%v refuses the second", r)
		}
	}
}
