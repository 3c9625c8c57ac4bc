package codec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// seedFromVectors adds the bytes of every case of a vector file.
func seedFromVectors(f *testing.F, file string, add func([]byte)) {
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		f.Fatal(err)
	}
	var v wireVectorFile
	if err := json.Unmarshal(raw, &v); err != nil {
		f.Fatal(err)
	}
	for _, c := range v.Cases {
		add(wireHex(f, c.Hex+c.InHex))
	}
}

// FuzzParsePackage: what is parsed is encoded back to the same bytes, takes exactly its
// own bytes, and one byte less is an incomplete package or the same error.
func FuzzParsePackage(f *testing.F) {
	seedFromVectors(f, "package.json", func(b []byte) { f.Add(b, uint32(1<<18)) })
	f.Add([]byte{4, 0xff, 0xff, 0xff}, uint32(MaxPackageBody))
	f.Fuzz(func(t *testing.T, b []byte, limit32 uint32) {
		limit := int(limit32 & MaxPackageBody)
		p, n, err := ParsePackage(b, limit)
		if err != nil || n == 0 {
			if n != 0 || p.Body != nil || err != nil && len(b) < PackageHeadBytes {
				t.Fatalf("%+v, %d, %v", p, n, err)
			}
			return
		}
		if n > len(b) || len(p.Body) > limit || p.Type < 1 || p.Type > 5 {
			t.Fatalf("type %d, body %d of limit %d, took %d of %d", p.Type, len(p.Body), limit, n, len(b))
		}
		if again := AppendPackage(nil, p.Type, p.Body); !bytes.Equal(again, b[:n]) {
			t.Fatalf("%x came back as %x", b[:n], again)
		}
		if _, short, err := ParsePackage(b[:n-1], limit); short != 0 || err != nil {
			t.Fatalf("without its last byte: %d, %v", short, err)
		}
	})
}

// FuzzParseMessage: encode ∘ decode is the identity on messages, decode ∘ encode on the
// bytes but for redundancy (padded ids, ignored flag bits); slices stay inside the input.
func FuzzParseMessage(f *testing.F) {
	seedFromVectors(f, "message.json", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			if m.Body != nil || m.Route != nil {
				t.Fatalf("%+v with %v", m, err)
			}
			return
		}
		if m.Body == nil || !bytes.HasSuffix(b, m.Body) || len(m.Route)+len(m.Body) >= len(b) {
			t.Fatalf("%+v of %d bytes", m, len(b))
		}
		enc, err := AppendMessage(nil, m)
		if m.Type > MessagePush {
			if err != errMessageType {
				t.Fatal(err)
			}
			return
		}
		if err != nil || len(enc) > len(b) {
			t.Fatalf("%d bytes became %d, %v", len(b), len(enc), err)
		}
		again, err := ParseMessage(enc)
		if err != nil || !sameMessage(again, m) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
		if len(enc) == len(b) && b[0]&0xe0 == 0 && m.ID < 1<<28 && !bytes.Equal(enc, b) {
			t.Fatalf("%x came back as %x", b, enc)
		}
	})
}

// FuzzWSReader: events, errors and bounds do not depend on how the bytes are cut, and a
// byte behind the frames that were taken is never changed (wsFeed checks the bounds).
func FuzzWSReader(f *testing.F) {
	f.Add(wireHex(f, "818537fa213d7f9f4d5158"), uint16(100), uint8(1))
	f.Add(wsClientFrames(wsClientFrame(0x01, "a\xe2"), wsClientFrame(0x89, "p"), wsClientFrame(0x80, "\x98\x83")), uint16(100), uint8(2))
	f.Add(wsClientFrames(wsClientFrame(0x02, strings.Repeat("x", 200)), wsClientFrame(0x80, "y")), uint16(201), uint8(7))
	f.Add(wsClientFrames(wsClientFrame(0x82, ""), wsClientFrame(0x88, "\x03\xe8bye")), uint16(10), uint8(3))
	f.Add(wireHex(f, "82ff000000000001000000000000"), uint16(0xffff), uint8(1))
	f.Add(wireHex(f, "8180000000008880"), uint16(0), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, limit uint16, step uint8) {
		whole, wholeErr := wsFeed(t, b, 0, int(limit))
		for _, step := range []int{1, int(step)} {
			seen, err := wsFeed(t, b, step, int(limit))
			if fmt.Sprint(seen) != fmt.Sprint(whole) || err != wholeErr {
				t.Fatalf("step %d: %v, %v\nat once: %v, %v", step, seen, err, whole, wholeErr)
			}
		}
		if wholeErr != nil && len(wholeErr.Reason) > maxWSCloseReason {
			t.Fatalf("error %v", wholeErr)
		}
		in := bytes.Clone(b)
		var r WSReader
		if _, n, err := r.Next(in, int(limit)); err == nil && !bytes.Equal(in[n:], b[n:]) {
			t.Fatalf("changed bytes behind the first %d", n)
		}
	})
}

