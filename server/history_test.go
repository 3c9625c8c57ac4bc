//go:build linux

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// diarist is an extended client that notes what it is told. Not for two goroutines.
type diarist struct {
	conn    net.Conn
	in      []byte
	id      uint32
	answers map[uint32]string
	pushes  []said // since the last take
	deleted []said // of onDelete
}

// said is a push of onChat, or of onDelete, or what a diarist has said.
type said struct {
	Msg, Seq          string
	Deleted, Mid, Rid string
}

func newDiarist(addr, secret string) (*diarist, error) {
	conn, err := net.DialTimeout("tcp", addr, deadline)
	if err != nil {
		return nil, err
	}
	d := &diarist{conn: conn, answers: make(map[uint32]string)}
	shake := fmt.Sprintf(`{"sys":{"type":"test","version":"1","extended":1},"user":{"secret":%q}}`, secret)
	b := codec.AppendPackage(nil, codec.PackageHandshake, []byte(shake))
	if _, err = conn.Write(codec.AppendPackage(b, codec.PackageHandshakeAck, nil)); err == nil {
		err = d.read(func() bool { return d.answers[0] != "" })
	}
	if err != nil {
		conn.Close()
	}
	return d, err
}

// read reads until done, or for too long.
func (d *diarist) read(done func() bool) error {
	for buf := make([]byte, 64<<10); !done(); {
		_ = d.conn.SetReadDeadline(time.Now().Add(deadline))
		n, err := d.conn.Read(buf)
		if err != nil {
			return err
		}
		d.in = append(d.in, buf[:n]...)
		for {
			p, used, err := codec.ParsePackage(d.in, 1<<20)
			if err != nil {
				return err
			}
			if used == 0 {
				break
			}
			switch p.Type {
			case codec.PackageHandshake:
				d.answers[0] = string(p.Body)
			case codec.PackageKick:
				return fmt.Errorf("kicked: %s", p.Body)
			case codec.PackageData:
				m, err := codec.ParseMessage(p.Body)
				if err != nil {
					return err
				}
				if m.ID != 0 {
					d.answers[m.ID] = string(m.Body)
				} else if route := string(m.Route); route == "onChat" || route == "onDelete" {
					var s said
					if err := json.Unmarshal(m.Body, &s); err != nil {
						return err
					}
					if route == "onChat" {
						d.pushes = append(d.pushes, s)
					} else {
						d.deleted = append(d.deleted, s)
					}
				}
			}
			d.in = d.in[used:]
		}
	}
	return nil
}

func (d *diarist) send(route, body string) (id uint32, err error) {
	d.id++
	m, err := codec.AppendMessage(nil, codec.Message{Type: codec.MessageRequest, ID: d.id, Route: []byte(route), Body: []byte(body)})
	if err == nil {
		_, err = d.conn.Write(codec.AppendPackage(nil, codec.PackageData, m))
	}
	return d.id, err
}

// request returns the answer.
func (d *diarist) request(route, body string) (string, error) {
	id, err := d.send(route, body)
	if err == nil {
		err = d.read(func() bool { return d.answers[id] != "" })
	}
	return d.answers[id], err
}

// enter enters, and returns what the answer says.
func (d *diarist) enter(user, room, more string) (a struct {
	Seq      string
	Complete bool
	Code     int
}, err error) {
	answer, err := d.request("connector.entryHandler.enter", fmt.Sprintf(`{"username":%q,"rid":%q%s}`, user, room, more))
	if err == nil {
		err = json.Unmarshal([]byte(answer), &a)
	}
	return a, err
}

