//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sioTranscript is a transcript of a server of socket.io's, and how pomelod runs to be compared with it.
type sioTranscript struct {
	project
	ping, poll time.Duration // heartbeat and poll durations; 0: 25 and 20 seconds, and nobody waits for that
	timeout    time.Duration // of heartbeats; 0: 60 and, for Engine.IO 4, 20 seconds
	echo       bool          // it is of an echo server, whose users have nothing to do with each other: each one is replayed for itself
	oneEach    bool          // each session has one connection, so none can be on the wrong loop
	others     []string      // who is in room18 already, at connectors 0, 1 and so on: another transcript was recorded at the same time
}

var sioTranscripts = []sioTranscript{
	{project: project{"sio1-websocket.jsonl", 13014, 13050, false, 62}, oneEach: true},
	{project: project{"sio1-polling.jsonl", 13014, 13050, false, 127}},
	{project: project{"sio1-upgrade.jsonl", 13014, 13050, false, 56}, others: []string{"alice", "bob", "王五"}},
	{project: project{"sio2-upgrade.jsonl", 13014, 13050, false, 52}, others: []string{"alice", "bob", "王五"}},
	{project: project{"sio1-errors.jsonl", 13014, 13050, false, 68}, oneEach: true},
	{project: project{"sio1-http.jsonl", 13014, 13050, false, 50}},
	{project: project{"sio09-websocket.jsonl", 27014, 27050, false, 47}, ping: 3 * time.Second},
	{project: project{"sio09-xhr-polling.jsonl", 27014, 27050, false, 57}, poll: 3 * time.Second},
	{project: project{"ref-socketio-0.9.17.jsonl", 0, 8909, false, 80}, echo: true, ping: 3 * time.Second, poll: 4 * time.Second, timeout: 6 * time.Second},
	{project: project{"ref-socketio-2.jsonl", 0, 8902, false, 79}, echo: true, ping: 2 * time.Second, timeout: 3 * time.Second},
	{project: project{"ref-socketio-4.jsonl", 0, 8904, false, 107}, echo: true, ping: 2 * time.Second, timeout: 3 * time.Second},
}

// edit is a difference inside what some lines say, the same in all of them.
type edit struct {
	file, lines, rule, old, now string
}

// also is what a client does beside what the transcript tells, after a line.
type also struct {
	file  string
	after int
	why   string
	lines []string
}

// TestGoldenSocketIO replays what clients of the original socket.io servers sent and expects what those answered, but for
// sioDifferences and sioEdits. Nothing but session ids is taken for the same when it is not: those belong to the run, and must be
// the same all through it. Of HTTP answers the status, all headers but those of additions and unheard, and the body are
// compared.
func TestGoldenSocketIO(t *testing.T) {
	t.Parallel()
	type run struct {
		tr      *sioTranscript
		name    string
		streams []*sioReplay
		done    chan error
	}
	var all []*run
	for i := range sioTranscripts {
		tr := &sioTranscripts[i]
		for _, way := range []struct {
			name, loops string
			step        int
		}{{"as recorded", "1", 0}, {"byte by byte", "3", 1}} {
			r := &run{tr: tr, name: way.name, streams: newSIOReplay(t, tr, way.loops, way.step)}
			r.done = make(chan error, len(r.streams))
			all = append(all, r)
		}
	}
	for _, r := range all { // at once, as in TestGolden
		for _, s := range r.streams {
			go func() { r.done <- s.run() }()
		}
	}
	for _, r := range all {
		t.Run(r.tr.file+"/"+r.name, func(t *testing.T) {
			for range r.streams {
				if err := <-r.done; err != nil {
					t.Errorf("%s:%v", r.tr.file, err)
				}
			}
			if !t.Failed() {
				accountSIO(t, r.tr, r.streams)
			}
		})
	}
	for _, d := range sioDifferences {
		if d.rule == "" || !slices.ContainsFunc(sioTranscripts, func(tr sioTranscript) bool { return tr.file == d.file }) {
			t.Errorf("%s:%d: without a rule, or no such transcript", d.file, d.line)
		}
	}
}

