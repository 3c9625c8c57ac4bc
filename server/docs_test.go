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

// equalShapes fails unless two documents have as many headings, table rows, list items, code lines and links to the same places.
func equalShapes(t *testing.T, first, second string) {
	t.Helper()
	shape := func(name string) map[string]int {
		text := readFile(t, "../"+name)
		found := make(map[string]int)
		for line := range strings.Lines(text) {
			for _, prefix := range []string{"## ", "| ", "  | ", "- ", "    "} {
				if strings.HasPrefix(line, prefix) {
					found[prefix]++
				}
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([a-zA-Z][^)]*)\)`).FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(link[1], "README") && !strings.HasPrefix(link[1], "MIGRATING") { // of each other
				found[link[1]]++
			}
		}
		return found
	}
	english, chinese := shape(first), shape(second)
	for what, n := range english {
		if chinese[what] != n {
			t.Errorf("%q is %d times in %s and %d times in %s", what, n, first, chinese[what], second)
		}
	}
	for what, n := range chinese {
		if english[what] == 0 {
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
