//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// document is the report in Markdown.
type document struct {
	bytes.Buffer
	*findings
}

// markdown writes the report; config is pomelod's, empty if it is not known.
func (f *findings) markdown(config string) []byte {
	d := &document{findings: f}
	d.head()
	d.verdicts()
	if len(f.missing) > 0 {
		d.say("Not measured: %s.", strings.Join(f.missing, ", "))
	}
	d.say("**CPU-s/M** is the server's processor time, user and system, in seconds for a million deliveries (requests, for `echo`). Figures are medians of all good rounds, with the lowest and " +
		"the highest. A **ratio** (÷) is the median of the ratios within each round, in which the servers took turns: what the machine did meanwhile met them all. " +
		"A bar is **met** when that median is on the good side of the limit, or on it, and the row has at least five good rounds. Refused messages, and a generator that was late, are shown where there were any.")
	for _, s := range f.sections {
		d.section(s)
	}
	d.load()
	d.growth()
	d.void()
	if config != "" {
		d.fold("pomelod's effective configuration", "```json\n"+config+"\n```")
	}
	return d.Bytes()
}

// say writes a paragraph.
func (d *document) say(format string, args ...any) { fmt.Fprintf(d, format+"\n\n", args...) }

func (d *document) title(text string) { d.say("## %s", text) }

// fold writes what few will want to read.
func (d *document) fold(about, text string) {
	d.say("<details><summary>%s</summary>\n\n%s\n\n</details>", noHTML(about), text)
}

