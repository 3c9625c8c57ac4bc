//go:build linux

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sioReplay is a transcript of a socket.io server on its way, or what one user has in it.
//
// How many packets are in the answer to a poll, and so how many polls there are, is the server's choice (§4.2, §6.1). So the
// packets of a session that fetches are compared one after the other, whatever answers they come in, and its client polls
// as clients do: a recorded GET is sent, unless the one before is still open or what it fetched has come already, and one more is
// sent when there is none that could bring what is missing. Everything else is compared connection by connection.
type sioReplay struct {
	tr      *sioTranscript
	step    int // bytes in a write; 0: as recorded
	book    *book
	actions []action
	silent  map[int]bool // the server's lines that pomelod does not send
	lines   []line
	srv     *sioServer

	conns    map[string]*sioConn // by who, conn and port
	fetchers map[string]*fetcher // by session id in the transcript
	sent     map[string]string   // session ids: of the transcript to this run's
	got      map[string]string   // and back
	at       map[int]time.Time   // when a line was sent or came
	came     map[int]int         // items compared, by line
	told     map[string]int      // what else was counted, for the log
	ports    *strings.Replacer   // this run's to the recorded ones
	extras   int                 // connections that the transcript has not
	began    time.Time
}

// sioServer is a server and what was asked of it, by all users.
type sioServer struct {
	*running
	mu    sync.RWMutex // no request is on its way while it is locked
	asked atomic.Int64
}

// settle waits until all requests have been carried out. Then a GET is held, and what is sent on another connection
// comes after it, as it did when it was recorded: between connections there is no order otherwise.
func (s *sioServer) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		snap, err := s.node.Snapshot(ctx)
		if err != nil {
			return fmt.Errorf("some of %d requests are not carried out: %w", s.asked.Load(), err)
		}
		done := int64(0)
		for _, l := range snap.Loops {
			done += int64(l.HTTPRequests)
		}
		if done == s.asked.Load() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// sioConn is a connection of a transcript's.
type sioConn struct {
	*peer
	key     string
	form    wireForm   // WebSocket
	asked   []*inquiry // requests without an answer yet, oldest first
	words   []string   // of what came last, to be compared
	beyond  int        // pings that the transcript has not
	goodbye bool       // the client has said that it goes
	leaving bool       // the client closes it as soon as its answer has come
	ended   bool       // the server has closed it
}

// fetcher is a session whose client polls.
type fetcher struct {
	sid     string
	form    wireForm
	queue   []string   // words of packets that came
	open    []*inquiry // GETs without an answer yet, oldest first
	skipped []*inquiry // recorded GETs that were not sent
	last    *inquiry   // the GET that was sent last
	head    string     // of an answer
	probing bool       // a WebSocket tries to take over
	over    bool       // it has, or its client is gone for good
	beyond  int        // pings and ends of GETs that the transcript has not
}

