//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// naughty is a server that does to one delivery what the test wants.
type naughty struct {
	mu      sync.Mutex
	members []peer
	n       int // messages so far

	refuse  func(n int) bool                            // answers 500
	deliver func(n, member int, content string, p peer) // nil: pushes it
	before  func(route string)                          // each request, if not nil
	came    func(p peer, body string) bool              // whether who asks to enter may; nil: yes
	gone    func(p peer)                                // the end of a client by TCP, if not nil
}

// peer is a client of naughty, whatever wire it speaks.
type peer interface {
	push(content string)
	answer(id uint32, body string)
	garble() // says what nobody may say
	close()
}

// request carries out a request. The caller holds mu.
func (s *naughty) request(p peer, id uint32, route, body string) {
	if s.before != nil {
		s.before(route)
	}
	switch route {
	case routeEnter:
		if s.came != nil && !s.came(p, body) {
			p.answer(id, `{"code":500,"error":true}`)
			return
		}
		s.members = append(s.members, p)
		p.answer(id, `{"users":[]}`)
	case routeGate:
		p.answer(id, `{"code":200,"host":"h","port":1}`)
	case routeSend:
		s.n++
		refused := s.refuse != nil && s.refuse(s.n)
		if !refused || s.deliver != nil {
			_, content, _ := bytes.Cut([]byte(body), []byte(`"content":"`))
			content, _, _ = bytes.Cut(content, []byte(`"`))
			for i, m := range s.members {
				if s.deliver != nil {
					s.deliver(s.n, i, string(content), m)
				} else {
					m.push(string(content))
				}
			}
		}
		if refused {
			p.answer(id, `{"code":500}`)
		} else {
			p.answer(id, "{}")
		}
	}
}

// serve begins to serve a wire: tcp, one of socket.io, or one of those that know no routes; with tls+ before it by TLS. The address is as -addr takes it.
func (s *naughty) serve(t *testing.T, wire string) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	addr = ln.Addr().String()
	wire, secured := strings.CutPrefix(wire, "tls+")
	if secured {
		ln = tls.NewListener(ln, certified())
		addr = "tls+" + addr
	}
	switch wire {
	case "tcp":
		go s.serveTCP(ln)
	case "plain", "sio4", "centrifuge":
		go s.serveRoomless(ln, wire)
	default:
		go s.serveSIO(ln, wire)
	}
	return addr
}

func (s *naughty) serveTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go s.client(hybridPeer{c})
	}
}

// hybridPeer is a client of the hybrid TCP wire.
type hybridPeer struct{ net.Conn }

func (p hybridPeer) push(content string) {
	p.Write(push("onChat", fmt.Sprintf(`{"msg":"%s","from":"x","target":"*"}`, content)))
}
func (p hybridPeer) answer(id uint32, body string) { p.Write(answer(id, body)) }
func (p hybridPeer) garble()                       { p.Write([]byte{9, 0, 0, 0}) }
func (p hybridPeer) close()                        { p.Close() }

func (s *naughty) client(c hybridPeer) {
	defer c.Close()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gone != nil {
			s.gone(c)
		}
	}()
	for {
		head := make([]byte, packageHead)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		b := make([]byte, int(head[1])<<16+int(head[2])<<8+int(head[3]))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		s.mu.Lock()
		switch head[0] {
		case packageHandshake:
			c.Write(append(appendPackageHead(nil, packageHandshake, 12), `{"code":200}`...))
		case packageData:
			id, at := uint32(b[1]), 2
			if b[1]&0x80 != 0 {
				id, at = id&0x7F|uint32(b[2])<<7, 3
			}
			n := at + 1 + int(b[at])
			s.request(c, id, string(b[at+1:n]), string(b[n:]))
		}
		s.mu.Unlock()
	}
}
