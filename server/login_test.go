//go:build linux

package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/auth"
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
