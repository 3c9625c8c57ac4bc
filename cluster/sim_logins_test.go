package cluster_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// What the simulation knows of logins. Visitors log in as one of a few users, each by some connector, stay, go, are cut off, and come again by another connector,
// often before their old session is known to have ended. The partition of a user's name decides how many sessions it has (package channel, claim.go), while nodes
// die and partitions move.
//
// A session counts for its user from the answer to its claim until its connector has ended it. Of a user there are never more that count than the policy allows; what the
// owner has at the end is exactly who is there; and no session is taken out of the list while it goes on, unless it is kicked for one that comes.

const (
	simVisitors  = 8
	simPatience  = 8000 // ms: how long somebody waits for an answer
	simLoginStay = 1200 // ms, at most
)

// simUsers are users whose partitions the fleets of the simulation have. Two have the same one.
var simUsers = func() (users []string) {
	for i := 0; len(users) < 4; i++ {
		user := fmt.Sprint("uid\x00", i)
		p := channel.Partition(user)
		same := len(users) > 0 && p == channel.Partition(users[0])
		if p < simParts && (len(users) == 3) == same {
			users = append(users, user)
		}
	}
	return users
}()

// visitor is somebody who logs in.
type visitor struct {
	w    *world
	id   int
	user string
	next int64 // when it does something, ms
	s    *login
	back bool // it was cut off, and comes again as the same user
}

// loginState is how far a session is that logs in.
type loginState uint8

const (
	loginWaits loginState = iota
	loginCounts
	loginRefused
	loginOver // it has ended, or nobody knows whether it counts
)

// login is a session that logs in, or has.
type login struct {
	v      *visitor
	p      *proc
	ref    channel.Ref
	user   string
	state  loginState
	at     int64          // when it claimed, ms
	born   cluster.ViewID // of the partition in which it counts, as its connector knew when it had the answer
	closes int64          // when its connector notices that its client has gone; 0: it has not
	ousted bool           // some owner has decided that it makes room
}

// ousting is a session that was kicked for another one.
type ousting struct{ old, for_ *login }

// planLogins has a run have visitors, with random numbers of their own, and draws how many sessions a user may have.
func (w *world) planLogins() {
	w.chance = rand.New(rand.NewPCG(w.seed, 17))
	w.sessions = []channel.Sessions{{Most: 1}, {Most: 1, KickOld: true}, {Most: 1 + w.chance.IntN(3)}, {Most: 2, KickOld: true}}[w.chance.IntN(4)]
	for i := range simVisitors {
		w.visitors = append(w.visitors, &visitor{w: w, id: i, next: 2500 + int64(w.chance.IntN(1000))})
	}
}

// key proves that two sessions are one visitor's. Every third cannot.
func (v *visitor) key() uint64 {
	if v.id%3 == 0 {
		return 0
	}
	return 1<<40 | uint64(v.id)
}

// step lets a visitor do what it does next.
func (v *visitor) step() {
	w := v.w
	switch {
	case v.s == nil:
		v.begin()
	case v.s.state == loginWaits:
		v.next = w.now + 50
		if w.now-v.s.at > simPatience {
			w.sums["visitors who gave up"]++
			if w.now-v.s.p.sick > simPatience {
				w.violation("visitor %d at %s, which is well, has waited since %d", v.id, v.s.p.name, v.s.at)
			}
			v.goes(0)
		}
	case w.now > simStop:
		v.next = never
	case w.chance.IntN(3) == 0:
		v.back = true
		v.goes(50 + int64(w.chance.IntN(700)))
		v.next = w.now + 20 + int64(w.chance.IntN(400))
	default:
		v.goes(0)
	}
}

// begin logs in by some connector.
func (v *visitor) begin() {
	w := v.w
	if w.now > simStop {
		v.next = never
		return
	}
	v.next = w.now + 200
	open := w.serving()
	if len(open) == 0 {
		return
	}
	if !v.back {
		v.user = simUsers[w.chance.IntN(len(simUsers))]
	}
	v.back = false
	v.claim(open[w.chance.IntN(len(open))])
}

