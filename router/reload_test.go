package router

import (
	"reflect"
	"testing"
	"time"

	"github.com/pomelod/pomelod/limit"
)

// Limits that are changed hold on every loop, and for workers and connections, but for those of which clients or others have been told.
func TestSetLimits(t *testing.T) {
	r := newRig(t, shape{loops: 3}, func(c *Config) { c.Limits.Rooms.Grace = time.Minute })
	before := *r.node.limits.Load()
	other := before
	fill(reflect.ValueOf(&other).Elem())
	other.SessionRate, other.SendRate, other.EnterRate = limit.Rate{PerSecond: 1, Burst: 2}, limit.Rate{PerSecond: 1, Burst: 3}, limit.Rate{PerSecond: 1, Burst: 4}
	other.PackageBytes, other.Conn.Outbound, other.NameBytes, other.Rooms.Grace = 4096, 64<<10, 32, time.Second
	if err := other.Check(); err != nil {
		t.Fatal(err)
	}
	r.node.SetLimits(other, limit.PerAddress{Conns: 7}, Origins{})
	r.net.Settle()
	want := other
	want.keep(&before)
	if want == other || want == before {
		t.Fatal("the test changes nothing, or all of it")
	}
	for i, l := range r.node.loops {
		if l.limits != want {
			t.Errorf("loop %d goes by\n%+v, not\n%+v", i, l.limits, want)
		}
		if l.rooms.limits != &l.limits || l.limiter.limits != &l.limits || l.carriers.chat.limits != &l.limits {
			t.Errorf("parts of loop %d go by others", i)
		}
	}
	if got := *r.node.limits.Load(); got != want {
		t.Errorf("%+v", got)
	}
	if r.node.access.open.Load() {
		t.Error("addresses are not limited")
	}
	for i := range 8 { // as many of an address as it may have connections may be away
		if took := r.node.ghosts.take(1, 0); took != (i < 7) {
			t.Errorf("%d of an address may be away: %v", i+1, took)
		}
	}
	r.node.SetLimits(before, limit.PerAddress{}, Origins{})
	r.net.Settle()
	if l := r.node.loops[0]; l.limits != before || !r.node.access.open.Load() {
		t.Errorf("%+v", l.limits)
	}
}

// fill has each number in v be another one.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Struct:
			fill(f)
		case reflect.Int, reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Uint32:
			f.SetUint(f.Uint() + 1)
		}
	}
}

// Who had to wait because of a slow rate may go on when the rate is faster.
func TestFasterRateHoldsAtOnce(t *testing.T) {
	slow := limit.Rate{PerSecond: 1, Burst: 100}
	r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.SendRate = slow })
	c := r.login(atConnector, true)
	c.enter("ann", "r")
	for c.ask(routeSend, sendBody("x", "*")) == `{}` {
	}
	faster := *r.node.limits.Load()
	faster.SendRate = limit.Rate{PerSecond: 10, Burst: 10}
	r.node.SetLimits(faster, limit.PerAddress{Conns: 1 << 30}, Origins{})
	r.net.Settle()
	if got := c.ask(routeSend, sendBody("x", "*")); got != `{}` {
		t.Errorf("%s", got)
	}
}
