//go:build linux

package server

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/router"
)

var writeDocs = flag.Bool("write-docs", false, "write the tables of docs that tests compute, instead of comparing them")

const architecture = "../docs/ARCHITECTURE.md"

// The defaults that ARCHITECTURE.md tells are those of the flags.
func TestBoundsTellDefaults(t *testing.T) {
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, m := range regexp.MustCompile("`-([a-z0-9-]+)` \\(([0-9][0-9,]*[A-Za-z]*)([ ,;)])").FindAllStringSubmatch(readFile(t, architecture), -1) {
		f := c.flags.Lookup(m[1])
		if f == nil {
			t.Errorf("there is no flag -%s", m[1])
			continue
		}
		told++
		value := strings.ReplaceAll(m[2], ",", "")
		if n, ok := strings.CutSuffix(value, "B"); ok && !strings.HasSuffix(n, "i") { // bytes, not KiB
			value = n
		}
		if is := f.DefValue; is != value && !strings.HasPrefix(is, value+":") && !sameTime(is, value) && is != "0" { // 0: it depends on the machine
			t.Errorf("-%s is %s by default, not %s", m[1], is, m[2])
		}
	}
	if told < 20 {
		t.Errorf("only %d defaults were found", told)
	}
}

func sameTime(a, b string) bool {
	x, err := time.ParseDuration(a)
	y, err2 := time.ParseDuration(b)
	return err == nil && err2 == nil && x == y
}

// What addresses and sessions the table adds up: those of one address, and of as many as the server then takes (-addr-conns is a
// quarter of -max-conns).
const ofAddress, ofAll = 20_000, 80_000

// holding is what a client can have the server keep for one connection or session of its in a state.
type holding struct {
	state  string
	user   int    // bytes in this process that are the connection's own and in no budget
	kept   int    // bytes that count in -max-buffered, as they may at most
	kernel int    // bytes of the socket
	ends   string // what ends the state
	tried  string // tests in which clients bring many connections there: of package abuse, against a server of its own process
}

// holdings computes them from the limits and the constants that bound them.
func holdings(c *settings) []holding {
	l, f := &c.limits, router.FootprintOf()
	conn := f.ConnBytes + f.SessionBytes
	http := conn + f.ExtraBytes               // or any other that is not plain
	grown := func(n int) int { return 2 * n } // a buffer that grows by appending has room for twice as much, at most
	seconds := func(name string) string { return "`-" + name + "`" }
	room := http + inRoom(l.NameBytes)
	return []holding{
		{"connected, said nothing", conn, 0, idleSocket, seconds("handshake-timeout"), "TestSlowLogin"},
		{"in an HTTP head", http, grown(l.HeadBytes + f.ReadBytes), idleSocket, seconds("head-timeout"), "TestSlowLogin"},
		{"in an HTTP body", http, grown(l.HeadBytes + l.PackageBytes), idleSocket, seconds("handshake-timeout"), "TestHalfMessages"},
		{"in the form of a JSONP session", http, grown(l.HeadBytes + f.FormFactor*l.PackageBytes), idleSocket, seconds("handshake-timeout"), "TestHalfMessages"},
		{"HTTP, idle", http, 0, idleSocket, seconds("keepalive-timeout"), "TestSlowLogin"},
		{"HTTP, answers not taken", http, f.ThrottleBytes + pageBytes, fullSocket + unreadSocket, seconds("stuck-timeout"), "TestPipelinedGets"},
		{"a held GET with bytes behind it", http, grown(f.HeldBytes + f.ReadBytes), unreadSocket, seconds("sio-heartbeat") + ", " + seconds("sio-timeout"), "TestHeldGets"},
		{"before the handshake is done", conn, grown(l.EarlyBytes), idleSocket, seconds("handshake-timeout"), "TestBytesBeforeLogin"},
		{"half a package", room, grown(l.PackageBytes + f.ReadBytes), idleSocket, seconds("handshake-timeout"), "TestHalfMessages"},
		{"fragments of a WebSocket message", room, grown(l.PackageBytes + f.ReadBytes), idleSocket, seconds("handshake-timeout"), "TestFragments, TestUnfinished"},
		{"working, in a room", room, 0, idleSocket, "silence: `-heartbeat`", "TestFrozenClients"},
		{"requests at workers", room + l.Inflight*f.PendingBytes, grown(f.ReadBytes), unreadSocket, seconds("request-timeout"), "TestFloods"},
		{"unsent messages", room, l.Conn.Outbound, fullSocket + unreadSocket, seconds("stuck-timeout"), "TestFrozenReaders, TestMemory"},
		{"a polling session, its queue full", room, l.Conn.Outbound, 0, seconds("sio-timeout"), "TestFrozenReaders"},
		{"told goodbye, which it does not take", conn, l.Conn.Outbound, fullSocket, fmt.Sprintf("%d s, %s sent", f.LingerSeconds, size(f.LingerBytes)), "TestEndWithFrozenReaders"},
	}
}

