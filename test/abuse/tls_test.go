//go:build linux

package abuse

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/tlskeys"
)

// hello is a ClientHello, which goes nowhere: it is sent again and again, and nothing after it.
func hello() []byte {
	var b bytes.Buffer
	_ = tls.Client(onlyWrites{&b}, &tls.Config{InsecureSkipVerify: true}).Handshake()
	return b.Bytes()
}

// onlyWrites is a connection from which nothing comes.
type onlyWrites struct{ io.Writer }

var errOnlyWrites = errors.New("nothing comes from here")

func (onlyWrites) Read([]byte) (int, error)         { return 0, errOnlyWrites }
func (onlyWrites) Close() error                     { return nil }
func (onlyWrites) LocalAddr() net.Addr              { return nil }
func (onlyWrites) RemoteAddr() net.Addr             { return nil }
func (onlyWrites) SetDeadline(time.Time) error      { return nil }
func (onlyWrites) SetReadDeadline(time.Time) error  { return nil }
func (onlyWrites) SetWriteDeadline(time.Time) error { return nil }

// shakeTLS shakes hands from an address, and tells how long that took. log, if not nil, gets the keys.
func shakeTLS(from, to string, log io.Writer) (*tls.Conn, *peer, time.Duration, error) {
	p, err := dial(from, to)
	if err != nil {
		return nil, nil, 0, err
	}
	_ = p.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: log})
	began := time.Now()
	err = conn.Handshake()
	return conn, p, time.Since(began), err
}

