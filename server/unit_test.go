//go:build linux

package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// installed is what make install puts into a directory of the test's, by path.
func installed(t *testing.T, args ...string) (root string, output string) {
	t.Helper()
	root = t.TempDir()
	cmd := exec.Command("make", append([]string{"-C", "..", "install", "BINARY=" + os.Args[0], "DESTDIR=" + root}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	return root, string(out)
}

// filesIn lists the regular files below root with their modes.
func filesIn(t *testing.T, root string) (list []string) {
	t.Helper()
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			list = append(list, info.Mode().String()+" "+strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// make install and uninstall know the same files, honour PREFIX and DESTDIR, and leave an operator's settings alone.
func TestUnitInstall(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077)) // a careful root's; the files must be readable all the same
	root, _ := installed(t, "PREFIX=/usr")
	if got, want := filesIn(t, root), []string{
		"-rw-r--r-- /etc/default/pomelod", "-rw------- /etc/default/pomelod-fleet", "-rwxr-xr-x /usr/bin/pomelod",
		"-rw-r--r-- /usr/lib/systemd/system/pomelod.service", "-rw-r--r-- /usr/lib/systemd/system/pomelod.socket", "-rw-r--r-- /usr/lib/systemd/system/pomelod@.service",
	}; !slices.Equal(got, want) {
		t.Errorf("installed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	unit := readFile(t, filepath.Join(root, "usr/lib/systemd/system/pomelod.service"))
	if !strings.Contains(unit, "\nExecStart=/usr/bin/pomelod\n") {
		t.Error("the unit starts something else:\n", unit)
	}
	uninstall := func() {
		if out, err := exec.Command("make", "-C", "..", "uninstall", "DESTDIR="+root, "PREFIX=/usr").CombinedOutput(); err != nil {
			t.Fatalf("make uninstall: %v\n%s", err, out)
		}
	}
	uninstall()
	if left := filesIn(t, root); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	settings := filepath.Join(root, "etc/default/pomelod")
	if err := os.WriteFile(settings, []byte("POMELOD_DRAIN=1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"install", "uninstall"} {
		if out, err := exec.Command("make", "-C", "..", target, "BINARY="+os.Args[0], "DESTDIR="+root, "PREFIX=/usr").CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
		if text := readFile(t, settings); text != "POMELOD_DRAIN=1s\n" {
			t.Errorf("make %s made the settings %q", target, text)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// systemd finds nothing to say about the units, and calls the service well protected.
func TestUnitVerify(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	root, _ := installed(t)
	dir := t.TempDir() // verify wants the program to be there, and the units side by side
	for _, name := range []string{"pomelod.service", "pomelod.socket", "pomelod@.service"} {
		text := readFile(t, filepath.Join(root, "usr/local/lib/systemd/system", name))
		name = strings.Replace(name, "@.", "@chat-1.", 1)
		text = strings.ReplaceAll(text, "/usr/local/bin/", filepath.Join(root, "usr/local/bin")+"/")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	service, socket := filepath.Join(dir, "pomelod.service"), filepath.Join(dir, "pomelod.socket")
	var stderr bytes.Buffer
	cmd := exec.Command(analyze, "verify", service, socket, filepath.Join(dir, "pomelod@chat-1.service"))
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("verify: %v\n%s", err, &stderr)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", service).CombinedOutput()
	if err != nil {
		t.Fatalf("security: %v\n%s", err, out)
	}
	score := regexp.MustCompile(`exposure level for pomelod\.service: ([0-9.]+)`).FindSubmatch(out)
	if score == nil {
		t.Fatalf("no score in\n%s", out)
	}
	if n, err := strconv.ParseFloat(string(score[1]), 64); err != nil || n > 2 {
		t.Errorf("exposure %s, want at most 2.0\n%s", score[1], out)
	}
}

// unitSettings are the lines "key=value" of a unit in deploy/.
func unitSettings(t *testing.T, name string) map[string][]string {
	t.Helper()
	settings := make(map[string][]string)
	for _, line := range strings.Split(readFile(t, "../deploy/"+name), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			settings[key] = append(settings[key], value)
		}
	}
	return settings
}

// The units and the environment file say what the program needs and knows.
func TestUnitFitsProgram(t *testing.T) {
	cfg, p, err := planned(nil)
	if err != nil {
		t.Fatal(err)
	}
	service, socket := unitSettings(t, "pomelod.service"), unitSettings(t, "pomelod.socket")
	stop, err := time.ParseDuration(service["TimeoutStopSec"][0])
	if err != nil || stop < cfg.drain+5*time.Second {
		t.Errorf("TimeoutStopSec=%v, %v: not enough for -drain %v", stop, err, cfg.drain)
	}
	if value, there := service["MemoryDenyWriteExecute"]; there {
		t.Errorf("MemoryDenyWriteExecute=%s: the JSON engine would end the process when it starts", value)
	}
	for key, want := range map[string]string{"Type": "notify", "ExecReload": "kill -HUP $MAINPID", "Restart": "on-failure", "Requires": "pomelod.socket"} {
		if got := service[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s=%q, want %s", key, got, want)
		}
	}
	if families := service["RestrictAddressFamilies"]; len(families) != 1 || !strings.Contains(families[0], "AF_UNIX") {
		t.Errorf("RestrictAddressFamilies=%q: without AF_UNIX systemd is told nothing", families)
	}

	var passed []passedSocket
	for _, port := range socket["ListenStream"] {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		passed = append(passed, passedSocket{fd: listenFDsStart + len(passed), addr: &net.TCPAddr{IP: net.IPv6zero, Port: n}})
	}
	if err := p.assign(passed); err != nil || len(p.inherited) != len(p.listeners) {
		t.Errorf("the sockets do not fit the defaults: %v, %v", p.inherited, err)
	}

	var environ []string
	for _, line := range strings.Split(readFile(t, "../deploy/pomelod.env"), "\n") {
		if kv := strings.TrimPrefix(line, "#"); strings.HasPrefix(kv, envPrefix) {
			if strings.HasPrefix(kv, envPrefix+"FLAGS_FILE=") { // a file of this form itself
				file := filepath.Join(t.TempDir(), "flags")
				put(t, file, "POMELOD_SESSION_RATE=50:100\n")
				kv = envPrefix + "FLAGS_FILE=" + file
			}
			environ = append(environ, kv)
		}
	}
	if _, err := parseFlags(nil, environ, io.Discard); err != nil || len(environ) == 0 {
		t.Errorf("what the environment file shows (%d settings) does not work: %v", len(environ), err)
	}
}

// A node's unit is the server's but for what a node is: it has no sockets, and settings of its own. So it is as well protected.
func TestUnitOfANode(t *testing.T) {
	service, node := unitSettings(t, "pomelod.service"), unitSettings(t, "pomelod@.service")
	own := []string{"Description", "Documentation", "Requires", "Wants", "After", "Environment", "EnvironmentFile", "RestartSec", "RuntimeDirectory", "StateDirectory", "Also"}
	for _, units := range [][2]map[string][]string{{service, node}, {node, service}} {
		for key, want := range units[0] {
			if got := units[1][key]; !slices.Contains(own, key) && !slices.Equal(got, want) {
				t.Errorf("%s is %q in one unit and %q in the other", key, want, got)
			}
		}
	}
	var environ []string
	for _, line := range strings.Split(readFile(t, "../deploy/pomelod-fleet.env"), "\n") {
		if kv := strings.TrimPrefix(line, "#"); strings.HasPrefix(kv, envPrefix) && !strings.HasPrefix(kv, "POMELOD_CONFIG") && !strings.HasPrefix(kv, "POMELOD_ENV") {
			if strings.HasPrefix(kv, envPrefix+"FLAGS_FILE=") { // a file of this form itself
				file := filepath.Join(t.TempDir(), "flags")
				put(t, file, "POMELOD_SESSION_RATE=50:100\n")
				kv = envPrefix + "FLAGS_FILE=" + file
			}
			environ = append(environ, kv)
		}
	}
	c, err := parseFlags(nil, append(environ, "POMELOD_ID=connector-1"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.plan(nil); err != nil || len(p.listeners) != 1 || c.fleet.id != "connector-1" {
		t.Errorf("what the environment file shows is no connector: %+v, %v", p, err)
	}
}

// Each container of the compose files starts, as far as flags go, gets the ports at which it listens, and has the time that its end may take.
func TestComposeFiles(t *testing.T) {
	for file, want := range map[string]string{"compose.yaml": "[3014:3014 3050:3050]", "compose-fleet.yaml": "chat-1[] chat-2[] connector-1[3050:3050] connector-2[3051:3050] gate-1[3014:3014]"} {
		var got []string
		text := readFile(t, "../deploy/"+file)
		grace, err := time.ParseDuration(regexp.MustCompile(`stop_grace_period: (\S+)`).FindStringSubmatch(text)[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^    command: ([^#\n]*).*\n((?:    .*\n)*)`).FindAllStringSubmatch(text, -1) {
			c, p, err := planned(nil, strings.Fields(m[1])...)
			if err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
				continue
			}
			if err := checkServer(c, p, nil); err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
			}
			takes := c.drain + 3*time.Second
			if c.fleet.on() {
				takes += handOverTime
			}
			if grace < takes {
				t.Errorf("%s: %s: killed after %v, and the end may take %v", file, m[1], grace, takes)
			}
			got = append(got, fmt.Sprintf("%s%v", c.fleet.node(), regexp.MustCompile(`\d+:\d+`).FindAllString(regexp.MustCompile(`ports: .*`).FindString(m[2]), -1)))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has %s, want %s", file, strings.Join(got, " "), want)
		}
	}
}
