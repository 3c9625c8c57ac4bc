package codec

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const wsTestKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 §1.3

func wsUpgradeRequest(replace ...string) string {
	head := httpLines("GET /any?x HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
		"Sec-WebSocket-Key: "+wsTestKey, "Sec-WebSocket-Version: 13")
	return strings.NewReplacer(replace...).Replace(head)
}

func TestCheckUpgrade(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace []string
		want    *HTTPError
	}{
		{"good", nil, nil},
		{"any Origin", []string{"Host: a", "Host: a\r\nOrigin: http://elsewhere"}, nil},
		{"no body is no body", []string{"Host: a", "Host: a\r\nContent-Length: 0"}, nil},
		{"POST", []string{"GET", "POST"}, errUpgradeMethod},
		{"HTTP/1.0", []string{"HTTP/1.1", "HTTP/1.0"}, errUpgradeHTTP},
		{"other Upgrade", []string{": websocket", ": h2c"}, errUpgradeUpgrade},
		{"Connection lost", []string{", Upgrade", ""}, errUpgradeConnection},
		{"body", []string{"Host: a", "Host: a\r\nContent-Length: 1"}, errUpgradeBody},
		{"chunked body", []string{"Host: a", "Host: a\r\nTransfer-Encoding: chunked"}, errUpgradeBody},
		{"version 8", []string{": 13", ": 8"}, errUpgradeVersion},
		{"version list", []string{": 13", ": 13, 8"}, errUpgradeVersion},
		{"no version", []string{"Sec-WebSocket-Version", "X"}, errUpgradeVersion},
		{"no key", []string{"Sec-WebSocket-Key", "X"}, errUpgradeKey},
		{"short key", []string{wsTestKey, wsTestKey[4:]}, errUpgradeKey},
		{"long key", []string{wsTestKey, "AAAA" + wsTestKey}, errUpgradeKey},
		{"key of 17 bytes", []string{wsTestKey, "AAAAAAAAAAAAAAAAAAAAAAA="}, errUpgradeKey},
		{"key of 18 bytes", []string{wsTestKey, "AAAAAAAAAAAAAAAAAAAAAAAA"}, errUpgradeKey},
		{"key not base64", []string{wsTestKey, "!!!!IHNhbXBsZSBub25jZQ=="}, errUpgradeKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := httpParse(t, wsUpgradeRequest(c.replace...), httpTestLimit)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			if h.IsUpgrade() != (c.want != errUpgradeUpgrade) {
				t.Errorf("IsUpgrade is %v", h.IsUpgrade())
			}
			err = h.CheckUpgrade()
			if err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// The key and its answer are those of RFC 6455 §1.3.
func TestAppendUpgradeResponse(t *testing.T) {
	want := httpLines("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
	got := AppendUpgradeResponse([]byte("x"), []byte(wsTestKey), nil)
	if string(got) != "x"+want || len(want) != 129 {
		t.Errorf("%d bytes: %q", len(got)-1, got)
	}
}

func readHTTPResponse(t *testing.T, b []byte) (*http.Response, string) {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(b))
	r, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || br.Buffered() != 0 {
		t.Fatalf("%q: %v, %d bytes behind it", b, err, br.Buffered())
	}
	return r, string(body)
}

func TestAppendHTTPResponse(t *testing.T) {
	got := AppendHTTPResponse(nil, 200, "text/plain", []byte("ok"), true, HTTPHeader{"X-A", "1"}, HTTPHeader{"X-B", "2"})
	want := httpLines("HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Length: 2", "Connection: keep-alive", "X-A: 1", "X-B: 2") + "ok"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = AppendHTTPResponse(nil, 404, "", nil, false)
	if want := httpLines("HTTP/1.1 404 Not Found", "Content-Length: 0", "Connection: close"); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, status := range []int{100, 204, 304} {
		got := string(AppendHTTPResponse(nil, status, "", []byte("body"), true))
		if strings.Contains(got, "body") || strings.Contains(got, "Content-Length") {
			t.Errorf("%d with a body: %q", status, got)
		}
	}
	if r, _ := readHTTPResponse(t, AppendHTTPResponse(nil, 299, "", nil, true)); r.StatusCode != 299 {
		t.Errorf("status without a name: %v", r)
	}
}

// An echoed value cannot begin a header or a second response.
func TestAppendHTTPResponseCannotBeSplit(t *testing.T) {
	evil := "http://x\r\nSet-Cookie: a\r\n\r\nHTTP/1.1 200 OK\x00"
	r, _ := readHTTPResponse(t, AppendHTTPResponse(nil, 200, "", nil, true, HTTPHeader{"Access-Control-Allow-Origin", evil}))
	if r.Header.Get("Set-Cookie") != "" || len(r.Header) != 3 {
		t.Errorf("headers %v", r.Header)
	}
}

func TestAppendHTTPError(t *testing.T) {
	for _, c := range []struct {
		err           *HTTPError
		header, value string
	}{
		{errHTTPBareLF, "", ""}, {errHTTPTooLong, "", ""}, {errHTTPVersion, "", ""}, {errHTTPCoding, "", ""},
		{errUpgradeMethod, "Allow", "GET"},
		{errUpgradeVersion, "Sec-Websocket-Version", "13"},
		{errUpgradeVersion, "Upgrade", "websocket"},
	} {
		r, body := readHTTPResponse(t, AppendHTTPError(nil, c.err))
		if r.StatusCode != c.err.Status || r.Status == "" || body != c.err.Reason || !r.Close {
			t.Errorf("%v: %v %q close %v", c.err, r.Status, body, r.Close)
		}
		if c.header != "" && r.Header.Get(c.header) != c.value {
			t.Errorf("%v: %s is %q", c.err, c.header, r.Header.Get(c.header))
		}
		if statusText(c.err.Status) != http.StatusText(c.err.Status) && c.err.Status != 413 {
			t.Errorf("%d is called %q", c.err.Status, statusText(c.err.Status))
		}
	}
}
