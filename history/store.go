package history

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/channel"
)

// Options say where and how a Store keeps.
type Options struct {
	Dir  string        // made if it is not there
	Sync bool          // each commit is flushed to the disk, and senders are answered when that is done
	Age  time.Duration // files that end earlier are removed
	Most int64         // bytes of all files together; the oldest are removed
	// Answer posts the answers to sends and deletions; needed where anybody waits. Called on the store's goroutine, or on the loop that keeps.
	Answer func(channel.Item)
	// Now is the clock; nil: the real one. Queue is the most bytes that may wait; 0: DefaultQueue. For tests.
	Now   func() time.Time
	Queue int64
}

// DefaultQueue is the most bytes of entries that wait to be written. From half of it on a store that has senders wait says that it is failing.
const DefaultQueue = 32 << 20

// MinMost is the least Options.Most. A file that has an eighth of it takes a batch more at most, and bbolt grows it by a MiB: together less than the quarter that
// is left for it.
const MinMost = 64 << 20

const (
	retryTime   = time.Second            // between two attempts to write
	gatherTime  = 100 * time.Millisecond // for which entries gather where nobody waits for them
	expiryTime  = time.Hour              // between two looks for files that are too old
	closeTime   = 10 * time.Second       // for the last entries
	entryBytes  = 320                    // of an entry in the queue beside its body, with the answer that waits
	batchBytes  = 4 << 20                // of one transaction, or one entry that is longer
	spareBatch  = 4096                   // entries whose memory is used again
	filesOfMost = 8                      // a file may have this part of Options.Most, and a batch more
	filledPages = 0.95                   // of the log, which is only appended to
)

// Stats are a Store's figures: counters since the start, then gauges.
type Stats struct {
	Entries, Commits, Failures uint64
	Dropped                    uint64 // entries that were not written
	Seconds                    float64
	Bytes                      int64 // of all files
	Queued                     int64 // bytes that wait
	Failing                    bool  // the last commit failed
}

// Store keeps what rooms keep in files (package comment). It is a channel.Journal.
type Store struct {
	options Options // static after construction

	// Safe from any goroutine.
	failing atomic.Bool
	queued  atomic.Int64
	broken  atomic.Bool // what is on disk is not all there was: the next entry is a break
	wake    chan struct{}
	closing chan struct{}
	closed  sync.Once
	ended   chan struct{} // closed by the goroutine

	// Guarded by mu.
	mu    sync.Mutex
	queue []waiting
	spare []waiting // its memory, to be used again
	stats Stats

	// Owned by the goroutine, or by who restores before there is one.
	lock    *os.File // nil: the folder is another process's
	db      *bolt.DB // nil: none is open
	path    string
	day     string
	expired time.Time // when files that are too old were looked for
	others  int64     // bytes of the other files
}

// waiting is something in the queue.
type waiting struct {
	entry   channel.Entry
	answer  *channel.Item
	flushed chan<- struct{} // no entry: closed when all before it has been written
}

// Open takes a folder, which no other process may have. Call Restore next, if what is in it is wanted, and then Start.
func Open(o Options) (*Store, error) {
	s := New(o)
	return s, s.acquire()
}

// New is Open for a process that takes the place of one that still has the folder: the store waits for it after Start.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	return &Store{options: o, wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
}

// acquire takes the folder.
func (s *Store) acquire() error {
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return fmt.Errorf("%w: make the folder, and give it to the user that runs pomelod", err)
	}
	f, err := os.OpenFile(filepath.Join(s.options.Dir, runFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: give the folder to the user that runs pomelod", err)
	}
	for end := time.Now().Add(lockTime); ; time.Sleep(20 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			s.lock = f
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			f.Close()
			return fmt.Errorf("lock %s: %w: another pomelod uses this folder; stop it, or give each its own", f.Name(), err)
		}
	}
}

// runFile is locked by who has the folder, and says in how many runs there has been something to restore.
const runFile = "run"

// nextRun is the number of this run, and is on disk when it returns. It is greater than any before, and least.
func (s *Store) nextRun(least uint64) (run uint64, err error) {
	text, err := io.ReadAll(io.LimitReader(s.lock, 32))
	if err != nil {
		return 0, err
	}
	run, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // empty at first; else least helps
	run = max(run, least) + 1
	if _, err = s.lock.WriteAt(fmt.Appendf(nil, "%-20d\n", run), 0); err == nil {
		err = s.lock.Sync()
	}
	return run, err
}

// Start begins to write. Until then entries wait.
func (s *Store) Start() { go s.run() }

// Holds implements channel.Journal.
func (s *Store) Holds() bool { return s.options.Sync }

// Failing implements channel.Journal.
func (s *Store) Failing() bool { return s.failing.Load() || s.queued.Load() > s.options.Queue/2 }

// Keep implements channel.Journal.
func (s *Store) Keep(e *channel.Entry, answer *channel.Item) {
	w := waiting{entry: *e}
	if answer != nil {
		it := *answer
		w.answer = &it
	}
	if s.queued.Add(w.bytes()) > s.options.Queue {
		s.queued.Add(-w.bytes())
		s.drop(1)
		if w.answer != nil && !s.unwritten(&w) {
			w.answer.Body = channel.HistoryRefused
			s.options.Answer(*w.answer)
		}
		return
	}
	if s.failing.Load() {
		s.unwritten(&w)
	}
	s.put(w)
}