// keeping runs pomelod with a folder.
func keeping(t *testing.T, dir string, flags ...string) *process {
	args := append([]string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-limits", "off", "-history-dir", dir}, flags...)
	p := spawn(t, pomelodCommand(nil, args...))
	p.waitLog(`"msg":"ready"`)
	return p
}

// Who was in a room when pomelod was killed returns without a gap: every message that its sender was answered for is there, once and in order, in the stream of
// before; what was not answered may be there, and is not doubled when it is sent again.
func TestHistoryOutlivesAKill(t *testing.T) {
	rng := seed.Rand(t)
	dir := filepath.Join(t.TempDir(), "history")
	const secret = "a secret of a diarist"
	flags := []string{"-history-sync", "always", "-history", "10000", "-history-bytes", "1GiB", "-history-age", "1h"}
	var said []string                   // what was answered, or sent again and answered then
	last, incarnation := "", ""         // the newest push seen, and the stream that it is of
	come := func(p *process) *diarist { // returns
		t.Helper()
		d, err := newDiarist(p.addr("connector").String(), secret)
		if err != nil {
			t.Fatal(err, p.log())
		}
		more := ""
		if last != "" {
			more = fmt.Sprintf(`,"since":%q`, last)
		}
		a, err := d.enter("ann", "r", more)
		if err != nil {
			t.Fatal(err, p.log())
		}
		stream, _, _ := strings.Cut(a.Seq, ".")
		if last != "" && (!a.Complete || stream != incarnation) {
			t.Fatalf("the return to %s: %+v\n%s", last, a, p.log())
		}
		incarnation, last = stream, a.Seq
		return d
	}
	for run := range 4 {
		p := keeping(t, dir, flags...)
		d := come(p)
		texts := map[uint32]string{}
		send := func(i int, text string) uint32 {
			id, err := d.send("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*","mid":"message %08d %d"}`, text, i, run))
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		for i := range 60 {
			text := fmt.Sprint(run, "-", i)
			texts[send(i, text)] = text
		}
		stop := len(d.answers) + rng.IntN(55)
		if err := d.read(func() bool { return len(d.answers) >= stop }); err != nil {
			t.Fatal(err, p.log())
		}
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		_ = d.read(func() bool { return false }) // what was on its way
		_ = p.wait()
		d.conn.Close()
		for id, text := range texts {
			if strings.Contains(d.answers[id], `"seq"`) {
				said = append(said, text)
			} else if d.answers[id] != "" {
				t.Errorf("run %d: %s", run, d.answers[id])
			}
		}
		if n := len(d.pushes); n > 0 {
			last = d.pushes[rng.IntN(n)].Seq // as if it had seen no more
		}

		p = keeping(t, dir, flags...)
		d = come(p)
		for i := range 60 { // also what was answered, which must not be doubled either
			text := fmt.Sprint(run, "-", i)
			id := send(i, text)
			if err := d.read(func() bool { return d.answers[id] != "" }); err != nil || !strings.Contains(d.answers[id], `"seq"`) {
				t.Fatal(d.answers[id], err)
			}
			if !slices.Contains(said, text) {
				said = append(said, text)
			}
		}
		all, err := everything(d)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		slices.Sort(said)
		if !slices.Equal(all, said) {
			t.Fatalf("run %d: the room has %q;\nsaid was %q", run, all, said)
		}
		last = d.pushes[len(d.pushes)-1].Seq
		d.conn.Close()
		p.stop() // in order
	}
}

// What was deleted when pomelod was killed stays deleted, for who returns and for who asks; who has seen it is told so.
func TestDeletionOutlivesAKill(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "admin.sock")
	flags := []string{"-history-sync", "always", "-history-open", "r", "-admin-socket", socket}
	come := func(p *process, more string) (d *diarist, complete bool) {
		t.Helper()
		d, err := newDiarist(p.addr("connector").String(), "a secret of a diarist")
		if err != nil {
			t.Fatal(err, p.log())
		}
		a, err := d.enter("ann", "r", more)
		if err != nil {
			t.Fatal(err, p.log())
		}
		return d, a.Complete
	}
	p := keeping(t, dir, flags...)
	d, _ := come(p, "")
	var seqs []string
	for i, text := range []string{"one", "two", "three"} {
		answer, err := d.request("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*","mid":"message %08d"}`, text, i))
		var s said
		if err == nil {
			err = json.Unmarshal([]byte(answer), &s)
		}
		if err != nil {
			t.Fatal(answer, err)
		}
		seqs = append(seqs, s.Seq)
	}
	operator := &administered{p, socket}
	operator.must("delete", "r", seqs[0])
	operator.must("delete", "r", seqs[1])
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.wait()
	d.conn.Close()

	p = keeping(t, dir, flags...)
	d, complete := come(p, fmt.Sprintf(`,"since":%q`, seqs[1]))
	defer d.conn.Close()
	if all, err := everything(d); err != nil || !slices.Equal(all, []string{"three"}) {
		t.Errorf("the room has %q, %v", all, err)
	}
	if len(d.pushes) != 1 || d.pushes[0].Seq != seqs[2] || !complete {
		t.Errorf("complete %v, repeated is %+v", complete, d.pushes)
	}
	if len(d.deleted) != 2 || d.deleted[0].Deleted != seqs[1] || d.deleted[1].Deleted != seqs[0] {
		t.Errorf("told that %+v are deleted", d.deleted)
	}
	if got := (&administered{p, socket}).must("history", "r"); strings.Contains(got, "two") || !strings.Contains(got, "three") {
		t.Errorf("history: %q", got)
	}
	p.stop()
}

