//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// Known values: of the binomial distribution with probability ½.
func TestCoverageOfOrderStatistics(t *testing.T) {
	for _, c := range []struct {
		n, k int
		want float64
	}{{1, 1, 0}, {2, 1, 0.5}, {5, 1, 0.9375}, {6, 1, 0.96875}, {7, 1, 0.984375}, {8, 1, 0.9921875}, {8, 2, 0.9296875}, {9, 2, 0.9609375}, {10, 2, 0.978515625}, {20, 6, 0.958610535}, {3, 2, 0}} {
		if got := coverage(c.n, c.k); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("n=%d k=%d: %v, want %v", c.n, c.k, got, c.want)
		}
	}
}

func TestMedianInterval(t *testing.T) {
	upTo := func(n int) (values []float64) {
		for i := range n {
			values = append(values, float64((i*7)%n+1)) // not in order
		}
		return values
	}
	for n, want := range map[int]interval{
		1: {1, 1, 0}, 5: {1, 5, 0.9375}, 6: {1, 6, 0.96875}, 8: {1, 8, 0.9921875}, 9: {2, 8, 0.9609375}, 20: {6, 15, 0.958610535},
	} {
		got := medianInterval(upTo(n))
		if got.low != want.low || got.high != want.high || math.Abs(got.confidence-want.confidence) > 1e-9 {
			t.Errorf("n=%d: %+v, want %+v", n, got, want)
		}
	}
}

// versus is a row in which head was by times base, round for round.
func versus(by ...float64) *measured {
	var runs []*result
	for i, v := range by {
		base := 4 + float64(i%3) // what the machine does
		runs = append(runs, made("base", i+1, figures{cpuPerMillion: base}), made("head", i+1, figures{cpuPerMillion: base * v}))
	}
	return rowOf(runs...)
}

func TestCompare(t *testing.T) {
	voided := func(m *measured, server string) *measured {
		for _, res := range m.runs {
			if res.Server == server && res.Round == 1 {
				res.Void, res.Faults.Lost = true, 3
			}
		}
		return m
	}
	for _, c := range []struct {
		name string
		m    *measured
		want string
		code int
	}{
		{"slower", versus(1.05, 1.04, 1.10, 1.06, 1.02, 1.03, 1.07), slower, exitSlower},
		{"faster", versus(0.95, 0.94, 0.90, 0.96, 0.97, 0.93, 0.92), faster, 0},
		{"sure, but next to nothing", versus(1.01, 1.012, 1.015, 1.01, 1.013, 1.011, 1.014), same, 0},
		{"much, but not sure", versus(1.5, 0.9, 1.4, 1.3, 1.2, 1.25, 1.35), same, 0},
		{"just enough", versus(1.5, 1.5, 1.5, 1.5, 1.5, 1.5), slower, exitSlower},
		{"too few rounds", versus(1.5, 1.5, 1.5, 1.5, 1.5), tooFew, exitWrong},
		{"a void round leaves too few", voided(versus(1, 1, 1, 1, 1, 1), "base"), tooFew, exitWrong},
		{"the base lost something", voided(versus(1, 1, 1, 1, 1, 1, 1), "base"), same, 0},
		{"head lost something", voided(versus(1, 1, 1, 1, 1, 1, 1), "head"), same, exitSlower},
	} {
		var b strings.Builder
		code, err := compare(&b, []*measured{c.m})
		if err != nil || code != c.code || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: %d, %v\n%s", c.name, code, err, &b)
		}
		if few := strings.Contains(b.String(), "at least 6 good rounds"); few != (c.want == tooFew) {
			t.Errorf("%s: says of too few rounds: %v", c.name, few)
		}
		if lost := strings.Contains(b.String(), "3 lost"); lost != (len(c.m.void()) > 0) {
			t.Errorf("%s: says of void runs: %v", c.name, lost)
		}
	}
}

func TestCompareOfOneWireEach(t *testing.T) {
	var runs []*result
	for round := 1; round <= 6; round++ {
		for _, wire := range []string{"ws", "tcp"} {
			by := map[string]float64{"ws": 1, "tcp": 2}[wire]
			runs = append(runs, made("base/"+wire, round, figures{rssPerConn: 10}), made("head/"+wire, round, figures{rssPerConn: 10 * by}))
		}
	}
	var words []string
	for _, d := range differences(rowOf(runs...)) {
		words = append(words, fmt.Sprintf("%s %v %s", d.server, d.ratios.median, d.word))
	}
	if got := strings.Join(words, "; "); got != "head/ws 1 "+same+"; head/tcp 2 "+slower {
		t.Error(got)
	}
}
