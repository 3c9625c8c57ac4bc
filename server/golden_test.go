//go:build linux

package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// project is how the servers of a transcript were set up.
type project struct {
	file       string
	gate       int // its port in the transcript
	connectors int // port of the first; the others follow
	dict       bool
	lines      int // of the server's, so that a file cut short is noticed
}

// All connectors had heartbeats of 3 seconds; protobuf came with the dictionary, on the gate too.
var projects = []project{
	{"hybrid-ws-errors.jsonl", 23014, 23050, true, 137},
	{"hybrid-ws-dict-proto.jsonl", 23014, 23050, true, 52},
	{"hybrid-ws-npm-client.jsonl", 23014, 23050, true, 48},
	{"hybrid-ws-plain.jsonl", 11014, 11050, false, 46},
	{"hybrid-tcp.jsonl", 23014, 23050, true, 45},
}

const goldenConnectors = 3

// paced are stretches in which somebody is silent on purpose: nothing is sent before its time, counted from the first line.
var paced = []struct {
	file        string
	first, last int
	once        bool // in one way of replaying, to save time
}{
	{"hybrid-tcp.jsonl", 59, 75, false},        // alice has sent her last heartbeat, bob goes on
	{"hybrid-ws-errors.jsonl", 359, 366, true}, // no ack for 8 seconds
	{"hybrid-ws-errors.jsonl", 384, 390, true}, // requests each 1.5 seconds, no heartbeats
}

// silence is a time that the server must keep: line comes so long after since. Our ticks are seconds.
type silence struct {
	file        string
	line, since int
	min, max    time.Duration
}

// silences are ends by heartbeat timeout: of seven seconds as loops count them (behind).
var silences = []silence{
	{"hybrid-tcp.jsonl", 74, 59, silenceMin, silenceMax},
	{"hybrid-ws-errors.jsonl", 374, 372, silenceMin, silenceMax},
}

const (
	silenceMin = 7*time.Second - behind
	silenceMax = 7*time.Second + busy
)

// difference is a line in which pomelod differs from the original, and the Rule of protocol.md by which it does.
type difference struct {
	file string
	line int
	rule string
	// instead is what comes in the place of a line of the server's, nothing if empty, or as well after a line of a client's.
	instead []string
	who     string // the connection to which it comes, when that is not the line's own: it then comes as well
	after   int    // the line itself comes after that one
	since   int    // instead comes a heartbeat timeout after that line
}

// The rules.
const (
	pushFirst   = "§9.4: push first, then answer, both immediately"
	entryOrder  = "§9.3: any stable order is fine; entry order recommended"
	ownOnAdd    = "§9.3: never send a joiner its own onAdd"
	leftAtOnce  = "§9.4, §9.6: pushes go out immediately; the original's follow 40 ms and more later"
	leftTold    = "§9.6: any end of the connection pushes onLeave to the remaining members; the original had not come to it yet"
	oneAnswer   = "§1: answer every request exactly once, {\"code\":500} for every error"
	notClosed   = "§1: never close a connection because of a bad route"
	severalIn   = "§2.2: accept several complete packages in one frame"
	badNames    = "§9.3: missing, empty or non-string username or rid -> {\"code\":500,\"error\":true}, connection unaffected"
	noContent   = "§9.4, §3.2: content missing -> \"\""
	numberAsked = "§9.4, §3.2: protobuf: convert content to a string"
	noGhosts    = "§9.5, §9.7: enter the new room, only then leave the old one; no ghosts (the original's are from earlier in its life)"
	newName     = "§9.5: same room with a new name: onLeave before onAdd"
	newRoom     = "§9.5: enter the new room, onLeave in the old one"
	dataIsLife  = "§2.7: treating data as liveness as well is a harmless improvement"
	plainHTTP   = "§2.1: answer as the table of §8 says, and close"
	gateIsUp    = "§2.1: WebSocket upgrade is accepted; the original's gate was not up"
)

