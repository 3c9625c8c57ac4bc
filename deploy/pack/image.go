package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"time"
)

// An image is a tar of an OCI image layout (github.com/opencontainers/image-spec, image-layout.md), with the manifest.json of docker save beside it: docker load,
// podman load and skopeo read it. Its only layer has the program, and directories that the program's user may write.

// userID runs pomelod in the image: nobody's number on usual systems.
const userID = 65532

// stateDir is where the image's process keeps rules and history: mount a volume there.
const stateDir = "/var/lib/pomelod"

// descriptor is a content descriptor (descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// manifest is an image manifest (manifest.md).
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// index is what index.json has (image-index.md).
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// imageConfig is an image configuration (config.md), with the Healthcheck of Docker's.
type imageConfig struct {
	Created string `json:"created"`
	platform
	Config struct {
		User         string
		ExposedPorts map[string]struct{}
		Env          []string
		Entrypoint   []string
		Healthcheck  healthcheck
		Volumes      map[string]struct{}
		WorkingDir   string
		Labels       map[string]string
		StopSignal   string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	} `json:"history"`
}

type healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// loaded is manifest.json, as docker load reads it.
type loaded struct {
	Config   string
	RepoTags []string
	Layers   []string
}

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// writeImage writes an image.
func writeImage(w io.Writer, s subject) error {
	layer, err := layerOf(s)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(layer); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}

	out := newArchive(w, s.time)
	out.dir("blobs", 0, 0o755)
	out.dir("blobs/sha256", 0, 0o755)
	blob := func(kind string, b []byte) descriptor {
		d := descriptor{MediaType: kind, Digest: digest(b), Size: len(b)}
		out.file(pathOf(d), b, 0o644)
		return d
	}
	l := blob(mediaLayer, packed.Bytes())
	c := blob(mediaConfig, encode(configOf(s, digest(layer))))
	m := blob(mediaManifest, encode(manifest{2, mediaManifest, c, []descriptor{l}}))
	m.Platform = &platform{s.arch, "linux"}
	m.Annotations = map[string]string{"org.opencontainers.image.ref.name": s.version, "io.containerd.image.name": "docker.io/library/pomelod:" + tagOf(s.version)}
	out.file("index.json", encode(index{2, mediaIndex, []descriptor{m}}), 0o644)
	out.file("manifest.json", encode([]loaded{{pathOf(c), []string{"pomelod:" + tagOf(s.version), "pomelod:latest"}, []string{pathOf(l)}}}), 0o644)
	out.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	return out.close()
}

// configOf is how the image runs. It holds one layer.
func configOf(s subject, layer string) *imageConfig {
	c := &imageConfig{Created: s.time.Format(time.RFC3339), platform: platform{s.arch, "linux"}}
	r := &c.Config
	r.User = "65532:65532"
	r.ExposedPorts = map[string]struct{}{"3014/tcp": {}, "3050/tcp": {}}
	r.Env = []string{"PATH=/", "STATE_DIRECTORY=" + stateDir}
	r.Entrypoint = []string{"/pomelod"}
	r.Healthcheck = healthcheck{Test: []string{"CMD", "/pomelod", "ready"}, Interval: 10 * time.Second, Timeout: 5 * time.Second, StartPeriod: 30 * time.Second, Retries: 3}
	r.Volumes = map[string]struct{}{stateDir: {}}
	r.WorkingDir = stateDir
	r.Labels = map[string]string{"org.opencontainers.image.title": "pomelod", "org.opencontainers.image.version": s.version, "org.opencontainers.image.licenses": "MIT"}
	r.StopSignal = "SIGTERM"
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{layer}
	c.History = append(c.History, struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	}{c.Created, "pack image"})
	return c
}

// layerOf is the image's file system, a tar.
func layerOf(s subject) ([]byte, error) {
	program, err := os.ReadFile(s.binary)
	if err != nil {
		return nil, err
	}
	var licences bytes.Buffer
	if err := writeLicences(&licences); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	a := newArchive(&b, s.time)
	a.dir("etc", 0, 0o755)
	a.file("etc/group", []byte("root:x:0:\npomelod:x:65532:\n"), 0o644)
	a.file("etc/passwd", []byte("root:x:0:0:root:/:/pomelod\npomelod:x:65532:65532:pomelod:"+stateDir+":/pomelod\n"), 0o644)
	a.file("licences.txt", licences.Bytes(), 0o644)
	a.file("pomelod", program, 0o755)
	a.dir("run", 0, 0o755)
	a.dir("run/pomelod", userID, 0o750)
	a.dir("tmp", 0, 0o1777)
	a.dir("var", 0, 0o755)
	a.dir("var/lib", 0, 0o755)
	a.dir("var/lib/pomelod", userID, 0o750)
	err = a.close()
	return b.Bytes(), err
}

// archive is a tar that is being written; its first error is told by close.
type archive struct {
	tar  *tar.Writer
	time time.Time
	err  error
}

func newArchive(w io.Writer, at time.Time) *archive { return &archive{tar: tar.NewWriter(w), time: at} }

func (a *archive) dir(name string, owner int, mode int64) {
	a.add(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: owner, Gid: owner}, nil)
}

func (a *archive) file(name string, body []byte, mode int64) {
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, body)
}

func (a *archive) add(h *tar.Header, body []byte) {
	h.ModTime, h.Format = a.time, tar.FormatUSTAR
	if a.err == nil {
		a.err = a.tar.WriteHeader(h)
	}
	if a.err == nil && body != nil {
		_, a.err = a.tar.Write(body)
	}
}

func (a *archive) close() error {
	if a.err != nil {
		return a.err
	}
	return a.tar.Close()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pathOf is where a blob is in a layout.
func pathOf(d descriptor) string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }

// tagOf is a version as a tag: of letters, digits, dots, dashes and underscores.
func tagOf(version string) string {
	tag := []byte(version)
	for i, c := range tag {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '.' || c == '-' || c == '_') {
			tag[i] = '_'
		}
	}
	return string(tag)
}

// encode is JSON of what can be encoded.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