// attackedBy tells tests of package abuse, and those of other packages that are named with it.
func attackedBy(tests string) string {
	all := strings.Split(tests, ", ")
	for i, name := range all {
		all[i] = "`" + name + "`"
	}
	return strings.Join(all, ", ")
}

// Whatever a table says is attacked by a test is, as far as there is a test of that name.
func TestArithmeticNamesTests(t *testing.T) {
	text := readFile(t, architecture)
	named := 0
	for _, name := range []string{"holdings", "kept", "work"} {
		_, rest, _ := strings.Cut(text, "<!-- computed: "+name+" -->\n")
		table, _, ok := strings.Cut(rest, "<!-- end: "+name+" -->\n")
		if !ok {
			t.Fatalf("there is no table %q", name)
		}
		for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
			cells := strings.Split(row, "|")
			tests := regexp.MustCompile("`(?:([a-z]+)\\.)?(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(cells[len(cells)-2], -1)
			if len(tests) == 0 {
				t.Errorf("nothing attacks: %s", row)
			}
			for _, m := range tests {
				named++
				dir := cmp.Or(m[1], "test/abuse")
				if !hasTest(t, "../"+dir, m[2]) {
					t.Errorf("there is no %s in %s", m[2], dir)
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d tests are named", named)
	}
}

// hasTest tells whether a package has a test.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool { return strings.Contains(readFile(t, file), "\nfunc "+name+"(t *testing.T) {") })
}

// pageBytes is more than the longest answer to a request over HTTP: the chat page's files.
const pageBytes = 24 << 10

// inRoom is what a member of a room takes, with names of n bytes: its name where the session, the partition and its index have it, its
// entry there, its share of the list, a room with nobody else in it, and what a loop knows of that.
func inRoom(n int) int { return 1<<10 + 8*n }

// size tells bytes with two digits.
func size(n int) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	x, u := float64(n), 0
	for x >= 1000 && u < len(units)-1 {
		x, u = x/1024, u+1
	}
	if x < 10 && u > 0 && x != float64(int(x)) {
		return fmt.Sprintf("%.1f %s", x, units[u])
	}
	return fmt.Sprintf("%.0f %s", x, units[u])
}

// holdingsTable is the text.
func holdingsTable(c *settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| one of these | own | buffered | kernel | %d of one address | %d in all | sum bounded by | ended by | attacked by |\n", ofAddress, ofAll)
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, h := range holdings(c) {
		bound := "the number of connections"
		switch {
		case h.kept > 0 && h.kernel > idleSocket:
			bound = "`-max-buffered`; the kernel's by `-memory`"
		case h.kept > 0:
			bound = "`-max-buffered`"
		}
		sum := func(n int) string {
			text := size(n * (h.user + h.kernel))
			if h.kept > 0 {
				kept := n * h.kept
				text += " + " + size(min(kept, int(c.limits.Conn.Buffered)))
				if kept > int(c.limits.Conn.Buffered) {
					text += " (of " + size(kept) + ")"
				}
			}
			return text
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", h.state, size(h.user), size(h.kept), size(h.kernel), sum(ofAddress), sum(ofAll), bound, h.ends, attackedBy(h.tried))
	}
	return b.String()
}

// keptTable is what stays beside connections: places of who is away, what rooms keep, logins that wait, and rules.
func keptTable(c *settings) string {
	l, f, h := &c.limits, router.FootprintOf(), c.limits.History
	r := f.Rooms
	var b strings.Builder
	b.WriteString("| kept | each | of one address | in all | bounded by | ended by | attacked by |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	row := func(what string, each int, address, all, bound, ends, tried string) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", what, size(each), address, all, bound, ends, attackedBy(tried))
	}
	times := func(n, each int) string { return fmt.Sprintf("%d: %s", n, size(n*each)) }
	memory := size(int(h.Memory))
	place := inRoom(l.NameBytes) + r.AwayBytes
	row("the place of a member that is away", place, times(min(f.AwayOfOne, ofAddress), place), times(min(f.AwayOfAll, ofAll), place),
		fmt.Sprintf("`-addr-conns` and %d for an address, of which a tenth of a room, or %d; `-max-conns` and %d", f.AwayOfOne, r.Ghosts, f.AwayOfAll), "`-grace`", "TestGhosts")
	letters := r.LetterBytes + r.Letters*r.MessageBytes
	row("private messages for one that is away", letters, times(f.AwayOfOne, letters), memory, "`-history-memory`, with all that rooms keep", "return, or `-grace`", "channel.TestLetters, TestNeighbours")
	row("messages of a room", h.Bytes+r.RoomBytes, memory, memory, "the same; what empty rooms keep goes first, then the largest", "`-history-age`", "TestHistoryWipes")
	row("ids of a room's messages", r.Mids*r.MidBytes, memory, memory, "the same", "`-history-age`", "channel.TestSentAgain")
	row("who has left a room and gave a secret", r.Past*r.PastBytes, memory, memory, fmt.Sprintf("the same; %d of a room", r.Past), "`-history-age`", "channel.TestHistoryBounds, channel.TestPastFootprint")
	row("what a program has set of a room", r.RoomBytes+r.SetBytes, "none", times(r.Vacant, r.RoomBytes+r.SetBytes), "`channel/settings.go`, for rooms without members; with members their number; programs only", "the program; an hour without members", "channel.TestVacantRoomsAreBounded")
	row("a login that waits to be judged", f.TokenBytes, size(f.LoginBytes/f.LoginPart), size(f.LoginBytes), "`router/logins.go`", "the judge; `-handshake-timeout`", "router.TestLoginsWaitInTurn")
	user := len((&auth.Identity{UID: strings.Repeat("u", auth.MaxUID)}).User())
	identity := auth.MaxRooms*(auth.MaxPattern+16) + auth.MaxName + auth.MaxUID + user
	row("what a login says of its session", identity, times(ofAddress, identity), times(ofAll, identity), "the number of connections, and what makes the tokens", "the session's end", "auth.TestCheck")
	claims := f.Claims * (16 + user + user + r.ClaimBytes) // at the session and at the partition
	row("whose session it counts as, with `-sessions`", claims, times(ofAddress, claims), times(ofAll, claims), fmt.Sprintf("the same; %d users, one of them while it becomes another", f.Claims), "the session's end", "channel.TestClaims")
	row("a ban, a mute or a lock", ruleBytes, "none", times(maxRules, ruleBytes), "`server/moderation.go`; operators only", "its time, or an operator", "server.TestRulesInMemory")
	return b.String()
}

// ruleBytes is what a rule takes about, with a reason of some words.
const ruleBytes = 512

// workTable is what one session and one address can have done in a second.
func workTable(c *settings) string {
	l, f, a := &c.limits, router.FootprintOf(), c.access.PerAddress
	var b strings.Builder
	b.WriteString("| work | one session | one address | what bounds the sum | attacked by |\n| --- | --- | --- | --- | --- |\n")
	row := func(what, session, address, bound, tried string) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", what, session, address, bound, attackedBy(tried))
	}
	times := func(n float64) string { return fmt.Sprintf("%.0f a second", n) }
	share := fmt.Sprintf("%v of a turn for a conn, %d things of a turn beyond one a read for an address, then %v for all such", f.ShareTime, f.ClientThings, f.LateTime)
	row("messages", times(l.SessionRate.PerSecond), times(l.SessionRate.PerSecond*ofAddress), share, "TestNotifyFlood, TestFloods, TestPayloadFlood")
	row("of them to all members of a room", times(l.SendRate.PerSecond), times(l.SendRate.PerSecond*ofAddress),
		fmt.Sprintf("%v of a turn for all passes; `-room-backlog`, `-loop-backlog`, `-max-delay`", f.PassTime), "TestPaste")
	row("enters: two pushes, a list of names", times(l.EnterRate.PerSecond), times(l.EnterRate.PerSecond*ofAddress), "the same; of one list that many do not take there is one copy", "TestRenames, TestUnreadLists")
	page := 1 + float64(f.Rooms.PageBytes)/float64(f.ReadCharge)
	row("pages of history, or what follows an enter, each of "+size(f.Rooms.PageBytes), fmt.Sprintf("%.1f a second", l.EnterRate.PerSecond/page), times(l.EnterRate.PerSecond/page*ofAddress),
		fmt.Sprintf("the same; none is made for a client that has not taken %s", size(f.ThrottleBytes)), "TestPages")
	row("new connections", "", times(float64(a.Connects.PerSecond)), fmt.Sprintf("and %d at once; mail of a turn", a.Connects.Burst), "TestConnectChurn")
	row("handshakes", "1", times(float64(a.Handshakes.PerSecond)), fmt.Sprintf("and %d at once", a.Handshakes.Burst), "TestConnectChurn, TestNetworks")
	row("HTTP requests", "", times(float64(a.Requests.PerSecond)), fmt.Sprintf("and %d at once; the turn's shares", a.Requests.Burst), "TestHTTPFlood")
	row("calls of an App's handlers, or through filters", "one at a time", fmt.Sprintf("%d at a time of either", a.Handlers),
		fmt.Sprintf("`App.MaxRunning`, and as many that were given up; of both together %s of messages", size(4*app.New().MaxRunning*l.PackageBytes)), "TestAbandonedHandlers")
	row("requests mailed to one worker", fmt.Sprint(l.Inflight), fmt.Sprint(l.Inbox), "`-inbox`: "+size(l.Inbox*4<<10)+" a worker", "router.TestInboxCountsContents")
	return b.String()
}