func (d *document) table(head []string, lines [][]string) {
	fmt.Fprintf(d, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, line := range lines {
		fmt.Fprintf(d, "| %s |\n", strings.Join(line, " | "))
	}
	d.WriteByte('\n')
}

// noHTML is text in which nothing is HTML.
func noHTML(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", `\|`).Replace(text)
}

// code quotes what others have written.
func code(text string) string {
	return "`" + strings.NewReplacer("`", "'", "|", `\|`, "\n", " ", "\r", " ").Replace(text) + "`"
}

func (d *document) head() {
	d.say("# Benchmark report")
	d.say("Made by `bench report` from the load generator's results. What is measured, and how: [bench/README.md](../README.md).")
	if d.quick {
		d.say("> [!NOTE]\n> A quick look, without verdicts: too short, or on a machine too busy, to judge by.")
	}
	d.floorCost()
	machines := d.machines()
	if len(machines) > 1 {
		d.say("> [!WARNING]\n> The runs were made on %d machines.", len(machines))
	}
	for _, m := range machines {
		d.say("**Machine:** %s", noHTML(m))
	}
	n, void := d.runs()
	runs := count(n, "run") + ", none of them void"
	if void > 0 {
		runs = fmt.Sprintf("%s, **%d of them [void](#void-runs)**", count(n, "run"), void)
	}
	if of := d.tally(); d.quick {
		d.say("%s.", runs)
	} else {
		d.say("**Bars: %d met, %d not met, %d without a verdict, %d not measured.** %s.", of[barMet], of[barMissed], of[noVerdict], of[unmeasured], runs)
	}
}

// floorCost tells whether the machine is fit to judge.
func (d *document) floorCost() {
	switch cost, known, sane := d.floor(); {
	case sane:
		d.say("The floor itself cost %s CPU-s/M in %s, within the %v to %v of a machine that is fit to judge.", cost.full(significant), code(floorRow), floorLeast, floorMost)
	case known:
		d.say("> [!WARNING]\n> The floor itself cost %s CPU-s/M in %s. On a machine that is fit to judge it costs %v to %v. Read every figure below with doubt.",
			cost.full(significant), code(floorRow), floorLeast, floorMost)
	default:
		d.say("What the floor itself costs in %s was not measured, so nothing shows whether this machine is fit to judge.", code(floorRow))
	}
}

// verdicts names the bars that are not met, and those that cannot be judged, before anybody has to look for them.
func (d *document) verdicts() {
	var missed, open []string
	for _, s := range d.sections {
		for _, j := range s.judged {
			switch {
			case j.verdict == barMissed:
				missed = append(missed, fmt.Sprintf("- %s: %s is %s, and should be %s", s.title, j.said(), j.measured(), j.bound()))
			case j.verdict == noVerdict && !d.quick:
				open = append(open, fmt.Sprintf("- %s: %s: %s", s.title, j.said(), j.why))
			}
		}
	}
	if missed != nil {
		d.say("Not met:\n\n%s", strings.Join(missed, "\n"))
	}
	if open != nil {
		d.say("Without a verdict:\n\n%s", strings.Join(open, "\n"))
	}
}

// section writes one row: its bars, its figures, and how it was run.
func (d *document) section(s section) {
	if d.title(s.heading()); s.m.mixed != "" {
		d.say("> [!WARNING]\n> The runs of this row are of several kinds, so nothing is made of them: %s. Remove the old results and measure again.", noHTML(s.m.mixed))
	}
	if wrong := s.unlike(s.m); wrong != "" && s.m.mixed == "" {
		d.say("Measured with other settings than the bars are for: %s.", noHTML(wrong))
	}
	if len(s.judged) > 0 {
		d.bars(s.judged)
	}
	if s.m.mixed == "" {
		d.figures(s)
	}
	d.fold("How it was run", shell(s.m))
}

func (s section) heading() string {
	if s.title == "" {
		return "Row " + code(s.name)
	}
	return s.title
}

func (d *document) bars(all []judged) {
	head := []string{"", "measured", "bar", "verdict"}
	if d.quick {
		head = head[:3]
	}
	var lines [][]string
	for _, j := range all {
		measured := "not measured"
		if j.n > 0 {
			measured = j.measured()
		}
		lines = append(lines, []string{j.said(), measured, j.bound(), j.verdictText()}[:len(head)])
	}
	d.table(head, lines)
}

func (j judged) verdictText() string {
	switch j.verdict {
	case barMet:
		return "✓ met"
	case barMissed:
		return "✗ **not met**"
	case unmeasured:
		return ""
	}
	return "no verdict: " + j.why
}

// shown are the figures of a row's table, as far as there are any.
var shown = []string{cpuPerMillion, cpuPerConn, rssPerConn, "anon_per_conn", "deliveries_per_s", "answers_per_s", "conns_per_s", "p50_us", p99Latency, "p999_us",
	"join_p50_us", "join_p99_us", "echo_alone_p99_us", "echo_p99_us", "before_p99_us", "p99_by_before", "before_rss_bytes", "rss_peak_bytes", "frozen_closed",
	"rss_bytes", "per_read", "server_busy", "client_busy", "send_lag_max_us", refusedShare}

// rare figures are left out where they are 0 for all.
var rare = []string{"send_lag_max_us", refusedShare, "frozen_closed"}

// figures writes a table with a column for each server. Ratios follow what they are of.
func (d *document) figures(s section) {
	servers := s.m.servers()
	head := []string{""}
	rounds := []string{"good rounds"}
	for _, name := range servers {
		head = append(head, name)
		rounds = append(rounds, fmt.Sprint(len(s.m.good(name))))
	}
	lines := [][]string{rounds}
	if wires := s.m.wires(servers); len(slices.Compact(slices.Sorted(slices.Values(wires)))) > 1 && !strings.HasSuffix(servers[0], "/"+wires[0]) {
		lines = append(lines, append([]string{"wire"}, wires...))
	}
	for _, figure := range shown {
		line, found := []string{label(figure)}, false
		for _, name := range servers {
			v, ok := s.m.of(name, figure)
			found = found || ok && (v.highest != 0 || !slices.Contains(rare, figure))
			line = append(line, cell(v, func(x float64) string { return figureText(figure, x) }))
		}
		if !found {
			continue
		}
		lines = append(lines, line)
		if figure == cpuPerMillion || figure == cpuPerConn || figure == p99Latency {
			lines = append(lines, s.ratios(figure, servers)...)
		}
	}
	d.table(head, lines)
}

// wires are those that the clients of servers speak.
func (m *measured) wires(servers []string) (names []string) {
	for _, server := range servers {
		i := slices.IndexFunc(m.runs, func(res *result) bool { return res.Server == server })
		names = append(names, m.runs[i].Wire)
	}
	return names
}

func cell(v spread, write func(float64) string) string {
	if v.n == 0 {
		return ""
	}
	return v.full(write)
}

// ratios are the lines of a figure's ratios, one for each base.
func (s section) ratios(figure string, servers []string) (lines [][]string) {
	for _, base := range s.bases(servers) {
		line := []string{"÷ " + base}
		full, _ := s.m.find(base)
		for _, name := range servers {
			if name == full {
				line = append(line, "1")
				continue
			}
			line = append(line, cell(spreadOf(s.m.values(name, base, figure)), ratioText))
		}
		lines = append(lines, line)
	}
	return lines
}

// bases are those of the row's bars, or else what the load generator was told, if they took part.
func (s section) bases(servers []string) (names []string) {
	for _, b := range s.bars {
		if _, ok := s.m.find(b.base); ok && !slices.Contains(names, b.base) {
			names = append(names, b.base)
		}
	}
	if base := s.m.setting("base"); len(names) == 0 && len(servers) > 1 && slices.Contains(servers, base) {
		names = append(names, base)
	}
	return names
}

// load and growth write the curves.
func (d *document) load() {
	points := d.curves[loadCurve.prefix]
	if len(points) == 0 {
		return
	}
	d.title("Latency over offered load")
	d.chart(loadCurve, points, "p99 in ms", p99Latency, 1e-3)
	d.say("Open loop: messages are due at a fixed rate, however slow the server is. Where the generator itself was late or busy, latencies hold its queue too.")
	d.curve(loadCurve, points, "deliveries_per_s", "p50_us", p99Latency, "p999_us", cpuPerMillion, "server_busy", refusedShare, "client_busy", "send_lag_max_us")
}

func (d *document) growth() {
	first := true
	for _, c := range growthCurves {
		points := d.curves[c.prefix]
		if len(points) == 0 {
			continue
		}
		if first {
			first = false
			d.title("What a delivery costs as things grow")
		}
		d.say("### %s", c.title)
		d.chart(c, points, label(cpuPerMillion), cpuPerMillion, 1)
		d.curve(c, points, cpuPerMillion, "deliveries_per_s", "p50_us", p99Latency, "server_busy", "client_busy", refusedShare)
	}
}

// chart draws the medians of a figure, a line for each server that has it everywhere, in Mermaid, which GitHub and editors show as a
// picture. What was measured stands at equal distances, whatever lies between. The table behind it has the numbers.
func (d *document) chart(c curve, points []point, unit, figure string, by float64) {
	if len(points) < 2 {
		return
	}
	at := make([]string, len(points))
	for i, p := range points {
		at[i] = `"` + thousands(p.x) + `"`
	}
	var names, lines []string
	for _, server := range points[0].m.servers() {
		var values []string
		for _, p := range points {
			if v, ok := p.m.of(server, figure); ok {
				values = append(values, number(v.median*by))
			}
		}
		if len(values) == len(points) {
			names = append(names, strings.Map(titled, server))
			lines = append(lines, "    line ["+strings.Join(values, ", ")+"]\n")
		}
	}
	if lines != nil {
		d.say("```mermaid\nxychart-beta\n    title \"%s: %s\"\n    x-axis \"%s\" [%s]\n    y-axis \"%s\"\n%s```", unit, strings.Join(names, ", "), c.axis, strings.Join(at, ", "), unit, strings.Join(lines, ""))
	}
}

// titled keeps what may stand in a title.
func titled(r rune) rune {
	if r == '"' || r == '`' || r < ' ' {
		return '_'
	}
	return r
}

// curve writes a table with a line for each point and server.
func (d *document) curve(c curve, points []point, figures ...string) {
	head := []string{c.axis, "server", "rounds"}
	for _, f := range figures {
		head = append(head, label(f))
	}
	var lines [][]string
	var all []*measured
	for _, p := range points {
		all = append(all, p.m)
		if p.m.mixed != "" {
			lines = append(lines, []string{thousands(p.x), "runs of several kinds: " + noHTML(p.m.mixed)})
			continue
		}
		for _, server := range p.m.servers() {
			line := []string{thousands(p.x), server, fmt.Sprint(len(p.m.good(server)))}
			lines = append(lines, append(line, p.m.cells(server, figures)...))
		}
	}
	d.table(head, lines)
	d.fold("How it was run", shell(all...))
}

// cells are figures of a server. A line as wide as that has no place for ranges but of the two that matter most.
func (m *measured) cells(server string, figures []string) (line []string) {
	for _, f := range figures {
		v, _ := m.of(server, f)
		if f != cpuPerMillion && f != p99Latency {
			v.lowest, v.highest = v.median, v.median
		}
		line = append(line, cell(v, func(x float64) string { return figureText(f, x) }))
	}
	return line
}

// void lists what counts for nothing, with the reason.
func (d *document) void() {
	d.title("Void runs")
	var lines [][]string
	for _, m := range d.all {
		for _, res := range m.void() {
			lines = append(lines, []string{code(m.row), res.Server, fmt.Sprint(res.Round), res.Faults.said()})
		}
	}
	if len(lines) == 0 {
		d.say("None: no message was lost, repeated or out of order, and no connection ended.")
		return
	}
	d.say("They count for nothing above. A server that loses messages has done less work than one that does not.")
	d.table([]string{"row", "server", "round", "faults"}, lines)
}

// said tells the faults in words.
func (f *faults) said() string {
	var words []string
	for _, x := range []struct {
		what string
		n    int64
	}{{"lost", f.Lost}, {"out of order", f.Disordered}, {"twice", f.Duplicated}, {"strange", f.Strange}, {"connections ended", f.Closed}} {
		if x.n > 0 {
			words = append(words, thousands(float64(x.n))+" "+x.what)
		}
	}
	for _, r := range f.Reasons {
		words = append(words, code(r))
	}
	return strings.Join(words, "; ")
}

// shell are the calls of the load generator that made the runs, to be made again.
func shell(rows ...*measured) string {
	var calls []string
	for _, m := range rows {
		for _, res := range m.runs {
			if !slices.Contains(calls, res.Command) {
				calls = append(calls, res.Command)
			}
		}
	}
	return "```sh\n" + strings.Join(calls, "\n") + "\n```"
}