// limitFiles bounds how large files of a process may be, as if the disk were full.
func limitFiles(t *testing.T, pid int, bytes uint64) {
	t.Helper()
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

// everything is all that the room of a member has kept, read page by page.
func everything(d *diarist) (all []string, err error) {
	before := ""
	for {
		answer, err := d.request("chat.chatHandler.history", `{"limit":200`+before+`}`)
		if err != nil {
			return nil, err
		}
		var page struct {
			Messages []said
			More     bool
			Code     int
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil || page.Code != 0 {
			return nil, errors.Join(err, errors.New(answer))
		}
		for _, m := range page.Messages {
			all = append(all, m.Msg)
		}
		if !page.More {
			return all, nil
		}
		before = fmt.Sprintf(`,"before":%q`, page.Messages[0].Seq)
	}
}

// While the disk is full nobody is told that a message is safe: senders are refused and told why, and served again when there is room. Whoever only listens
// notices nothing.
func TestHistoryOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	p := keeping(t, dir, "-history-sync", "always", "-request-timeout", "3s")
	d, err := newDiarist(p.addr("connector").String(), "a secret of a diarist")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = d.enter("ann", "r", ""); err != nil {
		t.Fatal(err)
	}
	say := func(text string) string {
		answer, err := d.request("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*"}`, text))
		if err != nil {
			t.Fatal(err, p.log())
		}
		return answer
	}
	if got := say("before"); !strings.Contains(got, `"seq"`) {
		t.Fatal(got)
	}
	limitFiles(t, p.cmd.Process.Pid, 4096)
	for end := time.Now().Add(deadline); ; {
		if got := say(strings.Repeat("x", 4000)); got == `{"code":500,"reason":"history"}` {
			break
		}
		if time.Now().After(end) {
			t.Fatal("messages are not refused\n", p.log())
		}
	}
	limitFiles(t, p.cmd.Process.Pid, unix.RLIM_INFINITY)
	for end := time.Now().Add(deadline); !strings.Contains(say("after"), `"seq"`); {
		if time.Now().After(end) {
			t.Fatal("messages are refused for ever\n", p.log())
		}
	}
	p.stop()
}

// Who deletes while the disk is full is told so, and does not wait: the messages are gone from the room at once. When there is room it is written, and holds after a kill.
func TestDeletionOnAFullDisk(t *testing.T) {
	for _, sync := range []string{"always", "off"} {
		t.Run(sync, func(t *testing.T) {
			dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "admin.sock")
			flags := []string{"-history-sync", sync, "-history-open", "r", "-admin-socket", socket}
			p := keeping(t, dir, flags...)
			d, err := newDiarist(p.addr("connector").String(), "a secret of a diarist")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = d.enter("ann", "r", ""); err != nil {
				t.Fatal(err)
			}
			var seqs []string
			for _, text := range []string{"one", "two", "three"} {
				answer, err := d.request("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*"}`, text))
				var s said
				if err == nil {
					err = json.Unmarshal([]byte(answer), &s)
				}
				if err != nil {
					t.Fatal(answer, err)
				}
				seqs = append(seqs, s.Seq)
			}
			operator := &administered{p, socket}
			if got := operator.must("delete", "r", seqs[2]); got != "deleted: 1\n" { // what was said before is written, too
				t.Errorf("on a disk with room: %q", got)
			}
			limitFiles(t, p.cmd.Process.Pid, 4096)
			for _, seq := range seqs[:2] { // when nobody knows yet that the disk is full, and when that is known
				if got := operator.must("delete", "r", seq); !strings.HasPrefix(got, "deleted: 1; they are gone from the room, but -history-dir cannot be written at present") {
					t.Errorf("on a full disk: %q", got)
				}
			}
			if all, err := everything(d); err != nil || len(all) != 0 {
				t.Errorf("the room has %q, %v", all, err)
			}
			if line := operator.waitLog(`"warning":"they are gone`); !strings.Contains(line, seqs[0]) {
				t.Errorf("logged: %s", line)
			}
			limitFiles(t, p.cmd.Process.Pid, unix.RLIM_INFINITY)
			for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) { // asked again it is written, as all before
				if got := operator.must("delete", "r", seqs[0]); got == "deleted: 1\n" {
					break
				} else if time.Now().After(end) {
					t.Fatal(got)
				}
			}
			_ = p.cmd.Process.Signal(syscall.SIGKILL)
			_ = p.wait()
			d.conn.Close()
			p = keeping(t, dir, flags...)
			if got := (&administered{p, socket}).must("history", "r"); strings.Contains(got, "one") || strings.Contains(got, "two") || strings.Contains(got, "three") {
				t.Errorf("history: %q", got)
			}
			p.stop()
		})
	}
}

