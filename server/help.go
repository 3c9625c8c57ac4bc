//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

const usage = `pomelod is a chat server for clients of NetEase Pomelo and socket.io: WebSocket, polling and raw TCP on one port.

  pomelod                          gate on :3014, connector and chat page on :3050
  pomelod -listen :4050            connector on another port
  pomelod -nats nats://host:4222   one node of a fleet (docs/CLUSTER.md)
  pomelod -config game-server/config -env production
                                   the gates, connectors, dictionary and protobuf files of a Pomelo project
  pomelod start -d game-server -e production
                                   the same, as with Pomelo; with -nats a process for each entry

Clients ask the gate (gate.gateHandler.queryEntry) for a connector, enter a room there (connector.entryHandler.enter) and
chat (chat.chatHandler.send). SIGTERM or Ctrl-C ends pomelod in order. Sockets that systemd passes (LISTEN_FDS) are listened on
instead of the addresses below.

pomelod help lists the commands by which a running pomelod is asked and told: upgrade and others.

Each flag can also be given by the environment, -max-conns as POMELOD_MAX_CONNS, and by lines of that form in a file (-flags-file),
which pomelod reload reads again. The file wins over the environment, and the command line over both. An empty variable is as good as
none.

Exit codes: 0 ended in order; 1 the machine refused something (a port in use, no descriptors), or a loop was stuck, or a
second signal ended it; 2 flags or files are wrong.

A SIZE is in bytes, or like 256KiB, 16MiB, 1GiB; a TIME is like 1.5s, 20s, 5m; a RATE:BURST is so many a second, and so many at once.
`

// helpGroups are the flags in the order in which -help shows them. What stands in none of them is shown last.
var helpGroups = []struct{ title, names string }{
	{"Most needed", "config env listen gate advertise admin heartbeat origins trusted-proxies memory"},
	{"Look before you start", "check-config print-config version"},
	{"Start and end", "flags-file bind admin-socket admin-token-file rules-file admin-hosts pprof page cesu8 log-level drain drain-delay"},
	{"TLS", "tls-cert tls-key tls-self tls-listen tls-gate tls-advertise tls-handshakes tls-rate tls-timeout"},
	{"Login", "auth auth-key auth-issuer auth-audience auth-name auth-url auth-query sessions login-url"},
	{"What may be said", "filter-url filter-down filter-timeout"},
	{"Who may connect", "max-conns max-polling proxy-protocol limits limit-loopback addr-conns addr-connects addr-handshakes addr-requests addr-handlers"},
	{"What a session or a room may do", "original names reserved session-rate send-rate enter-rate slow-mode flood list rooms-file room-members rooms max-name handshake-bytes handshake-packages"},
	{"What rooms keep", "history history-bytes history-age history-memory history-open grace history-dir history-sync history-keep"},
	{"Times", "idle-timeout head-timeout handshake-timeout first-message-timeout request-timeout stuck-timeout keepalive-timeout sio-heartbeat sio-timeout sio-timeout4"},
	{"Sizes", "max-package max-head outbound max-buffered room-backlog loop-backlog"},
	{"Several processes as one server", "nats role id cluster-name gate-policy cluster-quorum followers link-memory nats-creds nats-nkey nats-ca nats-cert nats-key"},
	{"Event loops", "loops move spread max-delay inflight inbox"},
}

// printHelp writes what -help shows. programs are the names of a program's own flags.
func printHelp(w io.Writer, f *flag.FlagSet, programs []string) {
	fmt.Fprint(w, usage)
	shown := make(map[string]bool)
	group := func(title string, names []string) {
		if len(names) > 0 {
			fmt.Fprintf(w, "\n%s:\n", title)
		}
		for _, name := range names {
			printFlag(w, f.Lookup(name))
			shown[name] = true
		}
	}
	group("Of the program", programs)
	for _, g := range helpGroups {
		group(g.title, slices.DeleteFunc(strings.Fields(g.names), func(name string) bool { return f.Lookup(name) == nil }))
	}
	var others []string
	f.VisitAll(func(g *flag.Flag) {
		if !shown[g.Name] {
			others = append(others, g.Name)
		}
	})
	group("More", others)
}

// helpColumns is how wide the text of a flag may be.
const helpColumns = 96