// answer is a question that costs a client little, and what it is answered.
type answer struct {
	what string
	ask  string // over HTTP
}

// answersTable is how many bytes are answered for how few, as measured at a server with default flags.
func answersTable(t *testing.T) string {
	s := start(t)
	addr := s.addr("connector").String()
	var b strings.Builder
	b.WriteString("| asked | bytes in | bytes out | out for each in |\n| --- | --- | --- | --- |\n")
	for _, a := range []answer{
		{"where to connect", "GET /gate/queryEntry HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"the same with 255 bytes of host", "GET /gate/queryEntry HTTP/1.1\r\nHost: " + strings.Repeat("h", 63) + strings.Repeat("."+strings.Repeat("h", 63), 2) + "\r\n\r\n"},
		{"no such path", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"no such session", "GET /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"a polling session", "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"the chat page", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"its longest file", "GET /chat.js HTTP/1.1\r\nHost: h\r\n\r\n"},
	} {
		out := httpBytes(t, addr, a.ask)
		if out == 0 || out > pageBytes {
			t.Errorf("%s: %d bytes", a.what, out)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", a.what, len(a.ask), about(out), about(out/len(a.ask)))
	}
	beat := codec.AppendPackage(nil, codec.PackageHeartbeat, nil)
	fmt.Fprintf(&b, "| a heartbeat, ten times a second | %d | %d | 1 |\n", len(beat), len(beat))
	return b.String()
}

// about rounds, so that a comma in a page changes nothing.
func about(n int) string {
	switch {
	case n < 10:
		return fmt.Sprint(n)
	case n < 1000:
		return fmt.Sprint((n + 24) / 25 * 25)
	}
	return fmt.Sprint((n + 999) / 1000 * 1000)
}

// httpBytes is the length of the answer to a request.
func httpBytes(t *testing.T, addr, ask string) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, ask); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	head, length := 0, 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v", ask, err)
		}
		head += len(line)
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Content-Length") {
			_, _ = fmt.Sscan(value, &length)
		}
		if line == "\r\n" {
			return head + length
		}
	}
}

