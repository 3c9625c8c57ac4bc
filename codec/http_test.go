package codec

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const httpTestLimit = 1024

// httpDrip parses b as it would arrive one byte at a time.
func httpDrip(t testing.TB, b []byte, limit int) (h HTTPHead, n int, err *HTTPError) {
	t.Helper()
	searched := 0
	for end := 0; end <= len(b); end++ {
		h, n, searched, err = ParseHTTPHead(b[:end:end], searched, limit)
		if n != 0 || err != nil {
			return h, n, err
		}
		if searched > end || searched > limit {
			t.Fatalf("searched %d of %d bytes", searched, end)
		}
	}
	return h, 0, nil
}

// httpParse parses b at once and in drops and expects the same.
func httpParse(t testing.TB, b string, limit int) (HTTPHead, int, *HTTPError) {
	t.Helper()
	h, n, _, err := ParseHTTPHead([]byte(b), 0, limit)
	h2, n2, err2 := httpDrip(t, []byte(b), limit)
	if !reflect.DeepEqual(h, h2) || n != n2 || err != err2 {
		t.Fatalf("at once %+v, %d, %v\nin drops %+v, %d, %v", h, n, err, h2, n2, err2)
	}
	return h, n, err
}

// httpText shows the slices of a head as text, absent ones left out.
func httpText(h HTTPHead) string {
	out := fmt.Sprintf("1.%d %s %s?%s", h.Minor, h.Method, h.Path, h.Query)
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"host", h.Host}, {"origin", h.Origin}, {"type", h.ContentType}, {"key", h.SecWebSocketKey},
		{"version", h.SecWebSocketVersion}, {"protocol", h.SecWebSocketProtocol}, {"for", h.XForwardedFor},
	} {
		if f.value != nil {
			out += fmt.Sprintf(" %s=%q", f.name, f.value)
		}
	}
	if h.ContentLength >= 0 {
		out += fmt.Sprintf(" length=%d", h.ContentLength)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"chunked", h.Chunked}, {"expect", h.ExpectContinue}, {"keep-alive", h.KeepAlive},
		{"upgrade-websocket", h.UpgradeWebSocket}, {"connection-upgrade", h.ConnectionUpgrade},
	} {
		if f.set {
			out += " " + f.name
		}
	}
	return out
}

// httpLines joins header lines the way they travel, blank line included.
func httpLines(s ...string) string { return strings.Join(s, "\r\n") + "\r\n\r\n" }

