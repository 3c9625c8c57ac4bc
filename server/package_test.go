//go:build linux

package server

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packaged makes packages of a script that stands for pomelod, and returns where they are and what was said.
func packaged(t *testing.T) (dir, said string) {
	t.Helper()
	dir = t.TempDir()
	binary := filepath.Join(t.TempDir(), "pomelod")
	if err := os.WriteFile(binary, []byte(fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", mainEnv, os.Args[0])), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-s", "-C", "..", "--no-print-directory", "package", "ARCH=amd64", "BINARY="+binary, "VERSION=v1.2.3", "DIST="+dir, "NFPM="+cmp.Or(os.Getenv("NFPM"), "nfpm"))
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make package: %v\n%s", err, out)
	}
	return dir, string(out)
}

// outputOf runs a program that must succeed.
func outputOf(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The tarball and the packages have the program, its units, manual and completions; made again they are the same to the byte. A deb that is installed into an empty
// root and removed leaves the configuration, and what an operator has written there is never replaced. Where there is no nfpm the tarball alone is looked at: make packages
// has one.
func TestPackages(t *testing.T) {
	dpkg := need(t, "dpkg-deb")
	dir, said := packaged(t)
	tarball := filepath.Join(dir, "pomelod-v1.2.3-linux-amd64.tar.gz")
	list := outputOf(t, "tar", "-tvzf", tarball)
	for _, want := range []string{"-rwxr-xr-x 0/0", "linux-amd64/usr/bin/pomelod\n", "usr/lib/systemd/system/pomelod.service\n", "man1/pomelod-kick.1.gz\n", "completions/pomelod\n", "doc/pomelod/copyright\n", "doc/pomelod/licences.txt\n", "etc/default/pomelod\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in the tarball:\n%s", want, list)
		}
	}
	again, _ := packaged(t)
	for _, kind := range []string{"tar.gz", "deb", "rpm"} {
		name := "pomelod-v1.2.3-linux-amd64." + kind
		a, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) && strings.Contains(said, "nfpm cannot be had") {
			t.Skip(strings.TrimSpace(said))
		}
		if b, err := os.ReadFile(filepath.Join(again, name)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is another one when it is made again (%v)", name, err)
		}
	}
	deb := filepath.Join(dir, "pomelod-v1.2.3-linux-amd64.deb")
	if about := outputOf(t, dpkg, "-f", deb, "Package", "Version", "Architecture"); about != "Package: pomelod\nVersion: 1.2.3\nArchitecture: amd64\n" {
		t.Errorf("it is\n%s", about)
	}
	root := t.TempDir()
	if os.Getuid() != 0 {
		outputOf(t, dpkg, "-x", deb, root)
		return
	}
	for _, name := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(args ...string) {
		t.Helper()
		outputOf(t, "dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-not-root", "--force-depends", "--force-architecture", "--force-confold", "--log=/dev/null"}, args...)...)
	}
	do("-i", deb)
	if text := readFile(t, filepath.Join(root, "usr/lib/systemd/system/pomelod.service")); !strings.Contains(text, "\nExecStart=/usr/bin/pomelod\n") {
		t.Errorf("the unit starts something else:\n%s", text)
	}
	if out := outputOf(t, filepath.Join(root, "usr/bin/pomelod"), "help"); !strings.Contains(out, "pomelod kick") {
		t.Errorf("what is installed says\n%s", out)
	}
	info, err := os.Stat(filepath.Join(root, "etc/default/pomelod-fleet"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the login of NATS: %v, %v", info, err)
	}
	settings := filepath.Join(root, "etc/default/pomelod")
	if err := os.WriteFile(settings, []byte("POMELOD_DRAIN=1s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	do("-i", deb)
	do("-r", "pomelod")
	if text := readFile(t, settings); text != "POMELOD_DRAIN=1s\n" {
		t.Errorf("the settings are now %q", text)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/pomelod")); err == nil {
		t.Error("the program is still there")
	}
}
