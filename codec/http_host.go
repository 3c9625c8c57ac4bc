package codec

import (
	"bytes"
	"net/netip"
)

// What a request says about names, judged before any of it is said back: an answer may not grow
// with what a client invents, nor carry it to others.

// maxHostname is the longest name of a host, bytes (RFC 1035 §2.3.4).
const maxHostname = 255

// Hostname cuts the port off the value of a Host header, RFC 3986 §3.2.2. An address of IPv6 keeps
// its brackets: a client that came by a URL puts the host into the next one. It returns nil for
// what is no host: a name of more than 255 bytes or with other characters than names have (letters,
// digits, hyphen, dot, underscore), a bracket without an address, a port that is no number. The
// result aliases host.
func Hostname(host []byte) []byte {
	name, port := host, []byte(nil)
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		name, port = host[:i], host[i+1:]
	}
	if len(name) == 0 || len(name) > maxHostname || len(port) > 5 {
		return nil
	}
	for _, c := range port {
		if !isDigit(c) {
			return nil
		}
	}
	if name[0] == '[' {
		inside := bytes.TrimSuffix(name[1:], []byte{']'})
		if addr, err := netip.ParseAddr(string(inside)); err != nil || !addr.Is6() || addr.Zone() != "" || len(inside) != len(name)-2 {
			return nil
		}
		return name
	}
	for _, c := range name {
		if !isDigit(c) && !isLetter(c) && c != '-' && c != '.' && c != '_' {
			return nil
		}
	}
	return name
}

// maxOrigin is the longest origin there can be: a scheme, a host and a port, bytes.
const maxOrigin = len("https://") + maxHostname + len(":65535")

// HasOrigin reports whether the request has an Origin header that can be an origin. Any other is
// never repeated in an answer.
func (h *HTTPHead) HasOrigin() bool {
	return len(h.Origin) > 0 && len(h.Origin) <= maxOrigin && bytes.IndexByte(h.Origin, ' ') < 0
}

// OriginIsHost tells whether the Origin names the host and port that the request was sent to, as
// that of a page of this server does, and that of many a library for apps. A port that its scheme
// implies may be missing on either side. The library below socket.io-client 0.9 for Node says host and port
// without a scheme, which no browser does.
func (h *HTTPHead) OriginIsHost() bool {
	if bytes.IndexByte(h.Origin, '/') < 0 && string(h.Origin) != "null" {
		return !h.Absolute && Hostname(h.Host) != nil && sameFold(h.Origin, h.Host)
	}
	for _, scheme := range [...]struct{ prefix, port string }{{"http://", ":80"}, {"https://", ":443"}, {"ws://", ":80"}, {"wss://", ":443"}} {
		n := len(scheme.prefix)
		if len(h.Origin) > n && equalFold(h.Origin[:n], scheme.prefix) {
			port := []byte(scheme.port)
			return !h.Absolute && Hostname(h.Host) != nil &&
				sameFold(bytes.TrimSuffix(h.Origin[n:], port), bytes.TrimSuffix(h.Host, port))
		}
	}
	return false
}

// sameFold compares names of hosts, in ASCII.
func sameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if x, y := a[i], b[i]; x != y && (x|0x20 != y|0x20 || !isLetter(x)) {
			return false
		}
	}
	return true
}

// maxRequestHeaders is the longest list of headers that a preflight is granted, bytes.
const maxRequestHeaders = 512

// RequestHeaders is the value of Access-Control-Request-Headers, which a preflight has (Fetch
// standard, CORS-preflight); nil when it is malformed or too long.
func (h *HTTPHead) RequestHeaders() []byte {
	list := h.AccessControlRequestHeaders
	if len(list) > maxRequestHeaders {
		return nil
	}
	for rest := list; len(rest) > 0; {
		var name []byte
		name, rest, _ = bytes.Cut(rest, []byte{','})
		if !isToken(trimOWS(name)) {
			return nil
		}
	}
	return list
}
