package codec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Every case of testdata/vectors/package.json and message.json, which the original
// implementation wrote, in both directions. A case that cannot run is named here with the
// reason; a name that no case answers to fails, as does a case that nobody counted.

var wirePackageSkips = map[string]string{}

var wireMessageSkips = map[string]string{
	"encode 85 throws route number is overflow": "route code 65536 does not fit Message.Code, a uint16: the mistake cannot be written down",
	"encode 112 throws unkonw message type: -1": "type -1 does not fit MessageType, a uint8: the mistake cannot be written down",
}

type wireVectorFile struct {
	Count int              `json:"count"`
	Cases []wireVectorCase `json:"cases"`
}

// wireVectorCase is the union of the schemas of both files (the README beside them).
type wireVectorCase struct {
	Op, Name, Throws    string
	Lenient             bool
	Type, ID            int64
	CompressRoute, Gzip int
	Route               any
	BodyHex, Hex, InHex string
	BodyLen             int
	PrefixHex, SHA256   string
	Len                 int
	Packages            []wireVectorPackage
	Decoded             wireVectorMessage
	Browser             *struct{ Hex string }
}

type wireVectorPackage struct {
	Type    int
	BodyHex *string
}

type wireVectorMessage struct {
	ID, Type            int64
	CompressRoute, Gzip int
	Route               any
	BodyLen             *int
	BodyHex             *string
}

// runWireVectors runs every case of a file through run and holds the sum of cases and
// skips against the file's own count.
func runWireVectors(t *testing.T, file string, skips map[string]string, run func(*testing.T, wireVectorCase)) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	var f wireVectorFile
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	ran, skipped := 0, map[string]bool{}
	for i, c := range f.Cases {
		name := fmt.Sprintf("%s %d", c.Op, i)
		switch {
		case c.Name != "":
			name += " " + c.Name
		case c.Throws != "":
			name += " throws " + c.Throws
		}
		if skips[name] != "" {
			skipped[name] = true
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { run(t, c) })
	}
	for name := range skips {
		if !skipped[name] {
			t.Errorf("skip %q matches no case of %s", name, file)
		}
	}
	if ran+len(skipped) != f.Count || f.Count == 0 {
		t.Errorf("%s: ran %d and skipped %d of %d cases", file, ran, len(skipped), f.Count)
	}
	t.Logf("%s: ran %d, skipped %d", file, ran, len(skipped))
}

func TestPackageVectors(t *testing.T) {
	runWireVectors(t, "package.json", wirePackageSkips, func(t *testing.T, c wireVectorCase) {
		if c.Op == "encode" {
			body := c.body(t)
			got := AppendPackage(nil, PackageType(c.Type), body)
			c.checkBytes(t, got)
			p, n, err := ParsePackage(got, MaxPackageBody)
			if err != nil || n != len(got) || p.Type != PackageType(c.Type) || !bytes.Equal(p.Body, body) {
				t.Errorf("ParsePackage gave type %d, %d bytes, took %d of %d, %v", p.Type, len(p.Body), n, len(got), err)
			}
			return
		}
		checkPackageDecode(t, c)
	})
}

// checkPackageDecode holds a list of packages against what ParsePackage finds. Where the
// original is lenient about types or cut packages, the rule of protocol.md §2.2 counts.
func checkPackageDecode(t *testing.T, c wireVectorCase) {
	in := wireHex(t, c.InHex)
	rest := in
	for _, want := range c.Packages {
		p, n, err := ParsePackage(rest, MaxPackageBody)
		if want.Type < 1 || want.Type > 5 {
			if err != errPackageType || n != 0 {
				t.Errorf("type %d: got %d, %v, want errPackageType", want.Type, n, err)
			}
			return
		}
		body := ""
		if want.BodyHex != nil {
			body = *want.BodyHex
		}
		if err != nil || n == 0 || int(p.Type) != want.Type || hex.EncodeToString(p.Body) != body {
			t.Fatalf("got type %d body %x, %v; want type %d body %s", p.Type, p.Body, err, want.Type, body)
		}
		if again := AppendPackage(nil, p.Type, p.Body); !bytes.Equal(again, rest[:n]) {
			t.Errorf("encodes as %x, was %x", again, rest[:n])
		}
		rest = rest[n:]
	}
	if _, n, err := ParsePackage(rest, MaxPackageBody); n != 0 || err != nil {
		t.Errorf("after the last package: %d, %v", n, err)
	}
	if incomplete := len(rest) > 0; incomplete != c.Lenient {
		t.Errorf("%d bytes are left over", len(rest))
	}
}

