package logsink

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// paper is a place to write to that fails while a test wants.
type paper struct {
	mu     sync.Mutex
	text   strings.Builder
	err    error
	partly int // bytes taken before err
	writes int
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	if p.err != nil {
		n := min(p.partly, len(b))
		p.text.Write(b[:n])
		return n, p.err
	}
	return p.text.Write(b)
}

func (p *paper) fail(err error, partly int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.partly = err, partly
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen in time")
		}
	}
}

// Lines come out whole and in order, and Close waits for them.
func TestWriterOrder(t *testing.T) {
	out := new(paper)
	w := NewWriter(out, func(uint64) { t.Error("nothing was lost") })
	want := ""
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want += line
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	w.Close(10 * time.Second)
	if got := out.String(); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	w.Close(0)
	_, _ = w.Write([]byte("late"))
	if st := w.Stats(); st.Errors != 0 || st.Dropped != 0 || out.String() != want+"late" {
		t.Errorf("%+v", st)
	}
}

// While lines cannot be written each is tried once and counted. When they can be again, that is told, and a line that was torn
// does not spoil the next.
func TestWriterErrors(t *testing.T) {
	out := new(paper)
	var told atomic.Uint64
	var w *Writer
	w = NewWriter(out, func(lines uint64) {
		told.Add(lines)
		_, _ = w.Write([]byte("some were lost\n"))
	})
	out.fail(errors.New("disk full"), 3)
	for range 5 {
		_, _ = w.Write([]byte("abcdef\n"))
	}
	waitFor(t, func() bool { return w.Stats().Errors == 5 })
	if out.writes != 5 {
		t.Errorf("tried %d times", out.writes)
	}
	out.fail(nil, 0)
	_, _ = w.Write([]byte("again\n"))
	waitFor(t, func() bool { return strings.HasSuffix(out.String(), "\nagain\nsome were lost\n") })
	if told.Load() != 5 {
		t.Errorf("told of %d", told.Load())
	}
	w.Close(10 * time.Second)
}

// A pipe that nobody reads keeps nobody waiting, and what waits for it is bounded. When somebody reads again it goes on.
func TestWriterFullPipe(t *testing.T) {
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	told := make(chan uint64, 100)
	w := NewWriter(pipe, func(lines uint64) { told <- lines })
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 5000 // five times the queue
	began := time.Now()
	for range lines {
		_, _ = w.Write(line)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	dropped := w.Stats().Dropped
	if dropped < lines-queueBytes/1024-200 {
		t.Errorf("%d were dropped", dropped)
	}
	began = time.Now()
	w.Close(10 * time.Millisecond)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("Close took %v", took)
	}
	var read atomic.Int64
	go func() {
		n, _ := io.Copy(io.Discard, r)
		read.Store(n)
	}()
	<-w.done
	pipe.Close()
	waitFor(t, func() bool { return read.Load() == int64(lines-dropped)*1024 })
}

// Of one place only so many warnings and errors are logged in a while; the rest is counted and told. Another place, and lines
// below warnings, are left alone.
func TestLimit(t *testing.T) {
	out := new(paper)
	h := newLimit(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}), time.Hour)
	log := slog.New(h)
	for range 2 * debugPerWindow {
		log.Debug("sample")
	}
	for i := range 500 {
		log.Error("same", "i", i)
		if i < 2 {
			log.With("a", 1).WithGroup("g").Warn("other", "i", i)
		}
		if i < 100 {
			log.Info("life")
		}
	}
	got := out.String()
	if n := strings.Count(got, "msg=same"); n != linesPerWindow {
		t.Errorf("%d lines", n)
	}
	if strings.Count(got, "msg=other a=1 g.i=") != 2 || strings.Count(got, "msg=life") != 100 {
		t.Errorf("got %s", got)
	}
	if n := strings.Count(got, "msg=sample"); n != debugPerWindow {
		t.Errorf("%d samples", n)
	}
	if h.Suppressed() != 500-linesPerWindow {
		t.Errorf("%d suppressed", h.Suppressed())
	}
	want := fmt.Sprintf(`level=ERROR msg="more lines like this were not logged" like=same lines=%d`, 500-linesPerWindow)
	for _, pc := range slices.Collect(maps.Keys(h.places.counts)) { // as if the hour were over
		message := "other"
		if h.places.counts[pc].kept > 0 {
			message = "same"
		}
		h.endWindow(pc, slog.LevelError, message)
	}
	if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "like=other") || len(h.places.counts) != 0 {
		t.Errorf("in the end %s", got)
	}
}

// A window ends by itself.
func TestLimitWindow(t *testing.T) {
	out := new(paper)
	log := slog.New(newLimit(slog.NewTextHandler(out, nil), 10*time.Millisecond))
	waitFor(t, func() bool {
		for range 2 * linesPerWindow {
			log.Error("same")
		}
		return strings.Contains(out.String(), "like=same")
	})
	before := strings.Count(out.String(), "msg=same")
	waitFor(t, func() bool {
		log.Error("same")
		return strings.Count(out.String(), "msg=same") > before
	})
}
