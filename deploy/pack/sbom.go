package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"
)

// An SBOM says what a binary was built of, as the Go toolchain has written it into the binary (go version -m): CycloneDX 1.5, JSON.

type bom struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
	Depends     []depends   `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type     string    `json:"type"`
	Ref      string    `json:"bom-ref"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	PURL     string    `json:"purl,omitempty"`
	Hashes   []hash    `json:"hashes,omitempty"`
	Licences []licence `json:"licenses,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type licence struct {
	Licence struct {
		ID string `json:"id"`
	} `json:"license"`
}

type depends struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn,omitempty"`
}

// writeSBOM writes what a binary was built of.
func writeSBOM(w io.Writer, s subject) error {
	info, err := buildinfo.ReadFile(s.binary)
	if err != nil {
		return fmt.Errorf("%s says not what it was built of: %w", s.binary, err)
	}
	binary, err := os.ReadFile(s.binary)
	if err != nil {
		return err
	}
	licences, err := licencesByModule()
	if err != nil {
		return err
	}
	self := component{Type: "application", Name: "pomelod", Version: s.version, Hashes: []hash{{"SHA-256", strings.TrimPrefix(digest(binary), "sha256:")}}}
	self.Ref = "pomelod@" + s.version
	self.Licences = licencesOf("MIT")
	b := bom{Format: "CycloneDX", SpecVersion: "1.5", Version: 1, Metadata: metadata{s.time.Format(time.RFC3339), self}}
	of := depends{Ref: self.Ref}
	add := func(name, version, licence string) {
		c := component{Type: "library", Name: name, Version: version, PURL: "pkg:golang/" + purlPath(name) + "@" + url.PathEscape(version), Licences: licencesOf(licence)}
		c.Ref = c.PURL
		b.Components = append(b.Components, c)
		of.On = append(of.On, c.Ref)
	}
	add("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "BSD-3-Clause")
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(m.Path, m.Version, licences[m.Path])
	}
	b.Depends = []depends{of}
	for _, c := range b.Components {
		b.Depends = append(b.Depends, depends{Ref: c.Ref})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(b)
}

// purlPath is a module's path in a package URL.
func purlPath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

func licencesOf(id string) []licence {
	if id == "" {
		return nil
	}
	var l licence
	l.Licence.ID = id
	return []licence{l}
}
