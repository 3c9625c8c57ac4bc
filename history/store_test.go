package history

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/channel"
)

// wide are bounds that tests with few messages do not reach.
var wide = Bounds{Messages: 1000, Bytes: 1 << 20, Time: time.Minute}

// folder is a store's folder, and the time there.
type folder struct {
	t    *testing.T
	dir  string
	now  atomic.Int64 // Unix s
	sync bool
	most int64
	last map[string]uint64 // number of each room's last message
}

func newFolder(t *testing.T) *folder {
	f := &folder{t: t, dir: t.TempDir(), most: MinMost, last: make(map[string]uint64)}
	f.now.Store(1_800_000_000)
	return f
}

func (f *folder) time() time.Time { return time.Unix(f.now.Load(), 0) }

// open opens the folder, and tells what it has kept.
func (f *folder) open(b Bounds) (*Store, map[string]channel.KeptRoom, Restored) {
	f.t.Helper()
	s, err := Open(Options{Dir: f.dir, Sync: f.sync, Age: 30 * 24 * time.Hour, Most: f.most, Now: f.time})
	if err != nil {
		f.t.Fatal(err)
	}
	rooms, figures, err := s.Restore(b)
	if err != nil {
		f.t.Fatal(err)
	}
	kept := make(map[string]channel.KeptRoom)
	for _, k := range rooms {
		kept[k.Name] = k
	}
	s.Start()
	f.t.Cleanup(s.Close)
	return s, kept, figures
}

// say keeps a message, with the next number of its room.
func (f *folder) say(s *Store, room string, seq uint64, text string) {
	e := channel.Entry{
		Kind: channel.EntrySaid, Room: room, Incarnation: 7, Seq: seq, Prev: f.last[room], Time: f.now.Load() * 1000,
		Body: []byte(`{"msg":"` + text + `","from":"a","target":"*"}`),
	}
	f.last[room] = seq
	s.Keep(&e, nil)
}

func (f *folder) flush(s *Store) {
	f.t.Helper()
	if !s.Flush(time.Minute) {
		f.t.Fatal("not written in a minute")
	}
}

// texts is what a room has kept.
func texts(k channel.KeptRoom) string {
	var all []string
	for _, e := range k.Said {
		text := string(e.Body)
		text = text[len(`{"msg":"`):]
		all = append(all, text[:strings.IndexByte(text, '"')])
	}
	return strings.Join(all, " ")
}

// What was kept is there again: messages in their order with all they had, who was there, and numbers that none had before. It is told as complete if the
// store was closed, or if senders have waited for the disk.
func TestKeptIsThereAgain(t *testing.T) {
	for _, sync := range []bool{false, true} {
		f := newFolder(t)
		f.sync = sync
		s, kept, _ := f.open(wide)
		if len(kept) != 0 {
			t.Fatal("a new folder has rooms")
		}
		f.say(s, "r", 3, "one")
		f.say(s, "other", 1, "elsewhere")
		f.say(s, "r", 5, "two")
		said := channel.Entry{Kind: channel.EntrySaid, Readers: channel.ReadersPresent, Room: "r", Incarnation: 7, Seq: 9, Prev: 5, Time: f.now.Load() * 1000, Mid: 11, Key: 13, Body: []byte(`{"msg":"three"}`)}
		s.Keep(&said, nil)
		member := channel.Entry{Kind: channel.EntryMember, Room: "r", Incarnation: 7, Seq: 4, Key: 13, Time: 5}
		s.Keep(&member, nil)
		s.Close()
		for run := uint64(2); run < 4; run++ {
			s, kept, figures := f.open(wide)
			r := kept["r"]
			if texts(r) != "one two three" || texts(kept["other"]) != "elsewhere" || r.Incarnation != 7 || r.Floor != 0 || r.Seq != run<<32 || figures.Broken {
				t.Fatalf("run %d: %+v, %+v", run, r, figures)
			}
			if m := r.Said[2]; m.Mid != 11 || m.Key != 13 || m.Seq != 9 || m.Time != said.Time {
				t.Errorf("%+v", m)
			}
			if len(r.Members) != 1 || r.Members[0].Key != 13 || r.Members[0].Seq != 4 {
				t.Errorf("members: %+v", r.Members)
			}
			s.Close()
		}
	}
}

