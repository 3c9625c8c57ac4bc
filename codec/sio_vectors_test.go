package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf16"
)

// Every case of testdata/vectors/sio.json and framing.json, which the original implementations wrote, in both directions.

// sioAmbiguousID is C3 A9 in its low bytes, which a 2.x client sends as Ã©, and so does a 1.x client
// when it means é. The Rule of protocol.md §6.3 takes such text for a 1.x client's. From id 0xC280 on
// it can thus misread a 2.x client that polls and has text below U+0100 only.
const sioAmbiguousID = 0xC3A9

type sioVector struct {
	Op, Name, Route, UTF8Hex, Wire, ServerThrows string
	ID                                           int64
	ServerDecoded                                *struct {
		ID    int32
		Route string
		Body  any
	}
	Frames struct {
		SIOPacket, EIOPacket string
		Text1x               string `json:"eio3TextPayload_1x"`
		Text1xHex            string `json:"eio3TextPayload_1x_utf8Hex"`
		Text2x               string `json:"eio3TextPayload_2x"`
		BinaryHex            string `json:"eio3BinaryPayloadHex"`
		SIO09Packet          string
	}
}

func (c sioVector) String() string { return c.Op + " " + c.Name }

func TestSIOVectors(t *testing.T) {
	runVectors(t, "sio.json", func(t *testing.T, c sioVector) {
		if c.Op == "serverEncode" {
			c.checkServer(t)
			return
		}
		text := wireHex(t, c.UTF8Hex)
		m, ok := ParseSIOMessage(text)
		if c.ServerThrows != "" {
			if ok && ValidJSON(m.Body) {
				t.Errorf("read as %d %q %q, the original: %s", m.ID, m.Route, m.Body, c.ServerThrows)
			}
			return
		}
		want := c.ServerDecoded
		var body any
		if err := json.Unmarshal(m.Body, &body); err != nil || !ok {
			t.Fatalf("body %q, %v, %v", m.Body, ok, err)
		}
		if m.ID != want.ID || string(m.Route) != want.Route || !reflect.DeepEqual(body, want.Body) {
			t.Errorf("read as %d %q %v, want %d %q %v", m.ID, m.Route, body, want.ID, want.Route, want.Body)
		}
		if c.Op == "encode" {
			if got := sioString(uint32(c.ID), c.Route, string(m.Body)); !bytes.Equal(got, text) {
				t.Errorf("written as %q, want %q", got, text)
			}
			c.checkFrames(t, text)
		}
	})
}

// sioString writes the string format as clients do.
func sioString(id uint32, route, body string) []byte {
	head := binary.BigEndian.AppendUint32(nil, id)
	head = append(head, byte(len(utf16.Encode([]rune(route)))))
	var text []rune
	for _, c := range head {
		text = append(text, rune(c))
	}
	return []byte(string(text) + route + body)
}

// checkFrames takes the string out of every framing, and puts it into those a server writes.
func (c sioVector) checkFrames(t *testing.T, text []byte) {
	packet := []byte(c.Frames.EIOPacket)
	if c.Frames.EIOPacket != "4"+c.Frames.SIOPacket {
		t.Errorf("%q holds no %q", packet, c.Frames.SIOPacket)
	}
	p, ok := ParseSIOPacket(packet[1:])
	if got, ok2 := p.AppendEventText(nil); !ok || !ok2 || p.Namespace != nil || p.AckID != nil || !bytes.Equal(got, text) {
		t.Errorf("%q holds %q, %v, %v, want %q", packet, got, ok, ok2, text)
	}
	stream := AppendPacket(nil, packet)
	binary := wireHex(t, c.Frames.BinaryHex)
	checkPayload(t, wireHex(t, c.Frames.Text1xHex), PayloadEIO3Text, stream)
	checkPayload(t, []byte(c.Frames.Text1x), PayloadEIO3Text, stream)
	checkPayload(t, binary, PayloadEIO3Binary, stream)
	checkPayload(t, packet, PayloadEIO4, stream)
	if got := AppendPayload(nil, stream, PayloadEIO3Binary); !bytes.Equal(got, binary) {
		t.Errorf("binary payload %x, want %x", got, binary)
	}
	text2x := c.Frames.Text2x
	if text2x == "" { // it does not differ
		text2x = c.Frames.Text1x
	}
	if c.ID == sioAmbiguousID {
		stream1x := AppendPacket(nil, bytes.Replace(packet, []byte("Ã©"), []byte("é"), 1))
		checkPayload(t, []byte(text2x), PayloadEIO3Text, stream1x)
	} else {
		checkPayload(t, []byte(text2x), PayloadEIO3Text, stream)
	}
	if got := AppendPayload(nil, stream, PayloadEIO3Text); string(got) != text2x {
		t.Errorf("text payload %q, want %q", got, text2x)
	}

	packet09 := []byte(c.Frames.SIO09Packet)
	p09, ok := ParseSIO09Packet(packet09)
	if got, ok2 := p09.AppendText(nil); !ok || !ok2 || !bytes.Equal(got, text) {
		t.Errorf("%q holds %q, %v, %v, want %q", packet09, got, ok, ok2, text)
	}
	checkPayload(t, packet09, PayloadSIO09, AppendPacket(nil, packet09))
	if got := sio09Encode(p09); got != c.Frames.SIO09Packet {
		t.Errorf("0.9 packet came back as %q, was %q", got, packet09)
	}
}

// checkServer sends what a server writes through every framing; the text itself is the router's.
func (c sioVector) checkServer(t *testing.T) {
	packet := appendQuoted([]byte(`42["message",`), []byte(c.Wire), false)
	packet = append(packet, ']')
	stream := AppendPacket(nil, packet)
	for _, form := range []PayloadForm{PayloadEIO3Text, PayloadEIO3Binary, PayloadEIO4} {
		checkPayload(t, AppendPayload(nil, stream, form), form, stream)
	}
	p, _ := ParseSIOPacket(packet[1:])
	if got, ok := p.AppendEventText(nil); !ok || string(got) != c.Wire {
		t.Errorf("came back as %q, %v, was %q", got, ok, c.Wire)
	}
	p09, _ := ParseSIO09Packet([]byte("3:::" + c.Wire))
	if got, ok := p09.AppendText(nil); !ok || string(got) != c.Wire {
		t.Errorf("by 0.9 came back as %q, %v, was %q", got, ok, c.Wire)
	}
}

// checkPayload holds the packets of a body against a stream.
func checkPayload(t *testing.T, body []byte, form PayloadForm, want []byte) {
	t.Helper()
	got, err := AppendPackets([]byte("dst"), body, form)
	if err != nil || string(got[:3]) != "dst" || !bytes.Equal(got[3:], want) {
		t.Errorf("form %d: %q holds\n%q, %v, want\n%q", form, body, got, err, want)
	}
}