// claim has a new session at p log in as the visitor's user.
func (v *visitor) claim(p *proc) *login {
	p.refs++
	s := &login{v: v, p: p, ref: p.refs, user: v.user, at: v.w.now}
	v.s, v.next = s, v.w.now+50
	p.logins[s.ref] = s
	r := s.request(channel.OpClaim)
	r.Req, r.Key = 1, v.key()
	if err := p.post(r); err != nil {
		v.w.sums["logins refused, not sent"]++
		s.end(loginRefused)
	}
	return s
}

// goes has the visitor go, which its connector notices some milliseconds later.
func (v *visitor) goes(later int64) {
	s := v.s
	s.closes = max(v.w.now+later, 1)
	s.p.closesAt = min(s.p.closesAt, s.closes)
	v.s, v.next = nil, v.w.now+50+int64(v.w.chance.IntN(500))
}

func (s *login) request(op channel.Op) *channel.Request {
	return &channel.Request{Op: op, Part: channel.Partition(s.user), From: channel.Addr{Node: s.p.node.Self(), Ref: s.ref}, User: s.user}
}

// end ends the session. If it counts, or may, it is taken back.
func (s *login) end(how loginState) {
	was := s.state
	delete(s.p.logins, s.ref)
	if s.state = how; s.v.s == s {
		s.v.s, s.v.next = nil, s.v.w.now+50+int64(s.v.w.chance.IntN(500))
	}
	if how == loginOver && was <= loginCounts {
		if err := s.p.post(s.request(channel.OpRelease)); err != nil {
			s.v.w.violation("a release is refused: %v", err)
		}
	}
}

// inOrder are the sessions of a process that log in or have, in an order that is the same in each run.
func (p *proc) inOrder() (list []*login) {
	for _, s := range p.logins {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *login) int { return cmp.Compare(a.ref, b.ref) })
	return list
}

// closeLogins ends the sessions of which the process notices now that their clients have gone.
func (p *proc) closeLogins() {
	if p.closesAt > p.w.now {
		return
	}
	p.closesAt = never
	for _, s := range p.inOrder() {
		switch {
		case s.closes == 0:
		case s.closes <= p.w.now:
			s.end(loginOver)
		default:
			p.closesAt = min(p.closesAt, s.closes)
		}
	}
}

// dropLogins ends all sessions with the run that had them: others see that by its end.
func (p *proc) dropLogins() {
	for _, s := range p.inOrder() {
		s.state, s.p.logins = loginOver, nil
		if s.v.s == s {
			s.v.s, s.v.next = nil, p.w.now+50+int64(p.w.chance.IntN(500))
		}
	}
	p.logins = map[channel.Ref]*login{}
}

// loginLost ends the sessions that count in a partition, or are about to.
func (p *proc) loginLost(part uint16) {
	for _, s := range p.inOrder() {
		if channel.Partition(s.user) == part {
			p.w.sums["logins lost"]++
			s.end(loginOver)
		}
	}
}

// refusedClaim takes the word that the claim has no answer.
func (s *login) refusedClaim(sent bool) {
	s.v.w.sums["logins not answered"]++
	if sent { // it may count
		s.end(loginOver)
	} else {
		s.end(loginRefused)
	}
}

// item takes what the partition of the user says.
func (s *login) item(it *channel.Item) {
	w := s.p.w
	switch {
	case it.Kind == channel.ItemKick:
		w.sums["logins kicked"]++
		s.end(loginOver)
	case it.Kind != channel.ItemReply || s.state != loginWaits:
		w.violation("visitor %d is told %v", s.v.id, it)
	case bytes.Equal(it.Body, channel.Done):
		w.sums["logins"]++
		s.state, s.born = loginCounts, s.p.node.View().Shares[it.Part].Born
		if s.v.s == s {
			s.v.next = w.now + 100 + int64(w.chance.IntN(simLoginStay))
		}
		w.checkUser(s)
	default:
		w.sums["logins refused"]++
		s.end(loginRefused)
	}
}

