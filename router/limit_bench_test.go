package router

import (
	"testing"
	"unsafe"

	"github.com/pomelod/pomelod/limit"
)

// Idle members are most of what a server has. A slab must fill pages of Go's heap, which are of 8 KiB, or there is a rest that nobody uses.
func TestSessionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 96 {
		t.Errorf("a session has %d bytes", size)
	}
	if size := unsafe.Sizeof(extra{}); size > 224 { // a size class of Go's
		t.Errorf("what is unusual of a session has %d bytes", size)
	}
	if slab := unsafe.Sizeof([slabSessions]session{}); slab%8192 != 0 || slab < 32<<10 {
		t.Errorf("a slab of %d bytes fills no pages", slab)
	}
}

// What the limits cost a message that is admitted.
func BenchmarkAdmit(b *testing.B) {
	for name, change := range map[string]func(*Config){"limits=off": nil, "limits=public": func(cfg *Config) {
		most := limit.Rate{PerSecond: limit.MaxPerSecond, Burst: limit.MaxBurst}
		cfg.Limits.SessionRate, cfg.Limits.SendRate = most, most
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
					s.meter.all, s.meter.sends = 0, 0
				}
				if !l.admit(s, c) {
					b.Fatal("refused")
				}
			}
		})
	}
}
