package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestNextPacketWaitsForWholePackets(t *testing.T) {
	stream := AppendPacket(AppendPacket([]byte(nil), []byte("4a")), nil)
	for cut := range len(stream) {
		packet, isBinary, n := NextPacket(stream[:cut])
		if whole := cut >= 6; isBinary || (n == 6) != whole || !whole && n != 0 || whole && string(packet) != "4a" {
			t.Errorf("of %d bytes: %q, %v, %d", cut, packet, isBinary, n)
		}
	}
	if packet, isBinary, n := NextPacket(stream[6:]); len(packet) != 0 || isBinary || n != packetHeadBytes {
		t.Errorf("empty packet: %q, %v, %d", packet, isBinary, n)
	}
	if packet, isBinary, n := NextPacket([]byte{0x80, 0, 0, 1, 'x', 'y'}); string(packet) != "x" || !isBinary || n != 5 {
		t.Errorf("binary packet: %q, %v, %d", packet, isBinary, n)
	}
	if _, _, n := NextPacket([]byte{0xff, 0xff, 0xff, 0xff, 'x'}); n != 0 {
		t.Errorf("the longest packet: %d", n)
	}
	if got := appendPacketHead([]byte("x"), 1<<31-1); string(got) != "x\x7f\xff\xff\xff" {
		t.Errorf("the longest packet's head is %x", got)
	}
}

// packetsIn lists the packets of a stream, binary ones behind an @.
func packetsIn(t testing.TB, stream []byte) []string {
	t.Helper()
	list := []string{}
	for len(stream) > 0 {
		packet, isBinary, n := NextPacket(stream)
		if n == 0 {
			t.Fatalf("%q holds no packet", stream)
		}
		if isBinary {
			packet = append([]byte{'@'}, packet...)
		}
		list = append(list, string(packet))
		stream = stream[n:]
	}
	return list
}

