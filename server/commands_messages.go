//go:build linux

package server

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pomelod/pomelod/admin"
)

// The commands about what rooms keep.

var historyCommand = command{
	name: "history", args: "ROOM", help: "show what a room keeps, the newest messages", least: 1, most: 1,
	about: "SEQ is the place by which pomelod delete knows a message. There are at most 200, or 64 KiB of them.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, limit := asking(f, c), limitFlag(f)
		return func(args []string) error {
			var answer admin.History
			raw, err := o.call("GET", "/v1/history", values("room", args[0], "limit", strconv.Itoa(*limit)), nil, &answer)
			if err != nil {
				return err
			}
			var kept struct {
				Messages []struct {
					Seq, From string
					Time      int64
					Msg       json.RawMessage
				}
				More bool
			}
			if err := json.Unmarshal(answer.History, &kept); err != nil {
				return fmt.Errorf("the answer is not understood; are server and command of one version? %w", err)
			}
			o.show(raw, func(w io.Writer) {
				fmt.Fprintln(w, "SEQ\tTIME\tFROM\tMESSAGE")
				for _, m := range kept.Messages {
					text := string(m.Msg)
					_ = json.Unmarshal(m.Msg, &text) // what is no text is shown as JSON
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", escaped(m.Seq), time.UnixMilli(m.Time).Format("2006-01-02 15:04:05"), escaped(m.From), escaped(text))
				}
				if kept.More {
					fmt.Fprintln(w, "(there are older ones)")
				}
			})
			return nil
		}
	},
}

var deleteCommand = command{
	name: "delete", args: "ROOM [SEQ]", help: "delete messages that a room keeps", least: 1, most: 2,
	about: `
SEQ is the place of a message, as pomelod history tells it; -mid is the id that its client has given it, -user all that somebody has said in the room. Whatever node
of a fleet the room is on, they are told to nobody any more, also after a restart. Clients that understand it (docs/PROTOCOL.md) take them off the screen; others go on showing them.`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		mid, user := f.String("mid", "", "the message with this `id` of its client's, instead of a SEQ"), f.String("user", "", "all that this `name` has said, instead of a SEQ")
		return func(args []string) error {
			d := admin.Delete{Room: args[0], Seq: strings.Join(args[1:], ""), Mid: *mid, User: *user}
			named := 0
			for _, by := range []string{d.Seq, d.Mid, d.User} {
				if by != "" {
					named++
				}
			}
			if named != 1 {
				return settingsError{errors.New("give SEQ, -mid or -user, one of them; pomelod delete -help tells how")}
			}
			return o.tell("/v1/delete", d, "deleted")
		}
	},
}
