package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/wirebytes"
	"github.com/pomelod/pomelod/netpoll"
)

// A node can take the place of another one, in the same process or the next: loop by loop, each session under its name, with all that it has.
// To others, partitions of other nodes included, nothing has happened. The old node must be at rest: its loops read no sockets, and their
// mail is empty. Then Export tells what the node is, and ExportLoop what a loop has; they change nothing. The new node is made with
// Config.Predecessor, and its loops are given what the old ones had by ImportLoop before they turn.

// What the encodings of a node and of a loop begin with.
const (
	nodeStateVersion = 1
	loopStateVersion = 1
)

// errNodeState is the error of what was not written by Export or ExportLoop, or by those of another version.
var errNodeState = errors.New("malformed state of a node, or of another version")

// ErrAtWork is the error of ExportLoop: mail, a socket or a partition is on its way to the loop.
var ErrAtWork = errors.New("the event loop has not come to rest")

// HandoverFormat names the encodings of all that a node gives to the one that takes its place. One that has another format refuses it.
func HandoverFormat() string {
	return fmt.Sprintf("node %d, loop %d, session %d, conn %d, room %d", nodeStateVersion, loopStateVersion, sessionVersion, netpoll.StateVersion, channel.StateVersion)
}

// LoopState is all that a loop has, but for the sockets themselves.
type LoopState struct {
	// Shared is what sessions have in common.
	Shared []byte
	Conns  []ExportedConn
	// Stays counts the sessions that cannot go, by reason in words. The importing node tells the others that they left, unless they may return.
	Stays map[string]int
}

// noSocket is ExportedConn.FD where there is none.
const noSocket = -1

// ExportedConn is a conn with its session.
type ExportedConn struct {
	FD    int    // the socket; -1 for a client that polls
	State []byte // netpoll.ConnState
}

// Export encodes what the node is to others: its name and incarnation, the number of its loops, and the key of its session ids. Safe from any
// goroutine.
func (n *Node) Export() []byte {
	b := append([]byte{nodeStateVersion}, n.sids.key[:]...)
	return wirebytes.AppendUints(b, uint64(n.id), uint64(len(n.loops)))
}

// succeed makes n, whose loops have yet to be made, the node that b tells of.
func (n *Node) succeed(b []byte, loops int) (err error) {
	r := wirebytes.NewReader(b)
	version, key, id, theirs := r.Byte(), r.Take(16), r.Uint(), r.Uint()
	if version != nodeStateVersion || !r.End() {
		return errNodeState
	}
	if theirs != uint64(loops) {
		return fmt.Errorf("-loops %d: must stay %d while a running server is taken over", loops, theirs)
	}
	n.id = channel.Node(id)
	n.sids, err = newSIDs([16]byte(key))
	return err
}

// Rest has loops that nobody turns any more carry out what is in their mail, for so long at most, and keeps programs from posting more until
// release is called. Those of them that read no socket come to rest soon. On an error there is nothing to release.
func (n *Node) Rest(within time.Duration) (release func(), err error) {
	for end := time.Now().Add(within); ; {
		busy := false
		for _, l := range n.loops {
			if l.atWork() {
				busy = true
				l.np.Turn()
			}
		}
		switch {
		case time.Now().After(end):
			return nil, ErrAtWork
		case busy:
			continue
		}
		n.posting.Lock() // only now: what a turn runs may post
		if !slices.ContainsFunc(n.loops, (*loop).atWork) {
			return n.posting.Unlock, nil
		}
		n.posting.Unlock()
	}
}

// atWork tells whether something is on its way to l, or waits to be carried out here.
func (l *loop) atWork() bool {
	return l.np.Arriving() || !l.mail.Empty() || len(l.arriving)+len(l.requests) > 0
}

