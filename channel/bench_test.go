package channel

import (
	"fmt"
	"testing"
)

// benchWorker is a worker with a room of so many members, who sit behind so many outlets.
func benchWorker(b *testing.B, members, outlets int) *Worker {
	w := newWorker(func(OutletID) Outlet { return nowhere{} })
	for i := range members {
		w.Handle(&Request{Op: OpEnter, From: at(i%outlets, i), Req: 1, Room: "r", Part: Partition("r"), User: fmt.Sprintf("m%d", i)})
	}
	b.ReportAllocs()
	return w
}

func BenchmarkSend(b *testing.B) {
	for _, outlets := range []int{1, 4} {
		b.Run(fmt.Sprintf("outlets=%d", outlets), func(b *testing.B) {
			w := benchWorker(b, 20, outlets)
			r := Request{Op: OpSend, From: at(0, 0), Req: 1, Room: "r", Part: Partition("r"), User: "m0", Target: Everybody, Content: []byte(`"good morning to all of you"`)}
			for b.Loop() {
				w.Handle(&r)
			}
		})
	}
}

// BenchmarkEnterLeave is an enter into a room of others, and the leave.
func BenchmarkEnterLeave(b *testing.B) {
	for _, members := range []int{1, 20} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			w := benchWorker(b, members, 1)
			enter := Request{Op: OpEnter, From: at(0, 99), Req: 1, Room: "r", Part: Partition("r"), User: "wanderer"}
			leave := Request{Op: OpLeave, From: at(0, 99), Room: "r", Part: Partition("r"), User: "wanderer"}
			for b.Loop() {
				w.Handle(&enter)
				w.Handle(&leave)
			}
		})
	}
}
