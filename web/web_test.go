package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestEveryFileIsTypedTaggedAndCompressed(t *testing.T) {
	tags := make(map[string]string)
	for _, f := range Files("") {
		if f.ContentType == "" || len(f.Body) == 0 || !strings.HasPrefix(f.Path, "/") {
			t.Errorf("%q: type %q, %d bytes", f.Path, f.ContentType, len(f.Body))
		}
		if !regexp.MustCompile(`^W/"[\w-]{16}"$`).MatchString(f.ETag) || tags[f.ETag] != "" {
			t.Errorf("%s: tag %s, which %q has too", f.Path, f.ETag, tags[f.ETag])
		}
		tags[f.ETag] = f.Path
		if f.Gzip == nil {
			continue
		}
		if len(f.Gzip) >= len(f.Body) {
			t.Errorf("%s: %d bytes compressed, %d as it is", f.Path, len(f.Gzip), len(f.Body))
		}
		r, err := gzip.NewReader(bytes.NewReader(f.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r); err != nil || !bytes.Equal(body, f.Body) {
			t.Errorf("%s: decompressed it is something else: %v", f.Path, err)
		}
	}
}

func TestWhatDoesNotShrinkIsNotCompressed(t *testing.T) {
	if f := new(packer).file("dot.svg", []byte("<svg/>")); f.Gzip != nil || f.Path != "/dot.svg" {
		t.Errorf("%q has %d compressed bytes", f.Path, len(f.Gzip))
	}
}

func TestETagFollowsContent(t *testing.T) {
	if a, b, c := new(packer).file("a.js", []byte("1")), new(packer).file("a.js", []byte("2")), new(packer).file("a.js", []byte("1")); a.ETag == b.ETag || a.ETag != c.ETag {
		t.Errorf("tags %s and %s for different bodies, %s again for the first", a.ETag, b.ETag, c.ETag)
	}
}

func TestOnlyThePageHasThePolicy(t *testing.T) {
	for _, f := range Files("") {
		if f.CSP != (f.Path == "/") {
			t.Errorf("%s: CSP %v", f.Path, f.CSP)
		}
	}
}

// The page and what it loads name no other server, and the page has nothing inline, which the policy would block.
func TestThePageBringsEverythingItself(t *testing.T) {
	address := regexp.MustCompile(`(?:https?|wss?):?//[\w.]+`)
	inline := regexp.MustCompile(`(?i)<style|<script(?:>| [^>]*>[^<])|<[^>]*\s(?:on\w+|style)\s*=`)
	for _, f := range append(Files(""), Dashboard()...) {
		for _, found := range address.FindAllString(string(f.Body), -1) {
			if found != "http://www.w3.org" && found != "http://127.0.0.1" { // a namespace, and examples in comments
				t.Errorf("%s names %s", f.Path, found)
			}
		}
		if found := inline.Find(f.Body); f.CSP && found != nil {
			t.Errorf("%s has %s inline", f.Path, found)
		}
	}
}

// What a page preloads is all that its scripts import, and no more.
func TestEveryModuleIsPreloaded(t *testing.T) {
	for _, tc := range []struct {
		page, script string
		files        []File
	}{
		{"/", "chat.js", Files("")},
		{"/dashboard/", "dashboard.js", Dashboard()},
	} {
		wanted, loaded := map[string]bool{tc.page + tc.script: true}, map[string]bool{}
		var page File
		for _, f := range tc.files {
			if f.Path == tc.page {
				page = f
			}
			if strings.HasSuffix(f.Path, ".js") {
				for _, m := range regexp.MustCompile(`(?m)(?:from|^import) "(\.[\w./-]+)"`).FindAllStringSubmatch(string(f.Body), -1) {
					wanted[path.Join(path.Dir(f.Path), m[1])] = true
				}
			}
		}
		for _, m := range regexp.MustCompile(`(?:rel="modulepreload" href|type="module" src)="([^"]+)"`).FindAllStringSubmatch(string(page.Body), -1) {
			name := path.Join(tc.page, m[1])
			loaded[name] = true
			if !wanted[name] {
				t.Errorf("%s: %s is loaded, and nothing needs it", tc.page, name)
			}
		}
		for name := range wanted {
			if !loaded[name] {
				t.Errorf("%s: %s is not preloaded", tc.page, name)
			}
		}
	}
}