// Many who say hello and no more, of as many addresses as they have, hold up nobody: who comes then shakes hands when it is his address's turn, which
// is a matter of addresses, and not of how many wait.
func TestSilentHandshakes(t *testing.T) {
	const (
		addresses, each = 32, 40
		newcomers       = 5
		// A second. So a turn of all addresses takes less than 2 s, and to begin with all who wait more than a minute, on any machine.
		rate = 20
	)
	at := "127.0.0.1:" + lowPort(t)
	scenario{
		name:  "silent handshakes",
		flags: []string{"-tls-self", "-tls-listen", at, "-tls-gate", "none", "-tls-rate", fmt.Sprint(rate), "-tls-timeout", "5m", "-handshake-timeout", "5m"},
		attack: func(a *arena) error {
			said := hello()
			if err := together(addresses, func(i int) error {
				for range each {
					p, err := dial(fmt.Sprint(attackers, i+1), at)
					if err != nil {
						return err
					}
					a.keep(p)
					if err := p.raw(said); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				a.t.Fatal(err)
			}
			if err := a.await(atLeast(addresses*each), "pomelod_tls_connections"); err != nil { // nobody comes before them
				a.t.Fatal(err)
			}
			return together(newcomers, func(i int) error {
				_, p, took, err := shakeTLS(fmt.Sprint("127.0.67.", i+1), at, nil)
				if err != nil {
					return fmt.Errorf("a newcomer did not get in: %w", err)
				}
				p.Close()
				a.t.Logf("newcomer %d shook hands in %v", i, took)
				return nil
			})
		},
		landed: func(d delta) error { return d.atLeast(`pomelod_tls_handshakes_total{result="done"}`, newcomers) },
		without: weakness{
			edits: []edit{{"netpoll/handshakes.go", "	if !pass.shared() {\n		return &shaker{pass: pass}\n	}\n	k := p.clients[pass]", "	pass = 1\n	k := p.clients[pass]"}},
			fails: "a newcomer did not get in",
		},
	}.run(t)
}

// Who begins to speak TLS has a time to be done with it, whatever else it sends; who speaks nonsense has none. Each of these has gone by then.
func TestUnfinishedHandshakes(t *testing.T) {
	const each = 10
	said := hello()
	var byBytes [][]byte // the same in records of a byte each
	for _, b := range said[5:] {
		byBytes = append(byBytes, []byte{22, 3, 1, 0, 1, b})
	}
	first := func(b []byte) func(*peer) error { return func(p *peer) error { return p.raw(b) } }
	late := []stage{
		{name: "connected, without a word"},
		{name: "the head of a record", open: first(said[:5])},
		{name: "half a hello", open: first(said[:len(said)/2])},
		{name: "a hello and no more", open: first(said)},
		{name: "a hello by bytes", say: drip(said)},
		{name: "a hello by records of a byte", say: func(tenths int) []byte { return byBytes[min(tenths, len(byBytes)-1)] }},
		{name: "a hello, and a record by bytes", open: first(said), say: drip(append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 1<<14)...))},
	}
	nonsense := []stage{
		{name: "no TLS", open: first([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))},
		{name: "a record too long", open: first(append([]byte{22, 3, 1, 0xff, 0xff}, make([]byte, 1<<10)...))},
		{name: "a hello that is none", open: first(append([]byte{22, 3, 1, 0, 64}, bytes.Repeat([]byte{0xa5}, 64)...))},
		{name: "contents in place of a hello", open: first([]byte{23, 3, 3, 0, 1, 0})},
		{name: "a hello and an alert", open: first(append(bytes.Clone(said), 21, 3, 3, 0, 2, 2, 40))},
		{name: "two hellos", open: first(slices.Concat(said, said))},
	}
	stages := slices.Concat(late, nonsense)
	at := "127.0.0.1:" + lowPort(t)
	for i := range stages {
		stages[i].at = at
	}
	scenario{
		name:  "unfinished handshakes",
		busy:  "what is judged is who is ended; that others hear in time beside handshakes is TestSilentHandshakes'",
		flags: []string{"-tls-self", "-tls-listen", at, "-tls-gate", "none", "-tls-timeout", "1s", "-handshake-timeout", "4s"},
		attack: func(a *arena) error {
			return a.linger(stages, a.n(each), patience)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd(each)*float64(len(stages))) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_tls_handshakes_total{result="late"}`, crowd(each)*float64(len(late)-1)),
				d.atLeast(`pomelod_tls_handshakes_total{result="failed"}`, crowd(each)*float64(len(nonsense)-2))) // two do not begin as TLS does
		},
		without: weakness{flags: []string{"-tls-timeout", "1h", "-handshake-timeout", "1h"}, fails: "still connected: " + stageNames(late)},
	}.run(t)
}

// Who changes keys with each byte is ended at once: a change costs him a hash and us some, and an answer.
func TestKeyUpdates(t *testing.T) {
	const (
		conns = 50
		chars = 200 // of an HTTP head, each behind a change of keys
	)
	at := "127.0.0.1:" + lowPort(t)
	scenario{
		name:  "changes of keys",
		flags: []string{"-tls-self", "-tls-listen", at, "-tls-gate", "none", "-head-timeout", "5m"},
		attack: func(a *arena) error {
			for range a.n(conns) {
				var log strings.Builder
				conn, p, _, err := shakeTLS(fmt.Sprint(attackers, 1), at, &log)
				if err != nil {
					return err
				}
				a.keep(p)
				if conn.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
					a.t.Skip("without AES in hardware crypto/tls chooses another cipher")
				}
				k, err := tlskeys.Of(log.String())
				if err != nil {
					return err
				}
				var storm []byte
				for _, b := range []byte("GET /" + strings.Repeat("a", chars)) {
					storm = append(append(storm, k.Update()...), k.Record(23, []byte{b})...)
				}
				_ = p.raw(storm) // it may be ended meanwhile
				_ = p.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, p.Conn); timedOut(err) {
					return errors.New("a connection outlives what it did")
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_tls_handshakes_total", 1) },
		held:   func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="tls"}`, crowd(conns)) },
		without: weakness{
			edits: []edit{{"netpoll/secures.go", "s.over = s.over || s.idle > idleRecords || s.useless > idleBytes", "s.over = s.over || s.idle > 1<<30"}},
			fails: "a connection outlives what it did",
		},
	}.run(t)
}
