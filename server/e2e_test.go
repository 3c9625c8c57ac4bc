//go:build linux

package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/codec"
)

const deadline = 30 * time.Second

// tcpClient is a hybrid client over raw TCP.
type tcpClient struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	id   uint32
}

func dial(t testing.TB, addr *net.TCPAddr) *tcpClient {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return &tcpClient{t: t, conn: conn, r: bufio.NewReaderSize(conn, 1<<16)}
}

// login is dial and the handshake.
func login(t testing.TB, addr *net.TCPAddr) *tcpClient {
	t.Helper()
	c := dial(t, addr)
	c.write(codec.AppendPackage(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"t","version":"1"}}`)), codec.PackageHandshakeAck, nil))
	if p := c.next(); p.Type != codec.PackageHandshake {
		t.Fatalf("got %v instead of a handshake", p)
	}
	return c
}

func (c *tcpClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next reads a package; heartbeats are left out.
func (c *tcpClient) next() codec.Package {
	c.t.Helper()
	p, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *tcpClient) read() (codec.Package, error) {
	for {
		head := make([]byte, codec.PackageHeadBytes)
		if _, err := io.ReadFull(c.r, head); err != nil {
			return codec.Package{}, err
		}
		p := codec.Package{Type: codec.PackageType(head[0]), Body: make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))}
		if _, err := io.ReadFull(c.r, p.Body); err != nil {
			return p, err
		}
		if p.Type != codec.PackageHeartbeat {
			return p, nil
		}
	}
}

func (c *tcpClient) message(id uint32, route, body string) []byte {
	m := codec.Message{Type: codec.MessageRequest, ID: id, Route: []byte(route), Body: []byte(body)}
	if id == 0 {
		m.Type = codec.MessageNotify
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		c.t.Fatal(err)
	}
	return codec.AppendPackage(nil, codec.PackageData, b)
}

// ask sends a request and returns its answer; pushes before it are left out.
func (c *tcpClient) ask(route, body string) string {
	c.t.Helper()
	c.id++
	_ = c.conn.SetDeadline(time.Now().Add(deadline)) // that of dial is over where much has happened since
	c.write(c.message(c.id, route, body))
	for {
		m, err := codec.ParseMessage(c.next().Body)
		if err != nil {
			c.t.Fatal(err)
		}
		if m.Type == codec.MessageResponse {
			if m.ID != c.id {
				c.t.Fatalf("answer to %d instead of %d", m.ID, c.id)
			}
			return string(m.Body)
		}
	}
}

func (c *tcpClient) enter(user, room string) string {
	c.t.Helper()
	return c.ask("connector.entryHandler.enter", fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room))
}

// A client is sent from the gate to the connector and chats there.
func TestGateToChat(t *testing.T) {
	for _, flags := range [][]string{nil, {"-loops", "3"}, {"-advertise", "127.0.0.1"}} {
		s := start(t, flags...)
		want := fmt.Sprintf(`{"code":200,"host":"127.0.0.1","port":%d}`, s.addr("connector").Port)
		if got := login(t, s.addr("gate")).ask("gate.gateHandler.queryEntry", `{"uid":"a"}`); got != want {
			t.Errorf("%v: gate answered %s, want %s", flags, got, want)
		}
		c := login(t, s.addr("connector"))
		if got := c.enter("a", "r"); got != `{"users":["a"]}` {
			t.Errorf("%v: %s", flags, got)
		}
		if got := c.ask("chat.chatHandler.send", `{"content":"x","target":"*"}`); got != `{}` {
			t.Errorf("%v: %s", flags, got)
		}
	}
}

// The end is in order: clients are told, sockets are closed in the polite way, run returns nil.
func TestOrderlyEnd(t *testing.T) {
	s := start(t)
	tcp := login(t, s.addr("connector"))
	ws := dial(t, s.addr("connector"))
	ws.write([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	if resp, err := http.ReadResponse(ws.r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if _, err := tcp.read(); err != io.EOF {
		t.Errorf("TCP client got %v", err)
	}
	rest := make([]byte, 4)
	if _, err := io.ReadFull(ws.r, rest); err != nil || rest[0] != 0x88 || int(rest[2])<<8|int(rest[3]) != codec.WSCloseGoingAway {
		t.Errorf("WebSocket client got %x, %v", rest, err)
	}
	tcp.conn.Close()
	ws.conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.DialTimeout("tcp", s.addr("connector").String(), time.Second); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// A frozen reader in a busy room costs only itself: it is ended for being slow, the others get everything in order,
// and what is kept for it never exceeds its bound.
func TestFrozenReader(t *testing.T) {
	s := start(t, "-limits", "off")
	frozen, member, sender := login(t, s.addr("connector")), login(t, s.addr("connector")), login(t, s.addr("connector"))
	_ = frozen.conn.(*net.TCPConn).SetReadBuffer(4096)
	frozen.enter("frozen", "r")
	member.enter("member", "r")
	sender.enter("sender", "r")

	const messages, size = 600, 20_000
	text := strings.Repeat("x", size)
	got := make(chan error, 1)
	go func() {
		for i := 0; i < messages; {
			p, err := member.read()
			if err != nil {
				got <- err
				return
			}
			if m, _ := codec.ParseMessage(p.Body); string(m.Route) == "onChat" {
				if want := fmt.Sprintf(`{"msg":"%d `, i); !bytes.HasPrefix(m.Body, []byte(want)) {
					got <- fmt.Errorf("message %d begins %.30q", i, m.Body)
					return
				}
				i++
			}
		}
		got <- nil
	}()
	most := int64(0)
	for i := range messages {
		if answer := sender.ask("chat.chatHandler.send", fmt.Sprintf(`{"content":"%d %s","target":"*"}`, i, text)); answer != `{}` {
			t.Fatalf("message %d: %s", i, answer)
		}
		if i%20 == 0 {
			most = max(most, s.snapshot(t).Unsent)
		}
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	// One push more than the bound: the queue was empty when it came.
	if most > int64(s.cfg.limits.Conn.Outbound+2*size) || most == 0 {
		t.Errorf("%d bytes were kept for the frozen reader", most)
	}
	snap := s.snapshot(t)
	slow := uint64(0)
	for _, l := range snap.Loops {
		slow += l.Closed["slow"]
	}
	if slow != 1 || snap.Unsent != 0 {
		t.Errorf("%d ended for being slow, %d bytes kept", slow, snap.Unsent)
	}
}

