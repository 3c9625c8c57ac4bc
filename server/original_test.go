//go:build linux

package server

import (
	"io"
	"testing"
	"time"
)

// -original changes what no flag of its own says, and nothing else.
func TestOriginal(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		grace time.Duration
		names namesFlag
	}{
		{nil, 12 * time.Second, namesSafe},
		{[]string{"-original"}, 0, namesOriginal},
		{[]string{"-original=false"}, 12 * time.Second, namesSafe},
		{[]string{"-original", "-grace", "3s"}, 3 * time.Second, namesOriginal},
		{[]string{"-names", "safe", "-original"}, 0, namesSafe},
		{[]string{"-grace", "0"}, 0, namesSafe},
	} {
		c, err := parseFlags(tc.args, nil, io.Discard)
		if err != nil {
			t.Fatalf("%q: %v", tc.args, err)
		}
		if c.limits.Rooms.Grace != tc.grace || c.naming.kind != tc.names {
			t.Errorf("%q: -grace %v -names %s", tc.args, c.limits.Rooms.Grace, c.naming.kind)
		}
	}
	if c, err := parseFlags(nil, []string{"POMELOD_ORIGINAL=true"}, io.Discard); err != nil || c.limits.Rooms.Grace != 0 || c.limits.Rooms.List != 0 {
		t.Errorf("by the environment: %v, %v", c, err)
	}
}
