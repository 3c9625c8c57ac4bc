package router

import (
	"fmt"
	"net/url"
	"strings"
)

// Origins is a list of origins (RFC 6454) that a browser's Origin header may name. The zero Origins allows all.
type Origins struct {
	exact map[string]struct{}
	wild  []wildOrigin
}

// wildOrigin is https://*.example.com:8443, taken apart at the star.
type wildOrigin struct{ scheme, rest string }

// ParseOrigins reads origins such as https://chat.example.com, http://localhost:8080 and https://*.example.com, which is
// every host below example.com at any depth and not example.com itself. "null" and "file://" are what browsers call pages
// that have no origin.
func ParseOrigins(list []string) (o Origins, err error) {
	for _, text := range list {
		if text == "null" || text == "file://" {
			o.add(text)
			continue
		}
		u, err := url.Parse(strings.ToLower(text))
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.ContainsAny(text, "?#@") {
			return o, fmt.Errorf("origin %q: must be scheme://host or scheme://host:port, without a path, or scheme://*.host", text)
		}
		host := u.Host
		if u.Scheme == "http" {
			host = strings.TrimSuffix(host, ":80") // browsers leave it out
		} else if u.Scheme == "https" {
			host = strings.TrimSuffix(host, ":443")
		}
		rest, wild := strings.CutPrefix(host, "*.")
		if strings.Contains(rest, "*") || strings.HasPrefix(rest, ":") || rest == "" {
			return o, fmt.Errorf("origin %q: a star may only stand for the first part of a host, as in https://*.example.com", text)
		}
		if wild {
			o.wild = append(o.wild, wildOrigin{u.Scheme + "://", "." + rest})
		} else {
			o.add(u.Scheme + "://" + host)
		}
	}
	return o, nil
}

func (o *Origins) add(origin string) {
	if o.exact == nil {
		o.exact = make(map[string]struct{})
	}
	o.exact[origin] = struct{}{}
}

// allow tells whether a page of origin may connect.
func (o *Origins) allow(origin []byte) bool { return len(o.exact)+len(o.wild) == 0 || o.lists(origin) }

// lists tells whether origin, as a browser sends it (in lower case), is in the list.
func (o *Origins) lists(origin []byte) bool {
	if _, ok := o.exact[string(origin)]; ok {
		return true
	}
	for i := range o.wild {
		if o.wild[i].matches(string(origin)) {
			return true
		}
	}
	return false
}

// matches tells whether what stands for the star is a part of a host: in an address of another shape it may end one.
func (w *wildOrigin) matches(origin string) bool {
	name, ok := strings.CutPrefix(origin, w.scheme)
	if !ok {
		return false
	}
	if name, ok = strings.CutSuffix(name, w.rest); !ok || name == "" {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}
