package router

import (
	"testing"
	"unsafe"

	"github.com/pomelod/pomelod/internal/seed"
)

// Idle members are most of what a server has: what a session is counted by must stay small.
func TestSessionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 104 {
		t.Errorf("a session has %d bytes", size)
	}
	if size := unsafe.Sizeof(meter{}); size > 16 {
		t.Errorf("a meter has %d bytes", size)
	}
}

// exactBucket is a token bucket without rounding: tokens come all the time, counted in 10^-12, and a take needs a whole one.
type exactBucket struct {
	milli, burst, tokens int64
	at                   int64
}

const token = 1e12

func (b *exactBucket) take(nanos int64) bool {
	if passed := nanos - b.at; passed > b.burst/b.milli {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.tokens+passed*b.milli, b.burst)
	}
	b.at = nanos
	if b.tokens < token {
		return false
	}
	b.tokens -= token
	return true
}

// A bucket of four bytes against an exact one, at rates and times of any size, with silences up to a day, wherever the count stands
// when it wraps around:
//   - What the exact one admits of a session that keeps to it is admitted, always.
//   - From any message on no more are admitted than burst, what the rate allows in that time, and one.
//
// The clock is read as a loop does: when a second has passed, and before anything is refused. That may admit what the rate is for a
// second more.
func TestBucketAgainstAnExactOne(t *testing.T) {
	rng := seed.Rand(t)
	for range 300 {
		milli := []int64{1, 100, 999, 1000, 50_000, 60_000, 333_333, 1_000_000, 10_000_000}[rng.IntN(9)]
		r := Rate{PerSecond: float64(milli) / 1000, Burst: []int{1, 2, 7, 200, 1000}[rng.IntN(5)]}
		if r.check("") != nil {
			continue
		}
		polite := rng.IntN(2) == 0
		// So late that the count is about to wrap around, or anywhere.
		nanos := rng.Int64N(400 * 24 * 3600 * 1e9)
		if rng.IntN(2) == 0 {
			nanos = int64(float64(1<<32)/r.PerSecond*1e9) % (1 << 61)
			nanos = max(nanos-rng.Int64N(1e10), 0)
		}
		read := nanos
		b := bucket(r.allowed(nanos))
		exact := exactBucket{milli: milli, burst: int64(r.Burst) * token, tokens: int64(r.Burst) * token, at: nanos}
		admitted, began := 0, nanos
		for i := range 2000 {
			step := int64(0)
			switch rng.IntN(6) {
			case 0: // at once
			case 1:
				step = rng.Int64N(24 * 3600 * 1e9)
				if rng.IntN(20) != 0 {
					step = rng.Int64N(3e9)
				}
			default: // about as fast as is allowed
				step = int64(1e9 / r.PerSecond * (0.5 + rng.Float64()))
			}
			nanos += step
			if nanos-read >= 1e9 {
				read = nanos
			}
			before := exact
			want := exact.take(nanos)
			if polite && !want { // it waits
				exact = before
				continue
			}
			b.settle(r.allowed(read))
			got := b.take(r.allowed(read), r.Burst)
			if !got {
				read = nanos
				got = b.take(r.allowed(read), r.Burst)
			}
			if polite && !got {
				t.Fatalf("%+v: message %d was refused at %d ns, with %d tokens", r, i, nanos, before.tokens)
			}
			if got {
				admitted++
			}
			most := float64(r.Burst) + r.PerSecond*(float64(nanos-began)/1e9+1) + 1.001
			if float64(admitted) > most {
				t.Fatalf("%+v: %d admitted in %d ns, at most %.1f may be", r, admitted, nanos-began, most)
			}
		}
	}
}

// A full bucket stays full over any silence that is broken once a day, through every wrap of the count.
func TestBucketOverYears(t *testing.T) {
	r := Rate{PerSecond: maxPerSecond, Burst: 3}
	b := bucket(0)
	for day := range int64(2000) {
		nanos := day * 24 * 3600 * 1e9
		b.settle(r.allowed(nanos))
		for i := range r.Burst {
			if day%3 == 0 && !b.take(r.allowed(nanos), r.Burst) {
				t.Fatalf("day %d: message %d was refused", day, i)
			}
		}
		if day%3 == 0 && b.take(r.allowed(nanos), r.Burst) {
			t.Fatalf("day %d: one too many", day)
		}
	}
}

func TestRateCheck(t *testing.T) {
	for _, r := range []Rate{{}, {0.001, 1}, {10_000, 1_000_000}, {1, 86400}} {
		if err := r.check("-x"); err != nil {
			t.Error(err)
		}
	}
	for _, r := range []Rate{{0, 1}, {1, 0}, {-1, 1}, {10_001, 1}, {0.0001, 1}, {1, -1}, {100, 1_000_001}, {0.001, 87}} {
		if r.check("-x") == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}

func BenchmarkBucket(b *testing.B) {
	r := Rate{PerSecond: 100, Burst: 200}
	var k bucket
	for i := range b.N {
		k.take(uint32(i), r.Burst)
	}
}

// What the limits cost a message that is admitted.
func BenchmarkAdmit(b *testing.B) {
	for name, change := range map[string]func(*Config){"limits=off": nil, "limits=public": func(cfg *Config) {
		cfg.Limits.SessionRate, cfg.Limits.SendRate = Rate{maxPerSecond, maxBurst / 2}, Rate{maxPerSecond, maxBurst / 2}
	}} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, shape{loops: 1}, change)
			r.login(atConnector, false)
			l := r.node.loops[0]
			s := &l.sessions[0][0]
			c := &call{route: &route{handle: builtin[routeSend]}}
			b.ResetTimer()
			for i := range b.N {
				if i&1023 == 0 {
					s.meter.all, s.meter.sends = bucket(l.limiter.all), bucket(l.limiter.sends)
				}
				if !l.admit(s, c) {
					b.Fatal("refused")
				}
			}
		})
	}
}
