package admin

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/pomelod/pomelod/web"
)

// DashboardPath is where the page of operators is.
const DashboardPath = "/dashboard/"

// serveDashboard has mux answer with the page of operators, and what it loads. Nothing of that is secret, so it needs no token: what the page asks for does.
func serveDashboard(mux *http.ServeMux) {
	mux.Handle("GET "+strings.TrimSuffix(DashboardPath, "/"), http.RedirectHandler(DashboardPath, http.StatusMovedPermanently))
	for i, path := range web.DashboardPaths() {
		mux.HandleFunc("GET "+exactly(path), func(w http.ResponseWriter, r *http.Request) {
			f := &web.Dashboard()[i] // of a server that nobody looks at nothing is compressed
			h := w.Header()
			h.Set("Content-Type", f.ContentType)
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			if f.CSP {
				h.Set("Content-Security-Policy", web.DashboardPolicy)
				h.Set("Cross-Origin-Opener-Policy", "same-origin")
			}
			body := f.Body
			if f.Gzip != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.Set("Content-Encoding", "gzip")
				body = f.Gzip
			}
			_, _ = w.Write(body)
		})
	}
}

// Window is what a browser on this machine sees of an admin socket (pomelod dashboard): the page, and what the page asks for with a token. So other users of
// the machine, who can reach the address of a Window as well, can do nothing by it. dial opens a connection to the socket, with the rights of who runs this.
func Window(secret string, dial func(context.Context) (net.Conn, error)) *http.Server {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "pomelod"
			r.Out.Header.Del("Authorization")
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			refuse(w, http.StatusBadGateway, "pomelod does not answer: "+err.Error())
		},
	}
	tokens := new(Tokens)
	tokens.now.Store(&[]token{{"window", sha256.Sum256([]byte(secret))}})
	mux := http.NewServeMux()
	mux.Handle("/", (&Source{Tokens: tokens}).authorized(proxy))
	for _, path := range web.DashboardPaths() {
		mux.HandleFunc("GET "+exactly(path), func(w http.ResponseWriter, r *http.Request) {
			r.Body, r.ContentLength = http.NoBody, 0 // whoever asks without a token holds no connection to the socket by a body that does not come
			proxy.ServeHTTP(w, r)
		})
	}
	return &http.Server{Handler: guard(nil, mux), ReadTimeout: readTimeout, WriteTimeout: answerTimeout, MaxHeaderBytes: 16 << 10}
}

// exactly is the pattern of a path alone, without what is below it.
func exactly(path string) string {
	if strings.HasSuffix(path, "/") {
		return path + "{$}"
	}
	return path
}
