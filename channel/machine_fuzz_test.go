package channel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// Whatever bytes an import is given, it refuses them and leaves nothing behind, or has a state that exports and imports as itself.
func FuzzImport(f *testing.F) {
	p := newPlant(f, rand.New(rand.NewPCG(1, 1)), Limits{Slow: 100 * time.Millisecond}, historyOf(6))
	for range 300 {
		p.step()(p.stage.w)
	}
	for _, room := range p.rooms {
		f.Add(Partition(room), p.stage.w.Export(nil, Partition(room)))
	}
	f.Fuzz(func(t *testing.T, part uint16, b []byte) {
		if part >= Partitions {
			return
		}
		w := NewWorker(nil)
		if err := w.Import(part, testEpoch, b); err != nil {
			forgetReleased(w)
			if s := &w.state; w.Owns(part) || len(s.index)+s.rooms+len(s.voices)+len(s.keys)+len(s.folds.by)+len(s.folds.of)+len(s.cuts)+len(s.doubts)+len(s.away) != 0 {
				t.Fatalf("%v, and yet there are %d members, %d rooms", err, len(s.index), s.rooms)
			}
			return
		}
		s := &w.state
		first := exportAt(w, part, s.parts[part].now)
		again := NewWorker(nil)
		if err := again.Import(part, testEpoch, first); err != nil {
			t.Fatal(err)
		}
		if second := exportAt(again, part, s.parts[part].now); !bytes.Equal(first, second) {
			t.Fatalf("%q\nbecame %q", first, second)
		}
	})
}

// Two rooms with one number are refused: their order would be that of a map, and what names one by its id would be either's.
func TestImportOfRoomsWithOneNumber(t *testing.T) {
	part, other := Partition("r"), ""
	for i := 0; other == ""; i++ {
		if name := fmt.Sprint("r", i); Partition(name) == part {
			other = name
		}
	}
	for number, refused := range map[uint64]bool{1: true, 2: false} {
		var b []byte
		for _, r := range []Record{
			{Kind: RecordRoom, Room: "r", Num: 1}, {Kind: RecordSettings, Room: "r", Num: 2},
			{Kind: RecordPartition, Num: 2, Key: 5},
			{Kind: RecordRoom, Room: other, Num: number}, {Kind: RecordSettings, Room: other, Num: 2}, // behind what ends a snapshot, too
		} {
			b = appendFramed(b, &r)
		}
		if err := NewWorker(nil).Import(part, testEpoch, b); (err != nil) != refused {
			t.Errorf("rooms 1 and %d: %v", number, err)
		}
		follower := NewWorker(nil)
		follower.Shadow(part)
		if _, err := follower.ApplySnapshot(part, b); (err != nil) != refused {
			t.Errorf("a follower is told of rooms 1 and %d: %v", number, err)
		}
	}
}

// What parses as a record is stable: encoded, it parses as the same.
func FuzzParseRecord(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for kind := RecordIn; kind < recordKinds; kind++ {
		r := recordOf(rng, kind)
		f.Add(AppendRecord(nil, &r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if !reflect.DeepEqual(r, Record{}) {
				t.Fatalf("%v and yet %+v", err, r)
			}
			return
		}
		again := AppendRecord(nil, &r)
		if r2, err := ParseRecord(again); err != nil || !reflect.DeepEqual(r2, r) || len(again) > len(b) {
			t.Fatalf("%+v\nbecame %+v, %v", r, r2, err)
		}
	})
}
