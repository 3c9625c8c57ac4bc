//go:build linux

package abuse

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Witnesses chat in pairs, one by TCP and one by WebSocket, from a process of their own. Several pairs in as many rooms, so that
// every event loop has some.
const (
	witnessEnv  = "POMELOD_ABUSE_WITNESS" // the server's address; makes the test binary the witnesses
	witnessFrom = "127.0.0.1"
	pairs       = 4
	every       = 100 * time.Millisecond // each of them says something, whatever becomes of the last
	lastWords   = 20 * time.Second       // within which everything said has to be heard
	// window is how long the machine may have other things to do, once, without anybody being blamed for it: the p99 is that of all that was said
	// outside the worst window. Whoever makes a server late for longer, or twice, is noticed.
	window = 250 * time.Millisecond
)

// report is what the witnesses saw since the one before.
type report struct {
	Heard    int           // deliveries
	P50, P99 time.Duration // from saying to hearing; P99 without the worst window
	Max      time.Duration // of all
	Machine  time.Duration // as P99, between two sockets of the witnesses' own: what the machine adds, without a server
	Problems []string      // lost, repeated, out of order, refused, disconnected
}

// orLater is r with what was later in another one.
func (r report) orLater(o report) report {
	r.P99, r.Machine = max(r.P99, o.P99), max(r.Machine, o.Machine)
	return r
}

// witness is the handle of a process with witnesses.
type witness struct {
	t     testing.TB
	cmd   *exec.Cmd
	ask   io.WriteCloser
	tells *bufio.Reader
	ended bool
}

// watch starts the witnesses of a server and waits until all are in their rooms.
func watch(t testing.TB, s *server) *witness {
	t.Helper()
	w := &witness{t: t, cmd: exec.Command(os.Args[0])}
	w.cmd.Env = append(os.Environ(), witnessEnv+"="+s.addr)
	w.cmd.Stderr = os.Stderr
	ask, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	tells, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.ask, w.tells = ask, bufio.NewReader(tells)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	prefer(w.cmd.Process.Pid)
	t.Cleanup(w.end)
	if r := w.report(""); len(r.Problems) > 0 {
		t.Fatalf("the witnesses could not begin: %q; the server said:\n%s", r.Problems, s.said())
	}
	prefer(w.cmd.Process.Pid)
	return w
}

// end ends the process, which ends with its input.
func (w *witness) end() {
	if w.ended {
		return
	}
	w.ended = true
	w.ask.Close()
	_ = w.cmd.Wait()
}

// phase ends what is being measured and begins the next.
func (w *witness) phase() report { w.t.Helper(); return w.report("phase\n") }

// last has the witnesses fall silent, wait for what is still on its way, and compare what the two of each pair heard.
func (w *witness) last() report { w.t.Helper(); return w.report("last\n") }

func (w *witness) report(ask string) (r report) {
	w.t.Helper()
	if _, err := io.WriteString(w.ask, ask); err != nil {
		w.t.Fatal("the witnesses have ended:", err)
	}
	line, err := w.tells.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		w.t.Fatal("the witnesses have ended:", err)
	}
	return r
}

// runWitnesses is the main function of the witnesses' process.
func runWitnesses(addr string) {
	v := &testimony{}
	out := json.NewEncoder(os.Stdout)
	var members []*member
	for i := range pairs {
		room := new(conversation)
		for _, ws := range []bool{false, true} {
			m, err := newMember(v, room, addr, fmt.Sprintf("witness%d%v", i, ws), fmt.Sprintf("witnesses%d", i), ws)
			if err != nil {
				v.problem("%v", err)
				_ = out.Encode(v.report())
				return
			}
			members = append(members, m)
		}
	}
	if err := v.watchMachine(); err != nil {
		v.problem("%v", err)
	}
	for _, m := range members {
		go m.hear()
		go m.talk()
	}
	_ = out.Encode(v.report())
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		if asked.Text() == "last" {
			for _, m := range members {
				m.fallSilent()
			}
			end := time.Now().Add(lastWords)
			for _, m := range members {
				m.compare(end)
			}
		}
		_ = out.Encode(v.report())
	}
}

// delay is how long something took that began at a time.
type delay struct {
	began time.Time
	took  time.Duration
}

func since(began time.Time) delay { return delay{began, time.Since(began)} }

// withoutWorst is the p99 of what began outside the window that has the highest.
func withoutWorst(all []delay) time.Duration {
	windows := make(map[int64][]time.Duration)
	for _, d := range all {
		at := d.began.UnixNano() / int64(window)
		windows[at] = append(windows[at], d.took)
	}
	worst, highest := int64(0), time.Duration(-1)
	for at, took := range windows {
		if p99 := quantile(took, 0.99); p99 > highest && len(windows) > 2 {
			worst, highest = at, p99
		}
	}
	delete(windows, worst)
	return quantile(slices.Concat(slices.Collect(maps.Values(windows))...), 0.99)
}

// testimony is what all witnesses saw since the last report.
type testimony struct {
	mu       sync.Mutex
	took     []delay // of deliveries
	machine  []delay
	problems []string
}

func (v *testimony) problem(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.problems) < 20 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

func (v *testimony) report() report {
	v.mu.Lock()
	defer v.mu.Unlock()
	took := make([]time.Duration, len(v.took))
	for i, d := range v.took {
		took[i] = d.took
	}
	r := report{Heard: len(took), P50: quantile(took, 0.5), P99: withoutWorst(v.took), Max: quantile(took, 1),
		Machine: withoutWorst(v.machine), Problems: v.problems}
	v.took, v.machine, v.problems = nil, nil, nil
	return r
}

// quantile sorts; 0 of nothing.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, int(q*float64(len(took))))]
}