const notFound = "HTTP/1.1 404 Not Found | connection: close | content-length: 69 | content-type: text/plain; charset=utf-8 | nothing here; a Pomelo client connects by WebSocket, socket.io or TCP"

var differences = []difference{
	{file: "hybrid-tcp.jsonl", line: 22, rule: pushFirst, after: 24},
	{file: "hybrid-tcp.jsonl", line: 28, rule: pushFirst, after: 30},
	{file: "hybrid-tcp.jsonl", line: 29, rule: pushFirst, after: 31},
	{file: "hybrid-tcp.jsonl", line: 77, rule: leftAtOnce, after: 74},
	{file: "hybrid-ws-dict-proto.jsonl", line: 55, rule: entryOrder, instead: []string{`response 2 {"users":["alice","bob","王五"]}`}},
	{file: "hybrid-ws-dict-proto.jsonl", line: 61, rule: pushFirst, after: 64},
	{file: "hybrid-ws-dict-proto.jsonl", line: 73, rule: pushFirst, after: 75},
	{file: "hybrid-ws-dict-proto.jsonl", line: 117, rule: pushFirst, after: 119},
	{file: "hybrid-ws-npm-client.jsonl", line: 55, rule: entryOrder, instead: []string{`response 2 {"users":["alice","bob","王五"]}`}},
	{file: "hybrid-ws-npm-client.jsonl", line: 61, rule: pushFirst, after: 64},
	{file: "hybrid-ws-npm-client.jsonl", line: 73, rule: pushFirst, after: 75},
	{file: "hybrid-ws-npm-client.jsonl", line: 105, rule: pushFirst, after: 107},
	{file: "hybrid-ws-plain.jsonl", line: 5, rule: gateIsUp, instead: []string{`HTTP/1.1 101 Switching Protocols | connection: Upgrade | sec-websocket-accept: ZofaqXZkP30JLjrKKkGPer8n/es= | upgrade: websocket`}},
	{file: "hybrid-ws-plain.jsonl", line: 45, rule: entryOrder, instead: []string{`response 2 {"users":["alice","bob","王五"]}`}},
	{file: "hybrid-ws-plain.jsonl", line: 51, rule: pushFirst, after: 53},
	{file: "hybrid-ws-plain.jsonl", line: 63, rule: pushFirst, after: 65},
	{file: "hybrid-ws-plain.jsonl", line: 101, rule: pushFirst, after: 103},
	{file: "hybrid-ws-errors.jsonl", line: 97, rule: severalIn, instead: []string{`heartbeat`, `heartbeat`}},
	{file: "hybrid-ws-errors.jsonl", line: 98, rule: severalIn, instead: []string{`close 1000 ""`}},
	{file: "hybrid-ws-errors.jsonl", line: 150, rule: oneAnswer, instead: []string{`response 4 {"code":500}`}},
	{file: "hybrid-ws-errors.jsonl", line: 158, rule: oneAnswer, instead: []string{`response 7 {"code":500}`}},
	{file: "hybrid-ws-errors.jsonl", line: 170, rule: notClosed, instead: []string{`response 11 {"code":500}`}},
	{file: "hybrid-ws-errors.jsonl", line: 171, rule: notClosed},
	{file: "hybrid-ws-errors.jsonl", line: 172, rule: notClosed, instead: []string{`close 1000 ""`}},
	{file: "hybrid-ws-errors.jsonl", line: 187, rule: badNames, instead: []string{`response 3 {"code":500,"error":true}`}},
	{file: "hybrid-ws-errors.jsonl", line: 188, rule: badNames, instead: []string{`heartbeat`}},
	{file: "hybrid-ws-errors.jsonl", line: 219, rule: pushFirst, after: 220},
	{file: "hybrid-ws-errors.jsonl", line: 220, rule: noContent, instead: []string{`push onChat protobuf 1:"" 2:"late" 3:"*"`}},
	{file: "hybrid-ws-errors.jsonl", line: 223, rule: numberAsked, instead: []string{`push onChat protobuf 1:"5" 2:"late" 3:"*"`, `response 6 {}`}},
	{file: "hybrid-ws-errors.jsonl", line: 230, rule: pushFirst, after: 232},
	{file: "hybrid-ws-errors.jsonl", line: 231, rule: pushFirst, after: 233},
	{file: "hybrid-ws-errors.jsonl", line: 262, rule: badNames, instead: []string{`response 1 {"code":500,"error":true}`}},
	{file: "hybrid-ws-errors.jsonl", line: 273, rule: badNames, instead: []string{`response 1 {"code":500,"error":true}`}},
	{file: "hybrid-ws-errors.jsonl", line: 275, rule: badNames, instead: []string{`heartbeat`}},
	{file: "hybrid-ws-errors.jsonl", line: 286, rule: noGhosts, instead: []string{`response 1 {"users":["first"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 287, rule: ownOnAdd},
	{file: "hybrid-ws-errors.jsonl", line: 296, rule: noGhosts, instead: []string{`response 1 {"users":["first","watch"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 298, rule: noGhosts},
	{file: "hybrid-ws-errors.jsonl", line: 300, rule: newName, instead: []string{`response 2 {"users":["watch","second"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 301, rule: ownOnAdd},
	{file: "hybrid-ws-errors.jsonl", line: 302, rule: ownOnAdd},
	{file: "hybrid-ws-errors.jsonl", line: 303, rule: newName, instead: []string{`push onLeave {"route":"onLeave","user":"first"}`, `push onAdd {"route":"onAdd","user":"second"}`}},
	{file: "hybrid-ws-errors.jsonl", line: 306, rule: pushFirst, after: 307},
	{file: "hybrid-ws-errors.jsonl", line: 307, rule: newName, instead: []string{`push onChat protobuf 1:"who am i" 2:"second" 3:"*"`}},
	{file: "hybrid-ws-errors.jsonl", line: 308, rule: noGhosts},
	{file: "hybrid-ws-errors.jsonl", line: 309, rule: newName, instead: []string{`push onChat protobuf 1:"who am i" 2:"second" 3:"*"`}},
	{file: "hybrid-ws-errors.jsonl", line: 312, rule: newName, instead: []string{`response 4 {"users":["watch","first"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 312, rule: newName, instead: []string{`push onLeave {"route":"onLeave","user":"second"}`, `push onAdd {"route":"onAdd","user":"first"}`}, who: "watcher/1:23050"},
	{file: "hybrid-ws-errors.jsonl", line: 315, rule: newRoom, instead: []string{`response 5 {"users":["third"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 315, rule: newRoom, instead: []string{`push onLeave {"route":"onLeave","user":"first"}`}, who: "watcher/1:23050"},
	{file: "hybrid-ws-errors.jsonl", line: 319, rule: newRoom, instead: []string{`push onChat protobuf 1:"where am i" 2:"third" 3:"*"`, `response 6 {}`}},
	{file: "hybrid-ws-errors.jsonl", line: 335, rule: noGhosts, instead: []string{`response 1 {"users":["watch","zed"]}`}},
	{file: "hybrid-ws-errors.jsonl", line: 338, rule: leftTold, instead: []string{`push onLeave {"route":"onLeave","user":"zed"}`}, who: "watcher/1:23050"},
	{file: "hybrid-ws-errors.jsonl", line: 392, rule: dataIsLife, instead: []string{`close 1000 ""`}, since: 390},
	{file: "hybrid-ws-errors.jsonl", line: 398, rule: plainHTTP, instead: []string{notFound, `end`}},
	{file: "hybrid-ws-errors.jsonl", line: 400, rule: plainHTTP, instead: []string{notFound, `end`}},
}

// TestGolden replays what clients of the original servers sent and expects what those answered, but for differences.
//
// What a client sent is sent as soon as everything has come that it had received before, and so is what all others had.
// Each connection's items are compared decoded, in order; the order between connections is not. Differing in the open:
// ports of this run are put back to the recorded ones, masking keys and the Host header are ours. Nothing else is random:
// Sec-WebSocket-Accept belongs to the recorded key, and the versions of dictionary and protobuf are in the handshakes.
func TestGolden(t *testing.T) {
	t.Parallel()
	var all []*replay
	for _, p := range projects {
		all = append(all, newReplay(t, &p, "as recorded", "1", 0), newReplay(t, &p, "byte by byte", "3", 1),
			newReplay(t, &p, "over TLS", "2", 0), newReplay(t, &p, "over TLS, a record for each byte", "1", 1))
	}
	for _, r := range all { // at once, whatever -parallel says: they wait, most of the time
		go func() { r.done <- r.run() }()
	}
	for _, r := range all {
		t.Run(r.p.file+"/"+r.name, func(t *testing.T) {
			if err := <-r.done; err != nil {
				t.Fatalf("%s:%v", r.p.file, err)
			}
			r.account(t)
		})
	}
	for _, d := range differences {
		if d.rule == "" || d.after != 0 && (d.instead != nil || d.who != "") || d.who != "" && d.instead == nil {
			t.Errorf("%s:%d: without a rule, or of two minds", d.file, d.line)
		}
		if !slices.ContainsFunc(projects, func(p project) bool { return p.file == d.file }) {
			t.Errorf("%s:%d: no such transcript", d.file, d.line)
		}
	}
}

// configure writes the config directory of a project.
func (p *project) configure(t *testing.T) string {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	features := ""
	if p.dict {
		write("dictionary.json", `{}`) // the handlers' own routes only
		write("clientProtos.json", `{}`)
		write("serverProtos.json", `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`)
		features = `,"useDict":true,"useProtobuf":true`
	}
	var connectors, chats []string
	for i := range goldenConnectors {
		connectors = append(connectors, fmt.Sprintf(`{"id":"connector-server-%d","host":"127.0.0.1","port":%d,"clientPort":0,"frontend":true,"heartbeat":3%s}`, i, 4050+i, features))
		chats = append(chats, fmt.Sprintf(`{"id":"chat-server-%d","host":"127.0.0.1","port":%d}`, i, 6050+i))
	}
	write("servers.json", fmt.Sprintf(`{"development":{"connector":[%s],"chat":[%s],"gate":[{"id":"gate-server-0","host":"127.0.0.1","clientPort":0,"frontend":true%s}]}}`,
		strings.Join(connectors, ","), strings.Join(chats, ","), strings.ReplaceAll(features, `,"useDict":true`, "")))
	return dir
}

// replay is a transcript on its way.
type replay struct {
	p       *project
	name    string
	step    int // bytes in a write; 0: as recorded
	lines   []line
	actions []action
	silent  map[int]bool // the server's lines that pomelod does not send
	srv     *running
	renames *strings.Replacer // this run's ports to the recorded ones
	done    chan error

	// Owned by run until done.
	peers  map[string]*peer  // by who, conn and port
	at     map[int]time.Time // when a line was sent or came
	millis map[int]int       // the same in the transcript
	came   map[int]int       // items compared, by line
}

// action is one thing to do: send lines, or expect an item.
type action struct {
	send   []*line
	expect string
	who    string // key of its connection
	line   int
	since  silence // the time it keeps
	rule   string  // of the difference
}

func (l *line) key() string { return fmt.Sprintf("%s/%d:%d", l.Who, l.Conn, l.Port) }

func newReplay(t *testing.T, p *project, name, loops string, step int) *replay {
	r := &replay{
		p: p, name: name, step: step, lines: readTranscript(t, p.file), done: make(chan error, 1),
		peers: map[string]*peer{}, at: map[int]time.Time{}, millis: map[int]int{}, came: map[int]int{},
	}
	args := []string{"-config", p.configure(t), "-bind", "127.0.0.1", "-loops", loops, "-page=false"}
	if strings.Contains(name, "TLS") {
		r.srv = startSecured(t, args...)
	} else {
		r.srv = start(t, args...)
	}
	r.actions, r.silent = plans(t, p.file, r.lines, differences, silences, (*line).says)
	for i := range r.lines {
		r.millis[r.lines[i].N] = r.lines[i].Millis
	}
	var ports []string
	for i := range goldenConnectors {
		ports = append(ports, fmt.Sprintf(`"port":%d}`, r.srv.addr(fmt.Sprintf("connector-server-%d", i)).Port), fmt.Sprintf(`"port":%d}`, p.connectors+i))
	}
	r.renames = strings.NewReplacer(ports...)
	return r
}

// run does everything in its order. Errors begin with the line.
func (r *replay) run() error {
	defer func() {
		for _, c := range r.peers {
			c.conn.Close()
		}
	}()
	for i := range r.actions {
		a := &r.actions[i]
		do := r.expect
		if a.send != nil {
			do = r.send
		}
		if err := do(a); err != nil {
			return fmt.Errorf("%d: %w", a.line, err)
		}
	}
	for key, c := range r.peers {
		if err := c.finish(); err != nil {
			return fmt.Errorf("end: %s: %w", key, err)
		}
	}
	return nil
}

// account fails when a line of the server's was left out.
func (r *replay) account(t *testing.T) {
	servers, items := 0, 0
	for i := range r.lines {
		l := &r.lines[i]
		if l.Dir != "s2c" {
			continue
		}
		servers++
		if r.came[l.N] == 0 && !r.silent[l.N] {
			t.Errorf("%s:%d was not compared", r.p.file, l.N)
		}
	}
	for _, n := range r.came {
		items += n
	}
	if servers != r.p.lines {
		t.Errorf("%s has %d lines of the server, want %d", r.p.file, servers, r.p.lines)
	}
	t.Logf("%d lines of the server, %d of them never come; %d items compared", servers, len(r.silent), items)
}

// plans puts a transcript and its differences into one list of actions. silent are the server's lines that pomelod does not send.
// says tells what a line of the server's says, and to whom: the key of its connection, as a rule.
func plans(t *testing.T, file string, lines []line, differences []difference, silences []silence, says func(*line) (string, []string, error)) (actions []action, silent map[int]bool) {
	silent = map[int]bool{}
	used := map[int]bool{}
	groups := map[int][]action{} // by line
	moved := map[int][]int{}     // lines that come after a line
	stays := map[int]bool{}
	for i := range lines {
		l := &lines[i]
		stays[l.N] = true
		who := l.key()
		if l.Dir == "c2s" {
			groups[l.N] = []action{{send: []*line{l}, line: l.N}}
		} else {
			on, items, err := says(l)
			if err != nil {
				t.Fatalf("%s:%d: %v", file, l.N, err)
			}
			who = on
			for _, item := range items {
				groups[l.N] = append(groups[l.N], action{expect: item, who: who, line: l.N})
			}
		}
		for k, d := range differences {
			if d.file != file || d.line != l.N {
				continue
			}
			used[k] = true
			if d.after != 0 {
				moved[d.after] = append(moved[d.after], l.N)
				stays[l.N] = false
				continue
			}
			if l.Dir == "c2s" && len(d.instead) == 0 {
				t.Errorf("%s:%d: nothing instead of what a client sends", d.file, d.line)
			}
			to := d.who
			if to == "" {
				to = who
				if l.Dir == "s2c" {
					groups[l.N] = nil
					if len(d.instead) == 0 {
						silent[l.N] = true
					}
				}
			}
			for _, item := range d.instead {
				groups[l.N] = append(groups[l.N], action{expect: item, who: to, line: l.N, rule: d.rule, since: silence{since: d.since, min: silenceMin, max: silenceMax}})
			}
		}
		for _, s := range silences {
			if s.file == file && s.line == l.N {
				groups[l.N][0].since = s
			}
		}
	}
	for k, d := range differences {
		if d.file == file && !used[k] {
			t.Errorf("%s:%d: this difference is of no use", d.file, d.line)
		}
	}
	for _, l := range lines {
		if stays[l.N] {
			actions = append(actions, groups[l.N]...)
		}
		for _, n := range moved[l.N] {
			actions = append(actions, groups[n]...)
		}
	}
	// What was sent in the same millisecond was likely one write; over TCP the notes say so.
	var merged []action
	for _, a := range actions {
		if k := len(merged) - 1; k >= 0 && a.send != nil && merged[k].send != nil {
			if last := merged[k].send[len(merged[k].send)-1]; last.together(a.send[0]) {
				merged[k].send = append(merged[k].send, a.send...)
				continue
			}
		}
		merged = append(merged, a)
	}
	return merged, silent
}

// together tells whether two lines of a client are sent by one write.
func (l *line) together(next *line) bool {
	return l.bytes() && next.bytes() && l.key() == next.key() && (l.Millis == next.Millis || next.Kind == "continuation")
}

func (l *line) bytes() bool { return l.Kind != "connect" && l.Kind != "closed" }

// expect takes the next item of a connection and compares it.
func (r *replay) expect(a *action) error {
	c := r.peers[a.who]
	if c == nil {
		return fmt.Errorf("%s has no connection", a.who)
	}
	got := r.renames.Replace(c.next())
	r.at[a.line] = time.Now()
	if got != a.expect {
		return fmt.Errorf("%s got\n     %s\nwant %s %s", a.who, got, a.expect, a.rule)
	}
	r.came[a.line]++
	return a.since.check(r.at[a.line].Sub(r.at[a.since.since]))
}

// check tells whether the time was kept.
func (s *silence) check(took time.Duration) error {
	if s.since != 0 && (took < s.min || took > s.max) {
		return fmt.Errorf("came %v after line %d, want %v to %v", took, s.since, s.min, s.max)
	}
	return nil
}

// send does what a client did.
func (r *replay) send(a *action) error {
	for _, s := range paced {
		if s.file == r.p.file && s.first < a.line && a.line <= s.last && !(s.once && r.step > 0) {
			time.Sleep(time.Until(r.at[s.first].Add(time.Duration(r.millis[a.line]-r.millis[s.first]) * time.Millisecond)))
		}
	}
	key := a.send[0].key()
	c := r.peers[key]
	var out []byte
	for i, l := range a.send {
		r.at[l.N] = time.Now()
		switch l.Kind {
		case "connect":
			if c != nil { // the server has ended it, as was seen
				if err := c.finish(); err != nil || !c.closing {
					return fmt.Errorf("%s is connected already: %v", key, err)
				}
			}
			c, err := r.srv.dialPeer(r.server(l.Port))
			if err != nil {
				return err
			}
			c.step = r.step
			r.peers[key] = c
		case "closed":
			delete(r.peers, key)
			return c.finish()
		case "upgrade-request", "request":
			out = fmt.Appendf(out, "%s\r\nHost: 127.0.0.1:%d\r\n", l.Line, l.Port)
			for _, kv := range l.Headers {
				out = fmt.Appendf(out, "%s: %s\r\n", kv[0], kv[1])
			}
			out = append(out, "\r\n"...)
		case "package", "raw":
			out = append(out, l.payload()...)
		case "text", "binary", "continuation", "ping", "close":
			b0 := map[string]byte{"continuation": 0x80, "text": 0x81, "binary": 0x82, "close": 0x88, "ping": 0x89}[l.Kind]
			if i+1 < len(a.send) && a.send[i+1].Kind == "continuation" {
				b0 &^= 0x80
			}
			out = append(out, frame(b0, l.payload())...)
		default:
			return fmt.Errorf("do not know how to send a %q", l.Kind)
		}
	}
	if len(out) > 0 {
		return c.write(out)
	}
	return nil
}

// server is the id of the server that had a port.
func (r *replay) server(port int) string {
	if port == r.p.gate {
		return "gate-server-0"
	}
	return fmt.Sprintf("connector-server-%d", port-r.p.connectors)
}
