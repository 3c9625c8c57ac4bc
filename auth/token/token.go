// Package token judges logins by JSON web tokens (RFC 7519) and mints them. It asks nobody: keys are in a file, which is read again when whoever
// watches it says so. A key says by its type which algorithm it is for, so a token cannot choose one.
package token

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pomelod/pomelod/auth"
)

// Options say which tokens are good.
type Options struct {
	File     string // of keys: a secret, PEM, or JWKS
	Issuer   string // iss that tokens must have; empty: any
	Audience string // aud that tokens must have; empty: any
	Name     string // the claim that is the name; empty: sub
	Now      func() time.Time
}

// Bounds of a token's time.
const (
	// Leeway is how far the issuer's clock may be from ours.
	Leeway = 30 * time.Second
	// Longest is how far ahead a token may expire.
	Longest = 30 * 24 * time.Hour
)

// Judge judges logins by the keys that the file had when it was read last. Safe from any goroutine.
type Judge struct {
	options Options
	parser  *jwt.Parser
	keys    atomic.Pointer[[]key]
}

// New reads the keys. The error says what is wrong with the file.
func New(o Options) (*Judge, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Name == "" {
		o.Name = "sub"
	}
	rules := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithExpirationRequired(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(o.Now), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		rules = append(rules, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		rules = append(rules, jwt.WithAudience(o.Audience))
	}
	j := &Judge{options: o, parser: jwt.NewParser(rules...)}
	return j, j.Read()
}

// Read reads the file again. After an error the keys are what they were, and so they are when a file of public keys has a secret now: an issuer does
// not change to that, but what else is written to the file by mistake looks like one. Who has logged in by a key that is gone stays until the token expires.
func (j *Judge) Read() error {
	keys, err := readKeys(j.options.File)
	if err != nil {
		return err
	}
	if old := j.keys.Load(); old != nil && !slices.ContainsFunc(*old, isSecret) && slices.ContainsFunc(keys, isSecret) {
		return fmt.Errorf("%s: it had public keys only, and has a secret now; if that is meant, start pomelod again", j.options.File)
	}
	j.keys.Store(&keys)
	return nil
}

func isSecret(k key) bool { return k.secret() }

// Signs tells whether the file has a key by which tokens are made, too: whoever may read it can log in as anybody.
func (j *Judge) Signs() bool {
	return slices.ContainsFunc(*j.keys.Load(), func(k key) bool { return k.private != nil })
}

func readKeys(file string) ([]key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// Authenticate is the judge's auth.Func.
func (j *Judge) Authenticate(_ context.Context, l auth.Login) (auth.Identity, error) {
	id, err := j.judge(l.Token)
	if err != nil {
		return auth.Identity{}, fmt.Errorf("%w: %w", auth.ErrRefused, err)
	}
	return id, nil
}

func (j *Judge) judge(text string) (id auth.Identity, err error) {
	if len(text) > auth.MaxToken {
		return id, fmt.Errorf("the token has %d bytes", len(text))
	}
	claims := jwt.MapClaims{}
	if _, err := j.parser.ParseWithClaims(text, claims, j.keysFor); err != nil {
		return id, err
	}
	until, err := claims.GetExpirationTime()
	if err != nil {
		return id, err
	}
	if until.Time.Sub(j.options.Now()) > Longest+Leeway {
		return id, fmt.Errorf("it expires in more than %v", Longest)
	}
	id.Until = until.Time.Add(Leeway) // else one within the leeway would have expired already
	var ok bool
	if id.Name, ok = claims[j.options.Name].(string); !ok {
		return id, fmt.Errorf("its claim %s is no string", j.options.Name)
	}
	if uid, has := claims["uid"]; has {
		if id.UID, ok = uid.(string); !ok {
			return id, errors.New("its claim uid is no string")
		}
	}
	if id.Rooms, err = rooms(claims["rooms"]); err != nil {
		return id, err
	}
	return id, id.Check()
}

// rooms are the patterns of a token that has some: one, or a list, which may be empty.
func rooms(claim any) ([]string, error) {
	switch list := claim.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{list}, nil
	case []any:
		patterns := make([]string, len(list))
		for i := range list {
			var ok bool
			if patterns[i], ok = list[i].(string); !ok {
				return nil, errors.New("its claim rooms has something that is no string")
			}
		}
		return patterns, nil
	}
	return nil, errors.New("its claim rooms is no list")
}

// keysFor are the keys that a token may be signed with: of its algorithm, and of its kid where both have one.
func (j *Judge) keysFor(t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical { // nothing that is critical is understood (RFC 7515 §4.1.11)
		return nil, errors.New("it has a critical header")
	}
	id, isText := t.Header["kid"].(string)
	if _, has := t.Header["kid"]; has && !isText {
		return nil, errors.New("its kid is no string")
	}
	var set jwt.VerificationKeySet
	for _, k := range *j.keys.Load() {
		if k.method.Alg() == t.Method.Alg() && (k.id == "" || id == "" || k.id == id) {
			set.Keys = append(set.Keys, k.verify)
		}
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("there is no key for %s with the kid %q", t.Method.Alg(), id)
	}
	return set, nil
}

// Mint signs a token for id with the first key of the file that can, for trying things out.
func Mint(o Options, id auth.Identity) (string, error) {
	keys, err := readKeys(o.File)
	if err != nil {
		return "", err
	}
	if err := id.Check(); err != nil {
		return "", fmt.Errorf("a token for nobody: %w", err)
	}
	name := o.Name
	if name == "" {
		name = "sub"
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	claims := jwt.MapClaims{name: id.Name, "exp": jwt.NewNumericDate(id.Until), "iat": jwt.NewNumericDate(now())}
	for claim, value := range map[string]string{"iss": o.Issuer, "aud": o.Audience, "uid": id.UID} {
		if value != "" {
			claims[claim] = value
		}
	}
	if id.Rooms != nil {
		claims["rooms"] = id.Rooms
	}
	for _, k := range keys {
		if k.private == nil {
			continue
		}
		t := jwt.NewWithClaims(k.method, claims)
		if k.id != "" {
			t.Header["kid"] = k.id
		}
		return t.SignedString(k.private)
	}
	return "", fmt.Errorf("%s has public keys only; tokens are signed with a secret or a private key", o.File)
}
