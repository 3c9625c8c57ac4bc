package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pomelod/pomelod/internal/overlay"
)

// mutant is a bug that can be planted.
type mutant struct {
	pkg      string // from the module's root
	at       string // where it stands, for who has to repair it
	bug      string
	file     string // in pkg
	old, new []string
	run      string // which of pkg's tests; all if it is empty
	also     []string
	alsoRun  string
}

// readAll reads the lists of all packages of the module at root.
func readAll(root string) (all []mutant, err error) {
	var names []string
	for _, folder := range []string{"*", filepath.Join("*", "*")} {
		found, err := filepath.Glob(filepath.Join(root, folder, "testdata", "mutants.txt"))
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	if len(names) == 0 {
		return nil, errors.New("no list of mutants: run this in the module's folder")
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		list, err := parse(string(b), filepath.ToSlash(pkg), name)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// parse reads the list of a package.
func parse(text, pkg, name string) (list []mutant, err error) {
	m := mutant{}
	end := func() error {
		switch {
		case m.at == "": // a blank line more
			return nil
		case m.bug == "" || m.file == "" || len(m.old) == 0:
			return fmt.Errorf("%s: a bug needs the lines bug:, file: and -", m.at)
		}
		list = append(list, m)
		m = mutant{}
		return nil
	}
	for i, line := range append(strings.Split(text, "\n"), "") {
		if line == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		if line[0] == '#' {
			continue
		}
		if m.at == "" {
			m.pkg, m.at = pkg, fmt.Sprintf("%s:%d", name, i+1)
		}
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case line[0] == '-':
			m.old = append(m.old, strings.TrimLeft(line[1:], " \t"))
		case line[0] == '+':
			m.new = append(m.new, line[1:])
		case key == "bug":
			m.bug = value
		case key == "file":
			m.file = value
		case key == "run":
			m.run = value
		case key == "also":
			packages, run, _ := strings.Cut(value, " ")
			m.also, m.alsoRun = strings.Split(packages, ","), run
		default:
			return nil, fmt.Errorf("%s:%d: neither bug:, file:, run:, also:, - nor +: %s", name, i+1, line)
		}
	}
	return list, nil
}

// edit is what plants m in the module at root. Lines are compared without what they are indented by, so that a block that gets an if around
// it is still found.
func (m *mutant) edit(root string) (e overlay.Edit, err error) {
	e.File = path.Join(m.pkg, m.file)
	b, err := os.ReadFile(filepath.Join(root, e.File))
	if err != nil {
		return e, fmt.Errorf("%s: %w", m.at, err)
	}
	lines, found, at := strings.SplitAfter(string(b), "\n"), 0, 0
	for i := range lines {
		if i+len(m.old) <= len(lines) && slices.EqualFunc(lines[i:i+len(m.old)], m.old, func(line, old string) bool { return strings.TrimSpace(line) == old }) {
			found, at = found+1, i
		}
	}
	if found != 1 {
		return e, fmt.Errorf("%s: %s has %d times, not once:\n\t%s\nThe code has moved, or says that more often: write the lines again, or delete a bug that cannot be made any more",
			m.at, e.File, found, strings.Join(m.old, "\n\t"))
	}
	// All before them goes along: the same lines may stand elsewhere, indented otherwise.
	e.Old = strings.Join(lines[:at+len(m.old)], "")
	e.New = strings.Join(lines[:at], "")
	for _, line := range m.new {
		e.New += line + "\n"
	}
	return e, nil
}
