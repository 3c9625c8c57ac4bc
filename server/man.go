//go:build linux

package server

import (
	"flag"
	"fmt"
	"strings"
)

// Pages for man, made of the table of commands and of the server's flags. They are in the macros of man(7), of which few are used: TH, SH, B, TP, PP, nf, fi.

// manCommand prints one. A function, as the table has it too.
func manCommand() command {
	return command{
		name: "man", args: "[COMMAND]", help: "print the page of the manual for pomelod, or for one of its commands", most: 1,
		about: "To read it: pomelod man kick | man -l -. To install it: pomelod man > /usr/local/share/man/man1/pomelod.1",
		declare: func(_ *flag.FlagSet, c *caller) func([]string) error {
			return func(args []string) error {
				page, err := manPage(strings.Join(args, ""))
				fmt.Fprint(c.stdout, page)
				return err
			}
		},
	}
}

// manText is text that man takes as it is.
func manText(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		b.WriteString(line)
	}
	return b.String()
}

// manPage is the page of a command, or of pomelod itself ("").
func manPage(name string) (string, error) {
	if name == "" {
		return manServer()
	}
	cmd, err := findCommand([]string{name})
	if err != nil {
		return "", err
	}
	f, _ := cmd.flagSet(new(caller))
	var b strings.Builder
	fmt.Fprintf(&b, ".TH POMELOD\\-%s 1 \"\" \"pomelod %s\" \"pomelod\"\n", strings.ToUpper(cmd.name), manText(Version))
	fmt.Fprintf(&b, ".SH NAME\npomelod\\-%s \\- %s\n", cmd.name, manText(cmd.help))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B pomelod %s\n%s\n", cmd.name, manText(strings.TrimSpace(cmd.args+" [FLAGS]")))
	if cmd.about != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", manText(strings.TrimSpace(cmd.about)))
	}
	title := ".SH FLAGS\n"
	f.VisitAll(func(g *flag.Flag) {
		b.WriteString(title)
		title = ""
		manFlag(&b, g)
	})
	b.WriteString(".SH EXIT STATUS\n0 done; 1 it could not be done; 2 the command is written wrongly.\n.SH SEE ALSO\npomelod(1)\n")
	return b.String(), nil
}

// manServer is the page of pomelod itself.
func manServer() (string, error) {
	f, err := serverFlags()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH POMELOD 1 \"\" \"pomelod %s\" \"pomelod\"\n.SH NAME\npomelod \\- chat server for clients of NetEase Pomelo and socket.io\n", manText(Version))
	b.WriteString(".SH SYNOPSIS\n.B pomelod\n[FLAGS]\n.PP\n.B pomelod\nCOMMAND [ARGUMENTS] [FLAGS]\n")
	fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", manText(strings.TrimSpace(usage)))
	b.WriteString(".SH COMMANDS\n")
	for _, cmd := range commands() {
		fmt.Fprintf(&b, ".TP\n.B pomelod %s\n%s\n", manText(strings.TrimSpace(cmd.name+" "+cmd.args)), manText(cmd.help))
	}
	b.WriteString(".SH FLAGS\n")
	shown := make(map[string]bool)
	for _, g := range helpGroups {
		fmt.Fprintf(&b, ".PP\n.B %s\n", manText(g.title))
		for _, name := range strings.Fields(g.names) {
			if flag := f.Lookup(name); flag != nil {
				shown[name] = true
				manFlag(&b, flag)
			}
		}
	}
	f.VisitAll(func(g *flag.Flag) {
		if !shown[g.Name] {
			manFlag(&b, g)
		}
	})
	b.WriteString(".SH EXIT STATUS\n0 ended in order; 1 the machine refused something, a loop was stuck, or a second signal ended it; 2 flags or files are wrong.\n")
	return b.String(), nil
}

// manFlag is a flag in a page.
func manFlag(b *strings.Builder, g *flag.Flag) {
	_, text := flag.UnquoteUsage(g)
	value := ""
	if p := placeholder(g); p != "" {
		value = " " + manText(p)
	}
	if g.DefValue != "" && g.DefValue != "false" {
		text += " (default " + g.DefValue + ")"
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\\fR%s\n%s\n", manText("-"+g.Name), value, manText(strings.Join(strings.Fields(text), " ")))
}