// httpHeads are accepted; FuzzHTTPHead starts from them and compares them to net/http.
var httpHeads = []struct{ name, head, want string }{
	{"plain", httpLines("GET / HTTP/1.1", "Host: a"), `1.1 GET /? host="a" keep-alive`},
	{"query", httpLines("GET /socket.io/?EIO=3&a=?b HTTP/1.1", "Host: a:80"), `1.1 GET /socket.io/?EIO=3&a=?b host="a:80" keep-alive`},
	{"1.0 without Host", httpLines("GET / HTTP/1.0"), `1.0 GET /?`},
	{"1.0 keep-alive", httpLines("GET / HTTP/1.0", "Connection: Keep-Alive"), `1.0 GET /? keep-alive`},
	{"1.1 close", httpLines("GET / HTTP/1.1", "Host: a", "Connection: foo, Close"), `1.1 GET /? host="a"`},
	{"close beats keep-alive", httpLines("GET / HTTP/1.0", "Connection: keep-alive", "Connection: close"), `1.0 GET /?`},
	{"empty Host", httpLines("GET / HTTP/1.1", "Host:"), `1.1 GET /? host="" keep-alive`},
	{"IPv6 Host", httpLines("GET / HTTP/1.1", "Host: [::1]:3010"), `1.1 GET /? host="[::1]:3010" keep-alive`},
	{"length", httpLines("POST /x HTTP/1.1", "Host: a", "Content-Length: 0042"), `1.1 POST /x? host="a" length=42 keep-alive`},
	{"same length twice", httpLines("POST /x HTTP/1.1", "Host: a", "Content-Length: 4", "content-length: 4"), `1.1 POST /x? host="a" length=4 keep-alive`},
	{"chunked", httpLines("POST /x HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked"), `1.1 POST /x? host="a" chunked keep-alive`},
	{"expect", httpLines("POST /x HTTP/1.1", "Host: a", "Expect: 100-Continue"), `1.1 POST /x? host="a" expect keep-alive`},
	{"expect in 1.0", httpLines("POST /x HTTP/1.0", "Expect: 100-continue"), `1.0 POST /x?`},
	{"white space around values", httpLines("GET / HTTP/1.1", "Host:\t a \t", "Origin:http://x"), `1.1 GET /? host="a" origin="http://x" keep-alive`},
	{"names in any case", httpLines("GET / HTTP/1.1", "hOST: a", "ORIGIN: b", "content-TYPE: c"), `1.1 GET /? host="a" origin="b" type="c" keep-alive`},
	{"unknown headers", httpLines("GET / HTTP/1.1", "X!#$%&'*+-.^_`|~9: \xe9\t\xff", "Host: a", "Empty:"), `1.1 GET /? host="a" keep-alive`},
	{"last X-Forwarded-For", httpLines("GET / HTTP/1.1", "Host: a", "X-Forwarded-For: 1", "X-Forwarded-For: 2, 3"), `1.1 GET /? host="a" for="2, 3" keep-alive`},
	{"absolute target", httpLines("GET HTTP://b:1/p?q HTTP/1.1", "Host: a"), `1.1 GET /p?q host="b:1" keep-alive`},
	{"absolute target without path", httpLines("GET https://b HTTP/1.1", "Host: a"), `1.1 GET /? host="b" keep-alive`},
	{"absolute target with query only", httpLines("GET http://b?q HTTP/1.1", "Host: a"), `1.1 GET /?q host="b" keep-alive`},
	{"asterisk", httpLines("OPTIONS * HTTP/1.1", "Host: a"), `1.1 OPTIONS *? host="a" keep-alive`},
	{"raw bytes in the target", httpLines("GET /\xe6\x88\xbf?\xff HTTP/1.1", "Host: a"), "1.1 GET /\xe6\x88\xbf?\xff host=\"a\" keep-alive"},
	{"tokens in lists", httpLines("GET / HTTP/1.1", "Host: a", "Upgrade: h2c, WebSocket", "Connection: keep-alive,,\tUpgrade ,x"), `1.1 GET /? host="a" keep-alive upgrade-websocket connection-upgrade`},
	{"tokens are whole", httpLines("GET / HTTP/1.1", "Host: a", "Upgrade: websockets, websocket/13", "Connection: upgrade-insecure"), `1.1 GET /? host="a" keep-alive`},
	{"no Unicode folding", httpLines("GET / HTTP/1.1", "Host: a", "Upgrade: websoc\u212aet"), `1.1 GET /? host="a" keep-alive`},
	{"upgrade", httpLines("GET /ws HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: x, y", "Sec-WebSocket-Protocol: z"),
		`1.1 GET /ws? host="a" key="dGhlIHNhbXBsZSBub25jZQ==" version="13" protocol="x, y" keep-alive upgrade-websocket connection-upgrade`},
}

