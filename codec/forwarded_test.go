package codec

import (
	"net/netip"
	"strings"
	"testing"
)

// The client is the first from the right that is no trusted proxy; what is left of it is not believed.
func TestForwardedFor(t *testing.T) {
	inside := netip.MustParsePrefix("10.0.0.0/8")
	trusted := func(a netip.Addr) bool { return inside.Contains(a) }
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"192.0.2.1"}, "192.0.2.1"},
		{[]string{"198.51.100.9, 192.0.2.1"}, "192.0.2.1"},
		{[]string{"10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		{[]string{"198.51.100.9, 192.0.2.1, 10.0.0.1"}, "192.0.2.1"},
		{[]string{"198.51.100.9,192.0.2.1,10.0.0.1,\t10.0.0.2 "}, "192.0.2.1"},
		{[]string{"10.0.0.7, 10.0.0.1"}, "10.0.0.7"},
		{[]string{"192.0.2.1, , 10.0.0.1,"}, "192.0.2.1"},
		{[]string{"2001:db8::1"}, "2001:db8::1"},
		{[]string{"[2001:db8::1]"}, "2001:db8::1"},
		{[]string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{[]string{"192.0.2.1:4711"}, "192.0.2.1"},
		{[]string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{[]string{"::ffff:10.0.0.1"}, "10.0.0.1"},
		{[]string{"192.0.2.1, unknown"}, "error"},
		{[]string{"192.0.2.1, unknown, 10.0.0.1"}, "error"},
		{[]string{"unknown, 192.0.2.1"}, "192.0.2.1"},
		{[]string{"192.0.2.1, " + strings.Repeat("9", 1000)}, "error"},
		{[]string{"198.51.100.9", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"198.51.100.9, 192.0.2.1", "10.0.0.2"}, "192.0.2.1"},
		{[]string{"192.0.2.1", "10.0.0.3", "10.0.0.2", "10.0.0.1"}, "192.0.2.1"},
		{[]string{"192.0.2.1", "10.0.0.4", "10.0.0.3", "10.0.0.2", "10.0.0.1"}, "10.0.0.4"}, // no more than four lines
	} {
		text := "GET / HTTP/1.1\r\nHost: h\r\n"
		for _, line := range c.lines {
			text += "X-Forwarded-For: " + line + "\r\nX-Other: 1\r\n"
		}
		h, n, _, err := ParseHTTPHead([]byte(text+"\r\n"), 0, 1<<16)
		if err != nil || n == 0 {
			t.Fatal(err)
		}
		want := netip.Addr{}
		if c.want != "" && c.want != "error" {
			want = netip.MustParseAddr(c.want)
		}
		if got, err := h.ForwardedFor(trusted); got != want || (err != nil) != (c.want == "error") {
			t.Errorf("%q: %v, %v, want %v", c.lines, got, err, c.want)
		}
	}
}

// FuzzForwardedFor: with a chain that a trusted proxy wrote, nothing a client has sent before it makes a difference.
func FuzzForwardedFor(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.1", false)
	f.Add("[::1]:5, unknown", true)
	f.Fuzz(func(t *testing.T, sent string, own bool) {
		if len(sent) > 1000 || !isFieldValue([]byte(sent)) {
			return
		}
		text := "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + sent
		if own {
			text += "\r\nX-Forwarded-For: 192.0.2.7\r\nx-forwarded-for: 10.0.0.1\r\n\r\n"
		} else {
			text += ", 192.0.2.7, 10.0.0.1\r\n\r\n"
		}
		h, n, _, err := ParseHTTPHead([]byte(text), 0, 1<<16)
		if err != nil || n == 0 {
			t.Skip(err)
		}
		trusted := func(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{10, 0, 0, 1}) }
		if got, err := h.ForwardedFor(trusted); err != nil || got != netip.AddrFrom4([4]byte{192, 0, 2, 7}) {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
	})
}
