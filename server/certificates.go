//go:build linux

package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// certificates are those of -tls-cert and -tls-key, as the files have them now. Safe from any goroutine.
//
// All conns begin with one tls.Config, so that a ticket of the gate is one of the connector's, and one of before a reload is one of after it. For each
// handshake it chooses one of two that have the certificates: most clients know ALPN and want http/1.1; those that offer other protocols only, as programs
// that speak raw TCP may, get none instead of a refusal.
type certificates struct {
	certs, keys []string // files, in pairs; none with -tls-self
	now         atomic.Pointer[chosen]

	mu   sync.Mutex
	seen []os.FileInfo // guarded by mu: of the files when they were read; nil: they are read again at the next look
	told string        // guarded by mu: the error that was logged
}

// chosen are the configs of one reading of the files.
type chosen struct{ withHTTP, plain *tls.Config }

// alpnHTTP is the one protocol that is negotiated (RFC 7301 §6).
const alpnHTTP = "http/1.1"

// longestName is how long a name can be that DNS knows (RFC 1035 §2.3.4). crypto/tls takes names of 64 KiB, and keeps a conn's for as long as that lives; the
// gate repeats it.
const longestName = 255

var errLongName = errors.New("the server name is longer than any that DNS knows")

// config is the tls.Config by which conns begin.
func (k *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if len(hello.ServerName) > longestName {
				return nil, errLongName
			}
			now := k.now.Load()
			if slices.Contains(hello.SupportedProtos, alpnHTTP) {
				return now.withHTTP, nil
			}
			return now.plain, nil
		},
	}
}

// use has new handshakes use these certificates. The first that fits the client's name and algorithms is taken, else the first.
func (k *certificates) use(list []tls.Certificate) {
	plain := &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true, Certificates: list}
	withHTTP := plain.Clone()
	withHTTP.NextProtos = []string{alpnHTTP}
	k.now.Store(&chosen{withHTTP, plain})
}

// read reads all files, and uses what they say if all of them are right.
func (k *certificates) read() error {
	list, err := k.load()
	if err == nil {
		k.use(list)
	}
	return err
}

// load reads all files, and uses nothing.
func (k *certificates) load() ([]tls.Certificate, error) {
	list := make([]tls.Certificate, len(k.certs))
	for i := range k.certs {
		var err error
		if list[i], err = tls.LoadX509KeyPair(k.certs[i], k.keys[i]); err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w; both are PEM files, the server's own certificate first, then those of its issuers", k.certs[i], k.keys[i], err)
		}
	}
	return list, nil
}

// warnings tell of certificates that browsers will not take.
func (k *certificates) warnings(now time.Time) (list []string) {
	for i, c := range k.now.Load().plain.Certificates {
		switch {
		case c.Leaf == nil || i >= len(k.certs):
		case now.After(c.Leaf.NotAfter):
			list = append(list, fmt.Sprintf("the certificate %s has expired on %s: clients refuse it; renew it, pomelod sees when the file changes", k.certs[i], c.Leaf.NotAfter.Format(time.DateOnly)))
		case now.Before(c.Leaf.NotBefore):
			list = append(list, fmt.Sprintf("the certificate %s is not valid before %s: clients refuse it; is this machine's clock right?", k.certs[i], c.Leaf.NotBefore.Format(time.RFC3339)))
		}
	}
	return list
}

// names tells whether one of the certificates is for host.
func (k *certificates) names(host string) bool {
	return slices.ContainsFunc(k.now.Load().plain.Certificates, func(c tls.Certificate) bool {
		return c.Leaf != nil && c.Leaf.VerifyHostname(host) == nil
	})
}

// lookEvery is how often certificates are looked at.
const lookEvery = time.Second

// watch reads the files again when they have changed, until ctx ends. Links are followed, so a directory that is swapped by a link, as
// Kubernetes does it, is a change. While they are wrong, as when a certificate was written and its key was not yet, it goes on trying.
func (k *certificates) watch(ctx context.Context) {
	for range ticks(ctx, lookEvery) {
		if k.changed() {
			_ = k.again()
		}
	}
}

// again reads the files again. When they are wrong the certificates stay what they were, and that is logged once.
func (k *certificates) again() error {
	if len(k.certs) == 0 {
		return errNoReload
	}
	use, err := k.prepare()
	if err == nil {
		use()
	}
	return err
}

// prepare reads the files, and has use begin with what they say.
func (k *certificates) prepare() (use func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := k.look() // first: what changes meanwhile is read once more
	list, err := k.load()
	if err != nil {
		if k.seen = nil; k.told != err.Error() {
			k.told = err.Error()
			slog.Error("certificates stay as they were", "err", err, "hint", "correct the files; they are tried again each second")
		}
		return nil, err
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.use(list)
		k.seen, k.told = seen, ""
		slog.Info("certificates were read again; new connections get them", "files", []string(k.certs))
		for _, w := range k.warnings(time.Now()) {
			slog.Warn(w)
		}
	}, nil
}

// look is what the files are now.
func (k *certificates) look() (list []os.FileInfo) {
	for _, name := range slices.Concat(k.certs, k.keys) {
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		list = append(list, info)
	}
	return list
}

// changed tells whether the files are others than when they were read.
func (k *certificates) changed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.look()
	return len(now) > 0 && !slices.EqualFunc(now, k.seen, sameFile)
}

// selfSignedFor is how long the certificate of -tls-self is valid.
const selfSignedFor = 30 * 24 * time.Hour

// selfSigned makes a certificate for this machine that nobody has a reason to trust.
func selfSigned(hosts []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pomelod -tls-self"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(selfSignedFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// errNoReload is the answer to a reload when there is nothing to be read again.
var errNoReload = errors.New("nothing is reloaded: no file was given that can be read again; flags can stand in one (-flags-file)")
