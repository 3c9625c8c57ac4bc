//go:build linux

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The floor must pass all checks that the servers compared with it must pass.
func TestFloor(t *testing.T) {
	t.Parallel()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	path := t.TempDir() + "/floor"
	if out, err := exec.Command(cc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, "floor/floor.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, flags := range []string{"", "-tick", "-ws", "-ws -tick", "-ws -announce", "-ws -tick -announce"} {
		t.Run("flags="+flags, func(t *testing.T) {
			t.Parallel()
			v, _ := parseVariant(path + " " + flags)
			s, err := start(v, nil, nil, cpuSet(nil))
			if err != nil {
				t.Fatal(err)
			}
			defer s.stop()
			wire, addr := "tcp", s.connectors[0].String()
			if strings.Contains(flags, "-ws") {
				wire = "ws"
			}
			if r := trial(t, "broadcast", wire, addr, "-members", "7", "-inflight", "3", "-size", "5000"); r.Void {
				t.Errorf("broadcast: %+v", r.Faults)
			}
			if r := trial(t, "echo", wire, addr, "-conns", "3"); r.Void {
				t.Errorf("echo: %+v", r.Faults)
			}
			r := trial(t, "connect", wire, addr, "-few", "4", "-conns", "16", "-room-size", "5")
			want := 0.0
			if strings.Contains(flags, "-announce") {
				want = float64(4*(1+2+3+4)) / 16 // the few are the first in each of the four rooms
			}
			if n, _ := r.Figures.get("pushes_per_conn"); r.Void || n != want {
				t.Errorf("connect: %v pushes to each who comes, want %v; %+v", n, want, r.Faults)
			}
		})
	}
}