// checkUser looks how many sessions of a user count as one more does, on nodes that serve. One that an owner has decided to kick is on its way out, and so are those
// of a node that the view leaves out, until it hears of that: others may take their places before.
func (w *world) checkUser(last *login) {
	n := 0
	for _, p := range w.procs {
		if !p.running() || p.node.Suspended() || w.now-p.turned > 50 || !last.p.node.View().Has(p.node.Self()) {
			continue
		}
		for _, s := range p.logins {
			if s.user == last.user && s.state == loginCounts && s.born == last.born && !s.ousted {
				n++
			}
		}
	}
	if w.sums["logins checked"]++; n > w.sessions.Most && (!w.split || w.quorum > 0) {
		w.violation("%d sessions of %q count, with that of visitor %d at %s; %+v", n, last.user, last.v.id, last.p.name, w.sessions)
	}
}

// loginAt is the session of an address, if it is there.
func (w *world) loginAt(a channel.Addr) *login {
	for _, p := range w.procs {
		if p.up && p.node.Self() == a.Node {
			return p.logins[a.Ref]
		}
	}
	return nil
}

// decidedLogins looks at what the owner of a partition has decided of sessions.
func (p *proc) decidedLogins(part uint16, records []channel.Record, items []channel.Item) {
	w := p.w
	var comes *channel.Record
	gone := channel.Node(0)
	for i := range records {
		switch r := &records[i]; r.Kind {
		case channel.RecordClaim:
			comes = r
		case channel.RecordGone:
			gone = r.Addr.Node
		}
	}
	for i := range records {
		r := &records[i]
		if r.Kind != channel.RecordRelease || r.Addr.Node == gone {
			continue
		}
		s := w.loginAt(r.Addr)
		kicked := slices.ContainsFunc(items, func(it channel.Item) bool { return it.Kind == channel.ItemKick && it.To == r.Addr })
		switch {
		case !kicked && s != nil:
			w.violation("visitor %d at %s no longer counts as %q, and has not ended", s.v.id, s.p.name, r.User)
		case kicked && comes == nil:
			w.violation("a session of %q is kicked, and none comes", r.User)
		case kicked && !w.sessions.KickOld && (comes.Key == 0 || s != nil && s.v.key() != comes.Key):
			w.violation("a session of %q is kicked for that of another client; %+v", r.User, w.sessions)
		case kicked && s != nil:
			s.ousted = true
			if c := w.loginAt(comes.Addr); c != nil {
				w.oustings = append(w.oustings, ousting{s, c})
			}
		}
	}
}

// checkLogins compares the users that the owner of a partition has with who is there.
func (w *world) checkLogins(part uint16, state []byte) {
	type place struct {
		user string
		addr channel.Addr
	}
	have, counts := map[place]bool{}, map[string]int{}
	records := cluster.RecordsOf(state)
	w.checkLeads(part, records)
	for _, r := range records {
		if r.Kind == channel.RecordClaim && !slices.Contains(simLeads, r.User) {
			have[place{r.User, r.Addr}] = true
			counts[r.User]++
		}
	}
	for _, p := range w.procs {
		for _, s := range p.inOrder() {
			at := place{s.user, channel.Addr{Node: p.node.Self(), Ref: s.ref}}
			switch {
			case channel.Partition(s.user) != part:
			case s.state != loginCounts:
				w.violation("visitor %d at %s waits at the end", s.v.id, p.name)
			case !have[at]:
				w.violation("visitor %d at %s is there as %q, and the owner does not know", s.v.id, p.name, s.user)
			default:
				w.sums["logins at the end"]++
				delete(have, at)
			}
		}
	}
	for at := range have {
		w.violation("the owner counts a session of %q that is not there: %v", at.user, at.addr)
	}
	for user, n := range counts {
		if n > w.sessions.Most {
			w.violation("%q has %d sessions at the end; %+v", user, n, w.sessions)
		}
	}
}

// checkOustings looks whether those for whom others were kicked came in, unless they went themselves.
func (w *world) checkOustings() {
	for _, o := range w.oustings {
		if o.old.state == loginOver && o.for_.state == loginRefused {
			w.violation("a session of %q was kicked for that of visitor %d, which was refused", o.old.user, o.for_.v.id)
		}
	}
}

// underWay counts logins that wait while their partition gets another owner.
func (w *world) underWay(part int, what string) {
	for _, p := range w.procs {
		for _, s := range p.logins {
			if s.state == loginWaits && int(channel.Partition(s.user)) == part {
				w.sums["logins over a "+what]++
			}
		}
	}
}