// run does everything in its order, then looks for what nobody asked for. Errors begin with the line.
func (r *sioReplay) run() error {
	r.began = time.Now()
	defer func() {
		for _, c := range r.conns {
			if c.peer != nil {
				c.conn.Close()
			}
		}
	}()
	for i := range r.actions {
		a := &r.actions[i]
		do := r.expect
		if a.send != nil {
			do = r.send
		}
		if err := do(a); err != nil {
			return fmt.Errorf("%d: %w", a.line, err)
		}
	}
	if err := r.finish(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// expect takes the next item of a session or a connection and compares it.
func (r *sioReplay) expect(a *action) error {
	next := r.nextOn
	if sid, ok := strings.CutPrefix(a.who, pullKey("")); ok {
		next = r.nextOf
		if r.fetchers[sid] == nil {
			return fmt.Errorf("there is no session %s", sid)
		}
	} else if r.conns[a.who] == nil {
		return fmt.Errorf("%s has no connection", a.who)
	}
	got, err := next(a)
	if err != nil {
		return fmt.Errorf("%s: %w; wanted %s %s", a.who, err, a.expect, a.rule)
	}
	r.at[a.line] = time.Now()
	got = r.learn(a.expect, got)
	if got = likeHead(got, a.expect); got != a.expect {
		return fmt.Errorf("%s got\n     %s\nwant %s %s", a.who, got, a.expect, a.rule)
	}
	r.came[a.line]++
	return a.since.check(r.at[a.line].Sub(r.at[a.since.since]))
}

// learn finds the session id that got has where want has one that is not known yet, and puts those of this run back to
// the recorded ones, as well as its ports.
func (r *sioReplay) learn(want, got string) string {
	old, now := sidIn(afterHead(want)), sidIn(afterHead(got))
	if old != "" && now != "" && r.sent[old] == "" && r.got[now] == "" {
		r.sent[old], r.got[now] = now, old
	}
	for now, old := range r.got {
		got = strings.ReplaceAll(got, now, old)
	}
	return r.ports.Replace(got)
}

// afterHead is the body in the words for an answer.
func afterHead(words string) string {
	if strings.HasPrefix(words, "HTTP/") {
		return words[strings.LastIndex(words, " | ")+3:]
	}
	return words
}

// nextOn is the next thing on a connection: what a frame says, an answer, the end.
func (r *sioReplay) nextOn(a *action) (string, error) {
	c := r.conns[a.who]
	if a.expect == "end" && len(c.words) == 0 && (c.peer == nil || c.ended || len(c.asked) > 0 && !c.ws) {
		return "end", r.endOf(c)
	}
	for len(c.words) == 0 {
		if c.peer == nil {
			return "", errors.New("nothing was sent")
		}
		if err := r.read(c); err != nil {
			return "", err
		}
		if len(c.words) == 1 && c.words[0] != a.expect && r.unasked(c) {
			c.words = nil
		}
	}
	word := c.words[0]
	c.words = c.words[1:]
	return word, nil
}

// endOf sees a connection's end by the server: it was not opened, as its GET was not needed; or it was seen; or it will be, with
// the answer that says it is the last; or the server ends it without an answer.
func (r *sioReplay) endOf(c *sioConn) error {
	if c.peer == nil || c.ended {
		return nil
	}
	for _, x := range c.asked {
		if x.response != nil && strings.Contains(x.head, "connection: close") {
			return nil
		}
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(deadline))
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("no end: %q %v", b, err)
	}
	c.ended, c.asked = true, nil
	return nil
}

// unasked tells whether what came is a ping that the recorded run did not see, as it was quicker, and answers it.
func (r *sioReplay) unasked(c *sioConn) bool {
	ping, pong := "2", "3"
	if c.form == formSIO09 {
		ping, pong = "2::", "2::"
	}
	if !c.ws || c.form == formEIO3 || c.words[0] != ping || !r.another(&c.beyond, cmp.Or(r.tr.ping, 25*time.Second)) {
		return false
	}
	r.told["pings beyond"]++
	return c.write(frame(0x81, []byte(pong))) == nil
}

// another counts one more of what comes once in an interval, and tells whether there was time for so many.
func (r *sioReplay) another(n *int, every time.Duration) bool {
	*n++
	return time.Since(r.began) >= atLeast(time.Duration(*n)*every)
}

// nextOf is the words of a session's next packet.
func (r *sioReplay) nextOf(a *action) (string, error) {
	f := r.fetchers[strings.TrimPrefix(a.who, pullKey(""))]
	for {
		for len(f.queue) == 0 {
			if len(f.open) == 0 {
				if err := r.fetch(f); err != nil {
					return "", err
				}
			}
			if err := r.read(f.open[0].conn); err != nil {
				return "", err
			}
		}
		word := f.queue[0]
		f.queue = f.queue[1:]
		switch {
		case word == a.expect:
		case word == "6" && f.probing: // the GET was answered so that the client may change over (§6.4)
			r.told["noops for a probe"]++
			continue
		case word == "8::" && r.another(&f.beyond, cmp.Or(r.tr.poll, 20*time.Second)): // it was held for as long as it may
			r.told["polls that took too long"]++
			continue
		case word == "2" && f.form == formEIO4 && r.another(&f.beyond, cmp.Or(r.tr.ping, 25*time.Second)):
			r.told["pings beyond"]++
			if _, err := r.post(f, "3"); err != nil {
				return "", err
			}
			continue
		}
		return word, nil
	}
}

// read takes what comes next on a connection.
func (r *sioReplay) read(c *sioConn) error {
	_ = c.conn.SetReadDeadline(time.Now().Add(deadline))
	if c.ws && len(c.asked) == 0 {
		b0, payload, err := c.takeFrame()
		switch {
		case errors.Is(err, io.EOF):
			c.ended, c.words = true, []string{"end"}
		case err != nil:
			return err
		default:
			c.words = frameTexts(c.form, b0, payload)
			c.goodbye = c.goodbye || b0 == 0x88
		}
		return nil
	}
	if len(c.asked) == 0 {
		if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("not the end: %v", err)
		}
		c.ended, c.words = true, []string{"end"}
		return nil
	}
	return r.readAnswer(c)
}

// readAnswer takes the answer to the oldest request of a connection. Packets in it go to the session, the rest to the connection.
func (r *sioReplay) readAnswer(c *sioConn) error {
	x := c.asked[0]
	res, err := c.readResponse()
	if err != nil {
		return fmt.Errorf("answer to line %d: %w", x.request.N, err)
	}
	c.asked = c.asked[1:]
	c.ws = strings.Contains(res.statusLine, " 101 ")
	if n := res.header("content-length"); n == "" && !c.ws && !strings.Contains(res.statusLine, " 204 ") {
		return fmt.Errorf("answer to line %d: no length in %s", x.request.N, res.headers)
	}
	words, packets, err := answerWords(x, x.form, res)
	if err != nil {
		return fmt.Errorf("answer to line %d: %w", x.request.N, err)
	}
	f := r.fetchers[x.pull]
	switch {
	case f == nil:
		c.words = append(c.words, words)
	default:
		f.open = without(f.open, func(in *inquiry) bool { return in == x })
		if packets == nil { // it is no poll after all
			packets = []string{words}
		} else if err := r.compareHead(f, x, words, packets); err != nil {
			return err
		}
		f.queue = append(f.queue, packets...)
	}
	r.told["answers"]++
	if strings.Contains(words, "connection: close") {
		if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("after the answer to line %d, which says it is the last: %v", x.request.N, err)
		}
		c.ended = true
	}
	if c.leaving && !c.ended {
		return r.leave(c)
	}
	return nil
}

