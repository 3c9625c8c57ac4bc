package admin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

// Tokens are what requests by TCP prove to be an operator's with, as a file has them now. Safe from any goroutine.
//
// The file has a line for each, NAME TOKEN; empty lines and those that begin with # are for people. The name is what the log says of who did something.
type Tokens struct {
	path string
	now  atomic.Pointer[[]token]
}

type token struct {
	name string
	sum  [sha256.Size]byte
}

// Bytes of a token and of its name, and how many there may be.
const (
	minToken     = 16
	maxTokenName = 64
	maxTokens    = 64
)

// ReadTokens reads a file.
func ReadTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path}
	use, err := t.Read()
	if err != nil {
		return nil, err
	}
	use()
	return t, nil
}

// Read reads the file again. Nothing changes before use is called.
func (t *Tokens) Read() (use func(), err error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, fmt.Errorf("read the admin's tokens: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("the admin's tokens: everybody on this machine may read %s; take that away: chmod o= %s", t.path, t.path)
	}
	var list []token
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		switch {
		case len(words) != 2:
			return nil, fmt.Errorf("the admin's tokens: line %d of %s must be NAME TOKEN", n, t.path)
		case len(words[1]) < minToken:
			return nil, fmt.Errorf("the admin's tokens: the token in line %d of %s is shorter than %d bytes; make one: openssl rand -hex 24", n, t.path, minToken)
		case len(words[0]) > maxTokenName:
			return nil, fmt.Errorf("the admin's tokens: the name in line %d of %s is longer than %d bytes", n, t.path, maxTokenName)
		case len(list) == maxTokens:
			return nil, fmt.Errorf("the admin's tokens: %s has more than %d", t.path, maxTokens)
		}
		list = append(list, token{words[0], sha256.Sum256([]byte(words[1]))})
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the admin's tokens: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the admin's tokens: %s has none; write a line NAME TOKEN", t.path)
	}
	return func() { t.now.Store(&list) }, nil
}

// owner is whose token a request has. All are compared, so that the time tells nothing.
func (t *Tokens) owner(r *http.Request) (name string, ok bool) {
	given, has := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	for _, k := range *t.now.Load() {
		if subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1 {
			name, ok = k.name, has
		}
	}
	return name, ok
}

// authorized lets requests through that come by a Socket, or have a token; all where there are none, as then only what needs none is served.
func (s *Source) authorized(next http.Handler) http.Handler {
	if s.local || s.Tokens == nil {
		return next
	}
	tokens := s.Tokens
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := tokens.owner(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="pomelod"`)
			refuse(w, http.StatusUnauthorized, "a token of -admin-token-file is needed: Authorization: Bearer TOKEN")
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, name+" (token)")))
	})
}
