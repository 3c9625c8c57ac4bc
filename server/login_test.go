//go:build linux

package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
)

// tokenFile is a file with a secret.
func tokenFile(t *testing.T, secret string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// minted is what pomelod token prints.
func minted(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := runCommand(append([]string{"token"}, args...), &caller{stdout: &out, stderr: &errs}); code != 0 || errs.Len() > 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	return strings.TrimSpace(out.String())
}

func TestLoginFlags(t *testing.T) {
	key := tokenFile(t, strings.Repeat("k", 32))
	short := tokenFile(t, "short")
	for says, args := range map[string][]string{
		"-auth-key belongs to -auth jwt": {"-auth-key", key},
		"-auth-url belongs to":           {"-auth", "jwt", "-auth-key", key, "-auth-url", "http://x/"},
		"no URL of a service":            {"-auth", "hook"},
		"needs the keys":                 {"-auth", "jwt"},
		"at least 32":                    {"-auth", "jwt", "-auth-key", short},
		"no such file":                   {"-auth", "jwt", "-auth-key", short + "x"},
		"must be none, jwt or hook":      {"-auth", "yes"},
	} {
		if _, err := parseFlags(args, nil, io.Discard); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for says, args := range map[string][]string{
		"are needed": {"-name", "alice"}, "-ttl": {"-key", key, "-name", "alice", "-ttl", "1000h"}, "at least 32": {"-key", short, "-name", "alice"},
	} {
		var errs bytes.Buffer
		if code := runCommand(append([]string{"token"}, args...), &caller{stdout: io.Discard, stderr: &errs}); code != 2 || !strings.Contains(errs.String(), says) {
			t.Errorf("%q: code %d, %s", args, code, errs.String())
		}
	}
}

// A secret that everybody on the machine may read is warned of; so is a private key, and no public one.
func TestKeyFileIsWarnedOf(t *testing.T) {
	key := tokenFile(t, strings.Repeat("k", 32))
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o602: true} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		cfg, err := parseFlags([]string{"-auth", "jwt", "-auth-key", key}, nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.login.warnings(), ""); strings.Contains(got, "may read "+key) != warned {
			t.Errorf("%04o: %q", mode, got)
		}
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key = tokenFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if cfg, err := parseFlags([]string{"-auth", "jwt", "-auth-key", key}, nil, io.Discard); err != nil || cfg.login.warnings() != nil {
		t.Error(err, cfg.login.warnings())
	}
}

func TestSessionsFlag(t *testing.T) {
	key := tokenFile(t, strings.Repeat("k", 32))
	for text, want := range map[string]channel.Sessions{"any": {}, "reject": {Most: 1}, "kick-old": {Most: 1, KickOld: true}, "1": {Most: 1}, "3": {Most: 3}} {
		cfg, err := parseFlags([]string{"-auth", "jwt", "-auth-key", key, "-sessions", text}, nil, io.Discard)
		if err != nil || cfg.limits.Rooms.Sessions != want {
			t.Errorf("%s: %+v, %v", text, cfg.limits.Rooms.Sessions, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "1001", "kick", "2.5"} {
		if _, err := parseFlags([]string{"-auth", "jwt", "-auth-key", key, "-sessions", text}, nil, io.Discard); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

func TestLoginURL(t *testing.T) {
	for text, good := range map[string]bool{
		"https://example.org/login": true, "http://127.0.0.1:8080/?a=b": true, "": true,
		"/login": false, "example.org": false, "javascript:alert(1)": false, "ftp://x/": false, "https://": false, "https://a@x/": false, "https://x/#a": false,
	} {
		cfg, err := parseFlags([]string{"-login-url", text}, nil, io.Discard)
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil || text == "" {
			continue
		}
		for _, f := range cfg.files() {
			if has := bytes.Contains(f.Body, []byte(`content="`+html.EscapeString(text)+`"`)); has != (f.Path == "/") {
				t.Errorf("%s has %q: %v", f.Path, text, has)
			}
		}
	}
}

// What pomelod token prints lets in, until the key has changed; a key that is wrong changes nothing, and is tried again.
func TestKeysAreReadAgain(t *testing.T) {
	key := tokenFile(t, strings.Repeat("k", 32))
	cfg, err := parseFlags([]string{"-auth", "jwt", "-auth-key", key, "-auth-audience", "chat"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	judge := cfg.login.logins().Judge
	text := minted(t, "-key", key, "-name", "alice", "-rooms", "lobby,w*", "-audience", "chat", "-ttl", "1m")
	lets := func() bool {
		id, err := judge(context.Background(), auth.Login{Token: text})
		if err != nil && !errors.Is(err, auth.ErrRefused) {
			t.Fatal(err)
		}
		return id.Name == "alice" && id.May("world") && !id.May("x")
	}
	change := func(secret string, at time.Time) {
		if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(key, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if !lets() {
		t.Fatal("refused")
	}
	for i, step := range []struct {
		secret string
		ok     bool
		lets   bool
	}{{"short", false, true}, {strings.Repeat("n", 40), true, false}, {strings.Repeat("k", 32), true, true}} {
		change(step.secret, time.Now().Add(time.Duration(i-9)*time.Hour))
		if err := cfg.login.reload(false); (err == nil) != step.ok || lets() != step.lets {
			t.Errorf("step %d: %v, lets in %v", i, err, lets())
		}
	}
	if err := cfg.login.reload(false); err != nil || !lets() {
		t.Error("read again without a change:", err)
	}
}