// newSIOReplay starts a server and makes what is to be done with it: one list of actions, or one for each user.
func newSIOReplay(t *testing.T, tr *sioTranscript, loops string, step int) (streams []*sioReplay) {
	lines := withAlso(t, tr.file, readTranscript(t, tr.file))
	pointers := make([]*line, len(lines))
	for i := range lines {
		pointers[i] = &lines[i]
	}
	b := readBook(pointers)
	if tr.echo {
		e := echoes{asked: map[string][]string{}, ids: map[string]int{}}
		if err := e.rewrite(pointers, b); err != nil {
			t.Fatal(err)
		}
	}
	used := map[int]int{}
	actions, silent := plans(t, tr.file, lines, sioDifferences, sioSilences, func(l *line) (string, []string, error) {
		who, items, err := b.says(l)
		for i, e := range sioEdits {
			if e.file == tr.file && hasLine(e.lines, l.N) {
				used[i]++
				if err := e.apply(b.inquiries[l.N], items); err != nil {
					return "", nil, err
				}
			}
		}
		cookieOnce(b.inquiries[l.N], items)
		return who, items, err
	})
	for i, e := range sioEdits {
		if e.file == tr.file && used[i] != len(strings.Fields(e.lines)) || e.rule == "" {
			t.Errorf("%s:%s: this difference is of no use, or without a rule", e.file, e.lines)
		}
	}
	srv := &sioServer{running: tr.start(t, loops)}
	stream := func(actions []action) {
		streams = append(streams, &sioReplay{
			tr: tr, step: step, book: b, actions: actions, srv: srv, silent: silent, lines: lines, ports: tr.ports(srv.running),
			conns: map[string]*sioConn{}, fetchers: map[string]*fetcher{}, sent: map[string]string{}, got: map[string]string{},
			at: map[int]time.Time{}, came: map[int]int{}, told: map[string]int{},
		})
	}
	if !tr.echo {
		stream(actions)
		return streams
	}
	users := map[int]string{}
	for i := range lines {
		users[lines[i].N] = lines[i].Who
	}
	byUser := map[string][]action{}
	for _, a := range actions {
		byUser[users[a.line]] = append(byUser[users[a.line]], a)
	}
	for _, who := range sortedKeys(byUser) {
		stream(byUser[who])
	}
	return streams
}

// apply changes what a line says.
func (e *edit) apply(x *inquiry, items []string) error {
	changed := false
	change := func(s string) string {
		now := strings.ReplaceAll(s, e.old, e.now)
		changed = changed || now != s
		return now
	}
	for i := range items {
		items[i] = change(items[i])
	}
	if x != nil {
		x.head = change(x.head)
	}
	if !changed {
		return fmt.Errorf("has no %q to be replaced", e.old)
	}
	return nil
}

// recordedCookie is what servers of Engine.IO 3 sent along with every answer.
var recordedCookie = regexp.MustCompile(` \| (set-cookie: io=[^;]*; Path=/; HttpOnly)`)

// toldCookie is what the answer that opens a session tells instead.
var toldCookie = regexp.MustCompile(` \| set-cookie: io=[^|]*; SameSite=Lax`)

// cookieOnce has the cookie told only by the answer that opens a session, and kept from other sites' requests (plainCookie).
func cookieOnce(x *inquiry, items []string) {
	if x == nil {
		return
	}
	now := ""
	if x.opens {
		now = " | $1; SameSite=Lax"
	}
	for i := range items {
		items[i] = recordedCookie.ReplaceAllString(items[i], now)
	}
	x.head = recordedCookie.ReplaceAllString(x.head, now)
}

// hasLine tells whether n is in a list like "1 3 5".
func hasLine(list string, n int) bool {
	return slices.Contains(strings.Fields(list), strconv.Itoa(n))
}

