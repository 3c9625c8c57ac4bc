//go:build linux

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/router"
)

// kicker is the moderation of a node by a name, what it kicks, and what it tells the fleet.
func kicker(t *testing.T, name string) (m *moderation, kicked chan string, told *[]cluster.Note) {
	m, _ = ruled(filepath.Join(t.TempDir(), "rules.json"))
	kicked, told = make(chan string, 999), new([]cluster.Note)
	m.tell = func(list []cluster.Note) { *told = append(*told, list...) }
	m.kicks = kicks{key: kickKey + name, kick: func(_ context.Context, f router.SessionFilter, reason string) (int, error) {
		kicked <- fmt.Sprint(f.Name, f.UID, " ", reason)
		return 1, nil
	}}
	return m, kicked, told
}

// A kick is carried out once at each node, also where notes are lost, come twice, or in another order; it is no rule, stands in no file, and a node that hears of it too late does nothing. The clock
// stands still meanwhile: kicks are told of for ten seconds.
func TestKicksOfAFleet(t *testing.T) { synctest.Test(t, kicksOfAFleet) }

func kicksOfAFleet(t *testing.T) {
	a, here, told := kicker(t, "a")
	b, there, _ := kicker(t, "b")
	for i := range 3 {
		if n, fleet, err := a.KickEverywhere(context.Background(), admin.Kick{Name: fmt.Sprint("x", i), Reason: "bye"}); n != 1 || !fleet || err != nil {
			t.Fatal(n, fleet, err)
		}
		if got := <-here; got != fmt.Sprint("x", i, " bye") {
			t.Errorf("here %s is kicked", got)
		}
	}
	notes := *told
	if len(notes) != 3 || notes[0].Key != notes[2].Key {
		t.Fatalf("%+v", notes)
	}
	b.News(notes[:1])
	b.News(notes[2:]) // the second is lost
	b.News(notes[1:2])
	b.News(notes)
	a.News(notes) // its own come back
	for i := range 3 {
		if got := <-there; got != fmt.Sprint("x", i, " bye") {
			t.Errorf("there %s is kicked, want x%d", got, i)
		}
	}
	if _, _, err := a.KickEverywhere(context.Background(), admin.Kick{UID: "last", Reason: "bye"}); err != nil {
		t.Fatal(err)
	}
	b.News(*told)
	if got := <-there; got != "last bye" || <-here != got || len(here)+len(there) > 0 {
		t.Errorf("there %s is kicked, and %d more here, %d there", got, len(here), len(there))
	}
	if rules, _ := b.Rules(); len(rules) > 0 {
		t.Errorf("rules: %+v", rules)
	}
	if err := b.save(); err != nil {
		t.Error(err)
	}
	if text, err := json.Marshal(must(openRules(b.path)).notes); err != nil || strings.Contains(string(text), "x1") {
		t.Errorf("the file has %s, %v", text, err)
	}

	late, slept, _ := kicker(t, "late")
	old := notes[0]
	old.Until = wallMillis() - 1
	late.News([]cluster.Note{old})
	late.News([]cluster.Note{{Key: kickKey + "z", At: wallMillis(), Until: wallMillis() + 9999, Text: []byte(`nonsense`)}})
	late.News((*told)[3:])
	if got := <-slept; !strings.HasPrefix(got, "x0") { // those of the last seconds stand in the note: none is done for the note that came too late
		t.Errorf("%s is kicked first", got)
	}
}

// Two kicks that are asked for at once have different times, whichever of their notes is taken in first: else the later one would be taken for carried out.
func TestKicksAtOnce(t *testing.T) {
	a, here, _ := kicker(t, "a")
	b, there, _ := kicker(t, "b")
	last := wallMillis() + 1000
	first, second := must(a.kicks.note(admin.Kick{Name: "x", Reason: "bye"}, last)), must(a.kicks.note(admin.Kick{Name: "y", Reason: "bye"}, last))
	if first.At >= second.At {
		t.Errorf("kicks at %d and %d", first.At, second.At)
	}
	b.News([]cluster.Note{first, second})
	if x, y := next(t, there), next(t, there); x != "x bye" || y != "y bye" || len(here) > 0 {
		t.Errorf("kicked there: %s, %s", x, y)
	}
}

// A process that begins when others have kicked, as by an upgrade, is told all notes and kicks nobody for what was asked before; for what comes then it does.
func TestKicksOfBefore(t *testing.T) {
	a, _, told := kicker(t, "a")
	if _, _, err := a.KickEverywhere(context.Background(), admin.Kick{All: true, Reason: "before"}); err != nil {
		t.Fatal(err)
	}
	b, there, _ := kicker(t, "b")
	b.kicks.from = (*told)[0].At
	b.News(*told)
	if _, _, err := a.KickEverywhere(context.Background(), admin.Kick{All: true, Reason: "later"}); err != nil {
		t.Fatal(err)
	}
	b.News(*told)
	if got := next(t, there); got != " later" || len(there) > 0 {
		t.Errorf("%q is the first, and %d more", got, len(there))
	}
}

// A kick of another node is nothing that the file of rules lacks, so a node that has no folder for that does not complain.
func TestKicksLackNoFile(t *testing.T) {
	a, _, told := kicker(t, "a")
	if _, _, err := a.KickEverywhere(context.Background(), admin.Kick{All: true, Reason: "bye"}); err != nil {
		t.Fatal(err)
	}
	b, there, _ := kicker(t, "b")
	b.path = filepath.Join(t.TempDir(), "nowhere", "rules.json")
	b.News(*told)
	next(t, there)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unsaved {
		t.Error("the rules are to be written")
	}
}

// next is what comes next.
func next(t *testing.T, c <-chan string) (s string) {
	t.Helper()
	select {
	case s = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing comes")
	}
	return s
}

// What a node has kicked in the last seconds is bounded by what a note may have, and kicks of before go.
func TestKicksAreBounded(t *testing.T) { synctest.Test(t, kicksAreBounded) }

func kicksAreBounded(t *testing.T) {
	a, here, _ := kicker(t, "a")
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		if _, _, err = a.KickEverywhere(context.Background(), admin.Kick{Name: strings.Repeat("x", 1000), Reason: "bye"}); err == nil {
			<-here
		}
	}
	if n < 20 || n > 70 || len(here) > 0 {
		t.Errorf("%d kicks of 1000 bytes, %v", n, err)
	}
	for i := range a.kicks.told {
		a.kicks.told[i].At -= uint64(2 * kicksTold / time.Millisecond)
	}
	if _, _, err := a.KickEverywhere(context.Background(), admin.Kick{All: true, Reason: "bye"}); err != nil || len(a.kicks.told) != 1 {
		t.Errorf("later: %v, %d in the note", err, len(a.kicks.told))
	}
}
