//go:build linux

package abuse

import (
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/seed"
)

var soakUpgrades = flag.Int("soak-upgrades", 3, "how often TestUpgradesUnderAttack upgrades")

// succeed has the server replaced by others of its own: a shell ends whichever there is with the test, or when that is killed. Call it before start; end
// ends it.
func (s *server) succeed() (end func()) {
	s.t.Helper()
	s.cmd.Args = append([]string{"sh", "-c", `"$0" "$@" </dev/null & exec 2>/dev/null; cat; kill -TERM 0`}, s.cmd.Args...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Path = sh
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		stdin.Close()
		<-s.ended
	}
}

// pid is the process that serves.
func (s *server) pid() int {
	s.t.Helper()
	resp, err := httpClient.Get("http://" + s.admin + "/pid")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// upgrade replaces the process, and waits until the next one serves.
func (s *server) upgrade(binary string) {
	s.t.Helper()
	out, err := exec.Command(binary, "upgrade", "-pid", strconv.Itoa(s.pid())).CombinedOutput()
	if err != nil {
		s.t.Fatalf("pomelod upgrade: %v: %s; the server said:\n%s", err, out, s.said())
	}
	s.t.Logf("%s", out)
	waitFor(s.t, "the new process to be ready", func() bool {
		resp, err := http.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// The server is replaced again and again while guests come and go by every wire and attackers attack. Guests and witnesses notice nothing: nobody is
// disconnected, nothing is lost, doubled or out of order; and when all are gone the last process has no more than the first one had.
func TestUpgradesUnderAttack(t *testing.T) {
	rng := seed.Rand(t)
	binary := build(t, soakEdits...)
	s := &soak{server: newServer(t, binary, append([]string{"-drain", "0s"}, soakFlags...)...), counts: make(map[string]int), began: time.Now()}
	end := s.succeed()
	s.start()
	t.Cleanup(end) // before what start cleans up
	prefer(s.pid())
	s.witness = watch(t, s.server)
	t.Cleanup(s.remember)
	actors := make([]*actor, soakActors)
	for i := range actors {
		actors[i] = &actor{soak: s, index: i, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))}
	}
	s.upgrade(binary) // what a process has that came to be in this way is what the last one may have
	s.operate("/debug/pprof/profile?seconds=1")
	base := s.settled()

	var over atomic.Bool
	var acting sync.WaitGroup
	var acts atomic.Int64
	for _, a := range actors {
		acting.Go(func() {
			for !over.Load() {
				a.act()
				acts.Add(1)
				time.Sleep(a.upTo(50 * time.Millisecond))
			}
		})
	}
	t.Cleanup(func() { over.Store(true); acting.Wait() }) // first of all
	silence := time.Duration(0)
	for i := range *soakUpgrades {
		for some := acts.Load() + soakActors; acts.Load() < some; { // others act in between
			time.Sleep(10 * time.Millisecond)
		}
		s.upgrade(binary)
		heard := s.witness.phase()
		silence = max(silence, heard.Max)
		for _, p := range heard.Problems {
			t.Errorf("upgrade %d: a witness: %s", i+1, p)
		}
	}
	over.Store(true)
	acting.Wait()
	for _, p := range s.problems {
		t.Error("a guest: ", p)
	}
	now, err := s.pause(base)
	if err != nil {
		t.Error(err)
	}
	if n := int(now["pomelod_takeovers_total"]); n != *soakUpgrades+1 {
		t.Errorf("%d upgrades were counted, not %d", n, *soakUpgrades+1)
	}
	for _, p := range s.witness.last().Problems {
		t.Error("a witness: ", p)
	}
	s.witness.end()
	end()
	for line := range strings.Lines(s.stderr.String()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") {
			t.Error(line)
		}
	}
	t.Logf("%d upgrades, %d acts, longest silence of a witness %v, memory %d to %d MiB; %v", *soakUpgrades, acts.Load(), silence,
		int(base["process_resident_memory_bytes"])>>20, int(now["process_resident_memory_bytes"])>>20, s.counts)
}
