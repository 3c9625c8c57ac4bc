// Package logsink keeps the log from hurting what it tells about: no line, however slow or broken the place it goes to, holds
// up who logs it (Writer), and no fault that a client can cause over and over fills the disk (Limit).
package logsink

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// queueBytes is how much may wait to be written. It is some seconds of a busy log, and a hundred log lines with stacks.
const queueBytes = 1 << 20

// Writer writes lines on a goroutine of its own, so that neither a pipe that nobody reads nor a slow disk holds up an event
// loop. What does not fit into its queue, or cannot be written, is lost and counted, and told of as soon as lines can be
// written again. Safe from any goroutine.
type Writer struct {
	// Static after construction.
	out  io.Writer
	lost func(lines uint64) // tells of lines that were lost
	wake chan struct{}      // holds one when there is something to write

	errors  atomic.Uint64
	dropped atomic.Uint64

	mu     sync.Mutex
	queue  [][]byte // guarded by mu
	bytes  int      // guarded by mu; in queue, and being written
	closed bool     // guarded by mu

	done chan struct{} // closed when the goroutine has ended
}

// Stats count lines since the start.
type Stats struct {
	Errors     uint64 // writing failed: the disk is full, the reader is gone
	Dropped    uint64 // the queue was full: nobody reads, or too slowly
	Suppressed uint64 // too many from one place (Limit)
}

// NewWriter writes to out until Close. lost is called, on the writer's goroutine, when lines have been lost and others can be
// written again; it may log.
func NewWriter(out io.Writer, lost func(lines uint64)) *Writer {
	w := &Writer{out: out, lost: lost, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write queues a line, which is copied. It never blocks and never fails: who logs can do nothing about that.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed && w.ended() {
		return w.out.Write(line)
	}
	if w.closed || w.bytes+len(line) > queueBytes {
		w.dropped.Add(1)
		return len(line), nil
	}
	w.queue = append(w.queue, append([]byte(nil), line...))
	w.bytes += len(line)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// ended tells whether the goroutine has.
func (w *Writer) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// Stats tells what was lost.
func (w *Writer) Stats() Stats { return Stats{Errors: w.errors.Load(), Dropped: w.dropped.Load()} }

// Close writes what waits, for as long as patience; what is left then is lost. Lines that
// come later are written by whoever logs them.
func (w *Writer) Close(patience time.Duration) {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.wake)
	}
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(patience):
	}
}

func (w *Writer) run() {
	defer close(w.done)
	var told uint64 // of lost lines
	torn := false   // a line was written in part
	for open := true; open; {
		_, open = <-w.wake
		for line := w.next(); line != nil; line = w.next() {
			size := len(line)
			if torn {
				line = append([]byte("\n"), line...)
			}
			n, err := w.out.Write(line)
			w.written(size)
			if err != nil {
				w.errors.Add(1)
				torn = torn && n == 0 || n > 0
				continue
			}
			torn = false
			if lost := w.errors.Load() + w.dropped.Load(); lost > told && open {
				w.lost(lost - told)
				told = lost
			}
		}
	}
}

// next takes the oldest line, or nil when there is none. It counts as waiting until written.
func (w *Writer) next() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue = nil
		return nil
	}
	line := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return line
}

func (w *Writer) written(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= n
}
