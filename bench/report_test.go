//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// made is a run that nobody measured.
func made(server string, round int, fs figures) *result {
	return &result{Row: "r", Scenario: "broadcast", Server: server, Round: round, Figures: fs, Settings: map[string]string{}}
}

// rowOf is a row of such runs.
func rowOf(runs ...*result) *measured { return &measured{row: "r", runs: runs, mixed: mixture(runs)} }

// parsed reads lines.
func parsed(t *testing.T, lines ...string) []*measured {
	t.Helper()
	rows, err := readLines(strings.NewReader(strings.Join(lines, "\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func line(row, server string, round int, void bool, cpu float64, settings string) string {
	return lineOf("a", row, server, round, void, cpu, settings)
}

func lineOf(call, row, server string, round int, void bool, cpu float64, settings string) string {
	return fmt.Sprintf(`{"row":%q,"scenario":"broadcast","server":%q,"call":%q,"round":%d,"void":%v,"figures":{"cpu_s_per_million":%v},"settings":{%s}}`, row, server, call, round, void, cpu, settings)
}

func TestReadMakesMedians(t *testing.T) {
	rows := parsed(t, line("a", "x", 1, false, 3, ""), line("a", "x", 2, false, 1, ""), line("a", "x", 3, false, 2, ""), "", line("", "x", 1, false, 7, ""))
	if len(rows) != 2 || rows[0].row != "a" || rows[1].row != "broadcast" {
		t.Fatalf("rows: %+v", rows)
	}
	if got := spreadOf(rows[0].values("x", "", cpuPerMillion)); got != (spread{3, 2, 1, 3}) {
		t.Errorf("%+v", got)
	}
	if got := spreadOf([]float64{4, 1, 3, 2}).median; got != 2.5 {
		t.Error(got)
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
		if _, err := readLines(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, not %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "a.jsonl")
	os.WriteFile(path, []byte(line("a", "x", 1, false, 1, "")), 0o644)
	if _, err := readFiles([]string{path, filepath.Dir(path) + "/./a.jsonl"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a file named twice gives %v", err)
	}
}

// The second call's rounds are others than the first's, though they have the same numbers.
func TestRatiosDoNotCrossCalls(t *testing.T) {
	m := parsed(t, lineOf("1", "a", "x", 1, false, 10, ""), lineOf("1", "a", "y", 1, false, 5, ""), lineOf("1", "a", "x", 2, false, 10, ""), // interrupted
		lineOf("2", "a", "x", 1, false, 90, ""), lineOf("2", "a", "y", 1, false, 30, ""), lineOf("3", "a", "y", 2, false, 1, ""))[0]
	if got := m.values("x", "y", cpuPerMillion); fmt.Sprint(got) != "[2 3]" {
		t.Errorf("ratios %v", got)
	}
	if got := m.values("x", "", cpuPerMillion); fmt.Sprint(got) != "[10 10 90]" {
		t.Errorf("values %v", got)
	}
}

func TestVoidRunsDoNotCount(t *testing.T) {
	m := parsed(t, line("a", "x", 1, false, 10, ""), line("a", "y", 1, true, 1, ""), line("a", "x", 2, true, 99, ""), line("a", "y", 2, false, 5, ""),
		line("a", "x", 3, false, 20, ""), line("a", "y", 3, false, 5, ""))[0]
	if got := spreadOf(m.values("x", "", cpuPerMillion)); got != (spread{2, 15, 10, 20}) {
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
	if _, said := (bar{"a", "x", cpuPerMillion, "", atMost, 5}).judge(m); !strings.Contains(said, "several kinds") {
		t.Error(said)
	}
}

func TestAServerIsFoundWithoutItsWire(t *testing.T) {
	m := rowOf(made("pomelod", 1, nil), made("nano/ws", 1, nil), made("gws/a", 1, nil), made("gws/b", 1, nil))
	for name, want := range map[string]string{"pomelod": "pomelod", "nano": "nano/ws", "nano/ws": "nano/ws", "gws": "", "gws/b": "gws/b", "nan": ""} {
		if got, ok := m.find(name); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v", name, got, ok)
		}
	}
}

// A bar is met at its limit, and judged by five good rounds at least.
func TestVerdicts(t *testing.T) {
	rounds := func(n int, x, y float64) *measured {
		var runs []*result
		for i := range n {
			runs = append(runs, made("x", i+1, figures{"f": x}), made("y", i+1, figures{"f": y}))
		}
		return rowOf(runs...)
	}
	for _, c := range []struct {
		bar
		m    *measured
		want string
	}{
		{bar{"r", "x", "f", "", atMost, 5}, rounds(5, 5, 1), "met"},
		{bar{"r", "x", "f", "", atMost, 5}, rounds(5, 5.01, 1), "**not met**"},
		{bar{"r", "x", "f", "y", atLeast, 2}, rounds(5, 6, 3), "met"},
		{bar{"r", "x", "f", "y", atLeast, 2}, rounds(5, 5.9, 3), "**not met**"},
		{bar{"r", "x", "f", "y", atMost, 2}, rounds(4, 6, 3), "no verdict: too few rounds"},
		{bar{"r", "x", "f", "z", atMost, 2}, rounds(5, 6, 3), "not measured"},
		{bar{"r", "x", "g", "", atMost, 2}, rounds(5, 6, 3), "not measured"},
	} {
		if _, got := c.judge(c.m); got != c.want {
			t.Errorf("%+v: %s, want %s", c.bar, got, c.want)
		}
	}
}

// What the report says: ranges, ratios within rounds, bars, and what is void, with the reason.
func TestTables(t *testing.T) {
	var runs []*result
	for round := 1; round <= 5; round++ {
		floor := float64(round)
		runs = append(runs, made("pomelod", round, figures{cpuPerMillion: floor * 1.02, p99Latency: 7}), made("floor", round, figures{cpuPerMillion: floor}))
	}
	lost := made("floor", 6, figures{cpuPerMillion: 1})
	lost.Void, lost.Faults.Lost = true, 3
	m := rowOf(append(runs, lost)...)
	m.row = "broadcast-w1"
	for _, res := range m.runs {
		res.Settings["base"] = "floor"
	}
	var b bytes.Buffer
	barTable(&b, []*measured{m})
	m.table(&b)
	for _, want := range []string{
		"| broadcast-w1 | pomelod: cpu_s_per_million ÷ floor | 1.02 | ≤ 1.05 | met |",
		"| broadcast-w1 | pomelod: p99_us ÷ floor |  | ≤ 1.15 | not measured |",
		"| figure | pomelod, 5 rounds | floor, 5 rounds |",
		"| cpu_s_per_million | 3.06 (1.02–5.1) ÷1.02 | 3 (1–5) |",
		"| p99_us | 7 |  |",
		"Void, and not counted: floor, round 6: 3 lost",
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// A run that names no row is held against the bars of the rows that it is like, as far as it has measured what they are about; one that names another row against none.
func TestBarsOfRunsWithoutARow(t *testing.T) {
	runs := func(row, scenario, settings string) (lines []string) {
		for round := range 5 {
			for _, server := range []string{"pomelod", "floor"} {
				lines = append(lines, fmt.Sprintf(`{"row":%q,"scenario":%q,"server":%q,"call":"a","round":%d,"figures":{"cpu_s_per_million":1,"rss_per_conn":600},"settings":{"base":"floor",%s}}`,
					row, scenario, server, round+1, settings))
			}
		}
		return lines
	}
	for _, tc := range []struct{ row, scenario, settings, want string }{
		{"", "echo", `"inflight":"1"`, "echo"},
		{"", "broadcast", `"inflight":"1","rooms":"1","wire":"tcp"`, "broadcast-w1"},
		{"", "broadcast", `"inflight":"16","rooms":"1","wire":"ws"`, ""}, // its bars are by floor-tick
		{"", "broadcast", `"inflight":"1","rooms":"200","members":"200","wire":"tcp"`, "room-of-one"},
		{"", "broadcast", `"inflight":"1","rooms":"7","members":"200","wire":"tcp"`, ""},
		{"", "rooms", `"room-size":"20"`, "rooms-20"},
		{"", "idle", `"room-size":"1"`, "idle-1"},
		{"mine", "broadcast", `"inflight":"1","rooms":"1","wire":"tcp"`, ""},
		{"broadcast-w1", "broadcast", `"inflight":"7"`, "broadcast-w1 broadcast-w1"}, // what it has not measured is said, too
	} {
		var b bytes.Buffer
		barTable(&b, parsed(t, runs(tc.row, tc.scenario, tc.settings)...))
		var rows []string
		for _, line := range strings.Split(b.String(), "\n") {
			if cells := strings.Split(line, " | "); len(cells) == 5 && !strings.HasPrefix(line, "| row |") && !strings.HasPrefix(line, "| ---") {
				rows = append(rows, strings.TrimPrefix(cells[0], "| "))
			}
		}
		if got := strings.Join(rows, " "); got != tc.want {
			t.Errorf("%s %s: bars of %q, want %q\n%s", tc.row, tc.scenario+" "+tc.settings, got, tc.want, &b)
		}
	}
	for _, b := range bars {
		if likes[b.row] == "" {
			t.Errorf("nobody knows what runs of %s are like", b.row)
		}
	}
	var o options
	r := &report{scenario: "echo", options: &o, results: parsed(t, runs("", "echo", `"inflight":"1"`)...)[0].runs}
	if m := r.measured(); m.row != "echo" {
		t.Errorf("what is told at the end is of row %q", m.row)
	}
}

func TestReadersExit(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644)
		return path
	}
	good := file("good", line("a", "base", 1, false, 1, ""), line("a", "head", 1, false, 1, ""))
	for _, c := range []struct {
		args []string
		want int
		err  string
	}{
		{[]string{"report", good}, 0, ""},
		{[]string{"report"}, 0, "at least one file"},
		{[]string{"report", file("empty")}, 0, "no run"},
		{[]string{"report", file("text", "hello")}, 0, "text: line 1"},
		{[]string{"report", dir + "/none"}, 0, "none"},
		{[]string{"compare", good}, exitWrong, ""},
		{[]string{"compare", file("other", line("a", "x", 1, false, 1, ""))}, 0, "nothing to compare"},
		{[]string{"nothing"}, 0, "no scenario"},
	} {
		code, err := bench(c.args)
		if code != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %d, %v; want %d, %q", c.args, code, err, c.want, c.err)
		}
	}
}
