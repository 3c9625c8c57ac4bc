package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// A process can be replaced by another one that goes on as the same run of the node (an upgrade): both sides of the node go along as bytes. Others notice
// nothing: streams keep their numbers and what is not acknowledged, the desk its requests, owners and followers their partitions. What the maker of views has
// been told is left behind, as any other maker would have to be told anew too (Node.Export); so are batches that wait for a view, which come again.
//
// Times go along as they are: the clock of the new process must go on where that of the old one was, and count what has passed between.

// StateVersion names the encodings of Node.Export and Holder.Export. It must change whenever they do, those of packets, messages and views included;
// TestGoldenStates has their bytes. Rooms, requests, records and items have channel.StateVersion.
const StateVersion = 3

var (
	// ErrMoving is the error of Holder.Export: a copy of a partition is on its way to or from this node. It will have arrived soon.
	ErrMoving = errors.New("copies of partitions are on their way to or from this node")
	// ErrState is the error of Import: the state was not written by Export, or by that of another version.
	ErrState = errors.New("malformed state of a node of a fleet, or of another version")
)

// Export encodes all that the bus side of the node is. It changes nothing.
func (n *Node) Export() ([]byte, error) {
	if n.err != nil {
		return nil, n.err
	}
	dst := append(appendRun([]byte{StateVersion}, n.peers.self), byte(n.config.Roles))
	flags := bit(n.turned) | bit(n.beatNow)<<1 | bit(n.view != nil)<<2
	dst = append(dst, flags)
	if n.view != nil {
		dst = appendSized(dst, func(dst []byte) []byte { return appendView(dst, n.view) })
	}
	for _, v := range n.stateNumbers() {
		dst = appendUint(dst, uint64(*v))
	}
	dst = appendText(appendUint(appendUint(dst, n.newest), n.maker.ask), n.retired)
	dst = appendUint(dst, uint64(len(n.inbox)))
	for i := range n.inbox {
		dst = appendText(appendText(dst, n.inbox[i].packet), n.inbox[i].name)
	}
	dst = appendParcels(appendParcels(dst, n.out), n.held)
	dst = n.peers.export(dst)
	dst = appendSized(dst, func(dst []byte) []byte { return (&notesBody{n.board.All()}).append(dst) })
	return n.desk.export(n.links.export(dst)), nil
}

// stateNumbers are the times that go along.
func (n *Node) stateNumbers() [8]*int64 {
	return [...]*int64{&n.now, &n.wall, &n.beatAt, &n.lookAt, &n.probeTill, &n.probeAt, &n.maker.ready, &n.doubt}
}

// Import makes a node that was just made, of the same name and roles, the run that another process has exported. All notes are news to it. The Home is told nothing:
// Holders are given what theirs were by Holder.Import. After an error the node must not be used.
func (n *Node) Import(b []byte) error {
	r := reader{b: b}
	version, self, roles, flags := r.byte(), r.run(), r.roles(), r.byte()
	if r.bad || version != StateVersion || flags > 7 {
		return ErrState
	}
	if self.Name != n.config.Name || roles != n.config.Roles {
		return fmt.Errorf("node %q with other roles, or another one: %w", self.Name, ErrState)
	}
	n.turned, n.beatNow = flags&1 != 0, flags&2 != 0
	if flags&4 != 0 {
		v := reader{b: r.text()}
		if n.view = v.view(); v.bad || len(v.b) > 0 || len(n.view.Shares) != n.config.parts {
			return ErrState
		}
	}
	n.maker = newMaker(n.config.parts, 0)
	for _, v := range n.stateNumbers() {
		*v = int64(r.uint())
	}
	n.newest, n.maker.ask, n.retired = r.uint(), r.uint(), r.name()
	for range r.count(2) {
		n.inbox = append(n.inbox, event{r.text(), r.name()})
	}
	n.out, n.held = r.parcels(), r.parcels()
	r.peers(&n.peers, self)
	n.links.restart(self.Run)
	if notes := (reader{b: r.text()}); !r.bad {
		if list := notes.notes(); list == nil || len(notes.b) > 0 {
			r.bad = true
		} else {
			n.takeNotes(list.List)
		}
	}
	if r.bad {
		return ErrState
	}
	if n.view != nil {
		n.links.adopt(n.view)
	}
	if self := n.Self(); self != 0 {
		n.desk.view, n.desk.self = n.view, self
	}
	n.desk.held = true // until the first turn or request: else what waits would not be sent where the maker's word is the first that comes
	if err := r.links(n.links, n.config.speaks); err != nil {
		return err
	}
	r.desk(n.desk)
	if r.end(); r.bad {
		return ErrState
	}
	return nil
}

