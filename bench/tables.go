//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// reportCommand writes what the files hold to stdout, in Markdown. Bars that are not met are no error.
func reportCommand(files []string) (int, error) {
	all, err := readFiles(files)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, errors.New("there is no run in these files")
	}
	fmt.Print("# Benchmark report\n\nMade by `bench report`; [bench/README.md](../README.md) says what is measured, how, and what figures mean. " +
		"Medians of all good rounds, with the lowest and the highest. ÷ is the median of the ratios within each round.\n\n")
	for _, name := range machines(all) {
		fmt.Printf("Machine: %s\n\n", name)
	}
	barTable(os.Stdout, all)
	for _, m := range all {
		fmt.Printf("## %s\n\n", m.row)
		m.table(os.Stdout)
		fmt.Printf("    %s\n\n", strings.Join(m.commands(), "\n    "))
	}
	return 0, nil
}

// table writes rows of cells in Markdown.
func table(w io.Writer, head []string, lines [][]string) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, line := range lines {
		fmt.Fprintf(w, "| %s |\n", strings.ReplaceAll(strings.Join(line, " | "), "\n", " "))
	}
	fmt.Fprintln(w)
}

// barTable holds the rows against their bars.
func barTable(w io.Writer, all []*measured) {
	var lines [][]string
	for _, b := range bars {
		for _, m := range all {
			if !b.isAbout(m) {
				continue
			}
			s, verdict := b.judge(m)
			what, side := b.server+": "+b.figure, "≤"
			if b.base != "" {
				what += " ÷ " + b.base
			}
			if b.atLeast {
				side = "≥"
			}
			lines = append(lines, []string{b.row, what, s.String(), side + " " + number(b.limit), verdict})
		}
	}
	if lines != nil {
		table(w, []string{"row", "figure", "measured", "bar", "verdict"}, lines)
	}
}

// table writes the figures of a row, a line for each figure and a column for each server, and the runs that are void.
func (m *measured) table(w io.Writer) {
	if m.mixed != "" {
		fmt.Fprintf(w, "The runs of this row are of several kinds, so nothing is made of them: %s. Remove the old results and measure again.\n\n", m.mixed)
		return
	}
	servers, base := m.servers(), m.setting("base")
	head := []string{"figure"}
	for _, name := range servers {
		head = append(head, fmt.Sprintf("%s, %d rounds", name, len(m.good(name))))
	}
	var lines [][]string
	for _, figure := range m.figures() {
		line := []string{figure}
		for _, name := range servers {
			text := spreadOf(m.values(name, "", figure)).String()
			if ratios := m.values(name, base, figure); base != "" && name != base && len(ratios) > 0 {
				text += " ÷" + number(spreadOf(ratios).median)
			}
			line = append(line, text)
		}
		lines = append(lines, line)
	}
	table(w, head, lines)
	for _, res := range m.void() {
		fmt.Fprintf(w, "Void, and not counted: %s, round %d: %s\n\n", res.Server, res.Round, res.Faults.said())
	}
}

// figures are the names of the row's figures.
func (m *measured) figures() []string {
	all := figures{}
	for _, res := range m.runs {
		maps.Copy(all, res.Figures)
	}
	return slices.Sorted(maps.Keys(all))
}

// commands are the calls of the load generator that made the runs, to be made again.
func (m *measured) commands() (calls []string) {
	for _, res := range m.runs {
		if !slices.Contains(calls, res.Command) {
			calls = append(calls, res.Command)
		}
	}
	return calls
}

// machines are those that the runs were made on.
func machines(all []*measured) (names []string) {
	for _, m := range all {
		for _, res := range m.runs {
			if !slices.Contains(names, res.Machine) {
				names = append(names, res.Machine)
			}
		}
	}
	return names
}

// said tells the faults in words.
func (f *faults) said() string {
	var words []string
	for _, x := range []struct {
		what string
		n    int64
	}{{"lost", f.Lost}, {"out of order", f.Disordered}, {"twice", f.Duplicated}, {"strange", f.Strange}, {"connections ended", f.Closed}} {
		if x.n > 0 {
			words = append(words, fmt.Sprint(x.n, " ", x.what))
		}
	}
	return strings.Join(append(words, f.Reasons...), "; ")
}
