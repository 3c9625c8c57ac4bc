//go:build linux

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// svg is a picture that grows from top to bottom of its text. It stands on a ground of its own, light or dark as the reader's
// browser asks, so that it can be read on any page. Sizes are in pixels.
type svg struct {
	b             bytes.Buffer
	width, height float64
}

// paint is what a class looks like in light and dark.
type paint struct{ class, light, dark string }

// Colours. Those of series and verdicts differ in brightness too, for who cannot tell their hues apart.
var (
	grounds = []paint{{"ground", "#ffffff", "#0d1117"}, {"zone", "#fff1e5", "#2b1d0e"}, {"band", "#eaeef2", "#21262d"}}
	inks    = []paint{{"ink", "#1f2328", "#e6edf3"}, {"soft", "#59636e", "#9198a1"}}
	rules   = []paint{{"rule", "#d1d9e0", "#3d444d"}, {"mark", "#1f2328", "#e6edf3"}}
	colours = []paint{
		{"c0", "#0969da", "#58a6ff"}, {"c1", "#bc4c00", "#f0883e"}, {"c2", "#1a7f37", "#3fb950"}, {"c3", "#8250df", "#bc8cff"},
		{"met", "#0969da", "#58a6ff"}, {"missed", "#cf222e", "#ff7b72"}, {"open", "#818b98", "#656c76"},
	}
)

// seriesColours is how many series can be told apart.
const seriesColours = 4

// newSVG begins a picture. about is for those who cannot see it.
func newSVG(width, height float64, title, about string) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(&s.b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s">`+"\n", px(width), px(height))
	fmt.Fprintf(&s.b, "<title>%s</title>\n<desc>%s</desc>\n<style>\n", markup(title), markup(about))
	s.b.WriteString("text{font:12px -apple-system,BlinkMacSystemFont,\"Segoe UI\",\"Noto Sans\",Helvetica,Arial,sans-serif}\n" +
		".h{font-size:15px;font-weight:600}.b{font-weight:600}.m{text-anchor:middle}.e{text-anchor:end}\n" +
		"line,path{fill:none;stroke-width:1}.series{stroke-width:2;stroke-linejoin:round}.dash{stroke-dasharray:5 4}.faint{fill-opacity:.16;stroke:none}.whisker{stroke-width:1.5}\n")
	s.b.WriteString(style(func(p paint) string { return p.light }))
	s.b.WriteString("@media (prefers-color-scheme:dark){\n" + style(func(p paint) string { return p.dark }) + "}\n</style>\n")
	fmt.Fprintf(&s.b, `<rect x="0.5" y="0.5" width="%s" height="%s" rx="6" class="ground rule"/>`+"\n", px(width-1), px(height-1))
	return s
}

// style writes the classes in the colours that pick chooses.
func style(pick func(paint) string) string {
	var b strings.Builder
	for _, p := range append(grounds, inks...) {
		fmt.Fprintf(&b, ".%s{fill:%s}", p.class, pick(p))
	}
	b.WriteByte('\n')
	for _, p := range append(rules, colours...) {
		fmt.Fprintf(&b, ".%s{stroke:%s}", p.class, pick(p))
	}
	b.WriteByte('\n')
	for _, p := range colours {
		fmt.Fprintf(&b, ".f-%s{fill:%s}", p.class, pick(p))
	}
	b.WriteByte('\n')
	return b.String()
}

func (s *svg) end() []byte {
	s.b.WriteString("</svg>\n")
	return s.b.Bytes()
}

func (s *svg) text(x, y float64, class, text string) {
	fmt.Fprintf(&s.b, `<text x="%s" y="%s" class="%s">%s</text>`+"\n", px(x), px(y), class, markup(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&s.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`+"\n", px(x1), px(y1), px(x2), px(y2), class)
}

func (s *svg) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(&s.b, `<rect x="%s" y="%s" width="%s" height="%s" class="%s"/>`+"\n", px(x), px(y), px(w), px(h), class)
}

func (s *svg) dot(x, y, r float64, class string) {
	fmt.Fprintf(&s.b, `<circle cx="%s" cy="%s" r="%s" class="%s"/>`+"\n", px(x), px(y), px(r), class)
}

// spot is a place in the picture.
type spot struct{ x, y float64 }

// path draws lines from spot to spot; closed paths end with "Z".
func (s *svg) path(spots []spot, end, class string) {
	if len(spots) < 2 {
		return
	}
	s.b.WriteString(`<path d="`)
	for i, p := range spots {
		s.b.WriteString(string("ML"[min(i, 1)]) + px(p.x) + " " + px(p.y))
	}
	fmt.Fprintf(&s.b, `%s" class="%s"/>`+"\n", end, class)
}

// px writes a coordinate, to a tenth of a pixel.
func px(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// markup escapes text for SVG and HTML.
func markup(text string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(text))
	return b.String()
}

// scale maps what was measured to pixels.
type scale struct {
	log      bool
	min, max float64 // of what was measured
	from, to float64 // where they are in the picture
}

func (c scale) at(v float64) float64 {
	low, high := c.min, c.max
	if c.log {
		v, low, high = math.Log(max(v, c.min)), math.Log(low), math.Log(high)
	}
	if low == high {
		return (c.from + c.to) / 2
	}
	return c.from + (v-low)/(high-low)*(c.to-c.from)
}

// ticks are round numbers on the scale.
func (c scale) ticks() (at []float64) {
	if !c.log {
		step := niceStep((c.max - c.min) / 5)
		for i := math.Ceil(c.min / step); i*step <= c.max*(1+1e-9); i++ {
			at = append(at, i*step)
		}
		return at
	}
	digits := []float64{1, 2, 5}
	if c.max/c.min > 300 {
		digits = digits[:1]
	}
	for decade := math.Pow(10, math.Floor(math.Log10(c.min))); decade <= c.max; decade *= 10 {
		for _, d := range digits {
			if v := d * decade; v >= c.min*(1-1e-9) && v <= c.max*(1+1e-9) {
				at = append(at, v)
			}
		}
	}
	return at
}

// niceStep is the least of 1, 2, 5, 10, … that is not below v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, d := range []float64{1, 2, 5} {
		if d*decade >= v*(1-1e-9) {
			return d * decade
		}
	}
	return 10 * decade
}

// logScale is one that has all values, with round ends.
func logScale(values []float64, from, to float64) scale {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	low, high = roundDown(low), roundUp(high)
	if low == high {
		high *= 10
	}
	return scale{true, low, high, from, to}
}

// roundDown and roundUp go to the next of 1, 2, 5, 10, …
func roundUp(v float64) float64 { return niceStep(v) }

func roundDown(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, d := range []float64{5, 2} {
		if d*decade <= v*(1+1e-9) {
			return d * decade
		}
	}
	return decade
}
