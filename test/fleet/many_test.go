package fleet

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/internal/freeport"
)

// make fleet-many has as many as a machine carries whose processes may each have 20,000 files open.
var manyOnFive = flag.Int("members", 500, "how many are in the room on five connectors")

const (
	manyConnectors = 5
	manyPushes     = 20
)

// A room is on five connectors, of which each has a fifth of the members. Whatever is said to all of them is one packet for each connector, which has it once, and one for who follows the room. Everybody hears it, once and in order. How long that
// takes, how long entering, and how large the processes are is told.
func TestRoomOnFiveConnectors(t *testing.T) {
	part := audiencePart{Room: "many", Many: membersEach(t)}
	s := startNATS(t, nil)
	var nodes []*process
	var addrs []string
	for i := range 2 {
		nodes = append(nodes, launch(t, fmt.Sprint("chat-", i+1), "-nats", s.url(), "-role", "chat"))
	}
	for i := range manyConnectors {
		addrs = append(addrs, fmt.Sprint("127.0.0.1:", freeport.Get(t)))
		nodes = append(nodes, launch(t, fmt.Sprint("connector-", i+1), "-nats", s.url(), "-role", "connector", "-listen", addrs[i]))
	}
	for _, p := range nodes {
		p.waitReady()
	}
	eventually(t, "every partition to have a follower", func() bool {
		return nodes[0].metric("pomelod_fleet_unguarded_partitions") == 0 && nodes[0].metric("pomelod_fleet_members") == float64(len(nodes))
	})
	empty := residents(t, nodes)
	idle, before := time.Now(), packetsOf(nodes)
	eventually(t, "heartbeats", func() bool { return nodes[0].metric(packetsOut) >= before[0].packets+6 })
	rest, quiet := packetsOf(nodes), time.Since(idle)
	speaker, err := client.Dial(addrs[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	defer speaker.Close()
	if err := speaker.Request("connector.entryHandler.enter", map[string]string{"username": "speaker", "rid": part.Room}, nil); err != nil {
		t.Fatal(err)
	}
	own := new(listener)
	var listening sync.WaitGroup
	listening.Go(func() { own.listen(speaker) })
	began := time.Now()
	var hearers []*earsProcess
	for i, addr := range addrs {
		part.Addr, part.First = addr, i*part.Many
		hearers = append(hearers, hearElsewhere(t, part))
	}
	for _, p := range hearers {
		p.entered()
	}
	in := manyConnectors * part.Many
	t.Logf("%d members on %d connectors have entered within %v, %.2f ms each", in, manyConnectors, time.Since(began).Round(time.Millisecond), time.Since(began).Seconds()*1000/float64(in))

	tap := newTap(t, s)
	var answers []time.Duration
	pace, busy, entered := time.NewTicker(manyPace(in)), time.Now(), packetsOf(nodes)
	defer pace.Stop()
	for i := range manyPushes {
		text := fmt.Sprintf("number %d at %d", i, time.Now().UnixNano())
		asked := time.Now()
		if err := speaker.Request("chat.chatHandler.send", map[string]string{"rid": part.Room, "from": "speaker", "content": text, "target": "*"}, nil); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		answers = append(answers, time.Since(asked))
		<-pace.C
	}
	after, took := packetsOf(nodes), time.Since(busy)
	full := residents(t, nodes)
	var late []time.Duration
	most := time.Duration(0)
	for _, p := range hearers {
		all := p.end(manyPushes)
		if len(all.Heard) != manyPushes+1 || all.Heard[manyPushes] != int64(part.Many) {
			t.Errorf("on %s so many members have heard 0, 1, 2 and so on messages of %d: %v", p.part.Addr, manyPushes, all.Heard)
		}
		if all.Ended > 0 {
			t.Errorf("on %s %d members were disconnected: %s", p.part.Addr, all.Ended, all.Because)
		}
		late, most = append(late, all.Late...), max(most, all.Most)
	}
	eventually(t, "the speaker to hear all", func() bool { return own.next.Load() == manyPushes })
	slices.Sort(late)
	slices.Sort(answers)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
	t.Logf("of %d messages each was answered within %s in the median and %s at most; everybody heard it within %s (p50), %s (p99), %s (most)",
		manyPushes, ms(middle(answers)), ms(answers[len(answers)-1]), ms(late[len(late)/2]), ms(late[len(late)*99/100]), ms(most))
	for i, p := range nodes {
		packets := func(from, till []counted, d time.Duration) (n, b float64) {
			return (till[i].packets - from[i].packets) / d.Seconds(), (till[i].bytes - from[i].bytes) / d.Seconds()
		}
		n0, b0 := packets(before, rest, quiet)
		n1, b1 := packets(entered, after, took)
		each := took.Seconds() / manyPushes
		t.Logf("%s: %.1f MB, %.1f MB before anybody entered; sends %.1f packets and %.0f bytes a message, beside %.1f packets a second at rest", p.name, full[i], empty[i], (n1-n0)*each, (b1-b0)*each, n0)
	}
	tap.check(t, manyPushes)
}

// membersEach is how many of the members are on each connector: a fifth, or as many as there may be files.
func membersEach(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	others := max(200, min(512, int(files.Cur)/4)+50) // what a process has open beside members, or keeps for that
	each := min(*manyOnFive/manyConnectors, int(files.Cur)-others)
	if each < 1 {
		t.Fatalf("%d files may be open, and a process wants %d beside those of members (ulimit -n)", files.Cur, others)
	}
	if all := each * manyConnectors; all < *manyOnFive {
		t.Logf("%d members and not %d, as %d files may be open (ulimit -n)", all, *manyOnFive, files.Cur)
	}
	return each
}

// manyPace is the time between two messages: to hear one takes both processors of a small machine a second where there are a hundred thousand.
func manyPace(members int) time.Duration {
	return max(50*time.Millisecond, time.Duration(members)*50*time.Microsecond)
}

const packetsOut = `pomelod_fleet_bus_packets_total{direction="out"}`

// counted are the packets that a node has sent to NATS.
type counted struct{ packets, bytes float64 }

func packetsOf(nodes []*process) (all []counted) {
	for _, p := range nodes {
		all = append(all, counted{p.metric(packetsOut), p.metric(`pomelod_fleet_bus_bytes_total{direction="out"}`)})
	}
	return all
}

// residents are the nodes' memory, in MB.
func residents(t *testing.T, nodes []*process) (all []float64) {
	t.Helper()
	for _, p := range nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, kb/1024)
	}
	return all
}

