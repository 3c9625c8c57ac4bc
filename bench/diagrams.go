//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// point is a place on a curve, and what was measured there.
type point struct {
	x float64
	m *measured
}

// series is one server along a curve.
type series struct {
	name   string
	points []point
}

// seriesOf sorts what was measured along a curve by server.
func seriesOf(points []point) (all []series) {
	for _, p := range points {
		for _, name := range p.m.servers() {
			i := slices.IndexFunc(all, func(s series) bool { return s.name == name })
			if i < 0 {
				i = len(all)
				all = append(all, series{name: name})
			}
			all[i].points = append(all[i].points, p)
		}
	}
	return all[:min(len(all), seriesColours)]
}

// extremes are the lowest and highest values of some figures at all points of all series.
func extremes(all []series, figures ...string) (values []float64) {
	for _, s := range all {
		for _, p := range s.points {
			for _, f := range figures {
				if v, ok := p.m.of(s.name, f); ok {
					values = append(values, v.lowest, v.highest)
				}
			}
		}
	}
	return values
}

// diagram is a field of a picture, from left to right, with two scales. y grows upwards.
type diagram struct {
	*svg
	left, right float64
	x, y        scale
}

// across makes the scale of x: logarithmic, with some room at both ends.
func across(points []point, left, right float64) scale {
	return scale{true, points[0].x, points[len(points)-1].x, left + 16, right - 16}
}

// grid draws the scales. Numbers of x stand where something was measured; what would overlap is left out.
func (d diagram) grid(points []point, write func(float64) string) {
	for _, v := range d.y.ticks() {
		d.line(d.left, d.y.at(v), d.right, d.y.at(v), "rule")
		d.text(d.left-8, d.y.at(v)+4, "soft e", write(v))
	}
	last := len(points) - 1
	free, taken := d.left-100, d.x.at(points[last].x)-halfWidth(points[last])
	for i, p := range points {
		at, half := d.x.at(p.x), halfWidth(p)
		d.line(at, d.y.from, at, d.y.from+4, "rule")
		if i == last || at-half > free && at+half+4 < taken {
			d.text(at, d.y.from+18, "soft m", short(p.x))
			free = at + half + 4
		}
	}
}

// halfWidth is about that of a point's number.
func halfWidth(p point) float64 { return 4 * float64(len(short(p.x))) }

// plot draws one figure of a series in a colour, dashed if so said, over a band from lowest to highest.
func (d diagram) plot(s series, figure, colour string, dashed bool) {
	var medians, outline []spot
	low := []spot{}
	for _, p := range s.points {
		if v, ok := p.m.of(s.name, figure); ok {
			at := d.x.at(p.x)
			medians = append(medians, spot{at, d.y.at(v.median)})
			outline = append(outline, spot{at, d.y.at(v.highest)})
			low = append(low, spot{at, d.y.at(v.lowest)})
		}
	}
	slices.Reverse(low)
	d.path(append(outline, low...), "Z", "faint f-"+colour)
	class := "series " + colour
	if dashed {
		class += " dash"
	}
	d.path(medians, "", class)
	for _, at := range medians {
		d.dot(at.x, at.y, 3, "f-"+colour)
	}
}

// colour is the class of the i-th series.
func colour(i int) string { return fmt.Sprintf("c%d", i) }

// serverKey says which colour is whose.
func (p *svg) serverKey(x, y float64, all []series) {
	for i, s := range all {
		p.rect(x, y-9, 10, 10, "f-"+colour(i))
		p.text(x+15, y, "ink", s.name)
		x += 36 + 7*float64(len(s.name))
	}
}

// dashKey says what whole and dashed lines are; it ends at x.
func (p *svg) dashKey(x, y float64, whole, dashed string) {
	p.text(x, y, "ink e", dashed)
	x -= 8 + 6.5*float64(len(dashed))
	p.line(x-26, y-4, x, y-4, "mark series dash")
	x -= 46
	p.text(x, y, "ink e", whole)
	x -= 8 + 6.5*float64(len(whole))
	p.line(x-26, y-4, x, y-4, "mark series")
}

