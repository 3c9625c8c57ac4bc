package limit

import (
	"fmt"
	"net/netip"
	"testing"
)

// The networks around an address are found, the smallest first, and no others.
func TestNets(t *testing.T) {
	n := NewNets(map[netip.Prefix]int64{
		netip.MustParsePrefix("192.0.2.7/24"): 1, netip.MustParsePrefix("192.0.2.1/32"): 2, netip.MustParsePrefix("2001:db8::/32"): 3, netip.MustParsePrefix("0.0.0.0/0"): 4,
	})
	for addr, want := range map[string]string{
		"192.0.2.1": "[2 1 4]", "192.0.2.2": "[1 4]", "::ffff:192.0.2.2": "[1 4]", "192.0.3.1": "[4]", "2001:db8::1": "[3]", "2001:db8::1%eth0": "[3]", "2001:db9::1": "[]", "::1": "[]",
	} {
		var got []int64
		n.All(netip.MustParseAddr(addr), func(v int64) bool { got = append(got, v); return true })
		if s := fmt.Sprint(got); s != want {
			t.Errorf("%s: %s, want %s", addr, s, want)
		}
	}
	n.All(netip.Addr{}, func(int64) bool { t.Error("around nothing"); return true })
	calls := 0
	n.All(netip.MustParseAddr("192.0.2.1"), func(int64) bool { calls++; return false })
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}
