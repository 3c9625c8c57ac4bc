package fleet

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/seed"
)

// The harness: fleets of real processes, with guests of five wires who talk all the time, and things that go wrong. Whatever happens, what was acknowledged
// reaches everybody who was there and stays, once and in order; lists are the owner's; who goes is told of; and nobody is disconnected but by a node that
// has failed. make fleet looks at times, too.
var (
	faultsAll    = flag.Bool("faults", false, "let everything go wrong that the table has, and hold times to its bars; else some of it, and times are only shown")
	faultsOnly   = flag.String("fault", "", "only what has a `name` like this (a regexp)")
	faultsRounds = flag.Int("rounds", 1, "how often each thing goes wrong")
	faultsRate   = flag.Int("rate", 0, "messages a second; 0: 200, or with -faults 1000")
)

// fault is something that goes wrong in a fleet.
type fault struct {
	name  string
	short bool // also without -faults
	quiet bool // nobody is disconnected, and nobody is told of a leave
	calm  bool // nobody is refused; without -faults only where no answer took so long that somebody has to be
	many  bool // beside the guests a room has as many members as descriptors allow, up to 19,000
	// Bars, over all rounds: the longest time for which some room was not answered, and the time until everybody was told who is gone. 0: there is none.
	median, worst, leaves time.Duration
	// And the longest time for which some room was not answered that another node owned when it began, which the failing one may have followed.
	others time.Duration
	// do lets it happen, puts everything right again, and tells when rooms could be answered no more, or could again be.
	do func(h *harness, c *crowd) time.Time
}

const (
	silence = 8 * time.Second // longer than the 3 s after which a node is taken for dead
	blink   = 100 * time.Millisecond
)

// killed ends nodes; they come back when all rooms are answered again.
func killed(pick func(h *harness) []*member) func(*harness, *crowd) time.Time {
	return func(h *harness, c *crowd) time.Time {
		nodes := pick(h)
		since := time.Now()
		h.die(nodes...)
		c.more(5)
		h.again(nodes...)
		return since
	}
}

// restarted ends nodes, and a supervisor starts them again.
func restarted(pick func(h *harness) []*member) func(*harness, *crowd) time.Time {
	return func(h *harness, c *crowd) time.Time {
		nodes := pick(h)
		since := time.Now()
		h.die(nodes...)
		time.Sleep(blink) // RestartSec= of deploy/pomelod@.service
		h.again(nodes...)
		return since
	}
}

// paused stops a node for a while.
func paused(pick func(h *harness) []*member) func(*harness, *crowd) time.Time {
	return func(h *harness, _ *crowd) time.Time {
		since := time.Now()
		pick(h)[0].pause(silence)
		return since
	}
}

// drained ends nodes in order, one after the other, and starts each again.
func drained(pick func(h *harness) []*member) func(*harness, *crowd) time.Time {
	return func(h *harness, _ *crowd) time.Time {
		since := time.Now()
		for _, m := range pick(h) {
			m.drain()
			h.again(m)
			h.calm()
		}
		return since
	}
}

// drainedAndKilled is a restart of everything in which a node is killed at some moment.
func drainedAndKilled(h *harness, c *crowd) time.Time {
	since := time.Now()
	for i, at := 0, h.rng.IntN(len(h.nodes)); i < len(h.nodes); i++ {
		m := h.nodes[i]
		if i != at {
			drained(only(m))(h, c)
			continue
		}
		victim := h.some(0, m)
		done := make(chan struct{})
		m.mayCut(true)
		go func() { defer close(done); _ = m.stop() }()
		time.Sleep(time.Duration(h.rng.IntN(1000)) * time.Millisecond)
		h.die(victim)
		h.again(victim)
		awaitClosed(h.t, m.name+" to end", done)
		h.again(m)
		h.calm()
	}
	return since
}

// added has a node join, and leave again in order.
func added(name string, roles cluster.Roles) func(*harness, *crowd) time.Time {
	return func(h *harness, c *crowd) time.Time {
		since := time.Now()
		h.add(name, roles)
		h.calm()
		c.more(10)
		h.remove(h.nodes[len(h.nodes)-1])
		return since
	}
}

