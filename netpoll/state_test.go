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
