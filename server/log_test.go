//go:build linux

package server

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// figure is the sum of a metric's values, as -admin at addr shows it; -1 when it is not there.
func figure(t *testing.T, addr, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return -1
}

// When the reader of the log goes, clients are served and the lost lines counted; when another one comes, it is told how many.
func TestLogReaderComesAndGoes(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		f, err := os.OpenFile(fifo, flag|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	reader := open(os.O_RDONLY)
	stderr := open(os.O_WRONLY)
	stderr.Fd() // blocking from now on, as a shell makes it
	connector, addr := listening(t, "127.0.0.1:0")
	admin, adminAddr := listening(t, "127.0.0.1:0")
	cmd := activated([]*os.File{connector, admin}, []string{"LISTEN_FDNAMES=connector:admin"}, "-gate", "")
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error("ended with", err)
		}
	}()
	defer http.DefaultClient.CloseIdleConnections()
	if err := chats(addr.String(), "a"); err != nil {
		t.Fatal(err)
	}
	errors := func() float64 { return figure(t, adminAddr.String(), "pomelod_log_errors_total") }
	if n := errors(); n != 0 {
		t.Fatalf("%v errors while there is a reader", n)
	}
	reader.Close()
	waitFor(t, func() bool {
		_ = cmd.Process.Signal(syscall.SIGHUP) // it logs
		return errors() >= 3
	})
	if err := chats(addr.String(), "b"); err != nil {
		t.Error(err)
	}
	reader = open(os.O_RDONLY)
	defer reader.Close()
	var text []byte
	waitFor(t, func() bool {
		_ = cmd.Process.Signal(syscall.SIGHUP)
		b := make([]byte, 4096)
		if n, err := reader.Read(b); err == nil {
			text = append(text, b[:n]...)
		}
		return strings.Contains(string(text), "log lines were lost")
	})
	if want := fmt.Sprintf(`"lines":%v`, errors()); !strings.Contains(string(text), want) {
		t.Errorf("told\n%s\nwant %s", text, want)
	}
}
