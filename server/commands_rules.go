//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pomelod/pomelod/admin"
)

// The commands by which operators forbid something, and lift that.

// forFlag is for how long.
func forFlag(f *flag.FlagSet) *string {
	return f.String("for", "", "`time` after which it ends by itself, such as 90s, 30m or 24h; without it, never")
}

// addressFlag is an address in place of a name.
func addressFlag(f *flag.FlagSet) *string {
	return f.String("address", "", "an `address` or a network, such as 192.0.2.0/24, instead of a name")
}

// everywhere ends the help of these commands.
const everywhere = "In a fleet it holds at every node."

// forbid makes a POST and says what was done.
func (o *operator) forbid(path string, body admin.Forbid, done string) error {
	var answer admin.Done
	raw, err := o.call("POST", path, nil, body, &answer)
	if err != nil {
		return err
	}
	o.show(raw, func(w io.Writer) {
		if answer.Count != nil {
			done += fmt.Sprintf("; %d kicked", *answer.Count)
		}
		if answer.Warning != "" {
			done += "; " + answer.Warning
		}
		if answer.Kept != nil && !*answer.Kept {
			done += "; until the server ends, as it has no -rules-file"
		}
		fmt.Fprintln(w, escaped(done))
	})
	return nil
}

// nameOrAddress checks that one of them is given.
func nameOrAddress(args []string, address string) error {
	if (len(args) == 0) == (address == "") {
		return settingsError{errors.New("give a name or -address, one of them")}
	}
	return nil
}

var banCommand = command{
	name: "ban", args: "[NAME]", help: "keep a name, an address or a network out, and kick who is in", most: 1,
	about: "A banned address cannot connect; a banned name, in any spelling that looks alike, cannot enter. Loopback and trusted proxies cannot be banned.\n" + everywhere,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, address, time := asking(f, c), addressFlag(f), forFlag(f)
		reason := f.String("reason", "banned", "`text` that who is kicked is shown")
		return func(args []string) error {
			if err := nameOrAddress(args, *address); err != nil {
				return err
			}
			return o.forbid("/v1/ban", admin.Forbid{Name: strings.Join(args, ""), Address: *address, For: *time, Reason: *reason}, "banned")
		}
	},
}

var unbanCommand = command{
	name: "unban", args: "[NAME]", help: "lift a ban", most: 1,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, address := asking(f, c), addressFlag(f)
		return func(args []string) error {
			if err := nameOrAddress(args, *address); err != nil {
				return err
			}
			return o.forbid("/v1/unban", admin.Forbid{Name: strings.Join(args, ""), Address: *address}, "lifted")
		}
	},
}

var muteCommand = command{
	name: "mute", args: "NAME", help: "let a name say nothing, in one room or in all", least: 1, most: 1,
	about: "It may enter and read. What it says is refused with the reason mute. Names are anybody's unless clients log in: who is muted may come back under another one.\n" + everywhere,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, time, room := asking(f, c), forFlag(f), f.String("room", "", "in this `room` only")
		return func(args []string) error {
			return o.forbid("/v1/mute", admin.Forbid{Name: args[0], Room: *room, For: *time}, "muted")
		}
	},
}

var unmuteCommand = command{
	name: "unmute", args: "NAME", help: "lift a mute", least: 1, most: 1,
	about: "With -room the one of that room, without it the one of all rooms.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, room := asking(f, c), f.String("room", "", "in this `room`")
		return func(args []string) error {
			return o.forbid("/v1/unmute", admin.Forbid{Name: args[0], Room: *room}, "lifted")
		}
	},
}

var lockCommand = command{
	name: "lock", args: "ROOM", help: "let nobody new into a room", least: 1, most: 1,
	about: "Members stay, and may return after a cut if they prove by their secret to be the same. Others are refused with the reason room_locked.\n" + everywhere,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, time := asking(f, c), forFlag(f)
		return func(args []string) error {
			return o.forbid("/v1/lock", admin.Forbid{Room: args[0], For: *time}, "locked")
		}
	},
}

var unlockCommand = command{
	name: "unlock", args: "ROOM", help: "lift a lock", least: 1, most: 1,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		return func(args []string) error { return o.forbid("/v1/unlock", admin.Forbid{Room: args[0]}, "lifted") }
	},
}

var reloadCommand = command{
	name: "reload", help: "read flags, certificates, keys, tokens and rules again, all or nothing",
	about: `
SIGHUP does the same. Flags are read again where they stand in a file (-flags-file); those that cannot change while clients are there are named, and take
effect at the next start, or by pomelod upgrade, which clients do not notice.`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		return func([]string) error {
			var answer admin.Reload
			raw, err := o.call("POST", "/v1/reload", nil, struct{}{}, &answer)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) {
				if len(answer.Read) == 0 {
					fmt.Fprintln(w, "there is no file to be read again")
					return
				}
				fmt.Fprintln(w, "read again:", escaped(strings.Join(answer.Read, ", ")))
				for _, flag := range answer.Changed {
					fmt.Fprintln(w, "changed: -"+escaped(flag))
				}
				if len(answer.Later) > 0 {
					fmt.Fprintln(w, "takes effect at the next start or upgrade: -"+escaped(strings.Join(answer.Later, ", -")))
				}
			})
			return nil
		}
	},
}

var rulesCommand = command{
	name: "rules", help: "list bans, mutes, locks and policies of rooms",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		return func([]string) error {
			var list admin.Rules
			raw, err := o.call("GET", "/v1/rules", nil, nil, &list)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) {
				fmt.Fprintln(w, "KIND\tUNTIL\tWHOM\tROOM\tREASON\tBY")
				for _, r := range list.Rules {
					until := "lifted"
					if r.Until != nil {
						until = r.Until.Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Kind, until, escaped(r.Name+r.Address), escaped(r.Room), escaped(r.Reason+policyText(r.Policy)), escaped(r.By))
				}
			})
			return nil
		}
	},
}