func TestParseHTTPHeadReads(t *testing.T) {
	for _, c := range httpHeads {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := httpParse(t, c.head+"next", httpTestLimit)
			if err != nil || n != len(c.head) {
				t.Fatalf("took %d of %d, %v", n, len(c.head), err)
			}
			if got := httpText(h); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// httpGet is a good request with more headers.
func httpGet(headers ...string) string {
	return httpLines(append([]string{"GET / HTTP/1.1", "Host: a"}, headers...)...)
}

// httpRefusals are refused, each for the one reason that it differs from a good request.
var httpRefusals = []struct {
	name, head string
	want       *HTTPError
}{
	{"bare LF in the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", errHTTPBareLF},
	{"bare LF in a header", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", errHTTPBareLF},
	{"bare LF as blank line", "GET / HTTP/1.1\r\nHost: a\r\n\n", errHTTPBareLF},
	{"LF first", "\nGET / HTTP/1.1", errHTTPBareLF},
	{"bare CR in a value", httpGet("X: a\rb"), errHTTPValue},
	{"CR before CRLF", httpGet("X: a\r"), errHTTPValue},
	{"CR alone on a line", httpGet("\r"), errHTTPName},
	{"bare CR in the request line", httpLines("GET /\r HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"blank line first", "\r\nGET / HTTP/1.1\r\n", errHTTPRequestLine},
	{"folded with space", httpGet("X: a", " b"), errHTTPFolded},
	{"folded with tab", httpGet("X: a", "\tb"), errHTTPFolded},
	{"folded before the first header", httpLines("GET / HTTP/1.1", " Host: a"), errHTTPFolded},
	{"space before colon", httpGet("Content-Length : 5"), errHTTPName},
	{"tab before colon", httpGet("Content-Length\t: 5"), errHTTPName},
	{"empty name", httpGet(": x"), errHTTPName},
	{"no colon", httpGet("Content-Length"), errHTTPName},
	{"name with a slash", httpGet("a/b: x"), errHTTPName},
	{"name with a high byte", httpGet("Conte\u0212t: x"), errHTTPName},
	{"name with NUL", httpGet("a\x00: x"), errHTTPName},
	{"NUL in a value", httpGet("X: a\x00b"), errHTTPValue},
	{"escape in a value", httpGet("X: \x1b[0m"), errHTTPValue},
	{"DEL in a value", httpGet("X: \x7f"), errHTTPValue},
	{"two Hosts", httpGet("Host: b"), errHTTPDuplicate},
	{"the same Host twice", httpGet("Host: a"), errHTTPDuplicate},
	{"Host with a space", httpLines("GET / HTTP/1.1", "Host: a b"), errHTTPHost},
	{"Host with a path", httpLines("GET / HTTP/1.1", "Host: a/b"), errHTTPHost},
	{"Host with a user", httpLines("GET / HTTP/1.1", "Host: u@b"), errHTTPHost},
	{"no Host", httpLines("GET / HTTP/1.1"), errHTTPNoHost},
	{"no Host with absolute target", httpLines("GET http://a/ HTTP/1.1"), errHTTPNoHost},
	{"lengths differ", httpGet("Content-Length: 5", "Content-Length: 6"), errHTTPFraming},
	{"length list", httpGet("Content-Length: 5, 5"), errHTTPLength},
	{"length with sign", httpGet("Content-Length: +5"), errHTTPLength},
	{"negative length", httpGet("Content-Length: -5"), errHTTPLength},
	{"empty length", httpGet("Content-Length:"), errHTTPLength},
	{"length in hex", httpGet("Content-Length: 0x5"), errHTTPLength},
	{"length overflows", httpGet("Content-Length: 92233720368547758070"), errHTTPLength},
	{"length and chunked", httpGet("Content-Length: 5", "Transfer-Encoding: chunked"), errHTTPFraming},
	{"chunked and length", httpGet("Transfer-Encoding: chunked", "Content-Length: 5"), errHTTPFraming},
	{"chunked twice", httpGet("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), errHTTPFraming},
	{"chunked in 1.0", httpLines("POST / HTTP/1.0", "Transfer-Encoding: chunked"), errHTTPFraming},
	{"gzip coding", httpGet("Transfer-Encoding: gzip, chunked"), errHTTPCoding},
	{"identity coding", httpGet("Transfer-Encoding: identity"), errHTTPCoding},
	{"coding with a tail", httpGet("Transfer-Encoding: chunked;x"), errHTTPCoding},
	{"coding with vertical tab", httpGet("Transfer-Encoding: \x0bchunked"), errHTTPValue},
	{"empty coding", httpGet("Transfer-Encoding:"), errHTTPCoding},
	{"two Origins", httpGet("Origin: a", "Origin: a"), errHTTPDuplicate},
	{"two keys", httpGet("Sec-WebSocket-Key: a", "Sec-WebSocket-Key: b"), errHTTPDuplicate},
	{"two versions", httpGet("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), errHTTPDuplicate},
	{"two content types", httpGet("Content-Type: a", "Content-Type: b"), errHTTPDuplicate},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", errHTTPVersion},
	{"HTTP/1.2", httpLines("GET / HTTP/1.2", "Host: a"), errHTTPVersion},
	{"HTTP/0.9", httpLines("GET / HTTP/0.9"), errHTTPVersion},
	{"no version", httpLines("GET /"), errHTTPRequestLine},
	{"version in lower case", httpLines("GET / http/1.1", "Host: a"), errHTTPRequestLine},
	{"version with a tail", httpLines("GET / HTTP/1.10", "Host: a"), errHTTPRequestLine},
	{"two spaces", httpLines("GET  / HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"space at the end", httpLines("GET / HTTP/1.1 ", "Host: a"), errHTTPRequestLine},
	{"tab as space", httpLines("GET\t/ HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"method with a slash", httpLines("G/T / HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"no method", httpLines(" / HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"no target", httpLines("GET HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"NUL in the target", httpLines("GET /\x00 HTTP/1.1", "Host: a"), errHTTPRequestLine},
	{"relative target", httpLines("GET x HTTP/1.1", "Host: a"), errHTTPTarget},
	{"fragment", httpLines("GET /a#b HTTP/1.1", "Host: a"), errHTTPTarget},
	{"asterisk with GET", httpLines("GET * HTTP/1.1", "Host: a"), errHTTPTarget},
	{"other scheme", httpLines("GET ftp://a/ HTTP/1.1", "Host: a"), errHTTPTarget},
	{"absolute target without host", httpLines("GET http:///x HTTP/1.1", "Host: a"), errHTTPTarget},
	{"absolute target with user", httpLines("GET http://u@b/ HTTP/1.1", "Host: a"), errHTTPTarget},
	{"CONNECT", httpLines("CONNECT a:80 HTTP/1.1", "Host: a:80"), errHTTPConnect},
	{"too long, end in sight", httpGet("X: " + strings.Repeat("x", httpTestLimit)), errHTTPTooLong},
	{"too long, no end", "GET /" + strings.Repeat("x", httpTestLimit), errHTTPTooLong},
	{"too many headers", httpGet(strings.Repeat("a:b\r\n", httpTestLimit/5) + "c:d"), errHTTPTooLong},
}

func TestParseHTTPHeadRefuses(t *testing.T) {
	for _, c := range httpRefusals {
		t.Run(c.name, func(t *testing.T) {
			_, n, err := httpParse(t, c.head, httpTestLimit)
			if n != 0 || err != error(c.want) {
				t.Errorf("took %d, %v, want %v", n, err, c.want)
			}
		})
	}
}

func TestParseHTTPHeadWaits(t *testing.T) {
	head := httpLines("GET / HTTP/1.1", "Host: a")
	for cut := range head {
		if _, n, err := httpParse(t, head[:cut], httpTestLimit); n != 0 || err != nil {
			t.Errorf("with %d of %d bytes: %d, %v", cut, len(head), n, err)
		}
	}
	if _, n, err := httpParse(t, head, len(head)); n != len(head) || err != nil {
		t.Errorf("at the limit: %d, %v", n, err)
	}
	if _, _, err := httpParse(t, head, len(head)-1); err != errHTTPTooLong {
		t.Errorf("over the limit: %v", err)
	}
}

// A dripping client costs O(n): behind searched nothing is looked at again.
func TestParseHTTPHeadSearchesOnce(t *testing.T) {
	head := []byte(httpLines("GET / HTTP/1.1", "Host: a"))
	_, _, searched, _ := ParseHTTPHead(head[:len(head)-1], 0, httpTestLimit)
	if searched != len(head)-1 {
		t.Fatalf("searched %d of %d", searched, len(head)-1)
	}
	if _, n, _, err := ParseHTTPHead(head, searched, httpTestLimit); n != len(head) || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
}

func TestSniffTransport(t *testing.T) {
	for first := range 256 {
		got, ok := SniffTransport([]byte{byte(first)})
		letter := first >= 'A' && first <= 'Z' || first >= 'a' && first <= 'z'
		more := letter || first == '\r'
		if more && (ok || got != TransportUnknown) || !more && (!ok || got != TransportTCP) {
			t.Errorf("first byte %02x: %v, %v", first, got, ok)
		}
	}
	for _, c := range []struct {
		in   string
		want Transport
	}{
		{"", TransportUnknown}, {"G", TransportUnknown}, {"GET", TransportUnknown},
		{"GET ", TransportHTTP}, {"GET /", TransportHTTP}, {"POST / HTTP/1.1", TransportHTTP}, {"PUT ", TransportHTTP},
		{"HEAD", TransportHTTP}, {"DELE", TransportHTTP}, {"OPTI", TransportHTTP}, {"PATC", TransportHTTP},
		{"CONN", TransportHTTP}, {"TRAC", TransportHTTP}, {"PRI ", TransportHTTP},
		{"GETX", TransportTCP}, {"get ", TransportTCP}, {"SSH-2.0", TransportTCP}, {"BREW", TransportTCP},
		{"\x01\x00\x00\x00", TransportTCP}, {"\x16\x03\x01", TransportTCP},
		{"\r\n", TransportUnknown}, {"\r\nGET", TransportUnknown}, {"\r\nGET ", TransportHTTP}, {"\r\nPOST", TransportHTTP},
		{"\rG", TransportTCP}, {"\n", TransportTCP}, {"\r\n\r\nGET ", TransportTCP}, {"\r\n\x01", TransportTCP}, {"\r\nSSH-", TransportTCP},
	} {
		if got, ok := SniffTransport([]byte(c.in)); got != c.want || ok != (c.want != TransportUnknown) {
			t.Errorf("%q: %v, %v", c.in, got, ok)
		}
	}
}

func TestEqualFoldFoldsOnlyASCIILetters(t *testing.T) {
	for c := range 256 {
		folded := byte(c)
		if 'A' <= c && c <= 'Z' {
			folded += 'a' - 'A'
		}
		for lower := range 256 {
			if lower >= 'A' && lower <= 'Z' {
				continue
			}
			if got := equalFold([]byte{byte(c)}, string([]byte{byte(lower)})); got != (folded == byte(lower)) {
				t.Errorf("%02x and %02x: %v", c, lower, got)
			}
		}
	}
}

func TestHTTPErrorsAreTyped(t *testing.T) {
	_, _, _, err := ParseHTTPHead([]byte("x\n"), 0, 100)
	if err == nil || err.Status != 400 || !strings.Contains(err.Error(), err.Reason) {
		t.Errorf("got %v", err)
	}
	if _, _, _, err := ParseHTTPHead(bytes.Repeat([]byte("x"), 9), 0, 10); err != nil {
		t.Errorf("a typed nil came back as an error: %v", err)
	}
}
