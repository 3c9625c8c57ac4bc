//go:build linux

package main

import "fmt"

// pictureWidth is what GitHub shows of a page without making a picture smaller.
const pictureWidth = 900

// barsPicture shows each bar, and how much of it our figure takes. rows without anything measured are left out; nil if none
// is left.
func barsPicture(sections []section, quick bool) []byte {
	const head, line, title, foot = 82, 21, 25, 16
	const left, right = 350, 605 // of the field
	height := float64(head + foot)
	n := 0
	for _, s := range sections {
		if k := len(s.drawn()); k > 0 {
			height += float64(title + k*line)
			n += k
		}
	}
	if n == 0 {
		return nil
	}
	about := fmt.Sprintf("%s, each with the measured figure, lowest to highest, and the limit", count(n, "bar"))
	p := newSVG(pictureWidth, height, "pomelod against its bars", about)
	x := scale{false, 0, 1.5, left, right}
	p.text(20, 30, "ink h", "pomelod against its bars")
	p.text(20, 50, "soft", "How much of what is allowed it takes: shorter is better. Whiskers: lowest and highest round.")
	barsKey(p, quick)
	for _, v := range []float64{0, 0.5, 1, 1.5} {
		class := "soft m"
		if v == 1 {
			class = "ink b m"
		}
		p.text(x.at(v), head-8, class, percent(v))
		p.line(x.at(v), head, x.at(v), height-foot, "rule")
	}
	p.text(668, head-8, "soft", "measured")
	p.text(820, head-8, "soft", "limit")
	y := float64(head)
	for _, s := range sections {
		all := s.drawn()
		if len(all) == 0 {
			continue
		}
		text := s.title
		if s.unlike(s.m) != "" {
			text += " (with other settings)"
		}
		p.text(20, y+17, "ink b", text)
		y += title
		for _, j := range all {
			p.text(left-14, y+14, "ink e", j.said())
			drawBar(p, x, y, j)
			y += line
		}
	}
	p.line(x.at(1), head-2, x.at(1), height-foot, "mark whisker")
	return p.end()
}

func barsKey(p *svg, quick bool) {
	keys := []struct{ class, text string }{{"met", "met"}, {"missed", "not met"}, {"open", "no verdict"}}
	if quick {
		keys = keys[2:]
	}
	at := 880.0
	for i := range keys {
		k := keys[len(keys)-1-i]
		p.text(at, 30, "ink e", k.text)
		at -= 24 + 5.8*float64(len(k.text))
		p.rect(at, 20, 12, 12, "f-"+k.class)
		at -= 20
	}
}

// drawBar draws one bar of the picture: what part of its limit is taken, and the figures in words.
func drawBar(p *svg, x scale, y float64, j judged) {
	part := func(v float64) float64 {
		if v = v / j.limit; j.sense == atLeast && v != 0 {
			v = 1 / v
		}
		return x.at(min(max(v, 0), x.max))
	}
	class := "open"
	switch j.verdict {
	case barMet:
		class = "met"
		p.text(640, y+14, "b f-met", "✓")
	case barMissed:
		class = "missed"
		p.text(640, y+14, "b f-missed", "✗")
	}
	to := part(j.median)
	p.rect(x.from, y+4, max(to-x.from, 1), 12, "f-"+class)
	if j.n > 1 {
		p.line(part(j.lowest), y+10, part(j.highest), y+10, "mark whisker")
		for _, v := range []float64{part(j.lowest), part(j.highest)} {
			if v < x.to { // else it goes on
				p.line(v, y+7, v, y+13, "mark whisker")
			}
		}
	}
	if to >= x.to {
		p.text(x.to+5, y+14, "ink b", "»")
	}
	p.text(668, y+14, "ink", j.measured())
	p.text(820, y+14, "soft", j.bound())
}
