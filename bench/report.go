//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// result is one run: one JSON line.
type result struct {
	Row      string            `json:"row,omitempty"`
	Scenario string            `json:"scenario"`
	Server   string            `json:"server"`
	Wire     string            `json:"wire"`
	Call     string            `json:"call"` // of the load generator: its runs of one round took turns
	Round    int               `json:"round"`
	Void     bool              `json:"void"`
	Figures  figures           `json:"figures"`
	Faults   faults            `json:"faults"`
	Settings map[string]string `json:"settings"` // every flag
	Machine  string            `json:"machine"`
	Command  string            `json:"command"` // to make the run again, for a shell
}

// figures are numbers by name.
type figures map[string]float64

func (f figures) get(name string) (float64, bool) { v, ok := f[name]; return v, ok }

// number writes what is worth reading of a figure.
func number(v float64) string {
	if v == float64(int64(v)) || v >= 10000 || v <= -10000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// report gathers results and writes them.
type report struct {
	out      io.Writer
	scenario string
	options  *options
	settings map[string]string
	machine  string
	call     string
	results  []*result
	void     int
	terminal bool
}

func newReport(scenario string, o *options) *report {
	r := &report{out: os.Stdout, scenario: scenario, options: o, machine: machine(), call: fmt.Sprintf("%s/%d", time.Now().UTC().Format(time.RFC3339), os.Getpid()), settings: map[string]string{}}
	o.flags.VisitAll(func(f *flag.Flag) {
		if f.Name != "server" && f.Name != "row" {
			r.settings[f.Name] = f.Value.String()
		}
	})
	for _, v := range o.variants {
		r.settings["server "+v.name] = fmt.Sprint(v.command)
	}
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	r.terminal = err == nil
	return r
}

func (r *report) result(e entrant, round int) *result {
	return &result{Row: r.options.row, Scenario: r.scenario, Server: e.name, Wire: e.mix.name, Call: r.call, Round: round, Figures: figures{}, Settings: r.settings, Machine: r.machine, Command: r.options.command}
}

// progress shows a line in place of the last one, where somebody sees it.
func (r *report) progress(line string) {
	if r.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", line)
	}
}

func (r *report) add(res *result) {
	if res.Void = res.Faults.void(); res.Void {
		r.void++
	}
	r.results = append(r.results, res)
	e := json.NewEncoder(r.out)
	e.SetEscapeHTML(false)
	e.Encode(res)
}

// measured is what there is of the row; one that has no name is named as the scenario, as by who reads the lines.
func (r *report) measured() *measured {
	return &measured{row: cmp.Or(r.options.row, r.scenario), runs: r.results}
}

// end writes a table of medians for people, and what the bars of the row say to them.
func (r *report) end() {
	r.progress("")
	m := r.measured()
	m.table(os.Stderr)
	barTable(os.Stderr, []*measured{m})
}
