//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// compared are the figures by which two revisions are told apart. Less is better in all of them.
var compared = []string{cpuPerMillion, cpuPerConn, p99Latency, rssPerConn}

// Which server is compared with which, and what a difference must come to, besides being sure.
const (
	baseName  = "base"
	leastPart = 0.02
)

// confidence is what an interval must reach for a verdict.
const confidence = 0.95

// compareCommand tells what is slower than the base. The exit code is exitSlower when something is, or when a run of what is
// compared is void, as losing messages is worse than being slow; exitWrong when something could not be told.
func compareCommand(files []string) (int, error) {
	all, err := readFiles(files)
	if err != nil {
		return 0, err
	}
	return compare(os.Stdout, all)
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

func compare(w io.Writer, rows []*measured) (int, error) {
	var found []difference
	bad := 0
	for _, m := range rows {
		if m.mixed != "" {
			return 0, fmt.Errorf("the runs of %s are of several kinds: %s; compare what one call has measured", m.row, m.mixed)
		}
		found = append(found, differences(m)...)
		for _, res := range m.void() {
			fmt.Fprintf(w, "void: %s, %s, round %d: %s\n", m.row, res.Server, res.Round, res.Faults.said())
			if res.Server != against(res.Server) {
				bad++
			}
		}
	}
	if len(found) == 0 && bad == 0 {
		return 0, errors.New("nothing to compare: name the servers base=… and head=… when you measure them")
	}
	writeDifferences(w, found)
	return exitCode(found, bad), nil
}

// against is the name of the base that a server is compared with: with several wires, that of the same wire.
func against(server string) string {
	if _, wire, ok := strings.Cut(server, "/"); ok {
		return baseName + "/" + wire
	}
	return baseName
}

func differences(m *measured) (found []difference) {
	for _, server := range m.servers() {
		base := against(server)
		if server == base || !slices.Contains(m.servers(), base) {
			continue
		}
		for _, figure := range compared {
			values := m.values(server, base, figure)
			if len(values) == 0 {
				continue
			}
			d := difference{row: m.row, server: server, figure: figure, ratios: spreadOf(values), interval: medianInterval(values)}
			d.word = judge(d)
			found = append(found, d)
		}
	}
	return found
}

// judge tells whether a difference is sure, and worth speaking of.
func judge(d difference) string {
	switch {
	case d.interval.confidence < confidence:
		return tooFew
	case d.interval.low > 1 && d.ratios.median >= 1+leastPart:
		return slower
	case d.interval.high < 1 && d.ratios.median <= 1-leastPart:
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

func writeDifferences(w io.Writer, found []difference) {
	var lines [][]string
	for _, d := range found {
		lines = append(lines, []string{d.row, d.server, d.figure, fmt.Sprintf("%.3f", d.ratios.median), fmt.Sprintf("%.3f–%.3f", d.interval.low, d.interval.high),
			sure(d.interval.confidence), fmt.Sprint(d.ratios.n), d.word})
	}
	table(w, []string{"row", "server", "figure", "by " + baseName, "interval", "confidence", "rounds", "verdict"}, lines)
	fmt.Fprintf(w, "Medians of the ratios within each round, below 1 is better; slower and faster differ by %v%% or more.\n", leastPart*100)
	if slices.ContainsFunc(found, func(d difference) bool { return d.word == tooFew }) {
		fmt.Fprintln(w, "An interval of 95% for a median needs at least 6 good rounds: where there are fewer, nothing can be said.")
	}
}

// sure writes a confidence, never as more than it is.
func sure(confidence float64) string {
	return strconv.FormatFloat(math.Floor(confidence*1000)/10, 'f', 1, 64) + "%"
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