// ExportLoop encodes all that loop i has. Conns of a listener for which takes tells false stay; nil takes all. Runs on that loop, or where it is
// not turned.
func (n *Node) ExportLoop(i int, takes func(tag uint8) bool) (*LoopState, error) {
	l := n.loops[i]
	if l.atWork() {
		return nil, ErrAtWork
	}
	st := &LoopState{Stays: make(map[string]int)}
	var leaves [][]byte
	l.np.Export(func(c *netpoll.Conn, fd int, s *netpoll.ConnState) {
		if c.Alive() {
			in := l.session(c)
			if why := l.stays(in, takes); why != 0 {
				st.Stays[why.String()]++
				leaves = append(leaves, l.leavesOf(in)...)
				return
			}
			s.Handler = l.exportSession(in)
		}
		st.Conns = append(st.Conns, ExportedConn{fd, s.Append(nil)})
	})
	b := wirebytes.AppendBlock([]byte{loopStateVersion}, l.np.AppendNames(nil))
	b = wirebytes.AppendUints(b, uint64(l.serial), uint64(len(l.rooms.byID)))
	for _, id := range slices.Sorted(maps.Keys(l.rooms.byID)) {
		r := l.rooms.byID[id]
		b = appendEpoch(wirebytes.AppendUints(b, uint64(r.id), r.seq), r.epoch)
		b = wirebytes.AppendBlock(b, r.large)
	}
	for part := range uint16(channel.Partitions) {
		if l.worker.Owns(part) && !l.elsewhere(part) { // those that a fleet has given to this node go along with it
			b = appendEpoch(wirebytes.AppendUints(b, 1, uint64(part)), l.worker.Epoch(part))
			b = wirebytes.AppendBlock(b, l.worker.Export(nil, part))
		}
	}
	b = wirebytes.AppendUints(b, 0, uint64(len(leaves)))
	for _, leave := range leaves {
		b = wirebytes.AppendBlock(b, leave)
	}
	st.Shared = b
	return st, nil
}

// stays says why s cannot go to the node that takes this one's place. A session that polls and the connections by which it is asked go together or not
// at all: without each other they could not be answered.
func (l *loop) stays(s *session, takes func(tag uint8) bool) stays {
	if why := s.exportable(); why != 0 {
		return why
	}
	if x := s.x; x != nil && x.errand.session != 0 {
		if in := l.byID(x.errand.session); in != nil {
			s = in
		}
	}
	if takes != nil && !takes(s.conn.Tag()) {
		return staysListener
	}
	secured := s.conn.Secured()
	if x := s.x; x != nil && x.pull != nil {
		for _, id := range append([]netpoll.ID{x.pull.get, x.pull.probe}, x.pull.posts...) {
			if via := l.byID(id); via != nil && via.conn.Secured() {
				secured = true
			}
		}
	}
	if secured {
		return staysSecured
	}
	return s.exportable()
}

// Sever ends what loop i has exported (ExportLoop with the same takes, and nothing has happened since), when the other node has it: no client
// notices, and nobody is told. What stays is left, for Drain to send away. sever parts a socket from its connection (netpoll.Epoll.Sever). Runs
// on that loop, or where it is not turned.
func (n *Node) Sever(i int, takes func(tag uint8) bool, sever func(fd int, watched netpoll.Interest)) {
	n.closing.Store(true) // members are not told who leaves: nobody does
	l := n.loops[i]
	stay := make(map[netpoll.ID]bool) // first: which go is known by their sessions, and by those that they ask for
	l.np.Each(func(c *netpoll.Conn) {
		if l.stays(l.session(c), takes) != 0 {
			stay[c.ID(l.np)] = true
		}
	})
	l.np.Sever(func(c *netpoll.Conn) bool { return !c.Alive() || !stay[c.ID(l.np)] }, sever)
}

// leavesOf are the requests, encoded, that take a session out of its rooms, and out of its user's sessions, that does not go along. The server sends it away, so it is cut off, and is
// sent before that what there is for it.
func (l *loop) leavesOf(s *session) (leaves [][]byte) {
	add := func(user, room string, handed uint64) {
		r := channel.Request{Op: channel.OpLeave, From: l.addr(s.conn), User: user, Room: room, Part: channel.Partition(room)}
		if l.node.ghosts.grace > 0 {
			r.Cut, r.Near, r.Handed = true, l.node.access.near(s.conn.Peer().Addr()), handed
		}
		leaves = append(leaves, channel.AppendRequest(nil, &r))
	}
	for r, name := range s.rooms() {
		add(s.user(), name, r.seq)
	}
	if c := s.changing(); c != nil {
		add(c.uid[:c.star], c.Room, channel.Unheard)
	}
	if x := s.x; x != nil && x.entering != "" {
		add(x.entering[:x.star], x.entering[int(x.star)+1:], channel.Unheard)
	}
	for _, user := range s.counted() {
		r := releaseOf(l.addr(s.conn), user)
		leaves = append(leaves, channel.AppendRequest(nil, &r))
	}
	return leaves
}

