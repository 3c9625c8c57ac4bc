//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// naughty is a server of the hybrid TCP wire that does to one delivery what the test wants.
type naughty struct {
	mu      sync.Mutex
	members []net.Conn
	n       int // messages so far

	refuse  func(n int) bool                               // answers 500
	deliver func(n, member int, frame []byte, to net.Conn) // nil: writes it
}

func (s *naughty) serve(t *testing.T) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.client(c)
		}
	}()
	return ln.Addr().String()
}

func (s *naughty) client(c net.Conn) {
	defer c.Close()
	for {
		head := make([]byte, packageHead)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		body := make([]byte, int(head[1])<<16+int(head[2])<<8+int(head[3]))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		s.mu.Lock()
		switch head[0] {
		case packageHandshake:
			c.Write(append(appendPackageHead(nil, packageHandshake, 12), `{"code":200}`...))
		case packageData:
			s.request(c, body)
		}
		s.mu.Unlock()
	}
}

func (s *naughty) request(c net.Conn, b []byte) {
	id := uint32(b[1])
	at := 2
	if b[1]&0x80 != 0 {
		id = id&0x7F | uint32(b[2])<<7
		at = 3
	}
	route, rest := string(b[at+1:at+1+int(b[at])]), b[at+1+int(b[at]):]
	switch route {
	case routeEnter:
		s.members = append(s.members, c)
		c.Write(answer(id, `{"users":[]}`))
	case routeGate:
		c.Write(answer(id, `{"code":200,"host":"h","port":1}`))
	case routeSend:
		s.n++
		refused := s.refuse != nil && s.refuse(s.n)
		if !refused || s.deliver != nil {
			_, content, _ := bytes.Cut(rest, []byte(`"content":"`))
			content, _, _ = bytes.Cut(content, []byte(`"`))
			frame := push("onChat", fmt.Sprintf(`{"msg":"%s","from":"x","target":"*"}`, content))
			for i, m := range s.members {
				if s.deliver != nil {
					s.deliver(s.n, i, frame, m)
				} else {
					m.Write(frame)
				}
			}
		}
		body := "{}"
		if refused {
			body = `{"code":500}`
		}
		c.Write(answer(id, body))
	}
}