// tap sees all packets of a fleet, as NATS carries them.
type tap struct {
	conn *nats.Conn
	mu   sync.Mutex
	sent map[int]map[string][]int // by message and node: the packets that have it, each so many times
}

func newTap(t *testing.T, s *natsServer) *tap {
	t.Helper()
	conn, err := nats.Connect(s.url())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	x := &tap{conn: conn, sent: make(map[int]map[string][]int)}
	if _, err := conn.Subscribe("pomelod.>", x.take); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *tap) take(m *nats.Msg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, to, mailbox := strings.Cut(m.Subject, ".node.")
	times := make(map[int]int)
	for rest, is := m.Data, mailbox; is; {
		var digits []byte
		if _, rest, is = bytes.Cut(rest, []byte("number ")); is {
			digits, _, _ = bytes.Cut(rest, []byte(" at "))
			if number, err := strconv.Atoi(string(digits)); err == nil {
				times[number]++
			}
		}
	}
	for number, n := range times {
		if x.sent[number] == nil {
			x.sent[number] = make(map[string][]int)
		}
		x.sent[number][to] = append(x.sent[number][to], n)
	}
}

// has tells whether each message was seen on its way to each connector.
func (x *tap) has(pushes int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range pushes {
		for c := range manyConnectors {
			if len(x.sent[i][fmt.Sprint("connector-", c+1)]) == 0 {
				return false
			}
		}
	}
	return true
}

// check looks whether each message went to each connector, and to none of them twice in a packet. A link sends again what is not acknowledged soon, so that a message may be in more packets on a busy machine; the least is what one costs.
func (x *tap) check(t *testing.T, pushes int) {
	t.Helper()
	eventually(t, "NATS to have told of each message to each connector", func() bool { return x.has(pushes) }) // the tap may hear of it later than all members
	x.mu.Lock()
	defer x.mu.Unlock()
	var counts []int
	for i := range pushes {
		n := 0
		for c := range manyConnectors {
			to := fmt.Sprint("connector-", c+1)
			list := x.sent[i][to]
			if len(list) == 0 || slices.Max(list) > 1 {
				t.Errorf("message %d is in packets for %s as many times: %v", i, to, list)
			}
			n += len(list)
		}
		counts = append(counts, n)
	}
	t.Logf("packets to connectors, by message: %v", counts)
	if least := slices.Min(counts); least != manyConnectors {
		t.Errorf("a message costs %d packets to %d connectors", least, manyConnectors)
	}
}
