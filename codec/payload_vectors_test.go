package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// The cases of testdata/vectors/framing.json; sio_vectors_test.go has the rules.

type framingVector struct {
	What, Name, Text, Encoded, UTF8Hex      string
	Text1xHex                               string `json:"text1xUtf8Hex"`
	Text2xHex                               string `json:"text2xUtf8Hex"`
	WSFirstPacket, Binary1xHex, Binary2xHex string
	V4                                      string
	Packets, Decoded                        json.RawMessage // their schemas depend on What
	By1x, By2x                              []eioVectorPacket
}

func (c framingVector) String() string { return c.What + " " + c.Name + c.Text + c.Encoded }

type eioVectorPacket struct{ Type, Data string }

type sio09VectorPacket struct {
	Type, Endpoint, ID, QS, Name, AckID string
	Data                                any
	Ack                                 any // true or "data"
	Args                                []any
}

func TestFramingVectors(t *testing.T) {
	runVectors(t, "framing.json", func(t *testing.T, c framingVector) {
		switch c.What {
		case "eio":
			c.checkEIO(t)
		case "eio3Decode":
			c.checkEIO3(t)
		case "sio09", "sio09Decode":
			c.checkSIO09(t)
		case "sio09Payload":
			c.checkSIO09Payload(t)
		default:
			t.Errorf("nobody knows %q", c.What)
		}
	})
}

var (
	eioVectorTypes   = []string{"open", "close", "ping", "pong", "message", "upgrade", "noop"}
	sio09VectorTypes = []string{"disconnect", "connect", "heartbeat", "message", "json", "event", "ack", "error", "noop"}
)

// appendEIOVector appends a packet of a vector, whose data is hex behind an @ if it is binary.
func appendEIOVector(t *testing.T, stream []byte, p eioVectorPacket) []byte {
	t.Helper()
	if data, ok := strings.CutPrefix(p.Data, "@"); ok && p.Type == "message" {
		at := len(stream)
		stream = append(appendPacketHead(stream, 0), wireHex(t, data)...)
		return endPacket(stream, at, true)
	}
	for i, name := range eioVectorTypes {
		if name == p.Type {
			return AppendPacket(stream, []byte(strconv.Itoa(i)+p.Data))
		}
	}
	t.Fatalf("no type %q", p.Type)
	return nil
}

func (c framingVector) checkEIO(t *testing.T) {
	var packets []eioVectorPacket
	if err := json.Unmarshal(c.Packets, &packets); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for _, p := range packets {
		stream = appendEIOVector(t, stream, p)
	}
	if first, isBinary, n := NextPacket(stream); n == 0 || isBinary || string(first) != c.WSFirstPacket {
		t.Errorf("first packet %q, want %q", first, c.WSFirstPacket)
	}
	for _, form := range []struct {
		form   PayloadForm
		body   []byte
		writes bool // it is the one that we write
	}{
		{PayloadEIO3Text, wireHex(t, c.Text1xHex), c.Text1xHex == c.Text2xHex},
		{PayloadEIO3Text, wireHex(t, c.Text2xHex), true},
		{PayloadEIO3Binary, wireHex(t, c.Binary1xHex), true},
		{PayloadEIO3Binary, wireHex(t, c.Binary2xHex), true},
		{PayloadEIO4, []byte(c.V4), true},
	} {
		checkPayload(t, form.body, form.form, stream)
		if got := AppendPayload(nil, stream, form.form); form.writes && !bytes.Equal(got, form.body) {
			t.Errorf("form %d: wrote %q, want %q", form.form, got, form.body)
		}
	}
}

// checkEIO3 holds our reading of a text payload against the original's, which both generations share
// as far as the vectors go.
func (c framingVector) checkEIO3(t *testing.T) {
	if c.By2x != nil {
		t.Error("2.x differs: decide which to follow")
	}
	var want []byte
	var wantErr error
	for _, p := range c.By1x {
		if p.Type == "error" || p.Type == "" { // one without a type the original would ignore
			wantErr = errPayload
			break
		}
		want = appendEIOVector(t, want, p)
	}
	got, err := AppendPackets(nil, []byte(c.Text), PayloadEIO3Text)
	if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
		t.Errorf("holds %q, %v, want %q, %v", got, err, want, wantErr)
	}
}

func (c framingVector) checkSIO09(t *testing.T) {
	var want sio09VectorPacket
	if err := json.Unmarshal(c.Decoded, &want); err != nil {
		t.Fatal(err)
	}
	p, ok := ParseSIO09Packet([]byte(c.Encoded))
	if want.Type == "" {
		if ok {
			t.Errorf("read as %+v", p)
		}
		return
	}
	if !ok {
		t.Fatal("not read")
	}
	want.check(t, p)
	if got := sio09Encode(p); got != c.Encoded && got+":" != c.Encoded { // the colon before empty data
		t.Errorf("came back as %q, was %q", got, c.Encoded)
	}
}

func (want sio09VectorPacket) check(t *testing.T, p SIO09Packet) {
	t.Helper()
	dataAck := want.Ack == "data"
	if typ := sio09VectorTypes[p.Type-'0']; typ != want.Type || string(p.ID) != want.ID ||
		p.DataAck != dataAck || string(p.Endpoint) != want.Endpoint {
		t.Errorf("read as %s %q %v %q, want %+v", typ, p.ID, p.DataAck, p.Endpoint, want)
	}
	text, ok := p.AppendText(nil)
	switch want.Type {
	case "message":
		if !ok || string(text) != want.Data {
			t.Errorf("text %q, %v, want %v", text, ok, want.Data)
		}
	case "event": // there is none named message
		var event struct {
			Name string
			Args []any
		}
		_ = json.Unmarshal(p.Data, &event) // one is malformed and has no name
		if ok || event.Name != want.Name || len(event.Args) != len(want.Args) {
			t.Errorf("event %+v, text %q, %v, want %+v", event, text, ok, want)
		}
	case "connect":
		if ok || string(p.Data) != want.QS {
			t.Errorf("data %q, want %q", p.Data, want.QS)
		}
	case "ack":
		if ok || !strings.HasPrefix(string(p.Data), want.AckID) {
			t.Errorf("data %q, want ack of %s", p.Data, want.AckID)
		}
	default:
		if ok {
			t.Errorf("text %q", text)
		}
	}
}

// sio09Encode writes a packet without empty parts at its end, as the original does.
func sio09Encode(p SIO09Packet) string {
	s := string(p.Type) + ":" + string(p.ID)
	if p.DataAck {
		s += "+"
	}
	s += ":" + string(p.Endpoint)
	if len(p.Data) > 0 {
		s += ":" + string(p.Data)
	}
	return s
}

func (c framingVector) checkSIO09Payload(t *testing.T) {
	var packets []string
	var decoded []sio09VectorPacket
	if err := errors.Join(json.Unmarshal(c.Packets, &packets), json.Unmarshal(c.Decoded, &decoded)); err != nil {
		t.Fatal(err)
	}
	body := wireHex(t, c.UTF8Hex)
	var stream []byte
	for i, packet := range packets {
		stream = AppendPacket(stream, []byte(packet))
		p, ok := ParseSIO09Packet([]byte(packet))
		if !ok {
			t.Errorf("%q is not read", packet)
		}
		decoded[i].check(t, p)
	}
	checkPayload(t, body, PayloadSIO09, stream)
	if got := AppendPayload(nil, stream, PayloadSIO09); !bytes.Equal(got, body) || string(got) != c.Encoded {
		t.Errorf("wrote %q, want %q", got, body)
	}
}