// What the tables of ARCHITECTURE.md add up is what flags, constants and types say, and what the server answers.
func TestArithmetic(t *testing.T) {
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"holdings": holdingsTable(c), "kept": keptTable(c), "work": workTable(c), "answers": answersTable(t)} {
		text := readFile(t, architecture)
		begin, end := "<!-- computed: "+name+" -->\n", "<!-- end: "+name+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		is, after, ok2 := strings.Cut(rest, end)
		switch {
		case !ok || !ok2:
			t.Errorf("%s has no table between %q and %q", architecture, begin, end)
		case is != want && *writeDocs:
			if err := os.WriteFile(architecture, []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		case is != want:
			t.Errorf("%s: the table %q is not what limits and constants say now. Look at each change: is its sum still bounded? Then go test ./server -run TestArithmetic -write-docs.\nwant\n%s\ngot\n%s", architecture, name, want, is)
		}
	}
}

// A member takes no more memory than the table says, its client's end, which is in this process, aside.
func TestArithmeticOfMembers(t *testing.T) {
	const members, clientsEnd = 1000, 1 << 10
	s := start(t, "-limits", "off")
	addr := s.addr("connector").String()
	name := strings.Repeat("n", 58)
	enter := func(i int) net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		body := fmt.Sprintf(`{"username":"%s%06d","rid":"%s%06d"}`, name, i, name, i)
		said := codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"x"}}`))
		said = codec.AppendPackage(said, codec.PackageHandshakeAck, nil)
		message, err := codec.AppendMessage(nil, codec.Message{Type: codec.MessageRequest, ID: 1, Route: []byte("connector.entryHandler.enter"), Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(codec.AppendPackage(said, codec.PackageData, message)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for b := make([]byte, 1024); !bytes.Contains(got, []byte(`"users"`)); {
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := conn.Read(b)
			if err != nil {
				t.Fatalf("%v; answered %q", err, got)
			}
			got = append(got, b[:n]...)
		}
		return conn
	}
	for i := range members { // what is pooled, and slabs, are there after that
		enter(i).Close()
	}
	waitFor(t, func() bool { return s.node.Usage().Conns == 0 })
	before := liveBytes()
	all := make([]net.Conn, 0, members)
	for i := range members {
		all = append(all, enter(i))
	}
	each := int(liveBytes()-before) / members
	runtime.KeepAlive(all)
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if most := inRoom(c.limits.NameBytes); each > most+clientsEnd {
		t.Errorf("a member takes %d bytes with its client's end, the table says %d", each, most)
	}
	t.Logf("%d bytes a member, its client's end included", each)
}

func liveBytes() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
