package codec

import (
	"bytes"
	"net/netip"
)

// forwardedLines is how many lines of X-Forwarded-For are kept: some proxies add a line of their own instead of adding to the
// one they got.
const forwardedLines = 4

// forwarded takes note of a line of X-Forwarded-For. Of more than forwardedLines the first are forgotten.
func (h *HTTPHead) forwarded(value []byte) {
	copy(h.earlierForwardedFor[1:], h.earlierForwardedFor[:])
	h.earlierForwardedFor[0] = h.XForwardedFor
	h.XForwardedFor = value
}

// ForwardedFor is the client's address as X-Forwarded-For tells it, for a request that came from a trusted proxy. Each proxy appends
// an address at the right. So the client is the rightmost address that is not a trusted proxy's, or the leftmost if all are trusted; what
// stands to the left of it may be made up. The result is not valid when the header is missing or empty. The error is ErrForwardedFor
// when there is no address where the client's should be.
func (h *HTTPHead) ForwardedFor(trusted func(netip.Addr) bool) (client netip.Addr, err error) {
	for i := -1; i < len(h.earlierForwardedFor); i++ {
		line := h.XForwardedFor
		if i >= 0 {
			line = h.earlierForwardedFor[i]
		}
		for len(line) > 0 {
			item := line
			if comma := bytes.LastIndexByte(line, ','); comma >= 0 {
				line, item = line[:comma], line[comma+1:]
			} else {
				line = nil
			}
			if item = trimOWS(item); len(item) == 0 {
				continue // an empty list item says nothing (RFC 9110 §5.6.1)
			}
			a, ok := forwardedAddr(item)
			if !ok {
				return netip.Addr{}, ErrForwardedFor
			}
			if client = a; !trusted(a) {
				return client, nil
			}
		}
	}
	return client, nil
}

// ErrForwardedFor refuses a request of which a trusted proxy tells no address: it must not count for the proxy, which is exempt from
// what one address may.
var ErrForwardedFor = &HTTPError{Status: 400, Reason: "X-Forwarded-For has no address where the proxy's client should be"}

// forwardedAddr reads an address as proxies write them: bare, in brackets, with or without a port.
func forwardedAddr(b []byte) (netip.Addr, bool) {
	if len(b) > 64 {
		return netip.Addr{}, false
	}
	text := string(b)
	a, err := netip.ParseAddr(text)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(text); err == nil {
			a = ap.Addr()
		} else if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
			a, err = netip.ParseAddr(text[1 : n-1])
		}
	}
	return a.Unmap().WithZone(""), err == nil
}
