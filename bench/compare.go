//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// compared are the figures by which two revisions are told apart. Less is better in all of them.
var compared = []string{cpuPerMillion, cpuPerConn, p99Latency, rssPerConn}

// comparison is the flags of compare.
type comparison struct {
	base  string
	rows  []string
	least float64 // as a share: what a difference must come to
}

// confidence is what an interval must reach for a verdict.
const confidence = 0.95

// compareCommand tells what is slower than the base. The exit code is exitSlower when something is, or when a run of what is
// compared is void, as losing messages is worse than being slow; exitWrong when something could not be told.
func compareCommand(args []string) (int, error) {
	f := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	c := comparison{least: 0.02}
	f.StringVar(&c.base, "base", "base", "`name` of the server that the others are compared with")
	f.Func("row", "compare this `row` only; give it several times for several", func(name string) error {
		c.rows = append(c.rows, name)
		return nil
	})
	f.Func("least", "`percent` that a difference must come to, besides being sure (default 2%)", func(text string) error {
		v, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || v < 0 || v >= 100 {
			return errors.New("give a percentage, as in 2%")
		}
		c.least = v / 100
		return nil
	})
	files, err := parseFiles(f, args)
	if err != nil {
		return 0, err
	}
	all, err := readFiles(files)
	if err != nil {
		return 0, err
	}
	return c.compare(os.Stdout, all)
}

// difference is one figure of one row in two servers.
type difference struct {
	row, server, figure string

	ratios   spread
	interval interval
	word     string
}

// What there is to say of a difference.
const (
	slower = "SLOWER"
	faster = "faster"
	same   = "no difference shown"
	tooFew = "no verdict"
)

func (c comparison) compare(w io.Writer, all []*measured) (int, error) {
	rows, err := c.choose(all)
	if err != nil {
		return 0, err
	}
	var found []difference
	var apart []string
	for _, m := range rows {
		if m.mixed != "" {
			return 0, fmt.Errorf("the runs of %s are of several kinds: %s; compare what one call has measured", m.row, m.mixed)
		}
		all := c.differences(m)
		if found = append(found, all...); len(all) == 0 {
			apart = append(apart, m.row)
		}
	}
	if len(found) > 0 {
		c.write(w, found)
	}
	if len(apart) > 0 {
		fmt.Fprintf(w, "Not compared, as no round has good runs of %s and of another server: %s\n", c.base, strings.Join(apart, ", "))
	}
	bad := c.voids(w, rows)
	if len(found) == 0 && bad == 0 {
		return 0, errors.New("nothing to compare: name the servers base=… and head=… when you measure them, or say -base")
	}
	return exitCode(found, bad), nil
}

// choose gives the rows that were asked for, or all.
func (c comparison) choose(all []*measured) (rows []*measured, err error) {
	if len(c.rows) == 0 {
		return all, nil
	}
	for _, name := range c.rows {
		i := slices.IndexFunc(all, func(m *measured) bool { return m.row == name })
		if i < 0 {
			var names []string
			for _, m := range all {
				names = append(names, m.row)
			}
			return nil, fmt.Errorf("no row %q; there are %s", name, strings.Join(names, ", "))
		}
		rows = append(rows, all[i])
	}
	return rows, nil
}

// against is the name of the base that a server is compared with: with several wires, that of the same wire.
func (c comparison) against(server string) string {
	if _, wire, ok := strings.Cut(server, "/"); ok && !strings.Contains(c.base, "/") {
		return c.base + "/" + wire
	}
	return c.base
}

func (c comparison) differences(m *measured) (found []difference) {
	for _, server := range m.servers() {
		base := c.against(server)
		if server == base || !slices.Contains(m.servers(), base) {
			continue
		}
		for _, figure := range compared {
			values := m.values(server, base, figure)
			if len(values) == 0 {
				continue
			}
			d := difference{row: m.row, server: server, figure: figure, ratios: spreadOf(values), interval: medianInterval(values)}
			d.word = c.judge(d)
			found = append(found, d)
		}
	}
	return found
}

// judge tells whether a difference is sure, and worth speaking of.
func (c comparison) judge(d difference) string {
	switch {
	case d.interval.confidence < confidence:
		return tooFew
	case d.interval.low > 1 && d.ratios.median >= 1+c.least:
		return slower
	case d.interval.high < 1 && d.ratios.median <= 1-c.least:
		return faster
	}
	return same
}

// interval is where the median of what was drawn from lies, with so much confidence.
type interval struct{ low, high, confidence float64 }

// medianInterval makes the narrowest interval with at least 95% confidence that order statistics give, whatever the
// distribution: from the k-th lowest to the k-th highest value. With fewer than six values there is none; then it is the widest there is.
func medianInterval(values []float64) interval {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	k := 1
	for k < (n+1)/2 && coverage(n, k+1) >= confidence {
		k++
	}
	return interval{values[k-1], values[n-k], coverage(n, k)}
}

// coverage is how probably the median lies between the k-th lowest and the k-th highest of n values: each is below it as a fair
// coin falls, so it lies outside when fewer than k fall on one side.
func coverage(n, k int) float64 {
	outside, ways := 0.0, 1.0 // ways to choose i of n
	for i := range k {
		outside += ways
		ways *= float64(n-i) / float64(i+1)
	}
	return max(0, 1-2*outside/math.Pow(2, float64(n)))
}

func (c comparison) write(w io.Writer, found []difference) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "row\tserver\tfigure\tby %s\tinterval\tconfidence\trounds\t\n", c.base)
	for _, d := range found {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%.3f–%.3f\t%s\t%d\t%s\n", d.row, d.server, label(d.figure), d.ratios.median,
			d.interval.low, d.interval.high, sure(d.interval.confidence), d.ratios.n, d.word)
	}
	t.Flush()
	fmt.Fprintf(w, "\nMedians of the ratios within each round, below 1 is better; slower and faster differ by %v%% or more.\n", c.least*100)
	if slices.ContainsFunc(found, func(d difference) bool { return d.word == tooFew }) {
		fmt.Fprintln(w, "An interval of 95% for a median needs at least 6 good rounds: where there are fewer, nothing can be said.")
	}
}

// sure writes a confidence, never as more than it is.
func sure(confidence float64) string {
	return strconv.FormatFloat(math.Floor(confidence*1000)/10, 'f', 1, 64) + "%"
}

// voids lists void runs and tells how many are not the base's.
func (c comparison) voids(w io.Writer, rows []*measured) (bad int) {
	for _, m := range rows {
		for _, res := range m.void() {
			fmt.Fprintf(w, "void: %s, %s, round %d: %s\n", m.row, res.Server, res.Round, res.Faults.said())
			if res.Server != c.against(res.Server) {
				bad++
			}
		}
	}
	return bad
}

func exitCode(found []difference, bad int) int {
	is := func(word string) bool {
		return slices.ContainsFunc(found, func(d difference) bool { return d.word == word })
	}
	switch {
	case is(slower) || bad > 0:
		return exitSlower
	case is(tooFew):
		return exitWrong
	}
	return 0
}
