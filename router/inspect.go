package router

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// What an operator asks of a node and has it do, beside Ask. All of it is safe from any goroutine but a loop's, waits for the loops until ctx ends, and then
// fails with ErrStuck, which names those that did not answer. No loop does more than a slice of it in a turn.

// Slices of a turn.
const (
	sessionsATurn   = 256
	partitionsATurn = 32
)

// Rooms are the rooms that this node owns, whose names begin with prefix and stand behind after, in order of their bytes: most at most, and whether there are more.
func (n *Node) Rooms(ctx context.Context, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error) {
	rooms, err = n.firstRooms(ctx, most+1, func(r *channel.RoomInfo) bool { return r.Name > after && strings.HasPrefix(r.Name, prefix) },
		func(a, b channel.RoomInfo) int { return cmp.Compare(a.Name, b.Name) })
	if more = len(rooms) > most; more {
		rooms = rooms[:most]
	}
	return rooms, more, err
}

// LargestRooms are the rooms that this node owns, whose names begin with prefix, the one with the most members first: most at most.
func (n *Node) LargestRooms(ctx context.Context, prefix string, most int) ([]channel.RoomInfo, error) {
	return n.firstRooms(ctx, most, func(r *channel.RoomInfo) bool { return strings.HasPrefix(r.Name, prefix) },
		func(a, b channel.RoomInfo) int {
			return cmp.Or(cmp.Compare(b.Members, a.Members), cmp.Compare(a.Name, b.Name))
		})
}

// firstRooms are the first of the rooms that this node owns, and that are wanted, in an order.
func (n *Node) firstRooms(ctx context.Context, most int, wanted func(*channel.RoomInfo) bool, order func(a, b channel.RoomInfo) int) ([]channel.RoomInfo, error) {
	found := make([][]channel.RoomInfo, len(n.loops))
	first := func(list []channel.RoomInfo) []channel.RoomInfo {
		slices.SortFunc(list, order)
		return list[:min(len(list), most)]
	}
	err := inTurns(ctx, n.loops, func(l *loop, step int) bool {
		list := found[l.index]
		end := (step + 1) * partitionsATurn
		for part := end - partitionsATurn; part < end; part++ {
			for room := range l.worker.RoomsOf(uint16(part)) {
				if wanted(&room) {
					list = append(list, room)
				}
			}
			if len(list) > 2*most {
				list = first(list)
			}
		}
		found[l.index] = list
		return end < channel.Partitions
	})
	if err != nil {
		return nil, err
	}
	return first(slices.Concat(found...)), nil
}

// SessionInfo is what an operator is told of a session. Without a room it has no name.
type SessionInfo struct {
	Name, Room string
	UID        string         // of a login, or the name of one without; else what a program has bound it to
	Address    netip.AddrPort // of the client, as far as proxies tell it; they may not tell the port (0)
	Transport  string
	Loop       int
}

// SessionFilter chooses sessions; what is zero chooses all.
type SessionFilter struct {
	Name    string
	Prefix  string // beginning of a name
	Address netip.Prefix
	UID     string // of a login: its uid, or the name of one without; or what a program has bound it to
	// Alike chooses names in all spellings that look alike, as a ban does.
	Alike bool
}

// takes tells whether the filter chooses a session of the node.
func (n *Node) takes(f *SessionFilter, s *session) bool {
	switch {
	case s.phase != working || f.Address.IsValid() && !f.Address.Contains(s.conn.Peer().Addr().Unmap()):
		return false
	case f.UID != "" && !s.isUser(f.UID):
		return false
	case f.Name == "" && f.Prefix == "":
		return true
	case s.room == nil || !strings.HasPrefix(s.user(), f.Prefix):
		return false
	case f.Name == "":
		return true
	case f.Alike:
		return n.moderator.spelling(s.user()) == n.moderator.spelling(f.Name)
	}
	return s.user() == f.Name
}

// isUser tells whether an operator means s by a uid: by its login, or by what a program has bound it to.
func (s *session) isUser(uid string) bool {
	if who := s.identity(); who != nil && who.called() == uid {
		return true
	}
	k := s.appClient()
	return k != nil && k.UID() == uid
}

// calledUID is whose an operator is told that s is; empty: nobody's.
func (s *session) calledUID() string {
	if who := s.identity(); who != nil {
		return who.called()
	}
	if k := s.appClient(); k != nil {
		return k.UID()
	}
	return ""
}

// takesAway is takes for a member that is away, and was at an address (access.near). Of an IPv6 address it is known in which /64 it was, and of a login
// nothing.
func (n *Node) takesAway(f *SessionFilter, user string, near uint64) bool {
	switch {
	case f.UID != "" || !strings.HasPrefix(user, f.Prefix):
		return false
	case f.Name == "" || user == f.Name:
	case !f.Alike || n.moderator.spelling(user) != n.moderator.spelling(f.Name):
		return false
	}
	at := nearPrefix(near)
	return !f.Address.IsValid() || at.IsValid() && f.Address.Bits() <= at.Bits() && f.Address.Contains(at.Addr())
}

// SessionCursor is a place in the list of a node's sessions. The zero SessionCursor is before the first one. Sessions that move to another loop meanwhile
// may be listed twice or not at all.
type SessionCursor struct{ Loop, Slot int }

