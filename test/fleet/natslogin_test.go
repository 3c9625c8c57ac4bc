package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/pomelod/pomelod/cluster/natsbus"
	"github.com/pomelod/pomelod/internal/freeport"
)

// refused waits until the bus says why it carries nothing, and holds the sentence against words that an operator needs and words that nobody may see.
func refused(t *testing.T, c natsbus.Config, kind error, words ...string) *port {
	t.Helper()
	c.Node = "a"
	p := connect(t, c, natsbus.Handlers{})
	p.waitFor(kind)
	text := p.Err().Error()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "\n") {
		t.Errorf("%q shows a password, or is no sentence", text)
	}
	return p
}

func accepted(t *testing.T, c natsbus.Config) {
	t.Helper()
	c.Node = "a"
	connect(t, c, natsbus.Handlers{}).waitFor(nil)
}

func TestUserAndPassword(t *testing.T) {
	s := startNATS(t, func(o *server.Options) { o.Username, o.Password = "chat", "secret" })
	accepted(t, natsbus.Config{Servers: "nats://chat:secret@" + s.address()})
	p := refused(t, natsbus.Config{Servers: "nats://chat:secret2@" + s.address()}, natsbus.ErrForbidden, s.address(), "uthorization")
	refused(t, natsbus.Config{Servers: s.url()}, natsbus.ErrForbidden)
	// However often it was refused: when the operator mends the server, the node is let in.
	s.stop()
	s.options.Password = "secret2"
	s.start()
	p.waitFor(nil)
}

func TestToken(t *testing.T) {
	s := startNATS(t, func(o *server.Options) { o.Authorization = "secret" })
	accepted(t, natsbus.Config{Servers: "nats://secret@" + s.address()})
	refused(t, natsbus.Config{Servers: "nats://secret3@" + s.address()}, natsbus.ErrForbidden)
}

// Who may not use the subjects of a cluster is told which, when it may neither publish nor subscribe and when it lacks one of both.
func TestAnotherCluster(t *testing.T) {
	ours := &server.SubjectPermission{Allow: []string{"pomelod.ours.>"}}
	s := startNATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "both", Password: "secret", Permissions: &server.Permissions{Publish: ours, Subscribe: ours}},
			{Username: "hears", Password: "secret", Permissions: &server.Permissions{Subscribe: ours, Publish: &server.SubjectPermission{Deny: []string{">"}}}},
			{Username: "says", Password: "secret", Permissions: &server.Permissions{Publish: ours, Subscribe: &server.SubjectPermission{Deny: []string{">"}}}},
		}
	})
	accepted(t, natsbus.Config{Servers: "nats://both:secret@" + s.address(), Cluster: "ours"})
	refused(t, natsbus.Config{Servers: "nats://both:secret@" + s.address(), Cluster: "theirs"}, natsbus.ErrCluster, "pomelod.theirs.>", s.address())
	refused(t, natsbus.Config{Servers: "nats://hears:secret@" + s.address(), Cluster: "ours"}, natsbus.ErrCluster, "pomelod.ours.>")
	refused(t, natsbus.Config{Servers: "nats://says:secret@" + s.address(), Cluster: "ours"}, natsbus.ErrCluster, "pomelod.ours.>")
}

func TestMaxPayload(t *testing.T) {
	s := startNATS(t, func(o *server.Options) { o.MaxPayload = 64 << 10 })
	refused(t, natsbus.Config{Servers: s.url()}, natsbus.ErrServer, "max_payload", "65536")
}

func TestMaxConnections(t *testing.T) {
	s := startNATS(t, func(o *server.Options) { o.MaxConn = 1 })
	join(t, s, "first")
	p := connect(t, natsbus.Config{Servers: s.url(), Node: "a"}, natsbus.Handlers{})
	p.wait("the word max_connections", func() bool { return strings.Contains(p.Err().Error(), "max_connections") })
}

// What listens there is something else.
func TestNoNATS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			c.Close()
		}
	}()
	refused(t, natsbus.Config{Servers: "nats://" + l.Addr().String()}, natsbus.ErrServer, l.Addr().String(), "4222")
}

// The port by which NATS servers find each other is not that of clients.
func TestRoutePort(t *testing.T) {
	port := freeport.Get(t)
	startNATS(t, func(o *server.Options) { o.Cluster = server.ClusterOpts{Name: "nats", Host: "127.0.0.1", Port: port} })
	refused(t, natsbus.Config{Servers: "nats://" + (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()}, natsbus.ErrServer, "4222")
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	authority := newAuthority(t, dir)
	serverCert := authority.issue(t, dir, "server")
	authority.issue(t, dir, "client")
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")

	s := startNATS(t, func(o *server.Options) {
		o.TLSConfig, o.TLSTimeout = &tls.Config{Certificates: []tls.Certificate{serverCert}}, 10
	})
	accepted(t, natsbus.Config{Servers: "tls://" + s.address(), CA: ca})
	accepted(t, natsbus.Config{Servers: s.url(), CA: ca}) // the server demands TLS: that is enough
	refused(t, natsbus.Config{Servers: "tls://" + s.address()}, natsbus.ErrTLS, s.address(), "authority")

	both := startNATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.pool}
		o.TLSVerify, o.TLSTimeout = true, 10
	})
	accepted(t, natsbus.Config{Servers: "tls://" + both.address(), CA: ca, Certificate: cert, Key: key})
	refused(t, natsbus.Config{Servers: "tls://" + both.address(), CA: ca}, natsbus.ErrTLS, "certificate")

	plain := startNATS(t, nil)
	refused(t, natsbus.Config{Servers: "tls://" + plain.address(), CA: ca}, natsbus.ErrTLS, "nats://")
}

