package netpoll_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// keys seals records as a client of TLS 1.3 would, for what crypto/tls' client never does.
type keys struct {
	secret []byte
	seq    uint64
	aead   cipher.AEAD
	iv     []byte
}

func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	b, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return b
}

func (k *keys) use(secret []byte) {
	block, err := aes.NewCipher(expand(secret, "key", 16))
	if err != nil {
		panic(err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	k.secret, k.seq, k.iv = secret, 0, expand(secret, "iv", 12)
}

func (k *keys) record(kind byte, contents []byte) []byte {
	nonce := bytes.Clone(k.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(k.seq >> (56 - 8*i))
	}
	k.seq++
	plain := append(bytes.Clone(contents), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+16))
	return k.aead.Seal(head, nonce, plain, head)
}

// update is a KeyUpdate that asks for one in return.
func (k *keys) update() []byte {
	b := k.record(22, []byte{24, 0, 0, 1, 1})
	k.use(expand(k.secret, "traffic upd", 32))
	return b
}

// open shakes hands and returns the keys by which the client goes on.
func (w *sealed) open(t testing.TB, h *witness) (*tls.Conn, *far, *netpoll.Conn, *keys) {
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
func keysIn(t testing.TB, log string) *keys {
	t.Helper()
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k := new(keys)
			k.use(secret)
			return k
		}
	}
	t.Fatal("no secret in the log")
	return nil
}

// Keys may change now and then. Who changes them all the time, or sends records that say nothing, is ended before it costs anybody time, and so is who
// begins a message that crypto/tls would have to keep.
func TestSecureKeyUpdates(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	client, f, _, k := w.open(t, h)
	for range 20 { // one a second
		for range 3 {
			f.s.Send(k.update())
		}
		f.s.Send(k.record(23, []byte("x")))
		w.net.Seconds(1)
		if got := read(t, client, 1); string(got) != "x" {
			t.Fatalf("%q", got)
		}
	}
	for name, send := range map[string]func(k *keys) []byte{
		"updates":              (*keys).update,
		"updates and one byte": func(k *keys) []byte { return append(k.update(), k.record(23, []byte("x"))...) },
		"empty":                func(k *keys) []byte { return k.record(23, nil) },
		"a long message":       func(k *keys) []byte { return k.record(22, append([]byte{24, 0, 255, 0}, make([]byte, 600)...)) },
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
		burst = append(burst, k.record(23, []byte{byte(i)})...)
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
	long := k.record(23, make([]byte, 16<<10))
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
