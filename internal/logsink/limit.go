package logsink

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// How many lines one place in the program may log in a window. Of warnings and errors, with a stack in each, that is some 100 KB a minute; of lines for debugging,
// which clients cause, a sample.
const (
	linesPerWindow = 20
	debugPerWindow = 100
)

// Limit is a slog.Handler that passes on only so many warnings, errors and lines for debugging a minute from one place in the program: a
// client may cause the same fault, say a panic, as often as it likes. How many it kept back is logged when the minute is over, which
// golang.org/x/time/rate could not tell. Lines of level info are about the life of the process, or somebody asked for them; no client
// causes them. Safe from any goroutine.
type Limit struct {
	next   slog.Handler
	places *places // shared with the handlers made of this one
}

// places counts by the address of the call that logs, so there are no more of them than such calls.
type places struct {
	window     time.Duration
	suppressed atomic.Uint64

	mu     sync.Mutex
	counts map[uintptr]*count // guarded by mu
}

// count is what one place has logged since it last had no window.
type count struct{ passed, kept uint64 }

// NewLimit limits what reaches next.
func NewLimit(next slog.Handler) *Limit { return newLimit(next, time.Minute) }

func newLimit(next slog.Handler, window time.Duration) *Limit {
	return &Limit{next: next, places: &places{window: window, counts: make(map[uintptr]*count)}}
}

// Suppressed is the number of warnings and errors kept back since the start.
func (h *Limit) Suppressed() uint64 { return h.places.suppressed.Load() }

// Enabled implements slog.Handler.
func (h *Limit) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *Limit) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Limit{next: h.next.WithAttrs(attrs), places: h.places}
}

// WithGroup implements slog.Handler.
func (h *Limit) WithGroup(name string) slog.Handler {
	return &Limit{next: h.next.WithGroup(name), places: h.places}
}

// Handle implements slog.Handler.
func (h *Limit) Handle(ctx context.Context, r slog.Record) error {
	if r.Level != slog.LevelInfo && r.PC != 0 && !h.admit(r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// admit tells whether the place that logs r may. The first line of a place begins its window.
func (h *Limit) admit(r slog.Record) bool {
	p := h.places
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts[r.PC]
	if c == nil {
		c = new(count)
		p.counts[r.PC] = c
		time.AfterFunc(p.window, func() { h.endWindow(r.PC, r.Level, r.Message) })
	}
	most := uint64(linesPerWindow)
	if r.Level < slog.LevelInfo {
		most = debugPerWindow
	}
	if c.passed < most {
		c.passed++
		return true
	}
	if c.kept++; r.Level >= slog.LevelWarn {
		p.suppressed.Add(1)
	}
	return false
}

// endWindow tells how many lines were kept back in the window that is over.
func (h *Limit) endWindow(pc uintptr, level slog.Level, message string) {
	h.places.mu.Lock()
	c := h.places.counts[pc]
	delete(h.places.counts, pc)
	h.places.mu.Unlock()
	if c.kept == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), level, "more lines like this were not logged", pc)
	r.AddAttrs(slog.String("like", message), slog.Uint64("lines", c.kept))
	_ = h.next.Handle(context.Background(), r)
}
