//go:build linux

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/pomelod/pomelod/admin"
)

// The commands that ask a running pomelod by its admin socket.

// operator is how a command reaches a running pomelod, and how it shows what that says.
type operator struct {
	c      *caller
	socket *string
	output *string
	within time.Duration // how long an answer may take
}

// asking adds the flags that all such commands have.
func asking(f *flag.FlagSet, c *caller) *operator {
	return &operator{c, socketFlag(f, c), f.String("o", "text", "`text` for people, or json: what the API has answered"), askTime}
}

// askTime is more than a server takes for any answer.
const askTime = 20 * time.Second

// call makes a request with a body, if that is not nil, and decodes the answer into answer. It returns the answer as it came.
func (o *operator) call(method, path string, query url.Values, body, answer any) (raw []byte, err error) {
	if *o.output != "text" && *o.output != "json" {
		return nil, settingsError{fmt.Errorf("-o %s: must be text or json", *o.output)}
	}
	socket, err := socketOf(*o.socket, o.c)
	if err != nil {
		return nil, err
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, "http://pomelod"+path+"?"+query.Encode(), content)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport, Timeout: o.within}).Do(r)
	if err != nil {
		var cause *url.Error // its own text has a URL that nobody has asked for
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("no pomelod answers at %s: %w; give the -admin-socket of the server", socket, err)
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return nil, fmt.Errorf("the answer has not come: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct{ Error string }
		if json.Unmarshal(raw, &refusal) != nil || refusal.Error == "" {
			refusal.Error = resp.Status
		}
		return nil, errors.New(escaped(refusal.Error))
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, fmt.Errorf("the answer is not understood; are server and command of one version? %w", err)
	}
	return raw, nil
}

// socketOf is the path of the socket that a command's flag names.
func socketOf(given string, c *caller) (path string, err error) {
	if given == autoSocket {
		return theSocket(c.environ)
	}
	return given, nil
}

// show writes an answer: as it came with -o json, else by text.
func (o *operator) show(raw []byte, text func(w io.Writer)) {
	if *o.output == "json" {
		_, _ = io.WriteString(o.c.stdout, escapedJSON(string(raw)))
		return
	}
	w := tabwriter.NewWriter(o.c.stdout, 0, 0, 2, ' ', 0)
	text(w)
	_ = w.Flush()
}

// escaped is text without what a terminal would obey, and without what would look like another line or column.
func escaped(text string) string {
	return mapRunes(text, func(r rune) string {
		if unicode.IsPrint(r) {
			return ""
		}
		q := strconv.QuoteRuneToASCII(r)
		return q[1 : len(q)-1]
	})
}