func (r *running) snapshot(t testing.TB) *snapshot {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	s, err := r.node.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Health and metrics are there, and readiness ends before the server does.
func TestAdmin(t *testing.T) {
	s := start(t)
	login(t, s.addr("connector")).enter("a", "r")
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + s.admin.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	defer http.DefaultClient.CloseIdleConnections()
	deadlineAt := time.Now().Add(deadline)
	for code := 0; code != 200; {
		if code, _ = get("/readyz"); time.Now().After(deadlineAt) {
			t.Fatal("never ready")
		}
	}
	if code, body := get("/livez"); code != 200 || body != "ok\n" {
		t.Error(code, body)
	}
	_, metrics := get("/metrics")
	for _, line := range []string{`pomelod_accepted_total 1`, `pomelod_stuck 0`, `pomelod_unsent_bytes 0`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no line %q in\n%s", line, metrics)
		}
	}
	if n := strings.Count(metrics, "pomelod_members{"); n != s.cfg.loops {
		t.Errorf("%d workers tell their members", n)
	}
	if code, _ := get("/debug/pprof/cmdline"); code != 200 {
		t.Error(code)
	}
	s.ready.Store(false)
	if code, _ := get("/readyz"); code != 503 {
		t.Error(code)
	}
}

// Connections above -max-conns, or above a listener's own number, are closed at once and counted; the others go on.
func TestTooManyConnections(t *testing.T) {
	s := start(t, "-max-conns", "3")
	var first []*tcpClient
	for range 3 {
		first = append(first, login(t, s.addr("connector")))
	}
	if _, err := dial(t, s.addr("connector")).read(); err == nil {
		t.Error("the fourth was served")
	}
	if got := first[0].enter("a", "r"); got != `{"users":["a"]}` {
		t.Error(got)
	}
	if st := s.acceptor.Stats(); st.Refused != 1 || st.Accepted != 3 {
		t.Errorf("%+v", st)
	}
	first[1].conn.Close()
	waitFor(t, func() bool { // a place is free again
		c, err := net.DialTCP("tcp", nil, s.addr("connector"))
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(deadline))
		_, _ = c.Write(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{}}`)))
		n, _ := c.Read(make([]byte, 1))
		return n == 1
	})
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen in time")
		}
	}
}

// childEnv makes the test binary a server with few descriptors (see TestOutOfDescriptors).
const childEnv = "GO_TEST_FEW_DESCRIPTORS"

func init() {
	if os.Getenv(childEnv) == "" {
		return
	}
	cfg, err := parseFlags([]string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", ""}, nil, os.Stderr)
	var p *plan
	if err == nil {
		p, err = cfg.plan(nil)
	}
	var srv *server
	if err == nil {
		srv, err = newServer(cfg, p, nil)
	}
	if err == nil {
		few := uint64(openFiles() + 10)
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: few, Max: few})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(srv.listeners[0].Addr)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	if err := srv.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Out of descriptors the server neither ends nor spins; those who are in go on, and there is room again when some leave.
func TestOutOfDescriptors(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("the server did not end in order:", err)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, err := net.ResolveTCPAddr("tcp", strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	in := login(t, addr)
	in.enter("a", "r")
	var flood []net.Conn
	for range 60 {
		if c, err := net.DialTCP("tcp", nil, addr); err == nil {
			flood = append(flood, c)
		}
	}
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	refused := func() (n int) { // the server closed some to be rid of them
		for _, c := range flood {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				n++
			}
		}
		return n
	}
	waitFor(t, func() bool { return refused() > 0 })
	before, began := cpuTime(t, cmd.Process.Pid), time.Now()
	for time.Since(began) < 500*time.Millisecond { // it goes on serving meanwhile
		if got := in.ask("chat.chatHandler.send", `{"content":"x","target":"*"}`); got != `{}` {
			t.Fatal(got)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if used := cpuTime(t, cmd.Process.Pid) - before; used > time.Since(began)/3 {
		t.Errorf("%v of processor time in %v: it spins", used, time.Since(began))
	}
	for _, c := range flood {
		c.Close()
	}
	flood = nil
	// The server may take new clients before it has seen those ends, and has to refuse one then: a client tries again.
	waitFor(t, func() bool {
		c, err := client.Dial(addr.String(), deadline)
		if err != nil {
			return false
		}
		defer c.Close()
		var in struct{ Users []string }
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "b", "rid": "r"}, &in); err != nil {
			return false
		}
		if !slices.Equal(in.Users, []string{"a", "b"}) {
			t.Errorf("entered among %q", in.Users)
		}
		return true
	})
}

// cpuTime is the processor time a process has used.
func cpuTime(t testing.TB, pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// A doorbell that is rung after the end writes nothing: its descriptor's number may be somebody else's by then.
func TestRingAfterTheEnd(t *testing.T) {
	a := app.New()
	var session *app.Session
	opened := make(chan struct{})
	a.OnOpen(func(s *app.Session) { session = s; close(opened) })
	cfg, err := parseFlags([]string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", ""}, nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s := startSettings(t, cfg, a)
	c := login(t, s.addr("connector"))
	<-opened
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if _, err := c.read(); err != io.EOF {
		t.Error(err)
	}
	c.conn.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var files []*os.File // these take the numbers that the loops had
	for range 20 {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	session.Kick("too late")
	for _, l := range s.node.Loops() {
		l.Ring()
	}
	for _, f := range files {
		if st, err := f.Stat(); err != nil || st.Size() != 0 {
			t.Errorf("%s has bytes that nobody wrote", f.Name())
		}
	}
}
