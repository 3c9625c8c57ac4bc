//go:build linux

package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// findings are results sorted for readers: what there is of each row and curve, and what there is not.
type findings struct {
	quick    bool
	sections []section
	missing  []string // rows with bars, and curves, of which there is nothing
	curves   map[string][]point
	all      []*measured
}

// point is a place on a curve, and what was measured there.
type point struct {
	x float64
	m *measured
}

// section is a row of which there is something. A row that is not in the table has no bars.
type section struct {
	row
	m      *measured
	judged []judged
}

// sorted puts rows in the order of the table, then those that are not in it, and curves in the order of their numbers.
func sorted(all []*measured, quick bool) *findings {
	f := &findings{quick: quick, curves: map[string][]point{}, all: all}
	byName, placed := map[string]*measured{}, map[string]bool{}
	for _, m := range all {
		byName[m.row] = m
	}
	for _, w := range barRows {
		if m := byName[w.name]; m != nil {
			f.sections = append(f.sections, section{w, m, w.judge(m, quick)})
			placed[w.name] = true
		} else {
			f.missing = append(f.missing, w.name)
		}
	}
	for _, c := range append(slices.Clone(growthCurves), loadCurve) {
		for _, m := range all {
			if x, ok := c.place(m.row); ok && len(m.runs) > 0 {
				f.curves[c.prefix] = append(f.curves[c.prefix], point{x, m})
				placed[m.row] = true
			}
		}
		slices.SortFunc(f.curves[c.prefix], func(a, b point) int { return cmp.Compare(a.x, b.x) })
		if f.curves[c.prefix] == nil {
			f.missing = append(f.missing, c.prefix+"…")
		}
	}
	for _, m := range all {
		if !placed[m.row] && len(m.runs) > 0 {
			f.sections = append(f.sections, section{row: row{name: m.row}, m: m})
		}
	}
	return f
}

// place takes the number from a row's name.
func (c curve) place(name string) (x float64, ok bool) {
	number, ok := strings.CutPrefix(name, c.prefix)
	if !ok {
		return 0, false
	}
	x, err := strconv.ParseFloat(number, 64)
	return x, err == nil && x > 0 && x < 1e12
}

// tally counts the bars of all rows by what came of them.
func (f *findings) tally() (of [4]int) {
	for _, w := range barRows {
		of[unmeasured] += len(w.bars)
	}
	for _, s := range f.sections {
		for _, j := range s.judged {
			of[unmeasured]--
			of[j.verdict]++
		}
	}
	return of
}

// runs counts them all, and those that are void.
func (f *findings) runs() (n, void int) {
	for _, m := range f.all {
		n += len(m.runs)
		void += len(m.void())
	}
	return n, void
}

// machines are those that the runs were made on.
func (f *findings) machines() (names []string) {
	for _, m := range f.all {
		for _, res := range m.runs {
			if !slices.Contains(names, res.Machine) {
				names = append(names, res.Machine)
			}
		}
	}
	return names
}

// floor tells what the floor itself cost, and whether that is what it should cost.
func (f *findings) floor() (cost spread, known, sane bool) {
	for _, m := range f.all {
		if m.row == floorRow {
			cost, known = m.of("floor", cpuPerMillion)
		}
	}
	return cost, known, known && cost.median >= floorLeast && cost.median <= floorMost
}
