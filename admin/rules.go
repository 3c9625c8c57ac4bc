package admin

import (
	"errors"
	"time"

	"github.com/pomelod/pomelod/channel"
)

// What operators forbid: bans, mutes and locks.

// maxFor is the longest time for which something is forbidden that is not for ever.
const maxFor = 10 * 365 * 24 * time.Hour

// defaultBanReason is what those are told who are kicked by a ban without a reason.
const defaultBanReason = "banned"

func getRules(a API, _ *request) (any, error) {
	rules, kept := a.Rules()
	return Rules{scopeNode, kept, append([]Rule{}, rules...)}, nil
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
		r.By = q.who
		kept, err := a.SetRule(r, lift)
		done := Done{Scope: scopeNode, Kept: &kept}
		if err != nil || lift || kind != RuleBan {
			return done, err
		}
		chosen, err := filter(f.Name, f.Address)
		if err != nil {
			return nil, err
		}
		if f.Reason == "" {
			f.Reason = defaultBanReason
		}
		n, err := a.KickSessions(q, chosen, f.Reason)
		done.Count = &n
		return done, err
	}
}

// rule is what is asked for, as far as it makes sense.
func (f *Forbid) rule(kind string, lift bool) (Rule, error) {
	r := Rule{Kind: kind, Name: f.Name, Room: f.Room, Reason: f.Reason, At: time.Now().UTC().Truncate(time.Second)}
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
		r.Address = chosen.Address.Masked().String()
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

// Same tells whether two rules are about the same, so that one takes the place of the other.
func (r *Rule) Same(other *Rule) bool {
	return r.Kind == other.Kind && r.Name == other.Name && r.Address == other.Address && r.Room == other.Room
}

// Check refuses what no request could have made.
func (r *Rule) Check() error {
	switch r.Kind {
	case RuleBan, RuleMute, RuleLock:
	default:
		return errors.New("its kind must be ban, mute or lock")
	}
	_, err := (&Forbid{Name: r.Name, Address: r.Address, Room: r.Room, Reason: r.Reason}).rule(r.Kind, false)
	return err
}
