package cluster_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Tests that visit cells of ARCHITECTURE.md's tables which the simulation does not, or too seldom to count on (reached).
const (
	drops  = "TestWhatHasNoPlaceIsDropped"
	missed = "TestOwnerThatMissedViews"
	again  = "TestWhatIsMissingIsSentAgain"
)

var visitedBy = map[string]map[string]string{
	"request":                 {"joiner": drops},
	"serve, items, not owner": allBy("TestWitness"), // it is the desk's, whatever the Holder has
	"confirm":                 {"joiner": drops, "nobody": drops},
	"resend":                  {"unprotected": again, "protected": again, "sealed": again, "joiner": drops, "follower": drops, "nobody": drops},
	"snapshot":                {"unprotected": drops, "protected": drops, "sealed": drops, "follower": "TestFollowerWithAPartOfTheSnapshot", "nobody": drops},
	"records":                 {"unprotected": drops, "protected": drops, "sealed": drops},
	"ack":                     {"joiner": drops, "nobody": drops},
	"confirmed":               {"unprotected": drops},
	"sealed":                  {"unprotected": drops, "protected": drops, "sealed": drops, "joiner": drops, "nobody": drops},
	"view: owner now":         {"joiner": "TestJoinerIsNotPromoted"},
	"view: follower now":      {"unprotected": missed, "protected": missed, "nobody": "TestFollowerWithAPartOfTheSnapshot"},
	"view: joiner now":        {"unprotected": missed, "protected": missed, "sealed": missed},
	"view: nobody now":        {"unprotected": missed, "protected": missed, "sealed": missed},
	"tick":                    {"unprotected": "TestReturnsToANewOwner", "protected": "TestStuckFollowerIsDropped", "sealed": "TestMoveCancelled", "follower": "TestMakerDiesInAMove"},
	"retire":                  allBy("TestRetire"),
	"notes, sum, ask":         allBy("TestNotesReachAll"),
	"request of a session":    {"lost": "TestWhoIsNoMemberRefuses"},
	"leave of a session":      {"lost": "TestWhoIsNoMemberRefuses"},
	"items from its Holders":  {"serving": "TestOutputWaitsForTheFollower", "held": "TestWokenOwnerWithoutAFollower", "suspended": "TestNodeWithoutQuorum", "lost": "TestWhoIsNoMemberRefuses"},
	"turn":                    {"serving": "TestMakerSucceeds", "held": "TestNodeThatSlept", "suspended": "TestNodeWithoutQuorum", "lost": "TestNodeGoesOnAsANewRun", "stopped": "TestHearingLate"},
}

// allBy is one test for a whole row.
func allBy(test string) map[string]string {
	row := make(map[string]string)
	for _, column := range columns {
		row[column] = test
	}
	return row
}

// rowsOf are the rows that the simulation counts for one of ARCHITECTURE.md's; the others have the same name.
var rowsOf = map[string][]string{
	"view: still owner":  {"view: unprotected", "view: protected", "view: sealed"},
	"view: owner now":    {"view: unprotected", "view: protected"},
	"view: follower now": {"view: follower"},
	"view: joiner now":   {"view: joiner"},
	"view: nobody now":   {"view: nobody"},
	"view, answer":       {"view"},
	"fetch, ask":         {"fetch"},
}

// Each cell of the two tables that says something is visited: by the simulation, of which make sim holds 1,000 seeds and more to it, or by a test.
func TestEveryCellIsVisited(t *testing.T) {
	b, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "### What each state does with each message")
	text, _, _ = strings.Cut(text, "\n### ")
	tests, used := testsHere(t), map[string]int{}
	var head []string
	cells := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			head = nil
			continue
		}
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		switch {
		case head == nil:
			head = fields
			for i := range head[1:] {
				head[i+1], _, _ = strings.Cut(strings.TrimPrefix(head[i+1], "owner, "), " (")
				_ = columnOf(head[i+1])
			}
			continue
		case fields[0] == "---":
			continue
		}
		row := fields[0]
		counted := rowsOf[row]
		if counted == nil {
			counted = []string{row}
		}
		for i, says := range fields[1:] {
			if says == "" {
				continue
			}
			cells++
			column := head[i+1]
			test := visitedBy[row][column]
			byChance := slices.ContainsFunc(counted, func(r string) bool { return slices.Contains(reached[r], column) })
			switch {
			case test != "" && !tests[test]:
				t.Errorf("%s × %s: there is no test %s", row, column, test)
			case test == "" && !byChance:
				t.Errorf("%s × %s: visited by nobody", row, column)
			case test != "":
				used[row]++
			}
		}
	}
	for row := range visitedBy {
		if used[row] == 0 {
			t.Errorf("no cell of %q needs a test", row)
		}
	}
	t.Logf("%d cells", cells)
	if cells < 100 {
		t.Errorf("the tables have %d cells", cells)
	}
}

// testsHere are the names of this package's tests.
func testsHere(t *testing.T) map[string]bool {
	names := make(map[string]bool)
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
	}
	return names
}
