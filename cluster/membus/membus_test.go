package membus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/seed"
)

var _ cluster.Bus = (*Port)(nil)

// world is a net whose nodes note what they get.
type world struct {
	*Net
	log   []string
	ports map[string]*Port
}

func newWorld(rng *rand.Rand, names ...string) *world {
	w := &world{Net: New(rng), ports: map[string]*Port{}}
	for _, name := range names {
		w.connect(name)
	}
	return w
}

func (w *world) connect(name string) *Port {
	p := w.Connect(name,
		func(b []byte) { w.log = append(w.log, fmt.Sprintf("%s got %s", name, b)) },
		func(nobody string) { w.log = append(w.log, fmt.Sprintf("%s: nobody is %s", name, nobody)) })
	w.ports[name] = p
	return p
}

func (w *world) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	w.Advance(w.Now() + 5*ms)
	slices.Sort(w.log)
	slices.Sort(want)
	if !slices.Equal(w.log, want) {
		t.Errorf("%s: %q, not %q", what, w.log, want)
	}
	w.log = nil
}

func TestSendAndAnnounce(t *testing.T) {
	w := newWorld(seed.Rand(t), "a", "b", "c")
	b := []byte("one")
	w.ports["a"].Send("b", b)
	copy(b, "two") // not kept
	w.ports["a"].Announce(b)
	w.expect(t, "sent and announced", "b got one", "b got two", "c got two")
	w.ports["a"].Send("d", b)
	w.expect(t, "to nobody", "a: nobody is d")
	w.ports["b"].Close()
	w.ports["a"].Send("b", b)
	w.expect(t, "to who has closed", "a: nobody is b")
	if w.ports["a"].Send("c", make([]byte, MaxPacket+1)); w.Stats.TooLong != 1 {
		t.Error("a packet beyond MaxPacket was taken")
	}
	w.expect(t, "too long")
}

// A run gets nothing that was on its way before it connected, and a new run of a name nothing that was for the old one.
func TestRunsAreApart(t *testing.T) {
	w := newWorld(seed.Rand(t), "a", "b")
	w.ports["a"].Send("b", []byte("old"))
	w.ports["b"].Close()
	w.connect("b")
	w.expect(t, "sent to the old run")
	w.ports["a"].Send("b", []byte("new"))
	w.expect(t, "sent to the new run", "b got new")
}

func TestFaults(t *testing.T) {
	w := newWorld(seed.Rand(t), "a", "b", "c")
	a, b := w.ports["a"], w.ports["b"]
	w.Cut("a", "b", w.Now()+10*ms)
	a.Announce([]byte("1"))
	b.Send("a", []byte("2"))
	w.expect(t, "one way", "c got 1", "a got 2")
	w.Advance(w.Now() + 10*ms)
	a.Send("b", []byte("3"))
	w.expect(t, "healed by itself", "b got 3")

	b.Away(w.Now() + 10*ms)
	a.Send("b", []byte("4"))
	b.Send("a", []byte("5"))
	w.expect(t, "one away", "a: nobody is b")
	w.Heal()
	w.Away(w.Now() + 10*ms)
	a.Announce([]byte("6"))
	w.expect(t, "all away")
	if a.Connected() {
		t.Error("all are away, and one is connected")
	}
	w.Heal()
	a.Send("b", []byte("7"))
	b.Away(w.Now() + 10*ms)
	w.expect(t, "away when it arrives")
	w.Heal()

	w.Filter = func(from, to string, packet []byte) int64 {
		switch {
		case to == "c":
			return -1
		case string(packet) == "slow":
			return 10 * ms
		}
		return 0
	}
	a.Announce([]byte("slow"))
	a.Send("b", []byte("behind it"))
	w.expect(t, "slow")
	w.Advance(w.Now() + 5*ms)
	w.expect(t, "slow and later", "b got slow", "b got behind it")
	w.Filter = nil

	w.Loss = 1
	a.Announce([]byte("8"))
	w.expect(t, "lost")
	w.Loss, w.Twice, w.Late = 0, 1, 1
	a.Send("b", []byte("9"))
	w.expect(t, "twice", "b got 9", "b got 9")
	w.Advance(w.Now() + 2500*ms)
	w.expect(t, "and once more", "b got 9")
}

// Packets between two nodes keep their order; the same seed gives the same deliveries, and another one others.
func TestOrderAndSeeds(t *testing.T) {
	run := func(seed uint64) (log []string) {
		w := newWorld(rand.New(rand.NewPCG(seed, 1)), "a", "b", "c")
		for i := range 200 {
			w.ports["a"].Send("c", []byte(fmt.Sprintf("a %03d", i)))
			w.ports["b"].Send("c", []byte(fmt.Sprintf("b %03d", i)))
			w.Advance(w.Now() + ms/2)
		}
		w.Advance(w.Now() + 5*ms)
		return w.log
	}
	first := run(1)
	if !slices.Equal(first, run(1)) {
		t.Error("the same seed gave other deliveries")
	}
	if slices.Equal(first, run(2)) {
		t.Error("two seeds gave the same deliveries")
	}
	of := func(from string) (log []string) {
		for _, s := range first {
			if strings.HasPrefix(s, "c got "+from) {
				log = append(log, s)
			}
		}
		return log
	}
	if len(of("a")) != 200 || !slices.IsSorted(of("a")) || !slices.IsSorted(of("b")) {
		t.Error("packets of one sender are out of order, or missing")
	}
	overtaken := slices.IndexFunc(first, func(s string) bool { return s == "c got a 010" }) > slices.IndexFunc(first, func(s string) bool { return s == "c got b 010" })
	for i := range 200 {
		a := slices.Index(first, fmt.Sprintf("c got a %03d", i))
		b := slices.Index(first, fmt.Sprintf("c got b %03d", i))
		if (a > b) != overtaken {
			return
		}
	}
	t.Error("two senders never overtook each other")
}