// What is deleted is there without its text, in the next run and in the one after, whatever was said behind it and in whatever file it stands; another room's message of the same number
// is not touched, nor is one of an earlier stream.
func TestDeletedIsThereWithoutItsText(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	f.say(s, "r", 1, "one")
	f.say(s, "r", 3, "two")
	f.say(s, "other", 3, "elsewhere")
	f.flush(s)
	f.now.Add(24 * 3600)
	f.say(s, "r", 4, "three")
	deleted := channel.Entry{Kind: channel.EntryDeleted, Room: "r", Incarnation: 7, Seq: 3, Time: f.now.Load() * 1000}
	s.Keep(&deleted, nil)
	s.Close()
	for run := range 2 {
		s, kept, figures := f.open(wide)
		r := kept["r"]
		if len(r.Said) != 3+run || r.Said[1].Seq != 3 || len(r.Said[1].Body) != 0 || r.Floor != 0 || figures.Broken || texts(kept["other"]) != "elsewhere" {
			t.Fatalf("run %d: %+v, %+v, %+v", run, r, kept["other"], figures)
		}
		r.Said = append(r.Said[:1:1], r.Said[2:]...)
		if want := []string{"one three", "one three four"}[run]; texts(r) != want {
			t.Errorf("run %d: %q, want %q", run, texts(r), want)
		}
		f.say(s, "r", uint64(run+2)<<32+5, "four")
		s.Close()
	}
	earlier := channel.Entry{Kind: channel.EntryDeleted, Room: "other", Incarnation: 6, Seq: 3, Time: f.now.Load() * 1000}
	s, _, _ = f.open(wide)
	s.Keep(&earlier, nil)
	s.Close()
	s, kept, _ := f.open(wide)
	if texts(kept["other"]) != "elsewhere" {
		t.Errorf("the deletion of another stream's message: %+v", kept["other"])
	}
	s.Close()
	small := wide
	small.Memory = roomCost + 3*entryCost // the deletions alone take some: what does not fit is not there, and no text comes without its deletion
	_, kept, figures := f.open(small)
	for _, m := range kept["r"].Said {
		if m.Seq == 3 && len(m.Body) > 0 {
			t.Errorf("with little memory the deleted message is there: %+v, %+v", m, figures)
		}
	}
}

// A message that was said before the clock was set back, and deleted then, does not come again when by the times of both the deletion is too old and the message is not.
func TestDeletedWhenTheClockWasSetBack(t *testing.T) {
	f := newFolder(t)
	bounds := wide
	bounds.Age = time.Hour
	s, _, _ := f.open(bounds)
	f.say(s, "r", 1, "one")
	f.say(s, "r", 2, "two")
	f.flush(s)
	f.now.Add(-30)
	deleted := channel.Entry{Kind: channel.EntryDeleted, Room: "r", Incarnation: 7, Seq: 2, Time: f.now.Load() * 1000}
	s.Keep(&deleted, nil)
	s.Close()
	f.now.Add(3610) // the deletion was so long ago, the messages 3580 s
	s, kept, _ := f.open(bounds)
	defer s.Close()
	if said := kept["r"].Said; len(said) != 2 || len(said[0].Body) == 0 || len(said[1].Body) != 0 {
		t.Errorf("%+v", kept["r"])
	}
}

