//go:build linux

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/history"
)

// historyFlush is how long what was said last may take to be on disk before an upgrade.
const historyFlush = 2 * time.Second

// openHistory opens -history-dir and reads what rooms kept in it, or prepares to have it from the process whose place this one takes.
func (s *server) openHistory() (kept []channel.KeptRoom, err error) {
	c := s.cfg
	if c.historyDir == "" {
		return nil, nil
	}
	signal.Ignore(syscall.SIGXFSZ) // a file that may not grow is an error as on a full disk, and not the end
	dir, err := filepath.Abs(c.historyDir)
	if err != nil {
		return nil, err
	}
	o := history.Options{
		Dir: dir, Sync: c.historySync, Age: c.historyKeep.age, Most: c.historyKeep.bytes,
		Answer: func(it channel.Item) { s.node.Deliver(it) },
	}
	if s.took != nil {
		s.history = history.New(o)
		return nil, nil
	}
	store, err := history.Open(o)
	if err != nil {
		return nil, fmt.Errorf("-history-dir: %w", err)
	}
	s.history = store
	began := time.Now()
	h := &c.limits.History
	kept, found, err := store.Restore(history.Bounds{Messages: h.Messages, Bytes: h.Bytes, Age: h.Age, Memory: h.Memory, Rooms: c.limits.Rooms.Rooms})
	if err != nil {
		return nil, fmt.Errorf("-history-dir: %w", err)
	}
	slog.Info("read what rooms kept", "dir", dir, "rooms", found.Rooms, "messages", found.Messages, "members", found.Members, "entries", found.Read,
		"complete", !found.Broken, "all", !found.Short, "took", time.Since(began).String())
	return kept, nil
}

// closeHistory writes what was said last, and lets go of the folder.
func (s *server) closeHistory() {
	switch h := s.history; {
	case h == nil:
	case s.historyBegun:
		h.Close()
	default:
		h.Discard()
	}
}

// flushHistory has what was said on disk, and answered, before all is handed to another process.
func (s *server) flushHistory() error {
	if s.history != nil && !s.history.Flush(historyFlush) {
		return errors.New("what rooms keep cannot be written to -history-dir at present; see the log")
	}
	return nil
}

// historyFigures are for the admin server; nil where nothing is on disk.
func (s *server) historyFigures() *admin.Disk {
	if s.history == nil {
		return nil
	}
	st := s.history.Stats()
	return &admin.Disk{
		Entries: st.Entries, Commits: st.Commits, Failures: st.Failures, Dropped: st.Dropped, Seconds: st.Seconds, Bytes: st.Bytes, Queued: st.Queued, Failing: st.Failing,
	}
}

// keepFlag is how long, and how much of it, what was said stays on disk.
type keepFlag struct {
	age   time.Duration
	bytes int64
}

func (k *keepFlag) String() string {
	if k.bytes == 0 { // flag asks a zero value too
		return ""
	}
	size := sizeFlag(k.bytes)
	if day := 24 * time.Hour; k.age%day == 0 {
		return fmt.Sprintf("%dd:%s", k.age/day, size.String())
	}
	return k.age.String() + ":" + size.String()
}

func (k *keepFlag) Set(text string) error {
	bad := fmt.Errorf("must be a time of at least 1h and a size of at least %dMiB with a colon between, such as 30d:10GiB", history.MinMost>>20)
	long, large, ok := strings.Cut(text, ":")
	if !ok {
		return bad
	}
	age, err := time.ParseDuration(long)
	if days, in := strings.CutSuffix(long, "d"); in {
		var n int
		n, err = strconv.Atoi(days)
		age = time.Duration(n) * 24 * time.Hour
		if n > 36500 {
			return bad
		}
	}
	var size sizeFlag
	if err != nil || age < time.Hour || size.Set(large) != nil || size < history.MinMost {
		return bad
	}
	*k = keepFlag{age, int64(size)}
	return nil
}

// syncFlag is -history-sync.
type syncFlag bool

func (s *syncFlag) String() string {
	if *s {
		return "always"
	}
	return "off"
}

func (s *syncFlag) Set(text string) error {
	if text != "always" && text != "off" {
		return errors.New("must be always or off")
	}
	*s = text == "always"
	return nil
}
