package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The licences of the modules that pomelod is built of. Most want to be given along with a binary.

// module is one of them.
type module struct{ Path, Version, Dir string }

// marks are words by which licences are known: words, and behind them also, if there is such. A file that has several is known by the one that stands first in it, of
// two there by the one that stands first here. Where lines break is of no matter.
var marks = []struct{ id, words, also string }{
	{"Apache-2.0", "Apache License Version 2.0", ""},
	{"MPL-2.0", "Mozilla Public License Version 2.0", ""},
	{"BSD-3-Clause", "Redistribution and use in source and binary forms", "may be used to endorse or promote products derived from this software"},
	{"BSD-2-Clause", "Redistribution and use in source and binary forms", "Redistributions in binary form must reproduce the above copyright notice"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy", ""},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted", ""},
}

// modules are what the binary is built of, by path.
func modules() ([]module, error) {
	const each = `{{with .Module}}{{if not .Main}}{{$dir := .Dir}}{{with or .Replace .}}{{.Path}}|{{.Version}}|{{$dir}}{{end}}{{end}}{{end}}`
	cmd := exec.Command("go", "list", "-deps", "-f", each, "./cmd/pomelod")
	cmd.Env = append(os.Environ(), "GOOS=linux")
	dir, err := sourceRoot()
	if err != nil {
		return nil, err
	}
	cmd.Dir = dir
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, &complaint)
	}
	by := make(map[string]module)
	for line := range strings.Lines(string(out)) {
		if part := strings.SplitN(strings.TrimSpace(line), "|", 3); len(part) == 3 {
			by[part[0]] = module{part[0], part[1], part[2]}
		}
	}
	return slices.SortedFunc(maps.Values(by), func(a, b module) int { return strings.Compare(a.Path, b.Path) }), nil
}

// sourceRoot is the directory of go.mod.
func sourceRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
}

// What files are called that a module's licence is in, and those that want to be given along with it: licences of what it has taken from others, and notices (Apache
// License 2.0, section 4 (d)).
var (
	licenceFiles = []string{"LICENSE*", "LICENCE*", "License*", "COPYING*"}
	furtherFiles = []string{"NOTICE*", "PATENTS*", "licenses/*"}
)

// filesIn are a module's files of such names, in that order.
func filesIn(m module, patterns ...string) (paths []string) {
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join(m.Dir, pattern))
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// textOf is a module's licence, and its SPDX identifier.
func textOf(m module) (text []byte, id string, err error) {
	found := filesIn(m, licenceFiles...)
	if len(found) == 0 {
		return nil, "", fmt.Errorf("%s %s has no licence", m.Path, m.Version)
	}
	if text, err = os.ReadFile(found[0]); err != nil {
		return nil, "", err
	}
	words := strings.Join(strings.Fields(string(text)), " ")
	first := len(words)
	for _, mark := range marks {
		if at := strings.Index(words, mark.words); at >= 0 && at < first && strings.Contains(words[at:], mark.also) {
			first, id = at, mark.id
		}
	}
	if id == "" {
		return nil, "", fmt.Errorf("%s %s: its licence, %s, is none that is known here; read it, and add it to marks if it may be given along", m.Path, m.Version, found[0])
	}
	return text, id, nil
}

// licencesByModule are the identifiers.
func licencesByModule() (map[string]string, error) {
	list, err := modules()
	if err != nil {
		return nil, err
	}
	by := make(map[string]string, len(list))
	for _, m := range list {
		if _, by[m.Path], err = textOf(m); err != nil {
			return nil, err
		}
	}
	return by, nil
}

// writeLicences writes the licences of pomelod, of Go and of all modules, with what else they want to be given along.
func writeLicences(w io.Writer) error {
	list, err := modules()
	if err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	own, err := sourceRoot()
	if err != nil {
		return err
	}
	list = append([]module{{Path: "pomelod", Dir: own}, {Path: "Go, its runtime and standard library", Dir: strings.TrimSpace(string(root))}}, list...)
	for _, m := range list {
		text, id, err := textOf(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "==== %s (%s)\n\n%s\n\n", strings.TrimSpace(m.Path+" "+m.Version), id, strings.TrimSpace(string(text))); err != nil {
			return err
		}
		for _, path := range append(filesIn(m, licenceFiles...)[1:], filesIn(m, furtherFiles...)...) {
			more, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "---- %s\n\n%s\n\n", filepath.Base(path), bytes.TrimSpace(more)); err != nil {
				return err
			}
		}
	}
	return nil
}
