package router

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// The grace of who is away goes on where it was: neither longer nor shorter by how often the node is replaced.
func TestGraceGoesOnWhileNodesTakeOver(t *testing.T) {
	r := newRig(t, shape{loops: 1}, keepPlaces)
	ann, bob := r.login(atConnector, false), r.login(atConnector, true)
	ann.enter("ann", "r")
	bob.ask(routeEnter, `{"username":"bob","rid":"r",`+secretOfB+`}`)
	ann.take()
	bob.sock.Err = syscall.ECONNRESET
	bob.sock.Ready()
	r.net.Settle()
	told := func() []string {
		return slices.DeleteFunc(ann.take(), func(s string) bool { return strings.HasPrefix(s, "heartbeat") })
	}
	for second := 1; second <= testGrace+1; second++ {
		r.handOver(second%5 == 0)
		ann.send(codec.PackageHeartbeat, nil) // it would be silent for too long itself
		r.net.Seconds(1)
		switch lines := told(); {
		case second < testGrace-1 && len(lines) > 0:
			t.Fatalf("after %d s: told %q", second, lines)
		case len(lines) > 0:
			if len(lines) != 1 || !strings.Contains(lines[0], `onLeave {"route":"onLeave","user":"bob"}`) {
				t.Errorf("told %q", lines)
			}
			return
		}
	}
	t.Errorf("who does not return stays for longer than %d s", testGrace)
}
