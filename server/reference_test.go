//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/router"
)

var writeReference = flag.Bool("write-reference", false, "write docs/REFERENCE.md")

// docs/REFERENCE.md is what the program has: flags, commands, metrics, reasons, routes, the API.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	reference(t, &b)
	const path = "../docs/REFERENCE.md"
	if *writeReference {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, want := strings.Split(readFile(t, path), "\n"), strings.Split(b.String(), "\n")
	for i, line := range want {
		if i >= len(have) || have[i] != line {
			t.Fatalf("line %d of docs/REFERENCE.md must be\n%s\nmake it anew: go test ./server -run TestReference -write-reference", i+1, line)
		}
	}
	if len(have) != len(want) {
		t.Errorf("docs/REFERENCE.md has %d lines, not %d", len(have), len(want))
	}
}

// reference writes the page.
func reference(t *testing.T, w io.Writer) {
	fmt.Fprint(w, `# Reference

Flags, commands, metrics, reasons, routes and the API, as the program has them. It is made by a test (`+"`go test ./server -run TestReference -write-reference`"+`), and kept equal to the program by it.

- [Flags](#flags)
- [Commands](#commands)
- [Metrics](#metrics)
- [Reasons](#reasons)
- [Routes](#routes)
- [API](#api)
`)
	referenceFlags(t, w)
	referenceCommands(w)

	fmt.Fprint(w, "\n## Metrics\n\nOf `/metrics` on `-admin` and on the admin socket. Some are only there with a fleet, a disk, TLS, logins or handlers. Beside them are those of Go (`go_…`) and of the process (`process_…`).\n\n| metric | labels | |\n| --- | --- | --- |\n")
	for _, m := range admin.Metrics() {
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", m.Name, strings.Join(m.Labels, ", "), cell(m.Help))
	}

	fmt.Fprint(w, "\n## Reasons\n\nWhat the label `reason` may say. What clients are told of what is limited, and when, is in [PROTOCOL.md](PROTOCOL.md#reasons).\n")
	reasons := admin.Reasons()
	for _, metric := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(w, "\n`%s`:\n\n| reason | |\n| --- | --- |\n", metric)
		for _, name := range reasons[metric] {
			meaning := meanings[metric][name]
			if meaning == "" {
				t.Errorf("say in meanings what %s of %s means", name, metric)
			}
			fmt.Fprintf(w, "| `%s` | %s |\n", name, cell(meaning))
		}
		for name := range meanings[metric] {
			if !slices.Contains(reasons[metric], name) {
				t.Errorf("meanings has %s of %s, which there is not", name, metric)
			}
		}
	}

	fmt.Fprint(w, "\n## Routes\n\nThat clients may ask without a program ([PROTOCOL.md](PROTOCOL.md#routes)); those of a program are its own ([HANDLERS.md](HANDLERS.md)).\n\n")
	for _, route := range router.RouteNames() {
		fmt.Fprintf(w, "- `%s`\n", route)
	}

	fmt.Fprint(w, "\n## API\n\nOf the admin socket, and of `-admin` with a token ([ADMIN.md](ADMIN.md#the-api)); bodies and answers are in [openapi.json](openapi.json).\n\n| request | parameters | |\n| --- | --- | --- |\n")
	var doc struct {
		Paths map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "../docs/openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op, names := doc.Paths[path][method], []string(nil)
			for _, p := range op.Parameters {
				names = append(names, "`"+p.Name+"`")
			}
			fmt.Fprintf(w, "| `%s %s` | %s | %s |\n", strings.ToUpper(method), path, strings.Join(names, ", "), cell(op.Summary))
		}
	}
}

func referenceFlags(t *testing.T, w io.Writer) {
	fmt.Fprint(w, "\n## Flags\n\nEach may also be given by the environment, `-max-conns` as `POMELOD_MAX_CONNS`, and by lines of that form in `-flags-file`, which wins over it. The command line wins over both.\n")
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]bool)
	for _, g := range helpGroups {
		fmt.Fprintf(w, "\n### %s\n\n| flag | default | |\n| --- | --- | --- |\n", g.title)
		for _, name := range strings.Fields(g.names) {
			f := c.flags.Lookup(name)
			told[name] = true
			_, text := flag.UnquoteUsage(f)
			value := f.DefValue
			if name == "loops" { // of this machine
				value = "as many as CPUs"
			}
			fmt.Fprintf(w, "| %s | %s | %s |\n", cell(strings.TrimSpace("`-"+name+" "+placeholder(f))+"`"), cell(value), cell(text))
		}
	}
	c.flags.VisitAll(func(f *flag.Flag) {
		if !told[f.Name] {
			t.Errorf("-%s is in no group of -help", f.Name)
		}
	})
}

