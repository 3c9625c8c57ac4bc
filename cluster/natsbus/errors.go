package natsbus

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
)

// Why the bus carries nothing. What Changed is given wraps one of them and is one sentence for an operator.
var (
	// ErrAbsent is the error while no server answers.
	ErrAbsent = errors.New("no NATS server answers")
	// ErrForbidden is the error when NATS refuses the user, the password, the token, the credentials or the certificate.
	ErrForbidden = errors.New("NATS refuses this login")
	// ErrCluster is the error when NATS lets the user in but not to the subjects of this cluster.
	ErrCluster = errors.New("NATS keeps this user from the cluster")
	// ErrServer is the error when what answers is no NATS server that can be used: another program, another port, too old, or one whose
	// max_payload is too small.
	ErrServer = errors.New("this NATS server cannot be used")
	// ErrTLS is the error when the two sides do not agree about TLS.
	ErrTLS = errors.New("no TLS with NATS")
	// ErrLost is the error while a connection that was there is gone; the next attempt follows within a second.
	ErrLost = errors.New("the connection to NATS was lost")
	// ErrClosed is the error after Close.
	ErrClosed = errors.New("the bus is closed")
)

// fault is one of the errors above with what is known of it.
type fault struct {
	kind error
	text string
}

func (f *fault) Error() string { return fmt.Sprintf("%v: %s", f.kind, f.text) }
func (f *fault) Unwrap() error { return f.kind }

func faultf(kind error, format string, args ...any) error {
	return &fault{kind, fmt.Sprintf(format, args...)}
}

// explain makes a sentence of why a server could not be used. dial is the error of the last dial, if it failed. server has no password.
func explain(server string, err, dial error) error {
	text := said(err)
	switch {
	case dial != nil:
		return faultf(ErrAbsent, "%v; start it, or correct the address %s", dial, server)
	case isAny(err, nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported):
		return faultf(ErrForbidden, "%s says %q; correct user and password in its address, or the file of credentials", server, text)
	case isAny(err, nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded):
		return faultf(ErrForbidden, "%s says %q; raise its max_connections", server, text)
	case isAny(err, nats.ErrSecureConnWanted):
		return faultf(ErrTLS, "%s does not offer it; write nats:// instead of tls://, or configure it there", server)
	case isAny(err, nats.ErrSecureConnRequired):
		return faultf(ErrTLS, "%s demands it; write tls:// instead of nats://", server)
	case strings.Contains(text, "x509:"), strings.Contains(text, "tls:"), errors.Is(err, nats.ErrTLS):
		return faultf(ErrTLS, "%s: %s; give the file of the authority that signed its certificate, and a certificate of your own if it demands one", server, text)
	case strings.Contains(strings.ToLower(text), "attempted to connect to"):
		return faultf(ErrServer, "%s says %q; give its port for clients, by default 4222", server, text)
	case isAny(err, nats.ErrNoInfoReceived):
		return faultf(ErrServer, "what listens at %s is no NATS server (%s); give the port for clients, by default 4222", server, text)
	case isAny(err, nats.ErrNoEchoNotSupported, nats.ErrHeadersNotSupported):
		return faultf(ErrServer, "%s is too old (%s); pomelod needs nats-server 2.2 or newer", server, text)
	case isAny(err, io.EOF, syscall.EPIPE, syscall.ECONNRESET):
		return faultf(ErrAbsent, "%s closes the connection at once (%s); it is just ending, or has as many as its max_connections allows", server, text)
	}
	return faultf(ErrAbsent, "%s: %s", server, text)
}

// said is an error without the name of the library, which the sentence around it has.
func said(err error) string { return strings.TrimPrefix(err.Error(), "nats: ") }

// isAny is errors.Is with several targets.
func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