// unwritten answers who has deleted something that cannot be written at present, and tells whether anybody waited for that. Who waits for anything else goes on waiting.
func (s *Store) unwritten(w *waiting) bool {
	if w.entry.Kind != channel.EntryDeleted || w.answer == nil {
		return false
	}
	w.answer.Body = channel.Unwritten(w.answer.Body)
	s.options.Answer(*w.answer)
	w.answer = nil
	return true
}

func (w *waiting) bytes() int64 {
	return int64(len(w.entry.Room)+len(w.entry.Body)) + entryBytes
}

func (s *Store) put(w waiting) {
	s.mu.Lock()
	s.queue = append(s.queue, w)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *Store) drop(n int) {
	s.broken.Store(true)
	s.mu.Lock()
	s.stats.Dropped += uint64(n)
	s.mu.Unlock()
}

// Flush returns when all that was kept before has been written and answered, or false when it has not been in a time.
func (s *Store) Flush(within time.Duration) bool {
	done := make(chan struct{})
	s.put(waiting{flushed: done})
	select {
	case <-done:
		return true
	case <-s.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// Stats tells the store's figures. Safe from any goroutine.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Queued, st.Failing = s.queued.Load(), s.failing.Load()
	return st
}

// Close writes what waits, and lets go of the folder. Nothing may be kept after that; what is, is dropped.
func (s *Store) Close() {
	s.closed.Do(func() { close(s.closing) })
	<-s.ended
}

// Discard lets go of the folder of a store that was not started.
func (s *Store) Discard() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// run writes what comes, until Close.
func (s *Store) run() {
	defer close(s.ended)
	for s.lock == nil {
		if err := s.acquire(); err != nil {
			s.failed(err, nil)
			if s.pause(retryTime) {
				return
			}
		}
	}
	defer s.lock.Close()
	clock := time.NewTicker(time.Minute)
	defer clock.Stop()
	for closing := false; !closing; {
		look := false
		select {
		case <-s.wake:
			if !s.options.Sync {
				closing = s.pause(gatherTime)
			}
		case <-clock.C:
			look = true // whether the day is over
		case <-s.closing:
			closing = true
		}
		closing = s.writeAll(look, closing)
	}
	if s.db != nil {
		if err := guard(func() error { return closeFile(s.db, true) }); err != nil {
			slog.Error("the file of what rooms keep was not closed in order", "file", s.path, "err", err)
		}
	}
}

// pause waits, and tells whether the store is to be closed.
func (s *Store) pause(d time.Duration) (closing bool) {
	select {
	case <-time.After(d):
		return false
	case <-s.closing:
		return true
	}
}

// writeAll writes what waits. Where that fails it tries again until it succeeds, or the store has been closing for too long. Whether it is closing is
// what it returns.
func (s *Store) writeAll(look, closing bool) bool {
	var last time.Time
	all := s.take()
	for rest := all; look || len(rest) > 0 || closing && s.broken.Load(); {
		batch := rest[:batchOf(rest)]
		err := s.write(batch)
		if err == nil {
			s.written(batch)
			if look, rest = false, rest[len(batch):]; len(rest) == 0 {
				s.spareMemory(all)
				all = s.take()
				rest = all
			}
			continue
		}
		s.failed(err, rest)
		switch closing = s.pause(retryTime) || closing; {
		case closing && last.IsZero():
			last = time.Now().Add(closeTime)
		case closing && time.Now().After(last):
			slog.Error("pomelod ends, and what was said last is not on disk", "messages", len(rest))
			s.drop(len(rest))
			return true
		case closing:
			time.Sleep(retryTime / 10)
		}
	}
	return closing
}

// take is what waits.
func (s *Store) take() (batch []waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, s.queue = s.queue, s.spare
	s.spare = nil
	return batch
}

// batchOf is how many of what waits one transaction has.
func batchOf(all []waiting) (n int) {
	for bytes := int64(0); n < len(all) && bytes < batchBytes; n++ {
		bytes += all[n].bytes()
	}
	return n
}

// spareMemory has the memory of a queue that is written used again, unless a rare moment has made it long.
func (s *Store) spareMemory(all []waiting) {
	if clear(all); cap(all) > spareBatch {
		return
	}
	s.mu.Lock()
	s.spare = all[:0]
	s.mu.Unlock()
}

// written answers for what is on disk now.
func (s *Store) written(batch []waiting) {
	if s.failing.Swap(false) {
		slog.Info("what rooms keep is written again", "dir", s.options.Dir)
	}
	bytes, entries := int64(0), 0
	for i := range batch {
		w := &batch[i]
		if w.flushed != nil {
			close(w.flushed)
			continue
		}
		bytes += w.bytes()
		entries++
		if w.answer != nil {
			s.options.Answer(*w.answer)
		}
	}
	s.queued.Add(-bytes)
	s.mu.Lock()
	s.stats.Entries += uint64(entries)
	s.mu.Unlock()
}

// failed notes that a commit has failed, and says so once. rest is what waits outside the queue.
func (s *Store) failed(err error, rest []waiting) {
	first := !s.failing.Swap(true)
	s.mu.Lock()
	s.stats.Failures++
	for _, list := range [][]waiting{rest, s.queue} {
		for i := range list {
			s.unwritten(&list[i])
		}
	}
	s.mu.Unlock()
	if first {
		slog.Error("what rooms keep cannot be written: pomelod tries again each second", "dir", s.options.Dir, "err", err, "refused", s.options.Sync)
	}
}

// write writes a batch in one transaction.
func (s *Store) write(batch []waiting) error {
	began := time.Now()
	if err := s.turnOver(); err != nil {
		return err
	}
	broken := s.broken.Load()
	if len(batch) == 0 && !broken {
		return nil
	}
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return appendBatch(tx, batch, broken) })
	})
	switch {
	case errors.Is(err, errDamaged):
		s.giveUp()
		return err
	case err != nil:
		db := s.db
		s.db = nil // opened anew, so that nothing of a transaction that failed is left
		return errors.Join(err, guard(db.Close))
	}
	if broken {
		s.broken.Store(false)
	}
	s.mu.Lock()
	s.stats.Commits++
	s.stats.Seconds += time.Since(began).Seconds()
	s.stats.Bytes = s.others + fileBytes(s.path)
	s.mu.Unlock()
	return nil
}

