//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// result is one run: one JSON line.
type result struct {
	Row      string            `json:"row,omitempty"`
	Scenario string            `json:"scenario"`
	Server   string            `json:"server"`
	Wire     string            `json:"wire"`
	Round    int               `json:"round"`
	Void     bool              `json:"void"`
	Figures  figures           `json:"figures"`
	Faults   faults            `json:"faults"`
	Settings map[string]string `json:"settings"` // every flag
	Machine  string            `json:"machine"`
	Command  string            `json:"command"` // to make the run again, for a shell
}

// summary is what all rounds of one server come to: one JSON line behind those of the runs.
type summary struct {
	Row      string            `json:"row,omitempty"`
	Scenario string            `json:"scenario"`
	Server   string            `json:"server"`
	Wire     string            `json:"wire"`
	Rounds   int               `json:"rounds"` // that were not void
	Medians  figures           `json:"medians"`
	Lowest   figures           `json:"lowest"`
	Highest  figures           `json:"highest"`
	Base     string            `json:"base,omitempty"`
	Ratios   figures           `json:"ratios,omitempty"` // to the base: medians of the ratios within each round
	Settings map[string]string `json:"settings"`
	Machine  string            `json:"machine"`
}

// figures are numbers by name, in the order in which they were set.
type figures []figure

type figure struct {
	name  string
	value float64
}

func (f *figures) set(name string, value float64) { *f = append(*f, figure{name, value}) }

func (f figures) get(name string) (float64, bool) {
	for _, x := range f {
		if x.name == name {
			return x.value, true
		}
	}
	return 0, false
}

func (f figures) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range f {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%q:%s", x.name, number(x.value))
	}
	return append(b, '}'), nil
}

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
	results  []*result
	void     int
	terminal bool
	shown    bool // a line of progress stands on the terminal
}

func newReport(scenario string, o *options) *report {
	r := &report{out: os.Stdout, scenario: scenario, options: o, machine: machine(), settings: map[string]string{}}
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
	return &result{Row: r.options.row, Scenario: r.scenario, Server: e.name, Wire: e.mix.name, Round: round, Settings: r.settings, Machine: r.machine, Command: r.options.command}
}

// progress shows a line in place of the last one, where somebody sees it.
func (r *report) progress(line string) {
	if r.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s", line)
		r.shown = true
	}
}

func (r *report) add(res *result) {
	if res.Void = res.Faults.void(); res.Void {
		r.void++
	}
	r.results = append(r.results, res)
	r.write(res)
	r.say(fmt.Sprintf("%-10s %-20s round %d", r.scenario, res.Server, res.Round), res.Figures, res.Void)
}

func (r *report) write(line any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(line)
	r.out.Write(b.Bytes())
}

// said are the figures that people want to see first.
var said = []string{"deliveries_per_s", "answers_per_s", "cpu_s_per_million", "cpu_us_per_conn", "joins_per_s", "join_p99_us", "cpu_us_per_join", "echo_p99_us", "p50_us", "p99_us", "rss_per_conn", "client_busy"}

func (r *report) say(head string, f figures, void bool) {
	if !r.terminal {
		return
	}
	r.progress(head)
	if void {
		fmt.Fprint(os.Stderr, "  VOID")
	}
	for _, name := range said {
		if v, ok := f.get(name); ok {
			fmt.Fprintf(os.Stderr, "  %s %s", name, number(v))
		}
	}
	fmt.Fprintln(os.Stderr)
}

// medians writes a summary for each server, when there was more than one round. Void runs do not count.
func (r *report) medians() {
	if r.options.rounds < 2 {
		return
	}
	for _, e := range r.options.entrants {
		s := summary{Row: r.options.row, Scenario: r.scenario, Server: e.name, Wire: e.mix.name, Settings: r.settings, Machine: r.machine}
		good := r.good(e.name)
		if s.Rounds = len(good); s.Rounds == 0 {
			continue
		}
		base := r.good(r.options.base)
		for _, x := range good[0].Figures {
			values := collect(good, x.name)
			s.Medians.set(x.name, median(values))
			s.Lowest.set(x.name, slices.Min(values))
			s.Highest.set(x.name, slices.Max(values))
			if ratios := ratios(good, base, x.name); e.name != r.options.base && len(ratios) > 0 {
				s.Base = r.options.base
				s.Ratios.set(x.name, median(ratios))
			}
		}
		r.write(s)
		r.say(fmt.Sprintf("%-10s %-20s medians", r.scenario, e.name), s.Medians, false)
		if s.Base != "" {
			r.say(fmt.Sprintf("%-10s %-20s by %s", r.scenario, e.name, s.Base), s.Ratios, false)
		}
	}
}

func (r *report) good(server string) []*result { return good(r.results, server) }

func good(results []*result, server string) (good []*result) {
	for _, res := range results {
		if res.Server == server && !res.Void {
			good = append(good, res)
		}
	}
	return good
}

func collect(results []*result, name string) (values []float64) {
	for _, res := range results {
		if v, ok := res.Figures.get(name); ok {
			values = append(values, v)
		}
	}
	return values
}

// ratios are those of runs of the same round: what the machine did meanwhile met both.
func ratios(results, base []*result, name string) (values []float64) {
	for _, res := range results {
		for _, b := range base {
			v, ok := res.Figures.get(name)
			w, also := b.Figures.get(name)
			if b.Round == res.Round && ok && also && w != 0 {
				values = append(values, v/w)
			}
		}
	}
	return values
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