// slowed has a chat node's way to NATS take its time.
func slowed(h *harness, _ *crowd) time.Time {
	since := time.Now()
	h.way.slow(20 * time.Millisecond) // 800 KB/s
	time.Sleep(silence)
	h.way.slow(0)
	return since
}

func only(m *member) func(*harness) []*member {
	return func(*harness) []*member { return []*member{m} }
}

// Whom it happens to.
func aChat(h *harness) []*member      { return []*member{h.some(chats, h.maker())} }
func theMaker(h *harness) []*member   { return []*member{h.maker()} }
func aConnector(h *harness) []*member { return []*member{h.some(connectors)} }
func theGate(h *harness) []*member    { return []*member{h.some(gates)} }
func both(h *harness) []*member       { return []*member{h.some(connectors), h.some(chats)} }
func everyone(h *harness) []*member   { return slices.Clone(h.nodes) }
func allChats(h *harness) []*member {
	return slices.DeleteFunc(everyone(h), func(m *member) bool { return m.roles&chats == 0 })
}

// natsRestarts is an upgrade of NATS.
func natsRestarts(h *harness, _ *crowd) time.Time {
	since := time.Now()
	h.nats.stop()
	h.nats.start()
	return since
}

// natsAway is a NATS that is there again after a while. How long rooms are not answered counts from then on.
func natsAway(d time.Duration) func(*harness, *crowd) time.Time {
	return func(h *harness, _ *crowd) time.Time {
		h.nats.stop()
		time.Sleep(d)
		h.nats.start()
		return time.Now()
	}
}

// lost has the network of a chat node lose packets for a while.
func lost(begin, end func(*namespace)) func(*harness, *crowd) time.Time {
	return func(h *harness, _ *crowd) time.Time {
		since := time.Now()
		h.nodes[len(h.nodes)-1].mayCut(false) // it has no clients
		begin(h.ns)
		time.Sleep(silence)
		end(h.ns)
		return since
	}
}

const crash, crashMedian, bystander, move = 4500 * time.Millisecond, 1500 * time.Millisecond, time.Second, 250 * time.Millisecond

// What goes wrong in a fleet of one gate, three connectors and three chat nodes.
var spreadFaults = []fault{
	{name: "a chat node is killed", short: true, median: crashMedian, worst: crash, others: bystander, do: killed(aChat)},
	{name: "the maker of views, a chat node, is killed", median: crashMedian, worst: crash, do: killed(theMaker)},
	{name: "a chat node is killed and started again", worst: 2500 * time.Millisecond, do: restarted(aChat)},
	{name: "a connector is killed", leaves: 5 * time.Second, do: killed(aConnector)},
	{name: "a connector is killed and started again", leaves: 5 * time.Second, do: restarted(aConnector)},
	{name: "the gate is killed and started again", quiet: true, do: restarted(theGate)},
	{name: "a connector and a chat node are killed at once", short: true, worst: 8 * time.Second, do: killed(both)},
	{name: "a chat node is stopped for 8 s", worst: crash, others: bystander, do: paused(aChat)},
	{name: "the maker is stopped for 8 s", worst: crash, do: paused(theMaker)},
	{name: "a connector is stopped for 8 s", do: paused(aConnector)},
	{name: "the gate is stopped for 8 s", quiet: true, do: paused(theGate)},
	{name: "a chat node is drained and started again", quiet: true, calm: true, do: drained(aChat)},
	{name: "a connector is drained and started again", do: drained(aConnector)},
	{name: "a chat node is added and taken away", short: true, quiet: true, calm: true, worst: move, do: added("chat-9", chats)},
	{name: "a connector is added and taken away", worst: move, do: added("connector-9", connectors)},
	{name: "all chat nodes are drained and started again, with a room of many", quiet: true, calm: true, many: true, worst: move, do: drained(allChats)},
	{name: "a chat node's link is slow for 8 s", quiet: true, worst: crash, do: slowed},
	{name: "everything is drained and started again, node after node", do: drained(everyone)},
	{name: "the same, and a node is killed at some moment", worst: 8 * time.Second, do: drainedAndKilled},
	{name: "NATS is restarted", short: true, quiet: true, do: natsRestarts},
	{name: "NATS is away for 20 s", quiet: true, do: natsAway(20 * time.Second)},
	{name: "a chat node's network loses everything for 8 s", worst: crash, others: bystander, do: lost((*namespace).away, (*namespace).back)},
	{name: "a chat node's network loses what it sends for 8 s", worst: crash, others: bystander, do: lost((*namespace).unheard, (*namespace).heard)},
	{name: "a chat node's network loses what it is sent for 8 s", worst: crash, others: bystander, do: lost((*namespace).deaf, (*namespace).hears)},
}