// A process that was killed leaves all that was flushed. Where nobody waited for the disk, nobody knows what was said last: what there is is told, as incomplete, and
// stays incomplete after one more run, in order.
func TestKilled(t *testing.T) {
	for _, sync := range []bool{false, true} {
		f := newFolder(t)
		f.sync = sync
		s, _, _ := f.open(wide)
		f.say(s, "r", 1, "one")
		f.flush(s)
		f.dir = copyOf(t, f.dir) // as it is in this moment
		for range 2 {
			s, kept, _ := f.open(wide)
			r := kept["r"]
			if want := map[bool]uint64{true: 0, false: r.Seq}[sync]; texts(r) != "one" || r.Floor != want {
				t.Errorf("sync %v: %q, floor %d of %d", sync, texts(r), r.Floor, r.Seq)
			}
			s.Close()
		}
	}
}

// copyOf is a copy of a folder.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A ring begins behind a hole, behind an earlier room of the name, and where its bounds are; what is written twice is there once; what was too long makes what was
// before it incomplete.
func TestRings(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	keep := func(room string, incarnation, seq, prev uint64, kind channel.EntryKind, text string) {
		e := channel.Entry{Kind: kind, Room: room, Incarnation: incarnation, Seq: seq, Prev: prev, Time: f.now.Load() * 1000}
		if kind == channel.EntrySaid {
			e.Body = []byte(`{"msg":"` + text + `"}`)
		}
		s.Keep(&e, nil)
	}
	const said, unkept = channel.EntrySaid, channel.EntryUnkept
	keep("hole", 1, 1, 0, said, "lost")
	keep("hole", 1, 5, 3, said, "here")
	keep("again", 1, 4, 0, said, "before")
	keep("again", 2, 1, 0, said, "now")
	keep("twice", 1, 1, 0, said, "a")
	keep("twice", 1, 1, 0, said, "a")
	keep("twice", 1, 2, 1, said, "b")
	keep("twice", 1, 1, 0, said, "a")
	keep("twice", 1, 2, 1, said, "b")
	keep("closed", 1, 1, 0, said, "before")
	keep("closed", 1, 1, 0, channel.EntryForgotten, "")
	keep("goes on", 1, 1, 0, said, "before")
	keep("goes on", 1, 1, 0, channel.EntryForgotten, "")
	keep("goes on", 1, 4, 1, said, "now")
	keep("made anew", 1, 1, 0, said, "before")
	keep("made anew", 1, 1, 0, channel.EntryForgotten, "")
	keep("made anew", 2, 1, 0, said, "now")
	keep("long", 1, 1, 0, said, "a")
	keep("long", 1, 2, 1, unkept, "")
	keep("long", 1, 3, 2, said, "c")
	for i := range uint64(10) {
		keep("many", 1, i+1, i, said, fmt.Sprint(i))
	}
	s.Close()
	s, kept, _ := f.open(Bounds{Messages: 3, Bytes: 1 << 20})
	for name, want := range map[string]struct {
		texts string
		floor uint64
	}{"hole": {"here", 3}, "again": {"now", 0}, "closed": {"", 0}, "goes on": {"now", 1}, "made anew": {"now", 0}, "twice": {"a b", 0}, "long": {"a c", 2}, "many": {"7 8 9", 7}} {
		if k := kept[name]; texts(k) != want.texts || k.Floor != want.floor {
			t.Errorf("%s: %q, floor %d; want %q, %d", name, texts(k), k.Floor, want.texts, want.floor)
		}
	}
	s.Close()
}

// What was said while the clock was ahead is from now at most: else nothing of its room's partition would age until then.
func TestClockThatWasAhead(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	f.now.Add(3600)
	f.say(s, "r", 1, "ahead")
	s.Close()
	f.now.Add(-3600)
	s, kept, _ := f.open(wide)
	if k := kept["r"]; len(k.Said) != 1 || k.Said[0].Time != f.now.Load()*1000 {
		t.Errorf("%+v", k)
	}
	s.Close()
}