// appendBatch writes entries, behind a break where what came before is incomplete.
func appendBatch(tx *bolt.Tx, batch []waiting, broken bool) error {
	log, members := tx.Bucket(logBucket), tx.Bucket(membersBucket)
	log.FillPercent = filledPages
	number := log.Sequence()
	var values []byte // bbolt refers to them until the commit
	var key [8]byte
	put := func(e *channel.Entry) error {
		at := len(values)
		values = appendEntry(values, e)
		if e.Kind == channel.EntryMember {
			return members.Put(memberKey(e.Room, e.Key), values[at:])
		}
		number++
		binary.BigEndian.PutUint64(key[:], number)
		return log.Put(key[:], values[at:])
	}
	if broken {
		if err := put(&channel.Entry{Kind: channel.EntryUnkept}); err != nil {
			return err
		}
	}
	for i := range batch {
		if batch[i].flushed != nil {
			continue
		}
		if batch[i].entry.Kind == channel.EntryDeleted {
			if err := tx.Bucket(metaBucket).Put(formatKey, []byte(formatDeletions)); err != nil {
				return err
			}
		}
		if err := put(&batch[i].entry); err != nil {
			return err
		}
	}
	return log.SetSequence(number)
}

// giveUp sets the open file aside, which is damaged. bbolt's state is not touched any more.
func (s *Store) giveUp() {
	s.db = nil
	s.broken.Store(true)
	aside, err := setAside(s.path)
	slog.Error("a file of what rooms keep is damaged, and is set aside; what was said before is incomplete", "file", s.path, "aside", aside, "err", err)
}

// turnOver opens the file of the day, if it is not open.
func (s *Store) turnOver() error {
	now := s.options.Now()
	day := now.UTC().Format(dayForm)
	full := s.db != nil && fileBytes(s.path) >= s.options.Most/filesOfMost
	if s.db != nil && day <= s.day && !full && now.Sub(s.expired) < expiryTime {
		return nil
	}
	if s.db != nil && (day > s.day || full) {
		db := s.db
		s.db = nil
		if err := guard(func() error { return closeFile(db, true) }); err != nil {
			return err
		}
	}
	if s.db == nil {
		if err := s.open(day); err != nil {
			return err
		}
	}
	bytes, err := expire(s.options.Dir, filepath.Base(s.path), s.options.Age, s.options.Most-2*(s.options.Most/filesOfMost), now)
	if err != nil {
		slog.Warn("old files of what rooms keep cannot be removed", "dir", s.options.Dir, "err", err)
	}
	s.expired, s.others = now, bytes-fileBytes(s.path)
	return nil
}

// open opens the newest file, or a new one, for a day.
func (s *Store) open(day string) error {
	names, err := files(s.options.Dir)
	if err != nil {
		return err
	}
	number := 1
	if n := len(names); n > 0 {
		last, numbered, _ := parseName(names[n-1])
		day = max(day, last) // the clock may have been set back
		if day == last {
			if number = numbered; fileBytes(filepath.Join(s.options.Dir, names[n-1])) >= s.options.Most/filesOfMost {
				number++
			}
		}
	}
	path := filepath.Join(s.options.Dir, name(day, number))
	var db *bolt.DB
	dirty := false
	err = guard(func() (err error) {
		db, dirty, err = openFile(path, s.options.Sync)
		return err
	})
	s.path = path
	switch {
	case errors.Is(err, errDamaged):
		s.giveUp()
		return err
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	}
	if dirty {
		s.broken.Store(true)
	}
	s.db, s.day = db, day
	return nil
}

func fileBytes(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
