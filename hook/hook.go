// Package hook asks HTTP services of the operator's: who somebody is, and whether something may be said.
package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/auth"
)

// What is asked of the service, and how patient we are.
const (
	// AtOnce is how many questions are asked at a time; more must not be posed.
	AtOnce = 64
	// Timeout is the time for an answer, from the question to its last byte.
	Timeout = 3 * time.Second

	maxAnswer = 64 << 10 // bytes
	failures  = 5        // in a row, after which it is not asked for a while
	pause     = 5 * time.Second
)

// Hook asks a service. Safe from any goroutine.
//
// It posts JSON, takes a 200 for an answer, a 401 and a 403 for a no, and all else, a redirect too, for a failure; other answers from 400 to 499 are about the
// question and no failure either. After five failures in a row the service is not asked for five seconds, then once, and by all again when that was answered. A
// question that an idle connection was too old for is asked once more, with the same Idempotency-Key.
type Hook struct {
	what   string // it is, for errors
	url    string
	echoes int // an answer may be longer than maxAnswer by so many times the question, which may be in it
	client http.Client
	now    func() time.Time

	rests atomic.Int64 // until then (Unix ns) it is not asked; 0: it is

	mu     sync.Mutex
	failed int       // guarded by mu: in a row
	again  time.Time // guarded by mu: when it may be asked again; after that once
	trying bool      // guarded by mu: that is being done
}

// New makes a hook of the URL of a login service, and refuses one that is none.
func New(address string) (*Hook, error) { return newHook("the login service", address, Timeout) }

func newHook(what, address string, timeout time.Duration) (*Hook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL of a service; write http://127.0.0.1:8080/path or https://…", address)
	}
	transport := &http.Transport{MaxConnsPerHost: AtOnce, MaxIdleConnsPerHost: AtOnce, IdleConnTimeout: 90 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer}
	return &Hook{what: what, url: address, now: time.Now, client: http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// errOpen is the error of what the service was not asked.
var errOpen = errors.New("the service has failed too often; it is not asked for a while")

// errNo is a 401 or 403.
var errNo = errors.New("the service says no")

// Resting tells that the service is not asked at present, as it has failed too often. It takes no lock.
func (h *Hook) Resting() bool {
	until := h.rests.Load()
	return until != 0 && h.now().UnixNano() < until
}

// question is what the service is asked.
type question struct {
	Token   string `json:"token"`
	Name    string `json:"name"`
	Room    string `json:"room"`
	Address string `json:"address"`
}

// answer is what it says.
type answer struct {
	Name  string   `json:"name"`
	Rooms []string `json:"rooms"`
	UID   string   `json:"uid"`
	Until *float64 `json:"until"`
}

// Authenticate is the auth.Func of a login service. It posts {"token", "name", "room", "address"} and takes {"name", "rooms", "uid", "until"} for a yes, where until is
// in Unix seconds and all but name may be missing.
func (h *Hook) Authenticate(ctx context.Context, l auth.Login) (id auth.Identity, err error) {
	err = h.ask(ctx, question{l.Token, l.Name, l.Room, l.Address.String()}, func(text []byte) error {
		var a answer
		if err := json.Unmarshal(text, &a); err != nil {
			return err
		}
		id = auth.Identity{Name: a.Name, Rooms: a.Rooms, UID: a.UID}
		if a.Until != nil {
			if *a.Until < 0 || *a.Until > maxUntil {
				return errors.New("until is no time in Unix seconds")
			}
			id.Until = time.Unix(int64(*a.Until), 0)
		}
		return id.Check()
	})
	switch {
	case errors.Is(err, errNo):
		return auth.Identity{}, fmt.Errorf("%w by the login service", auth.ErrRefused)
	case err != nil:
		return auth.Identity{}, err
	}
	return id, nil
}

// ask poses a question, if the service is asked at all, and has take what it answers. An error of take is a failure of the service.
func (h *Hook) ask(ctx context.Context, question any, take func(text []byte) error) error {
	if !h.begin() {
		return errOpen
	}
	err := h.post(ctx, question, take)
	switch {
	case err == nil, errors.Is(err, errNo), errors.Is(err, errAsked):
		h.end(true)
	case ctx.Err() == context.Canceled: // nobody waits any more; that says nothing of the service
		h.leave()
	default:
		h.end(false)
	}
	return err
}

// begin tells whether the service may be asked.
func (h *Hook) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed < failures {
		return true
	}
	if h.trying || h.now().Before(h.again) {
		return false
	}
	h.trying = true
	h.rests.Store(math.MaxInt64) // for all others
	return true
}

// end notes whether the service has answered as it should.
func (h *Hook) end(well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	if well {
		h.failed = 0
		h.rests.Store(0)
		return
	}
	if h.failed++; h.failed >= failures {
		h.again = h.now().Add(pause)
		h.rests.Store(h.again.UnixNano())
	}
}

func (h *Hook) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	if h.failed >= failures {
		h.rests.Store(h.again.UnixNano())
	}
}

// errAsked is the error of what the service takes for a bad question: whoever shows such tokens, or says such things, must not shut out the others, so it is no
// failure of the service.
var errAsked = errors.New("the service does not take the question")

// drain reads what a refusal says, in bounds, as its connection can be used again then.
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxAnswer) }

// post poses a question.
func (h *Hook) post(ctx context.Context, question any, take func(text []byte) error) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	// By this net/http asks once more, on another connection, when the service has closed an idle one at the moment at which it was used. The service may tell by
	// it that the two are one question.
	r.Header.Set("Idempotency-Key", `"`+rand.Text()+`"`)
	response, err := h.client.Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", h.what, err)
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		drain(response.Body)
		return errNo
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		drain(response.Body)
		return fmt.Errorf("%w: %s answers %s; it must be 200, 401 or 403", errAsked, h.what, response.Status)
	case code != http.StatusOK:
		return fmt.Errorf("%s answers %s; it must be 200, 401 or 403", h.what, response.Status)
	}
	most := maxAnswer + h.echoes*len(body)
	text, err := io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s's answer: %w", h.what, err)
	case len(text) > most:
		return fmt.Errorf("%s's answer is longer than %d bytes", h.what, most)
	}
	if err := take(text); err != nil {
		return fmt.Errorf("%s's answer: %w", h.what, err)
	}
	return nil
}

// maxUntil is the year 9999. Milliseconds, which scripts like to give, lie beyond it.
const maxUntil = 253_402_300_799
