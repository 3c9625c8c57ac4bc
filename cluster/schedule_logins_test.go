package cluster_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// Logins in a fleet, with the faults that chance seldom times like this.

// loginStage is a fleet that is calm, in which a user may have so many sessions.
func loginStage(t *testing.T, nodes string, limits channel.Sessions) *stage {
	s := newStage(t, nodes, 0)
	s.sessions, s.chance = limits, rand.New(rand.NewPCG(1, 17))
	for _, p := range s.procs {
		p.boot()
	}
	s.calm()
	return s
}

// logsIn has somebody begin to log in at p, as one user all of them. Whose number is divisible by three cannot prove who it is.
func (s *stage) logsIn(p *proc, id int) *login {
	v := &visitor{w: s.world, id: id, user: simUsers[0], next: never}
	return v.claim(p)
}

// states waits until logins have their answers, and holds what became of them against what should have.
func (s *stage) states(when string, list []*login, want ...loginState) {
	s.t.Helper()
	for _, x := range list {
		s.until("the login is answered", 6000, func() bool { return x.state != loginWaits })
	}
	s.pass(100)
	for i, x := range list {
		if x.state != want[i] {
			s.t.Errorf("%s: login %d is in state %d, not %d", when, i, x.state, want[i])
		}
	}
}

// The second login of a user comes by another connector, and its partition loses its owner, or moves, at each moment around the answer. Where the
// second is refused the first one stays; where the old make room the new one is the only one.
func TestSecondLoginWhileTheOwnerChanges(t *testing.T) {
	for _, limits := range []channel.Sessions{{Most: 1}, {Most: 1, KickOld: true}} {
		for _, dies := range []bool{false, true} {
			for after := int64(0); after < 14; after++ {
				s := loginStage(t, "cccnn", limits)
				part := channel.Partition(simUsers[0])
				first := s.logsIn(s.procs[3], 0)
				s.states("alone", []*login{first}, loginCounts)
				second, old := s.logsIn(s.procs[4], 3), s.owner(part)
				if !dies {
					s.maker().node.Shift(part)
				}
				s.pass(after)
				if dies {
					old.kill()
				}
				want := []loginState{loginCounts, loginRefused}
				if limits.KickOld {
					want = []loginState{loginOver, loginCounts}
				}
				s.states("second", []*login{first, second}, want...)
				s.until("the partition has another owner", 5000, func() bool { return s.owner(part) != nil && s.owner(part) != old })
				s.end()
			}
		}
	}
}

// Two log in at once by two connectors, while the owner dies: one is in.
func TestTwoLoginsAtOnce(t *testing.T) {
	for _, limits := range []channel.Sessions{{Most: 1}, {Most: 1, KickOld: true}} {
		for after := int64(0); after < 8; after++ {
			s := loginStage(t, "cccnn", limits)
			both := []*login{s.logsIn(s.procs[3], 0), s.logsIn(s.procs[4], 3)}
			s.pass(after)
			s.owner(channel.Partition(simUsers[0])).kill()
			s.until("both are answered", 6000, func() bool { return both[0].state != loginWaits && both[1].state != loginWaits })
			s.pass(500)
			in := 0
			for _, x := range both {
				if x.state == loginCounts {
					in++
				}
			}
			if in != 1 {
				t.Errorf("%+v, %d ms: %d are in", limits, after, in)
			}
			s.end()
		}
	}
}

// A client that is cut off comes by another connector before the first has noticed: it is its own user, and takes the place of its old session. Another client is refused.
func TestLoginOfWhoWasCutOff(t *testing.T) {
	s := loginStage(t, "cccnn", channel.Sessions{Most: 1})
	old := s.logsIn(s.procs[3], 1)
	s.states("first", []*login{old}, loginCounts)
	other, same := s.logsIn(s.procs[4], 2), s.logsIn(s.procs[4], 1)
	s.states("two more", []*login{other, same, old}, loginRefused, loginCounts, loginOver)
	s.end()
}

// A connector dies: its sessions count until the others know, and then no more.
func TestLoginsOfAConnectorThatDies(t *testing.T) {
	s := loginStage(t, "cccnn", channel.Sessions{Most: 1})
	first := s.logsIn(s.procs[3], 0)
	s.states("first", []*login{first}, loginCounts)
	s.procs[3].kill()
	early := s.logsIn(s.procs[4], 0)
	s.states("before they know", []*login{early}, loginRefused)
	s.calm()
	late := s.logsIn(s.procs[4], 0)
	s.states("then", []*login{late}, loginCounts)
	s.end()
}

// Owner and follower of a user's partition die: nobody knows the user's sessions any more, so they end, and the user may log in again.
func TestLoginsThatNobodyKnows(t *testing.T) {
	s := loginStage(t, "cccnn", channel.Sessions{Most: 1})
	part := channel.Partition(simUsers[0])
	first := s.logsIn(s.procs[3], 0)
	s.states("first", []*login{first}, loginCounts)
	o, f := s.owner(part), s.follower(part)
	o.kill()
	f.kill()
	s.until("it is told", 6000, func() bool { return first.state == loginOver })
	s.calm()
	again := s.logsIn(s.procs[4], 0)
	s.states("again", []*login{again}, loginCounts)
	s.end()
}
