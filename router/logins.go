package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/pomelod/pomelod/auth"
)

// Logins is how a node has logins judged; the zero Logins lets everybody in without one.
type Logins struct {
	Judge auth.Func
	// AtOnce is how many logins are judged at a time, each on a goroutine; others wait, addresses in turn.
	AtOnce int
	// Query also takes tokens from the member "token" of the URL by which a client connects. Proxies log URLs.
	Query bool
}

// maxLoginBytes is how much logins that wait may take, each with its token and loginCost.
const (
	maxLoginBytes = 32 << 20
	loginCost     = 512
)

// logins are those of a node that wait to be judged, and those that are. Safe from any goroutine.
//
// A client that comes back with thousands of others after a restart waits; an address that sends tokens without end waits behind its own, and others
// of its address, only.
type logins struct {
	Logins
	turns
}

// login is a token on its way.
type login struct {
	ctx    context.Context
	cancel context.CancelFunc // nobody waits any more
	shown  auth.Login
	// judged is called once, on any goroutine, unless ctx has ended.
	judged func(auth.Identity, error)

	// When it has been judged, and the session is to be counted as one of its user's (claim.go). Owned by the loop.
	claim uint32 // number of the request; 0: it is being judged
	who   *identity
	then  loggedIn
}

// loggedIn is told on the loop what has come of a login: an identity, or nil and, where that may be told, why.
type loggedIn func(s *session, who *identity, why string)

func (j *login) cost() int { return len(j.shown.Token) + loginCost }

// programLogins is how many logins a program's function judges at a time.
const programLogins = 64

// newLogins has logins judged as cfg says, or by the program; nil if nobody needs to log in. counts tells whether a user's sessions are counted.
func newLogins(cfg Logins, app *program, counts bool) (*logins, error) {
	if app != nil && app.Judge() != nil {
		if cfg.Judge != nil {
			return nil, errors.New("-auth: the program judges logins itself (App.Authenticate); give -auth none")
		}
		cfg.Judge, cfg.AtOnce = app.Judge(), programLogins
	}
	switch {
	case cfg.Judge == nil && cfg.Query:
		return nil, errors.New("-auth-query: nobody has to show a token; give -auth too")
	case cfg.Judge == nil && counts:
		return nil, errors.New("-sessions counts who has logged in, and nobody has to: give -auth too")
	case cfg.Judge == nil:
		return nil, nil
	}
	cfg.AtOnce = max(cfg.AtOnce, 1)
	return &logins{Logins: cfg, turns: turns{atOnce: cfg.AtOnce, most: maxLoginBytes}}, nil
}

// add has a login judged in its turn. It returns false when too many wait.
func (ls *logins) add(j *login) bool {
	return ls.turns.add(j.shown.Address, j.cost(), func() {
		if j.ctx.Err() != nil {
			return
		}
		if id, err := ls.judge(j); j.ctx.Err() == nil {
			j.judged(id, err)
		}
	})
}

// judge asks the judge. A panic of its is an error.
func (ls *logins) judge(j *login) (id auth.Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic while a login was judged; it is refused", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			id, err = auth.Identity{}, errLoginPanic
		}
	}()
	if id, err = ls.Judge(j.ctx, j.shown); err == nil {
		err = id.Check()
	}
	return id, err
}

var errLoginPanic = errors.New("panic")

// loginResult is what became of a login.
type loginResult uint8

const (
	loginAccepted loginResult = iota
	loginRefused
	loginFailed // the judge could not say
	loginBusy   // it was not judged: too many wait, or its address begins too many sessions
	loginEnough // its user has as many sessions as one may have
	loginResults
)

// loginResultNames are the values of the label "result" of pomelod_logins_total.
var loginResultNames = [loginResults]string{loginAccepted: "accepted", loginRefused: "refused", loginFailed: "failed", loginBusy: "busy", loginEnough: "sessions"}

// login has a token judged for s, has s counted as one of the user's sessions where these are limited, and then called. Until then s.x.login is set. Nothing is called when
// the session has ended, or has given the login up (dropLogin). then may be called before login returns.
func (l *loop) login(s *session, shown auth.Login, then loggedIn) {
	ls, peer := l.node.logins, s.conn.Peer().Addr()
	if shown.Token == "" || len(shown.Token) > auth.MaxToken {
		l.counters.logins[loginRefused]++
		then(s, nil, "")
		return
	}
	shown.Address = peer
	addr, j := l.addr(s.conn), &login{shown: shown}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	j.judged = func(id auth.Identity, err error) {
		l.postRun(0, func() { l.judged(l.byAddr(addr), j, id, err, then) })
	}
	l.extra(s).login = j
	if !l.node.access.handshake(peer) || !ls.add(j) { // whether it is right or wrong
		l.counters.logins[loginBusy]++
		l.dropLogin(s)
		then(s, nil, "")
	}
}

// judged takes what was said of a login.
func (l *loop) judged(s *session, j *login, id auth.Identity, err error, then loggedIn) {
	if s == nil || s.x == nil || s.x.login != j {
		return
	}
	l.dropLogin(s)
	var who *identity
	switch {
	case err == nil:
		if who = l.identify(id); who == nil {
			l.counters.logins[loginRefused]++
			break
		}
		if l.limitsSessions() && !s.claims(who.user) {
			l.claim(s, who, then)
			return
		}
		l.counters.logins[loginAccepted]++
	case errors.Is(err, auth.ErrRefused):
		slog.Debug("a login is refused", "addr", s.conn.Peer().Addr().String(), "err", err)
		l.counters.logins[loginRefused]++
	default:
		l.counters.logins[loginFailed]++
		l.node.loginTrouble(err)
	}
	then(s, who, "")
}

// shaking tells whether the handshake of s waits until its login has been judged, or a function of the App's has looked at it. What its client sends behind it waits, too.
func (s *session) shaking() bool {
	return s.phase == opening && s.x != nil && (s.x.login != nil || s.x.greeting)
}

// goOn goes on with a session after its handshake has waited for a login.
func (l *loop) goOn(s *session) {
	if s.conn.Paused() {
		l.np.Resume(s.conn)
	}
	l.tidy(s)
}

// dropLogin gives up the login that s waits for, if it does.
func (l *loop) dropLogin(s *session) {
	if s.x == nil || s.x.login == nil {
		return
	}
	j := s.x.login
	if s.x.login = nil; j.claim != 0 {
		l.release(s, j.who.user)
		return
	}
	j.cancel()
}

// loginTroubleEvery is the least time between two log lines about logins that could not be judged, in nanoseconds.
const loginTroubleEvery = int64(10 * time.Second)

// loginTrouble tells the log that a login could not be judged.
func (n *Node) loginTrouble(err error) {
	now, last := n.access.nanos(), n.loginTold.Load()
	if now-last >= loginTroubleEvery && n.loginTold.CompareAndSwap(last, now) {
		slog.Error("logins cannot be judged, and are refused", "err", err, "hint", "pomelod_logins_total counts them; this line comes at most once in ten seconds")
	}
}
