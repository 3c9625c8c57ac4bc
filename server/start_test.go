//go:build linux

package server

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outcome is what a command line prints and how it exits, when it starts nothing.
func outcome(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := pomelodCommand(env, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	kill := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// What is wrong is told in one sentence, with what to write instead; the start and -check-config say the same and exit alike:
// 2 for flags and files, 1 for what the machine refuses.
func TestMistakesExitAndSay(t *testing.T) {
	dir := configDir(t, map[string]string{"servers.json": `{"connector":[{"id":"c","host":"h","clientPort":3005}],"gate":[{"id":"g","host":"h","clientPort":3014}]}`})
	for _, tc := range []struct {
		env, args string
		code      int
		want      string
	}{
		{"", "-listen abc", 2, `-listen "abc": must be an address with a port; write for example -listen :3050`},
		{"", "-listen 4050", 2, `-listen "4050": must be an address with a port; write for example -listen :4050`},
		{"", "-listen 10.0.0.1", 2, `-listen "10.0.0.1": must be an address with a port; write for example -listen 10.0.0.1:3050`},
		{"", "-gate ::1", 2, `-gate "::1": must be an address with a port; write for example -gate [::1]:3014`},
		{"", "-admin localhost", 2, `-admin "localhost": must be an address with a port; write for example -admin 127.0.0.1:3005`},
		{"", "-listen :99999", 2, `-listen ":99999": "99999" is no port; write a number from 1 to 65535, for example -listen :3050`},
		{"", "-loops 0", 2, "-loops 0: must be 1 to 256"},
		{"", "-loops 1000", 2, "-loops 1000: must be 1 to 256"},
		{"", "-loops two", 2, `invalid value "two" for flag -loops: must be a whole number; pomelod -help lists the flags`},
		{"", "-gate :3050", 2, "-listen :3050 and -gate :3050 would take the same port: give each a port of its own"},
		{"", "-gate 127.0.0.1:3050", 2, "-listen :3050 and -gate 127.0.0.1:3050 would take the same port: give each a port of its own"},
		{"", "-admin 0.0.0.0:3014", 2, "-gate :3014 and -admin 0.0.0.0:3014 would take the same port: give each a port of its own"},
		{"", "-config " + dir, 2, "clientPort of c :3005 and -admin 127.0.0.1:3005 would take the same port: give each a port of its own"},
		{"", "-heartbeat 3", 2, `invalid value "3" for flag -heartbeat: a time needs its unit: write 3s; pomelod -help lists the flags`},
		{"", "-sio-timeout 60", 2, `invalid value "60" for flag -sio-timeout: a time needs its unit: write 60s; pomelod -help lists the flags`},
		{"", "-drain soon", 2, `invalid value "soon" for flag -drain: must be a time, such as 1.5s, 20s or 5m; pomelod -help lists the flags`},
		{"POMELOD_HEARTBEAT=3", "", 2, `POMELOD_HEARTBEAT="3" in the environment: a time needs its unit: write 3s`},
		{"", "-advertise http://chat.example.com/", 2, `-advertise "http://chat.example.com/": write the host without http://, which clients choose themselves: -advertise chat.example.com`},
		{"", "-advertise wss://chat.example.com", 2, `-advertise "wss://chat.example.com": write the host without wss://, which clients choose themselves: -advertise chat.example.com:443`},
		{"", "-advertise chat.example.com/path", 2, `-advertise "chat.example.com/path": must be HOST or HOST:PORT, for example chat.example.com or chat.example.com:443`},
		{"", "-config " + dir + " -bind 127.0.0.1:3050", 2, `-bind "127.0.0.1:3050": must be a host or an address without a port, for example 127.0.0.1; servers.json has the ports`},
		{"", "-admin-hosts http://metrics.example.com:3005", 2, `-admin-hosts "http://metrics.example.com:3005": write names only, without scheme and port, for example metrics.example.com`},
		{"", "-e production", 2, "there is no flag -e: write -env; pomelod -help lists the flags"},
		{"", "-max-connections 5", 2, "there is no flag -max-connections; pomelod -help lists the flags"},
		{"", "-max-con 5", 2, "there is no flag -max-con; did you mean -max-conns? pomelod -help lists the flags"},
		{"", "-page false", 2, `unexpected "false": write -page=false`},
		{"", "stop", 2, `pomelod has no such command: instead of "stop" send it SIGTERM, or run: systemctl stop pomelod`},
		{"LISTEN_FDS=x", "", 2, `socket activation: LISTEN_FDS="x" is no number; systemd sets it, see sd_listen_fds(3), or unset it`},
	} {
		t.Run(tc.env+" "+tc.args, func(t *testing.T) {
			t.Parallel()
			for _, first := range []string{"", "-check-config"} {
				args := strings.Fields(first + " " + tc.args)
				if tc.args == "stop" {
					args = strings.Fields(tc.args)
				}
				stdout, stderr, code := outcome(t, []string{tc.env, "LISTEN_PID=1"}, args...)
				if stderr != "pomelod: "+tc.want+"\n" || stdout != "" || code != tc.code {
					t.Errorf("%q: exit %d, %s%s\nwant exit %d, pomelod: %s", args, code, stdout, stderr, tc.code, tc.want)
				}
			}
		})
	}
}

// What -check-config calls ok starts.
func TestCheckConfigSaysOK(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"", "-gate none -admin none", "-listen 127.0.0.1:3050 -gate 127.0.0.2:3050", "-listen 0.0.0.0:3050 -gate [::1]:3050", "-advertise [2001:db8::1]:3050", "-advertise 2001:db8::1"} {
		stdout, stderr, code := outcome(t, []string{"POMELOD_MAX_CONNS=", "POMELOD_HEARTBEAT="}, append(strings.Fields(args), "-check-config")...)
		if stdout != "ok\n" || stderr != "" || code != 0 {
			t.Errorf("%s: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	if stdout, _, code := outcome(t, nil, "-help"); code != 0 || !strings.HasPrefix(stdout, "pomelod is a chat server for clients of NetEase Pomelo and socket.io") {
		t.Errorf("-help: exit %d, %.80s", code, stdout)
	}
}

// What the machine refuses exits with 1: a port that another process has is no fault of the configuration.
func TestMachineRefuses(t *testing.T) {
	taken, addr := listening(t, "127.0.0.1:0")
	defer taken.Close()
	args := []string{"-listen", addr.String(), "-gate", "none", "-admin", "none"}
	if _, log, code := outcome(t, nil, args...); code != 1 || !strings.Contains(log, "another process has this port; stop it (ss -ltnp shows it) or change -listen") {
		t.Errorf("exit %d, %s", code, log)
	}
	if stdout, log, code := outcome(t, nil, append(args, "-check-config")...); code != 0 || stdout != "ok\n" {
		t.Errorf("-check-config bound something: exit %d, %s", code, log)
	}
}

// An advertised IPv6 address is told as URLs want it.
func TestAdvertisedIPv6(t *testing.T) {
	for advertise, want := range map[string]string{"2001:db8::1": "[2001:db8::1] 0", "[2001:db8::1]": "[2001:db8::1] 0", "[2001:db8::1]:443": "[2001:db8::1] 443", ":443": " 443", "chat.example.com": "chat.example.com 0"} {
		host, port, err := (&settings{advertise: advertise}).announced()
		if got := fmt.Sprint(host, " ", port); got != want || err != nil {
			t.Errorf("%s: %q, %v", advertise, got, err)
		}
	}
}

// Clients that are all sent to their own machine are worth a warning, unless pomelod listens for this machine only.
func TestLoopbackWarning(t *testing.T) {
	project := func(hosts ...string) string {
		var list []string
		for i, h := range hosts {
			list = append(list, fmt.Sprintf(`{"id":"c%d","host":"%s","clientPort":%d}`, i, h, 3050+i))
		}
		return configDir(t, map[string]string{"servers.json": `{"connector":[` + strings.Join(list, ",") + `]}`})
	}
	const text = "the gate sends all clients to 127.0.0.1, where those on other machines do not find this one: write -advertise HOST with the name by which they reach it, or "
	for _, tc := range []struct{ args, want string }{
		{"-config " + project("127.0.0.1", "127.0.0.1"), text + "-bind 127.0.0.1 if all are on this machine"},
		{"-config " + project("127.0.0.1") + " -bind 0.0.0.0", text + "-bind 127.0.0.1 if all are on this machine"},
		{"-advertise 127.0.0.1", text + "-listen 127.0.0.1:3050 if all are on this machine"},
		{"-config " + project("127.0.0.1") + " -bind 127.0.0.1", ""},
		{"-config " + project("127.0.0.1") + " -advertise chat.example.com", ""},
		{"-config " + project("127.0.0.1", "chat.example.com"), ""},
		{"", ""},
	} {
		_, p, err := planned(nil, strings.Fields(tc.args)...)
		if err != nil || strings.Join(p.warnings, "\n") != tc.want {
			t.Errorf("%s: %q, %v", tc.args, p.warnings, err)
		}
	}
}

// -help shows every flag once, the ten most needed first, each with what stands for its value.
func TestHelpShowsEveryFlagOnce(t *testing.T) {
	var out bytes.Buffer
	c, err := parseFlags(nil, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	printHelp(&out, c.flags, nil)
	text := out.String()
	c.flags.VisitAll(func(f *flag.Flag) {
		if n := strings.Count(text, "\n  -"+f.Name+"\n") + strings.Count(text, "\n  -"+f.Name+" ") + strings.Count(text, "\n  -"+f.Name+"=false\n"); n != 1 {
			t.Errorf("-%s is shown %d times", f.Name, n)
		}
	})
	_, needed, _ := strings.Cut(text, "\nMost needed:\n")
	needed, _, _ = strings.Cut(needed, "\n\n")
	if n := strings.Count("\n"+needed, "\n  -"); n != 10 || !strings.Contains(needed, "  -config DIRECTORY\n") {
		t.Errorf("%d flags come first:\n%s", n, needed)
	}
	for _, want := range []string{"-max-package SIZE\n      longest message from a client, bytes (default 256KiB)\n", "-session-rate RATE:BURST\n", "-loops N\n", "-page=false\n",
		"-drain TIME\n", "-limits public|off\n", "-listen ADDRESS\n", "-advertise HOST[:PORT]\n", "-trusted-proxies NETWORKS\n"} {
		if !strings.Contains(text, "  "+want) {
			t.Errorf("-help does not show %q", want)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 140 {
			t.Errorf("too long: %s", line)
		}
	}
}

// terminal is a new pseudo-terminal: what a process writes to tty comes out of master.
func terminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, tty
}

// A person at a terminal reads text, and where the chat page is; a machine gets JSON only.
func TestTerminal(t *testing.T) {
	for _, tc := range []struct {
		args string
		page bool
	}{{"", true}, {"-page=false", false}} {
		master, tty := terminal(t)
		listener, addr := listening(t, "127.0.0.1:0")
		cmd := activated([]*os.File{listener}, []string{"LISTEN_FDNAMES=connector"}, append(strings.Fields(tc.args), "-gate", "none", "-admin", "none")...)
		cmd.Stderr = tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		listener.Close()
		if err := chats(addr.String(), "a"); err != nil { // it is served, so the process is ready or about to be
			t.Error(err)
		}
		var log strings.Builder
		ready := false
		read := make(chan struct{})
		go func() { // until the process ends, which a terminal tells as EIO
			defer close(read)
			b := make([]byte, 4096)
			for {
				n, err := master.Read(b)
				log.Write(b[:n])
				if now := strings.Contains(log.String(), "msg=ready"); now && !ready {
					ready = true
					_ = cmd.Process.Signal(syscall.SIGTERM)
				}
				if err != nil {
					return
				}
			}
		}()
		kill := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		kill.Stop()
		<-read
		text := strings.ReplaceAll(log.String(), "\r\n", "\n")
		line := fmt.Sprintf("\nchat page: http://localhost:%d/\n", addr.Port)
		if strings.Contains(text, line) != tc.page || !strings.Contains(text, " level=INFO msg=listening ") || strings.Contains(text, "{") {
			t.Errorf("%s: the terminal shows\n%s", tc.args, text)
		}
	}
}

// The page is where a browser on this machine finds it.
func TestPageURL(t *testing.T) {
	running := start(t)
	port := running.addr("connector").Port
	s := &server{cfg: running.cfg, plan: running.plan} // not the listeners of one that runs
	for _, ln := range running.listeners {
		twin := *ln
		s.listeners = append(s.listeners, &twin)
	}
	for _, tc := range []struct{ ip, want string }{{"0.0.0.0", "localhost"}, {"::", "localhost"}, {"127.0.0.1", "localhost"}, {"192.0.2.7", "192.0.2.7"}, {"2001:db8::1", "[2001:db8::1]"}} {
		for _, ln := range s.listeners {
			ln.Addr = &net.TCPAddr{IP: net.ParseIP(tc.ip), Port: port}
		}
		if got, want := s.pageURL(false), fmt.Sprintf("http://%s:%d/", tc.want, port); got != want {
			t.Errorf("%s: %s, want %s", tc.ip, got, want)
		}
	}
}
