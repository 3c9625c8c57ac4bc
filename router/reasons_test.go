package router

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// docs/PROTOCOL.md has all reasons for which something is refused and for which the server kicks, and no others; and the page can explain those refusals.
func TestReasons(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, section, _ := strings.Cut(read("../docs/PROTOCOL.md"), "\n## Reasons\n")
	section, _, _ = strings.Cut(section, "\n## ")
	refusals, kicks, found := strings.Cut(section, "\nA kick tells")
	if !found {
		t.Fatal("no section Reasons with a table of refusals and one of kicks")
	}
	rows := func(table string) (all []string) {
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return all
	}
	source := ""
	for _, pattern := range []string{"*.go", "../channel/*.go", "../fleet/*.go", "../cluster/*.go", "../admin/*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			if !strings.HasSuffix(name, "_test.go") {
				source += read(name)
			}
		}
	}
	literals := func(expr string, all []string) []string {
		for _, m := range regexp.MustCompile(expr).FindAllStringSubmatch(source, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	want := literals(`RefusedFor\("(\w+)"\)`, slices.Concat(channel.ReasonNames[:], limitNames[:]))
	want = slices.DeleteFunc(want, func(reason string) bool { return reason == "policy" }) // a program is told that, and no client
	if got := rows(refusals); !slices.Equal(got, want) {
		t.Errorf("the reasons for refusals in docs/PROTOCOL.md are\n%q\nthose of the code\n%q", got, want)
	}
	told := literals(`(?:kick\(s, |kickFor\(s, |closeRoom\(room, |why\w+ += |replacedReason = \[\]byte\(|defaultBanReason = )"([^"]+)"`, nil)
	if got := rows(kicks); !slices.Equal(got, told) || len(got) < 5 {
		t.Errorf("the reasons for kicks in docs/PROTOCOL.md are\n%q\nthose of the code\n%q", got, told)
	}
	page := read("../web/chat/refusals.js")
	for _, reason := range want {
		switch reason {
		case "not_sent", "unknown", "no_connector", "cursor": // who is told to try again is told enough; the module begins anew
		default:
			if !strings.Contains(page, "\n  "+reason+": ") {
				t.Errorf("web/chat/refusals.js cannot explain %s", reason)
			}
		}
	}
}