// A day has a file, and a restart reads those of the day before too, until what is in them is too old to be told. Files go when they are too old themselves.
func TestDays(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	f.say(s, "r", 1, "one")
	f.say(s, "quiet", 1, "yesterday")
	member := channel.Entry{Kind: channel.EntryMember, Room: "r", Incarnation: 7, Seq: 0, Key: 13, Time: 5}
	s.Keep(&member, nil)
	f.flush(s)
	f.now.Add(24 * 3600) // while it runs
	f.say(s, "r", 2, "two")
	f.flush(s)
	if names, _ := files(f.dir); len(names) != 2 {
		t.Errorf("files: %q", names)
	}
	s.Close()
	b := wide
	b.Age = 48 * time.Hour
	s, kept, _ := f.open(b)
	if texts(kept["r"]) != "one two" || texts(kept["quiet"]) != "yesterday" || kept["r"].Floor != 0 || len(kept["r"].Members) != 1 {
		t.Errorf("%+v", kept)
	}
	s.Close()
	b.Age = 23 * time.Hour
	s, kept, _ = f.open(b)
	if texts(kept["r"]) != "two" || kept["r"].Floor != 1 || len(kept) != 1 || len(kept["r"].Members) != 1 {
		t.Errorf("%+v", kept)
	}
	f.now.Add(30 * 24 * 3600) // the first file is 30 days over
	f.say(s, "r", 3, "three")
	f.flush(s)
	if names, _ := files(f.dir); len(names) != 2 {
		t.Errorf("files after 30 days: %q", names)
	}
	s.Close()
}

// All files together are no larger than they may be: the oldest go.
func TestFilesAreBounded(t *testing.T) {
	f := newFolder(t)
	f.most = 16 << 20
	s, _, _ := f.open(wide)
	text := strings.Repeat("x", 64<<10)
	for i := range uint64(400) { // 25 MiB, of 16
		f.say(s, "r", i+1, text)
		if i%20 == 19 {
			f.flush(s)
		}
	}
	s.Close()
	total := int64(0)
	names, _ := files(f.dir)
	for _, name := range names {
		total += fileBytes(filepath.Join(f.dir, name))
	}
	if total > f.most || total < f.most/3 || len(names) < 4 {
		t.Errorf("%d files have %d bytes", len(names), total)
	}
	if got := s.Stats(); got.Bytes > f.most || got.Bytes < f.most/3 || got.Entries != 400 {
		t.Errorf("%+v", got)
	}
	s, kept, _ := f.open(wide)
	if k := kept["r"]; len(k.Said) < 10 || k.Said[len(k.Said)-1].Seq != 400 {
		t.Errorf("%d messages are there again", len(k.Said))
	}
	s.Close()
}

// Reading at the start ends when it has all that may be kept, or takes too long; what it has not come to is not there, and what is cut off is known.
func TestRestoreIsBounded(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	for i := range uint64(5000) {
		f.say(s, "old", i+1, "a")
	}
	for i := range uint64(5000) {
		f.say(s, fmt.Sprint("r", i%100), i/100+1, "a")
	}
	s.Close()
	b := wide
	b.Memory = 100 * (roomCost + 2*100)
	s, kept, figures := f.open(b)
	if k := kept["r0"]; len(kept) < 60 || len(k.Said) < 1 || k.Floor != k.Said[0].Seq-1 || !figures.Short || figures.Read > 1000 {
		t.Errorf("%d rooms, %d messages, floor %d, %+v", len(kept), len(k.Said), k.Floor, figures)
	}
	s.Close()
	b = wide
	b.Time = time.Nanosecond
	s, kept, figures = f.open(b)
	if k := kept["r0"]; len(kept) != 100 || !figures.Short || figures.Read > 1024 || k.Floor != k.Said[0].Seq-1 {
		t.Errorf("%d rooms, %+v", len(kept), figures)
	}
	s.Close()
	b = wide
	b.Rooms = 10
	s, kept, _ = f.open(b)
	if len(kept) != 10 {
		t.Errorf("%d rooms of 10", len(kept))
	}
	s.Close()
}

