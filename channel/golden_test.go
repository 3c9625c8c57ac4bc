package channel

import (
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/golden"
)

// What StateVersion stands for: the bytes of records, of a partition that has something of everything, and of the requests that a loop hands over.
func TestGoldenStates(t *testing.T) {
	g := golden.New("channel.StateVersion", StateVersion)
	g.Text("kinds of records", fmt.Sprint(recordKinds-1))
	g.Text("kinds of requests", fmt.Sprint(ops-1))
	r := Record{Kind: RecordAdd, Room: "room", User: "user", Addr: at(257, 3), Num: 4, Key: 5, Time: 6, Place: 7, Body: []byte("body")}
	g.Bytes("record", AppendRecord(nil, &r))
	g.Bytes("leave", AppendRequest(nil, &Request{Op: OpLeave, Part: 9, From: at(1, 3), User: "user", Room: "room", Cut: true, Near: 4, Handed: 5}))
	g.Bytes("request", AppendRequest(nil, &Request{
		Op: OpSend, Part: 9, Silent: true, Req: 10, N: 11, From: at(1, 2), Room: "room", User: "user", Prev: "prev", Key: 12, Target: "target", Route: "route", Fold: "fold",
		Ext: &Extended{Since: codec.Seq{Incarnation: 13, Number: 14}, HasSince: true, Most: 15, Mid: 16}, Near: 17, Handed: 18, Pass: 19, Cut: true, Short: true, Locked: true, Content: []byte(`"text"`),
	}))
	s, now := lived(t)
	seen := make(map[RecordKind]int)
	for _, room := range livedNames {
		for record := range s.w.state.snapshot(s.w.state.parts[Partition(room)], *now) {
			seen[record.Kind]++
			g.Bytes(fmt.Sprintf("partition of %s, record %d of kind %d", room, seen[record.Kind], record.Kind), AppendRecord(nil, &record))
		}
	}
	for _, kind := range []RecordKind{
		RecordIn, RecordOut, RecordRoom, RecordAdd, RecordPush, RecordSpoke, RecordSlow, RecordPartition, RecordSaid, RecordMid, RecordPast, RecordReaders, RecordAway, RecordLetter, RecordReplace, RecordClaim, RecordSettings,
	} {
		if seen[kind] == 0 {
			t.Errorf("the partition has no record of kind %d", kind)
		}
	}
	g.Check(t)
}

// livedNames are two rooms and a user, whose partitions lived has.
var livedNames = []string{"r", "open", "user"}

// lived is partitions in which something of everything has happened.
func lived(t testing.TB) (s *stage, now *int64) {
	h := keeping(ReadersPresent)
	h.Readers = func(room string) Readers {
		if room == "open" {
			return ReadersPresent + 1
		}
		return ReadersPresent
	}
	s, now = keepingStage(t, h, Limits{Grace: testGrace})
	*now = int64(time.Second)
	s.handle(Request{Op: OpEnter, From: at(0, 1), User: "a", Room: "r", Key: 7, Near: 70})
	s.handle(Request{Op: OpEnter, From: at(256, 2), User: "B", Fold: "b", Room: "r", Near: 80, Ext: &Extended{Most: 3}})
	s.handle(Request{Op: OpEnter, From: at(1, 3), User: "gone", Room: "r", Key: 9})
	s.handle(Request{Op: OpSlow, Room: "r", Content: []byte(`2000`)})
	*now = 2 * int64(time.Second)
	s.handle(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: Everybody, Content: []byte(`"one"`), Ext: &Extended{Mid: 5}})
	s.leave(at(1, 3), "gone", "r")
	s.cut(at(0, 1), "a", 70, 1)
	s.send(at(256, 2), "B", "r", "a", `"a letter"`)
	*now = 3 * int64(time.Second)
	s.handle(Request{Op: OpEnter, From: at(257, 4), User: "d", Room: "r"})
	s.handle(Request{Op: OpEnter, From: at(1, 6), User: "back", Room: "r", Key: 11})
	s.cut(at(1, 6), "back", 0, 2)
	s.send(at(256, 2), "B", "r", "back", `"another"`)
	s.handle(Request{Op: OpEnter, From: at(1, 7), User: "back", Room: "r", Key: 11})
	s.enter(at(0, 5), "e", "open")
	s.send(at(0, 5), "e", "open", Everybody, `"two"`)
	s.send(at(0, 5), "e", "open", Everybody, `"to be deleted"`)
	open := s.room("open")
	s.handle(Request{Op: OpDelete, From: at(0, 0), Room: "open", Ext: &Extended{HasSince: true, Since: open.seqOf(open.seq)}})
	s.set(OpSet, "open", `{"locked":true,"capacity":9,"pass":77}`)
	s.set(OpData, "open", `{"data":{"mode":"duel"}}`)
	s.claims(at(0, 1), "user", 0)
	s.claims(at(257, 4), "user", 7)
	s.claims(at(1, 8), "user", 0)
	s.releases(at(1, 8), "user")
	return s, now
}
