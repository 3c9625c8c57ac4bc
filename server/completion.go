//go:build linux

package server

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// completionCommand prints a script that completes commands and flags in a shell, made of the table of commands and of the server's flags. A function, as
// the table has it too.
func completionCommand() command {
	return command{
		name: "completion", args: "bash", help: "print a script by which bash completes commands and flags", least: 1, most: 1,
		about: "For the shell that runs: source <(pomelod completion bash). For all: pomelod completion bash > /etc/bash_completion.d/pomelod",
		declare: func(_ *flag.FlagSet, c *caller) func([]string) error {
			return func(args []string) error {
				if args[0] != "bash" {
					return settingsError{fmt.Errorf("there is no completion for %q, only for bash", args[0])}
				}
				script, err := bashCompletion()
				fmt.Fprint(c.stdout, script)
				return err
			}
		},
	}
}

// flagWords are the flags of f as they are written, in order of their names.
func flagWords(f *flag.FlagSet) string {
	var words []string
	f.VisitAll(func(g *flag.Flag) { words = append(words, "-"+g.Name) })
	return strings.Join(words, " ")
}

// bashCompletion completes commands and flags, and names of files where neither is wanted.
func bashCompletion() (string, error) {
	server, err := parseFlags([]string{"-version"}, nil, io.Discard) // for its flags
	if err != nil {
		return "", err
	}
	var names []string
	var cases strings.Builder
	for _, cmd := range commands() {
		names = append(names, cmd.name)
		f, _ := cmd.flagSet(new(caller))
		fmt.Fprintf(&cases, "    %s) words='%s -help' ;;\n", cmd.name, flagWords(f))
	}
	return fmt.Sprintf(`# pomelod completion bash
_pomelod() {
  local word="${COMP_WORDS[COMP_CWORD]}" words
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ] && [ "${word#-}" = "$word" ]; then
    COMPREPLY=($(compgen -W '%s' -- "$word"))
    return
  fi
  case "${COMP_WORDS[1]}" in
%s    *) words='%s -help' ;;
  esac
  if [ "${COMP_WORDS[1]}" = help ]; then
    COMPREPLY=($(compgen -W '%[1]s' -- "$word"))
  elif [ "${word#-}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  fi
}
complete -o default -F _pomelod pomelod
`, strings.Join(names, " "), cases.String(), flagWords(server.flags)), nil
}
