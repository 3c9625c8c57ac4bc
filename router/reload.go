package router

import (
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// SetLimits has other limits hold from now on, each loop as soon as it comes to it. It takes of limits what can change while
// sessions are there: not what clients were told, and adjust to, when they came (PingSeconds, PingTimeoutSeconds, PingTimeout4Seconds), not what others than
// loops go by (RequestSeconds, Inbox, Rooms.Grace, Rooms.Sessions, History), and not FirstSeconds, which sessions have counted in. per and origins take the
// place of those of Config.Access. limits must hold together (Limits.Check). Nobody is ended because a limit is lower than before, but for what waits unsent
// (Conn.Buffered, Outbound, Stuck): an address that has more than it may is granted nothing until it has less. Safe from any goroutine; of two calls at once the limits of one hold, and per and origins perhaps of the other.
func (n *Node) SetLimits(limits Limits, per limit.PerAddress, origins Origins) {
	limits.keep(n.limits.Load())
	n.limits.Store(&limits)
	n.budget.SetLimit(limits.Conn.Buffered) // less of it where memory is short, within a second
	n.access.set(per, origins)
	n.ghosts.bound(per.Conns, per.All)
	for _, l := range n.loops {
		l.postRun(0, l.relimit)
	}
}

// keep keeps what SetLimits does not change.
func (l *Limits) keep(old *Limits) {
	l.PingSeconds, l.PingTimeoutSeconds, l.PingTimeout4Seconds = old.PingSeconds, old.PingTimeoutSeconds, old.PingTimeout4Seconds
	l.RequestSeconds, l.Inbox, l.FirstSeconds, l.History = old.RequestSeconds, old.Inbox, old.FirstSeconds, old.History
	l.Rooms.Grace, l.Rooms.Sessions = old.Rooms.Grace, old.Rooms.Sessions
}

// conn is what netpoll goes by.
func (l *Limits) conn() netpoll.Limits {
	conn := l.Conn
	conn.Unfinished = l.HandshakeSeconds
	return conn
}

// relimit has the loop go by the limits as they are now. All that it has refers to its own copy, so that no message costs a look at another goroutine's.
func (l *loop) relimit() {
	old := l.limits
	l.limits = *l.node.limits.Load()
	if l.limits.SessionRate != old.SessionRate || l.limits.SendRate != old.SendRate || l.limits.EnterRate != old.EnterRate {
		l.np.Each(func(c *netpoll.Conn) { // a debt of a slow rate would be one of minutes under a fast one
			m := &l.session(c).meter
			m.all, m.sends, m.enters = 0, 0, 0
		})
	}
	l.np.SetLimits(l.limits.conn())
	l.worker.Limit(l.limits.Rooms)
}

// silence is how long a client may be silent: twice the heartbeat interval, and a second because ticks are whole seconds.
func (l *loop) silence(p *Profile) uint32 {
	if p.HeartbeatSeconds > 0 {
		return uint32(2*p.HeartbeatSeconds) + 1
	}
	return l.limits.IdleSeconds
}