// escapedJSON is JSON text without what a terminal would obey; what it says is the same.
func escapedJSON(text string) string {
	return mapRunes(text, func(r rune) string {
		switch {
		case unicode.IsPrint(r) || r == '\n' || r == '\t':
			return ""
		case r > 0xffff:
			r -= 0x10000
			return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
		return fmt.Sprintf(`\u%04x`, r)
	})
}

// mapRunes puts what f says in the place of each rune; empty: it stays.
func mapRunes(text string, f func(rune) string) string {
	var b strings.Builder
	for _, r := range text {
		if s := f(r); s != "" {
			b.WriteString(s)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// values are parameters of a query, without those that are empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// limitFlag is how many lines a list may have.
func limitFlag(f *flag.FlagSet) *int { return f.Int("limit", 100, "so many at most, 1 to 1000") }

// more tells that a list goes on.
func more(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintf(w, "(there are more: -after %s)\n", shellWord(next))
	}
}

// shellWord is a word as a shell takes it, without what a terminal would obey: that is escaped as bash, zsh and ksh understand it.
func shellWord(s string) string {
	if escaped(s) == s {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return "$'" + escaped(strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s)) + "'"
}

var readyCommand = command{
	name: "ready", help: "tell whether the running pomelod takes clients, for what looks after it",
	about: "Prints ok, or why not, which is exit code 1. It is the healthcheck of the container image.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		socket := socketFlag(f, c)
		return func([]string) error {
			path, err := socketOf(*socket, c)
			if err != nil {
				return err
			}
			answer, err := askAdmin(path, "/readyz", nil)
			if err == nil {
				_, err = c.stdout.Write(answer)
			}
			return err
		}
	},
}

var roomsCommand = command{
	name: "rooms", args: "[PREFIX]", help: "list the rooms of the running pomelod", most: 1,
	about: "With PREFIX only those whose names begin with it. In a fleet they are those that the asked node owns.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, after, limit := asking(f, c), f.String("after", "", "go on behind the `room` of that name"), limitFlag(f)
		return func(args []string) error {
			var list admin.Rooms
			raw, err := o.call("GET", "/v1/rooms", values("prefix", strings.Join(args, ""), "after", *after, "limit", strconv.Itoa(*limit)), nil, &list)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) {
				fmt.Fprintln(w, "MEMBERS\tKEPT\tSLOW\tROOM")
				for _, r := range list.Rooms {
					fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", r.Members, r.Kept, r.Slow, escaped(r.Name))
				}
				more(w, list.Next)
			})
			return nil
		}
	},
}

var whoCommand = command{
	name: "who", args: "ROOM", help: "list the members of a room, in the order in which they entered", least: 1, most: 1,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		return func(args []string) error {
			var room admin.RoomAnswer
			raw, err := o.call("GET", "/v1/room", values("name", args[0]), nil, &room)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) {
				for _, name := range room.Users {
					fmt.Fprintln(w, escaped(name))
				}
			})
			return nil
		}
	},
}

var sessionsCommand = command{
	name: "sessions", help: "list the sessions of the running pomelod, with their addresses",
	about: "In a fleet they are those of the asked node.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, limit := asking(f, c), limitFlag(f)
		name, address := f.String("name", "", "only those of this `name`"), f.String("address", "", "only those of this `address` or network, such as 192.0.2.0/24")
		prefix := f.String("prefix", "", "only those whose names begin with this `text`")
		after := f.String("after", "", "go on at this `place`, which the list before has told")
		return func([]string) error {
			var list admin.Sessions
			raw, err := o.call("GET", "/v1/sessions", values("name", *name, "prefix", *prefix, "address", *address, "after", *after, "limit", strconv.Itoa(*limit)), nil, &list)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) {
				fmt.Fprintln(w, "ADDRESS\tTRANSPORT\tLOOP\tNAME\tROOM")
				for _, s := range list.Sessions {
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", s.Address, s.Transport, s.Loop, escaped(s.Name), escaped(s.Room))
				}
				more(w, list.Next)
			})
			return nil
		}
	},
}

// tell makes a POST and says what was done.
func (o *operator) tell(path string, body any, done string) error {
	var answer admin.Done
	raw, err := o.call("POST", path, nil, body, &answer)
	if err != nil {
		return err
	}
	o.show(raw, func(w io.Writer) {
		switch {
		case answer.Count == nil:
		case path == "/v1/delete":
			done += fmt.Sprintf(": %d", *answer.Count)
		case answer.Delivered != nil:
			if done += fmt.Sprintf(": %d members", *answer.Count); answer.Seq != "" {
				done += ", seq " + answer.Seq
			}
		case answer.Nodes != nil:
			done += fmt.Sprintf(": %d sessions at %d nodes", *answer.Count, *answer.Nodes)
		case answer.Scope == "fleet":
			done += fmt.Sprintf(": %d on this node, and whom the others have", *answer.Count)
		default:
			done += fmt.Sprintf(": %d on this node", *answer.Count)
		}
		if answer.Repeated {
			done += ", before"
		}
		if answer.Warning != "" {
			done += "; " + answer.Warning
		}
		fmt.Fprintln(w, escaped(done))
	})
	return nil
}

