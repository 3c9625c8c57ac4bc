//go:build linux

package server

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What is there in English and in Chinese says the same in both.
func TestDocumentsInChineseAreEqual(t *testing.T) {
	for _, name := range []string{"README", "docs/MIGRATING"} {
		equalShapes(t, name+".md", name+".zh-CN.md")
	}
}

// equalShapes fails unless two documents have the same headings, table rows, list items and lines of code one after the other, of code the same first word, and name the same flags and
// link to the same places as often.
func equalShapes(t *testing.T, first, second string) {
	t.Helper()
	shape := func(name string) (lines []string, named map[string]int) {
		text := readFile(t, "../"+name)
		named = make(map[string]int)
		fenced := false
		for line := range strings.Lines(text) {
			kind := regexp.MustCompile(`^(#+ |\| |  \| |- |    |` + "```.*" + `)`).FindString(line)
			switch {
			case strings.HasPrefix(kind, "```"):
				fenced = !fenced
			case fenced:
				kind = strings.TrimSpace(line)
			case kind == "    ":
				kind += strings.Fields(line + " .")[0]
			}
			if kind != "" {
				lines = append(lines, kind)
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([a-zA-Z][^)]*)\)`).FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(link[1], "README") && !strings.HasPrefix(link[1], "MIGRATING") { // of each other
				named[link[1]]++
			}
		}
		for _, flag := range regexp.MustCompile("`-[a-z][a-z0-9-]+").FindAllString(text, -1) {
			named[flag]++
		}
		return lines, named
	}
	english, named := shape(first)
	chinese, alsoNamed := shape(second)
	for i := range max(len(english), len(chinese)) {
		if i >= len(english) || i >= len(chinese) || english[i] != chinese[i] {
			t.Errorf("from line %d of those that are no text on %s and %s differ:\n%q\n%q", i+1, first, second, english[min(i, len(english)):], chinese[min(i, len(chinese)):])
			break
		}
	}
	for what, n := range named {
		if alsoNamed[what] != n {
			t.Errorf("%q is %d times in %s and %d times in %s", what, n, first, alsoNamed[what], second)
		}
	}
	for what, n := range alsoNamed {
		if named[what] == 0 {
			t.Errorf("%q is %d times in %s only", what, n, second)
		}
	}
}

// The table of contents of OPERATIONS.md has every section, in order.
func TestOperationsContents(t *testing.T) {
	text := readFile(t, "../docs/OPERATIONS.md")
	var titles, listed []string
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1) {
		titles = append(titles, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^- \[(.*)\]\(#.*\)$`).FindAllStringSubmatch(text, -1) {
		listed = append(listed, m[1])
	}
	if got, want := strings.Join(listed, "\n"), strings.Join(titles, "\n"); got != want {
		t.Errorf("listed\n%s\nthere are\n%s", got, want)
	}
}

// make alone lists what a newcomer may call.
func TestMakeListsTargets(t *testing.T) {
	out, err := exec.Command("make", "-C", "..", "--no-print-directory").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"build", "run", "test", "test-go", "check", "bench", "bench-peers", "bench-compare", "bench-report"} {
		if !strings.Contains(string(out), "\n  "+target+" ") {
			t.Errorf("make does not list %s:\n%s", target, out)
		}
	}
}
