package netpoll

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
)

// FuzzConnState reads any bytes as the state of a conn: they are refused, or encode to the same state again.
func FuzzConnState(f *testing.F) {
	for _, s := range []ConnState{
		{},
		{Tag: 3, Pass: PassAlone, Peer: netip.MustParseAddrPort("192.0.2.1:80"), Unread: []byte("in"), Unsent: []byte("out"), Handler: []byte("state")},
		{Peer: netip.MustParseAddrPort("[2001:db8::1]:65535"), Handler: []byte{}},
	} {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseConnState(bytes.Clone(b))
		if err != nil {
			return
		}
		again, err := ParseConnState(s.Append(nil))
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v became %+v (%v)", s, again, err)
		}
	})
}

// What a conn takes along arrives as it was; a handler's empty state is not none.
func TestConnStateRoundTrip(t *testing.T) {
	for _, handler := range [][]byte{nil, {}, []byte("state")} {
		s := ConnState{Tag: 255, Pass: 1 << 31, Peer: netip.MustParseAddrPort("[2001:db8::1]:9"), Unsent: []byte("x"), Handler: handler, Kept: Kept{Name: 1<<63 | 7, Waits: 3, Idle: 1, Stuck: 2, Exempt: 1, Begun: 4}}
		got, err := ParseConnState(s.Append(nil))
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v, want %+v (%v)", got, s, err)
		}
		for n := range len(s.Append(nil)) {
			if _, err := ParseConnState(s.Append(nil)[:n]); err != ErrConnState {
				t.Errorf("%d bytes of it: %v", n, err)
			}
		}
	}
}

// FuzzTakeNames reads any bytes as the names that a loop has given: they are refused, or give none of these again.
func FuzzTakeNames(f *testing.F) {
	loop := func() *Loop { return NewLoop(0, nil, nil, Limits{}, NewBudget(0), func() int64 { return 0 }) }
	l := loop()
	f.Add(l.AppendNames(nil))
	l.slots.grow()
	f.Add(l.AppendNames(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := loop()
		if l.TakeNames(b) != nil {
			if l.slots.len() > 0 {
				t.Fatal("something was taken of what was refused")
			}
			return
		}
		once := l.AppendNames(nil)
		if again := loop(); again.TakeNames(once) != nil || !bytes.Equal(again.AppendNames(nil), once) {
			t.Fatalf("%x is not taken again", once)
		}
	})
}
