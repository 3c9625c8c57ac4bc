//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// measured is all that was measured of one row: its runs, perhaps of several calls of the load generator.
type measured struct {
	row  string
	runs []*result

	// mixed says why the runs are not of one kind, so that nothing may be made of them; empty, as it should be.
	mixed string
}

// readFiles reads what the load generator wrote into files. Rows are in the order in which they come; a run without a row
// counts to one that is named as its scenario.
func readFiles(paths []string) (rows []*measured, err error) {
	if len(paths) == 0 {
		return nil, errors.New("name at least one file of results, as written by -out")
	}
	seen := map[string]bool{}
	for _, path := range paths {
		if path = filepath.Clean(path); seen[path] {
			return nil, fmt.Errorf("%s is named twice: its runs would count twice", path)
		}
		seen[path] = true
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		rows, err = readLines(f, rows)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return rows, nil
}

// readLines adds the runs of one file to rows.
func readLines(from io.Reader, rows []*measured) ([]*measured, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		res := new(result)
		if err := json.Unmarshal(lines.Bytes(), res); err != nil {
			return rows, fmt.Errorf("line %d: no line of the load generator: %w", n, err)
		}
		if res.Scenario == "" || res.Server == "" || res.Round < 1 || res.Figures == nil {
			return rows, fmt.Errorf("line %d: no line of the load generator: it has no scenario, server, round or figures", n)
		}
		res.Row = cmp.Or(res.Row, res.Scenario)
		i := slices.IndexFunc(rows, func(m *measured) bool { return m.row == res.Row })
		if i < 0 {
			i, rows = len(rows), append(rows, &measured{row: res.Row})
		}
		rows[i].runs = append(rows[i].runs, res)
	}
	for _, m := range rows {
		m.mixed = mixture(m.runs)
	}
	return rows, lines.Err()
}

// besides are settings in which the calls of a row may differ.
var besides = []string{"rounds", "out", "patience", "base", "addr", "gate-addr", "pid"}

// mixture says in which settings runs differ, or machines.
func mixture(runs []*result) string {
	values := map[string]map[string]bool{}
	note := func(what, value string) {
		if values[what] == nil {
			values[what] = map[string]bool{}
		}
		values[what][value] = true
	}
	for _, res := range runs {
		note("scenario", res.Scenario)
		note("machine", res.Machine)
		for name, value := range res.Settings {
			if !slices.Contains(besides, name) {
				note("-"+name, value)
			}
		}
	}
	var differ []string
	for _, what := range slices.Sorted(maps.Keys(values)) {
		if len(values[what]) > 1 {
			differ = append(differ, what+" "+strings.Join(slices.Sorted(maps.Keys(values[what])), " and "))
		}
	}
	return strings.Join(differ, "; ")
}

// servers are the names of those that took part, in the order in which they came.
func (m *measured) servers() (names []string) {
	for _, res := range m.runs {
		if !slices.Contains(names, res.Server) {
			names = append(names, res.Server)
		}
	}
	return names
}

// find gives the full name of a server: where a wire is part of names, as in nano/ws, nano is enough if there is only one.
func (m *measured) find(name string) (full string, ok bool) {
	for _, server := range m.servers() {
		if server == name {
			return name, true
		}
		if plain, _, _ := strings.Cut(server, "/"); plain == name {
			if full != "" {
				return "", false
			}
			full = server
		}
	}
	return full, full != ""
}

// good are the runs of a server that are not void.
func (m *measured) good(server string) (runs []*result) {
	for _, res := range m.runs {
		if res.Server == server && !res.Void {
			runs = append(runs, res)
		}
	}
	return runs
}

// void are the runs that are.
func (m *measured) void() (runs []*result) {
	for _, res := range m.runs {
		if res.Void {
			runs = append(runs, res)
		}
	}
	return runs
}

// values are a figure of a server in all good rounds. With a base they are its ratios to the base's, of the rounds that are
// good for both: what the machine did meanwhile met both.
func (m *measured) values(server, base, figure string) (values []float64) {
	server, ok := m.find(server)
	if !ok || m.mixed != "" {
		return nil
	}
	if base == "" {
		for _, res := range m.good(server) {
			if v, ok := res.Figures.get(figure); ok {
				values = append(values, v)
			}
		}
		return values
	}
	base, _ = m.find(base)
	for _, res := range m.good(server) {
		for _, other := range m.good(base) {
			v, ok := res.Figures.get(figure)
			by, also := other.Figures.get(figure)
			if other.Call == res.Call && other.Round == res.Round && ok && also && by != 0 {
				values = append(values, v/by)
			}
		}
	}
	return values
}

// setting is that of the first run; all runs agree unless the row is mixed.
func (m *measured) setting(name string) string { return m.runs[0].Settings[name] }

// spread is what the rounds of one figure come to.
type spread struct {
	n                       int
	median, lowest, highest float64
}

// spreadOf is the zero value for no values.
func spreadOf(values []float64) spread {
	n := len(values)
	if n == 0 {
		return spread{}
	}
	values = slices.Sorted(slices.Values(values))
	return spread{n, (values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// String is "6.2 (5.7–6.8)", the value alone if that says it all, and nothing for no values.
func (s spread) String() string {
	switch {
	case s.n == 0:
		return ""
	case number(s.lowest) == number(s.highest):
		return number(s.median)
	}
	return number(s.median) + " (" + number(s.lowest) + "–" + number(s.highest) + ")"
}