// What goes wrong in a fleet of two nodes that do everything.
var pairFaults = []fault{
	{name: "the node that does not make views is killed", short: true, leaves: 5 * time.Second, worst: crash, do: killed(aChat)},
	{name: "the maker is killed", leaves: 5 * time.Second, worst: crash, do: killed(theMaker)},
	{name: "a node is killed and started again", worst: 2500 * time.Millisecond, do: restarted(aConnector)},
	{name: "the node that does not make views is stopped for 8 s", worst: crash, do: paused(aChat)},
	{name: "the maker is stopped for 8 s", worst: crash, do: paused(theMaker)},
	{name: "both are drained and started again, one after the other", do: drained(everyone)},
	{name: "NATS is restarted", quiet: true, do: natsRestarts},
	{name: "NATS is away for 20 s", quiet: true, do: natsAway(20 * time.Second)},
}

func TestFaultsOfSevenNodes(t *testing.T) {
	suffer(t, func(network bool) *harness { return newSpread(t, seed.Rand(t), network) }, 9, spreadFaults)
}

func TestFaultsOfTwoNodes(t *testing.T) {
	suffer(t, func(bool) *harness { return newPair(t, seed.Rand(t)) }, 6, pairFaults)
}

// outcome is what became of a fault, over all rounds.
type outcome struct {
	acked, cut, told, refused int
	waits, gone, safe         []time.Duration // longest without an answer; until all were told; until every partition had a follower
	before                    []time.Duration // longest without an answer before the fault: what the machine costs by itself
	others                    []time.Duration // longest without an answer of rooms that other nodes owned
}

// suffer lets faults happen to one fleet, one after the other, each in rooms of its own with five guests. network asks for a fleet with a network that can fail.
func suffer(t *testing.T, fleet func(network bool) *harness, rooms int, faults []fault) {
	like, err := regexp.Compile(*faultsOnly)
	if err != nil {
		t.Fatal(err)
	}
	faults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !like.MatchString(f.name) || *faultsOnly == "" && !*faultsAll && !f.short
	})
	if len(faults) == 0 {
		t.Skip("there is no such fault")
	}
	isNetwork := func(f fault) bool { return strings.Contains(f.name, "network") }
	h := fleet(slices.ContainsFunc(faults, isNetwork))
	table := []string{"| what fails, median and worst | times | rooms unanswered at most | before that | leaves told within | every partition has a follower after | clients cut off | refused | acknowledged |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"}
	for i := range faults {
		f := &faults[i]
		if h.ns == nil && isNetwork(*f) {
			continue
		}
		var o outcome
		for round := range *faultsRounds {
			f.happen(h, i**faultsRounds+round, rooms, &o)
		}
		if h.audience != nil {
			h.audience.end()
			h.audience = nil
		}
		table = append(table, f.row(&o))
		t.Logf("%d times, in the columns of the table below:\n%s\nwaits: %v, in rooms of other nodes: %v", *faultsRounds, f.row(&o), sorted(o.waits), sorted(o.others))
		if *faultsAll {
			f.judge(t, &o)
		}
	}
	t.Logf("measured:\n%s", strings.Join(table, "\n"))
}

