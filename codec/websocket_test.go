package codec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// wsClientFrame is a client's frame: b0 is FIN, RSV and opcode as they are on the wire.
func wsClientFrame(b0 byte, payload string) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	head := AppendWSHead(nil, 0, len(payload))
	head[0] = b0
	head[1] |= 0x80
	b := append(head, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func wsClientFrames(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// wsSeen is an event with its payload copied, as text that reads well in a failure.
func wsSeen(ev WSEvent) string {
	name := map[WSKind]string{WSText: "text", WSBinary: "binary", WSClose: "close", WSPing: "ping", WSPong: "pong"}[ev.Kind]
	if ev.Kind == WSClose {
		name = fmt.Sprintf("close %d", ev.Code)
	}
	return fmt.Sprintf("%s %q", name, ev.Payload)
}

// wsFeed feeds wire to a reader in pieces of step bytes, 0 for all at once, as a
// connection would: what was taken is gone, the rest stays and grows.
func wsFeed(t testing.TB, wire []byte, step, limit int) (seen []string, err *WSError) {
	t.Helper()
	wire = bytes.Clone(wire)
	if step == 0 {
		step = max(len(wire), 1)
	}
	var r WSReader
	start := 0
	for end := min(step, len(wire)); ; end = min(end+step, len(wire)) {
		for {
			ev, n, err := r.Next(wire[start:end:end], limit)
			if n < 0 || n > end-start || err != nil && n != 0 {
				t.Fatalf("took %d of %d, %v", n, end-start, err)
			}
			if len(ev.Payload) > max(limit, maxWSControlPayload) || (ev.Kind < WSClose && len(ev.Payload) > limit) {
				t.Fatalf("payload of %d bytes, limit %d", len(ev.Payload), limit)
			}
			if err != nil {
				return seen, err
			}
			if n == 0 {
				break
			}
			start += n
			if ev.Kind != WSNone {
				seen = append(seen, wsSeen(ev))
			}
			if ev.Kind == WSClose {
				return seen, nil
			}
		}
		if end == len(wire) {
			return seen, nil
		}
	}
}

// wsCheck feeds wire all at once, byte by byte and by threes, expecting the same.
func wsCheck(t *testing.T, wire []byte, limit int, want []string, wantErr *WSError) {
	t.Helper()
	for _, step := range []int{0, 1, 3} {
		seen, err := wsFeed(t, wire, step, limit)
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("step %d: saw %v, want %v", step, seen, want)
		}
		if wantErr == nil && err != nil || wantErr != nil && err != error(wantErr) {
			t.Errorf("step %d: error %v, want %v", step, err, wantErr)
		}
	}
}

func TestWSReaderIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(WSReader{}); size > 16 {
		t.Errorf("WSReader is %d bytes; every idle connection has one", size)
	}
}

func TestWSReaderReadsMessages(t *testing.T) {
	long := strings.Repeat("p", 70000)
	for _, c := range []struct {
		name string
		wire []byte
		want []string
	}{
		{"RFC 6455 §5.7 masked hello", wireHex(t, "818537fa213d7f9f4d5158"), []string{`text "Hello"`}},
		{"RFC 6455 §5.7 masked ping", wireHex(t, "898537fa213d7f9f4d5158"), []string{`ping "Hello"`}},
		{"empty binary", wsClientFrame(0x82, ""), []string{`binary ""`}},
		{"empty text", wsClientFrame(0x81, ""), []string{`text ""`}},
		{"125 bytes", wsClientFrame(0x82, long[:125]), []string{fmt.Sprintf("binary %q", long[:125])}},
		{"126 bytes", wsClientFrame(0x82, long[:126]), []string{fmt.Sprintf("binary %q", long[:126])}},
		{"65535 bytes", wsClientFrame(0x82, long[:65535]), []string{fmt.Sprintf("binary %q", long[:65535])}},
		{"65536 bytes", wsClientFrame(0x82, long[:65536]), []string{fmt.Sprintf("binary %q", long[:65536])}},
		{"two messages", wsClientFrames(wsClientFrame(0x82, "a"), wsClientFrame(0x81, "b")), []string{`binary "a"`, `text "b"`}},
		{"longest ping", wsClientFrame(0x89, long[:125]), []string{fmt.Sprintf("ping %q", long[:125])}},
		{"pong", wsClientFrame(0x8a, "x"), []string{`pong "x"`}},
		{"fragments", wsClientFrames(wsClientFrame(0x02, "a"), wsClientFrame(0x00, "b"), wsClientFrame(0x80, "c")), []string{`binary "abc"`}},
		{"empty fragments", wsClientFrames(wsClientFrame(0x01, ""), wsClientFrame(0x00, ""), wsClientFrame(0x80, "")), []string{`text ""`}},
		{"control between fragments",
			wsClientFrames(wsClientFrame(0x01, "a"), wsClientFrame(0x89, "p"), wsClientFrame(0x00, "b"), wsClientFrame(0x8a, ""), wsClientFrame(0x80, "c")),
			[]string{`ping "p"`, `pong ""`, `text "abc"`}},
		{"message after fragments", wsClientFrames(wsClientFrame(0x01, "a"), wsClientFrame(0x80, "b"), wsClientFrame(0x82, "c")), []string{`text "ab"`, `binary "c"`}},
		{"binary need not be text", wsClientFrames(wsClientFrame(0x02, "\xff"), wsClientFrame(0x80, "\xc0"), wsClientFrame(0x82, "\xff")), []string{`binary "\xff\xc0"`, `binary "\xff"`}},
		{"close without code", wsClientFrame(0x88, ""), []string{`close 1005 ""`}},
		{"close with reason", wsClientFrame(0x88, "\x03\xe8bye ☃"), []string{fmt.Sprintf("close 1000 %q", "bye ☃")}},
		{"close between fragments", wsClientFrames(wsClientFrame(0x01, "a"), wsClientFrame(0x88, "\x03\xe9")), []string{`close 1001 ""`}},
		{"nothing behind a close", wsClientFrames(wsClientFrame(0x88, ""), []byte("garbage")), []string{`close 1005 ""`}},
	} {
		t.Run(c.name, func(t *testing.T) { wsCheck(t, c.wire, 70000, c.want, nil) })
	}
}

