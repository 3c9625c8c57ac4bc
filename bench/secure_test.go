//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// certified is a server's configuration, with a certificate that nobody has signed.
var certified = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

// What a server says below TLS, and a close without a word, are faults as they are without TLS.
func TestSecureFaults(t *testing.T) {
	for name, harm := range map[string]func(c *tls.Conn){
		"garbage": func(c *tls.Conn) { c.NetConn().Write(slices.Repeat([]byte{7}, 100)) },
		"cut":     func(c *tls.Conn) { c.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &naughty{}
			s.deliver = func(n, member int, content string, p peer) {
				if n == 5 && member == 1 {
					harm(p.(hybridPeer).Conn.(*tls.Conn))
					return
				}
				p.push(content)
			}
			r := trial(t, "broadcast", "tls+tcp", s.serve(t, "tls+tcp"), append(impatient, broadcastArgs...)...)
			if !r.Void || r.Faults.Closed == 0 {
				t.Errorf("%+v", r.Faults)
			}
		})
	}
}

// A server that does not know TLS ends the run, and says so.
func TestSecureWithoutTLS(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	out, err := loader("broadcast", "-wire", "tls+ws", "-addr", "tls+"+ln.Addr().String()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "TLS handshake") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = loader("broadcast", "-wire", "tls+ws", "-addr", ln.Addr().String()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the server has 0 with TLS") {
		t.Errorf("%v: %s", err, out)
	}
}
