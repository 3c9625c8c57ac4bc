// Command filter is a pomelod that looks at what is said: words of a list are replaced by stars, who uses them too often has to be silent for a while, and rooms whose
// names begin with "slow-" have slow mode. It counts for sessions, as it knows no users: who comes back begins anew. Where users log in count for Session.UID.
//
//	go run ./examples/filter -words darn,heck
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewFilter().App())) }

// Filter is the program.
type Filter struct {
	app   *app.App
	words *string        // -words
	bad   *regexp.Regexp // nil: no word is bad
	now   func() time.Time

	mu      sync.Mutex
	silence map[*app.Session]*silence // of those who have used a word
}

// silence is what is known of one who has used words of the list.
type silence struct {
	strikes int
	until   time.Time
}

// A session may use so many words before it has to be silent, and for how long.
const (
	maxStrikes  = 3
	silenceTime = time.Minute
)

// NewFilter makes the program.
func NewFilter() *Filter {
	f := &Filter{app: app.New(), now: time.Now, silence: make(map[*app.Session]*silence)}
	f.words = f.app.Flags().String("words", "darn,heck", "`words` that are replaced by stars, with commas between")
	return f
}

// App is the program's part of the server.
func (f *Filter) App() *app.App {
	f.app.OnStart(f.start)
	f.app.Before("chat.chatHandler.send", f.send)
	f.app.OnEnter(f.entered)
	f.app.OnClose(f.closed)
	return f.app
}

// start makes an expression of the words. Flags have their values by now.
func (f *Filter) start() error {
	var list []string
	for word := range strings.SplitSeq(*f.words, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, regexp.QuoteMeta(word))
		}
	}
	if len(list) == 0 {
		return nil
	}
	bad, err := regexp.Compile(`(?i)\b(` + strings.Join(list, "|") + `)\b`)
	if err != nil {
		return fmt.Errorf("-words: %w", err)
	}
	f.bad = bad
	return nil
}

// send is a filter: it changes what is said, or refuses it and says why.
func (f *Filter) send(c *app.Call) error {
	message, err := c.Members()
	if err != nil {
		return err
	}
	text, _ := message["content"].(string)
	if wait := f.wait(c.Session, f.bad != nil && f.bad.MatchString(text)); wait > 0 {
		return &app.Error{Code: 429, Body: map[string]any{"reason": "words", "wait": int(wait.Seconds())}}
	}
	if f.bad == nil || !f.bad.MatchString(text) {
		return nil
	}
	message["content"] = f.bad.ReplaceAllStringFunc(text, func(word string) string { return strings.Repeat("*", len(word)) })
	return c.SetBody(message)
}

// wait is how long a session has still to be silent, now that it has said something.
func (f *Filter) wait(s *app.Session, bad bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	is := f.silence[s]
	if is == nil {
		if !bad || s.Closed() { // what was put in after closed would stay for ever
			return 0
		}
		is = new(silence)
		f.silence[s] = is
	}
	if wait := is.until.Sub(f.now()); wait > 0 {
		return wait
	}
	if bad {
		is.strikes++
	}
	if is.strikes < maxStrikes {
		return 0
	}
	is.strikes, is.until = 0, f.now().Add(silenceTime)
	return silenceTime
}

// entered turns on slow mode. It runs on the event loop, so it does not wait for the room.
func (f *Filter) entered(s *app.Session) {
	if room := s.Room(); strings.HasPrefix(room, "slow-") {
		_ = f.app.Room(room).SetSlowMode(5 * time.Second)
	}
}

// closed forgets a session.
func (f *Filter) closed(s *app.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.silence, s)
}
