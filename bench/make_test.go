//go:build linux

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The bars want five rounds: a variable of another target of the same name once made it one.
func TestMakeMeasuresFiveRounds(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("needs make")
	}
	for args, want := range map[string]string{
		"":            "-rounds 5 -time 4s",
		"BENCH=quick": "-rounds 1 -time 1s",
		"ROUNDS=3":    "-rounds 3 -time 4s",
	} {
		cmd := exec.Command("make", append(strings.Fields(args), "-n", "bench-tls")...)
		cmd.Dir = ".."
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")} // none of ROUNDS, TIME, MAKEFLAGS
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("make %s: %v\n%s", args, err, said)
		}
		if got := strings.Count(string(said), want); got != 3 {
			t.Errorf("make %s: %d rows with %q, want 3\n%s", args, got, want, said)
		}
	}
}
