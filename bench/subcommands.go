//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// subcommand measures nothing: it reads what scenarios have written, and gives an exit code.
type subcommand struct {
	about string
	run   func(args []string) (int, error)
}

var subcommands = map[string]subcommand{
	"report":  {"Markdown of what was measured, held against the bars", reportCommand},
	"compare": {"two revisions, measured as two servers: what is slower?", compareCommand},
}

func subcommandNames() []string { return slices.Sorted(maps.Keys(subcommands)) }

// parseFiles parses flags and gives the files behind them.
func parseFiles(f *flag.FlagSet, args []string) ([]string, error) {
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: %s [flags] FILE.jsonl...\n", f.Name())
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, file := range f.Args() {
		if strings.HasPrefix(file, "-") {
			return nil, fmt.Errorf("%s stands behind a file: flags come first", file)
		}
	}
	return f.Args(), nil
}

// reportCommand writes the report into a directory. Bars that are not met are no error.
func reportCommand(args []string) (int, error) {
	f := flag.NewFlagSet("bench report", flag.ContinueOnError)
	out := f.String("o", "bench/report", "`directory` for report.md")
	quick := f.Bool("quick", false, "give no verdicts: for short runs, and machines that did other things meanwhile")
	config := f.String("config", "", "`file` with what pomelod -print-config printed, to be shown")
	files, err := parseFiles(f, args)
	if err != nil {
		return 0, err
	}
	effective, err := readConfig(*config)
	if err != nil {
		return 0, err
	}
	all, err := readFiles(files)
	if err != nil {
		return 0, err
	}
	found := sorted(all, *quick)
	if n, _ := found.runs(); n == 0 {
		return 0, errors.New("there is no run in these files")
	}
	if err := found.write(*out, effective); err != nil {
		return 0, err
	}
	of := found.tally()
	fmt.Fprintf(os.Stderr, "bench: wrote %s; bars: %d met, %d not met, %d without a verdict, %d not measured\n", filepath.Join(*out, "report.md"), of[barMet], of[barMissed], of[noVerdict], of[unmeasured])
	return 0, nil
}

// readConfig gives the file indented, and nothing for no file.
func readConfig(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("-config: %w; pomelod -print-config writes one", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
		return "", fmt.Errorf("-config: %s is not what pomelod -print-config prints: %w", path, err)
	}
	return b.String(), nil
}

// write writes the report.
func (f *findings) write(directory, config string) error {
	if err := os.MkdirAll(directory, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "report.md"), f.markdown(config), 0o666)
}