func TestAppendPackets(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		form PayloadForm
		body string
		want []string
		err  error
	}{
		{PayloadSIO09, "", nil, nil},
		{PayloadSIO09, "3:::a\x00\ufffd", []string{"3:::a\x00\ufffd"}, nil},
		{PayloadSIO09, "garbage", []string{"garbage"}, nil},
		{PayloadSIO09, "\ufffd5\ufffd3:::a", []string{"3:::a"}, nil},
		{PayloadSIO09, "\ufffd7\ufffd3:::😀\ufffd\ufffd3\ufffd2::", []string{"3:::😀\ufffd", "2::"}, nil},
		{PayloadSIO09, "\ufffd3\ufffd2::\ufffd0\ufffd\ufffd3\ufffd8::", []string{"2::", "8::"}, nil},
		{PayloadSIO09, "\ufffd", nil, nil},
		{PayloadSIO09, "\ufffd3", nil, nil},
		{PayloadSIO09, "\ufffd\ufffd2::", nil, nil},
		{PayloadSIO09, "\ufffd-3\ufffd2::", nil, nil},
		{PayloadSIO09, "\ufffd4\ufffd2::", nil, nil},
		{PayloadSIO09, "\ufffd9999999999\ufffd2::", nil, nil},
		{PayloadSIO09, "\ufffd3\ufffd2::garbage", []string{"2::"}, nil},
		{PayloadSIO09, "\ufffd5\ufffd3:::😀", nil, nil}, // ends inside the character
		{PayloadSIO09, "3:::\xff", []string{"3:::\ufffd"}, nil},

		{PayloadEIO3Text, "", nil, errPayload},
		{PayloadEIO3Text, "1:2", []string{"2"}, nil},
		{PayloadEIO3Text, "01:2", []string{"2"}, nil},
		{PayloadEIO3Text, "0:1:20:", []string{"2"}, nil},
		{PayloadEIO3Text, "6:2probe1:5", []string{"2probe", "5"}, nil},
		{PayloadEIO3Text, "3:4é你", []string{"4é你"}, nil},
		{PayloadEIO3Text, "3:4😀1:2", []string{"4😀", "2"}, nil},
		{PayloadEIO3Text, "2:4😀1:2", nil, errPayload},
		{PayloadEIO3Text, "3:4\u00c3\u00a9", []string{"4é"}, nil},
		{PayloadEIO3Text, "5:4\u00f0\u009f\u0098\u0080", []string{"4😀"}, nil},
		{PayloadEIO3Text, "4:4\u00f0\u009f\u0098", []string{"4\u00f0\u009f\u0098"}, nil},
		{PayloadEIO3Text, "4:4\u00c3\u00a9é", []string{"4\u00c3\u00a9é"}, nil},
		{PayloadEIO3Text, "4:4\u00c3\u00a9ā", []string{"4\u00c3\u00a9ā"}, nil},
		{PayloadEIO3Text, "4:4\u00ed\u00a0\u0080", []string{"4\u00ed\u00a0\u0080"}, nil}, // a surrogate is no UTF-8
		{PayloadEIO3Text, "3:4\u00c8\x05", []string{"4\u00c8\x05"}, nil},
		{PayloadEIO3Text, "4:b4QQ", []string{"@A"}, nil},
		{PayloadEIO3Text, "6:b4QQ==1:2", []string{"@A", "2"}, nil},
		{PayloadEIO3Text, "2:b4", []string{"@"}, nil},
		{PayloadEIO3Text, "1:b", nil, errPayload},
		{PayloadEIO3Text, "2:b2", nil, errPayload},
		{PayloadEIO3Text, "3:b4!", nil, errPayload},
		{PayloadEIO3Text, "1:7", nil, errPayload},
		{PayloadEIO3Text, "1:21", []string{"2"}, errPayload},
		{PayloadEIO3Text, "1:21:", []string{"2"}, errPayload},
		{PayloadEIO3Text, "1:2-1:2", []string{"2"}, errPayload},
		{PayloadEIO3Text, " 1:2", nil, errPayload},
		{PayloadEIO3Text, "+1:2", nil, errPayload},
		{PayloadEIO3Text, ":2", nil, errPayload},
		{PayloadEIO3Text, "0000000001:2", nil, errPayload},
		{PayloadEIO3Text, "999999999:2", nil, errPayload},
		{PayloadEIO3Text, "2:4\xff", []string{"4\ufffd"}, nil},

		{PayloadEIO3Binary, "", nil, nil},
		{PayloadEIO3Binary, "\x00\x01\xff2", []string{"2"}, nil},
		{PayloadEIO3Binary, "\x00\x00\xff\x00\x00\x01\xff2", []string{"2"}, nil},
		{PayloadEIO3Binary, "\x00\x01\x00\x00\x01\xff4" + long, []string{"4" + long}, nil},
		{PayloadEIO3Binary, "\x00\x03\xff4é\x01\x02\xff\x04\xff\x00\x01\xff3", []string{"4é", "@\xff", "3"}, nil},
		{PayloadEIO3Binary, "\x00\x03\xff4\u00c3", []string{"4\u00c3"}, nil},
		{PayloadEIO3Binary, "\x00\x02\xff4\xff", []string{"4\ufffd"}, nil},
		{PayloadEIO3Binary, "\x01\x01\xff\x04", []string{"@"}, nil},
		{PayloadEIO3Binary, "\x01\x01\xff4", nil, errPayload}, // the type is a value here
		{PayloadEIO3Binary, "\x00\x01\xff\x04", nil, errPayload},
		{PayloadEIO3Binary, "\x02\x01\xff2", nil, errPayload},
		{PayloadEIO3Binary, "\x02\x00\xff", nil, errPayload},
		{PayloadEIO3Binary, "\x00\x02\xff2", nil, errPayload},
		{PayloadEIO3Binary, "\x00\xff2", nil, errPayload},
		{PayloadEIO3Binary, "\x00\x0a\xff2", nil, errPayload},
		{PayloadEIO3Binary, "\x00\x01", nil, errPayload},
		{PayloadEIO3Binary, "\x00", nil, errPayload},
		{PayloadEIO3Binary, "\x00\x01\xff2\x00", []string{"2"}, errPayload},
		{PayloadEIO3Binary, "\x00" + strings.Repeat("\x09", 9) + "\xff2", nil, errPayload},
		{PayloadEIO3Binary, "\x00" + strings.Repeat("\x00", 9) + "\x01\xff2", nil, errPayload},
		{PayloadEIO3Binary, "1:2", nil, errPayload},

		{PayloadEIO4, "2", []string{"2"}, nil},
		{PayloadEIO4, "40\x1e42[]\x1ebQQ==", []string{"40", "42[]", "@A"}, nil},
		{PayloadEIO4, "b\x1ebQQ", []string{"@", "@A"}, nil},
		{PayloadEIO4, "4\u00c3\u00a9", []string{"4\u00c3\u00a9"}, nil},
		{PayloadEIO4, "", nil, errPayload},
		{PayloadEIO4, "2\x1e", []string{"2"}, errPayload},
		{PayloadEIO4, "\x1e2", nil, errPayload},
		{PayloadEIO4, "2\x1e\x1e2", []string{"2"}, errPayload},
		{PayloadEIO4, "2\x1e7", []string{"2"}, errPayload},
		{PayloadEIO4, "bQ", nil, errPayload},
		{PayloadEIO4, "b-_", nil, errPayload},
		{PayloadEIO4, "4\xff", []string{"4\ufffd"}, nil},
	} {
		stream, err := AppendPackets(AppendPacket(nil, []byte("old")), []byte(c.body), c.form)
		want := append([]string{"old"}, c.want...)
		if got := packetsIn(t, stream); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) || !errors.Is(err, c.err) {
			t.Errorf("form %d, %.40q: got %.80q, %v, want %.80q, %v", c.form, c.body, got, err, want, c.err)
		}
	}
}

