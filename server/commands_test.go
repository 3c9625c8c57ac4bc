//go:build linux

package server

import (
	"bytes"
	"flag"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Flags may stand before, between and behind words; behind -- all are words.
func TestFlagsMayFollowWords(t *testing.T) {
	for _, tc := range []struct{ args, words, reason string }{
		{"alice -reason bye", "alice", "bye"},
		{"-reason bye alice bob", "alice bob", "bye"},
		{"alice -reason=bye bob", "alice bob", "bye"},
		{"alice -- -reason bye", "alice -reason bye", ""},
		{"", "", ""},
	} {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		reason := f.String("reason", "", "")
		words, err := parseAnywhere(f, strings.Fields(tc.args))
		if got := strings.Join(words, " "); got != tc.words || *reason != tc.reason || err != nil {
			t.Errorf("%q: words %q, reason %q, %v", tc.args, got, *reason, err)
		}
	}
}

// Every command has one line that tells what it does, its flags have texts, and its arguments are as many as its help names.
func TestTableOfCommands(t *testing.T) {
	var names []string
	for _, cmd := range commands() {
		names = append(names, cmd.name)
		if cmd.help == "" || strings.ContainsAny(cmd.help, "\n") || strings.HasSuffix(cmd.help, ".") || len(cmd.help) > 90 {
			t.Errorf("%s: the help is %q", cmd.name, cmd.help)
		}
		needed := 0
		for _, word := range strings.Fields(cmd.args) {
			if !strings.HasPrefix(word, "[") {
				needed++
			}
		}
		if needed != cmd.least || cmd.most >= 0 && len(strings.Fields(cmd.args)) != cmd.most || (cmd.most < 0) != strings.Contains(cmd.args, "…") {
			t.Errorf("%s %s: takes %d to %d arguments", cmd.name, cmd.args, cmd.least, cmd.most)
		}
		f, _ := cmd.flagSet(new(caller))
		f.VisitAll(func(g *flag.Flag) {
			if g.Usage == "" || strings.HasSuffix(g.Usage, ".") {
				t.Errorf("%s: the text of -%s is %q", cmd.name, g.Name, g.Usage)
			}
		})
		var out bytes.Buffer
		cmd.printHelp(&out)
		if code := runCommand([]string{cmd.name, "-help"}, &caller{stdout: io.Discard, stderr: &out}); code != 0 || !strings.HasPrefix(out.String(), "pomelod "+cmd.name) {
			t.Errorf("%s -help: exit %d, %s", cmd.name, code, &out)
		}
		if code := runCommand([]string{cmd.name, "-no-such-flag"}, &caller{stdout: io.Discard, stderr: &out}); code != 2 || !strings.Contains(out.String(), "there is no flag -no-such-flag; pomelod "+cmd.name+" -help tells how") {
			t.Errorf("%s -no-such-flag: exit %d, %s", cmd.name, code, &out)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) != len(commands()) {
		t.Errorf("a name stands twice: %v", names)
	}
}

// What bash makes of the script: commands, their flags, and the server's.
func TestBashCompletion(t *testing.T) {
	bash := need(t, "bash")
	script, err := completionFor("bash")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ words, want string }{
		{"pomelod unm", "unmute"},
		{"pomelod kick -rea", "-reason"},
		{"pomelod kick alice -ro", "-room"},
		{"pomelod help clo", "close"},
		{"pomelod -admin-so", "-admin-socket"},
		{"pomelod -listen :1 -max-p", "-max-package -max-polling"},
		{"pomelod nothing-like-it", ""},
	} {
		words := strings.Fields(tc.words)
		line := script + "COMP_WORDS=(" + tc.words + "); COMP_CWORD=" + string(rune('0'+len(words)-1)) + "; _pomelod; echo \"${COMPREPLY[*]}\""
		out, err := exec.Command(bash, "-c", line).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.words, got, err, tc.want)
		}
	}
	var out bytes.Buffer
	if code := runCommand([]string{"completion", "tcsh"}, &caller{stdout: &out, stderr: &out}); code != 2 || !strings.Contains(out.String(), "only for bash, zsh, fish") {
		t.Errorf("completion for tcsh: exit %d, %s", code, &out)
	}
}