// ListSessions are the sessions of this node behind a place, most at most, and where the rest begins; nil: there are no more.
func (n *Node) ListSessions(ctx context.Context, f SessionFilter, from SessionCursor, most int) (list []SessionInfo, rest *SessionCursor, err error) {
	names := transportNames(n.protocols)
	for ; from.Loop < len(n.loops) && rest == nil; from = (SessionCursor{Loop: from.Loop + 1}) {
		err := inTurns(ctx, n.loops[from.Loop:from.Loop+1], func(l *loop, step int) bool {
			at := from.Slot + step*sessionsATurn
			more := l.np.EachIn(at, at+sessionsATurn, func(c *netpoll.Conn) {
				s := l.session(c)
				switch {
				case rest != nil || !n.takes(&f, s):
				case len(list) == most:
					rest = &SessionCursor{l.index, int(c.Slot())}
				default:
					info := SessionInfo{Address: c.Peer(), Transport: names[s.transport], Loop: l.index}
					if s.room != nil {
						info.Name, info.Room = strings.Clone(s.user()), strings.Clone(s.roomName())
					}
					info.UID = strings.Clone(s.calledUID())
					list = append(list, info)
				}
			})
			return more && rest == nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return list, rest, nil
}

// eachSession calls f on the loops for every session of this node that f takes. None moves to another loop meanwhile, so none is missed.
func (n *Node) eachSession(ctx context.Context, filter SessionFilter, f func(l *loop, s *session)) error {
	n.posting.RLock()
	n.broadcasts.Add(int32(len(n.loops)))
	n.posting.RUnlock()
	return inTurns(ctx, n.loops, func(l *loop, step int) (more bool) {
		defer func() {
			if !more {
				n.broadcasts.Add(-1)
			}
		}()
		if step == 0 { // a turn later those are here that were on their way
			return true
		}
		return l.np.EachIn((step-1)*sessionsATurn, step*sessionsATurn, func(c *netpoll.Conn) {
			if s := l.session(c); n.takes(&filter, s) {
				f(l, s)
			}
		})
	})
}

// KickSessions kicks the sessions of this node that a filter chooses, and ends the places of those it chooses that are away, in rooms that this node owns. It
// tells how many they were.
func (n *Node) KickSessions(ctx context.Context, f SessionFilter, reason string) (int, error) {
	kicked := make([]int, len(n.loops))
	err := n.eachSession(ctx, f, func(l *loop, s *session) {
		kicked[l.index]++
		l.kick(s, reason)
	})
	if err == nil {
		err = n.endAway(ctx, f, kicked)
	}
	return sum(kicked, err)
}

// endAway ends the places of members that are away and that a filter chooses, and counts them by loop.
func (n *Node) endAway(ctx context.Context, f SessionFilter, ended []int) error {
	parts := make([]int, len(n.loops)) // how far each loop has come
	takes := func(user string, near uint64) bool { return n.takesAway(&f, user, near) }
	return inTurns(ctx, n.loops, func(l *loop, _ int) bool {
		l.running = true // as in a tick: what a decision leads to here waits until all of it is posted
		defer l.catchUp()
		at := parts[l.index]
		for end := at + partitionsATurn; at < end; at++ {
			count, more := l.worker.EndAway(uint16(at), sessionsATurn, takes)
			if ended[l.index] += count; more {
				break
			}
		}
		parts[l.index] = at
		return at < channel.Partitions
	})
}

// sum adds up what loops have counted, unless some have not answered and may still count.
func sum(counts []int, err error) (total int, _ error) {
	if err != nil {
		return 0, err
	}
	for _, n := range counts {
		total += n
	}
	return total, nil
}

// KickMember kicks a member of a room, wherever the room and the member are: app.ErrAbsent if there is none of that name. With channel.Everybody it kicks all,
// and the room ends.
func (n *Node) KickMember(ctx context.Context, room, name, reason string) error {
	return n.do(ctx, channel.Request{Op: channel.OpKick, Room: room, Target: name, Content: codec.AppendString(nil, reason)})
}

// do is Ask for what is done or not. It fails with app's errors.
func (n *Node) do(ctx context.Context, r channel.Request) error {
	b, err := n.Ask(ctx, r)
	return outcome(b, err)
}

// outcome is what the answer to a request says of it.
func outcome(answer []byte, err error) error {
	switch {
	case err != nil:
		return err
	case string(answer) == string(channel.Absent):
		return app.ErrAbsent
	case string(answer) != string(channel.Done):
		return app.ErrBusy
	}
	return nil
}

// Members are the names of a room's members in the order in which they entered, wherever the room is: app.ErrAbsent if it has none.
func (n *Node) Members(ctx context.Context, room string) ([]string, error) {
	b, err := n.Ask(ctx, channel.Request{Op: channel.OpMembers, Room: room})
	if err != nil {
		return nil, err
	}
	var list struct {
		Users []string `json:"users"`
	}
	if err := codec.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, err)
	}
	if len(list.Users) == 0 {
		return nil, app.ErrAbsent
	}
	return list.Users, nil
}

// Room is a room, if this node owns it.
func (n *Node) Room(ctx context.Context, name string) (info channel.RoomInfo, owned bool, err error) {
	found := make([]bool, len(n.loops))
	rooms := make([]channel.RoomInfo, len(n.loops))
	err = n.onLoops(ctx, func(l *loop) { rooms[l.index], found[l.index] = l.worker.Room(name) })
	if err != nil {
		return channel.RoomInfo{}, false, err
	}
	if i := slices.Index(found, true); i >= 0 {
		return rooms[i], true, nil
	}
	return channel.RoomInfo{}, false, nil
}

// History is the newest messages that a room keeps, at most so many, as JSON: {"messages":[…],"more":…}, wherever the room is. It fails with app.ErrAbsent
// if there is no such room.
func (n *Node) History(ctx context.Context, room string, most int) ([]byte, error) {
	b, err := n.Ask(ctx, channel.Request{Op: channel.OpHistory, Room: room, Ext: &channel.Extended{Most: uint32(most)}})
	switch {
	case err != nil:
	case string(b) == string(channel.Absent):
		err = app.ErrAbsent
	case string(b) == string(channel.Refused):
		err = app.ErrBusy
	}
	return b, err
}
