package limit

import (
	"cmp"
	"net/netip"
	"slices"
)

// Nets are networks, each with a value, in which the network around an address is found by as many look-ups as there are lengths of prefixes. Immutable.
type Nets struct {
	values  map[netip.Prefix]int64
	lengths [2][]int // of IPv4 and IPv6 prefixes, the longest first
}

// NewNets makes Nets of networks; whatever is set in them beyond their length is of no matter.
func NewNets(values map[netip.Prefix]int64) *Nets {
	n := &Nets{values: make(map[netip.Prefix]int64, len(values))}
	for net, v := range values {
		net = net.Masked()
		n.values[net] = v
		family := &n.lengths[familyOf(net.Addr())]
		if !slices.Contains(*family, net.Bits()) {
			*family = append(*family, net.Bits())
		}
	}
	for i := range n.lengths {
		slices.SortFunc(n.lengths[i], func(a, b int) int { return cmp.Compare(b, a) })
	}
	return n
}

// All calls f for every network around addr, the smallest first, until f returns false. An IPv4 address that is mapped into IPv6 counts as that.
func (n *Nets) All(addr netip.Addr, f func(value int64) bool) {
	addr = addr.Unmap().WithZone("")
	for _, bits := range n.lengths[familyOf(addr)] {
		net, err := addr.Prefix(bits)
		if err != nil {
			return
		}
		if v, has := n.values[net]; has && !f(v) {
			return
		}
	}
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return 0
	}
	return 1
}
