//go:build linux

package server

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// newcomer carries out what documents say, in a folder of its own, where pomelod is this program.
type newcomer struct {
	t   *testing.T
	dir string
}

// asNewcomer is nil where there is no openssl.
func asNewcomer(t *testing.T) *newcomer {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Log("openssl is not installed")
		return nil
	}
	n := &newcomer{t, t.TempDir()}
	self, err := filepath.Abs(os.Args[0])
	if err == nil {
		err = os.WriteFile(filepath.Join(n.dir, "pomelod"), fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", mainEnv, self), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sh is what a script prints.
func (n *newcomer) sh(script string) string {
	n.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Env = n.dir, append(os.Environ(), "PATH="+n.dir+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		var said []byte
		if exit, is := err.(*exec.ExitError); is {
			said = exit.Stderr
		}
		n.t.Fatalf("%s\n%v\n%s%s", script, err, out, said)
	}
	return strings.TrimSpace(string(out))
}

func (n *newcomer) file(name string) string { return filepath.Join(n.dir, name) }

// codeOf are the commands of a chapter, without what is said of them.
func codeOf(t *testing.T, path, heading string) (lines []string) {
	t.Helper()
	_, chapter, found := strings.Cut(readFile(t, path), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no chapter %s", path, heading)
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	for i, part := range strings.Split(chapter, "```") { // every second one is a fence
		if commands, is := strings.CutPrefix(part, "sh\n"); is && i%2 == 1 {
			for line := range strings.Lines(commands) {
				code, _, _ := strings.Cut(line, "  #")
				lines = append(lines, strings.TrimSpace(code))
			}
		}
	}
	return lines
}

// byHand is a token for bob as a script makes one, which knows the text of the file and no more.
const byHand = `b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
text=$(printf '{"alg":"%s"}' ALG | b64).$(printf '{"sub":"bob","exp":%d}' $(($(date +%s) + 3600)) | b64)
printf '%s.%s' "$text" "$(printf %s "$text" | SIGN | b64)"`

func (n *newcomer) signs(alg, command string) string {
	n.t.Helper()
	return n.sh(strings.NewReplacer("ALG", alg, "SIGN", command).Replace(byHand))
}

// The chapter on logins, word by word, and what it says of keys: the secret is the text of its file, and public keys are PEM or JWKS. Tokens are the command's, and
// those that openssl signs.
func TestLoginsAsDocumented(t *testing.T) {
	n := asNewcomer(t)
	if n == nil {
		return
	}
	enters := func(s *running, token string) string {
		return login(t, s.addr("connector")).enterBy("", "lobby", token)
	}
	said := codeOf(t, "../docs/OPERATIONS.md", "Logins")
	if len(said) != 3 || !strings.HasPrefix(said[1], "pomelod ") {
		t.Fatalf("the chapter has other lines of code: %q", said)
	}
	n.sh(said[0])
	if info, err := os.Stat(n.file("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	args := strings.Fields(strings.ReplaceAll(said[1], " key", " "+n.file("key")))[1:]
	s := start(t, args...)
	if got := enters(s, n.sh(said[2])); got != `{"users":["alice"]}` {
		t.Errorf("by pomelod token: %s", got)
	}
	if got := enters(s, n.signs("HS256", `openssl dgst -sha256 -hmac "$(cat key)" -binary`)); got != `{"users":["alice","bob"]}` {
		t.Errorf("by openssl: %s", got)
	}

	// As pomelod token -help says it for a private key.
	n.sh("openssl genpkey -algorithm ed25519 -out key; openssl pkey -in key -pubout >public")
	s = start(t, "-auth", "jwt", "-auth-key", n.file("public"))
	if got := enters(s, n.sh(said[2])); got != `{"users":["alice"]}` {
		t.Errorf("by a private key: %s", got)
	}

	n.sh("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa 2>/dev/null; openssl pkey -in rsa -pubout >rsa.pub")
	modulus, err := hex.DecodeString(strings.TrimPrefix(n.sh("openssl rsa -in rsa -noout -modulus"), "Modulus="))
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"1","use":"sig","alg":"RS256","n":%q,"e":"AQAB"}]}`, base64.RawURLEncoding.EncodeToString(modulus))
	if err := os.WriteFile(n.file("jwks"), []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	token := n.signs("RS256", `openssl dgst -sha256 -sign rsa`)
	for _, key := range []string{"rsa.pub", "jwks"} {
		if got := enters(start(t, "-auth", "jwt", "-auth-key", n.file(key)), token); got != `{"users":["bob"]}` {
			t.Errorf("by %s: %s", key, got)
		}
	}
}

// A certificate of an issuer whose own is another's, as certbot writes them: the server's first, then those of its issuers. Who trusts the last one only gets through. Of two for
// one name a client gets the one that it can read.
func TestCertificatesAsDocumented(t *testing.T) {
	n := asNewcomer(t)
	if n == nil {
		return
	}
	n.sh(`request() { openssl req -new -newkey "$1" $2 -nodes -keyout "$3.key" -subj "/CN=$3" -out "$3.csr" 2>/dev/null; }
sign() { openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$3" -out "$1.pem" 2>/dev/null; }
printf 'basicConstraints=critical,CA:true\n' >ca
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >server
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -subj /CN=root -days 2 -out root.pem 2>/dev/null
request ec '-pkeyopt ec_paramgen_curve:P-256' issuer; sign issuer root ca
request ec '-pkeyopt ec_paramgen_curve:P-256' ecdsa; sign ecdsa issuer server; cat issuer.pem >>ecdsa.pem
request rsa:2048 '' rsa; sign rsa issuer server; cat issuer.pem >>rsa.pem`)
	s := start(t, "-tls-listen", "127.0.0.1:0", "-tls-gate", "127.0.0.1:0",
		"-tls-cert", n.file("ecdsa.pem")+","+n.file("rsa.pem"), "-tls-key", n.file("ecdsa.key")+","+n.file("rsa.key"))
	connector, gate := s.addr("connector-tls"), s.addr("gate-tls")
	if _, err := exec.LookPath("curl"); err == nil {
		if got := n.sh(fmt.Sprintf("curl -sS --cacert root.pem --max-time 20 https://localhost:%d/", connector.Port)); !strings.Contains(got, "<html") {
			t.Errorf("the page: %.200s", got)
		}
		want := fmt.Sprintf(`{"code":200,"host":"localhost","port":%d}`, connector.Port)
		if got := n.sh(fmt.Sprintf("curl -sS --cacert root.pem --max-time 20 'https://localhost:%d/gate/queryEntry?uid=1'", gate.Port)); got != want {
			t.Errorf("the gate: %s, want %s", got, want)
		}
	} else {
		t.Log("curl is not installed")
	}
	for suite, want := range map[uint16]string{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ecdsa", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "rsa"} {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", connector.String(), config)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		var names []string
		for _, c := range conn.ConnectionState().PeerCertificates {
			names = append(names, c.Subject.CommonName)
		}
		if conn.Close(); !slices.Equal(names, []string{want, "issuer"}) {
			t.Errorf("%s: shown %q", want, names)
		}
	}
}
