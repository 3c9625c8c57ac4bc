//go:build linux

package abuse

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var longToo = flag.Bool("long", false, "make the attacks of TestLong too, which want some gigabytes of memory and 20,000 descriptors")

// The attacks by which these holes were found, as large as they were then, against servers with default flags. Only with -long, and only
// defended: smaller ones are made in each run of the tests.
func TestLong(t *testing.T) {
	if !*longToo || raceEnabled {
		t.Skip("only with -long")
	}
	const gib = 1 << 30
	for _, sc := range []scenario{
		renames("renames among 8,000", 8000),
		arrivals("10,000 enter a room within two seconds", 10_000, 2*time.Second),
		fragments("fragments by 8,000", 8000, gib/4, "-memory", "1GiB"),
		unreadLists("4,836 names of emoji, unread by 1,500", 4836, 1500, strings.Repeat("\U0001f600", 4), []string{"-list", "0"}),
	} {
		t.Run(sc.name, sc.defended)
	}
}
