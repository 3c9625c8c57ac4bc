// Package golden holds the encodings of state to the versions that name them. State goes from one program to the next in an upgrade, and the version
// is all by which the next one knows whether it can read it. So bytes that change under the same version are a defect: a file has the bytes and their
// version, and a test fails when the first change without the second.
package golden

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var write = flag.Bool("write-states", false, "write the files of testdata as the encoders have it now; refused where bytes have changed and their version has not")

// States are examples of what one version encodes, in the order in which they were added.
type States struct {
	version string // its name and number
	lines   []string
}

// New begins the examples of a version; name is the constant's, for whoever has to count it up.
func New(name string, version uint64) *States {
	return &States{version: fmt.Sprintf("%s %d", name, version)}
}

// Bytes adds an encoding.
func (s *States) Bytes(what string, b []byte) { s.Text(what, hex.EncodeToString(b)) }

// Text adds what the encoding relies on and does not show, such as how many kinds there are.
func (s *States) Text(what, is string) { s.lines = append(s.lines, what+": "+is) }

// Check fails unless testdata/states.txt has this version with these examples.
func (s *States) Check(t testing.TB) {
	t.Helper()
	s.CheckFile(t, "testdata/states.txt")
}

// CheckFile is Check for another file.
func (s *States) CheckFile(t testing.TB, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil && !(*write && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	problem := s.compare(string(file))
	switch {
	case problem == "":
	case !*write:
		t.Error(problem)
	case s.changed(string(file)):
		t.Errorf("not written: %s", problem)
	default:
		if err := os.WriteFile(path, []byte(s.text()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const head = "# What is handed over in an upgrade, as bytes (package internal/golden): when they change, so must the version. go test -run Golden -write-states\n"

func (s *States) text() string { return head + s.version + "\n" + strings.Join(s.lines, "\n") + "\n" }

// compare says what is wrong with a file, in a sentence; empty: nothing.
func (s *States) compare(file string) string {
	switch {
	case file == s.text():
		return ""
	case s.changed(file):
		return fmt.Sprintf("the encoding has changed, and its version is still %s: count that up, as a process of the version before cannot read it, and run this test with -write-states\n%s", s.version, s.difference(file))
	}
	return fmt.Sprintf("the file is not that of %s: run this test with -write-states", s.version)
}

// changed tells whether something that the file has under the same version is different now.
func (s *States) changed(file string) bool { return s.difference(file) != "" }

// difference is the first example of the file's that is different, or is no more, under the same version; empty: there is none.
func (s *States) difference(file string) string {
	lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(file, head), "\n"), "\n")
	if lines[0] != s.version {
		return ""
	}
	now := make(map[string]string)
	for _, line := range s.lines {
		what, is, _ := strings.Cut(line, ": ")
		now[what] = is
	}
	for _, line := range lines[1:] {
		what, was, _ := strings.Cut(line, ": ")
		if is, there := now[what]; is != was {
			if !there {
				is = "nothing"
			}
			return fmt.Sprintf("%s was %s\nand is now %s", what, was, is)
		}
	}
	return ""
}
