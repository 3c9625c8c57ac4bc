package netpoll

import "testing"

// ringCounter counts rings; no other method may be called.
type ringCounter struct {
	Driver
	rings int
}

func (d *ringCounter) Ring() { d.rings++ }

// What loops keep adds up in their budget. When that is more than it may be, the loop that keeps most is asked to shed, once, whoever notices.
func TestLedgers(t *testing.T) {
	b := NewBudget(1000)
	now := newClock(func() int64 { return 0 })
	var drivers [3]ringCounter
	var loops [3]ledger
	for i := range loops {
		loops[i] = ledger{budget: b, bell: &doorbell{driver: &drivers[i], clock: &now}}
		b.loops = append(b.loops, &loops[i])
	}
	loops[0].unsent, loops[0].segments = 100, 2
	loops[1].inbound, loops[1].unread = 500, 3
	for i := range loops {
		loops[i].publish(i)
	}
	const first = 600 + 2*segmentBytes
	if b.Buffered() != first || b.Inbound() != 500 || b.Slow() != 3 || b.Unread() != 3 {
		t.Errorf("%d bytes, %d of them inbound, %d slow, %d unread", b.Buffered(), b.Inbound(), b.Slow(), b.Unread())
	}
	loops[2].unsent = 1001 - first
	for range 2 {
		loops[2].publish(0)
	}
	for i := range loops {
		if most := i == 1; loops[i].shedding.Load() != most || drivers[i].rings > 0 != most {
			t.Errorf("loop %d: asked to shed: %v, %d rings", i, loops[i].shedding.Load(), drivers[i].rings)
		}
	}
	for i := range loops {
		loops[i].unsent, loops[i].segments, loops[i].inbound, loops[i].unread = 0, 0, 0, 0
		loops[i].publish(0)
	}
	if b.Buffered() != 0 || b.Inbound() != 0 || b.Slow() != 0 || b.Unread() != 0 {
		t.Errorf("left: %d bytes, %d of them inbound, %d slow, %d unread", b.Buffered(), b.Inbound(), b.Slow(), b.Unread())
	}
}