func printFlag(w io.Writer, f *flag.Flag) {
	name := "  -" + f.Name
	if p := placeholder(f); p != "" {
		name += " " + p
	} else if f.DefValue == "true" {
		name += "=false"
	}
	_, text := flag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "false" {
		text += " (default " + f.DefValue + ")"
	}
	fmt.Fprintln(w, name)
	line := "     "
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > helpColumns {
			fmt.Fprintln(w, line)
			line = "     "
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}

// placeholder stands for a flag's value in -help: what kind of value it is, or the word in back quotes in its text.
func placeholder(f *flag.Flag) string {
	value := f.Value
	if e, ok := value.(*explainedFlag); ok {
		value = e.Value
	}
	switch value.(type) {
	case *sizeFlag, *sizeOrNone, *memoryFlag:
		return "SIZE"
	case *secondsFlag, *secondsOrNone, *durationFlag:
		return "TIME"
	case *rateFlag:
		return "RATE:BURST"
	case *countFlag:
		return "N"
	case *preset, *proxyFlag:
		name, _ := flag.UnquoteUsage(f)
		return name
	}
	if g, ok := value.(flag.Getter); ok {
		switch g.Get().(type) {
		case int:
			return "N"
		case time.Duration:
			return "TIME"
		case bool:
			return ""
		}
	}
	name, _ := flag.UnquoteUsage(f)
	return strings.ToUpper(name)
}

// explainedFlag is a flag whose mistakes are told with what to write instead; Go's own say "parse error".
type explainedFlag struct {
	flag.Value
	kind  string   // its placeholder
	texts []string // what it was set to, as it was written
}

// explainFlags makes all flags of f such.
func explainFlags(f *flag.FlagSet) {
	f.VisitAll(func(g *flag.Flag) { g.Value = &explainedFlag{Value: g.Value, kind: placeholder(g)} })
}

func (e *explainedFlag) Set(text string) error {
	err := e.Value.Set(text)
	if err == nil {
		e.texts = append(e.texts, text)
		return nil
	}
	_, noNumber := strconv.ParseFloat(text, 64)
	_, standard := e.Value.(flag.Getter) // of package flag
	switch {
	case e.kind == "TIME" && noNumber == nil && text[0] != '-':
		return fmt.Errorf("a time needs its unit: write %ss", text)
	case e.kind == "TIME" && standard:
		return errors.New("must be a time, such as 1.5s, 20s or 5m")
	case e.kind == "N" && standard:
		return errors.New("must be a whole number")
	}
	return err
}

// IsBoolFlag lets -page stand for -page=true.
func (e *explainedFlag) IsBoolFlag() bool {
	b, ok := e.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// pomeloTypes is what stands for the choice of a server type.
const pomeloTypes = "one process is servers of all types; with -nats write -role TYPE, or -id ID with a servers.json"

// pomeloFlags are options of Pomelo's command line, and what stands for them here.
var pomeloFlags = map[string]string{
	"e": "write -env", "environment": "write -env", "d": "write -config with the project's config directory", "directory": "write -config with the project's config directory",
	"p": "write -listen :PORT", "port": "write -listen :PORT", "host": "write -listen HOST:PORT",
	"D": "pomelod stays in the foreground; let a supervisor such as systemd start it", "daemon": "pomelod stays in the foreground; let a supervisor such as systemd start it",
	"t": pomeloTypes, "type": pomeloTypes, "i": "one process is all servers; with -nats write -id ID",
}

// noSuchFlag begins the error for a flag that there is not; package flag has no type for it.
const noSuchFlag = "flag provided but not defined: -"

// explainParse says what to write instead of a flag that there is not.
func explainParse(f *flag.FlagSet, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), noSuchFlag)
	if !unknown {
		return fmt.Errorf("%w; pomelod -help lists the flags", err)
	}
	if hint := pomeloFlags[name]; hint != "" {
		return fmt.Errorf("there is no flag -%s: %s; pomelod -help lists the flags", name, hint)
	}
	best, least := "", 3
	f.VisitAll(func(g *flag.Flag) {
		if d := distance(name, g.Name); d < least {
			best, least = g.Name, d
		}
	})
	if best != "" {
		return fmt.Errorf("there is no flag -%s; did you mean -%s? pomelod -help lists the flags", name, best)
	}
	return fmt.Errorf("there is no flag -%s; pomelod -help lists the flags", name)
}

// distance is how many letters must be put in, left out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// explainArguments says what to write instead of words that are no flags: Pomelo's commands, and the value of a switch
// behind a space. before is the word that stands before them.
func explainArguments(f *flag.FlagSet, before string, words []string) error {
	if g := f.Lookup(strings.TrimLeft(before, "-")); g != nil && strings.HasPrefix(before, "-") && placeholder(g) == "" {
		if _, err := strconv.ParseBool(words[0]); err == nil {
			return fmt.Errorf("unexpected %q: write -%s=%s", words[0], g.Name, words[0])
		}
	}
	if err := explainPomelo(words); err != nil {
		return err
	}
	return fmt.Errorf("unexpected %q behind flags: commands come first (pomelod help lists them), flags are told by pomelod -help", words[0])
}

// explainPomelo says what to write instead of a command of Pomelo's that pomelod has not; nil: it is none.
func explainPomelo(words []string) error {
	switch words[0] {
	case "stop", "kill":
		return fmt.Errorf("pomelod has no such command: instead of %q send it SIGTERM, or run: systemctl stop pomelod", words[0])
	}
	return nil
}
