//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are all there are, with the lines of their code blocks.
func documents(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "node_modules" || e.Name() == "bin" || e.Name() == "dist" || strings.HasPrefix(e.Name(), ".") && e.Name() != ".."):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		fenced, last := false, ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
				continue
			}
			code, indented := strings.CutPrefix(line, "    ")
			if indented && last != "" && !strings.HasPrefix(last, "    ") && !fenced { // a paragraph that goes on
				indented = false
			}
			if fenced {
				code, indented = line, true
			}
			if indented {
				found[path] = append(found[path], code)
			}
			if last = line; !indented && strings.HasPrefix(line, "    ") {
				last = "text"
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A command line of pomelod's, or of make's, that a document shows is one that there is: commands take their words and flags, a server would take its flags, a target is
// in the Makefile. What the commands do other tests say (TestOperatorCommands and others); programs of others, such as curl and docker, are not tried.
func TestCommandsInDocuments(t *testing.T) {
	targets := regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(readFile(t, "../Makefile")+readFile(t, "../bench/bench.mk")+readFile(t, "../bench/peers/peers.mk"), -1)
	tried := 0
	docs := documents(t)
	for _, path := range slices.Sorted(maps.Keys(docs)) {
		for _, line := range docs[path] {
			words := shellWords(line)
			for len(words) > 0 && (words[0] == "sudo" || words[0] == "$" || regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0])) {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			var err error
			switch program := words[0]; {
			case program == "pomelod" || program == "bin/pomelod" || program == "./pomelod":
				err = tryCommand(words[1:])
			case program == "make":
				for _, target := range words[1:] {
					if !strings.Contains(target, "=") && !strings.HasPrefix(target, "-") && !slices.ContainsFunc(targets, func(m []string) bool { return m[1] == target }) {
						err = fmt.Errorf("there is no target %s", target)
					}
				}
			default:
				continue
			}
			tried++
			if err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d commands were found", tried)
	}
}

// tryCommand parses a command line as pomelod would, and carries out nothing.
func tryCommand(args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !isCommand(args) {
		_, err := parseFlags(args, nil, io.Discard)
		if errors.Is(err, flag.ErrHelp) || errors.Is(err, fs.ErrNotExist) { // a file that the reader has
			err = nil
		}
		return err
	}
	cmd, err := findCommand(args)
	if err != nil {
		return err
	}
	f, _ := cmd.flagSet(&caller{stdout: io.Discard, stderr: io.Discard})
	words, err := parseAnywhere(f, args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err == nil && (len(words) < cmd.least || cmd.most >= 0 && len(words) > cmd.most):
		err = fmt.Errorf("%d words, it takes %d to %d", len(words), cmd.least, cmd.most)
	}
	return err
}

// shellWords are the words of the first command of a line, without what is said of it behind # or blanks.
func shellWords(line string) (words []string) {
	line, _, _ = strings.Cut(strings.TrimSpace(line), "  ")
	for _, m := range regexp.MustCompile(`"([^"]*)"|'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		switch bare := m[3]; {
		case strings.HasPrefix(bare, "#"), bare == "|", bare == "&&", bare == ">", bare == "&", bare == "\\":
			return words
		case strings.HasSuffix(bare, ";"):
			return append(words, strings.TrimSuffix(bare, ";"))
		default:
			words = append(words, m[1]+m[2]+bare)
		}
	}
	return words
}