func TestNKey(t *testing.T) {
	seed := filepath.Join(t.TempDir(), "user.nk")
	user := newKey(t, nkeys.CreateUser, seed)
	s := startNATS(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: user.public}} })
	accepted(t, natsbus.Config{Servers: s.url(), NKey: seed})
	other := filepath.Join(t.TempDir(), "other.nk")
	newKey(t, nkeys.CreateUser, other)
	refused(t, natsbus.Config{Servers: s.url(), NKey: other}, natsbus.ErrForbidden)
}

// Credentials as nsc writes them: a JWT that an account has signed, whom an operator has signed.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	operator, account, user := newKey(t, nkeys.CreateOperator, ""), newKey(t, nkeys.CreateAccount, ""), newKey(t, nkeys.CreateUser, "")
	accountClaims := jwt.NewAccountClaims(account.public)
	accountJWT := must(accountClaims.Encode(operator.pair))(t)
	userClaims := jwt.NewUserClaims(user.public)
	userJWT := must(userClaims.Encode(account.pair))(t)
	creds := filepath.Join(dir, "user.creds")
	text := must(jwt.FormatUserConfig(userJWT, must(user.pair.Seed())(t)))(t)
	if err := os.WriteFile(creds, text, 0o600); err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(account.public, accountJWT); err != nil {
		t.Fatal(err)
	}
	s := startNATS(t, func(o *server.Options) {
		o.TrustedKeys, o.AccountResolver = []string{operator.public}, resolver
	})
	accepted(t, natsbus.Config{Servers: s.url(), Credentials: creds})
	refused(t, natsbus.Config{Servers: s.url()}, natsbus.ErrForbidden)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// key is a pair and its public half.
type key struct {
	pair   nkeys.KeyPair
	public string
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error), file string) key {
	t.Helper()
	pair := must(create())(t)
	if file != "" {
		if err := os.WriteFile(file, must(pair.Seed())(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key{pair, must(pair.PublicKey())(t)}
}

// authority signs certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	a := &authority{must(x509.ParseCertificate(der))(t), key, x509.NewCertPool()}
	a.pool.AddCert(a.cert)
	writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))(t)
	cert, keyFile := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t))
	return must(tls.LoadX509KeyPair(cert, keyFile))(t)
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Settings that cannot work are refused before anything is tried, by a sentence without the password in it.
func TestSettingsThatCannotWork(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent")
	for _, c := range []struct {
		name   string
		config natsbus.Config
		says   string
	}{
		{"no address", natsbus.Config{Cluster: "c", Node: "a"}, "nats://host:4222"},
		{"only commas", natsbus.Config{Servers: " , ,", Cluster: "c", Node: "a"}, "nats://host:4222"},
		{"another scheme", natsbus.Config{Servers: "http://secret@h:1", Cluster: "c", Node: "a"}, "nats:// or tls://"},
		{"a path", natsbus.Config{Servers: "nats://u:secret@h:1/x", Cluster: "c", Node: "a"}, "no more than"},
		{"no host", natsbus.Config{Servers: "nats://u:secret@:4222", Cluster: "c", Node: "a"}, "no more than"},
		{"no URL", natsbus.Config{Servers: "nats://u:sec%ret@h:x", Cluster: "c", Node: "a"}, "%XX"},
		{"no cluster", natsbus.Config{Servers: "h", Node: "a"}, "cluster name"},
		{"a subject as cluster", natsbus.Config{Servers: "h", Cluster: "a.>", Node: "a"}, "cluster name"},
		{"a long cluster", natsbus.Config{Servers: "h", Cluster: strings.Repeat("x", 65), Node: "a"}, "cluster name"},
		{"no node", natsbus.Config{Servers: "h", Cluster: "c"}, "without a name"},
		{"two logins", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Credentials: empty, NKey: empty}, "one of them"},
		{"a certificate alone", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Certificate: empty}, "both files"},
		{"a key alone", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Key: empty}, "both files"},
		{"no file of credentials", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Credentials: absent}, absent},
		{"no file of an authority", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", CA: absent}, absent},
		{"an empty authority", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", CA: empty}, empty},
		{"an empty certificate", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Certificate: empty, Key: empty}, "certificate"},
		{"an empty seed", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", NKey: empty}, empty},
		{"empty credentials", natsbus.Config{Servers: "h", Cluster: "c", Node: "a", Credentials: empty}, empty},
	} {
		bus, err := natsbus.New(c.config)
		if err == nil {
			t.Errorf("%s is taken", c.name)
			bus.Close()
			continue
		}
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "sec") {
			t.Errorf("%s: %q does not say %q, or shows a password", c.name, err, c.says)
		}
	}
	bus, err := natsbus.New(natsbus.Config{Servers: "h", Cluster: "c", Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	bus.Send("b", []byte("before Start"))
	if !errors.Is(bus.Err(), natsbus.ErrAbsent) || bus.Stats().Away != 1 {
		t.Errorf("before Start: %v, %+v", bus.Err(), bus.Stats())
	}
	bus.Close() // without Start
}

func TestRedact(t *testing.T) {
	for list, want := range map[string]string{
		"":                                   "",
		"nats://h:4222":                      "nats://h:4222",
		"nats://u:secret@h:4222,tls://tok@i": "nats://***@h:4222,tls://***@i",
		"u:secret@h":                         "***@h",
		"nats://u:sec@ret@h":                 "nats://***@h",
	} {
		if got := natsbus.Redact(list); got != want {
			t.Errorf("%q is shown as %q, not %q", list, got, want)
		}
	}
}
