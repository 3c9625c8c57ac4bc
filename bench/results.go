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

// measured is all that was measured of one row: its runs, perhaps of several calls of the load generator. Rounds are numbered
// through, so that no round of one call meets one of another.
type measured struct {
	row  string
	runs []*result
	calls

	// mixed says why the runs are not of one kind, so that nothing may be made of them; empty, as it should be.
	mixed string
}

// calls follows where one call of the load generator ends and the next begins.
type calls struct {
	last   *result // of the present call; nil between two of them
	number int     // its round as the line has it
	offset int     // added to the rounds of the present call
	rounds int     // of all calls
}

// readFiles reads what the load generator wrote into files. Rows are in the order in which they come; a run without a row
// counts to one that is named as its scenario.
func readFiles(paths []string) (rows []*measured, err error) {
	if len(paths) == 0 {
		return nil, errors.New("name at least one file of results, as written by -out")
	}
	byName, seen := map[string]*measured{}, map[string]bool{}
	for _, path := range paths {
		if path = filepath.Clean(path); seen[path] {
			return nil, fmt.Errorf("%s is named twice: its runs would count twice", path)
		}
		seen[path] = true
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		rows, err = readLines(f, rows, byName)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return rows, nil
}

// readLines adds the runs of one file to rows.
func readLines(from io.Reader, rows []*measured, byName map[string]*measured) ([]*measured, error) {
	for _, m := range rows {
		m.endCall()
	}
	lines := bufio.NewReader(from)
	for n := 1; ; n++ {
		text, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(text)) > 0 {
			res, wrong := parseLine(text)
			if wrong != nil {
				return rows, fmt.Errorf("line %d: %w", n, wrong)
			}
			m := byName[res.Row]
			if m == nil {
				m = &measured{row: res.Row}
				byName[res.Row] = m
				rows = append(rows, m)
			}
			m.add(res)
		}
		if err == io.EOF {
			break
		} else if err != nil {
			return rows, err
		}
	}
	for _, m := range rows {
		m.mixed = mixture(m.runs)
	}
	return rows, nil
}

// parseLine takes a line apart. That of a summary gives a result without figures: medians are made anew from the runs.
func parseLine(text []byte) (*result, error) {
	var line struct {
		result
		Figures *figures        `json:"figures"`
		Medians json.RawMessage `json:"medians"`
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return nil, fmt.Errorf("no line of the load generator: %w", err)
	}
	switch res := &line.result; {
	case line.Scenario == "" || line.Server == "" || line.Figures == nil && line.Medians == nil:
		return nil, errors.New("no line of the load generator: it has no scenario, no server or no figures")
	case line.Figures != nil && line.Round < 1:
		return nil, errors.New("a run without a round")
	default:
		if res.Row = cmp.Or(res.Row, res.Scenario); line.Figures != nil {
			res.Figures = *line.Figures
		}
		return res, nil
	}
}

// UnmarshalJSON keeps the order of the figures.
func (f *figures) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("figures are no object: %.20s", text)
	}
	*f = figures{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("figure %v: %w", name, err)
		}
		f.set(name.(string), value)
	}
	return nil
}

// add takes the next line of the row.
func (m *measured) add(res *result) {
	if res.Round == 0 { // a summary
		m.endCall()
		return
	}
	if m.last != nil && !m.sameCall(res) {
		m.endCall()
	}
	m.number = res.Round
	m.last = res
	res.Round += m.offset
	m.rounds = max(m.rounds, res.Round)
	for _, d := range derived {
		if v, ok := d.of(res.Figures); ok {
			res.Figures.set(d.name, v)
		}
	}
	m.runs = append(m.runs, res)
}

func (c *calls) endCall() { c.last, c.offset = nil, c.rounds }

// sameCall tells whether res, in which the round is as written, belongs to the call that the last one was of: a call goes
// through its rounds in order and meets each server once in each.
func (m *measured) sameCall(res *result) bool {
	if res.Round < m.number || res.Machine != m.last.Machine || !maps.Equal(res.Settings, m.last.Settings) {
		return false
	}
	return !slices.ContainsFunc(m.runs, func(r *result) bool { return r.Server == res.Server && r.Round == res.Round+m.offset })
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
func (m *measured) good(server string) []*result { return good(m.runs, server) }

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
// good for both.
func (m *measured) values(server, base, figure string) []float64 {
	server, ok := m.find(server)
	if !ok || m.mixed != "" {
		return nil
	}
	if base == "" {
		return collect(m.good(server), figure)
	}
	if base, ok = m.find(base); !ok {
		return nil
	}
	return ratios(m.good(server), m.good(base), figure)
}

// spread is what the rounds of one figure come to.
type spread struct {
	n                       int
	median, lowest, highest float64
}

// spreadOf is the zero value for no values.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	return spread{len(values), median(values), slices.Min(values), slices.Max(values)}
}

// of is spreadOf for a figure of a server, without a base.
func (m *measured) of(server, figure string) (spread, bool) {
	s := spreadOf(m.values(server, "", figure))
	return s, s.n > 0
}

// setting is that of the first run; all runs agree unless the row is mixed.
func (m *measured) setting(name string) string { return m.runs[0].Settings[name] }
