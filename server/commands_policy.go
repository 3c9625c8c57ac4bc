//go:build linux

package server

import (
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/admin"
)

// asBefore has a flag of pomelod policy say nothing any more.
const asBefore = "default"

// policyFlags are what an operator says of a room by flags: each has a policy say so.
type policyFlags struct {
	policy admin.Policy
	say    []func(*admin.Policy)
}

// word adds a flag whose value stands in a policy as a word.
func word[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](p *policyFlags, f *flag.FlagSet, name, usage string, at func(*admin.Policy) **T) {
	add(p, f, name, usage, at, func(text string) (v T, err error) {
		err = P(&v).UnmarshalText([]byte(text))
		return v, err
	})
}

// add adds a flag whose value read reads.
func add[T any](p *policyFlags, f *flag.FlagSet, name, usage string, at func(*admin.Policy) **T, read func(string) (T, error)) {
	f.Func(name, usage+"; "+asBefore+": as -rooms-file and flags say", func(text string) error {
		var value *T
		if text != asBefore {
			v, err := read(text)
			if err != nil {
				return err
			}
			value = &v
		}
		*at(&p.policy) = value // so that a mistake is known before anybody is asked
		p.say = append(p.say, func(policy *admin.Policy) { *at(policy) = value })
		return nil
	})
}

func newPolicyFlags(f *flag.FlagSet) *policyFlags {
	p := new(policyFlags)
	word(p, f, "slow", "least `time` between two messages of a member, such as 5s; 0s: none. It goes before what a program has set", func(p *admin.Policy) **admin.Period { return &p.Slow })
	word(p, f, "hold", "least `time` between two writes of what all members are told, such as 20ms; 0s: none", func(p *admin.Policy) **admin.Period { return &p.Hold })
	number := func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			err = errors.New("must be a number")
		}
		return n, err
	}
	add(p, f, "members", "most `members`; 0: no limit. Nobody is sent away", func(p *admin.Policy) **int { return &p.Members }, number)
	add(p, f, "list", "beyond so many `members` nobody is told who comes and goes; 0: everybody always", func(p *admin.Policy) **int { return &p.List }, number)
	word(p, f, "grace", "0s: who is cut off leaves at once; there is no other `time`", func(p *admin.Policy) **admin.Period { return &p.Grace })
	word(p, f, "enter", "`who` may enter: anyone, or program (whom a program of yours has in)", func(p *admin.Policy) **admin.Entry { return &p.Enter })
	word(p, f, "history", "`who` may read what is said: everyone, present (who was there), or none, which keeps nothing; for rooms that come to be", func(p *admin.Policy) **admin.Reading { return &p.History })
	add(p, f, "locked", "true or false: `whether` the room takes in nobody new", func(p *admin.Policy) **bool { return &p.Locked }, func(text string) (bool, error) {
		if text != "true" && text != "false" {
			return false, errors.New("must be true or false")
		}
		return text == "true", nil
	})
	return p
}

var policyCommand = command{
	name: "policy", args: "ROOM", help: "show what holds in a room, or have something else hold there", least: 1, most: 1,
	about: `
Without flags it tells what holds. With flags what they say holds in that room, members there or not, before what -rooms-file and flags say; what was said by this command
before, and is not named, stays. -reset takes all of it back. It survives a restart as bans do.
` + everywhere,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, p := asking(f, c), newPolicyFlags(f)
		reset := f.Bool("reset", false, "say nothing of the room any more")
		return func(args []string) error {
			if *reset && len(p.say) > 0 {
				return settingsError{errors.New("-reset takes back all, so no other flag goes with it")}
			}
			if err := p.policy.Check(); err != nil {
				return settingsError{fmt.Errorf("-%w", err)}
			}
			query := values("room", args[0])
			var now admin.RoomPolicy
			method, body := "GET", any(nil)
			if *reset {
				method, body = "PUT", admin.Policy{}
			}
			raw, err := o.call(method, "/v1/policy", query, body, &now)
			if err == nil && len(p.say) > 0 {
				policy := now.Policy
				for _, say := range p.say {
					say(&policy)
				}
				now = admin.RoomPolicy{}
				raw, err = o.call("PUT", "/v1/policy", query, policy, &now)
			}
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) { showPolicy(w, &now) })
			return nil
		}
	},
}

// showPolicy writes what holds in a room, and who says so.
func showPolicy(w io.Writer, now *admin.RoomPolicy) {
	fmt.Fprintln(w, "LIMIT\tVALUE\tSAID BY")
	own := make(map[string]bool)
	for _, word := range policyWords(&now.Policy) {
		own[word[0]] = true
	}
	for _, word := range policyWords(&now.Holds) {
		by := "-rooms-file or flags"
		if own[word[0]] {
			by = now.By
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", word[0], word[1], escaped(by))
	}
	if len(own) > 0 && !now.Kept {
		fmt.Fprintln(w, "(until the server ends, as it has no -rules-file)")
	}
}

// policyWords are what a policy says, as words.
func policyWords(p *admin.Policy) (words [][2]string) {
	text := func(name string, v encoding.TextMarshaler, said bool) {
		if said {
			b, _ := v.MarshalText()
			words = append(words, [2]string{name, string(b)})
		}
	}
	add := func(name string, said bool, v func() string) {
		if said {
			words = append(words, [2]string{name, v()})
		}
	}
	text("slow", p.Slow, p.Slow != nil)
	text("hold", p.Hold, p.Hold != nil)
	add("members", p.Members != nil, func() string { return strconv.Itoa(*p.Members) })
	add("list", p.List != nil, func() string { return strconv.Itoa(*p.List) })
	text("grace", p.Grace, p.Grace != nil)
	text("enter", p.Enter, p.Enter != nil)
	text("history", p.History, p.History != nil)
	add("locked", p.Locked != nil, func() string { return strconv.FormatBool(*p.Locked) })
	return words
}

// policyText is what a policy says in a line.
func policyText(p *admin.Policy) string {
	if p == nil {
		return ""
	}
	var words []string
	for _, word := range policyWords(p) {
		words = append(words, word[0]+"="+word[1])
	}
	return strings.Join(words, " ")
}
