package router

import (
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// Policy is what holds in a room, which may differ from room to room (Config.Policy).
type Policy struct {
	Members int             // that it may have; 0: no limit
	List    int             // beyond so many nobody is told who comes and goes (channel.Limits); 0: never
	NoGrace bool            // a member that is cut off leaves at once
	Program bool            // clients cannot enter by themselves: a program lets them in
	Locked  bool            // it takes in nobody new
	Slow    time.Duration   // least time between two messages of one member; 0: none
	Ruled   bool            // Slow is an operator's, and goes before a program's
	Readers channel.Readers // who may read what it keeps, as it is when the room comes to be
	Hold    time.Duration   // least time between two writes of what all its members are told (netpoll.Loop.Pace); 0: none
}

// SetPolicies tells the node that Config.Policy says something else from now on. It holds as soon as each loop comes to it, also in rooms that are there, but for
// Readers, which are for rooms that come to be from then on; and a room that is large stays so until it is empty. Safe from any goroutine.
func (n *Node) SetPolicies() {
	n.policies.Add(1)
	for _, l := range n.loops {
		l.postRun(0, l.followPolicies)
	}
}

// limitRooms has the loop's worker do as the policies say.
func (l *loop) limitRooms(policy func(room string) Policy) {
	if policy == nil {
		return
	}
	l.worker.LimitRooms(func(room string) channel.RoomLimits {
		p := policy(room)
		return channel.RoomLimits{Members: p.Members, List: p.List, Slow: p.Slow, NoGrace: p.NoGrace, Ruled: p.Ruled}
	})
}

// locks tells whether a policy has a room take in nobody new.
func (mod *moderator) locks(room string) bool { return mod.policy != nil && mod.policy(room).Locked }

// keeps tells whether a policy leaves it to a program who enters a room.
func (mod *moderator) keeps(room string) bool { return mod.policy != nil && mod.policy(room).Program }

// pace holds what a group of a room is told as its policy says.
func (rs *rooms) pace(vg *variantGroup, room string) {
	if rs.policy != nil {
		rs.np.Pace(&vg.group, rs.policy(room).Hold)
	}
}

// followPolicies has the rooms here be as their policies say now, if they have changed since, and those of which this loop has become the owner.
func (l *loop) followPolicies() {
	if now := l.node.policies.Load(); l.paced != now {
		l.paced = now
		l.repace()
		l.worker.Relimit()
	}
	if l.relimitRooms() {
		l.postRun(0, l.followPolicies)
	}
}

// relimitATurn is how many rooms a turn looks at for what their policies say.
const relimitATurn = 512

// relimitRooms has the rooms that this loop owns be as their policies say, some of them, and tells whether there are more.
func (l *loop) relimitRooms() (more bool) {
	l.running = true // as in a tick
	defer l.catchUp()
	return l.worker.FollowLimits(relimitATurn)
}

// repace has the rooms here be held as their policies say now.
func (l *loop) repace() {
	seen := make(map[*room]struct{}, len(l.rooms.byID))
	l.np.Each(func(c *netpoll.Conn) {
		for r, name := range l.session(c).rooms() { // of some there may be guests only, until somebody enters
			if _, again := seen[r]; again {
				continue
			}
			seen[r] = struct{}{}
			for _, vg := range r.groups {
				l.rooms.pace(vg, name)
			}
		}
	})
}