// FuzzHTTPHead: the answer does not depend on how the bytes are cut, and net/http reads
// the same request from every head we accept. The input is tried as it is and as header
// lines of a good request: mutations seldom leave a request line intact.
func FuzzHTTPHead(f *testing.F) {
	for _, c := range httpHeads {
		f.Add([]byte(c.head), uint16(8192))
		_, headers, _ := strings.Cut(strings.TrimSuffix(c.head, "\r\n\r\n"), "\r\n")
		f.Add([]byte(strings.Replace(headers, "Host", "X", 1)), uint16(8192))
	}
	for _, c := range httpRefusals {
		f.Add([]byte(c.head), uint16(8192))
	}
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		checkHTTPHead(t, b, int(limit))
		checkHTTPHead(t, []byte(httpGet(string(b))), int(limit))
	})
}

func checkHTTPHead(t *testing.T, b []byte, limit int) {
	t.Helper()
	h, n, searched, err := ParseHTTPHead(b, 0, limit)
	h2, n2, err2 := httpDrip(t, b, limit)
	if !reflect.DeepEqual(h, h2) || n != n2 || err != err2 {
		t.Fatalf("at once %+v, %d, %v\nin drops %+v, %d, %v", h, n, err, h2, n2, err2)
	}
	if n == 0 || err != nil {
		if n != 0 || err != nil && err.Status < 400 {
			t.Fatalf("%d, %v", n, err)
		}
		return
	}
	if n > limit || n > len(b) || searched != 0 || !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
		t.Fatalf("took %d of %d, limit %d", n, len(b), limit)
	}
	_ = h.CheckUpgrade()
	checkAgainstNetHTTP(t, h, b[:n])
}

// checkAgainstNetHTTP holds an accepted head against net/http. Tolerated, because nothing
// here depends on them, is that net/http
//   - parses the target as a URL and refuses bad percent-escapes and odd ports,
//   - unescapes the host of an absolute target,
//   - compares repeated Content-Lengths as text, we as numbers ("5" and "05"),
//   - judges Trailer, which we do not read.
func checkAgainstNetHTTP(t *testing.T, h HTTPHead, head []byte) {
	t.Helper()
	u, urlErr := url.ParseRequestURI(string(h.Target))
	lower := strings.ToLower(string(head))
	if urlErr != nil || strings.Contains(lower, "trailer") || strings.Count(lower, "content-length") > 1 {
		return
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		t.Fatalf("net/http refuses what we accept: %v", err)
	}
	defer r.Body.Close()
	absolute := u.Host != ""
	if r.Method != string(h.Method) || r.RequestURI != string(h.Target) || r.ProtoMinor != h.Minor || r.ProtoMajor != 1 {
		t.Fatalf("net/http reads %s %s 1.%d, we %+v", r.Method, r.RequestURI, r.ProtoMinor, h)
	}
	if r.Host != string(h.Host) && !(absolute && strings.Contains(string(h.Host), "%")) {
		t.Fatalf("net/http reads host %q, we %q", r.Host, h.Host)
	}
	path, err := url.PathUnescape(string(h.Path))
	if err != nil || path != r.URL.Path && !(absolute && r.URL.Path == "" && path == "/") || r.URL.RawQuery != string(h.Query) {
		t.Fatalf("net/http reads %q ? %q, we %q ? %q", r.URL.Path, r.URL.RawQuery, h.Path, h.Query)
	}
	length := h.ContentLength
	if length < 0 && !h.Chunked {
		length = 0 // a request without either has no body
	}
	if r.ContentLength != length || (len(r.TransferEncoding) > 0) != h.Chunked {
		t.Fatalf("net/http reads %d bytes %v, we %d, chunked %v", r.ContentLength, r.TransferEncoding, h.ContentLength, h.Chunked)
	}
	if r.Close == h.KeepAlive {
		t.Fatalf("net/http reads close %v, we keep-alive %v", r.Close, h.KeepAlive)
	}
}
