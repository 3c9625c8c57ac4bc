package codec

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// seedPayloads adds the bodies of framing.json.
func seedPayloads(f *testing.F, add func(body []byte, form PayloadForm)) {
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", "framing.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v struct{ Cases []framingVector }
	if err := json.Unmarshal(raw, &v); err != nil {
		f.Fatal(err)
	}
	for _, c := range v.Cases {
		add([]byte(c.Text), PayloadEIO3Text)
		add(wireHex(f, c.Text1xHex), PayloadEIO3Text)
		add(wireHex(f, c.Text2xHex), PayloadEIO3Text)
		add(wireHex(f, c.Binary1xHex), PayloadEIO3Binary)
		add([]byte(c.V4), PayloadEIO4)
		add(wireHex(f, c.UTF8Hex), PayloadSIO09)
	}
}

// FuzzPayload: from any body come packets that keep a stream's promises, and packets that do come back
// from the body they are written to. b is the body of a request, and the packets of another, a byte
// 0xFE in front of each.
func FuzzPayload(f *testing.F) {
	seedPayloads(f, func(body []byte, form PayloadForm) { f.Add(body, uint8(form)) })
	for form := range PayloadEIO4 + 1 {
		f.Add([]byte("4abc\xfe2\xfe\xfe4\xe4\xbd\xa0\xf0\x9f\x98\x80\xfe4\xc3\x83\xc2\xa9\xfe@\x00\xff"), uint8(form))
	}
	f.Add([]byte("6:b4QQ==2:b4"), uint8(PayloadEIO3Text))
	f.Add([]byte("40\x1ebQQ==\x1e2"), uint8(PayloadEIO4))
	f.Fuzz(func(t *testing.T, b []byte, form8 uint8) {
		form := PayloadForm(form8) % (PayloadEIO4 + 1)
		before := bytes.Clone(b)
		stream, err := AppendPackets([]byte("old"), b, form)
		if !bytes.Equal(b, before) || string(stream[:3]) != "old" || err != nil && (err != errPayload || form == PayloadSIO09) {
			t.Fatalf("%q: %q, %v", before, stream, err)
		}
		stream = stream[3:]
		if len(stream) > (packetHeadBytes+3)*len(b) {
			t.Fatalf("%d bytes of packets from %d", len(stream), len(b))
		}
		for i, packet := range packetsIn(t, stream) {
			if len(packet) == 0 || packet[0] != '@' && (!utf8.ValidString(packet) || form != PayloadSIO09 && !isEngineType(packet[0])) {
				t.Fatalf("%q: packet %d is %q", b, i, packet)
			}
		}
		checkPayloadAgain(t, stream, form)
		checkPayloadAgain(t, fuzzStream(b, form), form)
	})
}

// fuzzStream makes of any bytes packets that form can carry.
func fuzzStream(b []byte, form PayloadForm) (stream []byte) {
	for chunk := range bytes.SplitSeq(b, []byte{0xFE}) {
		at := len(stream)
		if data, ok := bytes.CutPrefix(chunk, []byte{'@'}); ok && form != PayloadSIO09 {
			stream = append(appendPacketHead(stream, 0), data...)
			stream = endPacket(stream, at, true)
			continue
		}
		if form == PayloadEIO4 {
			chunk = bytes.ReplaceAll(chunk, []byte{payloadSeparator}, nil)
		}
		stream = AppendPacket(stream, append([]byte{'4'}, NormalizeUTF8(chunk)...))
	}
	return stream
}

// checkPayloadAgain writes the packets of stream and reads them back.
func checkPayloadAgain(t *testing.T, stream []byte, form PayloadForm) {
	t.Helper()
	packets := packetsIn(t, stream)
	if len(packets) == 0 {
		return
	}
	if form == PayloadSIO09 && strings.HasPrefix(packets[0], replacement) {
		return // no packet, which has a type: bare, it would be taken for several
	}
	body := AppendPayload([]byte("dst"), stream, form)
	if string(body[:3]) != "dst" {
		t.Fatalf("dst became %q", body)
	}
	again, err := AppendPackets(nil, body[3:], form)
	if err != nil {
		t.Fatalf("%q became %q: %v", stream, body, err)
	}
	for i, packet := range packetsIn(t, again) {
		want := packets[i]
		if form == PayloadEIO3Text && want[0] != '@' {
			want = foldLatin1(want)
		}
		if packet != want {
			t.Fatalf("%q became %q, then %q", want, body, packet)
		}
	}
	if len(packetsIn(t, again)) != len(packets) {
		t.Fatalf("%q became %q", stream, again)
	}
}

// foldLatin1 is the Rule for text of either generation in protocol.md §6.3, put plainly: what it takes
// for a 1.x client's does not come back as it was. The server writes ASCII, where there is no doubt.
func foldLatin1(s string) string {
	var b []byte
	for _, r := range s {
		if r > 0xFF {
			return s
		}
		b = append(b, byte(r))
	}
	if !utf8.Valid(b) {
		return s
	}
	return string(b)
}
