//go:build linux

package server

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// send does what a client did.
func (r *sioReplay) send(a *action) error {
	key := a.send[0].key()
	var out []byte
	for _, l := range a.send {
		r.at[l.N] = time.Now()
		switch l.Kind {
		case "connect":
			if err := r.connect(key); err != nil {
				return err
			}
		case "closed":
			return r.closed(a.send[0])
		case "cut":
			return r.cut(l)
		case "request", "upgrade-request":
			if err := r.request(l); err != nil {
				return err
			}
		case "text", "binary", "close":
			b0 := map[string]byte{"text": 0x81, "binary": 0x82, "close": 0x88}[l.Kind]
			out = append(out, frame(b0, r.rename(l.payload()))...)
			r.note(l)
		default:
			return fmt.Errorf("do not know how to send a %q", l.Kind)
		}
	}
	if c := r.conns[key]; len(out) > 0 && !c.ended {
		return c.write(out)
	}
	return nil
}

// connect makes room for a connection. It is opened when something is sent: a GET that is not needed needs none.
func (r *sioReplay) connect(key string) error {
	if c := r.conns[key]; c != nil && c.peer != nil && !c.ended {
		return fmt.Errorf("%s is connected already", key)
	}
	r.conns[key] = &sioConn{key: key}
	return nil
}

// closed ends a connection in order, or as soon as the server has said what it has to.
func (r *sioReplay) closed(l *line) error {
	c := r.conns[l.key()]
	switch {
	case c == nil:
		return errors.New("it is not connected")
	case c.peer == nil:
	case c.ended:
	case !c.ws && len(c.asked) > 0 && c.asked[0].response == nil: // it gives up its request
		return r.drop(c)
	case !c.ws && len(c.asked) > 0 || r.book.more[l.N]:
		c.leaving = true
	default:
		return r.leave(c)
	}
	return nil
}

// leave closes our side of a connection of which everything was read, and waits for the server to do the same.
func (r *sioReplay) leave(c *sioConn) error {
	if c.ws && !c.goodbye && !slices.Contains(c.words, "end") {
		if err := r.quiet(c); err != nil {
			return err
		}
	}
	if err := c.conn.CloseWrite(); err != nil && !c.ended {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(deadline))
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after our end: %q %v", b, err)
	}
	c.ended = true
	return nil
}

// drop closes a connection without a word.
func (r *sioReplay) drop(c *sioConn) error {
	if err := r.srv.settle(); err != nil {
		return err
	}
	for _, f := range r.fetchers {
		f.open = without(f.open, func(x *inquiry) bool { return x.conn == c })
	}
	c.conn.Close()
	c.ended, c.asked, c.words = true, nil, nil
	return nil
}

// cut closes a connection without a word, or all of a user's.
func (r *sioReplay) cut(l *line) error {
	for key, c := range r.conns {
		its := key == l.key() || l.Conn == 0 && strings.HasPrefix(key, l.Who+"/")
		extra := l.Conn == 0 && strings.HasPrefix(key, "extra ") && len(c.asked) > 0 && c.asked[0].request.Who == l.Who
		if c.peer != nil && !c.ended && (its || extra) {
			if err := r.drop(c); err != nil {
				return err
			}
		}
	}
	for _, f := range r.fetchers {
		f.over = f.over || l.Conn == 0 && f.last.request.Who == l.Who
	}
	return nil
}

// request sends a request, unless it is for packets that have come or that an open request will bring.
func (r *sioReplay) request(l *line) error {
	x := r.book.inquiries[l.N]
	c := r.conns[l.key()]
	f := r.fetchers[x.target.sid()]
	switch {
	case l.Kind == "upgrade-request" && f != nil && x.form != formSIO09:
		f.probing = true
	case x.pull == "":
	case x.opens || f == nil:
		if r.fetchers[x.pull] == nil {
			r.fetchers[x.pull] = &fetcher{sid: x.pull, form: x.form}
		}
	case x.overlaps:
	case len(f.open) > 0:
		f.skipped = append(f.skipped, x)
		return f.sameHead(x)
	case x.response != nil && len(f.queue) > 0 && len(f.queue) >= r.book.packets[x.response.N]:
		r.told["GETs not needed"]++
		return f.sameHead(x)
	}
	return r.ask(c, x)
}

// sameHead compares the head of an answer that does not come by itself with that of the answer that brings its packets.
func (f *fetcher) sameHead(x *inquiry) error {
	head := f.head
	if len(f.open) > 0 && f.open[0].head != "" {
		head = f.open[0].head
	}
	head = toldCookie.ReplaceAllString(head, "") // if it is the one that opened the session
	if x.response != nil && x.head != head {
		return fmt.Errorf("its answer\n     %s\nis not like %s", x.head, head)
	}
	return nil
}

// ask sends a request on a connection, and opens that if need be.
func (r *sioReplay) ask(c *sioConn, x *inquiry) error {
	l := x.request
	if c.peer == nil {
		p, err := r.srv.dialPeer(r.tr.server(l.Port))
		if err != nil {
			return err
		}
		p.step = r.step
		c.peer = p
	}
	if c.ended {
		return errors.New("the server has closed the connection")
	}
	if f := r.fetchers[x.target.sid()]; f != nil && len(f.open) > 0 {
		if err := r.srv.settle(); err != nil {
			return err
		}
	}
	c.asked = append(c.asked, x)
	c.form, x.conn = x.form, c
	if f := r.fetchers[x.pull]; f != nil {
		f.open, f.last = append(f.open, x), x
	}
	out := fmt.Appendf(nil, "%s\r\nHost: 127.0.0.1:%d\r\n", r.rename([]byte(l.Line)), l.Port)
	body, coded := r.rename(l.body()), false
	for _, kv := range l.Headers {
		switch kv[0] {
		case "content-length":
			kv[1] = fmt.Sprint(len(body))
		case "transfer-encoding":
			coded = true
		}
		out = fmt.Appendf(out, "%s: %s\r\n", kv[0], kv[1])
	}
	if coded {
		body = chunked(body, r.step)
	} else if len(body) > 0 && !strings.Contains(string(out), "content-length: ") {
		out = fmt.Appendf(out, "content-length: %d\r\n", len(body))
	}
	r.srv.mu.RLock()
	defer r.srv.mu.RUnlock()
	if l.Kind == "request" {
		r.srv.asked.Add(1)
	}
	return c.write(append(append(out, "\r\n"...), body...))
}

// rename puts this run's session ids where the transcript's are.
func (r *sioReplay) rename(b []byte) []byte {
	text := string(b)
	for old, now := range r.sent {
		text = strings.ReplaceAll(text, old, now)
	}
	return []byte(text)
}

// note remembers what a frame of a client's means for what is to come.
func (r *sioReplay) note(l *line) {
	c := r.conns[l.key()]
	switch {
	case l.Kind == "close" || l.Text == "0::" && c.form == formSIO09:
		c.goodbye = true
	case l.Text == "5" && c.form != formSIO09:
		for _, f := range r.fetchers {
			if x := r.book.probes[c.key]; x != nil && x.target.sid() == f.sid {
				f.probing, f.over = false, true
			}
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
