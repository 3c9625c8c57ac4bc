package router

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pomelod/pomelod/netpoll"
)

// pump reads what has come.
func (c *sioClient) pump() {
	if c.ws != nil && c.kind.ws {
		for _, p := range c.ws.frames() {
			c.packet(p)
		}
	}
	if c.polling {
		if p := c.get.response(false); p != nil {
			c.polling = false
			c.answers = append(c.answers, p)
			if p.status == 200 {
				for _, packet := range c.unpack(p) {
					c.packet(packet)
				}
			}
		}
	}
	if c.posting {
		if p := c.post.response(false); p != nil {
			c.posting = false
			if want := map[int]string{9: "1", 3: "ok", 4: "ok"}[c.kind.version]; p.status == 200 && p.body != want {
				c.r.t.Fatalf("a POST was answered %v", p)
			}
			if p.status != 200 {
				c.answers = append(c.answers, p)
			}
		}
	}
}

// run lets everything come to rest, with a GET under way all the time if the client fetches.
func (c *sioClient) run() { c.r.run(c) }

func (r *rig) run(clients ...*sioClient) {
	for again := true; again; {
		r.net.Settle()
		again = false
		for _, c := range clients {
			c.pump()
			if !c.kind.ws && !c.polling && !c.lost() {
				c.poll()
				again = true
			}
		}
	}
}

// lost tells whether the client has learned of its session's end, other than by a packet.
func (c *sioClient) lost() bool {
	if len(c.packets) > 0 && strings.HasPrefix(c.packets[len(c.packets)-1], "7:::") {
		return true
	}
	if n := len(c.answers); n > 0 && c.answers[n-1].status != 200 {
		return true
	}
	return c.ws != nil && (c.ws.sock.Closed || c.ws.sock.ShutDown)
}

// unpack takes the packets out of the answer to a GET.
func (c *sioClient) unpack(p *response) (packets []string) {
	body := p.body
	t := c.r.t
	if c.kind.jsonp {
		open := map[int]string{9: "io.j[7](", 3: "___eio[7]("}[c.kind.version]
		inner, ok := strings.CutPrefix(strings.TrimSuffix(body, ");"), open)
		if err := json.Unmarshal([]byte(inner), &body); !ok || err != nil {
			t.Fatalf("no JSONP: %v, %v", p, err)
		}
		if !isASCII(inner) && c.kind.version == 3 {
			t.Fatalf("not ASCII: %q", inner)
		}
	}
	cut := func(n int) string { // code units
		units := utf16.Encode([]rune(body))
		if n > len(units) {
			t.Fatalf("a length is wrong: %v", p)
		}
		head := string(utf16.Decode(units[:n]))
		body = body[len(head):]
		return head
	}
	switch {
	case c.kind.version == 9 && !strings.HasPrefix(body, "\ufffd"):
		return []string{body}
	case c.kind.version == 9:
		for body != "" {
			parts := strings.SplitN(body, "\ufffd", 3)
			n, err := strconv.Atoi(parts[1])
			if err != nil || parts[0] != "" {
				t.Fatalf("no packets: %v", p)
			}
			body = parts[2]
			packets = append(packets, cut(n))
		}
		if len(packets) == 1 {
			t.Fatalf("a single packet is sent bare: %v", p)
		}
	case c.kind.version == 4:
		return strings.Split(body, "\x1e")
	case c.kind.binary:
		if p.header["Content-Type"] != "application/octet-stream" {
			t.Fatalf("binary as %v", p)
		}
		for body != "" {
			head, rest, ok := strings.Cut(body[1:], "\xff")
			n := 0
			for _, d := range []byte(head) {
				n = n*10 + int(d)
			}
			if !ok || body[0] != 0 || n > len(rest) {
				t.Fatalf("no packets: %v", p)
			}
			packets, body = append(packets, rest[:n]), rest[n:]
		}
	default:
		if !isASCII(body) {
			t.Fatalf("not ASCII: %v", p)
		}
		for body != "" {
			head, rest, _ := strings.Cut(body, ":")
			n, err := strconv.Atoi(head)
			if err != nil {
				t.Fatalf("no packets: %v", p)
			}
			body = rest
			packets = append(packets, cut(n))
		}
	}
	return packets
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7F }) < 0
}

// packet reads one packet, as pomeloclient.js does.
func (c *sioClient) packet(p string) {
	if !utf8.ValidString(p) {
		c.r.t.Fatalf("no UTF-8: %q", p)
	}
	var texts []json.RawMessage
	if c.kind.version == 9 {
		inner, ok := strings.CutPrefix(p, "3:::")
		if !ok {
			c.packets = append(c.packets, p)
			return
		}
		if err := json.Unmarshal([]byte(inner), &texts); err != nil {
			c.r.t.Fatalf("no array: %q", p)
		}
	} else {
		inner, ok := strings.CutPrefix(p, `42`)
		if !ok {
			c.packets = append(c.packets, p)
			return
		}
		var event []string
		if err := json.Unmarshal([]byte(inner), &event); err != nil || len(event) != 2 || event[0] != "message" {
			c.r.t.Fatalf("no message: %q", p)
		}
		texts = []json.RawMessage{json.RawMessage(event[1])}
	}
	for _, text := range texts {
		c.events = append(c.events, c.element(text))
	}
}