func TestAppendPayload(t *testing.T) {
	long := strings.Repeat("x", 1233)
	binary, err := AppendPackets(nil, []byte("2\x1ebAP8="), PayloadEIO4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		form   PayloadForm
		stream []byte
		want   string
	}{
		{PayloadSIO09, nil, ""},
		{PayloadEIO3Text, nil, ""},
		{PayloadEIO3Text, AppendPacket(nil, []byte("4é😀")), "4:4é😀"},
		{PayloadEIO3Text, binary, "1:26:b4AP8="},
		{PayloadEIO3Binary, AppendPacket(nil, []byte("4"+long)), "\x00\x01\x02\x03\x04\xff4" + long},
		{PayloadEIO3Binary, binary, "\x00\x01\xff2\x01\x03\xff\x04\x00\xff"},
		{PayloadEIO4, binary, "2\x1ebAP8="},
	} {
		if got := AppendPayload([]byte("dst"), c.stream, c.form); string(got) != "dst"+c.want {
			t.Errorf("form %d, %q: got %q, want %q", c.form, c.stream, got, c.want)
		}
	}
}

func TestUTF16LengthIsThatOfJavaScript(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{"", 0}, {"aé你😀", 5}, {strings.Repeat("😀é你a", 9), 45}, {"\xed\xa0\xbd", 1}, {"\xed\xa0\xbd\xed\xb8\x80", 2},
	} {
		if got := utf16Len([]byte(c.text)); got != c.want {
			t.Errorf("%q has %d units, want %d", c.text, got, c.want)
		}
		for n := range c.want + 3 {
			end, missing := skipUnits([]byte(c.text), n)
			cut := end < len(c.text) && missing == 1
			if got := utf16Len([]byte(c.text[:end])); got+missing != n || missing > 0 && !cut && end != len(c.text) {
				t.Errorf("%q: %d units end at %d, %d are missing", c.text, n, end, missing)
			}
		}
	}
}

func TestAppendJSONP(t *testing.T) {
	for _, c := range []struct{ callback, payload, want string }{
		{"___eio[0]", "2:40", `___eio[0]("2:40");`},
		{"io.j[12]", "1::", `io.j[12]("1::");`},
		{"io.j[0]", "", `io.j[0]("");`},
		{"io.j[0]", "\ufffd5\ufffd3:::\"\\\n\x00", "io.j[0](\"\ufffd5\ufffd3:::\\\"\\\\\\n\\u0000\");"},
		{"f", "a\u2028\u2029b\u2027\u202a\u2028", `f("a\u2028\u2029b` + "\u2027\u202a" + `\u2028");`},
		{"f", "\xe2\x80", "f(\"\ufffd\");"},
	} {
		if got := AppendJSONP([]byte("dst"), c.callback, []byte(c.payload)); string(got) != "dst"+c.want {
			t.Errorf("%q: got %s, want %s", c.payload, got, c.want)
		}
	}
}

