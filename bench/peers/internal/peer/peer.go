// Package peer is what the load generator asks of every server that it starts (bench/README.md, "Servers"): an address to
// listen on, and two lines on stderr when it is ready.
package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Address is where to listen: -listen. The load generator gives other flags too, which mean nothing here. To be called once.
func Address() string {
	addr := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	flag.String("gate", "", "ignored: there is no gate")
	flag.String("admin", "", "ignored: there is nothing to administer")
	flag.Parse()
	return *addr
}

// Listen is net.Listen for TCP; without a listener the process ends.
func Listen(addr string) net.Listener {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// Secure is a listener whose connections speak TLS 1.3 or 1.2 by crypto/tls, with an ECDSA certificate made for the occasion, as pomelod's -tls-self makes one.
func Secure(ln net.Listener) net.Listener {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
}

// Ready tells that clients may connect to addr, by TLS if it is secured.
func Ready(addr net.Addr, secured bool) {
	fmt.Fprintf(os.Stderr, `{"msg":"listening","server":"connector","addr":"%s","tls":%t}`+"\n"+`{"msg":"ready","pid":%d}`+"\n", addr, secured, os.Getpid())
}

// Wait returns when the process is asked to end.
func Wait() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	<-asked
}