// watchMachine measures a pair of sockets with nobody but an echo at the other end, as often as the witnesses speak.
func (v *testimony) watchMachine() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 1); ; time.Sleep(every / (2 * pairs)) {
			began := time.Now()
			if _, err := conn.Write(b); err != nil {
				return
			}
			if _, err := conn.Read(b); err != nil {
				return
			}
			v.mu.Lock()
			v.machine = append(v.machine, since(began))
			v.mu.Unlock()
		}
	}()
	return nil
}

// conversation is what the members of a pair say.
type conversation struct {
	mu    sync.Mutex
	said  int
	heard [][]string // of each member, in order
}

// member is one witness.
type member struct {
	*peer
	v       *testimony
	room    *conversation
	index   int // in the conversation
	name    string
	silent  chan struct{} // closed: say nothing more
	stopped chan struct{} // closed by talk
	told    bool          // of the end of its connection; under v.mu
}

func newMember(v *testimony, room *conversation, addr, name, rid string, ws bool) (*member, error) {
	p, err := dial(witnessFrom, addr)
	if err == nil && ws {
		err = p.upgrade()
	}
	if err == nil {
		err = p.login()
	}
	var answer string
	if err == nil {
		answer, err = p.enter(name, rid)
	}
	if err == nil && !strings.Contains(answer, strconv.Quote(name)) {
		err = errors.New(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.late = time.Hour // the test says when it is over
	room.heard = append(room.heard, nil)
	return &member{peer: p, v: v, room: room, index: len(room.heard) - 1, name: name, silent: make(chan struct{}), stopped: make(chan struct{})}, nil
}

// talk says something at every tick, answered or not.
func (m *member) talk() {
	defer close(m.stopped)
	for tick := time.NewTicker(every); ; {
		select {
		case <-m.silent:
			return
		case <-tick.C:
		}
		m.room.mu.Lock()
		m.room.said++
		text := fmt.Sprintf("%s %d", m.name, m.room.said)
		m.room.mu.Unlock()
		m.id++
		body := fmt.Sprintf(`{"content":"%s %d","target":"*"}`, text, time.Now().UnixNano())
		if err := m.send(message(m.id, routeSend, body)); err != nil {
			m.lost(err)
			return
		}
	}
}

// lost tells once that the connection has ended.
func (m *member) lost(err error) {
	m.v.mu.Lock()
	told := m.told
	m.told = true
	m.v.mu.Unlock()
	if !told {
		m.v.problem("%s was disconnected: %v", m.name, err)
	}
}

// hear takes down what comes.
func (m *member) hear() {
	for {
		p, err := m.pkg()
		if err != nil {
			m.lost(err)
			return
		}
		switch p.Type {
		case codec.PackageHeartbeat: // what it says is life enough; an answer would be answered at once, and so on
		case codec.PackageKick:
			m.v.problem("%s was kicked: %s", m.name, p.Body)
		case codec.PackageData:
			m.take(p.Body)
		}
	}
}

func (m *member) take(b []byte) {
	got, err := codec.ParseMessage(b)
	if err != nil {
		m.v.problem("%s got no message: %q", m.name, b)
		return
	}
	if got.Type == codec.MessageResponse {
		if string(got.Body) != `{}` {
			m.v.problem("%s was refused: %s", m.name, got.Body)
		}
		return
	}
	if string(got.Route) != "onChat" { // onAdd, onLeave
		if !strings.Contains(string(got.Body), `"witness`) {
			m.v.problem("%s got %s: %.100s", m.name, got.Route, got.Body)
		}
		return
	}
	var chat struct{ Msg, From string }
	if err := json.Unmarshal(got.Body, &chat); err != nil {
		m.v.problem("%s got %.100q", m.name, got.Body)
		return
	}
	words := strings.Fields(chat.Msg)
	if len(words) != 3 || words[0] != chat.From {
		m.v.problem("%s heard of %s: %.100q", m.name, chat.From, chat.Msg)
		return
	}
	at, _ := strconv.ParseInt(words[2], 10, 64)
	m.v.mu.Lock()
	m.v.took = append(m.v.took, since(time.Unix(0, at)))
	m.v.mu.Unlock()
	m.room.mu.Lock()
	m.room.heard[m.index] = append(m.room.heard[m.index], words[0]+" "+words[1])
	m.room.mu.Unlock()
}

// fallSilent stops talking.
func (m *member) fallSilent() {
	close(m.silent)
	<-m.stopped
}

// compare waits for the last words until end and tells what this member did not hear, or in another order than the first of its pair.
func (m *member) compare(end time.Time) {
	c := m.room
	var heard, first []string
	var said int
	for ; time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		heard, first, said = slices.Clone(c.heard[m.index]), slices.Clone(c.heard[0]), c.said
		c.mu.Unlock()
		if len(heard) >= said && len(first) >= said {
			break
		}
	}
	if said == 0 {
		m.v.problem("%s said nothing", m.name)
	}
	count := make(map[string]int)
	last := make(map[string]int) // number of what each of the pair said last: what one says comes in its order
	for _, text := range heard {
		count[text]++
		from, number, _ := strings.Cut(text, " ")
		n, _ := strconv.Atoi(number)
		if n <= last[from] {
			m.v.problem("%s heard %q after %d", m.name, text, last[from])
		}
		last[from] = n
	}
	if len(count) != said {
		m.v.problem("%s heard %d of %d messages", m.name, len(count), said)
	}
	if len(heard) != len(count) {
		m.v.problem("%s heard %d messages twice", m.name, len(heard)-len(count))
	}
	if !slices.Equal(heard, first) {
		m.v.problem("%s heard in another order than the other of its pair", m.name)
	}
}