// compareHead compares the head of an answer with packets. One that was not recorded is as the others of its session.
func (r *sioReplay) compareHead(f *fetcher, x *inquiry, words string, packets []string) error {
	want := x.head
	if x.response == nil || !strings.Contains(want, " 200 ") {
		want = f.head
	}
	if x.opens {
		r.learn(`"sid":"`+x.pull+`"`, packets[0])
	}
	if got := likeHead(r.learn("", words), want); got != want {
		return fmt.Errorf("answer to line %d is\n     %s\nwant %s", x.request.N, got, want)
	}
	f.head = toldCookie.ReplaceAllString(want, "") // as the next ones are
	return nil
}

// fetch sends a GET that the recorded client did not send, or sent later.
func (r *sioReplay) fetch(f *fetcher) error {
	if f.last == nil {
		return errors.New("the session has no GET that could be sent again")
	}
	l := f.again()
	if len(f.skipped) > 0 {
		l, f.skipped = *f.skipped[0].request, f.skipped[1:]
	} else {
		r.told["GETs beyond"]++
	}
	return r.ask(r.extra(), &inquiry{request: &l, target: l.target(), form: f.form, pull: f.sid})
}

// again is the line of the session's last GET, to be sent once more.
func (f *fetcher) again() line {
	l := *f.last.request
	if t := l.target(); t.sid() == "" {
		l.Line = strings.Replace(l.Line, " HTTP/", "&sid="+f.sid+" HTTP/", 1)
	}
	return l
}

func (r *sioReplay) extra() *sioConn {
	r.extras++
	c := &sioConn{key: fmt.Sprint("extra ", r.extras)}
	r.conns[c.key] = c
	return c
}

// finish looks for what nobody asked for: each WebSocket and each session must have nothing more to say than the answer to one
// more packet.
func (r *sioReplay) finish() error {
	for key, c := range r.conns {
		if err := r.quiet(c); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, sid := range sortedKeys(r.fetchers) {
		if err := r.nothingLeft(r.fetchers[sid]); err != nil {
			return fmt.Errorf("session %s: %w", sid, err)
		}
	}
	return nil
}

func (r *sioReplay) quiet(c *sioConn) error {
	switch {
	case len(c.words) > 0:
		return fmt.Errorf("not asked for: %q", c.words)
	case c.peer == nil || c.ended || !c.ws || len(c.asked) > 0:
		return nil
	case c.goodbye:
		return r.leave(c)
	}
	const text = "still there?"
	if err := c.write(frame(0x89, []byte(text))); err != nil {
		return err
	}
	word, err := r.nextOn(&action{who: c.key, expect: fmt.Sprintf("pong %q", text)})
	if err != nil || word != fmt.Sprintf("pong %q", text) {
		return fmt.Errorf("not asked for: %s %v", word, err)
	}
	return nil
}

// nothingLeft has a session say something: nothing may come before it. A session that is gone has nothing to say.
func (r *sioReplay) nothingLeft(f *fetcher) error {
	if len(f.queue) > 0 {
		return fmt.Errorf("not asked for: %q", f.queue)
	}
	if f.over || f.last == nil {
		return nil
	}
	packet, echo, gone := "40/nope", []string{`44/nope,"Invalid namespace"`, `44/nope,{"message":"Invalid namespace"}`}, "7:::1+0"
	if f.form == formSIO09 {
		packet, echo = "3:7::?", []string{"6:::7"}
	}
	if f.form == formEIO4 {
		packet += ","
	}
	status, err := r.post(f, packet)
	if err != nil || strings.Contains(status, `"message":"Session ID unknown"`) {
		return err
	}
	word, err := r.nextOf(&action{who: pullKey(f.sid), expect: echo[0]})
	if err != nil || !slices.Contains(append(echo, gone), word) {
		return fmt.Errorf("not asked for: %s %v", word, err)
	}
	return nil
}

// post sends a packet that the recorded client did not send, and returns the answer in words.
func (r *sioReplay) post(f *fetcher, packet string) (string, error) {
	l := f.again()
	l.Line = "POST" + strings.TrimPrefix(l.Line, "GET")
	l.Text = joinPayload(f.form, []string{packet})
	c := r.extra()
	if err := r.ask(c, &inquiry{request: &l, target: l.target(), form: f.form}); err != nil {
		return "", err
	}
	return r.nextOn(&action{who: c.key})
}
