package fleet

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pomelod/pomelod/internal/overlay"
	"github.com/pomelod/pomelod/internal/seed"
)

// Two versions of pomelod in one fleet: the previous commit, or another one, and this.
var previousIs = flag.String("previous", "", "the `commit` of the other version, which must be there; without it that is the last one before this that can be built, or this one under another name where there is none")

// previous builds the other version, and tells what it is.
func previous(t *testing.T) (binary, what string) {
	t.Helper()
	if *previousIs != "" {
		binary, err := versionOf(t, *previousIs)
		if err != nil {
			t.Fatal(err)
		}
		return binary, *previousIs
	}
	for i := range ancestors {
		what = fmt.Sprint("HEAD~", i+1)
		binary, err := versionOf(t, what)
		if err == nil {
			return binary, what
		}
		t.Log(err)
	}
	t.Log("this commit is both versions, as the source has come without its history, or the commits before this one are broken")
	return anotherVersion(t, 0, 1), "the next version"
}

// ancestors is how many commits back one is looked for that can be built.
const ancestors = 5

// versionOf builds a commit.
func versionOf(t *testing.T, commit string) (binary string, err error) {
	t.Helper()
	dir := otherDir(t)
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := exec.Command("git", "archive", commit)
	archive.Dir = "../.."
	files, err := archive.Output()
	if err != nil {
		return "", fmt.Errorf("git archive %s: %w", commit, err)
	}
	unpack := exec.Command("tar", "-x", "-C", source)
	unpack.Stdin = bytes.NewReader(files)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	binary = filepath.Join(dir, "pomelod")
	return binary, build(source, binary, "./cmd/pomelod")
}

// anotherVersion builds this one with other versions of what nodes say to each other: the least and the greatest that it speaks are so many above its own. The bytes are the same.
func anotherVersion(t *testing.T, least, greatest int) (binary string) {
	t.Helper()
	dir := otherDir(t)
	binary = filepath.Join(dir, "pomelod")
	const own = "linkVersion + channel.StateVersion"
	name, err := overlay.Write("../..", dir, []overlay.Edit{{
		File: "cluster/versions.go",
		Old:  fmt.Sprintf("versions{%s, %s}", own, own),
		New:  fmt.Sprintf("versions{%s + %d, %s + %d}", own, least, own, greatest),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := build("../..", binary, "./cmd/pomelod", "-overlay", name); err != nil {
		t.Fatal(err)
	}
	return binary
}

// otherDir is a folder that goes with the binary's.
func otherDir(t *testing.T) string {
	t.Helper()
	if _, err := pomelod(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(built, "other-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The previous commit and this one are nodes of one fleet, and each makes views, owns rooms that the other follows, and takes over what the other owned. If they do not speak with each other whoever comes says so and ends.
func TestPreviousVersionBesideThisOne(t *testing.T) {
	binary, what := previous(t)
	meetVersions(t, binary, what, false)
}

// A version that speaks one more than this one talks to it in what both speak.
func TestNextVersionBesideThisOne(t *testing.T) {
	meetVersions(t, anotherVersion(t, 0, 1), "the next version", true)
}

// meetVersions has a fleet of another version, which this one joins; what it is is said of it. must says that they speak with each other.
func meetVersions(t *testing.T, other, what string, must bool) {
	h := &harness{t: t, rng: seed.Rand(t), at: make(map[string]string), failed: make(failures), nats: startNATS(t, nil)}
	a := h.addAs(other, "a", gates|connectors|chats)
	a.waitReady()
	b := h.add("b", gates|connectors|chats)
	ended := func() (gone bool) { b.do(func() { gone = b.gone }); return gone }
	eventually(t, "b to be ready or to end", func() bool { return ended() || len(b.ready()) > 0 })
	if ended() {
		if must {
			t.Fatalf("b has ended: %s", b.log())
		}
		turnedAway(t, b.process)
		stays(t, a.process)
		t.Logf("%s speaks another version than this one, which is refused as it should be", what)
		return
	}
	h.calm()
	c := newCrowd(h, 0, 6, len(fiveWires), 200)
	c.everybody()
	made := make(map[*member]bool)
	for round := 0; len(made) < 2; round++ { // whoever was there first, then the other; a node that had no processor for too long does not make views any more
		if round == 6 {
			t.Fatalf("in each of %d rounds the same node makes views", round)
		}
		maker := h.maker()
		made[maker] = true
		c.more(20)
		h.die(maker) // who stays takes over what it owned
		c.more(5)
		h.again(maker)
		h.calm()
		c.everybody()
		c.more(20)
	}
	a.drain() // the upgrade
	a.binary = ""
	h.again(a)
	h.calm()
	c.everybody()
	c.more(20)
	cuts, _ := c.end(h.failed)
	for _, wrong := range c.wrong {
		t.Error(wrong)
	}
	t.Logf("%d acknowledged, %d cut off with a node that was killed or drained, refused: %v", len(c.sends), cuts, c.refused)
}

// Versions that have nothing in common are not in one fleet: who comes to it ends with a sentence, whichever of the two it is, and who is there goes on.
func TestVersionsThatDoNotSpeakWithEachOther(t *testing.T) {
	own, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	later := anotherVersion(t, 1, 1)
	for _, binaries := range [][2]string{{own, later}, {later, own}} {
		s := startNATS(t, nil)
		node := func(binary, name string) *process {
			return launchAs(t, binary, name, "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
		}
		first := node(binaries[0], "first")
		first.waitReady()
		second := node(binaries[1], "second")
		second.wait("the second to end", func() bool { return second.gone })
		turnedAway(t, second)
		stays(t, first)
	}
}

// speaks is the sentence of who is refused.
var speaks = regexp.MustCompile(`speaks versions (\d+) to (\d+) of the protocol between nodes, and this one (\d+) to (\d+): end all nodes of the fleet before you start this version`)

// turnedAway looks whether a process has ended, as it should, since it speaks with none of the others.
func turnedAway(t *testing.T, p *process) {
	t.Helper()
	p.wait(p.name+" to end", func() bool { return p.gone })
	p.end()
	said := speaks.FindStringSubmatch(p.log())
	if said == nil {
		t.Fatalf("%s has ended without the sentence about versions:\n%s", p.name, p.log())
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(said[i+1])
	}
	if n[0] <= n[3] && n[2] <= n[1] {
		t.Errorf("%s was refused by versions %d to %d and speaks %d to %d", p.name, n[0], n[1], n[2], n[3])
	}
	if code := p.cmd.ProcessState.ExitCode(); code == 0 {
		t.Errorf("%s was refused and ended with 0", p.name)
	}
}

// stays looks whether a node goes on by itself.
func stays(t *testing.T, p *process) {
	t.Helper()
	if status, text := p.readyz(); status != 200 {
		t.Errorf("%s answers %d %s", p.name, status, text)
	}
	if n := p.metric("pomelod_fleet_members"); n != 1 {
		t.Errorf("%s has %v members in its view", p.name, n)
	}
}