func appendParcels(dst []byte, list []parcel) []byte {
	dst = appendUint(dst, uint64(len(list)))
	for _, p := range list {
		dst = appendSized(appendNode(dst, p.to), func(dst []byte) []byte { return appendMessage(dst, p.m) })
	}
	return dst
}

func (r *reader) parcels() (list []parcel) {
	for range r.count(9) {
		to := r.node()
		if m := r.message(); m != nil {
			list = append(list, parcel{to, m})
		}
	}
	return list
}

// message is a message behind its length; nil if there is none.
func (r *reader) message() *Message {
	m, err := parseMessage(r.text())
	if r.bad = r.bad || err != nil; r.bad {
		return nil
	}
	return m
}

func (p *peers) export(dst []byte) []byte {
	dst = appendUint(dst, uint64(len(p.list)))
	for _, x := range p.list {
		dst = appendUint(appendUint(appendUint(appendRun(dst, x.runID), uint64(x.since)), uint64(x.heard)), uint64(x.noResponders))
		dst = append(dst, bit(x.said != nil))
		if x.said != nil {
			dst = appendSized(dst, x.said.append)
		}
	}
	for i := range p.beats {
		dst = appendUint(appendUint(dst, p.beats[i].number), uint64(p.beats[i].at))
	}
	return appendUint(appendUint(appendUint(appendUint(dst, p.beat), uint64(p.deafUntil)), uint64(p.woken)), uint64(p.sure))
}

func (r *reader) peers(p *peers, self runID) {
	p.self = self
	for range r.count(6) {
		x := &peer{runID: r.run(), since: int64(r.uint()), heard: int64(r.uint()), noResponders: int64(r.uint())}
		if r.bool() {
			said := reader{b: r.text()}
			x.said = said.heartbeat()
			r.bad = r.bad || said.bad
		}
		if k := len(p.list); r.bad || k > 0 && p.list[k-1].Name >= x.Name {
			r.bad = true
			return
		}
		p.list = append(p.list, x)
	}
	for i := range p.beats {
		p.beats[i].number, p.beats[i].at = r.uint(), int64(r.uint())
	}
	p.beat, p.deafUntil, p.woken, p.sure = r.uint(), int64(r.uint()), int64(r.uint()), int64(r.uint())
}

func (l *links) export(dst []byte) []byte {
	count := uint64(0)
	for _, x := range l.peers {
		count += uint64(bit(x != nil))
	}
	dst = appendUint(dst, count)
	for number, x := range l.peers {
		if x == nil {
			continue
		}
		dst = append(appendUint(dst, uint64(number)), x.version)
		for i := range x.out {
			s := &x.out[i]
			for _, v := range [...]uint64{s.base, s.sent, uint64(s.since), uint64(s.flight)} {
				dst = appendUint(dst, v)
			}
			dst = appendUint(appendText(dst, s.kept), uint64(len(s.later)))
			for _, p := range s.later {
				dst = appendUint(append(appendText(dst, p.b), bit(p.state)), p.after)
			}
		}
		for i := range x.in {
			s := &x.in[i]
			dst = append(appendText(appendUint(dst, s.next), s.part), bit(s.ack)|bit(s.broken)<<1)
		}
		dst = appendUint(dst, uint64(len(x.bulk)))
		for _, part := range slices.Sorted(maps.Keys(x.bulk)) {
			dst = appendUint(appendUint(dst, uint64(part)), x.bulk[part])
		}
	}
	return dst
}