// element is an answer or a push. Its text is as hybrid clients get it.
func (c *sioClient) element(text json.RawMessage) event {
	var e struct {
		ID     *int32
		Route  string
		Reason json.RawMessage
		Body   json.RawMessage
	}
	if err := json.Unmarshal(text, &e); err != nil {
		c.r.t.Fatalf("no element: %q: %v", text, err)
	}
	switch {
	case e.ID != nil:
		return event{kind: "answer", id: uint32(*e.ID), text: string(e.Body)}
	case e.Route == "onKick":
		return event{kind: "kick", text: string(e.Reason)}
	case c.kind.version == 9 && e.Body == nil:
		e.Body = text
	case c.kind.version == 9 || e.Body == nil:
		c.r.t.Fatalf("the other flavour: %q", text)
	}
	body := string(e.Body)
	if e.Route == "onChat" { // the only push whose payload has its route but over socket.io
		body = strings.Replace(body, `"route":"onChat",`, "", 1)
	}
	return event{kind: "push", text: e.Route + " " + body}
}

// ask sends a request, lets everything come to rest, and returns the answer.
func (c *sioClient) ask(route, body string) string {
	c.r.t.Helper()
	id := c.request(route, body)
	c.run()
	for i, e := range c.events {
		if e.kind == "answer" && e.id == id {
			c.events = append(c.events[:i], c.events[i+1:]...)
			return e.text
		}
	}
	c.r.t.Fatalf("no answer to %s %.100s: %.300v, packets %q, answers %.300v", route, body, c.events, c.packets, c.answers)
	return ""
}

func (c *sioClient) enter(user, room string) string {
	c.r.t.Helper()
	return c.ask(routeEnter, enterBody(user, room))
}

// take returns what was told since the last time, one line each.
func (c *sioClient) take() (lines []string) {
	c.pump()
	for _, e := range c.events {
		lines = append(lines, e.String())
	}
	c.events = nil
	return lines
}

// want fails unless exactly these events have come since the last time.
func (c *sioClient) want(lines ...string) {
	c.r.t.Helper()
	c.run()
	if got := c.take(); !slices.Equal(got, lines) {
		c.r.t.Fatalf("got  %s\nwant %s", brief(got), brief(lines))
	}
}

// brief is what a failure shows of lines.
func brief(lines []string) string {
	var b strings.Builder
	for _, s := range lines {
		fmt.Fprintf(&b, "%.70q(%d) ", s, len(s))
	}
	return b.String()
}

// wantPackets fails unless exactly these packets that are no message have come since the last time. It does not poll.
func (c *sioClient) wantPackets(packets ...string) {
	c.r.t.Helper()
	c.r.net.Settle()
	c.pump()
	if !slices.Equal(c.packets, packets) {
		c.r.t.Fatalf("got  %q\nwant %q", c.packets, packets)
	}
	c.packets = nil
}

// session is the server's side, and where it is; nil when it has ended.
func (c *sioClient) session() *session { _, s := c.where(); return s }

func (c *sioClient) where() (at *loop, s *session) {
	for _, l := range c.node().loops {
		if c.ws == nil {
			if conn := l.np.Find(c.node().sids.parse([]byte(c.sid))); conn != nil {
				return l, l.session(conn)
			}
			continue
		}
		l.np.Each(func(conn *netpoll.Conn) { // it may have moved to another loop, where its session id is none
			if int(conn.Peer().Port()) == c.ws.sock.FD && !conn.IsPull() {
				at, s = l, l.session(conn)
			}
		})
	}
	return at, s
}

// balanced fails unless everything that was opened is closed again, and nothing is left of it.
func (r *rig) balanced() {
	r.t.Helper()
	for i, l := range r.loops() {
		s := l.np.Stats()
		if s.Conns+s.Pulls+s.Backlog+s.Unsent+s.Slow+len(l.rooms.byID) != 0 || slices.ContainsFunc(l.transports, func(n int64) bool { return n != 0 }) {
			r.t.Errorf("loop %d: left are %d sockets, %d pulls, backlog %d, unsent %d, slow %d, %d rooms, transports %v",
				i, s.Conns, s.Pulls, s.Backlog, s.Unsent, s.Slow, len(l.rooms.byID), l.transports)
		}
		if s.Panics+l.counters.panics != 0 {
			r.t.Errorf("loop %d: %d panics were contained", i, s.Panics+l.counters.panics)
		}
	}
	for i, l := range r.loops() {
		if s := l.worker.Stats(); s.Rooms+s.Members != 0 || s.Panics != 0 || l.inbox.Load() != 0 || len(l.rooms.large) != 0 {
			r.t.Errorf("worker %d: left are %d rooms, %d members, inbox %d; %d panics", i, s.Rooms, s.Members, l.inbox.Load(), s.Panics)
		}
	}
	if n := r.net.Unclosed(); n != 0 || r.node.budget.Buffered() != 0 {
		r.t.Errorf("%d sockets are open, %d bytes unsent", n, r.node.budget.Buffered())
	}
}

// endAll ends every connection from the peers' side and lets the sessions without one time out.
func (r *rig) endAll() {
	r.net.EndAll()
	r.net.Settle()
	r.net.Seconds(200)
}
