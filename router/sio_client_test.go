package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// web is a connection that speaks HTTP, and may become a WebSocket.
type web struct {
	r    *rig
	sock *looptest.Socket
	read int // bytes of sock.Wrote that were read
}

// response is an answer to an HTTP request.
type response struct {
	status int
	header map[string]string // names as sent
	body   string
}

func (p *response) String() string { return fmt.Sprintf("%d %v %q", p.status, p.header, p.body) }

// web opens a connection to the next loop in turn.
func (r *rig) web(tag uint8) *web {
	w := &web{r: r, sock: r.dial(tag)}
	r.net.Turn()
	return w
}

// web opens a connection to the node where the client's first one went: a gate has named it one connector.
func (c *sioClient) web() *web {
	if c.r.fleet == nil {
		return c.r.web(c.tag)
	}
	if c.door == nil {
		c.door = c.r.fleet.door(c.tag)
	}
	w := &web{r: c.r, sock: c.r.fleet.dialTo(c.door, c.tag)}
	c.r.net.Turn()
	return w
}

// node is where the client connects.
func (c *sioClient) node() *Node {
	if c.door != nil {
		return c.door.node
	}
	return c.r.node
}

func (w *web) send(s string) { w.sock.Send([]byte(s)) }

// response reads the next answer, nil when there is none yet. headOnly says that it has no body, as that to a HEAD.
func (w *web) response(headOnly bool) *response {
	head, rest, ok := bytes.Cut(w.sock.Wrote[w.read:], []byte("\r\n\r\n"))
	if !ok {
		return nil
	}
	lines := strings.Split(string(head), "\r\n")
	p := &response{header: map[string]string{}}
	if _, err := fmt.Sscanf(lines[0], "HTTP/1.1 %d", &p.status); err != nil {
		w.r.t.Fatalf("no answer of HTTP: %q", w.sock.Wrote[w.read:])
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if _, twice := p.header[name]; twice {
			w.r.t.Fatalf("header twice: %q", head)
		}
		p.header[name] = value
	}
	n, _ := strconv.Atoi(p.header["Content-Length"])
	if headOnly {
		n = 0
	}
	if len(rest) < n {
		return nil
	}
	p.body = string(rest[:n])
	w.read += len(head) + 4 + n
	return p
}

// ask sends a request and returns its answer, which must come at once.
func (w *web) ask(request string) *response {
	w.r.t.Helper()
	w.send(request)
	w.r.net.Settle()
	p := w.response(strings.HasPrefix(request, "HEAD "))
	if p == nil {
		w.r.t.Fatalf("no answer to %q: %q", request, w.sock.Wrote[w.read:])
	}
	return p
}

