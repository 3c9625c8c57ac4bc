package router

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/names"
	"github.com/pomelod/pomelod/limit"
)

// Moderation is whom an operator keeps from this node's rooms, each until a time in Unix ms; 0 is for ever. It must not be changed once a node has it. Of
// names that look alike the longest time counts.
type Moderation struct {
	Nets   map[netip.Prefix]int64 // networks whose clients may not connect
	Names  map[string]int64       // who may not enter
	Muted  map[Mute]int64         // who may enter and say nothing
	Locked map[string]int64       // rooms that take in nobody new
}

// Mute is a name, in one room or (empty) in all.
type Mute struct{ Room, Name string }

// moderation is a Moderation at work. Names are those that all spellings have in common. Immutable.
type moderation struct {
	nets   *limit.Nets // nil: none
	names  map[string]int64
	muted  map[Mute]int64
	locked map[string]int64
}

// moderator asks for the present moderation. A user that nothing is held against costs one atomic load and the look-ups; the clock is only read for others. Safe from any
// goroutine.
type moderator struct {
	now     atomic.Pointer[moderation] // nil: nobody is kept from anything
	names   *names.Rules
	trusted []netip.Prefix // proxies, which no ban is about: behind them are others
	wall    func() int64
	policy  func(room string) Policy // Config.Policy
}

// SetModeration has the node keep these, and nobody else, from its rooms from now on. Those who are in stay; KickSessions sends them away. Safe from any goroutine.
func (n *Node) SetModeration(m *Moderation) {
	if len(m.Nets)+len(m.Names)+len(m.Muted)+len(m.Locked) == 0 {
		n.moderator.now.Store(nil)
		return
	}
	at := &moderation{names: make(map[string]int64), muted: make(map[Mute]int64), locked: m.Locked}
	if len(m.Nets) > 0 {
		at.nets = limit.NewNets(m.Nets)
	}
	for name, until := range m.Names {
		putLonger(at.names, n.moderator.spelling(name), until)
	}
	for mute, until := range m.Muted {
		putLonger(at.muted, Mute{mute.Room, n.moderator.spelling(mute.Name)}, until)
	}
	n.moderator.now.Store(at)
}

// putLonger puts the longer of two times; 0 is for ever.
func putLonger[K comparable](m map[K]int64, key K, until int64) {
	if old, has := m[key]; !has || old != 0 && (until == 0 || until > old) {
		m[key] = until
	}
}

// Spelling is what a name has in common with those that look alike to this node. Safe from any goroutine.
func (n *Node) Spelling(name string) string { return n.moderator.spelling(name) }

// spelling is what a name has in common with those that look alike.
func (mod *moderator) spelling(name string) string {
	if fold := mod.names.Fold(name); fold != "" {
		return fold
	}
	return name
}

// lasts tells whether a time has not come, and how long it will be until then, in ms; 0: for ever.
func (mod *moderator) lasts(until int64) (left int64, ok bool) {
	if until == 0 {
		return 0, true
	}
	now := time.Now().UnixMilli()
	if mod.wall != nil {
		now = mod.wall()
	}
	return until - now, until > now
}

// refuses tells whether the clients of an address may not connect. Loopback and trusted proxies always may: behind them are others.
func (mod *moderator) refuses(addr netip.Addr) (refused bool) {
	m := mod.now.Load()
	if m == nil || m.nets == nil {
		return false
	}
	m.nets.All(addr, func(until int64) bool {
		_, refused = mod.lasts(until)
		return !refused
	})
	return refused && !addr.Unmap().IsLoopback() && !within(mod.trusted, addr)
}

// bans tells whether nobody may be in a room by a name, or from an address.
func (mod *moderator) bans(name string, addr netip.Addr) (banned bool) {
	m := mod.now.Load()
	if m == nil {
		return false
	}
	if len(m.names) > 0 {
		if until, has := m.names[mod.spelling(name)]; has {
			_, banned = mod.lasts(until)
		}
	}
	return banned || mod.refuses(addr)
}

// whyBanned is what somebody is told who is found in a room after a ban.
const whyBanned = "banned"

// checkEnter is the answer that refuses an enter by a name, from an address; nil: none does. locked is whether the room takes in nobody new.
func (mod *moderator) checkEnter(name, room string, addr netip.Addr) (refusal []byte, locked bool) {
	locked = mod.locks(room)
	m := mod.now.Load()
	if m == nil {
		return nil, locked
	}
	if mod.bans(name, addr) { // of an address: it has connected before
		return limitBan.answer(true), false
	}
	if until, has := m.locked[room]; has && !locked {
		_, locked = mod.lasts(until)
	}
	return nil, locked
}

// checkSend is the answer that refuses what a member says in a room; nil: it may. The answer tells how many seconds that will last.
func (mod *moderator) checkSend(name, room string) []byte {
	m := mod.now.Load()
	if m == nil || len(m.muted) == 0 {
		return nil
	}
	name = mod.spelling(name)
	for _, in := range [...]string{room, ""} {
		until, has := m.muted[Mute{in, name}]
		if !has {
			continue
		}
		if left, muted := mod.lasts(until); muted && left > 0 {
			return fmt.Appendf(nil, `{"code":500,"reason":"%s","wait":%d}`, limitNames[limitMute], (left+999)/1000)
		} else if muted {
			return channel.RefusedFor(limitNames[limitMute])
		}
	}
	return nil
}
