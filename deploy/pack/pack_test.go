//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// pomelod is a binary as make build makes it.
var pomelod = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pomelod-pack-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "pomelod")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../cmd/pomelod")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := pomelod(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func theSubject(t *testing.T) subject {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	return subject{binary: binary, arch: runtime.GOARCH, version: "v1.2.3+x", time: time.Unix(1700000000, 0).UTC()}
}

// made is what a maker writes; it must write the same twice.
func made(t *testing.T, write func(io.Writer, subject) error, s subject) []byte {
	t.Helper()
	var once, again bytes.Buffer
	if err := errors.Join(write(&once, s), write(&again, s)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(once.Bytes(), again.Bytes()) {
		t.Error("made again it is another one")
	}
	return once.Bytes()
}

// filesOf reads a tar.
func filesOf(t *testing.T, r io.Reader) (names []string, headers map[string]*tar.Header, bodies map[string][]byte) {
	t.Helper()
	headers, bodies = map[string]*tar.Header{}, map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return names, headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		headers[h.Name] = h
		if bodies[h.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}

func decode[T any](t *testing.T, b []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %.200s", err, b)
	}
	return v
}

// unpacked puts an image's file system into a directory.
func unpacked(t *testing.T, layer []byte) (root string) {
	t.Helper()
	root = t.TempDir()
	names, headers, bodies := filesOf(t, bytes.NewReader(layer))
	for _, name := range names {
		h, path := headers[name], filepath.Join(root, name)
		var err error
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, bodies[name], 0o644)
		}
		if os.Getuid() == 0 {
			err = errors.Join(err, os.Chown(path, h.Uid, h.Gid))
		}
		if err := errors.Join(err, os.Chmod(path, h.FileInfo().Mode())); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// imageOf is an image taken apart: every blob is what its digest says, and both ways to read it lead to the same.
func imageOf(t *testing.T, image []byte) (config *imageConfig, layer []byte) {
	t.Helper()
	_, headers, files := filesOf(t, bytes.NewReader(image))
	blob := func(d descriptor) []byte {
		t.Helper()
		b, has := files[pathOf(d)]
		if !has || digest(b) != d.Digest || len(b) != d.Size {
			t.Fatalf("%s (%s): there %v, %d bytes", d.Digest, d.MediaType, has, len(b))
		}
		return b
	}
	if got := string(files["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", got)
	}
	top := decode[index](t, files["index.json"])
	if len(top.Manifests) != 1 || *top.Manifests[0].Platform != (platform{runtime.GOARCH, "linux"}) {
		t.Fatalf("index.json: %+v", top)
	}
	m := decode[manifest](t, blob(top.Manifests[0]))
	config = decode[*imageConfig](t, blob(m.Config))
	z, err := gzip.NewReader(bytes.NewReader(blob(m.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	if layer, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != digest(layer) {
		t.Errorf("layers %v, diff_ids %v, the layer is %s", m.Layers, config.RootFS.DiffIDs, digest(layer))
	}
	if list := decode[[]loaded](t, files["manifest.json"]); list[0].Config != pathOf(m.Config) || list[0].Layers[0] != pathOf(m.Layers[0]) || strings.Join(list[0].RepoTags, " ") != "pomelod:v1.2.3_x pomelod:latest" {
		t.Errorf("manifest.json: %+v", list)
	}
	for name, h := range headers {
		if h.Uid != 0 || !h.ModTime.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("%s: owner %d, time %v", name, h.Uid, h.ModTime)
		}
	}
	return config, layer
}

// The image runs as its configuration says, with nothing of this machine but the kernel: pomelod becomes ready, the healthcheck says so, it can write where it has to and
// nowhere else, and it ends on its signal.
func TestImageRuns(t *testing.T) {
	config, layer := imageOf(t, made(t, writeImage, theSubject(t)))
	if config.Config.User != "65532:65532" || len(config.Config.ExposedPorts) != 2 || config.Config.Labels["org.opencontainers.image.version"] != "v1.2.3+x" {
		t.Errorf("%+v", config.Config)
	}
	root := unpacked(t, layer)
	if os.Getuid() != 0 {
		t.Skip("only root may change its root directory")
	}
	for dir := root; dir != "/"; dir = filepath.Dir(dir) { // others may go through
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if dir == os.TempDir() {
			break
		}
	}
	inside := func(args ...string) *exec.Cmd { return contained(root, config, args) }
	first := config.Config.Entrypoint
	server := inside(append(first, "-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none")...)
	var said bytes.Buffer
	ready := make(chan struct{})
	server.Stderr = &watched{to: &said, word: `"msg":"ready"`, found: ready}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	defer func() { _ = server.Process.Kill() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("it ended: %v\n%s", err, &said)
	case <-time.After(time.Minute):
		t.Fatal("it does not become ready")
	}
	test := config.Config.Healthcheck.Test
	if out, err := inside(test[1:]...).CombinedOutput(); test[0] != "CMD" || err != nil || string(out) != "ok\n" {
		t.Errorf("the healthcheck, %q: %v, %s", test, err, out)
	}
	if out, err := inside(append(first, "ban", "mallory")...).CombinedOutput(); err != nil || !strings.Contains(string(out), "banned") {
		t.Errorf("a ban: %v, %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, stateDir, "rules.json")); err != nil {
		t.Errorf("rules are not kept: %v", err)
	}
	if err := server.Process.Signal(signalOf(config.Config.StopSignal)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v\n%s", err, &said)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
	if out, err := inside(test[1:]...).CombinedOutput(); err == nil {
		t.Errorf("the healthcheck of what has ended: %s", out)
	}
	if strings.Contains(said.String(), `"level":"ERROR"`) {
		t.Errorf("it logged\n%s", &said)
	}
}

// The SBOM names what the binary was built of, and whose licence each has.
func TestSBOM(t *testing.T) {
	b := decode[bom](t, made(t, writeSBOM, theSubject(t)))
	if b.Format != "CycloneDX" || b.Metadata.Component.Version != "v1.2.3+x" || b.Metadata.Timestamp != "2023-11-14T22:13:20Z" || len(b.Components) < 5 || len(b.Depends) != len(b.Components)+1 {
		t.Errorf("%+v", b)
	}
	seen := map[string]bool{}
	for _, c := range b.Components {
		seen[c.Name] = true
		if c.Version == "" || len(c.Licences) == 0 || !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") {
			t.Errorf("%+v", c)
		}
	}
	for _, name := range []string{"stdlib", "go.etcd.io/bbolt", "github.com/nats-io/nats.go", "golang.org/x/sys"} {
		if !seen[name] {
			t.Errorf("%s is not in it", name)
		}
	}
}

// Every module has a licence that is known and may be given along, and the file has them all.
func TestLicences(t *testing.T) {
	list, err := modules()
	if err != nil {
		t.Fatal(err)
	}
	text := string(made(t, func(w io.Writer, _ subject) error { return writeLicences(w) }, subject{}))
	for _, m := range list {
		if _, _, err := textOf(m); err != nil {
			t.Error(err)
		}
		if !strings.Contains(text, "==== "+m.Path+" "+m.Version+" (") {
			t.Errorf("%s is not in it", m.Path)
		}
	}
	for _, words := range []string{"==== pomelod (MIT)\n", "Copyright 2012-2015 The Prometheus Authors", "---- NOTICE", "---- LICENSE-yyjson"} { // a notice, and a licence of what sonic has taken from others
		if !strings.Contains(text, words) {
			t.Errorf("%q is not in it", words)
		}
	}
	dir := t.TempDir()
	if _, _, err := textOf(module{Path: "a", Dir: dir}); err == nil {
		t.Error("what has no licence has one")
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("All rights reserved."), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := textOf(module{Path: "a", Dir: dir}); err == nil || !strings.Contains(err.Error(), "none that is known") {
		t.Errorf("a licence that nobody knows: %v", err)
	}
}

// A command line that is wrong makes nothing.
func TestRunRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{nil, {"image"}, {"picture", "-out", out}, {"image", "-out", out, "-binary", "nothing"}, {"sbom", "-out", out, "-binary", "main.go"}, {"licences", "-out", out, "more"}} {
		if err := run(args); err == nil {
			t.Errorf("%q is carried out", args)
		}
		if found, _ := filepath.Glob(out + "*"); len(found) > 0 {
			t.Errorf("%q leaves %v", args, found)
		}
	}
}
