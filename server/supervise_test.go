//go:build linux

package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A panic ends a process with the code that wrong settings have: it is started again all the same, unless the settings are wrong.
func TestCrashesAreNoMistakes(t *testing.T) {
	for name, tc := range map[string]struct {
		wrong  error
		code   int
		starts string
	}{
		"a crash":        {nil, 0, "xx"},
		"wrong settings": {errors.New("no such port"), 2, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			starts := filepath.Join(t.TempDir(), "starts")
			n := &nodeProcess{id: "a", check: func() error { return tc.wrong }, args: []string{"-c", `[ -e "$STARTS" ]; first=$?; printf x >>"$STARTS"; [ $first = 0 ] || exit 2`}}
			code := newProcesses(program{path: "/bin/sh", args: []string{"sh"}}, []string{"STARTS=" + starts}, []*nodeProcess{n}).run(func() {})
			if b, err := os.ReadFile(starts); code != tc.code || string(b) != tc.starts {
				t.Errorf("exit %d, started %q, %v", code, b, err)
			}
		})
	}
}