func TestMessageVectors(t *testing.T) {
	runWireVectors(t, "message.json", wireMessageSkips, func(t *testing.T, c wireVectorCase) {
		if c.Op == "decode" {
			in := wireHex(t, c.InHex)
			m := checkMessageDecode(t, in, c.Decoded)
			checkMessageAgain(t, m)
			return
		}
		m := c.message(t)
		got, err := AppendMessage([]byte("dst"), m)
		if c.Throws != "" {
			if err == nil || string(got) != "dst" {
				t.Errorf("encoded as %x, %v, want an error and dst untouched", got, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got = got[3:]
		c.checkBytes(t, got)
		if parsed := checkMessageDecode(t, got, c.Decoded); !bytes.Equal(parsed.Body, m.Body) {
			t.Errorf("body %x, want %x", parsed.Body, m.Body)
		}
		checkMessageHeads(t, m, got)
		if c.Browser != nil { // the other text encoding of the same route
			b, err := ParseMessage(wireHex(t, c.Browser.Hex))
			if err != nil || int64(b.ID) != c.ID || !bytes.Equal(b.Body, m.Body) {
				t.Errorf("browser flavour: %+v, %v", b, err)
			}
			checkMessageAgain(t, b)
		}
	})
}

func checkMessageDecode(t *testing.T, in []byte, want wireVectorMessage) Message {
	t.Helper()
	m, err := ParseMessage(in)
	if err != nil {
		t.Fatal(err)
	}
	if m.ID != uint32(int32(want.ID)) || int64(m.Type) != want.Type || m.Compressed != (want.CompressRoute == 1) || m.Gzip != (want.Gzip == 1) {
		t.Errorf("got %+v, want %+v", m, want)
	}
	switch route := want.Route.(type) {
	case nil:
		if m.Route != nil || m.Code != 0 {
			t.Errorf("got route %q code %d, want none", m.Route, m.Code)
		}
	case string:
		if string(m.Route) != route {
			t.Errorf("got route %q, want %q", m.Route, route)
		}
	case float64:
		if float64(m.Code) != route {
			t.Errorf("got code %d, want %v", m.Code, route)
		}
	}
	if want.BodyLen != nil && len(m.Body) != *want.BodyLen {
		t.Errorf("got %d bytes of body, want %d", len(m.Body), *want.BodyLen)
	}
	if want.BodyHex != nil && hex.EncodeToString(m.Body) != *want.BodyHex {
		t.Errorf("got body %x, want %s", m.Body, *want.BodyHex)
	}
	return m
}

// checkMessageAgain encodes and decodes m once more; the bytes may differ from the vector
// only where it has redundancy that we do not write.
func checkMessageAgain(t *testing.T, m Message) {
	t.Helper()
	b, err := AppendMessage(nil, m)
	if m.Type > MessagePush {
		if err != errMessageType {
			t.Errorf("type %d encoded, %v", m.Type, err)
		}
		return
	}
	again, err2 := ParseMessage(b)
	if err != nil || err2 != nil || !sameMessage(again, m) {
		t.Errorf("%+v came back as %+v (%v, %v)", m, again, err, err2)
	}
}

// checkMessageHeads holds the special heads against the bytes of the general encoder.
func checkMessageHeads(t *testing.T, m Message, want []byte) {
	t.Helper()
	if m.Gzip {
		return
	}
	var head []byte
	switch {
	case m.Type == MessageResponse && !m.Compressed:
		head = AppendResponseHead(nil, m.ID, 0)
	case m.Type == MessagePush && m.Compressed:
		head = appendPushHeadCode(nil, m.Code)
	case m.Type == MessagePush:
		head, _ = appendPushHead(nil, string(m.Route))
	default:
		return
	}
	if got := append(head, m.Body...); !bytes.Equal(got, want) {
		t.Errorf("head gives %x, want %x", got, want)
	}
}

func (c wireVectorCase) message(t *testing.T) Message {
	m := Message{
		Type:       MessageType(c.Type),
		ID:         uint32(c.ID),
		Compressed: c.CompressRoute == 1,
		Gzip:       c.Gzip == 1,
		Body:       c.body(t),
	}
	switch route := c.Route.(type) {
	case string:
		m.Route = []byte(route)
	case float64:
		m.Code = uint16(route)
	}
	return m
}

func (c wireVectorCase) body(t *testing.T) []byte {
	if c.BodyLen == 0 {
		return wireHex(t, c.BodyHex)
	}
	b := make([]byte, c.BodyLen)
	for i := range b {
		b[i] = byte(i*31 + 7)
	}
	return b
}

func (c wireVectorCase) checkBytes(t *testing.T, got []byte) {
	t.Helper()
	if c.PrefixHex == "" {
		if want := wireHex(t, c.Hex); !bytes.Equal(got, want) {
			t.Errorf("encoded as\n%x, want\n%x", got, want)
		}
		return
	}
	prefix := wireHex(t, c.PrefixHex)
	if sum := sha256.Sum256(got); len(got) != c.Len || !bytes.HasPrefix(got, prefix) || hex.EncodeToString(sum[:]) != c.SHA256 {
		t.Errorf("got %d bytes %x.., want %d bytes %x..", len(got), got[:min(32, len(got))], c.Len, prefix)
	}
}

func sameMessage(a, b Message) bool {
	return a.Type == b.Type && a.ID == b.ID && a.Compressed == b.Compressed && a.Gzip == b.Gzip &&
		a.Code == b.Code && bytes.Equal(a.Route, b.Route) && bytes.Equal(a.Body, b.Body)
}

func wireHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
