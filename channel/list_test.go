package channel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

// Lists of one room share memory, and loops read them at any later time. Whatever the room does then, a list stays as it was
// posted, and who appends to one changes no other.
func TestListsStay(t *testing.T) {
	rng := seed.Rand(t)
	s := newStage(t)
	type list struct {
		body []byte
		was  string
	}
	var lists []list
	var names []string
	shared := 0
	for step := range 4000 {
		name := fmt.Sprintf("n%d\u738b", step)
		switch i := rng.IntN(max(len(names), 1)); {
		case len(names) < 2 || step%500 < 300 && rng.IntN(8) > 0: // it grows for a while, then shrinks
			s.enter(at(step%3, step), name, "r")
			names = append(names, name)
		case rng.IntN(3) == 0:
			s.handle(Request{Op: OpMembers, From: at(0, 1), Room: "r"})
		case rng.IntN(3) == 0: // another name, at the end of the list
			from := s.addrOf("r", names[i])
			s.handle(Request{Op: OpEnter, From: from, User: name, Room: "r", Prev: names[i]})
			names = append(append(names[:i:i], names[i+1:]...), name)
		default:
			s.leave(s.addrOf("r", names[i]), names[i], "r")
			names = append(names[:i:i], names[i+1:]...)
		}
		for _, it := range s.items {
			if !strings.HasPrefix(string(it.Body), listBegin) {
				continue
			}
			if got, want := string(it.Body)+it.End(), listBegin+`"`+strings.Join(names, `","`)+`"`+ListEnd; got != want {
				t.Fatalf("step %d: got %s\nwant %s", step, got, want)
			}
			if it.Open {
				shared++
			}
			lists = append(lists, list{it.Body, string(it.Body)})
		}
		s.items = nil
	}
	for _, l := range lists {
		_ = append(l.body, "an end of somebody's own"...)
	}
	for i, l := range lists {
		if string(l.body) != l.was {
			t.Fatalf("list %d of %d became %s\nit was %s", i, len(lists), l.body, l.was)
		}
	}
	if shared < 500 || shared == len(lists) {
		t.Errorf("%d of %d lists were shared", shared, len(lists))
	}
}

// Another goroutine may read a list while the worker makes it longer: for the race detector.
func TestListsAreReadMeanwhile(t *testing.T) {
	const members = 2000
	lists := make(chan Item, 16)
	w := newWorker(func(OutletID) Outlet { return toReader(lists) })
	go func() {
		defer close(lists)
		for i := range members {
			w.Handle(&Request{Op: OpEnter, From: at(0, i), Req: 1, Room: "r", Part: Partition("r"), User: fmt.Sprintf("m%d", i)})
		}
	}()
	entered := 0
	for it := range lists {
		entered++
		list, end := string(it.Body)+it.End(), fmt.Sprintf(`"m%d"]}`, entered-1)
		if n := strings.Count(list, ",") + 1; n != entered || !strings.HasSuffix(list, end) {
			t.Fatalf("list %d has %d names and ends with %s", entered, n, list[max(len(list)-20, 0):])
		}
	}
	if entered != members {
		t.Errorf("%d lists, want %d", entered, members)
	}
}

// toReader is an outlet whose lists another goroutine reads.
type toReader chan Item

func (o toReader) Post(it *Item) {
	if it.Kind == ItemEnter {
		o <- *it
	}
}
func (o toReader) Full(RoomID) bool { return false }
func (o toReader) Flush()           {}

// Filling a room of 4,000 takes memory for its members, not for a list of all names for each of them (72 MB).
func TestFillingARoomAllocatesLittle(t *testing.T) {
	const members = 4000
	post := nowhere{}
	w := newWorker(func(OutletID) Outlet { return post })
	requests := make([]Request, members)
	for i := range requests {
		requests[i] = Request{Op: OpEnter, From: at(0, i), Req: uint32(i + 1), Room: "r", Part: Partition("r"), User: fmt.Sprintf("m%d", i)}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range requests {
		w.Handle(&requests[i])
	}
	runtime.ReadMemStats(&after)
	if n := w.Stats().Members; n != members {
		t.Fatalf("%d members", n)
	}
	each := (after.TotalAlloc - before.TotalAlloc) / members
	t.Logf("%d bytes allocated for each that entered", each)
	if each > 2000 {
		t.Errorf("%d bytes allocated for each that entered", each)
	}
}

// nowhere is an outlet that forgets what it is given.
type nowhere struct{}

func (nowhere) Post(*Item)       {}
func (nowhere) Full(RoomID) bool { return false }
func (nowhere) Flush()           {}

// Who has asked not to be answered gets no list, and none is made: of a large room that would be the most expensive part of an enter.
func TestSilentEnterMakesNoList(t *testing.T) {
	s := newStage(t)
	for i := range 3 * smallRoom {
		s.enter(at(0, i), fmt.Sprint("n", i), "r")
	}
	s.leave(at(0, 0), "n0", "r") // the list must be built anew
	s.items = nil
	s.handle(Request{Op: OpEnter, From: at(0, 1), User: "new", Prev: "n1", Room: "r", Silent: true})
	if it := s.items[len(s.items)-1]; it.Kind != ItemEnter || it.Body != nil || it.End() != "" || it.Req != s.req {
		t.Errorf("answered %v", it)
	}
	if users := s.room("r").crowd.users; users != nil {
		t.Errorf("made %s", users)
	}
	s.items = nil
	if got := s.members("r"); !strings.Contains(got, `"new"]`) || strings.Contains(got, `"n1"`) {
		t.Errorf("members: %s", got)
	}
}
