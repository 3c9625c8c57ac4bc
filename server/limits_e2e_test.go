//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// chatter is a client of some wire in a room.
type chatter interface {
	// say sends n requests at once and returns the bodies of the answers, in order.
	say(n int, route, body string) ([]string, error)
}

// chatters are the wires; each logs in and enters.
var chatters = map[string]func(t *testing.T, s *running, user string) chatter{
	"hybrid tcp":    func(t *testing.T, s *running, user string) chatter { return hybridChatter(t, s, user, false) },
	"hybrid ws":     func(t *testing.T, s *running, user string) chatter { return hybridChatter(t, s, user, true) },
	"sio09 polling": func(t *testing.T, s *running, user string) chatter { return pollingChatter(t, s, user, 9) },
	"eio4 polling":  func(t *testing.T, s *running, user string) chatter { return pollingChatter(t, s, user, 4) },
}

// hybrid is a hybrid client over either transport.
type hybrid struct {
	*tcpClient
	ws bool
}

func hybridChatter(t *testing.T, s *running, user string, ws bool) chatter {
	c := &hybrid{dial(t, s.addr("connector")), ws}
	if ws {
		c.write([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
		if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
	}
	c.write(c.frame(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"t","version":"1"}}`))))
	c.write(c.frame(codec.AppendPackage(nil, codec.PackageHandshakeAck, nil)))
	if p, err := c.pkg(); err != nil || p.Type != codec.PackageHandshake {
		t.Fatal(p, err)
	}
	enterAs(t, c, user)
	return c
}

// enterAs enters and fails unless that works.
func enterAs(t *testing.T, c chatter, user string) {
	t.Helper()
	got, err := c.say(1, "connector.entryHandler.enter", fmt.Sprintf(`{"username":%q,"rid":"r"}`, user))
	if err != nil || len(got) != 1 || !strings.HasPrefix(got[0], `{"users":[`) {
		t.Fatal(got, err)
	}
}

func (c *hybrid) frame(b []byte) []byte {
	if !c.ws {
		return b
	}
	head := codec.AppendWSHead(nil, codec.WSBinary, len(b))
	head[1] |= 0x80
	return append(append(head, 0, 0, 0, 0), b...) // a mask of zeros
}

// pkg reads the next package; heartbeats are left out.
func (c *hybrid) pkg() (p codec.Package, err error) {
	for {
		if c.ws {
			head := make([]byte, 2)
			if _, err := io.ReadFull(c.r, head); err != nil {
				return p, err
			}
			if head[0] != 0x82 {
				return p, fmt.Errorf("a frame of type %x", head[0])
			}
			if head[1] >= 126 {
				if _, err := io.CopyN(io.Discard, c.r, map[byte]int64{126: 2, 127: 8}[head[1]]); err != nil {
					return p, err
				}
			}
		}
		head := make([]byte, codec.PackageHeadBytes)
		if _, err := io.ReadFull(c.r, head); err != nil {
			return p, err
		}
		p = codec.Package{Type: codec.PackageType(head[0]), Body: make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))}
		if _, err := io.ReadFull(c.r, p.Body); err != nil || p.Type != codec.PackageHeartbeat {
			return p, err
		}
	}
}

func (c *hybrid) say(n int, route, body string) (answers []string, err error) {
	var b []byte
	first := c.id + 1
	for range n {
		c.id++
		b = append(b, c.frame(c.message(c.id, route, body))...)
	}
	wrote := make(chan error, 1)
	go func() { _, err := c.conn.Write(b); wrote <- err }()
	for len(answers) < n {
		p, err := c.pkg()
		if err != nil {
			return answers, err
		}
		if p.Type != codec.PackageData {
			return answers, fmt.Errorf("a package of type %d: %s", p.Type, p.Body)
		}
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			return answers, err
		}
		if m.Type == codec.MessageResponse {
			if m.ID != first+uint32(len(answers)) {
				return answers, fmt.Errorf("answer to %d instead of %d", m.ID, first+uint32(len(answers)))
			}
			answers = append(answers, string(m.Body))
		}
	}
	return answers, <-wrote
}

// polling is a socket.io client that polls.
type polling struct {
	client  *http.Client
	url     string
	version int
	id      int
}

func pollingChatter(t *testing.T, s *running, user string, version int) chatter {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &polling{client: &http.Client{Transport: transport, Timeout: deadline}, version: version, id: 1}
	base := "http://" + s.addr("connector").String() + "/socket.io/"
	if version == 9 {
		text, err := c.get(base + "1/?t=1")
		if err != nil {
			t.Fatal(err)
		}
		sid, _, _ := strings.Cut(text, ":")
		c.url = base + "1/xhr-polling/" + sid
	} else {
		text, err := c.get(base + "?EIO=4&transport=polling")
		var open struct{ SID string }
		if err != nil || json.Unmarshal([]byte(strings.TrimPrefix(text, "0")), &open) != nil {
			t.Fatal(text, err)
		}
		c.url = base + "?EIO=4&transport=polling&sid=" + open.SID
		if err := c.post("40"); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := c.get(c.url); err != nil || !strings.HasPrefix(text, "40") && text != "1::" {
		t.Fatal(text, err)
	}
	enterAs(t, c, user)
	return c
}

func (c *polling) get(url string) (string, error) {
	resp, err := c.client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("a GET is answered %s %s", resp.Status, b)
	}
	return string(b), err
}

func (c *polling) post(payload string) error {
	resp, err := c.client.Post(c.url, "text/plain;charset=UTF-8", strings.NewReader(payload))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *polling) say(n int, route, body string) (answers []string, err error) {
	var packets []string
	for range n {
		c.id++
		text := string([]rune{0, 0, rune(c.id >> 8), rune(c.id & 0xff), rune(len(route))}) + route + body
		if c.version == 9 {
			packets = append(packets, "3:::"+text)
		} else {
			quoted, _ := json.Marshal(text)
			packets = append(packets, `42["message",`+string(quoted)+`]`)
		}
	}
	if c.version == 9 && n > 1 {
		for i, p := range packets {
			packets[i] = fmt.Sprintf("\ufffd%d\ufffd%s", len([]rune(p)), p)
		}
		err = c.post(strings.Join(packets, ""))
	} else {
		err = c.post(strings.Join(packets, "\x1e"))
	}
	for err == nil && len(answers) < n {
		var text string
		if text, err = c.get(c.url); err == nil {
			answers = append(answers, bodiesIn(text)...)
		}
	}
	return answers, err
}

// bodiesIn are the bodies of all answers in a payload, whatever is around them.
func bodiesIn(text string) (bodies []string) {
	text = strings.ReplaceAll(text, `\"`, `"`)
	for {
		_, rest, found := strings.Cut(text, `,"body":`)
		if !found {
			return bodies
		}
		var body json.RawMessage
		if err := json.NewDecoder(bytes.NewReader([]byte(rest))).Decode(&body); err != nil {
			return append(bodies, "no JSON: "+rest)
		}
		if !bytes.Contains(body, []byte(`"route"`)) { // else it is a push's
			bodies = append(bodies, string(body))
		}
		text = rest[len(body):]
	}
}

const sendRoute, sendText = "chat.chatHandler.send", `{"content":"x","target":"*"}`

// Bots that send 50 messages a second for three seconds, each alone and some at once, are not refused one.
func TestBotsAreServed(t *testing.T) {
	s := start(t, "-max-delay", "0") // a machine that is busy is no fault of theirs
	var running sync.WaitGroup
	for name, login := range chatters {
		bot := login(t, s, name)
		at, sent := time.Now(), 0
		running.Go(func() {
			for sent < 150 {
				n := int(time.Since(at)/(20*time.Millisecond)) - sent
				if n == 0 {
					time.Sleep(20 * time.Millisecond) // it is a rate that is tried
					continue
				}
				if n > 100 { // we were starved, not the bot in a hurry
					at = at.Add(time.Duration(n-100) * 20 * time.Millisecond)
					n = 100
				}
				answers, err := bot.say(n, sendRoute, sendText)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				for _, text := range answers {
					if text != `{}` {
						t.Errorf("%s: after %d: %s", name, sent, text)
						return
					}
				}
				sent += n
			}
		})
	}
	running.Wait()
}

// A flood of requests is answered, each of them, and beyond the limit refused; with -limits off all of it is taken.
func TestFloods(t *testing.T) {
	for _, off := range []bool{false, true} {
		flags := []string{"-room-backlog", "16MiB", "-max-delay", "0"}
		if off {
			flags = append(flags, "-limits", "off")
		}
		s := start(t, flags...)
		for name, login := range chatters {
			c := login(t, s, name)
			const n = 900
			answers, err := c.say(n, sendRoute, `{"content":"x","target":"nobody"}`)
			if err != nil || len(answers) != n {
				t.Fatalf("%s, off %v: %d answers, %v", name, off, len(answers), err)
			}
			taken := 0
			for _, text := range answers {
				switch text {
				case `{"code":500}`: // there is nobody of that name
					taken++
				case `{"code":500,"reason":"session_rate"}`, `{"code":500,"reason":"send_rate"}`:
				default:
					t.Fatalf("%s, off %v: %s", name, off, text)
				}
			}
			if off && taken != n || !off && (taken < 199 || taken == n) {
				t.Errorf("%s, off %v: %d of %d were taken", name, off, taken, n)
			}
		}
		text := metricsOf(t, s)
		if got := strings.Contains(text, `pomelod_limited_total{reason="session_rate"} 0`+"\n"); got != off {
			t.Errorf("off %v: the metrics say otherwise", off)
		}
	}
}

// Who goes on although it is refused is told so and disconnected; notifies are no way around that. Others in the room go on.
func TestFloodOfNotifies(t *testing.T) {
	s := start(t)
	flooder, other := login(t, s.addr("connector")), login(t, s.addr("connector"))
	flooder.enter("flooder", "r")
	other.enter("other", "r")
	var b []byte
	for range 4000 {
		b = append(b, flooder.message(0, sendRoute, sendText)...)
	}
	go func() { _, _ = flooder.conn.Write(b) }()
	for {
		p, err := flooder.read()
		if err != nil {
			t.Fatal(err)
		}
		if p.Type == codec.PackageKick {
			if string(p.Body) != `{"reason":"too many messages"}` {
				t.Errorf("%s", p.Body)
			}
			break
		}
	}
	if got := other.ask(sendRoute, sendText); got != `{}` {
		t.Error(got)
	}
	if !strings.Contains(metricsOf(t, s), `,reason="flood"} 1`+"\n") {
		t.Error("not counted")
	}
}
