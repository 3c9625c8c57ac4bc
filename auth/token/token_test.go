package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pomelod/pomelod/auth"
)

var (
	secret      = []byte("a-secret-of-at-least-thirty-two-bytes")
	rsaKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _    = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
	now         = time.Unix(1_800_000_000, 0)
)

// file writes a file of keys.
func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func pemOf(t testing.TB, kid string, k any) string {
	t.Helper()
	block := pem.Block{Type: "PRIVATE KEY"}
	var err error
	if private, is := k.(crypto.Signer); is {
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(private)
	} else {
		block.Type = "PUBLIC KEY"
		block.Bytes, err = x509.MarshalPKIXPublicKey(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	if kid != "" {
		block.Headers = map[string]string{"kid": kid}
	}
	return string(pem.EncodeToMemory(&block))
}

func judgeOf(t testing.TB, o Options) *Judge {
	t.Helper()
	o.Now = func() time.Time { return now }
	j, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// good is what a token must have.
func good(more jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "alice", "exp": now.Add(time.Hour).Unix()}
	for name, value := range more {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func signed(t testing.TB, m jwt.SigningMethod, k any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (j *Judge) says(text string) (auth.Identity, error) {
	return j.Authenticate(context.Background(), auth.Login{Token: text})
}

// Each type of key takes tokens of its own algorithm, whatever it is written as, and mints them.
func TestKeysAndAlgorithms(t *testing.T) {
	for name, text := range map[string]string{
		"HS256": string(secret) + "\n", "RS256": pemOf(t, "", rsaKey), "ES256": pemOf(t, "", ecKey), "EdDSA": pemOf(t, "", edKey),
	} {
		o := Options{File: file(t, text), Issuer: "me", Audience: "chat", Now: func() time.Time { return now }}
		want := auth.Identity{Name: "alice", Rooms: []string{"lobby", "w*"}, UID: "7", Until: now.Add(time.Hour)}
		minted, err := Mint(o, want)
		if err != nil {
			t.Fatal(name, err)
		}
		if head, _, _ := strings.Cut(minted, "."); !strings.Contains(string(unbase(head)), `"alg":"`+name+`"`) {
			t.Errorf("%s: %s", name, unbase(head))
		}
		got, err := judgeOf(t, o).says(minted)
		if err != nil || !got.Until.Equal(want.Until.Add(Leeway)) {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if got.Until = want.Until; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, k := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey} {
		o := Options{File: file(t, pemOf(t, "", k.Public()))}
		if _, err := judgeOf(t, o).says(signed(t, jwt.GetSigningMethod(name), k, nil, good(nil))); err != nil {
			t.Errorf("%s by its public key: %v", name, err)
		}
		if _, err := Mint(o, auth.Identity{Name: "a"}); err == nil {
			t.Errorf("%s: a public key signs", name)
		}
	}
}

func unbase(s string) []byte { b, _ := base64.RawURLEncoding.DecodeString(s); return b }

func TestRefusedTokens(t *testing.T) {
	private := file(t, string(secret))
	public := file(t, pemOf(t, "", rsaKey.Public()))
	publicText, _ := os.ReadFile(public)
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	hs := func(header map[string]any, claims jwt.MapClaims) string {
		return signed(t, jwt.SigningMethodHS256, secret, header, claims)
	}
	ok := hs(nil, good(nil))
	parts := strings.Split(ok, ".")
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","exp":4000000000}`))
	for what, tc := range map[string]struct{ file, token string }{
		"no signature":                {private, signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, good(nil))},
		"no signature for RSA":        {public, signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, good(nil))},
		"a signature cut off":         {private, parts[0] + "." + parts[1] + "."},
		"other claims":                {private, parts[0] + "." + forged + "." + parts[2]},
		"the public key for a secret": {public, signed(t, jwt.SigningMethodHS256, publicText, nil, good(nil))},
		"another algorithm":           {private, signed(t, jwt.SigningMethodHS512, secret, nil, good(nil))},
		"RS512":                       {public, signed(t, jwt.SigningMethodRS512, rsaKey, nil, good(nil))},
		"PS256":                       {public, signed(t, jwt.SigningMethodPS256, rsaKey, nil, good(nil))},
		"the wrong type of key":       {public, signed(t, jwt.SigningMethodES256, ecKey, nil, good(nil))},
		"another key":                 {public, signed(t, jwt.SigningMethodRS256, other, nil, good(nil))},
		"another secret":              {private, signed(t, jwt.SigningMethodHS256, append(secret, 'x'), nil, good(nil))},
		"expired":                     {private, hs(nil, good(jwt.MapClaims{"exp": now.Add(-31 * time.Second).Unix()}))},
		"never expires":               {private, hs(nil, good(jwt.MapClaims{"exp": nil}))},
		"expires in a year":           {private, hs(nil, good(jwt.MapClaims{"exp": now.Add(365 * 24 * time.Hour).Unix()}))},
		"exp is text":                 {private, hs(nil, good(jwt.MapClaims{"exp": "tomorrow"}))},
		"exp is beyond all time":      {private, hs(nil, good(jwt.MapClaims{"exp": 1e300}))},
		"too early":                   {private, hs(nil, good(jwt.MapClaims{"nbf": now.Add(31 * time.Second).Unix()}))},
		"huge":                        {private, hs(nil, good(jwt.MapClaims{"x": strings.Repeat("x", auth.MaxToken)}))},
		"no name":                     {private, hs(nil, good(jwt.MapClaims{"sub": nil}))},
		"an empty name":               {private, hs(nil, good(jwt.MapClaims{"sub": ""}))},
		"a number for a name":         {private, hs(nil, good(jwt.MapClaims{"sub": 7}))},
		"a number for a uid":          {private, hs(nil, good(jwt.MapClaims{"uid": 7}))},
		"rooms that are no list":      {private, hs(nil, good(jwt.MapClaims{"rooms": map[string]any{}}))},
		"rooms of numbers":            {private, hs(nil, good(jwt.MapClaims{"rooms": []int{1}}))},
		"a critical header":           {private, hs(map[string]any{"crit": []string{"b64"}, "b64": false}, good(nil))},
		"a kid that is no string":     {private, hs(map[string]any{"kid": []int{1}}, good(nil))},
		"a key of its own":            {public, signed(t, jwt.SigningMethodRS256, other, map[string]any{"jku": "https://attacker.example", "jwk": map[string]string{"kty": "RSA"}}, good(nil))},
		"two parts":                   {private, parts[0] + "." + parts[1]},
		"four parts":                  {private, ok + ".x"},
		"nothing":                     {private, ""},
		"garbage":                     {private, "\x00.\xff.{}"},
		"no JSON":                     {private, "e30.bm90anNvbg." + parts[2]},
	} {
		id, err := judgeOf(t, Options{File: tc.file}).says(tc.token)
		if !errors.Is(err, auth.ErrRefused) || !reflect.DeepEqual(id, auth.Identity{}) {
			t.Errorf("%s: %+v, %v", what, id, err)
		}
	}
	for what, token := range map[string]string{
		"as it should be":          ok,
		"expired within leeway":    hs(nil, good(jwt.MapClaims{"exp": now.Add(-29 * time.Second).Unix()})),
		"early within leeway":      hs(nil, good(jwt.MapClaims{"nbf": now.Add(29 * time.Second).Unix()})),
		"thirty days":              hs(nil, good(jwt.MapClaims{"exp": now.Add(Longest).Unix()})),
		"a kid where none is kept": hs(map[string]any{"kid": "x"}, good(nil)),
	} {
		if id, err := judgeOf(t, Options{File: private}).says(token); err != nil || id.Name != "alice" {
			t.Errorf("%s: %+v, %v", what, id, err)
		}
	}
}

func TestIssuerAudienceName(t *testing.T) {
	j := judgeOf(t, Options{File: file(t, string(secret)), Issuer: "me", Audience: "chat", Name: "nick"})
	for _, tc := range []struct {
		claims jwt.MapClaims
		ok     bool
	}{
		{jwt.MapClaims{"iss": "me", "aud": "chat", "nick": "Al"}, true},
		{jwt.MapClaims{"iss": "me", "aud": []string{"shop", "chat"}, "nick": "Al"}, true},
		{jwt.MapClaims{"iss": "me", "aud": "shop", "nick": "Al"}, false},
		{jwt.MapClaims{"iss": "me", "nick": "Al"}, false},
		{jwt.MapClaims{"iss": "you", "aud": "chat", "nick": "Al"}, false},
		{jwt.MapClaims{"aud": "chat", "nick": "Al"}, false},
		{jwt.MapClaims{"iss": "me", "aud": "chat"}, false},
	} {
		id, err := j.says(signed(t, jwt.SigningMethodHS256, secret, nil, good(tc.claims)))
		if (err == nil) != tc.ok || tc.ok && id.Name != "Al" {
			t.Errorf("%v: %+v, %v", tc.claims, id, err)
		}
	}
}

// jwks is a set of public keys as issuers publish them.
func jwks(t testing.TB, keys map[string]any, more ...map[string]any) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	var list []map[string]any
	for kid, k := range keys {
		var j map[string]any
		switch k := k.(type) {
		case *rsa.PrivateKey:
			j = map[string]any{"kty": "RSA", "n": b64(k.N.Bytes()), "e": "AQAB", "alg": "RS256", "use": "sig"}
		case *ecdsa.PrivateKey:
			point, err := k.PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			j = map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
		case ed25519.PrivateKey:
			j = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(k.Public().(ed25519.PublicKey))}
		case []byte:
			j = map[string]any{"kty": "oct", "k": b64(k), "alg": "HS256"}
		}
		j["kid"] = kid
		list = append(list, j)
	}
	b, err := json.Marshal(map[string]any{"keys": append(list, more...)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestJWKS(t *testing.T) {
	keys := map[string]any{"r": rsaKey, "e": ecKey, "d": edKey, "h": secret}
	methods := map[string]jwt.SigningMethod{"r": jwt.SigningMethodRS256, "e": jwt.SigningMethodES256, "d": jwt.SigningMethodEdDSA, "h": jwt.SigningMethodHS256}
	j := judgeOf(t, Options{File: file(t, jwks(t, keys, map[string]any{"kty": "RSA", "use": "enc"}, map[string]any{"kty": "EC", "crv": "P-521"}, map[string]any{"kty": "future"}))})
	if n := len(*j.keys.Load()); n != 4 {
		t.Fatalf("%d keys", n)
	}
	for kid, k := range keys {
		for name, header := range map[string]map[string]any{"its kid": {"kid": kid}, "no kid": nil, "an unknown kid": {"kid": "x"}, "another's kid": {"kid": map[string]string{"r": "e", "e": "d", "d": "h", "h": "r"}[kid]}} {
			_, err := j.says(signed(t, methods[kid], k, header, good(nil)))
			if want := name == "its kid" || name == "no kid"; (err == nil) != want {
				t.Errorf("%s with %s: %v", kid, name, err)
			}
		}
	}
}

// A file that is replaced is read again; one that is wrong leaves the keys as they were.
func TestRotation(t *testing.T) {
	name := file(t, jwks(t, map[string]any{"1": rsaKey}))
	j := judgeOf(t, Options{File: name})
	next, _ := rsa.GenerateKey(rand.Reader, 2048)
	old := signed(t, jwt.SigningMethodRS256, rsaKey, map[string]any{"kid": "1"}, good(nil))
	fresh := signed(t, jwt.SigningMethodRS256, next, map[string]any{"kid": "2"}, good(nil))
	for _, step := range []struct {
		text       string
		read       bool
		old, fresh bool
	}{
		{jwks(t, map[string]any{"1": rsaKey}), true, true, false},
		{jwks(t, map[string]any{"1": rsaKey, "2": next}), true, true, true},
		{`{"keys":[`, false, true, true},
		{`{"keys":[]}`, false, true, true},
		{strings.Repeat("s", 64), false, true, true}, // a secret, by mistake
		{`{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 43) + `"}]}`, false, true, true},
		{jwks(t, map[string]any{"2": next}), true, false, true},
	} {
		if err := os.WriteFile(name, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := j.Read(); (err == nil) != step.read {
			t.Errorf("%.30s: %v", step.text, err)
		}
		_, first := j.says(old)
		_, second := j.says(fresh)
		if (first == nil) != step.old || (second == nil) != step.fresh {
			t.Errorf("%.30s: old %v, new %v", step.text, first, second)
		}
	}
}

func TestRefusedKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	curve, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for what, tc := range map[string]struct{ text, says string }{
		"a short secret":    {"password\n", "at least 32"},
		"nothing":           {"", "at least 32"},
		"an error page":     {"<html><body><h1>502 Bad Gateway</h1></body></html>\n", "HTML"},
		"its text":          {"upstream connect error or disconnect/reset before headers\n", "several words"},
		"a list":            {`["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]`, "JSON"},
		"ssh's form":        {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJh\n", "several words"},
		"two secrets":       {strings.Repeat("a", 40) + "\n" + strings.Repeat("b", 40) + "\n", "several words"},
		"DER":               {string(der), "openssl pkey"},
		"a small RSA key":   {pemOf(t, "", small), "at least 2048"},
		"another curve":     {pemOf(t, "", curve), "P-256"},
		"broken PEM":        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PUBLIC KEY"},
		"PEM without a key": {"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n", "no key"},
		"a short oct":       {`{"keys":[{"kty":"oct","k":"AAAA"}]}`, "at least 32"},
		"a missing n":       {`{"keys":[{"kty":"RSA","e":"AQAB"}]}`, "missing"},
		"an even exponent":  {`{"kty":"RSA","n":"AQAB","e":"AQAA"}`, "exponent"},
		"not on the curve":  {`{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`, "kid"},
		"a wrong alg":       {`{"kty":"oct","alg":"RS256","k":"` + strings.Repeat("A", 43) + `"}`, "its alg"},
		"only encryption":   {`{"keys":[{"kty":"RSA","use":"enc"}]}`, "no key"},
		"no JSON":           {`{"keys"`, "JWKS"},
		"far too long":      {strings.Repeat("x", maxFile+1), "longer"},
		"too many":          {`{"keys":[` + strings.Join(slices.Repeat([]string{`{"kty":"oct","k":"` + strings.Repeat("A", 43) + `"}`}, maxKeys+1), ",") + "]}", "33 keys"},
	} {
		if _, err := New(Options{File: file(t, tc.text)}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := New(Options{File: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Whatever bytes a token has, it is refused, or is one that the key has signed.
func FuzzJudge(f *testing.F) {
	name := file(f, string(secret))
	j := judgeOf(f, Options{File: name})
	f.Add(signed(f, jwt.SigningMethodHS256, secret, nil, good(nil)))
	f.Add("e30.e30.")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := j.says(text)
		if err == nil && (id.Name == "" || id.Check() != nil || id.Until.Before(now.Add(-Leeway))) {
			t.Fatalf("%q is %+v", text, id)
		}
		if err != nil && !errors.Is(err, auth.ErrRefused) {
			t.Fatal(err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(jwks(f, map[string]any{"1": rsaKey, "2": ecKey, "3": edKey, "4": secret})))
	f.Add([]byte(pemOf(f, "x", ecKey)))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeys(b)
		for _, k := range keys {
			if err != nil || k.method == nil || k.verify == nil || fmt.Sprint(k.verify) == "<nil>" {
				t.Fatalf("%+v, %v", k, err)
			}
		}
	})
}
