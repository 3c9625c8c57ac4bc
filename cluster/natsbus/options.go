package natsbus

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// server is one address.
type server struct {
	url  string // with user and password
	name string // for people: without
}

// parseServers reads Config.Servers.
func parseServers(list string) (servers []server, err error) {
	for _, text := range strings.Split(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil { // the error of url.Parse would show a password
			return nil, errors.New("an address of NATS is no URL: write nats://host:4222, with user:password@ before the host if it wants a login, and other characters in them than letters and digits as %XX")
		}
		if u.Scheme != "nats" && u.Scheme != "tls" {
			return nil, fmt.Errorf("address %s of NATS: the scheme must be nats:// or tls://", hide(u))
		}
		if u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("address %s of NATS: write no more than nats://host:4222, with user:password@ before the host if it wants a login", hide(u))
		}
		if u.Port() == "" {
			u.Host += ":4222"
		}
		u.Path = ""
		servers = append(servers, server{u.String(), hide(u)})
	}
	if len(servers) == 0 {
		return nil, errors.New("no address of NATS: write nats://host:4222")
	}
	return servers, nil
}

// hide is an address without the login in it: a password, or a token in the place of the user.
func hide(u *url.URL) string {
	v := *u
	v.User = nil
	return v.String()
}

// Redact is Config.Servers without logins, to be shown to people.
func Redact(list string) string {
	parts := strings.Split(list, ",")
	for i, p := range parts {
		if at := strings.LastIndexByte(p, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(p[:at], "://")
			parts[i] = "***@" + p[at+1:]
			if ok {
				parts[i] = scheme + "://" + parts[i]
			}
		}
	}
	return strings.Join(parts, ",")
}

// options are those that all connections share.
func options(c *Config) ([]nats.Option, error) {
	list := []nats.Option{
		nats.Name("pomelod " + c.Node), nats.NoEcho(), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(oneStep),
		nats.PingInterval(pingEvery), nats.NoCallbacksAfterClientClose(),
	}
	if c.Credentials != "" && c.NKey != "" {
		return nil, errors.New("a file of credentials and one of an NKey: give one of them")
	}
	if (c.Certificate == "") != (c.Key == "") {
		return nil, errors.New("a certificate for NATS needs its key, and a key its certificate: give both files")
	}
	for _, f := range []string{c.Credentials, c.NKey, c.CA, c.Certificate, c.Key} {
		if f == "" {
			continue
		}
		if _, err := os.ReadFile(f); err != nil {
			return nil, fmt.Errorf("a file for NATS: %w", err)
		}
	}
	if c.Credentials != "" {
		if err := checkCredentials(c.Credentials); err != nil {
			return nil, err
		}
		list = append(list, nats.UserCredentials(c.Credentials))
	}
	if c.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("%s has no seed of a user's NKey: %w", c.NKey, err)
		}
		list = append(list, o)
	}
	if c.CA != "" {
		list = append(list, nats.RootCAs(c.CA))
	}
	if c.Certificate != "" {
		list = append(list, nats.ClientCert(c.Certificate, c.Key))
	}
	var check nats.Options
	for _, o := range list {
		if err := o(&check); err != nil {
			return nil, fmt.Errorf("a file for NATS: %w", err)
		}
	}
	return list, nil
}

// checkCredentials looks into a file that is read anew at each connection, so that it can be replaced.
func checkCredentials(file string) error {
	text, err := os.ReadFile(file)
	if err == nil {
		_, err = nkeys.ParseDecoratedJWT(text)
	}
	if err == nil {
		_, err = nkeys.ParseDecoratedUserNKey(text)
	}
	if err != nil {
		return fmt.Errorf("%s has no user's JWT and seed, as nsc generate creds writes them: %w", file, err)
	}
	return nil
}