// withAlso puts what else clients do into a transcript.
func withAlso(t *testing.T, file string, lines []line) (all []line) {
	list := slices.Clone(sioAlso)
	insert := func(before int) {
		for i, a := range list {
			if a.file != file || a.after >= before || a.lines == nil {
				continue
			}
			for k, text := range a.lines {
				l := line{N: 1000*a.after + k}
				if err := json.Unmarshal([]byte(text), &l); err != nil {
					t.Fatalf("%s after %d: %v", file, a.after, err)
				}
				all = append(all, l)
			}
			list[i].lines = nil
		}
	}
	for _, l := range lines {
		insert(l.N)
		all = append(all, l)
	}
	return all
}

// start runs the server.
func (tr *sioTranscript) start(t *testing.T, loops string) *running {
	args := []string{"-admin", "127.0.0.1:0", "-page=false", "-loops", loops}
	if tr.ping > 0 {
		args = append(args, "-sio-heartbeat", tr.ping.String())
	}
	if tr.timeout > 0 {
		args = append(args, "-sio-timeout", tr.timeout.String(), "-sio-timeout4", tr.timeout.String())
	}
	if tr.echo {
		args = append(args, "-listen", "127.0.0.1:0", "-gate", "", "-max-package", "1000000", "-outbound", "2000000", "-keepalive-timeout", "8s") // the first two as socket.io 4; Node has 5 s, which leaves little beside polls of 4
	} else {
		args = append(args, "-config", tr.configure(t), "-bind", "127.0.0.1")
	}
	cfg, err := parseFlags(args, nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if tr.poll > 0 { // no flag: nobody needs another
		cfg.limits.PollSeconds = uint32(tr.poll / time.Second)
	}
	if tr.echo {
		return startSettings(t, cfg, echoApp())
	}
	srv := startSettings(t, cfg, nil)
	for i, user := range tr.others {
		c := login(t, srv.addr(fmt.Sprintf("connector-server-%d", i%2)))
		if got := c.enter(user, "room18"); !strings.Contains(got, user) {
			t.Fatalf("%s cannot be in the room: %s", user, got)
		}
	}
	return srv
}

// server names the listener of a recorded port.
func (tr *sioTranscript) server(port int) string {
	switch {
	case tr.echo:
		return "connector"
	case port == tr.gate:
		return "gate-server-0"
	}
	return fmt.Sprintf("connector-server-%d", port-tr.connectors)
}

// ports puts this run's ports back to the recorded ones.
func (tr *sioTranscript) ports(srv *running) *strings.Replacer {
	var pairs []string
	for i := range goldenConnectors {
		if !tr.echo {
			pairs = append(pairs, fmt.Sprintf(`"port":%d}`, srv.addr(tr.server(tr.connectors+i)).Port), fmt.Sprintf(`"port":%d}`, tr.connectors+i))
		}
	}
	return strings.NewReplacer(pairs...)
}

// accountSIO fails when a line of the server's was left out, or when no connection had to move to its session's loop.
func accountSIO(t *testing.T, tr *sioTranscript, streams []*sioReplay) {
	servers, items := 0, 0
	told := map[string]int{}
	loops := streams[0].srv.snapshot(t).Loops
	for _, l := range loops {
		told["moves"] += int(l.Moves)
	}
	if len(loops) > 1 && told["moves"] == 0 && !tr.oneEach {
		t.Errorf("no connection of %s had to move", tr.file)
	}
	for _, l := range streams[0].lines {
		if l.Dir != "s2c" || l.N >= 1000 {
			continue
		}
		servers++
		came := 0
		for _, r := range streams {
			came += r.came[l.N]
		}
		if items += came; came == 0 && !streams[0].silent[l.N] {
			t.Errorf("%s:%d was not compared", tr.file, l.N)
		}
	}
	for _, r := range streams {
		for what, n := range r.told {
			told[what] += n
		}
	}
	if servers != tr.lines {
		t.Errorf("%s has %d lines of the server, want %d", tr.file, servers, tr.lines)
	}
	t.Logf("%d lines of the server, %d of them never come; %d items compared; %v", servers, len(streams[0].silent), items, told)
}
