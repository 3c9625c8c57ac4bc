package channel

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkMove takes a room of so many members to another worker, and tells what each turn of it takes of a processor, whatever else the machine does: a part of a snapshot at the owner and at who follows
// (the longest, in the median of runs), the end of deciding, its beginning at the new owner, and forgetting all.
func BenchmarkMove(b *testing.B) {
	for _, members := range []int{10, 19_000, 95_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			w, part := benchWorker(b, members, 6), Partition("r")
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			steps, run := map[string][]int64{}, map[string]int64{}
			longest := func(step string, do func()) {
				began := threadTime(b)
				do()
				run[step] = max(run[step], threadTime(b)-began)
			}
			for b.Loop() {
				f := newWorker(func(OutletID) Outlet { return nowhere{} })
				f.Shadow(part)
				for s, whole := w.Snapshot(part), false; !whole; {
					var state []byte
					longest("export", func() { state, whole = s.Part(64 << 10) })
					longest("import", func() {
						if _, err := f.ApplySnapshot(part, state); err != nil {
							b.Fatal(err)
						}
					})
				}
				longest("seal", func() { w.Demote(part) })
				longest("promote", func() {
					f.Promote(part, testEpoch)
					_ = f.AppendNodes(nil, part)
				})
				longest("release", func() { f.Release(part) })
				for f.Due() != 0 {
					longest("forget", f.forgetLeft)
				}
				w.Promote(part, testEpoch)
				for step, d := range run {
					steps[step] = append(steps[step], d)
				}
				clear(run)
			}
			for step, all := range steps {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2])/1000, step+"-µs")
			}
		})
	}
}

// threadTime is the processor's time that the thread has had, in ns.
func threadTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// BenchmarkNodeEnds has one of five nodes end on which the members of a room are, who are away then, as they have given secrets, or leave. It tells what that takes of a processor at the owner and at who follows.
func BenchmarkNodeEnds(b *testing.B) {
	for _, members := range []int{19_000, 95_000} {
		for _, returns := range []bool{false, true} {
			b.Run(fmt.Sprintf("members=%d/return=%v", members, returns), func(b *testing.B) {
				part, limits := Partition("r"), Limits{List: 1000, Grace: time.Minute}
				all := newWorker(func(OutletID) Outlet { return nowhere{} })
				all.SetLimits(limits, new(atomic.Int64), func() int64 { return 1 })
				for i := range members {
					r := Request{Op: OpEnter, From: at(i%5<<8, i+1), Req: 1, Room: "r", Part: part, User: fmt.Sprintf("m%d", i)}
					if returns {
						r.Key = uint64(i + 1)
					}
					all.Handle(&r)
				}
				state := all.State(nil, part)
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var owner, follower int64
				for b.Loop() {
					var records []Record
					w, f := NewWorker(nil), NewWorker(nil)
					w.SetLimits(limits, new(atomic.Int64), func() int64 { return 1 })
					w.KeepBack(recordsOf(func(r []Record) { records = append(records, r...) }))
					f.Shadow(part)
					if _, err := f.ApplySnapshot(part, state); err != nil {
						b.Fatal(err)
					}
					if err := w.Import(part, testEpoch, state); err != nil {
						b.Fatal(err)
					}
					began := threadTime(b)
					w.DropNodeIn(part, NewNode(1, 0))
					owner += threadTime(b) - began
					began = threadTime(b)
					if err := f.Apply(part, records); err != nil {
						b.Fatal(err)
					}
					follower += threadTime(b) - began
				}
				b.ReportMetric(float64(owner)/float64(b.N)/1000, "owner-µs")
				b.ReportMetric(float64(follower)/float64(b.N)/1000, "follower-µs")
			})
		}
	}
}

// recordsOf is a Keeper that has a look at records.
type recordsOf func([]Record)

func (k recordsOf) Keep(_ uint16, records []Record, _ []Item) { k(records) }
func (k recordsOf) Full(OutletID) bool                        { return false }
