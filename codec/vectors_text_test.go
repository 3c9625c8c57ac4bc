package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// Every case of strings.json, crc.json, versions.json and protobuf.json of testdata/vectors,
// in both directions where there are two.

func unhexText(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type stringVector struct {
	CodeUnits                         []uint16
	ServerEncodeHex, BrowserEncodeHex string
	ServerDecodesBrowser              string
}

func TestStringVectors(t *testing.T) {
	runVectors(t, "strings.json", func(t *testing.T, c stringVector) {
		text := string(utf16.Decode(c.CodeUnits)) // lone surrogates are U+FFFD here
		utf8Hex, cesu := unhexText(t, c.ServerEncodeHex), unhexText(t, c.BrowserEncodeHex)
		if got := NormalizeUTF8(utf8Hex); string(got) != text {
			t.Errorf("server's bytes read as %q, want %q", got, text)
		}
		// The original reads a pair as six U+FFFD; the Rule of §2.6 wants the character.
		// Of lone surrogates both make three.
		want := c.ServerDecodesBrowser
		if hasAstral([]byte(text)) {
			want = text
		}
		if got := NormalizeUTF8(cesu); string(got) != want {
			t.Errorf("browser's bytes read as %q, want %q", got, want)
		}
		lone := !slices.Equal(utf16.Encode([]rune(text)), c.CodeUnits)
		if got := appendCESU8(nil, text); !lone && !bytes.Equal(got, cesu) {
			t.Errorf("CESU-8 %x, want %x", got, cesu)
		}
		var back string
		literal := AppendString(nil, text)
		if err := json.Unmarshal(literal, &back); err != nil || back != text || hasAstral(literal) {
			t.Errorf("literal %s read as %q, %v", literal, back, err)
		}
	})
}

type crcVector struct {
	Input string
	Abs   uint32
	Index map[string]int
}

func TestCRCVectors(t *testing.T) {
	runVectors(t, "crc.json", func(t *testing.T, c crcVector) {
		if got := dispatchSum(c.Input); got != c.Abs {
			t.Errorf("sum of %q is %d, want %d", c.Input, got, c.Abs)
		}
		if len(c.Index) == 0 {
			t.Error("no index")
		}
		for key, want := range c.Index {
			n, _ := strconv.Atoi(key)
			if got := Dispatch(c.Input, n); got != want {
				t.Errorf("%q among %d is %d, want %d", c.Input, n, got, want)
			}
		}
	})
}

type versionVector struct {
	What                          string
	HandlerRoutes, UserDictionary []string
	Dict, Abbrs                   json.RawMessage
	DictVersion                   string
	ServerProtos, ClientProtos    json.RawMessage
	Protos                        json.RawMessage
}

func TestVersionVectors(t *testing.T) {
	runVectors(t, "versions.json", func(t *testing.T, c versionVector) {
		switch c.What {
		case "dictionary":
			c.checkDictionary(t)
		case "protos":
			p, err := ParseProtos(c.ServerProtos, c.ClientProtos)
			if err != nil {
				t.Fatal(err)
			}
			if want := `"protos":` + compactText(t, c.Protos); string(p.AppendHandshake(nil)) != want {
				t.Errorf("handshake %s\nwant %s", p.AppendHandshake(nil), want)
			}
			if !strings.Contains(string(c.Protos), p.Version()) {
				t.Errorf("version %s", p.Version())
			}
		default:
			t.Errorf("unknown kind %q", c.What)
		}
	})
}

func (c versionVector) checkDictionary(t *testing.T) {
	handlers := slices.Clone(c.HandlerRoutes)
	slices.Reverse(handlers) // the order they are found in does not matter
	d := NewDictionary(handlers, c.UserDictionary)
	if d.Version() != c.DictVersion {
		t.Errorf("version %s, want %s", d.Version(), c.DictVersion)
	}
	dict := compactText(t, c.Dict)
	want := `"dict":` + dict + `,"routeToCode":` + dict + `,"codeToRoute":` + compactText(t, c.Abbrs) +
		`,"dictVersion":"` + c.DictVersion + `"`
	if got := string(d.AppendHandshake(nil)); got != want {
		t.Errorf("handshake %s\nwant %s", got, want)
	}
	codes := map[string]uint16{}
	if err := json.Unmarshal(c.Dict, &codes); err != nil {
		t.Fatal(err)
	}
	for route, code := range codes {
		if got, ok := d.Code(route); !ok || got != code {
			t.Errorf("code of %s is %d, %v", route, got, ok)
		}
		if got, ok := d.Route(code); !ok || got != route {
			t.Errorf("route of %d is %s, %v", code, got, ok)
		}
	}
}

func compactText(t *testing.T, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type protoVector struct {
	Op, Route    string
	Defs, Parsed json.RawMessage
	Msg          json.RawMessage
	Hex, InHex   *string
	Decoded      json.RawMessage
	Throws       string
	BrowserHex   string
}

func TestProtobufVectors(t *testing.T) {
	var p *Protos
	runVectors(t, "protobuf.json", func(t *testing.T, c protoVector) {
		switch c.Op {
		case "definitions":
			p = c.checkDefinitions(t)
		case "encode":
			c.checkEncode(t, p)
		case "decode":
			c.checkDecode(t, p.Client(c.Route))
		default:
			t.Errorf("unknown op %q", c.Op)
		}
	})
}

func (c protoVector) checkDefinitions(t *testing.T) *Protos {
	p, err := ParseProtos(nil, c.Defs)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(p.client.text), compactText(t, c.Parsed); got != want {
		t.Errorf("parsed %s\nwant %s", got, want)
	}
	return p
}

func (c protoVector) checkEncode(t *testing.T, p *Protos) {
	m := p.Client(c.Route)
	if c.Route == "noSuchRoute" {
		if m != nil || c.Hex != nil {
			t.Error("a definition for a route that has none")
		}
		return
	}
	if !bytes.Contains(c.Msg, []byte(`"@`)) { // JSON has no NaN and Infinity: decoding only
		c.checkBytes(t, m)
	}
	if c.Hex == nil {
		return
	}
	wire := unhexText(t, *c.Hex)
	text := checkDecoded(t, m, wire, c.Decoded)
	again, err := m.AppendEncode(nil, text, ProtoOptions{})
	if err == nil && !bytes.Equal(again, wire) {
		t.Errorf("%s encodes to %x, not back to %x", text, again, wire)
	}
	if err != nil && !bytes.Contains(text, []byte("null")) && string(text) != "{}" {
		t.Errorf("%s does not encode again: %v", text, err)
	}
	if c.BrowserHex != "" {
		c.checkBrowser(t, m)
	}
}

func (c protoVector) checkBytes(t *testing.T, m *ProtoMessage) {
	got, err := m.AppendEncode([]byte("kept"), c.Msg, ProtoOptions{})
	if c.Hex == nil { // null or throws
		if err == nil || string(got) != "kept" {
			t.Errorf("encodes to %q, %v; want an error", got, err)
		}
		return
	}
	if err != nil || hex.EncodeToString(got[4:]) != *c.Hex {
		t.Errorf("encodes to %x, %v; want %s", got[4:], err, *c.Hex)
	}
}

// checkBrowser reads what the browser's codec wrote for the same message. Its doubles may lack
// their last bytes: such a message is malformed (README of the vectors).
func (c protoVector) checkBrowser(t *testing.T, m *ProtoMessage) {
	wire := unhexText(t, c.BrowserHex)
	if full := unhexText(t, *c.Hex); len(wire) < len(full) {
		if got, err := m.AppendDecode(nil, wire); !errors.Is(err, errProtoTruncated) {
			t.Errorf("cut double decodes to %s, %v", got, err)
		}
		return
	}
	checkDecoded(t, m, wire, c.Decoded)
	if hasAstral(c.Msg) || bytes.Contains(c.Msg, []byte(`\ud83d`)) {
		got, err := m.AppendEncode(nil, c.Msg, ProtoOptions{CESU8: true})
		if err != nil || !bytes.Equal(got, wire) {
			t.Errorf("for browsers encodes to %x, %v; want %x", got, err, wire)
		}
	}
}

func (c protoVector) checkDecode(t *testing.T, m *ProtoMessage) {
	if c.Route == "noSuchRoute" {
		if m != nil {
			t.Error("a definition for a route that has none")
		}
		return
	}
	wire := unhexText(t, *c.InHex)
	// An over-long string is cut by the original and malformed by the Rule of §3.3.
	if c.Throws != "" || *c.InHex == "0a056869" {
		if got, err := m.AppendDecode([]byte("kept"), wire); err == nil || string(got) != "kept" {
			t.Errorf("decodes to %s, %v; want an error", got, err)
		}
		return
	}
	checkDecoded(t, m, wire, c.Decoded)
}

// checkDecoded compares tokens, so that the order of members counts and spelling does not.
func checkDecoded(t *testing.T, m *ProtoMessage, wire []byte, want []byte) []byte {
	t.Helper()
	got, err := m.AppendDecode(nil, wire)
	if err != nil {
		t.Fatalf("decode %x: %v", wire, err)
	}
	for _, special := range []string{`"@NaN"`, `"@Infinity"`, `"@-Infinity"`} {
		want = bytes.ReplaceAll(want, []byte(special), []byte("null"))
	}
	if !reflect.DeepEqual(jsonTokens(t, got), jsonTokens(t, want)) {
		t.Errorf("%x decodes to %s\nwant %s", wire, got, want)
	}
	if hasAstral(got) || !ValidJSON(got) {
		t.Errorf("%s is not canonical JSON", got)
	}
	return got
}

func jsonTokens(t *testing.T, b []byte) (tokens []json.Token) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return tokens
		}
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		tokens = append(tokens, token)
	}
}
