package app

import "github.com/pomelod/pomelod/auth"

// Authenticate makes fn the judge of logins: nobody may enter a room without a token that fn knows. Clients show tokens as docs/PROTOCOL.md, "Login",
// says; fn is called once a session, and again when a client shows another token. It runs on goroutines of its own, at most 64 at a time while
// others wait, addresses in turn; so it should end soon, and when its ctx does: then nobody waits any more. The error of a token that is not good is
// auth.ErrRefused, or wraps it; any other, and a panic, refuses the login too, and is logged. The client is told neither. Instead of it the flag -auth
// chooses a judge of pomelod's own; both together are an error. Handlers of the program's own routes are called without a login, too. Panics when
// there is a judge already.
func (a *App) Authenticate(fn auth.Func) {
	if a.judge != nil {
		panic("app: Authenticate was called twice")
	}
	a.judge = fn
}

// Judge implements hosting.App.
func (h *hosted) Judge() auth.Func { return h.judge }
