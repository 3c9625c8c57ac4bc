//go:build linux

package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
)

// badAppEnv makes the test binary a pomelod whose App does what no App should.
const badAppEnv = "GO_TEST_BAD_APP"

func init() {
	if os.Getenv(badAppEnv) == "" {
		return
	}
	a := app.New()
	a.HandleInline("bad.badHandler.block", func(*app.Call) (any, error) { select {} })
	a.HandleInline("bad.badHandler.panic", func(*app.Call) (any, error) { panic("as the test wants it") })
	os.Exit(Main(a))
}

// badApp is such a pomelod, on a connector of its own.
func badApp(args ...string) *exec.Cmd {
	cmd := pomelodCommand([]string{badAppEnv + "=1"}, append([]string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", ""}, args...)...)
	for i, kv := range cmd.Env {
		if strings.HasPrefix(kv, mainEnv+"=") {
			cmd.Env[i] = mainEnv + "="
		}
	}
	return cmd
}

// endSlack is what the end may take beyond -drain: two seconds are promised, the rest is for a busy machine of the tests.
const endSlack = 15 * time.Second

// expectExit waits for the end, and expects this exit code within a time.
func (p *process) expectExit(code int, within time.Duration) {
	p.t.Helper()
	began := time.Now()
	_ = p.wait()
	if took := time.Since(began); took > within {
		p.t.Errorf("the end took %v, not %v", took, within)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("ended with %v, want %d:\n%s", p.cmd.ProcessState, code, p.log())
	}
}

// talker is a hybrid client by raw TCP or WebSocket.
type talker struct {
	*tcpClient
	ws bool
}

func newTalker(t testing.TB, addr *net.TCPAddr, ws bool) *talker {
	t.Helper()
	if !ws {
		return &talker{tcpClient: login(t, addr)}
	}
	c := &talker{dial(t, addr), true}
	c.write([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	c.say(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{}}`)))
	if p, _, err := c.hear(); err != nil || p.Type != codec.PackageHandshake {
		t.Fatal(p, err)
	}
	c.say(codec.AppendPackage(nil, codec.PackageHandshakeAck, nil))
	return c
}

// say sends packages.
func (c *talker) say(b []byte) {
	if c.ws {
		b = frame(0x82, b)
	}
	_, _ = c.conn.Write(b) // who is gone is seen by who reads
}

// hear reads a package, or a close frame: then code is its code.
func (c *talker) hear() (p codec.Package, code int, err error) {
	if !c.ws {
		p, err = c.read()
		return p, 0, err
	}
	for {
		head := make([]byte, 2)
		if _, err = io.ReadFull(c.r, head); err != nil {
			return p, 0, err
		}
		n := int(head[1])
		if n == 126 {
			if _, err = io.ReadFull(c.r, head); err != nil {
				return p, 0, err
			}
			n, head = int(head[0])<<8|int(head[1]), []byte{0x82, 0}
		}
		b := make([]byte, n)
		if _, err = io.ReadFull(c.r, b); err != nil {
			return p, 0, err
		}
		if head[0]&0x0f == byte(codec.WSClose) {
			return p, int(b[0])<<8 | int(b[1]), nil
		}
		if p, _, err = codec.ParsePackage(b, codec.MaxPackageBody); err != nil || p.Type != codec.PackageHeartbeat {
			return p, 0, err
		}
	}
}

// listen hears what sender says, "0 ...", "1 ...", until the end, and expects that nothing is missing and that the end is the one for
// its transport. It returns how many messages came.
func (c *talker) listen() (heard int, err error) {
	for {
		p, code, err := c.hear()
		switch {
		case c.ws && code == codec.WSCloseGoingAway:
			_ = c.conn.Close()
			return heard, nil
		case !c.ws && err == io.EOF:
			_ = c.conn.Close()
			return heard, nil
		case err != nil || code != 0:
			return heard, fmt.Errorf("after %d messages: code %d, %w", heard, code, err)
		case p.Type == codec.PackageKick:
			return heard, fmt.Errorf("kicked: %s", p.Body)
		}
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			return heard, err
		}
		if string(m.Route) == "onChat" {
			if want := fmt.Sprintf(`{"msg":"%d `, heard); !bytes.HasPrefix(m.Body, []byte(want)) {
				return heard, fmt.Errorf("message %d begins %.30q", heard, m.Body)
			}
			heard++
		}
	}
}

// SIGTERM in the middle of a chat: what was accepted reaches every member before its goodbye, those who are still in go on, and
// pomelod ends with 0 in its time.
func TestEndUnderLoad(t *testing.T) {
	p := spawn(t, pomelodCommand(nil, "-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-drain", "1s", "-loops", "2", "-limits", "off"))
	p.waitLog(`"msg":"ready"`)
	addr := p.addr("connector")
	const members, accepted = 40, 200
	var crowd []*talker
	for i := range members {
		c := newTalker(t, addr, i%2 == 0)
		c.say(c.message(1, "connector.entryHandler.enter", fmt.Sprintf(`{"username":"m%d","rid":"r"}`, i)))
		for { // its answer
			p, _, err := c.hear()
			if err != nil {
				t.Fatal(err)
			}
			if m, _ := codec.ParseMessage(p.Body); m.Type == codec.MessageResponse {
				break
			}
		}
		crowd = append(crowd, c)
	}
	sender := login(t, addr)
	sender.enter("sender", "r")
	text := strings.Repeat("x", 1000)
	send := func(i int) []byte {
		return sender.message(uint32(i+10), "chat.chatHandler.send", fmt.Sprintf(`{"content":"%d %s","target":"*"}`, i, text))
	}
	sender.id = 9
	for i := range accepted {
		if got := sender.ask("chat.chatHandler.send", fmt.Sprintf(`{"content":"%d %s","target":"*"}`, i, text)); got != `{}` {
			t.Fatal(got)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // it goes on until it is sent away
		go func() { _, _ = io.Copy(io.Discard, sender.r); sender.conn.Close() }()
		for i := accepted; ; i++ {
			if _, err := sender.conn.Write(send(i)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	most := 0
	var mu sync.Mutex
	for i, c := range crowd {
		wg.Go(func() {
			heard, err := c.listen()
			if err != nil || heard < accepted {
				t.Errorf("member %d heard %d messages: %v", i, heard, err)
			}
			mu.Lock()
			defer mu.Unlock()
			most = max(most, heard)
		})
	}
	p.expectExit(0, time.Second+endSlack)
	wg.Wait()
	if !strings.Contains(p.log(), `"msg":"ended"`) {
		t.Error(p.log())
	}
	t.Logf("one heard %d messages more than when the end began", most-accepted)
}

// A client that reads nothing, and has something to read, keeps pomelod no longer than others do.
func TestEndWithFrozenClient(t *testing.T) {
	p := spawn(t, pomelodCommand(nil, "-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-drain", "500ms"))
	p.waitLog(`"msg":"ready"`)
	frozen, sender := login(t, p.addr("connector")), login(t, p.addr("connector"))
	_ = frozen.conn.(*net.TCPConn).SetReadBuffer(4096)
	frozen.enter("frozen", "r")
	sender.enter("sender", "r")
	text := strings.Repeat("x", 40_000)
	for range 20 { // more than the buffers of the kernel, less than -outbound
		sender.ask("chat.chatHandler.send", fmt.Sprintf(`{"content":"%s","target":"frozen"}`, text))
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.expectExit(0, 500*time.Millisecond+endSlack)
	if !strings.Contains(p.log(), "connections were cut off") {
		t.Error("nobody was told:\n", p.log())
	}
}

// A second signal ends pomelod at once, with 1.
func TestEndAtSecondSignal(t *testing.T) {
	p := spawn(t, pomelodCommand(nil, "-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-drain", "1h", "-drain-delay", "1h"))
	p.waitLog(`"msg":"ready"`)
	c := login(t, p.addr("connector"))
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitLog(`"msg":"ending"`)
	if got := c.enter("a", "r"); got != `{"users":["a"]}` { // it is still served
		t.Error(got)
	}
	time.Sleep(sameSignal) // the time itself is what is tested
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.expectExit(1, endSlack)
	if !strings.Contains(p.log(), "a second signal") {
		t.Error(p.log())
	}
}

// A supervisor that signals its child and the child's group means one end, in order.
func TestEndAtTheSameSignalTwice(t *testing.T) {
	p := spawn(t, pomelodCommand(nil, "-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-drain", "200ms"))
	p.waitLog(`"msg":"ready"`)
	c := login(t, p.addr("connector"))
	for range 3 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	p.waitLog(`"msg":"ending"`)
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, c.r)
	c.conn.Close()
	p.expectExit(0, endSlack)
	if strings.Contains(p.log(), "a second signal") {
		t.Error(p.log())
	}
}

// A stuck event loop does not keep pomelod, but its exit code tells.
func TestEndWithStuckLoop(t *testing.T) {
	p := spawn(t, badApp("-loops", "2", "-drain", "500ms"))
	p.waitLog(`"msg":"ready"`)
	c, other := login(t, p.addr("connector")), login(t, p.addr("connector"))
	other.enter("other", "r")
	c.write(c.message(1, "bad.badHandler.block", `{}`))
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.expectExit(1, 500*time.Millisecond+endSlack)
	if !strings.Contains(p.log(), "an event loop is stuck and did not end") {
		t.Error(p.log())
	}
}

// First /readyz says no. Until -drain-delay is over clients are accepted; then they are refused, and those who are in leave.
func TestEndOrder(t *testing.T) {
	s := start(t, "-drain-delay", "1500ms", "-drain", "100ms")
	readyz := func() int {
		resp, err := http.Get("http://" + s.admin.Addr().String() + "/readyz")
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	defer http.DefaultClient.CloseIdleConnections()
	waitFor(t, func() bool { return readyz() == 200 })
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- s.stop() }()
	waitFor(t, func() bool { return readyz() == 503 })
	c := login(t, s.addr("connector"))
	if got := c.enter("a", "r"); got != `{"users":["a"]}` {
		t.Error(got)
	}
	if _, err := c.read(); err != io.EOF {
		t.Error(err)
	}
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("sent away after %v", took)
	}
	if conn, err := net.DialTCP("tcp", nil, s.addr("connector")); err == nil {
		conn.Close()
		t.Error("accepted in the end")
	}
	c.conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What cannot be meant is refused.
func TestDrainFlags(t *testing.T) {
	for _, args := range []string{"-drain -1s", "-drain-delay -1s", "-drain 2h"} {
		if _, err := parseFlags(strings.Fields(args), nil, io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// A panic that a client causes over and over costs its requests, and some lines of the log.
func TestLogOfPanics(t *testing.T) {
	p := spawn(t, badApp("-limits", "off"))
	p.waitLog(`"msg":"ready"`)
	c := login(t, p.addr("connector"))
	const panics = 300
	for range panics {
		if got := c.ask("bad.badHandler.panic", `{}`); got != `{"code":500}` {
			t.Fatal(got)
		}
	}
	c.conn.Close()
	p.stop()
	if n := strings.Count(p.log(), `"msg":"panic in a handler`); n == 0 || n > panics/5 {
		t.Errorf("%d lines for %d panics", n, panics)
	}
}

// A pipe that nobody reads holds up nobody, neither event loops nor the end. When somebody reads, the log goes on.
func TestLogThatNobodyReads(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read=%v", read), func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			fill(t, w)
			listener, addr := listening(t, "127.0.0.1:0")
			cmd := activated([]*os.File{listener}, nil, "-listen", addr.String(), "-gate", "", "-admin", "")
			cmd.Env = append(badApp().Env, "LISTEN_FDS=1")
			cmd.Stderr = w
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			ended := make(chan error, 1)
			defer func() {
				_ = cmd.Process.Kill()
				<-ended
			}()
			c := login(t, addr)
			for range 30 {
				if got := c.ask("bad.badHandler.panic", `{}`); got != `{"code":500}` {
					t.Fatal(got)
				}
			}
			if got := c.enter("a", "r"); got != `{"users":["a"]}` {
				t.Error(got)
			}
			c.conn.Close()
			var text bytes.Buffer
			if read {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				_ = r.SetReadDeadline(time.Now().Add(deadline))
				if _, err := io.Copy(&text, r); err != nil {
					t.Error(err)
				}
				if !strings.Contains(text.String(), `"msg":"ready"`) || !strings.Contains(text.String(), `"msg":"panic in a handler`) {
					t.Errorf("the log is %.500s", strings.TrimLeft(text.String(), "."))
				}
			} else {
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
				ended <- nil
			case <-time.After(deadline):
				t.Error("does not end")
			}
		})
	}
}

// fill writes to a pipe until nothing more fits.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	b := bytes.Repeat([]byte("."), 4096)
	for {
		_ = w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := w.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(int(w.Fd()), false); err != nil { // as a shell makes pipes
		t.Fatal(err)
	}
}
