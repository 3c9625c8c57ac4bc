package cluster

import (
	"math"

	"github.com/pomelod/pomelod/channel"
)

// A view names few other views, each many times: once made an owner's epoch it stands for hundreds of partitions. So the ids stand in one
// table, in the order in which shares mention them first, and a share has their places in it, from 1; 0 is the zero id. A view of a fleet with
// one maker has about 9 KiB.

// appendView appends the encoding of v.
func appendView(dst []byte, v *View) []byte {
	dst = appendViewID(appendViewID(dst, v.ID), v.Members)
	dst = appendUint(dst, uint64(len(v.Ancestors)))
	for _, id := range v.Ancestors {
		dst = appendViewID(dst, id)
	}
	dst = appendUint(dst, uint64(len(v.Names)))
	for i := range v.Names {
		n := &v.Names[i]
		dst = appendUint(appendUint(appendText(dst, n.Name), n.Run), n.Gone)
		dst = appendText(append(dst, byte(n.Roles)), n.Host)
	}
	table, place := []ViewID{}, map[ViewID]uint64{{}: 0}
	for i := range v.Shares {
		for _, id := range v.Shares[i].ids() {
			if _, has := place[*id]; !has {
				table = append(table, *id)
				place[*id] = uint64(len(table))
			}
		}
	}
	dst = appendUint(dst, uint64(len(table)))
	for _, id := range table {
		dst = appendViewID(dst, id)
	}
	dst = appendUint(dst, uint64(len(v.Shares)))
	for i := range v.Shares {
		s := &v.Shares[i]
		dst = appendUint(appendUint(appendUint(dst, uint64(s.Owner)), uint64(s.Follower)), uint64(s.Joiner))
		for _, id := range s.ids() {
			dst = appendUint(dst, place[*id])
		}
	}
	return dst
}

// ids are all ids in a share, in the order of the encoding.
func (s *Share) ids() [5]*ViewID {
	return [...]*ViewID{&s.Epoch, &s.Born, &s.Following, &s.Joining, &s.Moving}
}

func (r *reader) view() *View {
	v := &View{ID: r.viewID(), Members: r.viewID()}
	r.bad = r.bad || v.ID == ViewID{}
	ancestors := r.count(9)
	r.bad = r.bad || ancestors > maxAncestors
	for range ancestors {
		v.Ancestors = append(v.Ancestors, r.viewID())
	}
	names := r.count(5)
	r.bad = r.bad || names > math.MaxUint16
	for range names {
		n := Name{Name: r.name(), Run: r.upTo(1<<48 - 1), Gone: r.upTo(1<<48 - 1), Roles: r.roles(), Host: r.name()}
		r.bad = r.bad || n.Name == ""
		v.Names = append(v.Names, n)
	}
	table := make([]ViewID, 1, 8)
	for range r.count(9) {
		table = append(table, r.viewID())
	}
	shares := r.count(8)
	r.bad = r.bad || shares > channel.Partitions
	if r.bad {
		return nil
	}
	v.Shares = make([]Share, shares)
	seen := 0 // of the table
	for i := range v.Shares {
		s, last := &v.Shares[i], uint64(len(v.Names))
		s.Owner, s.Follower, s.Joiner = uint16(r.upTo(last)), uint16(r.upTo(last)), uint16(r.upTo(last))
		for _, id := range s.ids() {
			place := int(r.upTo(uint64(min(seen+1, len(table)-1))))
			seen = max(seen, place)
			*id = table[place]
		}
	}
	// An id that nobody mentions, that stands twice, or that is the zero one, is not of an encoder.
	r.bad = r.bad || seen != len(table)-1
	if !r.bad {
		twice := make(map[ViewID]bool, len(table))
		for _, id := range table {
			r.bad = r.bad || twice[id]
			twice[id] = true
		}
	}
	if r.bad {
		return nil
	}
	return v
}

func appendViewID(dst []byte, id ViewID) []byte {
	return appendNode(appendUint(dst, id.View), id.Maker)
}

func (r *reader) viewID() ViewID {
	return ViewID{View: r.uint(), Maker: r.node()}
}

func appendNode(dst []byte, n channel.Node) []byte {
	return append(dst, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func (r *reader) node() (n channel.Node) {
	for _, b := range r.take(8) {
		n = n<<8 | channel.Node(b)
	}
	return n
}
