//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// chats reads until it has heard n messages of its room, or the connection ends: the words before the padding of each.
func (p *peer) chats(n int) (heard []string, err error) {
	for len(heard) < n {
		got, err := p.pkg()
		if err != nil {
			return heard, err
		}
		if got.Type != codec.PackageData {
			continue
		}
		m, err := codec.ParseMessage(got.Body)
		if err != nil {
			return heard, err
		}
		if m.Type == codec.MessageResponse && string(m.Body) != `{}` {
			return heard, fmt.Errorf("refused: %s", m.Body)
		}
		if m.Type != codec.MessagePush || string(m.Route) != "onChat" {
			continue
		}
		var chat struct{ Msg string }
		if err := json.Unmarshal(m.Body, &chat); err != nil {
			return heard, err
		}
		words, _, _ := strings.Cut(chat.Msg, "#")
		heard = append(heard, words)
	}
	return heard, nil
}

// chatRoom is a room in which some talk as fast as they may and all of those listen, while others do not.
type chatRoom struct {
	speakers []*peer // by TCP and by WebSocket in turn
	each     int     // messages of each speaker
	padding  string
}

func newChatRoom(a *arena, name string, speakers, each, bytes int) (*chatRoom, error) {
	c := &chatRoom{each: each, padding: strings.Repeat("x", bytes)}
	for i := range speakers {
		join := a.chatter
		if i%2 == 1 {
			join = a.chatterWS
		}
		p, err := join(1, fmt.Sprint("speaker", i), name)
		if err != nil {
			return nil, err
		}
		c.speakers = append(c.speakers, p)
	}
	return c, nil
}

func (c *chatRoom) total() int { return len(c.speakers) * c.each }

