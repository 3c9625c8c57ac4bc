// Command login is a pomelod for users who have logged in somewhere: they show a token, in the handshake or in the enter, and are who that says, in every room.
// A second login takes the place of the first, and a token that is over ends what it began.
//
// Where tokens are JSON web tokens, or a service judges them, pomelod does this without a program (-auth). This one shows how a program with tokens
// of its own does.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewGuard().App())) }

// Guard lets in who has a token that was signed with its key. A token is NAME.UNTIL.SIGNATURE, UNTIL in Unix seconds.
type Guard struct {
	app *app.App
	key *string // the flag
	now func() time.Time

	user *app.Data[user] // of each session; it goes along in an upgrade
}

// user is whose session it is.
type user struct {
	Name  string    // empty: nobody's yet
	Until time.Time // the end of its token
}

// NewGuard makes the program.
func NewGuard() *Guard {
	g := &Guard{app: app.New(), now: time.Now}
	g.user = app.NewData[user](g.app, "user")
	g.key = g.app.Flags().String("login-key", "", "`secret` with which tokens are signed, at least 16 bytes; better in the environment, POMELOD_LOGIN_KEY")
	return g
}

// App is the program's part of the server.
func (g *Guard) App() *app.App {
	g.app.OnStart(func() error {
		if len(*g.key) < 16 {
			return errors.New("-login-key is missing, or shorter than 16 bytes")
		}
		_, err := g.app.Every(time.Second, g.sweep)
		return err
	})
	g.app.OnHandshake(g.handshake)
	g.app.Before("connector.entryHandler.enter", g.enter)
	return g.app
}

// Token makes a token: a web server that knows who its visitor is does the same.
func (g *Guard) Token(name string, until time.Time) string {
	text := name + "." + strconv.FormatInt(until.Unix(), 10)
	return text + "." + g.sign(text)
}

func (g *Guard) sign(text string) string {
	mac := hmac.New(sha256.New, []byte(*g.key))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// errLogin tells nobody what is wrong with a token.
var errLogin = &app.Error{Code: 401, Body: map[string]string{"reason": "login"}}

// read reads a token.
func (g *Guard) read(token string) (u user, err error) {
	text, signature, _ := cutLast(token)
	name, until, _ := cutLast(text)
	seconds, err := strconv.ParseInt(until, 10, 64)
	if err != nil || name == "" || !hmac.Equal([]byte(signature), []byte(g.sign(text))) || g.now().Unix() >= seconds {
		return user{}, errLogin
	}
	return user{name, time.Unix(seconds, 0)}, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// handshake is called with what a client gives as user. One that gives no token may give it when it enters: clients of socket.io have no handshake.
func (g *Guard) handshake(h *app.Handshake) (any, error) {
	var given struct{ Token string }
	if err := h.Decode(&given); err != nil || given.Token == "" {
		return nil, err
	}
	u, err := g.read(given.Token)
	if err != nil {
		return nil, err
	}
	return map[string]string{"name": u.Name}, g.login(h.Context(), h.Session, u)
}

// enter is a filter: who is nobody yet shows a token, and everybody has the name of its token.
func (g *Guard) enter(c *app.Call) error {
	var body struct{ Username, Token string }
	if err := c.Decode(&body); err != nil {
		return err
	}
	if body.Token != "" {
		u, err := g.read(body.Token)
		if err != nil {
			return err
		}
		if now := g.user.Get(c.Session); now.Name != "" && now.Name != u.Name {
			return errLogin // a session stays who it is
		}
		if err := g.login(c.Context(), c.Session, u); err != nil {
			return err
		}
	}
	if u := g.user.Get(c.Session); u.Name == "" || u.Name != body.Username {
		return errLogin
	}
	return nil
}

// login makes a session a user's. Of several of one user the latest stays, and it waits until the others have left their rooms, so that it finds the name free.
func (g *Guard) login(ctx context.Context, s *app.Session, u user) error {
	g.user.Set(s, u)
	for _, old := range s.Bind(u.Name) {
		old.Kick("you have logged in elsewhere")
		select {
		case <-old.Done():
		case <-ctx.Done():
			return fmt.Errorf("the older session of %s: %w", u.Name, ctx.Err())
		}
	}
	return nil
}

// sweep ends sessions whose tokens are over.
func (g *Guard) sweep(context.Context) {
	for _, uid := range g.app.UIDs() {
		for _, s := range g.app.SessionsOf(uid) {
			if !g.now().Before(g.user.Get(s).Until) {
				s.Kick("login expired")
			}
		}
	}
}
