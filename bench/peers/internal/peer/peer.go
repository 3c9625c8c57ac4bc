// Package peer is what the load generator asks of every server that it starts (bench/README.md, "Servers"): an address to
// listen on, and two lines on stderr when it is ready.
package peer

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
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

// Ready tells that clients may connect to addr.
func Ready(addr net.Addr) {
	fmt.Fprintf(os.Stderr, `{"msg":"listening","server":"connector","addr":"%s"}`+"\n"+`{"msg":"ready","pid":%d}`+"\n", addr, os.Getpid())
}

// Wait returns when the process is asked to end.
func Wait() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	<-asked
}
