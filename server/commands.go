//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pomelod/pomelod/app"
)

// command is a row of the table of commands: what `pomelod NAME` does instead of serving.
type command struct {
	name string
	args string // what follows the name in its help; empty: nothing does
	help string // one line, for the list of commands
	// about is the text of `pomelod help NAME` between its first line and its flags. It may be empty.
	about       string
	least, most int // how many arguments there must be; most -1: any number
	// declare adds the command's flags to f, with their texts, and returns what carries it out once they are parsed. An error of that which is a
	// settingsError says that the command was written wrongly (exit code 2); any other, that it could not be done (1).
	declare func(f *flag.FlagSet, c *caller) (run func(args []string) error)
	listed  []string // the flags that its help tells, where it takes those of a server too; nil: all
}

// caller is the program, environment and output of a command.
type caller struct {
	app            *app.App // of the program; nil: it is pomelod itself
	environ        []string // "KEY=value"
	stdout, stderr io.Writer
}

// commands are all there are, in the order in which they are listed. To add one, write a row; help, completion and the tests of the table follow.
func commands() []command {
	return []command{
		readyCommand, topCommand, dashboardCommand, roomsCommand, whoCommand, sessionsCommand,
		historyCommand, sayCommand, publishCommand, deleteCommand, kickCommand, closeCommand,
		banCommand, unbanCommand, muteCommand, unmuteCommand, lockCommand, unlockCommand, policyCommand, rulesCommand, reloadCommand,
		startCommand(), listCommand, drainCommand,
		upgradeCommand, tokenCommand, completionCommand(), manCommand(),
		{
			name: "help", args: "[COMMAND]", help: "list the commands, or tell more of one", most: 1,
			declare: func(_ *flag.FlagSet, c *caller) func([]string) error {
				return func(args []string) error {
					if len(args) == 0 {
						printCommands(c.stdout)
						return nil
					}
					cmd, err := findCommand(args)
					if err == nil {
						cmd.printHelp(c.stdout)
					}
					return err
				}
			},
		},
	}
}

// isCommand tells whether a command line asks for something else than to serve: its first word is no flag.
func isCommand(args []string) bool { return len(args) > 0 && args[0] != "" && args[0][0] != '-' }

// runCommand carries out a command line, and returns the exit code.
func runCommand(args []string, c *caller) int {
	cmd, err := findCommand(args)
	if err == nil {
		err = cmd.run(args[1:], c)
	}
	return fail(c.stderr, err)
}

// findCommand finds the command that a command line without its flags begins with.
func findCommand(words []string) (*command, error) {
	list, name := commands(), words[0]
	if i := slices.IndexFunc(list, func(c command) bool { return c.name == name }); i >= 0 {
		return &list[i], nil
	}
	if err := explainPomelo(words); err != nil {
		return nil, settingsError{err}
	}
	err := fmt.Errorf("there is no command %q; pomelod help lists them, pomelod -help tells how to serve", name)
	best, least := "", 3
	for i := range list {
		if d := distance(name, list[i].name); d < least && d < len(name) {
			best, least = list[i].name, d
		}
	}
	if best != "" {
		err = fmt.Errorf("there is no command %q; did you mean %s? pomelod help lists them", name, best)
	}
	return nil, settingsError{err}
}

// run parses what follows the command's name and carries it out.
func (cmd *command) run(args []string, c *caller) error {
	f, do := cmd.flagSet(c)
	words, err := parseAnywhere(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		cmd.printHelp(c.stdout)
		return nil
	case err != nil:
		if name, unknown := strings.CutPrefix(err.Error(), noSuchFlag); unknown {
			err = fmt.Errorf("there is no flag -%s", name)
		}
	case len(words) < cmd.least:
		err = fmt.Errorf("%s is missing", strings.Join(strings.Fields(cmd.args)[len(words):cmd.least], " "))
	case cmd.most >= 0 && len(words) > cmd.most:
		err = fmt.Errorf("unexpected %q", words[cmd.most])
	default:
		return do(words)
	}
	return settingsError{fmt.Errorf("%w; pomelod %s -help tells how", err, cmd.name)}
}

// flagSet is the command's flags, and what carries it out.
func (cmd *command) flagSet(c *caller) (f *flag.FlagSet, do func(args []string) error) {
	f = flag.NewFlagSet("pomelod "+cmd.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	do = cmd.declare(f, c)
	explainFlags(f)
	return f, do
}

// parseAnywhere parses flags wherever they stand, and returns the words between them. Behind -- all are words.
func parseAnywhere(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		rest := f.Args()
		if n := len(args) - len(rest); len(rest) == 0 || n > 0 && args[n-1] == "--" {
			return append(words, rest...), nil
		}
		words, args = append(words, rest[0]), rest[1:]
	}
}

// printHelp writes what `pomelod help NAME` shows.
func (cmd *command) printHelp(w io.Writer) {
	f, _ := cmd.flagSet(new(caller))
	usage := "pomelod " + cmd.name
	if cmd.args != "" {
		usage += " " + cmd.args
	}
	fmt.Fprintf(w, "%s: %s\n", usage, cmd.help)
	if cmd.about != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.about))
	}
	title := "\nFlags, before or behind the words:\n"
	f.VisitAll(func(g *flag.Flag) {
		if cmd.listed != nil && !slices.Contains(cmd.listed, g.Name) {
			return
		}
		fmt.Fprint(w, title)
		title = ""
		printFlag(w, g)
	})
}

// printCommands lists the commands.
func printCommands(w io.Writer) {
	fmt.Fprint(w, "pomelod alone serves (pomelod -help). Other commands:\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-32s %s\n", "pomelod "+strings.TrimSpace(cmd.name+" "+cmd.args), cmd.help)
	}
	fmt.Fprint(w, "\npomelod help COMMAND tells more. Exit codes: 0 done; 1 it could not be done; 2 the command is written wrongly.\n")
}
