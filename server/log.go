//go:build linux

package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/internal/logsink"
)

// logFlushTime is how long the end of the process waits for somebody to read the log.
const logFlushTime = 200 * time.Millisecond

// logs is where this process logs to. A nil one, of a program that has its own log, counts nothing.
type logs struct {
	writer *logsink.Writer
	limit  *logsink.Limit
	person bool          // reads it, on a terminal
	level  slog.LevelVar // the least serious that is logged
}

// newLogs makes slog's default logger write to w, without ever waiting for it.
func newLogs(w *os.File, level slog.Level) *logs {
	l := &logs{person: isTerminal(w)}
	l.level.Set(level)
	l.writer = logsink.NewWriter(w, func(lines uint64) {
		slog.Warn("log lines were lost: they could not be written, or nobody read them", "lines", lines)
	})
	l.limit = logsink.NewLimit(logHandler(l.writer, l.person, &l.level))
	slog.SetDefault(slog.New(l.limit))
	return l
}

// close writes what waits, unless nobody reads it.
func (l *logs) close() { l.writer.Close(logFlushTime) }

// tell writes a line to a person who reads the log; a machine needs none.
func (l *logs) tell(line string) {
	if l != nil && l.person {
		fmt.Fprintln(l.writer, line)
	}
}

func (l *logs) stats() logsink.Stats {
	if l == nil {
		return logsink.Stats{}
	}
	stats := l.writer.Stats()
	stats.Suppressed = l.limit.Suppressed()
	return stats
}

// logHandler writes text where a person reads and JSON where a machine does.
func logHandler(w io.Writer, person bool, level slog.Leveler) slog.Handler {
	if !person {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey { // a person knows the day
			a.Value = slog.StringValue(a.Value.Time().Format(time.TimeOnly))
		}
		return a
	}})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
