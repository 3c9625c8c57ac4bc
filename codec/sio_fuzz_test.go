package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// seedSIO adds the string of every case of sio.json and, framed as a packet, of those that have frames.
func seedSIO(f *testing.F, add func(text []byte, packet, packet09 string)) {
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", "sio.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v struct{ Cases []sioVector }
	if err := json.Unmarshal(raw, &v); err != nil {
		f.Fatal(err)
	}
	for _, c := range v.Cases {
		add(wireHex(f, c.UTF8Hex), c.Frames.SIOPacket, c.Frames.SIO09Packet)
	}
}

// FuzzSIOMessage: whatever the code units, lone surrogates too, the answer is what the original's
// decoder finds in them. b is both the text and, two bytes each, the units of another.
func FuzzSIOMessage(f *testing.F) {
	seedSIO(f, func(text []byte, _, _ string) {
		f.Add(text)
		var units []byte
		for _, u := range utf16.Encode([]rune(string(text))) {
			units = binary.BigEndian.AppendUint16(units, u)
		}
		f.Add(units)
	})
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\xd8\x02\xdc\x00\x00a\xd8\x3d\xde\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkSIOMessage(t, b)
		if utf8.Valid(b) {
			checkSIOUnits(t, b, utf16.Encode([]rune(string(b))))
		}
		var units []uint16
		for i := 0; i+2 <= len(b); i += 2 {
			units = append(units, binary.BigEndian.Uint16(b[i:]))
		}
		checkSIOUnits(t, appendWTF8(nil, units), units)
	})
}

// appendWTF8 writes code units as UTF-8, surrogates without a partner in three bytes.
func appendWTF8(dst []byte, units []uint16) []byte {
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		switch {
		case !utf16.IsSurrogate(r):
			dst = utf8.AppendRune(dst, r)
		case i+1 < len(units) && utf16.DecodeRune(r, rune(units[i+1])) != utf8.RuneError:
			dst = utf8.AppendRune(dst, utf16.DecodeRune(r, rune(units[i+1])))
			i++
		default:
			dst = append(dst, 0xE0|byte(r>>12), 0x80|byte(r>>6&0x3F), 0x80|byte(r&0x3F))
		}
	}
	return dst
}

// checkSIOMessage holds for any bytes: route and body are neighbours and end where text does.
func checkSIOMessage(t *testing.T, text []byte) (m SIOMessage, ok bool) {
	t.Helper()
	before := bytes.Clone(text)
	m, ok = ParseSIOMessage(text)
	if !bytes.Equal(text, before) || !ok && (m.ID != 0 || m.Route != nil || m.Body != nil) {
		t.Fatalf("%q: %+v, %v", before, m, ok)
	}
	if ok && !bytes.HasSuffix(text, append(bytes.Clone(m.Route), m.Body...)) {
		t.Fatalf("%q: route %q, body %q", text, m.Route, m.Body)
	}
	return m, ok
}

// checkSIOUnits holds the message in text against its code units.
func checkSIOUnits(t *testing.T, text []byte, units []uint16) {
	t.Helper()
	m, ok := checkSIOMessage(t, text)
	if len(units) < sioHeadUnits || len(units) < sioHeadUnits+int(byte(units[4])) {
		if ok {
			t.Fatalf("%x: %+v", units, m)
		}
		return
	}
	end := sioHeadUnits + int(byte(units[4]))
	id := int32(units[0]&0xFF)<<24 | int32(units[1]&0xFF)<<16 | int32(units[2]&0xFF)<<8 | int32(units[3]&0xFF)
	if !ok || m.ID != id {
		t.Fatalf("%x: %+v, %v, want id %d", units, m, ok, id)
	}
	start := sioHeadUnits
	if isPair(units, start) { // left whole to what is behind the border
		start--
	}
	if isPair(units, end) {
		end--
	}
	start = min(start, end)
	if route := appendWTF8(nil, units[start:end]); !bytes.Equal(m.Route, route) {
		t.Fatalf("%x: route %q, want %q", units, m.Route, route)
	}
}

// isPair tells whether a border in front of units[i] cuts a character in half.
func isPair(units []uint16, i int) bool {
	return i > 0 && i < len(units) && utf16.DecodeRune(rune(units[i-1]), rune(units[i])) != utf8.RuneError
}