func get(target string, headers ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: pomelo.example:3050\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func post(target, body string, headers ...string) string {
	headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	return "POST" + strings.TrimPrefix(get(target, headers...), "GET") + body
}

func upgradeTo(target string) string {
	return get(target, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+upgradeKey)
}

func textFrame(packet string) string { return string(maskedFrame(byte(codec.WSText), []byte(packet))) }

// frames reads the WebSocket frames that have come; a close frame is "close", and its code.
func (w *web) frames() (packets []string) {
	for {
		b := w.sock.Wrote[w.read:]
		if len(b) < 2 {
			return packets
		}
		n, head := int(b[1]), 2
		switch {
		case n == 126 && len(b) >= 4:
			n, head = int(b[2])<<8|int(b[3]), 4
		case n == 127 && len(b) >= 10:
			n, head = int(b[6])<<24|int(b[7])<<16|int(b[8])<<8|int(b[9]), 10
		}
		if len(b) < head+n {
			return packets
		}
		payload := b[head : head+n]
		w.read += head + n
		switch b[0] {
		case 0x80 | byte(codec.WSText):
			packets = append(packets, string(payload))
		case 0x80 | byte(codec.WSClose):
			code := 1000 // Engine.IO 4 closes without one, which says as much (protocol.md §7)
			if len(payload) >= 2 {
				code = int(payload[0])<<8 | int(payload[1])
			}
			packets = append(packets, fmt.Sprintf("close %d", code))
		default:
			w.r.t.Fatalf("a frame of type %x: %q", b[0], payload)
		}
	}
}

// flavour is one way in which socket.io clients travel.
type flavour struct {
	name    string
	version int // 9, 3 or 4
	ws      bool
	jsonp   bool
	binary  bool // polls without b64=1
}

var flavours = []flavour{
	{name: "0.9 websocket", version: 9, ws: true},
	{name: "0.9 xhr", version: 9},
	{name: "0.9 jsonp", version: 9, jsonp: true},
	{name: "eio3 websocket", version: 3, ws: true},
	{name: "eio3 polling", version: 3},
	{name: "eio3 polling, binary", version: 3, binary: true},
	{name: "eio3 jsonp", version: 3, jsonp: true},
	{name: "eio4 websocket", version: 4, ws: true},
	{name: "eio4 polling", version: 4},
}

// pollers are the flavours that fetch.
func pollers() (list []flavour) {
	for _, f := range flavours {
		if !f.ws {
			list = append(list, f)
		}
	}
	return list
}

// forFlavours runs f for each of some flavours on one loop, on three, and on three with TLS.
func forFlavours(t *testing.T, some []flavour, f func(t *testing.T, r *rig, kind flavour)) {
	for _, kind := range some {
		for _, sh := range []shape{{loops: 1}, {loops: 3}, {loops: 3, tls: true}} {
			name := fmt.Sprintf("%s,loops=%d", kind.name, sh.loops)
			if sh.tls {
				name += ",tls"
			}
			t.Run(name, func(t *testing.T) { f(t, newRig(t, sh, nil), kind) })
		}
	}
}

// sioClient is a socket.io client, as careful as the real ones: one GET and one POST at a time, each on a connection of its own.
type sioClient struct {
	r         *rig
	kind      flavour
	tag       uint8
	door      *fleetNode                  // where it connects, in a fleet
	change    func(request string) string // of those that open the session; nil for none
	sid       string
	ws        *web // its WebSocket, once it has one
	get, post *web
	polling   bool // a GET is under way
	posting   bool // a POST is
	id        uint32
	events    []event
	packets   []string // those that are no message
	answers   []*response
}

func (r *rig) sio(kind flavour) *sioClient {
	return &sioClient{r: r, kind: kind, tag: atConnector, id: 1}
}

// target is where a polling request goes, or an upgrade.
func (c *sioClient) target(transport string) string {
	if c.kind.version == 9 {
		names := map[string]string{"websocket": "websocket", "polling": "xhr-polling"}
		t := "/socket.io/1/" + names[transport] + "/" + c.sid
		if c.kind.jsonp && transport == "polling" {
			t = "/socket.io/1/jsonp-polling/" + c.sid + "?t=1&i=7"
		}
		return t
	}
	t := fmt.Sprintf("/socket.io/?EIO=%d&transport=%s", c.kind.version, transport)
	if c.sid != "" {
		t += "&sid=" + c.sid
	}
	if c.kind.jsonp {
		t += "&j=7"
	}
	if !c.kind.binary {
		t += "&b64=1"
	}
	return t
}

// login opens the session and, where that is the client's to do, connects.
func (r *rig) sioLogin(kind flavour) *sioClient {
	r.t.Helper()
	c := r.sio(kind)
	c.open()
	return c
}

func (c *sioClient) open() {
	c.r.t.Helper()
	c.begin()
	if c.kind.version == 4 {
		c.send("40")
		c.run()
	}
	if want := map[int]string{9: "1::", 3: "40", 4: "40{"}[c.kind.version]; !strings.HasPrefix(c.packets[len(c.packets)-1], want) {
		c.r.t.Fatalf("not connected: %q", c.packets)
	}
	c.packets = nil
}

// begin opens the session: as far as its first packets, and with no GET under way.
func (c *sioClient) begin() {
	c.r.t.Helper()
	if c.kind.version == 9 {
		c.handshake()
	}
	if c.kind.ws {
		c.upgrade()
	} else {
		c.poll()
	}
	c.r.net.Settle()
	c.pump()
	if c.kind.version != 9 {
		var open struct{ SID string }
		if len(c.packets) == 0 || json.Unmarshal([]byte(c.packets[0][1:]), &open) != nil || len(open.SID) != sidChars {
			c.r.t.Fatalf("no handshake: %q", c.packets)
		}
		c.sid = open.SID
	}
}

// handshake is that of 0.9.
func (c *sioClient) handshake() {
	p := c.web().ask(c.opening(get("/socket.io/1/?t=1")))
	sid, rest, _ := strings.Cut(p.body, ":")
	if p.status != 200 || rest != "60:60:websocket,xhr-polling,jsonp-polling" || len(sid) != sidChars {
		c.r.t.Fatalf("handshake answered %v", p)
	}
	c.sid = sid
}

// upgrade opens a WebSocket, for a new session or for the one there is.
func (c *sioClient) upgrade() {
	c.r.t.Helper()
	c.ws = c.web()
	if p := c.ws.ask(c.opening(upgradeTo(c.target("websocket")))); p.status != 101 {
		c.r.t.Fatalf("upgrade answered %v", p)
	}
}

// poll sends a GET.
func (c *sioClient) poll() {
	if c.get == nil || c.get.sock.Closed || c.get.sock.ShutDown {
		c.get = c.web()
	}
	c.get.send(c.opening(get(c.target("polling"), "Origin: http://page.example")))
	c.polling = true
}

func (c *sioClient) opening(request string) string {
	if c.change == nil {
		return request
	}
	return c.change(request)
}

// send sends packets, in one POST where it has to be one. It does not wait.
func (c *sioClient) send(packets ...string) {
	if c.ws != nil && c.kind.ws {
		for _, p := range packets {
			c.ws.send(textFrame(p))
		}
		return
	}
	if c.post == nil || c.post.sock.Closed || c.post.sock.ShutDown {
		c.post = c.web()
	}
	contentType := "text/plain;charset=UTF-8"
	if c.kind.binary {
		contentType = "application/octet-stream"
	}
	c.post.send(post(c.target("polling"), c.payload(packets), "Content-Type: "+contentType))
	c.posting = true
}

// payload is packets as the body of a POST.
func (c *sioClient) payload(packets []string) string {
	var b strings.Builder
	switch {
	case c.kind.version == 4:
		b.WriteString(strings.Join(packets, "\x1e"))
	case c.kind.version == 9 && len(packets) == 1:
		b.WriteString(packets[0])
	default:
		for _, p := range packets {
			switch {
			case c.kind.version == 9:
				fmt.Fprintf(&b, "\ufffd%d\ufffd%s", len(utf16.Encode([]rune(p))), p)
			case c.kind.binary:
				b.WriteByte(0)
				for _, d := range strconv.Itoa(len(p)) {
					b.WriteByte(byte(d - '0'))
				}
				b.WriteString("\xff" + p)
			default:
				fmt.Fprintf(&b, "%d:%s", len(utf16.Encode([]rune(p))), p)
			}
		}
	}
	switch {
	case c.kind.jsonp && c.kind.version == 9:
		return "d=" + url.QueryEscape(jsString(b.String()))
	case c.kind.jsonp:
		return "d=" + url.QueryEscape(strings.ReplaceAll(b.String(), `\n`, `\\n`))
	}
	return b.String()
}

// jsString is s as JSON.stringify has it.
func jsString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSpace(b.String())
}

// message is the packet of a request, or of a notify when id is 0.
func (c *sioClient) message(id uint32, route, body string) string {
	units := []rune{rune(id >> 24), rune(id >> 16 & 0xff), rune(id >> 8 & 0xff), rune(id & 0xff), rune(len(utf16.Encode([]rune(route))))}
	text := string(units) + route + body
	if c.kind.version == 9 {
		return "3:::" + text
	}
	return `42["message",` + jsString(text) + `]`
}

func (c *sioClient) request(route, body string) uint32 {
	c.id++
	c.send(c.message(c.id, route, body))
	return c.id
}
