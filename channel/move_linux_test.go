package channel

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

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