// ImportLoop gives loop i, which has had nothing, what the loop in whose place it is had. An error means that the state cannot be read: then the
// node must not be used. The sockets of conns that were taken are the node's, and no longer in st; those that could not be are still the caller's, and counted
// in lost: they are cut off, and leave their rooms. Called before the loop is turned.
func (n *Node) ImportLoop(i int, st *LoopState) (lost int, err error) {
	l := n.loops[i]
	leaves, err := l.importShared(st.Shared)
	if err != nil {
		return 0, err
	}
	for k := range st.Conns {
		c := &st.Conns[k]
		s, err := netpoll.ParseConnState(c.State)
		known := err == nil
		if err == nil && n.tags != nil {
			if int(s.Tag) >= len(n.tags) || n.tags[s.Tag] < 0 {
				err = netpoll.ErrConnState
			} else {
				s.Tag = uint8(n.tags[s.Tag])
			}
		}
		if err == nil {
			s.Pass = n.access.again(s.Pass, s.Peer.Addr())
			if err = l.np.Import(c.FD, &s); err != nil {
				n.access.Leave(s.Pass)
			}
		}
		if err != nil {
			if known && s.Handler != nil && l.np.Find(s.Kept.Name) == nil {
				l.leaveLost(channel.Addr{Node: n.id, Ref: channel.Ref(s.Kept.Name)}, s.Peer.Addr(), s.Handler)
			}
			lost++
			continue
		}
		c.FD = noSocket
	}
	for _, r := range l.rooms.byID {
		if len(r.groups) == 0 {
			l.rooms.forget(r)
		}
	}
	l.postRun(0, func() { // when all loops have their partitions
		for _, r := range leaves {
			l.inlet(r.Part).Post(r)
		}
	})
	return lost, nil
}

// importShared reads LoopState.Shared.
func (l *loop) importShared(b []byte) (leaves []channel.Request, err error) {
	r := wirebytes.NewReader(b)
	version, names := r.Byte(), r.Block()
	l.serial = r.Uint32()
	for range r.UpTo(uint64(len(r.Rest()))) {
		room := &room{id: channel.RoomID(r.Uint()), seq: r.Uint()}
		room.epoch, room.large = parseEpoch(&r), string(r.Block())
		if l.rooms.byID[room.id] = room; room.large != "" {
			l.rooms.large[room.large] = struct{}{}
		}
	}
	next := *l.node.placement.Load()
	for r.UpTo(1) == 1 {
		part := uint16(r.UpTo(channel.Partitions - 1))
		epoch, state := parseEpoch(&r), r.Block()
		if !r.OK() {
			break
		}
		if err := l.worker.Import(part, epoch, state); err != nil {
			return nil, fmt.Errorf("partition %d: %w", part, err)
		}
		next[part] = place{(*mailInlet)(l), l}
	}
	for range r.UpTo(uint64(len(r.Rest()))) {
		leave, err := channel.ParseRequest(r.Block())
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, leave)
	}
	if version != loopStateVersion || !r.End() {
		return nil, errNodeState
	}
	if err := l.np.TakeNames(names); err != nil {
		return nil, err
	}
	l.node.placement.Store(&next)
	return leaves, nil
}

func appendEpoch(b []byte, e channel.Epoch) []byte {
	return binary.BigEndian.AppendUint64(wirebytes.AppendUints(b, e.View), uint64(e.Maker))
}

func parseEpoch(r *wirebytes.Reader) channel.Epoch {
	return channel.Epoch{View: r.Uint(), Maker: channel.Node(r.Fixed64())}
}
