package netpoll

import "testing"

// A server that is told to end while it starts closes its acceptor before that has run.
func TestAcceptorClosedBeforeRun(t *testing.T) {
	a, err := NewAcceptor(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if err := a.Run(); err != nil {
		t.Fatal(err)
	}
}
