package history

import (
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/channel"
)

// While the disk cannot be written who deletes is told so at once, as the deletion holds all the same; who says something waits. All of it is written when it can be.
func TestDeletionsOnAFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	f := newFolder(t)
	answers := make(chan string, 16)
	s, err := Open(Options{Dir: f.dir, Age: time.Hour * 48, Most: MinMost, Now: f.time, Queue: 8 << 10, Answer: func(it channel.Item) { answers <- fmt.Sprint(it.Req, " ", string(it.Body)) }})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Close()
	for i, text := range []string{"one", "two", "three", "four"} {
		f.say(s, "r", uint64(i+1), text)
	}
	f.flush(s)
	forget := func(seq uint64) {
		e := channel.Entry{Kind: channel.EntryDeleted, Room: "r", Incarnation: 7, Seq: seq, Time: f.now.Load() * 1000}
		s.Keep(&e, &channel.Item{Kind: channel.ItemReply, Req: uint32(seq), Body: []byte(`{"deleted":1,"more":false}`)})
	}
	want := func(answer string) {
		t.Helper()
		select {
		case got := <-answers:
			if got != answer {
				t.Errorf("answered %s, want %s", got, answer)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no answer; want %s", answer)
		}
	}
	forget(1)
	want(`1 {"deleted":1,"more":false}`)

	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	names, _ := files(f.dir)
	if fileBytes(filepath.Join(f.dir, names[0])) <= 4096 {
		t.Fatal("the file is too short to be written beyond")
	}
	limit := was
	limit.Cur = 4096
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_FSIZE, &was) }
	defer restore()
	forget(2) // nobody knows yet that it cannot be written
	want(`2 {"deleted":1,"more":false,"unwritten":true}`)
	if !s.Failing() {
		t.Error("it does not say that it fails")
	}
	e := channel.Entry{Kind: channel.EntrySaid, Room: "r", Incarnation: 7, Seq: 5, Prev: 4, Time: f.now.Load() * 1000, Body: []byte(`{"msg":"five"}`)}
	s.Keep(&e, &channel.Item{Kind: channel.ItemReply, Req: 5, Body: []byte(`{}`)})
	if forget(3); len(answers) != 1 {
		t.Error("it is known that the disk is full, and who deletes waits for the next try")
	}
	want(`3 {"deleted":1,"more":false,"unwritten":true}`)
	restore()
	f.flush(s)
	want(`5 {}`)
	if len(answers) != 0 {
		t.Errorf("answered again: %s", <-answers)
	}
	forget(9)
	want(`9 {"deleted":1,"more":false}`)
	s.Close()
	_, kept, _ := f.open(wide)
	left := ""
	for _, m := range kept["r"].Said {
		left += fmt.Sprint(m.Seq, " ", len(m.Body) > 0, " ")
	}
	if left != "1 false 2 false 3 false 4 true 5 true " {
		t.Errorf("there are again: %s", left)
	}
}

// A deletion for which the queue of a store that cannot write has no room is not written at all, and who asked for it is told as much.
func TestDeletionBeyondTheQueue(t *testing.T) {
	f := newFolder(t)
	var answer string
	s := New(Options{Dir: f.dir, Now: f.time, Queue: 100, Answer: func(it channel.Item) { answer = string(it.Body) }}) // it is never started
	e := channel.Entry{Kind: channel.EntryDeleted, Room: "r", Incarnation: 7, Seq: 1}
	s.Keep(&e, &channel.Item{Kind: channel.ItemReply, Req: 1, Body: []byte(`{"deleted":1,"more":false}`)})
	if answer != `{"deleted":1,"more":false,"unwritten":true}` || s.Stats().Dropped != 1 {
		t.Errorf("answered %q; %+v", answer, s.Stats())
	}
}

// A pomelod that does not know deletions refuses a file that has one, as it would tell what is deleted; it reads all others. So does this one with what it does not know.
func TestFormatTellsOfDeletions(t *testing.T) {
	f := newFolder(t)
	formatOf := func() (format string) {
		names, _ := files(f.dir)
		db, err := bolt.Open(filepath.Join(f.dir, names[len(names)-1]), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_ = db.View(func(tx *bolt.Tx) error { format = string(tx.Bucket(metaBucket).Get(formatKey)); return nil })
		return format
	}
	s, _, _ := f.open(wide)
	f.say(s, "r", 1, "one")
	f.say(s, "r", 2, "two")
	s.Close()
	if got := formatOf(); got != "pomelod history 1" {
		t.Errorf("without a deletion the format is %q", got)
	}
	s, _, _ = f.open(wide)
	s.Keep(&channel.Entry{Kind: channel.EntryDeleted, Room: "r", Incarnation: 7, Seq: 1, Time: f.now.Load() * 1000}, nil)
	s.Close()
	if got := formatOf(); got != "pomelod history 2" {
		t.Errorf("with a deletion the format is %q", got)
	}
	s, kept, _ := f.open(wide)
	if r := kept["r"]; len(r.Said) != 2 || len(r.Said[0].Body) != 0 || len(r.Said[1].Body) == 0 {
		t.Errorf("there are again %+v", r.Said)
	}
	f.say(s, "r", 3, "three") // goes on in it
	s.Close()
	if got := formatOf(); got != "pomelod history 2" {
		t.Errorf("the format is %q again", got)
	}
	names, _ := files(f.dir)
	path := filepath.Join(f.dir, names[0])
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("pomelod history 3")) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err = Open(Options{Dir: f.dir, Now: f.time})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Discard()
	if _, _, err = s.Restore(wide); !errors.Is(err, errFormat) || !strings.Contains(err.Error(), path) {
		t.Errorf("a later format: %v", err)
	}
}
