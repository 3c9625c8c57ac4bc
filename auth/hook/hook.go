// Package hook judges logins by asking an HTTP service of the operator's.
package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
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
// It posts {"token", "name", "room", "address"} and takes a 200 with {"name", "rooms", "uid", "until"} for a yes, where until is in Unix seconds and all
// but name may be missing; 401 and 403 for a no; and all else, a redirect too, for a failure. After five failures in a row the service is not asked
// for five seconds, then by one login, and by all again once that one has been answered. What is not asked is refused. A question that an idle connection
// was too old for is asked once more, with the same Idempotency-Key.
type Hook struct {
	url    string
	client http.Client
	now    func() time.Time

	mu     sync.Mutex
	failed int       // guarded by mu: in a row
	again  time.Time // guarded by mu: when it may be asked again; after that by one
	trying bool      // guarded by mu: that one is being asked
}

// New makes a hook of a URL, and refuses one that is none.
func New(address string) (*Hook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL of a service; write http://127.0.0.1:8080/login or https://…", address)
	}
	transport := &http.Transport{MaxConnsPerHost: AtOnce, MaxIdleConnsPerHost: AtOnce, IdleConnTimeout: 90 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer}
	return &Hook{url: address, now: time.Now, client: http.Client{
		Transport: transport, Timeout: Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// errOpen is the error of a login about which the service was not asked.
var errOpen = errors.New("the login service has failed too often; it is not asked for a while")

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

// Authenticate is the hook's auth.Func.
func (h *Hook) Authenticate(ctx context.Context, l auth.Login) (auth.Identity, error) {
	if !h.begin() {
		return auth.Identity{}, errOpen
	}
	id, err := h.ask(ctx, l)
	switch {
	case err == nil, errors.Is(err, auth.ErrRefused), errors.Is(err, errAsked):
		h.end(true)
	case ctx.Err() != nil: // nobody waits any more; that says nothing of the service
		h.leave()
	default:
		h.end(false)
	}
	return id, err
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
	return true
}

// end notes whether the service has answered as it should.
func (h *Hook) end(well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	if well {
		h.failed = 0
		return
	}
	if h.failed++; h.failed >= failures {
		h.again = h.now().Add(pause)
	}
}

func (h *Hook) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
}

// errAsked is the error of a login that the service takes for a bad question: whoever shows such tokens must not shut out the others, so it is no
// failure of the service.
var errAsked = errors.New("the login service does not take the question")

// drain reads what a refusal says, in bounds, as its connection can be used again then.
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxAnswer) }

func (h *Hook) ask(ctx context.Context, l auth.Login) (id auth.Identity, err error) {
	body, err := json.Marshal(question{l.Token, l.Name, l.Room, l.Address.String()})
	if err != nil {
		return id, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return id, err
	}
	r.Header.Set("Content-Type", "application/json")
	// By this net/http asks once more, on another connection, when the service has closed an idle one at the moment at which it was used. The service may tell by
	// it that the two are one question.
	r.Header.Set("Idempotency-Key", `"`+rand.Text()+`"`)
	response, err := h.client.Do(r)
	if err != nil {
		return id, fmt.Errorf("the login service: %w", err)
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		drain(response.Body)
		return id, fmt.Errorf("%w by the login service", auth.ErrRefused)
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		drain(response.Body)
		return id, fmt.Errorf("%w: it answers %s; it must be 200, 401 or 403", errAsked, response.Status)
	case code != http.StatusOK:
		return id, fmt.Errorf("the login service answers %s; it must be 200, 401 or 403", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return id, fmt.Errorf("the login service's answer: %w", err)
	case len(text) > maxAnswer:
		return id, fmt.Errorf("the login service's answer is longer than %d bytes", maxAnswer)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return id, fmt.Errorf("the login service's answer: %w", err)
	}
	id = auth.Identity{Name: a.Name, Rooms: a.Rooms, UID: a.UID}
	if a.Until != nil {
		if *a.Until < 0 || *a.Until > maxUntil {
			return auth.Identity{}, errors.New("the login service's answer: until is no time in Unix seconds")
		}
		id.Until = time.Unix(int64(*a.Until), 0)
	}
	if err := id.Check(); err != nil {
		return auth.Identity{}, fmt.Errorf("the login service's answer: %w", err)
	}
	return id, nil
}

// maxUntil is the year 9999. Milliseconds, which scripts like to give, lie beyond it.
const maxUntil = 253_402_300_799