func TestAppendJSONPBody(t *testing.T) {
	// Both bodies with 77 and 3::: are from the golden transcripts.
	for _, c := range []struct {
		form       PayloadForm
		body, want string
	}{
		{PayloadEIO3Text, "d=77%3A42%5B%22message%22%2C%22%5Cu0000%5Cu0000%5Cu0000%5Cu0005%5Cu001dconnector.entryHandler.nosuch%7B%7D%22%5D",
			`77:42["message","\u0000\u0000\u0000\u0005\u001dconnector.entryHandler.nosuch{}"]`},
		{PayloadEIO3Text, "a=b&d=1:2", "1:2"},
		{PayloadEIO3Text, "d=", ""},
		{PayloadEIO3Text, `d=\n`, "\n"},
		{PayloadEIO3Text, `d=\\n`, `\n`},
		{PayloadEIO3Text, `d=a\\\nb\n\n\\nc\`, `a\\nb` + "\n\n" + `\nc\`},
		{PayloadSIO09, "d=%223%3A%3A%3Avia%20jsonp%20%E4%BD%A0%22", "3:::via jsonp 你"},
		{PayloadSIO09, `d="3:::\n\\n\u2028\ud83d\ude00\ud83d"`, "3:::\n\\n\u2028😀\ufffd"},
		{PayloadSIO09, `d=+""%0D%0A`, ""},
	} {
		if got, ok := AppendJSONPBody([]byte("dst"), []byte(c.body), c.form); !ok || string(got) != "dst"+c.want {
			t.Errorf("%s: got %q, %v, want %q", c.body, got, ok, c.want)
		}
	}
	for _, body := range []string{"", "d", "e=1", "d=3:::a", `d="a`, `d="a"b`, `d="\x"`, `d=["a"]`, `d="a` + "\n" + `"`} {
		if got, ok := AppendJSONPBody([]byte("dst"), []byte(body), PayloadSIO09); ok || string(got) != "dst" {
			t.Errorf("%s: got %q, %v", body, got, ok)
		}
	}
}

// FuzzJSONP: a script is JSON between its brackets and one line to every reader, and what a client
// escapes for its form comes back.
func FuzzJSONP(f *testing.F) {
	for _, s := range []string{"", "3:::a", "1:2", "\ufffd5\ufffd3:::a", "\\n\n\\\\n", "\u2028\u2029\u202a", "\xe2\x80", "😀\xed\xa0\xbd"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		valid := string(NormalizeUTF8(b))
		script := AppendJSONP(nil, "f", b)
		var back string
		if err := json.Unmarshal(script[2:len(script)-2], &back); err != nil || back != valid || bytes.ContainsAny(script, "\n\r\u2028\u2029") {
			t.Fatalf("%q became %q", b, script)
		}
		AppendJSONPBody(nil, b, PayloadEIO3Text)
		AppendJSONPBody(nil, b, PayloadSIO09)
		if strings.Contains(valid, "\\\n") {
			return // engine.io-client cannot tell it from \n; there is none in JSON
		}
		escaped := strings.ReplaceAll(valid, `\n`, "\\\n")
		escaped = strings.ReplaceAll(escaped, "\n", `\n`)
		before := []byte("x=1&d=" + url.QueryEscape(escaped))
		body := bytes.Clone(before)
		if got, ok := AppendJSONPBody([]byte("dst"), body, PayloadEIO3Text); !ok || string(got) != "dst"+valid || !bytes.Equal(body, before) {
			t.Fatalf("%q came back as %q, %v", valid, got, ok)
		}
		body = []byte("d=" + url.QueryEscape(string(appendQuoted(nil, []byte(valid), true))))
		if got, ok := AppendJSONPBody([]byte("dst"), body, PayloadSIO09); !ok || string(got) != "dst"+valid {
			t.Fatalf("%q came back as %q, %v by 0.9", valid, got, ok)
		}
	})
}
