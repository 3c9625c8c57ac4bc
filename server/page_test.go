//go:build linux

package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"

	"github.com/pomelod/pomelod/web"
)

// Every file of the page is served on connector and gate, as it is and compressed, and not again while it is the same.
func TestPage(t *testing.T) {
	s := start(t)
	plain := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer plain.CloseIdleConnections()
	get := func(url string, header ...string) (*http.Response, []byte) {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := plain.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
	for _, ln := range s.listeners {
		for _, f := range web.Files("") {
			url := "http://" + ln.Addr.String() + f.Path
			res, body := get(url)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != f.ContentType || !bytes.Equal(body, f.Body) {
				t.Errorf("%s: %s, %d bytes", url, res.Status, len(body))
			}
			if policy := res.Header.Get("Content-Security-Policy"); f.CSP && policy != web.Policy {
				t.Errorf("%s: policy %q", url, policy)
			}
			if again, _ := get(url, "If-None-Match", res.Header.Get("ETag")); again.StatusCode != 304 {
				t.Errorf("%s again: %s", url, again.Status)
			}
			res, body = get(url, "Accept-Encoding", "br, gzip;q=0.5")
			if f.Gzip == nil {
				continue
			}
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if unpacked, err := io.ReadAll(r); err != nil || !bytes.Equal(unpacked, f.Body) || res.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("%s compressed: %v, %d bytes", url, err, len(unpacked))
			}
			if res, _ = get(url, "Accept-Encoding", "gzip;q=0"); res.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s: compressed for a client that refuses it", url)
			}
		}
	}
}