// links fills the links of a view's members. One in a version that this program does not speak cannot go on.
func (r *reader) links(l *links, speaks versions) error {
	left := 0
	for _, x := range l.peers {
		left += int(bit(x != nil))
	}
	for range r.count(1) {
		number := int(r.uint())
		if r.bad || number >= len(l.peers) || l.peers[number] == nil {
			return ErrState
		}
		x := l.peers[number]
		left--
		if x.version = r.byte(); x.version < speaks.Least || x.version > speaks.Greatest {
			return fmt.Errorf("node %q is talked to in version %d of the protocol between nodes, which this program does not speak: restart this node instead of upgrading it", x.name, x.version)
		}
		for i := range x.out {
			r.outStream(&x.out[i])
		}
		for i := range x.in {
			s := &x.in[i]
			s.next, s.part = r.uint(), slices.Clone(r.text())
			flags := r.byte()
			s.ack, s.broken = flags&1 != 0, flags&2 != 0
			r.bad = r.bad || flags > 3
		}
		for range r.count(2) {
			if x.bulk == nil {
				x.bulk = make(map[uint16]uint64)
			}
			x.bulk[uint16(r.upTo(channel.Partitions-1))] = r.uint()
		}
		l.kept += x.weight()
	}
	if r.bad || left != 0 {
		return ErrState
	}
	return nil
}

func (r *reader) outStream(s *outStream) {
	s.base, s.sent, s.since, s.flight = r.uint(), r.uint(), int64(r.uint()), min(int64(r.upTo(math.MaxInt64)), s.most)
	s.kept = slices.Clone(r.text())
	s.end = s.base + uint64(len(s.kept))
	r.bad = r.bad || s.sent < s.base || s.sent > s.end
	for range r.count(3) {
		p := piece{b: slices.Clone(r.text()), state: r.bool(), after: r.uint()}
		s.later = append(s.later, p)
		if s.end += uint64(len(p.b)); !p.state {
			s.heads += int64(len(p.b))
		}
	}
}

func (d *desk) export(dst []byte) []byte {
	count := uint64(0)
	for _, c := range d.parts {
		count += uint64(bit(c != nil))
	}
	dst = appendUint(dst, count)
	for part, c := range d.parts {
		if c == nil {
			continue
		}
		dst = appendViewID(appendUint(dst, uint64(part)), c.born)
		dst = append(appendUint(appendUint(dst, c.last), c.in), bit(c.confirm))
		dst = appendUint(dst, uint64(len(c.requests)))
		for i := range c.requests {
			w := &c.requests[i]
			dst = appendSized(dst, func(dst []byte) []byte { return channel.AppendRequest(dst, &w.r) })
			dst = appendUint(appendViewID(appendUint(dst, uint64(w.at)), w.sent), uint64(min(w.deaths, poisonDeaths))) // a leave may have seen more
		}
	}
	return dst
}

func (r *reader) desk(d *desk) {
	for range r.count(1 + 9 + 4) {
		part := r.upTo(channel.Partitions - 1)
		c := &counter{born: r.viewID(), last: r.uint(), in: r.uint(), confirm: r.bool()}
		for range r.count(1 + 1 + 9 + 1) {
			w := waiting{r: inner(r, channel.ParseRequest), at: int64(r.uint()), sent: r.viewID(), deaths: int(r.upTo(poisonDeaths))}
			if r.bad || w.r.N != c.in+uint64(len(c.requests))+1 || uint64(w.r.Part) != part {
				r.bad = true
				return
			}
			c.requests = append(c.requests, w)
			d.bytes += weightOfRequest(&w.r)
		}
		if r.bad || d.view == nil || int(part) >= len(d.view.Shares) || d.parts[part] != nil {
			r.bad = true
			return
		}
		if d.parts[part] = c; c.confirm {
			d.toConfirm = append(d.toConfirm, uint16(part))
		}
	}
}
