//go:build linux

package abuse

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

var longToo = flag.Bool("long", false, "make the attacks of TestLong too, which want some gigabytes of memory and 20,000 descriptors")

// The attacks by which these holes were found, as large as they were then, against servers with default flags. Only with -long, and only
// defended: smaller ones are made in each run of the tests. Where it is judged how soon the witnesses hear beside an attack on another server
// (elsewhere), the judgement has to find them late without the defences.
func TestLong(t *testing.T) {
	if !*longToo || raceEnabled {
		t.Skip("only with -long")
	}
	const gib = 1 << 30
	for _, sc := range []scenario{
		renames("renames among 8,000", 8000).beside(),
		renames("renames among 8,000 who are told", 8000, "-list", "0"),
		httpFlood("HTTP flood by 200, long", 200, 10*time.Second).beside(),
		httpFlood("HTTP flood by 2,000, long", 2000, 10*time.Second).beside(),
		arrivals("10,000 enter a room within two seconds", 10_000, 2*time.Second),
		fragments("fragments by 8,000", 8000, gib/4, "-memory", "1GiB"),
		unreadLists("4,836 names of emoji, unread by 1,500", 4836, 1500, strings.Repeat("\U0001f600", 4), []string{"-list", "0"}),
	} {
		t.Run(sc.name, func(t *testing.T) {
			sc.defended(t)
			if sc.elsewhere {
				t.Run("undefended", sc.lateWithout)
			}
		})
	}
}

// beside judges how soon the witnesses hear, beside an attack on another server.
func (sc scenario) beside() scenario {
	sc.elsewhere, sc.late = true, 0
	return sc
}

// lateWithout fails the test unless the witnesses hear late without the defences.
func (sc scenario) lateWithout(t *testing.T) {
	binary := sc.build(t, sc.without.edits)
	for range attempts {
		failures, late := sc.once(t, binary, slices.Concat(sc.flags, sc.without.flags), false)
		if late != "" {
			t.Logf("failed as it should: %s", late)
			return
		}
		t.Logf("not late: %.300q", failures)
	}
	t.Error("the witnesses were not late without the defences: it says nothing that they are not with them")
}
