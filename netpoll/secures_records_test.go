package netpoll_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/pomelod/pomelod/internal/tlskeys"
	"github.com/pomelod/pomelod/netpoll"
)

// open shakes hands and returns the keys by which the client goes on.
func (w *sealed) open(t testing.TB, h *witness) (*tls.Conn, *far, *netpoll.Conn, *tlskeys.Keys) {
	t.Helper()
	var log bytes.Buffer
	client, far, c := w.dial(h, &tls.Config{MinVersion: tls.VersionTLS13, KeyLogWriter: &log})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("without AES in hardware crypto/tls chooses another cipher")
	}
	w.pump()
	return client, far, c, keysIn(t, log.String())
}

// keysIn are a client's by the log of its secrets.
func keysIn(t testing.TB, log string) *tlskeys.Keys {
	t.Helper()
	k, err := tlskeys.Of(log)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Keys may change now and then. Who changes them all the time, or sends records that say nothing, is ended before it costs anybody time, and so is who
// begins a message that crypto/tls would have to keep.
func TestSecureKeyUpdates(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	client, f, _, k := w.open(t, h)
	for range 20 { // one a second
		for range 3 {
			f.s.Send(k.Update())
		}
		f.s.Send(k.Record(23, []byte("x")))
		w.net.Seconds(1)
		if got := read(t, client, 1); string(got) != "x" {
			t.Fatalf("%q", got)
		}
	}
	for name, send := range map[string]func(k *tlskeys.Keys) []byte{
		"updates":              (*tlskeys.Keys).Update,
		"updates and one byte": func(k *tlskeys.Keys) []byte { return append(k.Update(), k.Record(23, []byte("x"))...) },
		"empty":                func(k *tlskeys.Keys) []byte { return k.Record(23, nil) },
		"a long message":       func(k *tlskeys.Keys) []byte { return k.Record(22, append([]byte{24, 0, 255, 0}, make([]byte, 600)...)) },
	} {
		_, f, c, k := w.open(t, h)
		id := c.ID(h.loop)
		n := 0
		for h.closed[id] == 0 && n < 100 {
			f.s.Send(send(k))
			w.pump()
			n++
		}
		if h.closed[id] != netpoll.ReasonTLS || n > 20 || name == "a long message" && n > 1 {
			t.Errorf("%s: closed for %d after %d", name, h.closed[id], n)
		}
	}
}

// A thousand records of one byte in one read are one client's affair: it goes on in later turns, and gets everything.
func TestSecureTinyRecords(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	_, f, c, k := w.open(t, h)
	var burst, want []byte
	for i := range 3000 {
		burst = append(burst, k.Record(23, []byte{byte(i)})...)
		want = append(want, byte(i))
	}
	f.s.Send(burst)
	f.s.Ready()
	if n := len(w.got[c]); n == 0 || n > 100 {
		t.Errorf("one event decrypted %d records of one client", n)
	}
	w.pump()
	if !bytes.Equal(w.got[c], want) {
		t.Errorf("%d of %d bytes came, or they differ", len(w.got[c]), len(want))
	}
}

// A piece of a record has its time, and counts in the budget.
func TestSecurePieceOfRecord(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	_, f, c, k := w.open(t, h)
	id := c.ID(h.loop)
	long := k.Record(23, make([]byte, 16<<10))
	f.s.Send(long[:10_000])
	w.pump()
	if in := w.budget.Inbound(); in < 10_000 {
		t.Errorf("%d bytes are counted", in)
	}
	w.net.Seconds(18)
	if h.closed[id] != 0 {
		t.Fatalf("it was closed before its time, for %d", h.closed[id])
	}
	f.s.Send(long[10_000:10_001])
	w.net.Seconds(4)
	if h.closed[id] != late {
		t.Errorf("closed for %d", h.closed[id])
	}
}

// A record that is longer than any is refused by its head: its rest is not waited for, and never kept.
func TestSecureRecordTooLong(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	for length, want := range map[int]netpoll.Reason{16<<10 + 2048: 0, 16<<10 + 2049: netpoll.ReasonTLS} {
		_, f, c, _ := w.open(t, h)
		id := c.ID(h.loop)
		f.s.Send([]byte{23, 3, 3, byte(length >> 8), byte(length)})
		w.pump()
		if h.closed[id] != want {
			t.Errorf("a head that says %d: closed for %d", length, h.closed[id])
		}
	}
}