// FuzzSIOPacket: the parts of a packet are its bytes in order, and its text is what encoding/json
// finds in it.
func FuzzSIOPacket(f *testing.F) {
	seedSIO(f, func(_ []byte, packet, _ string) { f.Add([]byte(packet)) })
	for _, s := range []string{`0/chat?a=1,{}`, `2/chat,17["message","\ud83d\ude00"]`, `51-/a,["message",{"_placeholder":true,"num":0}]`, `2["message","x",bad]`, `317[]`, `1`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, ok := ParseSIOPacket(b)
		if !ok {
			if p.Namespace != nil || p.AckID != nil || p.Data != nil {
				t.Fatalf("%q: %+v", b, p)
			}
			return
		}
		rest, inOrder := b[1:], b[0] == byte(p.Type)
		for _, part := range [][]byte{p.Namespace, p.AckID, p.Data} {
			at := bytes.Index(rest, part)
			inOrder = inOrder && at >= 0
			rest = rest[max(at, 0)+len(part):]
		}
		if !inOrder || !bytes.HasSuffix(b, p.Data) || p.Namespace != nil && (p.Namespace[0] != '/' || len(p.Namespace) == 1) {
			t.Fatalf("%q: %+v", b, p)
		}
		text, ok := p.AppendEventText([]byte("dst"))
		if !bytes.Equal(b, before) || !utf8.Valid(text) || !bytes.HasPrefix(text, []byte("dst")) || !ok && len(text) != 3 {
			t.Fatalf("%q: text %q, %v", before, text, ok)
		}
		var args []any
		_ = json.Unmarshal(p.Data, &args)
		checkEventText(t, b, p.Type == SIOEvent && ValidJSON(p.Data) && len(args) > 0 && args[0] == sioEvent, args, 1, text[3:], ok)
	})
}

// checkEventText holds text against the argument that encoding/json has found; on bytes that are not
// UTF-8 it disagrees about the number of U+FFFD.
func checkEventText(t *testing.T, packet []byte, isMessage bool, args []any, i int, text []byte, ok bool) {
	t.Helper()
	want, isString := "", false
	if isMessage && len(args) > i {
		want, isString = args[i].(string)
	}
	if ok != isString || utf8.Valid(packet) && string(text) != want {
		t.Fatalf("%q: text %q, %v, encoding/json finds %q, %v", packet, text, ok, want, isString)
	}
}

// sio09Regexp is the original's expression, anchored, with the types there are.
var sio09Regexp = regexp.MustCompile(`^([0-8]):([0-9]+)?(\+)?:([^:]+)?:?((?s).*)$`)

// FuzzSIO09Packet: a packet is what the original's expression matches, and its text is what
// encoding/json finds in it.
func FuzzSIO09Packet(f *testing.F) {
	seedSIO(f, func(_ []byte, _, packet09 string) { f.Add([]byte(packet09)) })
	for _, s := range []string{"0::", "3:1+:/a:x:y", "3:+::x", `5:::{"name":"message","args":["\ud83d\ude00"]}`, "6:::7+[1]", "7:::1+0", "1::/x:?a=1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, ok := ParseSIO09Packet(b)
		match := sio09Regexp.FindSubmatch(b)
		if ok != (match != nil) {
			t.Fatalf("%q: %+v, %v", b, p, ok)
		}
		if !ok {
			return
		}
		if byte(p.Type) != match[1][0] || !bytes.Equal(p.ID, match[2]) || p.DataAck != (match[2] != nil && match[3] != nil) ||
			!bytes.Equal(p.Endpoint, match[4]) || !bytes.Equal(p.Data, match[5]) {
			t.Fatalf("%q: %+v, want %q", b, p, match)
		}
		text, ok := p.AppendText([]byte("dst"))
		if !bytes.Equal(b, before) || !utf8.Valid(text) || !bytes.HasPrefix(text, []byte("dst")) || !ok && len(text) != 3 {
			t.Fatalf("%q: text %q, %v", before, text, ok)
		}
		if p.Type == SIO09Message {
			if !ok || !bytes.Equal(text[3:], NormalizeUTF8(p.Data)) {
				t.Fatalf("%q: text %q, %v", b, text, ok)
			}
			return
		}
		var event map[string]any
		_ = json.Unmarshal(p.Data, &event)
		args, _ := event["args"].([]any)
		checkEventText(t, b, p.Type == SIO09Event && ValidJSON(p.Data) && event["name"] == sioEvent, args, 0, text[3:], ok)
	})
}
