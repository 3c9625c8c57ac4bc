//go:build linux

package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
)

// writePair writes a certificate for hosts, and its key, over what is there, as most tools do.
func writePair(t testing.TB, cert, key string, hosts ...string) {
	t.Helper()
	c, err := selfSigned(hosts)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
}

// startTLS starts a server with a certificate for each of these hosts, and returns their files.
func startTLS(t testing.TB, hosts []string, args ...string) (s *running, certs, keys []string) {
	t.Helper()
	dir := t.TempDir()
	for _, h := range hosts {
		cert, key := filepath.Join(dir, h+".pem"), filepath.Join(dir, h+".key")
		writePair(t, cert, key, h)
		certs, keys = append(certs, cert), append(keys, key)
	}
	return start(t, append([]string{"-tls-listen", "127.0.0.1:0", "-tls-gate", "127.0.0.1:0", "-tls-cert", strings.Join(certs, ","), "-tls-key", strings.Join(keys, ",")}, args...)...), certs, keys
}

// certificateOf is the one that a client with this name is shown.
func certificateOf(t testing.TB, addr *net.TCPAddr, name string) *x509.Certificate {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", addr.String(), &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// A client gets the certificate for the name that it asks for, and when files change it gets the new one; who is connected stays, and nobody
// is refused. A certificate whose key is not there yet changes nothing.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	s, certs, keys := startTLS(t, []string{"one.example", "two.example"})
	at := s.addr("connector-tls")
	for _, name := range []string{"one.example", "two.example"} {
		if err := certificateOf(t, at, name).VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if err := certificateOf(t, at, "nobody.example").VerifyHostname("one.example"); err != nil {
		t.Errorf("a client with a name that there is not: %v; want the first", err)
	}
	stays, err := client.DialTLS(at.String(), &tls.Config{InsecureSkipVerify: true}, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	old := certificateOf(t, at, "two.example").SerialNumber
	if err := os.WriteFile(certs[1], []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.plan.reload(); err == nil || !strings.Contains(err.Error(), certs[1]) {
		t.Errorf("a broken file: %v", err)
	}
	if got := certificateOf(t, at, "two.example").SerialNumber; got.Cmp(old) != 0 {
		t.Error("a broken file changed the certificate")
	}
	writePair(t, certs[1], keys[1], "two.example")
	waitFor(t, func() bool { return certificateOf(t, at, "two.example").SerialNumber.Cmp(old) != 0 })
	old = certificateOf(t, at, "one.example").SerialNumber
	writePair(t, certs[0], keys[0], "one.example")
	if _, err := s.plan.reload(); err != nil {
		t.Error(err)
	}
	if got := certificateOf(t, at, "one.example").SerialNumber; got.Cmp(old) == 0 {
		t.Error("a reload did not read the files")
	}
	if err := stays.Request("connector.entryHandler.enter", map[string]string{"username": "u", "rid": "r"}, nil); err != nil {
		t.Errorf("who was connected: %v", err)
	}
}

// A name that no host can have ends the handshake: it would be kept for as long as the conn lives, and the gate would repeat it.
func TestTLSRefusesLongNames(t *testing.T) {
	t.Parallel()
	s, _, _ := startTLS(t, []string{"chat.example"})
	for n, want := range map[int]bool{longestName: true, longestName + 1: false, 10_000: false} {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: strings.Repeat("x", n)}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", s.addr("gate-tls").String(), config)
		if (err == nil) != want {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// The gate sends clients of TLS to the connector with TLS, by a name for which there is a certificate, and others to the other.
func TestGateWithTLS(t *testing.T) {
	t.Parallel()
	type answer struct {
		Host string
		Port int
	}
	ask := func(s *running, gate, name string) (to answer) {
		var c *client.Client
		var err error
		if name == "" {
			c, err = client.Dial(s.addr(gate).String(), deadline)
		} else {
			c, err = client.DialTLS(s.addr(gate).String(), &tls.Config{InsecureSkipVerify: true, ServerName: name}, deadline)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Request("gate.gateHandler.queryEntry", map[string]string{"uid": "1"}, &to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	for _, tc := range []struct{ advertise, gate, name, host string }{
		{"", "gate", "", "127.0.0.1"},
		{"", "gate-tls", "chat.example", "chat.example"},
		{"chat.example", "gate-tls", "chat.example", "chat.example"},
		{"chat.example", "gate", "", "chat.example"},
		{"elsewhere.example", "gate-tls", "chat.example", "chat.example"}, // no certificate is for it
	} {
		s, _, _ := startTLS(t, []string{"chat.example"}, "-advertise", tc.advertise)
		want := answer{tc.host, s.addr("connector").Port}
		if tc.name != "" {
			want.Port = s.addr("connector-tls").Port
		}
		if got := ask(s, tc.gate, tc.name); got != want {
			t.Errorf("-advertise %q, %s as %q: %v, want %v", tc.advertise, tc.gate, tc.name, got, want)
		}
	}
	s, _, _ := startTLS(t, []string{"chat.example"}, "-tls-advertise", "chat.example:443")
	if got := ask(s, "gate-tls", "chat.example"); got != (answer{"chat.example", 443}) {
		t.Errorf("-tls-advertise: %v", got)
	}
}

// The page, and a browser's http/1.1 by ALPN. Who offers other protocols only is served without.
func TestTLSServesHTTP(t *testing.T) {
	t.Parallel()
	s, _, _ := startTLS(t, []string{"chat.example"})
	at := s.addr("connector-tls").String()
	h := http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := h.Get("https://" + at + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 200 || !bytes.Contains(body, []byte("<html")) {
		t.Errorf("the page: %d, %v", res.StatusCode, err)
	}
	for _, tc := range []struct {
		offered []string
		want    string
	}{{nil, ""}, {[]string{"h2", "http/1.1"}, "http/1.1"}, {[]string{"pomelo"}, ""}} {
		conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, NextProtos: tc.offered})
		if err != nil {
			t.Errorf("%v: %v", tc.offered, err)
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != tc.want {
			t.Errorf("%v: %q, want %q", tc.offered, got, tc.want)
		}
		conn.Close()
	}
	if res, err := http.Get("http://" + at + "/"); err != nil || res.StatusCode != 400 {
		t.Errorf("HTTP in the clear: %v, %v", res, err)
	} else {
		body, _ := io.ReadAll(res.Body)
		if res.Body.Close(); !bytes.Contains(body, []byte("speaks TLS")) {
			t.Errorf("HTTP in the clear: %q", body)
		}
	}
}

// A ticket of the gate is one of the connector's, and one from before a reload goes on after it.
func TestTLSResumes(t *testing.T) {
	t.Parallel()
	s, certs, keys := startTLS(t, []string{"chat.example"})
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "chat.example", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	resumes := func(name string) bool {
		c, err := s.dialPeer(name)
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		conn := tls.Client(c.conn, config)
		_ = conn.SetDeadline(time.Now().Add(deadline))
		if _, err := fmt.Fprintf(conn, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // tickets come before it
			t.Fatal(err)
		}
		return conn.ConnectionState().DidResume
	}
	if resumes("gate-tls") || !resumes("connector-tls") {
		t.Error("the ticket of the gate is none of the connector's")
	}
	writePair(t, certs[0], keys[0], "chat.example")
	if _, err := s.plan.reload(); err != nil {
		t.Fatal(err)
	}
	if !resumes("connector-tls") {
		t.Error("a ticket from before the reload is none after it")
	}
}

// A PROXY header comes in the clear, before TLS.
func TestTLSBehindProxyProtocol(t *testing.T) {
	t.Parallel()
	s, _, _ := startTLS(t, []string{"chat.example"}, "-trusted-proxies", "127.0.0.1", "-proxy-protocol", "on")
	tcp, err := net.DialTCP("tcp", nil, s.addr("connector-tls"))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(tcp, "PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n"); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(conn, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(answer, "404") {
		t.Errorf("%q, %v", answer, err)
	}
}

// Programs that everybody has.
func TestTLSPrograms(t *testing.T) {
	t.Parallel()
	s, certs, _ := startTLS(t, []string{"localhost"})
	at := s.addr("connector-tls")
	url := fmt.Sprintf("https://localhost:%d/", at.Port)
	run := func(input, want, name string, args ...string) {
		if _, err := exec.LookPath(name); err != nil {
			t.Logf("%s is not installed", name)
			return
		}
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	for _, version := range []string{"1.2", "1.3"} {
		run("", "<html", "curl", "-s", "--cacert", certs[0], "--tls-max", version, "--max-time", "20", url)
	}
	for _, args := range [][]string{{"-tls1_3"}, {"-tls1_2"}, {"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, {"-tls1_3", "-groups", "P-384"}} {
		run("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404 Not Found", "openssl",
			append([]string{"s_client", "-quiet", "-no_ign_eof", "-ign_eof", "-servername", "localhost", "-CAfile", certs[0], "-verify_return_error", "-connect", at.String()}, args...)...)
	}
}

// What cannot work is refused with what to write instead.
func TestTLSFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, other := filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key"), filepath.Join(dir, "b.key")
	writePair(t, cert, key, "a.example")
	writePair(t, filepath.Join(dir, "b.pem"), other, "b.example")
	for args, want := range map[string]string{
		"-tls-listen :3443":                          "need a certificate",
		"-tls-cert a -tls-self":                      "use one of them",
		"-tls-cert " + cert:                          "each certificate needs its key",
		"-tls-cert " + cert + " -tls-key " + other:   "private key does not match",
		"-tls-cert /nowhere -tls-key " + key:         "no such file",
		"-tls-self -tls-rate 0":                      "at least 1",
		"-tls-self -tls-listen none -tls-gate none":  "both none",
		"-tls-self -tls-advertise https://a.example": "-tls-advertise a.example:443",
		"-tls-self -tls-listen :3050":                "same port",
		"-tls-self -tls-listen 3443":                 "-tls-listen :3443",
	} {
		cfg, err := parseFlags(strings.Fields(args), nil, io.Discard)
		if err == nil {
			var p *plan
			if p, err = cfg.plan(nil); err == nil {
				err = p.checkAddrs()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	cfg, err := parseFlags(strings.Fields("-tls-cert "+cert+" -tls-key "+key+" -advertise c.example"), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cfg.plan(nil)
	if err != nil || !strings.Contains(strings.Join(p.warnings, "\n"), "no certificate is for c.example") {
		t.Errorf("%v, %v", p.warnings, err)
	}
	if cfg.tls.listen != tlsListenDefault || cfg.tls.gate != tlsGateDefault || len(p.listeners) != 4 {
		t.Errorf("%d listeners, %q and %q with TLS", len(p.listeners), cfg.tls.listen, cfg.tls.gate)
	}
}
