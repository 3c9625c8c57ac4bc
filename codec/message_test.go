package codec

import (
	"strings"
	"testing"
)

func TestParseMessageRejectsShortInput(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"nothing", "", errMessageEmpty},
		{"request without id", "00", errMessageID},
		{"response without id", "04", errMessageID},
		{"id that goes on", "0480", errMessageID},
		{"long id that goes on", "04ffffffffffffffffff", errMessageID},
		{"request without route", "0001", errMessageRoute},
		{"notify without route", "02", errMessageRoute},
		{"push without route", "06", errMessageRoute},
		{"route shorter than its length", "000105616263", errMessageRoute},
		{"longest route, one byte missing", "02ff" + strings.Repeat("61", 254), errMessageRoute},
		{"request without code", "0101", errMessageRoute},
		{"request with half a code", "010100", errMessageRoute},
		{"notify with half a code", "0300", errMessageRoute},
		{"push without code", "07", errMessageRoute},
	} {
		if m, err := ParseMessage(wireHex(t, c.hex)); err != c.want || m.Body != nil {
			t.Errorf("%s: %+v, %v, want %v", c.name, m, err, c.want)
		}
	}
}

// The ids were read by the original (pomelo-protocol 0.1.6), negative ones are written
// here as what they are in 32 bits.
func TestParseMessageIDsAsTheOriginal(t *testing.T) {
	for _, c := range []struct {
		hex  string
		want uint32
	}{
		{"0400", 0},
		{"048000", 0},
		{"0481808080808080808000", 1},
		{"04ffffffff07", 1<<31 - 1},
		{"048080808008", 1 << 31},
		{"04ffffffff0f", 1<<32 - 1},
		{"04ffffffff7f", 1<<32 - 1},
		{"048080808010", 0},
		{"04ffffffffff01", 7},
		{"0480808080808001", 1024},
		{"0481808080808001", 1025},
		{"04ffffffffffffffffff7f", 0xfffffff7},
	} {
		if m, err := ParseMessage(wireHex(t, c.hex)); err != nil || m.ID != c.want || len(m.Body) != 0 {
			t.Errorf("%s: %+v, %v, want id %d", c.hex, m, err, c.want)
		}
	}
}

func TestParseMessageIgnoresWhatTheTypeDoesNotHave(t *testing.T) {
	for flag := range 256 {
		typ := MessageType(flag >> 1 & 7)
		m, err := ParseMessage([]byte{byte(flag), 1, 1, 'r', 'b'})
		if err != nil || m.Type != typ || m.Compressed != (flag&1 != 0) || m.Gzip != (flag&16 != 0) {
			t.Fatalf("flag %02x: %+v, %v", flag, m, err)
		}
		body := 4 // of the 4 bytes behind the flag
		if typ == MessageRequest || typ == MessageResponse {
			body--
		}
		switch {
		case typ > MessagePush || typ == MessageResponse:
		case typ == MessageRequest && flag&1 == 0:
			body -= 2 // 01 72
		default:
			body -= 2 // 01 01 or 01 72 as code, or 01 01 as text
		}
		if len(m.Body) != body {
			t.Errorf("flag %02x: %d bytes of body, want %d", flag, len(m.Body), body)
		}
	}
}

func TestAppendMessageErrorsLeaveDst(t *testing.T) {
	long := Message{Type: MessageNotify, Route: make([]byte, MaxRouteBytes+1)}
	if b, err := AppendMessage([]byte("x"), long); err != errRouteTooLong || string(b) != "x" {
		t.Errorf("long route: %q, %v", b, err)
	}
	if b, err := appendPushHead([]byte("x"), string(long.Route)); err != errRouteTooLong || string(b) != "x" {
		t.Errorf("long push route: %q, %v", b, err)
	}
	if b, err := AppendMessage([]byte("x"), Message{Type: 4}); err != errMessageType || string(b) != "x" {
		t.Errorf("type 4: %q, %v", b, err)
	}
	long.Type = MessageResponse // has no route, so none is too long
	if b, err := AppendMessage(nil, long); err != nil || len(b) != 2 {
		t.Errorf("response: %x, %v", b, err)
	}
	long.Type, long.Compressed, long.Code = MessageRequest, true, 7
	if b, err := AppendMessage(nil, long); err != nil || string(b) != "\x01\x00\x00\x07" {
		t.Errorf("by code: %x, %v", b, err)
	}
}

func TestMaxMessageHeadBytes(t *testing.T) {
	b, err := AppendMessage(nil, Message{ID: 1<<32 - 1, Route: make([]byte, MaxRouteBytes)})
	if err != nil || len(b) != MaxMessageHeadBytes {
		t.Errorf("largest head is %d bytes, %v, want %d", len(b), err, MaxMessageHeadBytes)
	}
}
