package admin

import (
	"errors"
	"strings"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// What operators forbid: bans, mutes and locks. Policies of rooms (policy.go) are rules, too.

// maxFor is the longest time for which something is forbidden that is not for ever.
const maxFor = 10 * 365 * 24 * time.Hour

// defaultBanReason is what those are told who are kicked by a ban without a reason.
const defaultBanReason = "banned"

// maxBy is how long the name of who made a rule may be, in bytes; what is longer is cut. It stands in files and goes to other nodes.
const maxBy = 128

// cutBy is who made a rule, no longer than maxBy.
func cutBy(who string) string {
	if len(who) <= maxBy {
		return who
	}
	return strings.ToValidUTF8(who[:maxBy], "")
}

func getRules(a API, _ *request) (any, error) {
	rules, kept := a.Rules()
	return Rules{ScopeFleet, kept, append([]Rule{}, rules...)}, nil
}

// setRule is the endpoint that makes rules of a kind, or lifts them.
func setRule(kind string, lift bool) func(API, *request) (any, error) {
	return func(a API, q *request) (any, error) {
		var f Forbid
		if err := q.decode(&f); err != nil {
			return nil, err
		}
		q.what = []any{"name", f.Name, "address", f.Address, "room", f.Room, "for", f.For, "reason", f.Reason}
		r, err := f.rule(kind, lift)
		if err != nil {
			return nil, err
		}
		r.By = cutBy(q.who)
		kept, err := a.SetRule(r, lift)
		done := Done{Scope: ScopeFleet, Kept: &kept}
		if err != nil || lift || kind != RuleBan {
			return done, err
		}
		n, err := a.KickSessions(q, r.Banned(), r.BanReason())
		if err != nil { // the ban holds all the same, so it is no error
			done.Warning = "the ban holds, but who is in may not have been kicked: " + err.Error()
			return done, nil
		}
		done.Count = &n
		return done, nil
	}
}

// Banned chooses the sessions that a ban is about.
func (r *Rule) Banned() router.SessionFilter {
	f, _ := filter(r.Name, r.Address)
	f.Alike = true
	return f
}

// BanReason is what those are told who are kicked by a ban.
func (r *Rule) BanReason() string {
	if r.Reason == "" {
		return defaultBanReason
	}
	return r.Reason
}

// rule is what is asked for, as far as it makes sense.
func (f *Forbid) rule(kind string, lift bool) (Rule, error) {
	r := Rule{Kind: kind, Name: f.Name, Room: f.Room, Reason: f.Reason, At: time.Now().UTC().Truncate(time.Millisecond)}
	switch {
	case f.Name == channel.Everybody:
		return r, bad("nobody is called %s", f.Name)
	case kind == RuleBan && ((f.Name == "") == (f.Address == "") || f.Room != ""):
		return r, bad("give name or address, one of them, and no room")
	case kind == RuleMute && (f.Name == "" || f.Address != ""):
		return r, bad("give a name, and a room where it is for that only")
	case kind == RuleLock && (f.Room == "" || f.Name != "" || f.Address != ""):
		return r, bad("give a room")
	case lift && (f.For != "" || f.Reason != ""):
		return r, bad("for and reason belong to what forbids something")
	case len(f.Reason) > maxReason || len(f.Name) > maxReason || len(f.Room) > maxReason:
		return r, bad("names and reasons may have %d bytes", maxReason)
	}
	chosen, err := filter("", f.Address)
	if err != nil {
		return r, err
	}
	if f.Address != "" {
		r.Address = chosen.Address.String()
	}
	if f.For == "" {
		return r, nil
	}
	d, err := time.ParseDuration(f.For)
	if err != nil || d < time.Second || d > maxFor {
		return r, bad("for %q: must be a time such as 90s, 30m or 24h; leave it out for ever", f.For)
	}
	until := r.At.Add(d)
	r.Until = &until
	return r, nil
}

// Check refuses what no request could have made, and writes an address as requests do: as a network, without what is beyond its length. What is too long in By is cut.
func (r *Rule) Check() error {
	err := r.CheckLifted()
	switch {
	case err != nil:
		return err
	case (r.Kind == RulePolicy) != (r.Policy != nil):
		return errors.New("a policy, and no other rule, says what holds in a room: policy")
	case r.Policy != nil && r.Until != nil: // else it would go on where it was in use, and be in no list
		return errors.New("a policy has no end by itself: leave out until")
	case r.Policy != nil:
		return r.Policy.Check()
	}
	return nil
}

// CheckLifted is Check for what a rule that was lifted was about.
func (r *Rule) CheckLifted() error {
	r.By = cutBy(r.By)
	kind := r.Kind
	switch kind {
	case RuleBan, RuleMute, RuleLock:
	case RulePolicy: // it is about what a lock is about
		if kind = RuleLock; r.Reason != "" {
			return errors.New("a policy has no reason")
		}
	default:
		return errors.New("its kind must be ban, mute, lock or policy")
	}
	asked, err := (&Forbid{Name: r.Name, Address: r.Address, Room: r.Room, Reason: r.Reason}).rule(kind, false)
	if err == nil {
		r.Address = asked.Address
	}
	return err
}