// Files that are torn, whatever of them, keep nobody from starting: what can be read is told, as incomplete where something may be missing, and the file is set aside and
// not written any more. What was said in an earlier file is not taken for the last that was said.
func TestTornFiles(t *testing.T) {
	f := newFolder(t)
	f.sync = true
	s, _, _ := f.open(wide)
	f.say(s, "early", 1, "yesterday")
	f.flush(s)
	f.now.Add(24 * 3600)
	for i := range uint64(2000) {
		f.say(s, "r", i+1, strings.Repeat("x", 100))
	}
	f.flush(s)
	s.Close()
	whole := f.dir
	names, _ := files(whole)
	newest := names[len(names)-1]
	size := fileBytes(filepath.Join(whole, newest))
	for _, tear := range []struct {
		name string
		do   func(path string) error
	}{
		{"empty", func(p string) error { return os.Truncate(p, 0) }},
		{"a few bytes", func(p string) error { return os.Truncate(p, 100) }},
		{"two pages", func(p string) error { return os.Truncate(p, 2*4096) }},
		{"half", func(p string) error { return os.Truncate(p, size/2) }},
		{"zeros", func(p string) error { return overwrite(p, 0, bytes.Repeat([]byte{0}, int(size))) }},
		{"noise from the third page on", func(p string) error { return overwrite(p, 2*4096, bytes.Repeat([]byte{0xa5}, int(size)-2*4096)) }},
		{"noise in the middle", func(p string) error { return overwrite(p, size/3, bytes.Repeat([]byte{0xa5}, 4096)) }},
		{"other text", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("no database\n"), 10000), 0o600) }},
	} {
		t.Run(tear.name, func(t *testing.T) {
			f := &folder{t: t, dir: copyOf(t, whole), sync: true, most: MinMost, last: map[string]uint64{}}
			f.now.Store(1_800_000_000 + 24*3600)
			if err := tear.do(filepath.Join(f.dir, newest)); err != nil {
				t.Fatal(err)
			}
			s, kept, _ := f.open(wide)
			if k, is := kept["early"]; is && k.Floor != k.Seq {
				t.Errorf("what was said yesterday is told as all there was")
			}
			if k, is := kept["r"]; is && k.Floor == 0 && len(k.Said) != 1000 {
				t.Errorf("%d messages are told as all there were", len(k.Said))
			}
			f.say(s, "after", 1, "goes on")
			f.flush(s)
			s.Close()
			s, kept, _ = f.open(wide)
			if texts(kept["after"]) != "goes on" || kept["after"].Floor != 0 {
				t.Errorf("%+v", kept["after"])
			}
			if k, is := kept["early"]; is && k.Floor != k.Seq {
				t.Errorf("after one more run what was said yesterday is told as all there was")
			}
			s.Close()
		})
	}
}

func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// On a disk that is full the store says so, and goes on when there is room: with all that waited, in order. Who waits for the disk is answered then.
func TestFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	f := newFolder(t)
	var answered atomic.Int64
	s, err := Open(Options{Dir: f.dir, Sync: true, Age: time.Hour * 48, Most: MinMost, Now: f.time, Answer: func(channel.Item) { answered.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Close()
	f.say(s, "r", 1, "before")
	f.flush(s)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := was
	names, _ := files(f.dir)
	limit.Cur = uint64(fileBytes(filepath.Join(f.dir, names[0])))
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_FSIZE, &was) }
	defer restore()
	text := strings.Repeat("x", 100<<10)
	for i := range uint64(10) {
		e := channel.Entry{Kind: channel.EntrySaid, Room: "r", Incarnation: 7, Seq: i + 2, Prev: i + 1, Time: f.now.Load() * 1000, Body: []byte(`{"msg":"` + text + `"}`)}
		s.Keep(&e, &channel.Item{Kind: channel.ItemReply})
	}
	for end := time.Now().Add(time.Minute); !s.Failing(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not say that it fails")
		}
	}
	if n := answered.Load(); n == 10 {
		t.Error("all senders were answered")
	}
	restore()
	f.flush(s)
	if s.Failing() || answered.Load() != 10 {
		t.Errorf("failing: %v; %d of 10 were answered", s.Failing(), answered.Load())
	}
	if got := s.Stats(); got.Failures == 0 || got.Dropped != 0 {
		t.Errorf("%+v", got)
	}
	s.Close()
	s, kept, _ := f.open(wide)
	if k := kept["r"]; len(k.Said) != 11 || k.Floor != 0 {
		t.Errorf("%d messages are there again, floor %d", len(k.Said), k.Floor)
	}
	s.Close()
}

