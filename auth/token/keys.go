package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// key is one key of a file. What it is decides the algorithm; nothing in a token does.
type key struct {
	id      string // kid; empty: it has none
	method  jwt.SigningMethod
	verify  any // []byte, *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
	private any // what signs, for Mint; nil: the file does not have it
}

// Bounds of a file of keys.
const (
	maxFile   = 256 << 10
	maxKeys   = 32
	minSecret = 32   // bytes: as long as the hash of HS256 (RFC 7518 §3.2)
	minRSA    = 2048 // bits (RFC 7518 §3.3)
)

// algorithms are all that there are.
var algorithms = []string{"HS256", "RS256", "ES256", "EdDSA"}

// parseKeys reads a file of keys: PEM, a JWKS (RFC 7517), or else a secret, whose last line break does not count.
func parseKeys(b []byte) (keys []key, err error) {
	text := bytes.TrimSpace(b)
	switch {
	case len(b) > maxFile:
		return nil, fmt.Errorf("it is longer than %d bytes, which is no file of keys", maxFile)
	case bytes.HasPrefix(text, []byte("{")):
		keys, err = parseJWKS(text)
	case bytes.Contains(text, []byte("-----BEGIN ")):
		keys, err = parsePEM(text)
	case looksOther(b, text) != "":
		return nil, fmt.Errorf("it is no secret but %s; a secret is one word, for example from: openssl rand -hex 32", looksOther(b, text))
	default:
		var k key
		k, err = newKey("", bytes.Clone(bytes.TrimRight(b, "\r\n")))
		keys = []key{k}
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errors.New("it has no key that verifies tokens: HS256, RS256, ES256 or EdDSA")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("it has %d keys; %d are enough for a rotation", len(keys), maxKeys)
	}
	return keys, nil
}

// looksOther says what a file is that is neither PEM nor JSON and cannot be meant as a secret; empty: it can. What a proxy or a web server says in
// place of a JWKS must not become a secret that everybody may read.
func looksOther(b, text []byte) string {
	switch _, err := x509.ParsePKIXPublicKey(b); {
	case err == nil:
		return "a public key in DER: make PEM of it, for example by openssl pkey -pubin -inform DER"
	case !utf8.Valid(text): // random bytes may be anything
		return ""
	case bytes.HasPrefix(text, []byte("[")), bytes.HasPrefix(text, []byte("<")):
		return "JSON, HTML or XML"
	case bytes.ContainsAny(text, " \t\r\n"):
		return "text of several words"
	}
	return ""
}

// secret tells whether who may verify tokens with a key may make them, too.
func (k *key) secret() bool {
	_, is := k.verify.([]byte)
	return is
}

// newKey makes a key of a secret, a public or a private key.
func newKey(id string, k any) (key, error) {
	out := key{id: id, verify: k}
	switch private := k.(type) {
	case []byte:
		out.private = k
	case interface{ Public() crypto.PublicKey }:
		out.private, out.verify = k, private.Public()
	}
	switch public := out.verify.(type) {
	case []byte:
		if len(public) < minSecret {
			return key{}, fmt.Errorf("the secret has %d bytes; it must have at least %d, for example from: openssl rand -hex 32", len(public), minSecret)
		}
		out.method = jwt.SigningMethodHS256
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA {
			return key{}, fmt.Errorf("the RSA key has %d bits; it must have at least %d", public.N.BitLen(), minRSA)
		}
		out.method = jwt.SigningMethodRS256
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("the key is on the curve %s; ES256 needs P-256", public.Curve.Params().Name)
		}
		out.method = jwt.SigningMethodES256
	case ed25519.PublicKey:
		out.method = jwt.SigningMethodEdDSA
	default:
		return key{}, fmt.Errorf("a key of type %T verifies no token", public)
	}
	return out, nil
}

// parsePEM reads public keys, certificates and private keys. A header "kid" names one.
func parsePEM(b []byte) (keys []key, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var k any
		switch block.Type {
		case "PUBLIC KEY":
			k, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			k, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				k = c.PublicKey
			}
		case "PRIVATE KEY":
			k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			k, err = x509.ParseECPrivateKey(block.Bytes)
		default: // openssl puts an EC key's parameters in front of it
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", block.Type, err)
		}
		made, err := newKey(block.Headers["kid"], k)
		if err != nil {
			return nil, err
		}
		keys = append(keys, made)
	}
	return keys, nil
}

// jwk is a key of a JWKS.
type jwk struct {
	Kty string   `json:"kty"`
	Kid string   `json:"kid"`
	Use string   `json:"use"`
	Alg string   `json:"alg"`
	Ops []string `json:"key_ops"`
	Crv string   `json:"crv"`
	N   string   `json:"n"`
	E   string   `json:"e"`
	X   string   `json:"x"`
	Y   string   `json:"y"`
	K   string   `json:"k"`
}

// parseJWKS reads a set of keys, or one. Those that are for something else, or of an algorithm that is not one of ours, are left out: issuers
// keep several kinds in one file.
func parseJWKS(b []byte) (keys []key, err error) {
	var set struct {
		Keys []jwk `json:"keys"`
		jwk
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	if set.Kty != "" {
		set.Keys = append(set.Keys, set.jwk)
	}
	for i := range set.Keys {
		j := &set.Keys[i]
		if j.Use != "" && j.Use != "sig" || j.Ops != nil && !slices.Contains(j.Ops, "verify") && !slices.Contains(j.Ops, "sign") || j.Alg != "" && !slices.Contains(algorithms, j.Alg) {
			continue
		}
		public, err := j.key()
		if public == nil && err == nil {
			continue
		}
		var k key
		if err == nil {
			k, err = newKey(j.Kid, public)
		}
		if err == nil && j.Alg != "" && j.Alg != k.method.Alg() {
			err = fmt.Errorf("its alg is %s, and it is a key for %s", j.Alg, k.method.Alg())
		}
		if err != nil {
			return nil, fmt.Errorf("JWKS: key %d (kid %q): %w", i+1, j.Kid, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// key is what a JWK is about; nil if it is of a kind that is not ours.
func (j *jwk) key() (any, error) {
	switch {
	case j.Kty == "oct":
		return raw(j.K)
	case j.Kty == "RSA":
		n, err := raw(j.N)
		if err != nil {
			return nil, err
		}
		e, err := raw(j.E)
		if err != nil {
			return nil, err
		}
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 {
			return nil, errors.New("its exponent is not one of an RSA key")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case j.Kty == "EC" && j.Crv == "P-256":
		x, err := raw(j.X)
		if err != nil {
			return nil, err
		}
		y, err := raw(j.Y)
		if err != nil {
			return nil, err
		}
		if len(x) != 32 || len(y) != 32 {
			return nil, errors.New("its coordinates have not 32 bytes each")
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		x, err := raw(j.X)
		if err == nil && len(x) != ed25519.PublicKeySize {
			err = errors.New("it has not 32 bytes")
		}
		return ed25519.PublicKey(x), err
	}
	return nil, nil
}

// raw is base64url without padding (RFC 7515 §2).
func raw(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && len(b) == 0 {
		err = errors.New("a member of it is missing")
	}
	return b, err
}