// A pomelod of another one's folder, and flags that do not fit together, are refused with what to do.
func TestHistoryFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"-history-sync always":                          "give -history-dir too",
		"-history-keep 1d:1GiB":                         "give -history-dir too",
		"-history-dir x -nats nats://127.0.0.1:4222":    "drop it",
		"-history-dir x -history 0":                     "drop one of them",
		"-history-dir x -history-keep 10GiB":            "such as 30d:10GiB",
		"-history-dir x -history-keep 30d":              "such as 30d:10GiB",
		"-history-dir x -history-keep 1m:1GiB":          "such as 30d:10GiB",
		"-history-dir x -history-keep 30d:1MiB":         "such as 30d:10GiB",
		"-history-dir x -history-keep 99999999999d:1GB": "such as 30d:10GiB",
		"-history-dir x -history-sync sometimes":        "always or off",
	} {
		_, err := parseFlags(strings.Fields(flags), nil, os.Stderr)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flags, err)
		}
	}
	for text, want := range map[string]string{"30d:10GiB": "30d:10GiB", "36h:64MiB": "36h0m0s:64MiB", "48h:1GiB": "2d:1GiB"} {
		var k keepFlag
		if err := k.Set(text); err != nil || k.String() != want {
			t.Errorf("%s: %v, %v", text, k.String(), err)
		}
	}
	dir := t.TempDir()
	start(t, "-history-dir", dir)
	cfg, err := parseFlags([]string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-history-dir", dir}, nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cfg.plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newServer(cfg, p, nil); err == nil || !strings.Contains(err.Error(), "another pomelod uses this folder") {
		t.Errorf("a second one: %v", err)
	}
}