func TestWSReaderRefusesProtocolErrors(t *testing.T) {
	hello := []string{`text "hi"`}
	for _, c := range []struct {
		name string
		wire string // hex, after a good text frame
		want *WSError
	}{
		{"unmasked", "810568656c6c6f", errWSUnmasked},
		{"RSV1", "c180", errWSRsv},
		{"RSV2", "a180", errWSRsv},
		{"RSV3", "9180", errWSRsv},
		{"RSV on a ping", "c980", errWSRsv},
		{"opcode 3", "8380", errWSOpcode},
		{"opcode 7", "8780", errWSOpcode},
		{"opcode 11", "8b80", errWSOpcode},
		{"opcode 15", "8f80", errWSOpcode},
		{"fragmented ping", "0980", errWSControlFrag},
		{"fragmented close", "0880", errWSControlFrag},
		{"long ping", "89fe", errWSControlLong},
		{"long pong", "8aff", errWSControlLong},
		{"long close", "88fe", errWSControlLong},
		{"16-bit length of 125", "82fe007d", errWSLength},
		{"64-bit length of 65535", "82ff000000000000ffff", errWSLength},
		{"64-bit length of 5", "82ff0000000000000005", errWSLength},
		{"64-bit length with MSB", "82ff8000000000000000", errWSLengthMSB},
		{"largest 64-bit length", "82ff7fffffffffffffff", errWSMessageTooBig},
		{"over the limit", "82fe0401", errWSMessageTooBig},
		{"continuation alone", "8080", errWSNoStart},
		{"continuation alone, not last", "0080", errWSNoStart},
		{"text inside text", "0180000000008180", errWSInterleaved},
		{"binary inside text", "0180000000008280", errWSInterleaved},
		{"start inside text", "0180000000000180", errWSInterleaved},
		{"close with one byte", "88810000000003", errWSCloseBody},
		{"close 1005", "88820000000003ed", errWSCloseCode},
		{"close reason not UTF-8", "88830000000003e8ff", errWSReason},
		{"close reason cut", "88840000000003e8e298", errWSReason},
		{"text not UTF-8", "818100000000ff", errWSText},
		{"text is CESU-8", "818600000000eda0bdedb880", errWSText},
		{"text cut inside a rune", "818200000000e298", errWSText},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := append(wsClientFrame(0x81, "hi"), wireHex(t, c.wire)...)
			wsCheck(t, wire, 1024, hello, c.want)
		})
	}
}