// happen is one round of a fault.
func (f *fault) happen(h *harness, number, rooms int, o *outcome) {
	h.t.Helper()
	began := time.Now()
	rate := *faultsRate
	switch {
	case rate == 0 && *faultsAll:
		rate = 1000
	case rate == 0:
		rate = 200
	}
	h.failed = make(failures)
	c := newCrowd(h, number, rooms, len(fiveWires), rate)
	c.everybody()
	if f.many && h.audience == nil {
		h.audience = newAudience(h)
	}
	calm := time.Now()
	c.more(10)
	if f.worst == move { // which is little: it is told beside what there is without a move
		time.Sleep(2 * time.Second)
	}
	var early map[string]int
	c.do(func() { early, c.refused = c.refused, make(map[string]int) })
	if len(early) > 0 {
		h.t.Logf("%s: refused before that: %v", f.name, early)
	}
	owners, maker := h.owners(), h.maker()
	fails := time.Now()
	ready := fails.Sub(began)
	since := f.do(h, c)
	h.calm()
	o.safe = append(o.safe, time.Since(since))
	safe := time.Since(fails)
	c.everybody()
	c.more(10)
	gone := c.gone(since)
	cut, told := c.end(h.failed)
	if f.many {
		c.wrong = append(c.wrong, h.audience.hasHeard()...)
	}

	o.acked += len(c.sends)
	for why, n := range c.refused {
		o.refused += n
		h.t.Logf("%s: refused %d times: %s", f.name, n, why)
	}
	waits := func(from, till time.Time) time.Duration {
		all := c.waits(from, till, nil)
		if f.many {
			all = append(all, h.audience.waits(from, till))
		}
		return slices.Max(all)
	}
	o.before = append(o.before, waits(calm, fails))
	o.waits = append(o.waits, waits(since, time.Now()))
	if f.others > 0 && h.failed[maker.name] == nil { // who makes views must be there for a follower to be dropped
		o.others = append(o.others, slices.Max(c.waits(since, time.Now(), func(room string) bool { return owners[room] != "" && h.failed[owners[room]] == nil })))
	}
	o.gone = append(o.gone, gone)
	o.told += told
	o.cut += cut
	if f.quiet && (cut > 0 || told > 0) {
		c.wrongf("%d were disconnected, and %d told of leaves", cut, told)
	}
	if f.calm && len(c.refused) > 0 && (*faultsAll || c.slowest < refuses) {
		c.wrongf("refused: %v", c.refused)
	}
	for _, wrong := range c.wrong {
		h.t.Errorf("%s: %s", f.name, wrong)
	}
	h.t.Logf("%s: %v in all (%v before it, %v until all is well), %d acknowledged, unanswered for %v (before: %v), gone after %v, followers after %v, %d cut", f.name, time.Since(began).Round(time.Millisecond), ready.Round(time.Millisecond), safe.Round(time.Millisecond), len(c.sends), o.waits[len(o.waits)-1].Round(time.Millisecond), o.before[len(o.before)-1].Round(time.Millisecond), gone.Round(time.Millisecond), o.safe[len(o.safe)-1].Round(time.Millisecond), cut)
}

// middle is the median.
func middle(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// row is the fault's row of the table.
func (f *fault) row(o *outcome) string {
	both := func(all []time.Duration, digits int) string {
		return fmt.Sprintf("%.*f s, %.*f s", digits, middle(all).Seconds(), digits, slices.Max(all).Seconds())
	}
	gone := "-"
	if o.told > 0 {
		gone = both(o.gone, 1)
	}
	return fmt.Sprintf("| %s | %d | %s | %s | %s | %s | %d | %d | %d |", f.name, len(o.waits), both(o.waits, 2), both(o.before, 2), gone, both(o.safe, 1), o.cut, o.refused, o.acked)
}

// sorted are times as they are told.
func sorted(all []time.Duration) (text []string) {
	for _, d := range slices.Sorted(slices.Values(all)) {
		text = append(text, fmt.Sprintf("%.2f", d.Seconds()))
	}
	return text
}

// judge holds times to the bars.
func (f *fault) judge(t *testing.T, o *outcome) {
	for _, b := range []struct {
		what     string
		got, bar time.Duration
	}{{"the median of the longest waits", middle(o.waits), f.median}, {"the longest wait", slices.Max(o.waits), f.worst}, {"the last leave", slices.Max(o.gone), f.leaves}, {"the longest wait in a room of another node", slices.Max(append(o.others, 0)), f.others}} {
		if b.bar > 0 && b.got > b.bar {
			t.Errorf("%s: %s is %v, more than %v", f.name, b.what, b.got, b.bar)
		}
	}
}
