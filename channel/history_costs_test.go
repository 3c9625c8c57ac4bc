package channel

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// heap is what lives on Go's heap, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What empty rooms keep counts at least what it takes: 95,000 rooms with a message each take less than 40 MiB, and are counted as more.
func TestHistoryFootprint(t *testing.T) {
	const rooms = 95_000
	w := newWorker(func(OutletID) Outlet { return nowhere{} })
	h := keeping(ReadersPresent)
	h.Wall = func() int64 { return 1 }
	w.KeepHistory(h)
	before := heap()
	for i := range rooms {
		room := fmt.Sprint("room", i)
		part := Partition(room)
		w.Handle(&Request{Op: OpEnter, From: at(0, 1+i), Req: 1, Room: room, Part: part, User: "somebody"})
		w.Handle(&Request{Op: OpSend, From: at(0, 1+i), Req: 1, Room: room, Part: part, User: "somebody", Target: Everybody, Content: []byte(`"hello"`)})
		w.Handle(&Request{Op: OpLeave, From: at(0, 1+i), Room: room, Part: part, User: "somebody"})
	}
	took, stats := heap()-before, w.Stats()
	if stats.Kept != rooms || took > 40<<20 || took > stats.KeptBytes {
		t.Errorf("%d messages in empty rooms take %d bytes and count as %d", stats.Kept, took, stats.KeptBytes)
	}
	runtime.KeepAlive(w)
}

// A member that is there and says nothing takes not a byte more where rooms keep what is said and places are kept, with a secret or without.
func TestIdleMembersCostNothing(t *testing.T) {
	const members = 50_000
	fill := func(h History, grace time.Duration) int64 {
		before := heap()
		w := newWorker(func(OutletID) Outlet { return nowhere{} })
		h.Wall = func() int64 { return 1 }
		w.KeepHistory(h)
		w.limits.Grace = grace
		for i := range members {
			room := fmt.Sprint("room", i/10)
			w.Handle(&Request{Op: OpEnter, From: at(0, 1+i), Req: 1, Room: room, Part: Partition(room), User: fmt.Sprint("member", i), Key: uint64(i % 2 * (i + 1)), Near: uint64(i)/100 + 1})
		}
		took := heap() - before
		runtime.KeepAlive(w)
		return took
	}
	fill(History{}, 0) // what the process makes once is there then
	off, on := fill(History{}, 0), fill(keeping(ReadersPresent), time.Hour)
	t.Logf("%.1f bytes a member without, %.1f with", float64(off)/members, float64(on)/members)
	if on > off+members { // a word in each would be eight times that; the rest of the process has some bytes, too
		t.Errorf("%d members take %d bytes, without history and places %d", members, on, off)
	}
}

// A member that is away takes no more than awayCost beside what it took before.
func TestAwayFootprint(t *testing.T) {
	const members = 50_000
	w := newWorker(func(OutletID) Outlet { return nowhere{} })
	w.limits.Grace = time.Hour
	do := func(op Op, i int) {
		room := fmt.Sprint("room", i/10)
		w.Handle(&Request{Op: op, From: at(0, 1+i), Req: 1, Room: room, Part: Partition(room), User: fmt.Sprint("member", i), Key: uint64(i) + 1,
			Cut: op == OpLeave, Near: uint64(i)/100 + 1})
	}
	for i := range members {
		do(OpEnter, i)
	}
	before := heap()
	for i := range members {
		do(OpLeave, i)
	}
	if each, away := (heap()-before)/members, w.Stats().Away; each > awayCost || away != members {
		t.Errorf("each of %d members takes %d bytes more when it is away, more than %d", away, each, awayCost)
	}
	runtime.KeepAlive(w)
}

// A send into a room of 4 costs no allocation more where it is kept.
func TestKeepingAllocatesNothing(t *testing.T) {
	count := func(h History) float64 {
		w := keepingWorker(h)
		r := Request{Op: OpSend, From: at(0, 0), Req: 1, Room: "r", Part: Partition("r"), User: "m0", Target: Everybody, Content: []byte(`"good morning to all of you"`)}
		for range 200 {
			w.Handle(&r)
		}
		return testing.AllocsPerRun(1000, func() { w.Handle(&r) })
	}
	if off, on := count(History{}), count(keeping(ReadersPresent)); on > off {
		t.Errorf("%v allocations, without history %v", on, off)
	}
}

// keepingWorker has a room of 4.
func keepingWorker(h History) *Worker {
	w := newWorker(func(OutletID) Outlet { return nowhere{} })
	h.Wall = func() int64 { return 1 }
	w.KeepHistory(h)
	for i := range 4 {
		w.Handle(&Request{Op: OpEnter, From: at(0, i), Req: 1, Room: "r", Part: Partition("r"), User: fmt.Sprintf("m%d", i)})
	}
	return w
}

// BenchmarkSendKept is a send into a room of 4 that keeps it, or not.
func BenchmarkSendKept(b *testing.B) {
	for _, messages := range []int{0, 64} {
		b.Run(fmt.Sprintf("history=%d", messages), func(b *testing.B) {
			h := keeping(ReadersPresent)
			h.Messages = messages
			w := keepingWorker(h)
			b.ReportAllocs()
			r := Request{Op: OpSend, From: at(0, 0), Req: 1, Room: "r", Part: Partition("r"), User: "m0", Target: Everybody, Content: []byte(`"good morning to all of you"`)}
			for b.Loop() {
				w.Handle(&r)
			}
		})
	}
}