// reasonFlag is what clients are told.
func reasonFlag(f *flag.FlagSet) *string {
	return f.String("reason", "kicked by an operator", "`text` that the clients are shown")
}

var kickCommand = command{
	name: "kick", args: "[NAME]", help: "end the sessions of a name, a login, an address, or all", most: 1,
	about: `
With -room it is the member of that room; else all sessions of that name, login or address are meant. In a fleet they are kicked at every node, and the number is of the
one that was asked. A kicked client may come back.`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, reason := asking(f, c), reasonFlag(f)
		room, address := f.String("room", "", "only as a member of this `room`"), f.String("address", "", "those of this `address` or network, such as 192.0.2.0/24, instead of a name")
		uid, all := f.String("uid", "", "those whose login has this `uid`, instead of a name"), f.Bool("all", false, "everybody, instead of a name")
		return func(args []string) error {
			k := admin.Kick{Name: strings.Join(args, ""), Address: *address, UID: *uid, All: *all, Room: *room, Reason: *reason}
			if _, err := k.Sessions(); err != nil {
				return settingsError{errors.New("give a name, -address, -uid or -all, one of them; pomelod kick -help tells how")}
			}
			return o.tell("/v1/kick", k, "kicked")
		}
	},
}

var sayCommand = command{
	name: "say", args: "ROOM TEXT…", help: "say something to all members of a room", least: 2, most: -1,
	about: "Clients get it as a message (onChat) from -from to everybody, in order with what members say, and the room keeps it as it keeps that. With -mid it may be said again, and is said once.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, from := asking(f, c), f.String("from", "system", "`name` that clients are shown")
		mid := midFlag(f)
		return func(args []string) error {
			body, err := json.Marshal(map[string]string{"msg": strings.Join(args[1:], " "), "from": *from, "target": "*"})
			if err != nil {
				return err
			}
			return o.tell("/v1/publish", admin.Publish{Room: args[0], Route: "onChat", Body: body, Mid: *mid}, "said")
		}
	},
}

var publishCommand = command{
	name: "publish", args: "ROUTE JSON", help: "push to a room, a member, a user or everybody", least: 2, most: 2,
	about: `
Clients get JSON, an object, under ROUTE, whatever node of a fleet they are on. To a room, and with -user to one of its members, it is in order with what members say; an onChat to a
room is a message, {"msg":"…","from":"…"}, which the room keeps. -user alone is all of that name in any room. With -mid it may be published again, at any node, and is done once: so ask again where it is
not known what became of it.`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		mid := midFlag(f)
		var p admin.Publish
		f.StringVar(&p.Room, "room", "", "to the members of this `room`")
		f.StringVar(&p.User, "user", "", "to those of this `name`; with -room to that member")
		f.StringVar(&p.UID, "uid", "", "to those whose login has this `uid`, or whom a program has bound to it")
		f.BoolVar(&p.All, "all", false, "to all sessions")
		return func(args []string) error {
			if !json.Valid([]byte(args[1])) {
				return settingsError{fmt.Errorf("%q is no JSON; pomelod publish -help tells how", args[1])}
			}
			p.Route, p.Body, p.Mid = args[0], json.RawMessage(args[1]), *mid
			return o.tell("/v1/publish", p, "published")
		}
	},
}

// midFlag is by what the same is known again.
func midFlag(f *flag.FlagSet) *string {
	return f.String("mid", "", "`id` by which it is known when it is asked for again, for ten minutes")
}

var closeCommand = command{
	name: "close", args: "ROOM", help: "kick all members of a room, and forget what it keeps", least: 1, most: 1,
	about: "The room is made anew by who enters next.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, reason := asking(f, c), reasonFlag(f)
		return func(args []string) error {
			return o.tell("/v1/close", admin.Close{Room: args[0], Reason: *reason}, "closed")
		}
	},
}