// latencyPicture shows latency over offered load, and below it how busy the server was and what it refused. nil without data.
func latencyPicture(points []point) []byte {
	all := seriesOf(points)
	values := extremes(all, p99Latency, "p50_us")
	if len(values) == 0 {
		return nil
	}
	const left, right = 84, 876
	p := newSVG(pictureWidth, 570, "Latency over offered load",
		"Above: p50 and p99 over the offered load, both scales logarithmic. Below: the share of a cpu that the server took, and the share of messages that it refused.")
	p.text(20, 30, "ink h", "Latency over offered load")
	p.text(20, 50, "soft", "From when a message was due to when a member had it. Bands: lowest to highest round. Both scales are logarithmic.")
	x := across(points, left, right)
	above := diagram{p, left, right, x, logScale(values, 350, 92)}
	below := diagram{p, left, right, x, scale{false, 0, slices.Max(append(extremes(all, "server_busy"), 1)), 520, 422}}
	if from, ok := saturated(all[0]); ok {
		at := edge(all[0], x, from)
		for _, d := range []diagram{above, below} {
			p.rect(at, d.y.to, right-at, d.y.from-d.y.to, "zone")
		}
		p.text(right-6, above.y.from-8, "soft e", all[0].name+" saturated")
	}
	above.grid(points, tickText)
	below.grid(points, percent)
	p.serverKey(left, 80, all)
	p.dashKey(right, 80, "p99", "p50")
	p.text(left, 408, "soft", "share of a cpu, share of messages")
	p.dashKey(right, 408, "refused", "server busy")
	for i, s := range all {
		above.plot(s, "p50_us", colour(i), true)
		above.plot(s, p99Latency, colour(i), false)
		below.plot(s, "server_busy", colour(i), true)
		below.plot(s, refusedShare, colour(i), false)
	}
	p.text((left+right)/2, 558, "soft m", offered(points))
	return p.end()
}

// offered says what load it is, and to how large a room if it is always the same one.
func offered(points []point) string {
	text, members := loadCurve.axis+" offered", points[0].m.setting("members")
	for _, p := range points {
		if p.m.setting("rooms") != "1" || p.m.setting("members") != members {
			return text
		}
	}
	n, err := strconv.ParseFloat(members, 64)
	if err != nil {
		return text
	}
	return text + " to a room of " + thousands(n)
}

// saturated gives the first point at which a server has no more to give: it refuses, or uses all of its cpu.
func saturated(s series) (index int, ok bool) {
	for i, p := range s.points {
		refused, _ := p.m.of(s.name, refusedShare)
		busy, _ := p.m.of(s.name, "server_busy")
		if refused.median > 0 || busy.median >= 0.98 {
			return i, true
		}
	}
	return 0, false
}

// edge is half way between a point and the one before it.
func edge(s series, x scale, index int) float64 {
	if index == 0 {
		return x.from - 16
	}
	return (x.at(s.points[index-1].x) + x.at(s.points[index].x)) / 2
}

// growthPicture shows what a delivery costs as one thing grows, a field for each curve that has data; nil if none has.
func growthPicture(curves map[string][]point) []byte {
	var drawn []curve
	for _, c := range growthCurves {
		if len(extremes(seriesOf(curves[c.prefix]), cpuPerMillion)) > 0 {
			drawn = append(drawn, c)
		}
	}
	if len(drawn) == 0 {
		return nil
	}
	const head, deep = 64, 246
	lines := (len(drawn) + 1) / 2
	p := newSVG(pictureWidth, float64(head+deep*lines), "What a delivery costs as things grow",
		"CPU seconds per million deliveries over: "+axes(drawn)+". Horizontal scales are logarithmic, vertical ones begin at zero.")
	p.text(20, 30, "ink h", "What a delivery costs as things grow")
	p.text(20, 50, "soft", "CPU seconds per million deliveries, from zero. Bands: lowest to highest round.")
	for i, c := range drawn {
		points := curves[c.prefix]
		all := seriesOf(points)
		left, top := float64(64+440*(i%2)), float64(head+deep*(i/2))
		right := left + 372
		d := diagram{p, left, right, across(points, left, right), scale{false, 0, slices.Max(extremes(all, cpuPerMillion)) * 1.1, top + 200, top + 36}}
		p.text(left-8, top+20, "ink b", c.title)
		if len(all) > 1 {
			p.serverKey(left+200, top+20, all)
		}
		d.grid(points, short)
		for j, s := range all {
			d.plot(s, cpuPerMillion, colour(j), false)
		}
	}
	return p.end()
}

func axes(curves []curve) string {
	var names []string
	for _, c := range curves {
		names = append(names, c.axis)
	}
	return strings.Join(names, ", ")
}
