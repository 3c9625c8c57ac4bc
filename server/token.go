//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/auth/token"
)

// tokenCommand mints a token.
var tokenCommand = command{
	name: "token", args: "", help: "make a token for trying out logins (-auth jwt)",
	about: `
Prints a token for a user, signed with a secret or a private key. What issues tokens for your users is your own.

  openssl rand -hex 32 > key                       a secret, or
  openssl genpkey -algorithm ed25519 -out key      a private key; the server needs only what this prints:
  openssl pkey -in key -pubout

  pomelod -auth jwt -auth-key key
  pomelod token -key key -name alice -ttl 1h
`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		var o token.Options
		var id auth.Identity
		var rooms listFlag
		f.StringVar(&o.File, "key", "", "`file` with a secret or a private key, PEM")
		f.StringVar(&id.Name, "name", "", "`name` of the user")
		f.StringVar(&id.UID, "uid", "", "`uid` that all sessions of the user have in common, if it is not the name")
		f.Var(&rooms, "rooms", "`patterns` of rooms that may be entered, lobby,world*; all if not given")
		ttl := f.Duration("ttl", time.Hour, "`time` until it expires")
		f.StringVar(&o.Issuer, "issuer", "", "`iss` of the token")
		f.StringVar(&o.Audience, "audience", "", "`aud` of the token")
		f.StringVar(&o.Name, "claim", "sub", "`claim` that is the name, as -auth-name of the server")
		return func([]string) error {
			switch {
			case o.File == "" || id.Name == "":
				return settingsError{errors.New("-key and -name are needed: pomelod token -key FILE -name alice")}
			case *ttl <= 0 || *ttl > token.Longest:
				return settingsError{fmt.Errorf("-ttl %v: must be above 0 and at most %v: servers take no token that lasts longer", *ttl, token.Longest)}
			}
			id.Rooms, id.Until = rooms, time.Now().Add(*ttl)
			text, err := token.Mint(o, id)
			if err != nil {
				return settingsError{err}
			}
			fmt.Fprintln(c.stdout, text)
			return nil
		}
	},
}

// sameFile tells whether two looks have seen one file, unchanged.
func sameFile(a, b os.FileInfo) bool {
	return a == nil && b == nil || a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