// The limit is for all fragments together, it is enforced from the head, before any of
// the payload has arrived, and it is no business of control frames.
func TestWSReaderLimitBoundsTheWholeMessage(t *testing.T) {
	const limit = 10
	start := wsClientFrame(0x02, "12345678")
	ping := strings.Repeat("p", 125)
	for _, c := range []struct {
		name    string
		next    []byte
		want    []string
		wantErr *WSError
	}{
		{"fits", wsClientFrame(0x80, "90"), []string{`binary "1234567890"`}, nil},
		{"one too many", wsClientFrame(0x80, "90a")[:2], nil, errWSMessageTooBig},
		{"one too many, not last", wsClientFrame(0x00, "90a")[:2], nil, errWSMessageTooBig},
		{"many too many", wsClientFrame(0x80, ping+ping)[:4], nil, errWSMessageTooBig},
		{"ping does not count", wsClientFrame(0x89, ping), []string{fmt.Sprintf("ping %q", ping)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			wsCheck(t, wsClientFrames(start, c.next), limit, c.want, c.wantErr)
		})
	}
	wsCheck(t, wsClientFrame(0x82, "1234567890"), limit, []string{`binary "1234567890"`}, nil)
	wsCheck(t, wsClientFrame(0x82, "12345678901")[:2], limit, nil, errWSMessageTooBig)
}

func TestWSCloseCodes(t *testing.T) {
	for code := range 1 << 16 {
		valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
		_, err := wsFeed(t, wsClientFrame(0x88, string([]byte{byte(code >> 8), byte(code)})), 0, 10)
		if valid && err != nil || !valid && err != errWSCloseCode {
			t.Errorf("code %d: %v", code, err)
		}
	}
}

// A payload is unmasked within its own bytes, whatever its length and place.
func TestWSReaderUnmasksOnlyThePayload(t *testing.T) {
	for size := range 300 {
		for at := range 4 {
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(i * 7)
			}
			frame := wsClientFrame(0x82, string(want))
			around := bytes.Repeat([]byte{0xaa}, at+len(frame)+32)
			copy(around[at:], frame)
			var r WSReader
			ev, n, err := r.Next(around[at:], size)
			if err != nil || n != len(frame) || !bytes.Equal(ev.Payload, want) {
				t.Fatalf("size %d at %d: took %d, %v", size, at, n, err)
			}
			for i, c := range around {
				if (i < at || i >= at+n) && c != 0xaa {
					t.Fatalf("size %d at %d: byte %d was changed", size, at, i)
				}
			}
		}
	}
}

func TestWSReaderForgetsAFinishedMessage(t *testing.T) {
	var r WSReader
	for _, frame := range [][]byte{wsClientFrame(0x01, "a"), wsClientFrame(0x80, "b")} {
		if _, _, err := r.Next(frame, 10); err != nil {
			t.Fatal(err)
		}
	}
	if r.open != nil {
		t.Error("the buffer of a finished message is kept")
	}
}

func TestAppendWSHeadAtTheBoundaries(t *testing.T) {
	for _, c := range []struct {
		n   int
		hex string
	}{
		{0, "8200"}, {1, "8201"}, {125, "827d"}, {126, "827e007e"}, {256, "827e0100"},
		{65535, "827effff"}, {65536, "827f0000000000010000"}, {1 << 40, "827f0000010000000000"},
	} {
		got := AppendWSHead([]byte{}, WSBinary, c.n)
		if !bytes.Equal(got, wireHex(t, c.hex)) {
			t.Errorf("head of %d bytes: %x, want %s", c.n, got, c.hex)
		}
	}
	if got := AppendWSFrame(nil, WSText, []byte("Hello")); !bytes.Equal(got, wireHex(t, "810548656c6c6f")) {
		t.Errorf("RFC 6455 §5.7 unmasked hello: %x", got)
	}
}

func TestAppendWSClose(t *testing.T) {
	snow := strings.Repeat("☃", 50) // 150 bytes; 41 of them fit, ending on a rune
	for _, c := range []struct {
		code   uint16
		reason string
		want   string
	}{
		{0, "ignored", "\x88\x00"},
		{WSCloseNoStatus, "", "\x88\x00"},
		{WSCloseNormal, "", "\x88\x02\x03\xe8"},
		{WSCloseTooBig, "big", "\x88\x05\x03\xf1big"},
		{WSCloseNormal, strings.Repeat("x", 123), "\x88\x7d\x03\xe8" + strings.Repeat("x", 123)},
		{WSCloseNormal, strings.Repeat("x", 200), "\x88\x7d\x03\xe8" + strings.Repeat("x", 123)},
		{WSCloseNormal, snow, "\x88\x7d\x03\xe8" + snow[:123]},
		{WSCloseNormal, "x" + snow, "\x88\x7b\x03\xe8x" + snow[:120]},
	} {
		if got := AppendWSClose(nil, c.code, c.reason); string(got) != c.want {
			t.Errorf("close %d %q: %q, want %q", c.code, c.reason, got, c.want)
		}
	}
}
