package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// guard keeps out what pages of the web have a browser ask, which may reach addresses that they cannot. Such a request says where it
// comes from (Sec-Fetch-Site, Origin); or the page's own name was made to point here (DNS rebinding), and then Host has that name.
// Nobody on the web can have a name without a dot: top-level domains have no addresses, which ICANN sees to.
func guard(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused := ""
		switch {
		case !known(r.Host, hosts):
			refused = "this host name is not known: ask by address, or have the name in -admin-hosts"
		case foreign(r):
			refused = "this is not for pages of other sites"
		}
		if refused != "" {
			w.Header().Set("Connection", "close")
			http.Error(w, refused, http.StatusForbidden)
			return
		}
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// known tells whether a Host header names an address, a name without a dot, or one of hosts. Browsers always send one, the probes
// of some load balancers do not.
func known(host string, hosts []string) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && !strings.Contains(host, ".") || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// foreign tells whether a browser asks for a page that is not ours.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// maxProfileSeconds is how long a profile may be recorded; pprof itself would record for days.
const maxProfileSeconds = 60

// oneAtATime refuses requests while another one is served, as each profile costs what it measures, and those for ever.
func oneAtATime(next http.Handler) http.Handler {
	busy := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64); err == nil && !(seconds <= maxProfileSeconds) {
			http.Error(w, "a profile may have 60 seconds", http.StatusBadRequest)
			return
		}
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "30")
			http.Error(w, "another profile is being made; try again later", http.StatusTooManyRequests)
		}
	})
}
