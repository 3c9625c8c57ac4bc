//go:build linux

package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"

	"github.com/pomelod/pomelod/auth/token"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/hook"
	"github.com/pomelod/pomelod/router"
)

// loginSettings are the flags about logins.
type loginSettings struct {
	kind  loginKind
	token token.Options
	query bool
	url   string
	page  string       // -login-url
	judge *token.Judge // nil without -auth jwt
	hook  *hook.Hook   // nil without -auth hook
	keys  keyFile
}

// loginKind is what judges logins.
type loginKind string

const (
	loginNone loginKind = "none"
	loginJWT  loginKind = "jwt"
	loginHook loginKind = "hook"
)

func (k *loginKind) String() string { return string(*k) }

func (k *loginKind) Set(text string) error {
	if to := loginKind(text); to == loginNone || to == loginJWT || to == loginHook {
		*k = to
		return nil
	}
	return errors.New("must be none, jwt or hook")
}

func (l *loginSettings) declare(f *flag.FlagSet, sessions *channel.Sessions) {
	l.kind = loginNone
	f.Var(&l.kind, "auth", "`none|jwt|hook`: who may enter. none is everybody; jwt is who shows a JSON web token that a key of -auth-key has signed; hook is whom the service at -auth-url knows by its token")
	f.StringVar(&l.token.File, "auth-key", "", "`file` with the keys of tokens: a secret of 32 bytes or more (HS256), PEM or JWKS (RS256, ES256, EdDSA). Read again when it changes, and on SIGHUP")
	f.StringVar(&l.token.Issuer, "auth-issuer", "", "`iss` that tokens must have; empty for any")
	f.StringVar(&l.token.Audience, "auth-audience", "", "`aud` that tokens must have; empty for any")
	f.StringVar(&l.token.Name, "auth-name", "sub", "`claim` that is the user's name")
	f.StringVar(&l.url, "auth-url", "", "`URL` of a login service of your own, which is asked by POST who shows a token (docs/OPERATIONS.md)")
	f.BoolVar(&l.query, "auth-query", false, "take tokens from the URL too, ?token=…, for clients that cannot do otherwise. Proxies log URLs")
	f.StringVar(&l.page, "login-url", "", "`URL` of your login page, to which the chat page sends who comes without a token, with ?return= and its own address; it sends them back there with #token=…")
	f.Var((*sessionsFlag)(sessions), "sessions", "`any|reject|kick-old|N`: how many sessions a user may have who has logged in, in the whole fleet. reject is one, and another login is refused; kick-old is one, and another login ends it; N is so many, and more are refused")
}

// sessionsFlag is how many sessions a user may have.
type sessionsFlag channel.Sessions

// maxSessions is how many sessions of a user may be counted; nobody needs more, and each is a record.
const maxSessions = 1000

func (s *sessionsFlag) String() string {
	switch *s {
	case sessionsFlag{}:
		return "any"
	case sessionsFlag{Most: 1, KickOld: true}:
		return "kick-old"
	case sessionsFlag{Most: 1}:
		return "reject"
	}
	return strconv.Itoa(s.Most)
}

func (s *sessionsFlag) Set(text string) error {
	switch text {
	case "any":
		*s = sessionsFlag{}
	case "reject":
		*s = sessionsFlag{Most: 1}
	case "kick-old":
		*s = sessionsFlag{Most: 1, KickOld: true}
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSessions {
			return fmt.Errorf("must be any, reject, kick-old or a number from 1 to %d", maxSessions)
		}
		*s = sessionsFlag{Most: n}
	}
	return nil
}

// settle refuses what does not go together, and reads the keys. given are the flags that were.
func (l *loginSettings) settle(given map[string]bool) (err error) {
	for name, kind := range map[string]loginKind{"auth-key": loginJWT, "auth-issuer": loginJWT, "auth-audience": loginJWT, "auth-name": loginJWT, "auth-url": loginHook} {
		if given[name] && l.kind != kind {
			return fmt.Errorf("-%s belongs to -auth %s, and -auth is %s", name, kind, l.kind)
		}
	}
	if l.page != "" {
		if err := checkLoginURL(l.page); err != nil {
			return err
		}
	}
	switch l.kind {
	case loginNone:
		return nil // -auth-query may be for a program's App.Authenticate
	case loginHook:
		if l.hook, err = hook.New(l.url); err != nil {
			return fmt.Errorf("-auth hook needs the service that is asked, -auth-url: %w", err)
		}
		return nil
	}
	if l.token.File == "" {
		return errors.New("-auth jwt needs the keys by which tokens are verified: -auth-key FILE. pomelod token -help tells how to try it out")
	}
	l.keys.seen, _ = os.Stat(l.token.File) // first: what changes meanwhile is read again
	if l.judge, err = token.New(l.token); err != nil {
		return fmt.Errorf("-auth-key: %w", err)
	}
	return nil
}

// checkLoginURL refuses what is no address of a page.
func checkLoginURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("-login-url %q: it must be the address of a page, such as https://example.org/login, without a name and a #", text)
	}
	return nil
}

// warnings tell of a file of keys that others than pomelod may read.
func (l *loginSettings) warnings() []string {
	if l.judge == nil || !l.judge.Signs() {
		return nil
	}
	info, err := os.Stat(l.token.File)
	if err != nil || info.Mode().Perm()&0o007 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("everybody on this machine may read %s (mode %04o), and whoever can may log in as anybody: chmod o-rwx it, or give -auth-key a file of public keys", l.token.File, info.Mode().Perm())}
}

// logins are for a node.
func (l *loginSettings) logins() router.Logins {
	switch {
	case l.hook != nil:
		return router.Logins{Judge: l.hook.Authenticate, AtOnce: hook.AtOnce, Query: l.query}
	case l.judge == nil:
		return router.Logins{Query: l.query}
	}
	return router.Logins{Judge: l.judge.Authenticate, AtOnce: shakers(), Query: l.query}
}

// keyFile is the file of keys as it was read last.
type keyFile struct {
	mu   sync.Mutex
	seen os.FileInfo // guarded by mu; nil: it is read again at the next look
	told string      // guarded by mu: the error that was logged
}

// watch reads the keys again when their file has changed, until ctx ends.
func (l *loginSettings) watch(ctx context.Context) {
	for range ticks(ctx, lookEvery) {
		_ = l.reload(false)
	}
}

// reload reads the keys again, if they have changed or anyway. When the file is wrong they stay what they were, and that is logged once.
func (l *loginSettings) reload(anyway bool) error {
	if l.judge == nil {
		return errNoReload
	}
	k := &l.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	now, _ := os.Stat(l.token.File)
	if !anyway && now != nil && sameFile(now, k.seen) {
		return nil
	}
	err := l.judge.Read()
	if err != nil {
		if k.seen = nil; k.told != err.Error() {
			k.told = err.Error()
			slog.Error("the keys of logins stay as they were", "err", err, "hint", "correct the file; it is tried again each second")
		}
		return err
	}
	k.seen, k.told = now, ""
	for _, w := range l.warnings() {
		slog.Warn(w)
	}
	slog.Info("the keys of logins were read again; who is logged in stays until the login expires", "file", l.token.File)
	return nil
}
