//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what TestReportOfASmallInput expects anew")

// made is a run that nobody measured.
func made(server string, round int, fs ...figure) *result {
	return &result{Row: "r", Scenario: "broadcast", Server: server, Round: round, Figures: fs, Settings: map[string]string{}}
}

// rowOf is a row of such runs.
func rowOf(runs ...*result) *measured {
	m := &measured{row: "r"}
	for _, res := range runs {
		m.add(res)
	}
	m.mixed = mixture(m.runs)
	return m
}

// parsed reads lines.
func parsed(t *testing.T, lines ...string) []*measured {
	t.Helper()
	rows, err := readLines(strings.NewReader(strings.Join(lines, "\n")), nil, map[string]*measured{})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func line(row, server string, round int, void bool, cpu float64, settings string) string {
	return fmt.Sprintf(`{"row":%q,"scenario":"broadcast","server":%q,"round":%d,"void":%v,"figures":{"cpu_s_per_million":%v},"settings":{%s}}`, row, server, round, void, cpu, settings)
}

func TestReadMakesMediansOfRunsAndNotOfSummaries(t *testing.T) {
	rows := parsed(t, line("a", "x", 1, false, 3, ""), line("a", "x", 2, false, 1, ""), line("a", "x", 3, false, 2, ""),
		`{"row":"a","scenario":"broadcast","server":"x","rounds":3,"medians":{"cpu_s_per_million":99}}`, "", line("", "x", 1, false, 7, ""))
	if len(rows) != 2 || rows[0].row != "a" || rows[1].row != "broadcast" {
		t.Fatalf("rows: %+v", rows)
	}
	if got, ok := rows[0].of("x", cpuPerMillion); !ok || got != (spread{3, 2, 1, 3}) {
		t.Errorf("%+v", got)
	}
}

func TestReadRefusesWhatIsNoLine(t *testing.T) {
	for text, want := range map[string]string{
		"{\"row\":": "line 1",
		line("a", "x", 1, false, 1, "") + "\n{}\n":                                             "line 2",
		`{"scenario":"broadcast","server":"x","figures":{"a":1}}`:                              "round",
		`{"scenario":"broadcast","server":"x","round":1,"figures":[1]}`:                        "figures",
		`{"scenario":"broadcast","server":"x","round":1,"figures":{"cpu_s_per_million":"1s"}}`: "figure",
	} {
		if _, err := readLines(strings.NewReader(text), nil, map[string]*measured{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, not %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "a.jsonl")
	os.WriteFile(path, []byte(line("a", "x", 1, false, 1, "")), 0o644)
	if _, err := readFiles([]string{path, filepath.Dir(path) + "/./a.jsonl"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a file named twice gives %v", err)
	}
}

// The second call's rounds are others than the first's, though they have the same numbers: with and without a summary between
// them, and whoever took part.
func TestRatiosDoNotCrossCalls(t *testing.T) {
	first := []string{line("a", "x", 1, false, 10, ""), line("a", "y", 1, false, 5, ""), line("a", "x", 2, false, 10, "")} // interrupted
	second := []string{line("a", "x", 1, false, 90, ""), line("a", "y", 1, false, 30, "")}
	m := parsed(t, append(first, second...)...)[0]
	if got := m.values("x", "y", cpuPerMillion); fmt.Sprint(got) != "[2 3]" {
		t.Errorf("ratios %v", got)
	}
	if got := m.values("x", "", cpuPerMillion); fmt.Sprint(got) != "[10 10 90]" {
		t.Errorf("values %v", got)
	}
	// One round each, of different servers: they did not take turns.
	m = parsed(t, line("a", "x", 1, false, 10, `"server x":"[x]"`), line("a", "y", 1, false, 5, `"server y":"[y]"`))[0]
	if got := m.values("x", "y", cpuPerMillion); len(got) != 0 {
		t.Errorf("a ratio of runs of different calls: %v", got)
	}
}

func TestVoidRunsDoNotCount(t *testing.T) {
	m := parsed(t, line("a", "x", 1, false, 10, ""), line("a", "y", 1, true, 1, ""), line("a", "x", 2, true, 99, ""), line("a", "y", 2, false, 5, ""),
		line("a", "x", 3, false, 20, ""), line("a", "y", 3, false, 5, ""))[0]
	if got, _ := m.of("x", cpuPerMillion); got != (spread{2, 15, 10, 20}) {
		t.Errorf("%+v", got)
	}
	if got := m.values("x", "y", cpuPerMillion); fmt.Sprint(got) != "[4]" {
		t.Errorf("ratios %v: only in round 3 both are good", got)
	}
	if len(m.void()) != 2 {
		t.Errorf("%d void runs", len(m.void()))
	}
}

func TestRunsOfSeveralKindsAreNotPutTogether(t *testing.T) {
	m := parsed(t, line("a", "x", 1, false, 1, `"members":"10","out":"a"`), line("a", "x", 1, false, 1, `"members":"20","out":"b"`))[0]
	if m.mixed != "-members 10 and 20" {
		t.Errorf("mixed is %q", m.mixed)
	}
	if got := m.values("x", "", cpuPerMillion); got != nil {
		t.Errorf("values %v", got)
	}
	j := row{bars: []bar{{"x", cpuPerMillion, "", atMost, 5}}}.judge(m, false)[0]
	if j.verdict != noVerdict || !strings.Contains(j.why, "several kinds") {
		t.Errorf("%+v", j)
	}
}

func TestAServerIsFoundWithoutItsWire(t *testing.T) {
	m := rowOf(made("pomelod", 1), made("nano/ws", 1), made("gws/a", 1), made("gws/b", 1))
	for name, want := range map[string]string{"pomelod": "pomelod", "nano": "nano/ws", "nano/ws": "nano/ws", "gws": "", "gws/b": "gws/b", "nan": ""} {
		if got, ok := m.find(name); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v", name, got, ok)
		}
	}
}

// five rounds in which x is v and y is by.
func five(v, by float64) *measured {
	var runs []*result
	for round := 1; round <= 5; round++ {
		runs = append(runs, made("x", round, figure{"f", v}), made("y", round, figure{"f", by}))
	}
	return rowOf(runs...)
}

func TestVerdictAtTheLimit(t *testing.T) {
	for _, c := range []struct {
		name  string
		m     *measured
		bar   bar
		quick bool
		want  verdict
		why   string
	}{
		{"on it", five(5, 4), bar{"x", "f", "y", atMost, 1.25}, false, barMet, ""},
		{"a little above", five(5.0001, 4), bar{"x", "f", "y", atMost, 1.25}, false, barMissed, ""},
		{"a ratio that is not exact", five(4.41, 4.2), bar{"x", "f", "y", atMost, 1.05}, false, barMet, ""},
		{"at least, on it", five(60, 4), bar{"x", "f", "y", atLeast, 15}, false, barMet, ""},
		{"at least, a little below", five(59.99, 4), bar{"x", "f", "y", atLeast, 15}, false, barMissed, ""},
		{"without a base", five(614, 4), bar{"x", "f", "", atMost, 614}, false, barMet, ""},
		{"without a base, above", five(614.1, 4), bar{"x", "f", "", atMost, 614}, false, barMissed, ""},
		{"quick", five(5, 4), bar{"x", "f", "y", atMost, 1.25}, true, noVerdict, "quick"},
		{"nobody of that name", five(5, 4), bar{"z", "f", "y", atMost, 1.25}, false, unmeasured, ""},
		{"no base of that name", five(5, 4), bar{"x", "f", "z", atMost, 1.25}, false, unmeasured, ""},
		{"no such figure", five(5, 4), bar{"x", "g", "y", atMost, 1.25}, false, unmeasured, ""},
		{"a base of nothing", five(5, 0), bar{"x", "f", "y", atMost, 1.25}, false, unmeasured, ""},
	} {
		j := row{bars: []bar{c.bar}}.judge(c.m, c.quick)[0]
		if j.verdict != c.want || !strings.Contains(j.why, c.why) {
			t.Errorf("%s: verdict %d %q of %v, want %d %q", c.name, j.verdict, j.why, j.median, c.want, c.why)
		}
	}
}

func TestVerdictNeedsFiveGoodRoundsOfTheLoadItIsFor(t *testing.T) {
	b := row{bars: []bar{{"x", "f", "y", atMost, 1.25}}, with: "members=1000"}
	for _, void := range []int{-1, 3} {
		m := five(4, 4)
		for _, res := range m.runs {
			res.Settings["members"] = "1000"
			res.Void = res.Server == "y" && res.Round == void
		}
		if j := b.judge(m, false)[0]; (j.verdict == barMet) != (void < 0) || void > 0 && j.why != "only 4 good rounds" {
			t.Errorf("void round %d of the base: %+v", void, j)
		}
	}
	m := five(4, 4)
	for _, res := range m.runs {
		res.Settings["members"] = "100"
	}
	if j := b.judge(m, false)[0]; j.verdict != noVerdict || b.unlike(m) != "-members 100 instead of 1000" {
		t.Errorf("%+v, %q", j, b.unlike(m))
	}
}

func TestDerivedFigures(t *testing.T) {
	m := rowOf(made("x", 1, figure{"echo_p99_us", 900}, figure{"echo_alone_p99_us", 200}, figure{"rss_peak_bytes", 33 << 20}, figure{"before_rss_bytes", 20 << 20},
		figure{"frozen", 20}, figure{"messages", 200}, figure{"refused", 50}))
	for name, want := range map[string]float64{echoMore: 700, peakByOwed: 1.1, refusedShare: 0.25} {
		if got, ok := m.of("x", name); !ok || got.median != want {
			t.Errorf("%s is %v, not %v", name, got.median, want)
		}
	}
}

func TestBarsAreSane(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range barRows {
		if seen[w.name] || w.title == "" || len(w.bars) == 0 {
			t.Errorf("%+v", w)
		}
		seen[w.name] = true
		for _, b := range w.bars {
			if b.limit <= 0 || labels[b.figure] == "" || b.server == b.base {
				t.Errorf("%s: %+v", w.name, b)
			}
			if shown := b.bound(); b.base != "" && !strings.HasSuffix(shown, " "+strings.TrimSuffix(fmt.Sprintf("%.2f", b.limit), ".00")) && !strings.HasSuffix(shown, fmt.Sprintf("%.2f", b.limit)) {
				t.Errorf("%s: the limit %v is written %s", w.name, b.limit, shown)
			}
		}
	}
}

func TestNumbersInWords(t *testing.T) {
	b := bar{figure: cpuPerMillion, base: "floor", limit: 1.05}
	for want, got := range map[string]string{
		"1.05": b.value(1.05), "1.0503": b.value(1.0503), "1.04": b.value(1.0449), "22.1": b.value(22.12),
		"14.5 ms": timeText(14512), "999 µs": timeText(999.2), "1.00 ms": timeText(999.6), "1.20 s": timeText(1.2e6),
		"1,361,000": thousands(1361000), "-500": thousands(-500), "0.042": significant(0.042), "0": significant(0),
		"< 0.1%": percent(0.0001), "4.0%": percent(0.04), "0%": percent(0), "100%": percent(1),
		"614 B": figureText(rssPerConn, 614), "5.7–6.8": between(func(v float64) string { return fmt.Sprint(v) }, spread{5, 6, 5.7, 6.8}),
		"2.50–3.10": between(timeText, spread{5, 3000, 2500, 3100}), "900 µs–3.10 ms": between(timeText, spread{5, 3000, 900, 3100}),
		"614 B (exactly 614.2)": bar{figure: rssPerConn, limit: 614}.value(614.2),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheCallThatARunWasOf(t *testing.T) {
	o, err := parse("echo", scenarios["echo"].make(), []string{"-server", "x=bin/x -tick", "-server-args", "", "-row", "it's"})
	if want := `bench echo -server 'x=bin/x -tick' -server-args '' -row 'it'\''s'`; err != nil || o.command != want {
		t.Errorf("%v, %s\nwant %s", err, o.command, want)
	}
}

// What is in testdata is what readers get: look at it before writing it anew with -update.
func TestReportOfASmallInput(t *testing.T) {
	dir := t.TempDir()
	if code, err := bench([]string{"report", "-o", dir, "-config", "testdata/report/config.json", "testdata/report/in.jsonl"}); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	for _, name := range []string{"report.md"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata/report", name)
		if *update {
			os.WriteFile(golden, got, 0o644)
		}
		if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is in testdata (%v); if it should be, go test -run SmallInput -update", name, err)
		}
	}
}

func TestReportSaysWhatMustNotBeHidden(t *testing.T) {
	rows, err := readFiles([]string{"testdata/report/in.jsonl"})
	if err != nil {
		t.Fatal(err)
	}
	text := string(sorted(rows, false).markdown(""))
	for _, want := range []string{
		"1 of them [void]", "| `broadcast-w1` | pomelod | 4 | 3 lost; `conn 7: closed \\| by 'peer'` |", "only 3 good rounds", "Not measured: broadcast-w16, ", "curve-rooms-…",
		"✗ **not met**", "- Requests to the gate on 200 connections: CPU-s/M ÷ floor is 1.25, and should be ≤ 1.20", "within the 3.5 to 6", "bench echo -row echo",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	text = string(sorted(rows, true).markdown(""))
	if strings.Contains(text, "✓ met") || strings.Contains(text, "not met**") || !strings.Contains(text, "A quick look") {
		t.Error("a quick look gives verdicts")
	}
	for _, res := range rows[0].runs {
		for i := range res.Figures {
			res.Figures[i].value *= 2
		}
	}
	if text = string(sorted(rows, false).markdown("")); !strings.Contains(text, "[!WARNING]\n> The floor itself cost 8") {
		t.Error("nothing is said of a floor that costs twice what it should")
	}
	if text = string(sorted(rows[1:], false).markdown("")); !strings.Contains(text, "not measured, so nothing shows") {
		t.Error("nothing is said of a floor that was not measured")
	}
}

func TestRowsAndCurvesHaveAnOrder(t *testing.T) {
	f := sorted(parsed(t, line("other", "x", 1, false, 1, ""), line("curve-members-1000", "x", 1, false, 1, ""), line("curve-members-50", "x", 1, false, 1, ""),
		line("curve-members-many", "x", 1, false, 1, ""), line("echo", "x", 1, false, 1, ""), line("broadcast-w1", "x", 1, false, 1, "")), false)
	var names []string
	for _, s := range f.sections {
		names = append(names, s.name)
	}
	if got := strings.Join(names, " "); got != "broadcast-w1 echo other curve-members-many" {
		t.Errorf("sections %s", got)
	}
	if p := f.curves["curve-members-"]; len(p) != 2 || p[0].x != 50 || p[1].x != 1000 {
		t.Errorf("curve %+v", p)
	}
}

// A chart is drawn of servers that have the figure everywhere, and has nothing that Mermaid could not read, whatever is in the results.
func TestCharts(t *testing.T) {
	at := func(x float64, servers ...string) point {
		var runs []*result
		for i, server := range servers {
			runs = append(runs, made(server, 1, figure{cpuPerMillion, x * float64(i+1)}))
		}
		return point{x, rowOf(runs...)}
	}
	for _, c := range []struct {
		points []point
		want   string
	}{
		{nil, ""},
		{[]point{at(1, "x")}, ""},
		{[]point{at(1, "x"), at(2, "y")}, ""},
		{[]point{at(1, "x", "y\"`"), at(1000, "x", "y\"`")}, "title \"u: x, y__\"\n    x-axis \"rooms\" [\"1\", \"1,000\"]\n    y-axis \"u\"\n    line [1, 1000]\n    line [2, 2000]\n"},
		{[]point{at(1, "x", "y"), at(2, "x")}, "title \"u: x\"\n    x-axis \"rooms\" [\"1\", \"2\"]\n    y-axis \"u\"\n    line [1, 2]\n"},
	} {
		d := &document{}
		d.chart(growthCurves[1], c.points, "u", cpuPerMillion, 1)
		if got := d.String(); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

func TestSubcommandsExit(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644)
		return path
	}
	good := file("good", line("a", "base", 1, false, 1, ""), line("a", "head", 1, false, 1, ""))
	empty := file("empty")
	text := file("text", "hello")
	for _, c := range []struct {
		args []string
		want int
		err  string
	}{
		{[]string{"report", "-o", dir + "/a", good}, 0, ""},
		{[]string{"report", "-h"}, 0, ""},
		{[]string{"report"}, 0, "at least one file"},
		{[]string{"report", "-o", dir + "/b", empty}, 0, "no run"},
		{[]string{"report", "-o", dir + "/b", text}, 0, "text: line 1"},
		{[]string{"report", "-o", dir + "/b", dir + "/none"}, 0, "none"},
		{[]string{"report", "-o", dir + "/b", "-config", dir + "/none", good}, 0, "-print-config"},
		{[]string{"report", "-o", dir + "/b", "-config", text, good}, 0, "-print-config"},
		{[]string{"compare", good}, exitWrong, ""},
		{[]string{"compare", good, "-base", "a"}, 0, "flags come first"},
		{[]string{"compare", "-row", "b", good}, 0, `no row "b"; there are a`},
		{[]string{"compare", "-base", "c", good}, 0, "nothing to compare"},
		{[]string{"compare", "-least", "much", good}, 0, "percentage"},
		{[]string{"nothing"}, 0, "no scenario"},
	} {
		code, err := bench(c.args)
		if code != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %d, %v; want %d, %q", c.args, code, err, c.want, c.err)
		}
	}
	if _, err := os.Stat(dir + "/b"); err == nil {
		t.Error("what cannot be read leaves something behind")
	}
}