// What does not fit into the queue is dropped, and counted, and what comes before is incomplete; who waits for the disk is refused, and warned before.
func TestQueueIsBounded(t *testing.T) {
	f := newFolder(t)
	var refused []string
	s, err := Open(Options{Dir: f.dir, Sync: true, Age: time.Hour * 48, Most: MinMost, Now: f.time, Queue: 10 * (entryBytes + 100),
		Answer: func(it channel.Item) { refused = append(refused, string(it.Body)) }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // it was not started
		e := channel.Entry{Kind: channel.EntrySaid, Room: "r", Incarnation: 7, Seq: uint64(i + 1), Prev: uint64(i), Time: f.now.Load() * 1000, Body: bytes.Repeat([]byte("x"), 99)}
		if i == 8 && !s.Failing() {
			t.Error("it does not warn")
		}
		s.Keep(&e, &channel.Item{Kind: channel.ItemReply, Body: []byte("done")})
	}
	if got := s.Stats(); got.Dropped != 10 || len(refused) != 10 || refused[0] != string(channel.HistoryRefused) {
		t.Errorf("%+v, refused %q", got, refused)
	}
	s.Start()
	s.Close()
	if len(refused) != 20 || refused[19] != "done" {
		t.Errorf("answered: %q", refused)
	}
	s, kept, _ := f.open(wide)
	if k := kept["r"]; len(k.Said) != 10 || k.Floor != 0 && k.Floor != k.Seq {
		t.Errorf("%+v", kept)
	}
	s.Close()
}

// One process has a folder; who comes second is told what to do. Another format is refused.
func TestFolderIsRefused(t *testing.T) {
	f := newFolder(t)
	s, _, _ := f.open(wide)
	f.say(s, "r", 1, "one")
	f.flush(s)
	if _, err := Open(Options{Dir: f.dir, Most: MinMost}); err == nil || !strings.Contains(err.Error(), "another pomelod") {
		t.Errorf("a second one: %v", err)
	}
	// The next process of an upgrade waits for it.
	next := New(Options{Dir: f.dir, Most: MinMost, Age: 48 * time.Hour, Now: f.time})
	next.Start()
	f.say(next, "r", 2, "two")
	s.Close()
	f.flush(next)
	next.Close()
	s, kept, _ := f.open(wide)
	if texts(kept["r"]) != "one two" {
		t.Errorf("after an upgrade: %q", texts(kept["r"]))
	}
	s.Close()
	if _, err := Open(Options{Dir: "/dev/null/history", Most: MinMost}); err == nil {
		t.Error("a folder that cannot be was opened")
	}
}

// FuzzParseEntry: whatever is in a file, nothing but an entry is one, and an entry comes back as it was.
func FuzzParseEntry(f *testing.F) {
	e := channel.Entry{Kind: channel.EntrySaid, Readers: channel.ReadersEveryone, Room: "room", Incarnation: 1, Seq: 2, Prev: 1, Time: 5, Mid: 6, Key: 7, Body: []byte(`{"msg":1}`)}
	f.Add(appendEntry(nil, &e))
	f.Add(appendEntry(nil, &channel.Entry{Kind: channel.EntryUnkept}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil && !bytes.Equal(appendEntry(nil, &e), b) {
			t.Errorf("%x is written as %x", b, appendEntry(nil, &e))
		}
	})
}
