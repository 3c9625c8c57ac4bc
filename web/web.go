// Package web carries the chat page and the client module for browsers, and the page of operators, ready to be served: what the files say, how they are
// typed, tagged and compressed. It opens no socket; whoever serves them adds the HTTP.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Policy is the Content-Security-Policy of the page. Scripts, styles and images come from the server itself; connections may go anywhere,
// as the gate may name any host. Trusted Types keep text from becoming markup: the only policy is the one for the worker's script.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss: http: https:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types chat-worker"

// DashboardPolicy is the Content-Security-Policy of the operators' page. Nothing may come from or go to anywhere else.
const DashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// File is a static file and its HTTP headers.
type File struct {
	Path        string // of the URL, such as /chat.js
	ContentType string
	ETag        string // quoted and weak: both bodies have the same
	Body        []byte
	Gzip        []byte // Body compressed; nil when that is not smaller
	CSP         bool   // a page: send its policy with it
}

//go:embed *.html *.css *.js *.d.ts *.svg chat
var content embed.FS

//go:embed dashboard chat.css chat/language.js favicon.svg
var dashboard embed.FS

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".ts":   "text/plain; charset=utf-8", // browsers take .ts for video
	".svg":  "image/svg+xml",
}

// loginURL is where index.html says where visitors log in.
const loginURL = `<meta name="login-url" content="`

// Files returns the page and its client module. Visitors of the page who have no token are sent to login, a URL; empty for nowhere. Each call compresses
// them anew, so call it once.
func Files(login string) []File {
	return filesOf(content, func(name string, body []byte) []byte {
		if login != "" && path.Ext(name) == ".html" {
			body = bytes.Replace(body, []byte(loginURL), []byte(loginURL+html.EscapeString(login)), 1)
		}
		return body
	})
}

// Dashboard returns the page of operators, /dashboard/, and what it loads. They are made when they are asked for first, and must not be changed.
var Dashboard = sync.OnceValue(func() []File {
	return filesOf(dashboard, func(_ string, body []byte) []byte { return body })
})

// DashboardPaths are the paths of what Dashboard returns. They cost nothing.
func DashboardPaths() (paths []string) {
	for _, name := range namesOf(dashboard) {
		paths = append(paths, pathOf(name))
	}
	return paths
}

// filesOf is what is in a tree, with each body as change makes it.
func filesOf(tree fs.FS, change func(name string, body []byte) []byte) (files []File) {
	var packer packer
	for _, name := range namesOf(tree) {
		body, err := fs.ReadFile(tree, name)
		if err != nil {
			panic(err) // what is embedded can be read
		}
		files = append(files, packer.file(name, change(name, body)))
	}
	return files
}

// namesOf are the names of the files in a tree.
func namesOf(tree fs.FS) (names []string) {
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return names
}

// pathOf is where a file is found by a URL.
func pathOf(name string) string { return "/" + strings.TrimSuffix(name, "index.html") }

// packer makes files. It has one compressor for all of them: one takes 0.8 MB, which would be most of what a process that has just started has.
type packer struct {
	gzip *gzip.Writer
	out  bytes.Buffer
}

func (p *packer) file(name string, body []byte) File {
	hash := sha256.Sum256(body)
	return File{
		Path:        pathOf(name),
		ContentType: contentTypes[path.Ext(name)],
		ETag:        `W/"` + base64.RawURLEncoding.EncodeToString(hash[:12]) + `"`,
		Body:        body,
		Gzip:        p.compress(body),
		CSP:         path.Ext(name) == ".html",
	}
}

// compress is body compressed; nil when that is not smaller.
func (p *packer) compress(body []byte) []byte {
	p.out.Reset()
	if p.gzip == nil {
		var err error
		if p.gzip, err = gzip.NewWriterLevel(&p.out, gzip.BestCompression); err != nil {
			panic(err) // the level is a valid one
		}
	} else {
		p.gzip.Reset(&p.out)
	}
	p.gzip.Write(body) // a bytes.Buffer takes everything
	p.gzip.Close()
	if p.out.Len() >= len(body) {
		return nil
	}
	return bytes.Clone(p.out.Bytes())
}