func referenceCommands(w io.Writer) {
	fmt.Fprint(w, "\n## Commands\n\n`pomelod help COMMAND` tells more of each.\n\n| command | flags | |\n| --- | --- | --- |\n")
	for _, cmd := range commands() {
		var flags []string
		f, _ := cmd.flagSet(new(caller))
		f.VisitAll(func(g *flag.Flag) {
			if cmd.listed == nil || slices.Contains(cmd.listed, g.Name) {
				flags = append(flags, "`-"+g.Name+"`")
			}
		})
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", cell(strings.TrimSpace("pomelod "+cmd.name+" "+cmd.args)), strings.Join(flags, " "), cell(cmd.help))
	}
}

// cell is text as a table may have it.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
}

// meanings are what the reasons of metrics say.
var meanings = map[string]map[string]string{
	"pomelod_closed_total": {
		"address":           "its address has as many connections as it may",
		"early":             "it sent too much before the end of its handshake",
		"flood":             "it went on although it was refused (-flood)",
		"handshake_refused": "its handshake was answered 500 or 501",
		"handshake_timeout": "its handshake was not over in time (-handshake-timeout)",
		"http":              "its HTTP request was answered, or was none",
		"kick":              "it was kicked: by an operator, a program, a rule or a newer session",
		"login":             "its login has expired, or was not good where it had to be",
		"memory":            "memory was short, and it had the most waiting (-max-buffered, -memory)",
		"no_message":        "it said nothing after its handshake (-first-message-timeout)",
		"panic":             "a fault of pomelod's own; the log has it",
		"peer":              "it closed",
		"protocol":          "it broke the protocol",
		"reset":             "its connection broke",
		"shutdown":          "pomelod ended",
		"silent":            "it was not heard for too long (-heartbeat, -idle-timeout)",
		"slow":              "it took too little of what it was sent (-outbound)",
		"stuck":             "it took nothing for too long (-stuck-timeout)",
		"tls":               "its TLS was broken, or not to be borne",
		"too_long":          "it sent a message beyond -max-package, or a head beyond -max-head",
		"unfinished":        "it began a message and did not finish it in time",
	},
	"pomelod_limited_total": {
		"ban":          "an operator has banned the name or the address",
		"enter_rate":   "too many enters or pages (-enter-rate)",
		"filter":       "the filter refused the message, or could not look at it (-filter-url)",
		"history":      "the asker may not read what the room keeps",
		"memory":       "memory is short",
		"mute":         "an operator has muted the name",
		"name_alike":   "a member's name looks alike (-names)",
		"package_rate": "too many packages that are no messages",
		"password":     "the room has a password, and another one was given, or none",
		"room_locked":  "an operator or a program has locked the room",
		"room_members": "the room is full (-room-members), as an operator or a program says",
		"rooms":        "there are as many rooms as there may be (-rooms)",
		"route_rate":   "too much of a route, as its program says",
		"send_rate":    "too many messages (-send-rate)",
		"session_rate": "too many requests (-session-rate)",
		"sessions":     "the user has as many sessions as it may (-sessions)",
		"slow_mode":    "slow mode: too soon after the last message",
	},
	"pomelod_refused_total": {
		"addr_connects":   "its address connects too often (-addr-connects)",
		"addr_conns":      "its address has as many connections as it may (-addr-conns)",
		"addr_handlers":   "its address has as many calls of handlers as it may (-addr-handlers)",
		"addr_handshakes": "its address shakes hands too often (-addr-handshakes)",
		"addr_requests":   "its address asks by HTTP too often (-addr-requests)",
		"ban":             "an operator has banned the address",
		"descriptors":     "pomelod or the machine is out of descriptors",
		"forwarded_for":   "a trusted proxy does not say whom it speaks for",
		"max_conns":       "there are as many connections as there may be (-max-conns)",
		"memory":          "memory is short",
		"origin":          "the page is of a site that is not in -origins",
	},
}