// trial runs a scenario against a server and returns its result.
func trial(t *testing.T, name, addr string, args ...string) *result {
	t.Helper()
	s := scenarios[name].make()
	o, err := parse(name, s, append([]string{"-wire", "tcp", "-addr", addr, "-gate-addr", addr, "-pid", fmt.Sprint(os.Getpid()), "-warm", "20ms", "-time", "400ms", "-patience", "1s"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	rep := newReport(name, o)
	rep.out = io.Discard
	r := &run{options: o, report: rep, result: rep.result("naughty", 1), tag: "r", pause: time.Millisecond}
	if err := r.do(s, o.variants[0], cpuSet(nil)); err != nil {
		t.Fatal(err)
	}
	return r.result
}

var broadcastArgs = []string{"-members", "5", "-rate", "200", "-senders", "1"}

func TestRunWithoutFaultsCountsEveryDelivery(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{broadcastArgs, {"-members", "6", "-rooms", "1", "-inflight", "3"}} {
		s := &naughty{}
		r := trial(t, "broadcast", s.serve(t), args...)
		if r.Void {
			t.Errorf("%v: void: %+v", args, r.Faults)
		}
		got, _ := r.Figures.get("deliveries")
		all, _ := r.Figures.get("messages")
		if members := float64(len(s.members)); got == 0 || got > all*members {
			t.Errorf("%v: %v deliveries of %v messages to %v members", args, got, all, members)
		}
		for _, name := range []string{"cpu_s_per_million", "p50_us", "p99_us", "max_us", "deliveries_per_s", "rss_bytes"} {
			if v, ok := r.Figures.get(name); !ok || v < 0 {
				t.Errorf("%v: %s is %v, %v", args, name, v, ok)
			}
		}
	}
}

// Each fault is really made by a server and must be seen, counted and make the run void.
func TestRunDetects(t *testing.T) {
	var held []byte
	for name, c := range map[string]struct {
		server *naughty
		want   faults
	}{
		"loss": {&naughty{deliver: func(n, member int, frame []byte, to net.Conn) {
			if n != 10 || member != 2 {
				to.Write(frame)
			}
		}}, faults{Lost: 1}},
		"duplicate": {&naughty{deliver: func(n, member int, frame []byte, to net.Conn) {
			to.Write(frame)
			if n == 10 && member == 2 {
				to.Write(frame)
			}
		}}, faults{Duplicated: 1}},
		"disorder": {&naughty{deliver: func(n, member int, frame []byte, to net.Conn) {
			switch {
			case n == 10 && member == 2:
				held = frame
			case n == 11 && member == 2:
				to.Write(append(slices.Clone(frame), held...))
			default:
				to.Write(frame)
			}
		}}, faults{Disordered: 1}},
		"closed connection": {&naughty{deliver: func(n, member int, frame []byte, to net.Conn) {
			if to.Write(frame); n == 10 && member == 4 {
				to.Close()
			}
		}}, faults{Closed: 1}},
		"refused and yet delivered": {&naughty{refuse: func(n int) bool { return n == 10 }, deliver: func(n, member int, frame []byte, to net.Conn) {
			to.Write(frame)
		}}, faults{Strange: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := trial(t, "broadcast", c.server.serve(t), broadcastArgs...)
			f := r.Faults
			if c.want.Closed > 0 { // what else it comes to depends on when
				f.Lost = 0
			}
			if f.Lost != c.want.Lost || f.Disordered != c.want.Disordered || f.Duplicated != c.want.Duplicated || f.Strange != c.want.Strange || f.Closed != c.want.Closed {
				t.Errorf("found %+v, want %+v", f, c.want)
			}
			if !r.Void {
				t.Error("the run is not void")
			}
		})
	}
}

func TestRefusedMessagesAreNotLost(t *testing.T) {
	t.Parallel()
	s := &naughty{refuse: func(n int) bool { return n%4 == 0 }}
	r := trial(t, "broadcast", s.serve(t), broadcastArgs...)
	if gone, _ := r.Figures.get("refused"); r.Void || gone == 0 {
		t.Errorf("%v refused, faults %+v", gone, r.Faults)
	}
}

func TestRunEchoAndIdle(t *testing.T) {
	t.Parallel()
	s := &naughty{}
	r := trial(t, "echo", s.serve(t), "-conns", "3", "-rate", "300")
	if got, _ := r.Figures.get("answers"); r.Void || got == 0 {
		t.Errorf("%v answers, faults %+v", got, r.Faults)
	}
	s = &naughty{}
	r = trial(t, "idle", s.serve(t), "-few", "2", "-members", "5", "-room-size", "2", "-periods", "0.01")
	if n, _ := r.Figures.get("conns"); r.Void || n != 5 || len(s.members) != 5 {
		t.Errorf("%v conns, %d members, faults %+v", n, len(s.members), r.Faults)
	}
}

func TestStartWaitsUntilReadyAndStops(t *testing.T) {
	t.Parallel()
	log := `{"msg":"listening","server":"connector","addr":"127.0.0.1:1234"}` + "\n" + `{"msg":"listening","server":"gate","addr":"127.0.0.1:1235"}` + "\n" + `{"msg":"ready"}`
	path := t.TempDir() + "/server"
	os.WriteFile(path, []byte("#!/bin/sh\nsleep 0.05\ncat >&2 <<E\n"+log+"\nE\nexec sleep 60\n"), 0o755)
	v, err := parseVariant("mine=" + path + " -x")
	if err != nil || v.name != "mine" {
		t.Fatal(v, err)
	}
	s, err := start(v, nil, nil, cpuSet(nil))
	if err != nil {
		t.Fatal(err)
	}
	if s.addr.Port() != 1234 || s.gate.Port() != 1235 || !s.usage().known || s.usage().rss == 0 {
		t.Errorf("%+v", s)
	}
	began := time.Now()
	if s.stop(); time.Since(began) > 5*time.Second || alive(s.pid) {
		t.Error("it did not end")
	}
	os.WriteFile(path, []byte("#!/bin/sh\necho no such port >&2\nexit 1\n"), 0o755)
	if _, err = start(v, nil, nil, cpuSet(nil)); err == nil || !bytes.Contains([]byte(err.Error()), []byte("no such port")) {
		t.Errorf("a server that ends gives %v", err)
	}
}

func TestParseStatWithAName(t *testing.T) {
	got, err := parseStat("42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 0 0 20 0")
	if err != nil || got != 1750*time.Millisecond {
		t.Error(got, err)
	}
}

func TestMediansAreOfRatiosWithinRounds(t *testing.T) {
	f := func(round int, v float64) *result { return &result{Round: round, Figures: figures{{"x", v}}} }
	got := median(ratios([]*result{f(1, 10), f(2, 40), f(3, 5)}, []*result{f(1, 5), f(2, 10), f(3, 5)}, "x"))
	if got != 2 || median([]float64{4, 1, 3, 2}) != 2.5 {
		t.Error(got)
	}
}
