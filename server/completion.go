//go:build linux

package server

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Completions of shells, made of the table of commands and of the server's flags.

// shells are those for which there is one.
var shells = []string{"bash", "zsh", "fish"}

// completionCommand prints a script that completes commands and flags in a shell. A function, as the table has it too.
func completionCommand() command {
	return command{
		name: "completion", args: "SHELL", help: "print a script by which bash, zsh or fish completes commands and flags", least: 1, most: 1,
		about: `
For the shell that runs: source <(pomelod completion bash), the same with zsh; in fish: pomelod completion fish | source. For all that will:
  pomelod completion bash > /etc/bash_completion.d/pomelod
  pomelod completion zsh > "${fpath[1]}/_pomelod"
  pomelod completion fish > ~/.config/fish/completions/pomelod.fish`,
		declare: func(_ *flag.FlagSet, c *caller) func([]string) error {
			return func(args []string) error {
				script, err := completionFor(args[0])
				fmt.Fprint(c.stdout, script)
				return err
			}
		},
	}
}

// completionFor is the script for a shell.
func completionFor(shell string) (string, error) {
	server, err := serverFlags()
	if err != nil {
		return "", err
	}
	switch shell {
	case "bash":
		return bashCompletion(server), nil
	case "zsh":
		return zshCompletion(server), nil
	case "fish":
		return fishCompletion(server), nil
	}
	return "", settingsError{fmt.Errorf("there is no completion for %q, only for %s", shell, strings.Join(shells, ", "))}
}

// serverFlags are the flags with which pomelod serves.
func serverFlags() (*flag.FlagSet, error) {
	c, err := parseFlags([]string{"-version"}, nil, io.Discard)
	if err != nil {
		return nil, err
	}
	return c.flags, nil
}

// flagWords are the flags of f as they are written, in order of their names.
func flagWords(f *flag.FlagSet) string {
	var words []string
	f.VisitAll(func(g *flag.Flag) { words = append(words, "-"+g.Name) })
	return strings.Join(words, " ")
}

// firstSentence is as much of a flag's text as a list of completions shows.
func firstSentence(f *flag.Flag) string {
	_, text := flag.UnquoteUsage(f)
	text = strings.Join(strings.Fields(text), " ")
	if i := strings.IndexAny(text, ";("); i > 0 {
		text = strings.TrimSpace(text[:i])
	}
	return text
}

// bashCompletion completes commands and flags, and names of files where neither is wanted.
func bashCompletion(server *flag.FlagSet) string {
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
`, strings.Join(names, " "), cases.String(), flagWords(server))
}

// quotedWord is text between single quotes, in shells that know no way to have one between them.
func quotedWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// zshCompletion completes commands and flags with their texts, and names of files where neither is wanted.
func zshCompletion(server *flag.FlagSet) string {
	described := func(pairs [][2]string) string {
		var b strings.Builder
		for _, p := range pairs {
			b.WriteString(" " + quotedWord(strings.ReplaceAll(p[0], ":", `\:`)+":"+p[1]))
		}
		return b.String()
	}
	flags := func(f *flag.FlagSet) string {
		pairs := [][2]string{}
		f.VisitAll(func(g *flag.Flag) { pairs = append(pairs, [2]string{"-" + g.Name, firstSentence(g)}) })
		return described(append(pairs, [2]string{"-help", "tell how"}))
	}
	var names [][2]string
	var cases strings.Builder
	for _, cmd := range commands() {
		names = append(names, [2]string{cmd.name, cmd.help})
		f, _ := cmd.flagSet(new(caller))
		fmt.Fprintf(&cases, "    %s) flags=(%s) ;;\n", cmd.name, flags(f))
	}
	return fmt.Sprintf(`#compdef pomelod
# pomelod completion zsh
_pomelod() {
  local -a commands flags
  commands=(%s)
  if (( CURRENT == 2 )) && [[ "$PREFIX" != -* ]]; then
    _describe command commands
    return
  fi
  if [[ "${words[2]}" == help ]]; then
    _describe command commands
    return
  fi
  case "${words[2]}" in
%s    *) flags=(%s) ;;
  esac
  if [[ "$PREFIX" == -* ]]; then
    _describe flag flags
  else
    _files
  fi
}
if [[ "${funcstack[1]}" == _pomelod ]]; then
  _pomelod "$@"
else
  compdef _pomelod pomelod
fi
`, described(names), cases.String(), flags(server))
}

// fishCompletion completes commands and flags with their texts, and names of files where neither is wanted.
func fishCompletion(server *flag.FlagSet) string {
	var b strings.Builder
	b.WriteString("# pomelod completion fish\n")
	quoted := func(text string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'" }
	var names []string
	for _, cmd := range commands() {
		names = append(names, cmd.name)
	}
	slices.Sort(names)
	none := "not __fish_seen_subcommand_from " + strings.Join(names, " ")
	flags := func(f *flag.FlagSet, when string) {
		f.VisitAll(func(g *flag.Flag) {
			takes := " -r"
			if v, ok := g.Value.(interface{ IsBoolFlag() bool }); ok && v.IsBoolFlag() {
				takes = ""
			}
			fmt.Fprintf(&b, "complete -c pomelod -n %s -o %s%s -d %s\n", quoted(when), g.Name, takes, quoted(firstSentence(g)))
		})
	}
	for _, cmd := range commands() {
		fmt.Fprintf(&b, "complete -c pomelod -n %s -f -a %s -d %s\n", quoted(none), cmd.name, quoted(cmd.help))
		f, _ := cmd.flagSet(new(caller))
		flags(f, "__fish_seen_subcommand_from "+cmd.name)
	}
	fmt.Fprintf(&b, "complete -c pomelod -n '__fish_seen_subcommand_from help' -f -a %s\n", quoted(strings.Join(names, " ")))
	flags(server, none)
	return b.String()
}