// talk has everybody say what they have to, fifty messages a second each, and returns what all of them heard in one order.
// meanwhile is called again and again.
func (c *chatRoom) talk(meanwhile func()) (order []string, err error) {
	heard := make([][]string, len(c.speakers))
	done := make(chan error, 1)
	go func() {
		done <- together(2*len(c.speakers), func(i int) (err error) {
			p := c.speakers[i/2]
			if i%2 == 0 {
				heard[i/2], err = p.chats(c.total())
				if err != nil {
					err = fmt.Errorf("speaker %d heard %d of %d: %w", i/2, len(heard[i/2]), c.total(), err)
				}
				return err
			}
			tick := time.NewTicker(time.Second / 50)
			defer tick.Stop()
			for n := range c.each {
				<-tick.C
				body := fmt.Sprintf(`{"content":"speaker%d %d#%s","target":"*"}`, i/2, n, c.padding)
				if err := p.send(message(uint32(n+1), routeSend, body)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	for {
		select {
		case err := <-done:
			for _, h := range heard {
				if err == nil && !slices.Equal(h, heard[0]) {
					err = errors.New("speakers heard in different orders")
				}
			}
			return heard[0], err
		case <-time.After(20 * time.Millisecond):
			meanwhile()
		}
	}
}

// cutOff is an error unless p was disconnected, and has got everything up to somewhere: no hole.
func (p *peer) cutOff(order []string) error {
	heard, err := p.chats(len(order) + 1)
	if timedOut(err) {
		return fmt.Errorf("still connected after %d messages", len(heard))
	}
	if !slices.Equal(heard, order[:min(len(heard), len(order))]) {
		return fmt.Errorf("a hole in the %d messages that came before the end", len(heard))
	}
	return nil
}

// join enters a room by TCP, WebSocket or polling, in turn.
func (a *arena) join(i int, user, room string) (*peer, error) {
	switch i % 3 {
	case 0:
		return a.chatter(i%200+2, user, room)
	case 1:
		return a.chatterWS(i%200+2, user, room)
	}
	p, err := a.dial(i%200 + 2)
	if err != nil {
		return nil, err
	}
	g := newGuest("", "", pollingWires[i/3%len(pollingWires)])
	g.sio().only = p
	if err = g.open(); err == nil {
		err = g.join(user, room)
	}
	return p, err
}

// Members of a busy room who do not read, or a byte at a time, or who never poll, are disconnected when what waits for them
// is too much; the others hear everything, in one order.
func TestFrozenReaders(t *testing.T) {
	const frozen, speakers, each, bytes, outbound = 45, 4, 100, 8 << 10, 512 << 10
	scenario{
		name: "frozen readers",
		attack: func(a *arena) error {
			room, err := newChatRoom(a, "busy", speakers, each, bytes)
			if err != nil {
				a.t.Fatal(err)
			}
			n := max(9, a.n(frozen))
			var readers []*peer
			for i := range n {
				p, err := a.join(i, fmt.Sprint("frozen", i), "busy")
				if err != nil {
					a.t.Fatal(err)
				}
				p.late = soon
				readers = append(readers, p)
			}
			before := a.peak()
			unsent, sip, sipped := 0.0, [1]byte{}, make([][]byte, n)
			order, err := room.talk(func() {
				unsent = max(unsent, a.metrics()["pomelod_unsent_bytes"])
				for i, p := range readers {
					if i%9 < 2 { // these take a byte
						_ = p.SetReadDeadline(time.Now().Add(time.Millisecond))
						k, _ := p.Read(sip[:])
						sipped[i] = append(sipped[i], sip[:k]...)
					}
				}
			})
			if err != nil {
				return err
			}
			after := a.peak()
			a.t.Logf("at most %.1f MB unsent, RSS at most %.1f MB (%.1f before)", unsent/1e6, float64(after)/1e6, float64(before)/1e6)
			if unsent > float64(n)*outbound {
				return fmt.Errorf("%.0f bytes were kept for %d clients", unsent, n)
			}
			if after > before+n*outbound+mayKeep && !raceEnabled {
				return fmt.Errorf("RSS rose from %d to %d", before, after)
			}
			for i, p := range readers {
				if i%3 == 2 { // nothing of a session that polls shows on its connection
					continue
				}
				rest, _ := p.r.Peek(p.r.Buffered())
				p.r.Reset(io.MultiReader(strings.NewReader(string(rest)+string(sipped[i])), p.Conn))
				if err := p.cutOff(order); err != nil {
					return fmt.Errorf("frozen reader %d: %w", i, err)
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sends_total", speakers*each) },
		held: func(d delta) error {
			n := frozen
			if raceEnabled {
				n = 9
			}
			if got := int(d.grown(`pomelod_closed_total{reason="slow"}`)); got != n {
				return fmt.Errorf("%d were closed for being slow, not the %d that were", got, n)
			}
			return nil
		},
		without: weakness{flags: []string{"-outbound", "64MiB", "-stuck-timeout", "1h"}, fails: "still connected"},
	}.run(t)
}

// Who has taken nothing of what waits for too long is disconnected, also where that is not much. Who is slow but takes it is not.
func TestStuckReaders(t *testing.T) {
	const stuck, speakers, each, bytes = 20, 2, 40, 16 << 10
	scenario{
		name:  "stuck readers",
		flags: []string{"-outbound", "16MiB", "-stuck-timeout", "2s"},
		attack: func(a *arena) error {
			room, err := newChatRoom(a, "busy", speakers, each, bytes)
			if err != nil {
				a.t.Fatal(err)
			}
			var readers []*peer
			for i := range stuck + 2 {
				join := a.chatter
				if i%2 == 1 {
					join = a.chatterWS
				}
				p, err := join(i+2, fmt.Sprint("stuck", i), "busy")
				if err != nil {
					a.t.Fatal(err)
				}
				p.late = soon
				readers = append(readers, p)
			}
			leisurely := make(chan error, 1)
			go func() {
				leisurely <- together(2, func(i int) error {
					p := readers[stuck+i]
					p.r.Reset(&leisure{p.Conn})
					heard, err := p.chats(room.total())
					if err != nil {
						err = fmt.Errorf("who read slowly heard %d of %d: %w", len(heard), room.total(), err)
					}
					return err
				})
			}()
			order, err := room.talk(func() {})
			if err != nil {
				return err
			}
			err = <-leisurely
			for i, p := range readers[:stuck] {
				if err == nil {
					if err = p.cutOff(order); err != nil {
						err = fmt.Errorf("stuck reader %d: %w", i, err)
					}
				}
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sends_total", speakers*each) },
		held: func(d delta) error {
			if got := d.grown(`pomelod_closed_total{reason="stuck"}`); got != stuck {
				return fmt.Errorf("%v were closed for being stuck, not %d", got, stuck)
			}
			return nil
		},
		without: weakness{flags: []string{"-stuck-timeout", "1h"}, fails: "still connected"},
	}.run(t)
}

// leisure reads at most half a megabyte a second.
type leisure struct{ r io.Reader }

func (l *leisure) Read(b []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return l.r.Read(b[:min(len(b), 5<<10)])
}
