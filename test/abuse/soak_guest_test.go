//go:build linux

package abuse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/pomelod/pomelod/codec"
)

// guest is a client of one of the wires that does as the protocol says, as long as it is asked to. Used by one goroutine.
type guest interface {
	// open connects and shakes hands: requests may follow.
	open() error
	// say sends a request, or a notify if id is 0. Ids are below 128.
	say(id uint32, route, body string) error
	// flood sends n notifies in as few pieces as the wire knows.
	flood(n int, route, body string) error
	// hear returns what comes next, errQuiet when nothing begins to come within a while. What keeps the session alive is answered.
	hear(within time.Duration) (heard, error)
	// beat sends what such a client sends to stay alive.
	beat() error
	// upgrade changes from polling to a WebSocket, where the wire can.
	upgrade() error
	// bye says that the session is over, where the wire has words for that.
	bye() error
	// conns are the connections that it has.
	conns() []*peer
}

// heard is something that a guest was told.
type heard struct {
	kind int
	id   uint32 // of an answer
	text string // its body, a push or the reason of a kick
}

// Kinds of what is heard; what is neither answer nor push nor kick is told too, so that nobody waits for more of it.
const (
	heardOther = iota
	heardAnswer
	heardPush
	heardKick
)

var (
	errQuiet  = errors.New("nothing comes")
	errKicked = errors.New("kicked")
)

// wire makes guests of a kind.
type wire struct {
	name string
	make func(from, to string) guest
}

var soakWires = []wire{
	{"tcp", func(from, to string) guest { return &hybridGuest{from: from, to: to} }},
	{"ws", func(from, to string) guest { return &hybridGuest{from: from, to: to, ws: true} }},
	{"sio09-ws", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 9, websocket: true} }},
	{"sio09-polling", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 9} }},
	{"eio3-ws", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 3, websocket: true} }},
	{"eio3-polling", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 3} }},
	{"eio4-ws", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 4, websocket: true} }},
	{"eio4-polling", func(from, to string) guest { return &sioGuest{from: from, to: to, version: 4} }},
}

// call sends a request and returns its answer and what was pushed before it.
func call(g guest, id uint32, route, body string) (answer string, pushed []string, err error) {
	if err := g.say(id, route, body); err != nil {
		return "", nil, err
	}
	for {
		h, err := g.hear(patience)
		switch {
		case err != nil:
			return "", pushed, fmt.Errorf("%s: %w", route, err)
		case h.kind == heardAnswer && h.id == id:
			return h.text, pushed, nil
		case h.kind == heardAnswer:
			return "", pushed, fmt.Errorf("%s: instead of answer %d came %d: %.100s", route, id, h.id, h.text)
		case h.kind == heardKick:
			return "", pushed, fmt.Errorf("%s: %w: %s", route, errKicked, h.text)
		case h.kind == heardPush:
			pushed = append(pushed, h.text)
		}
	}
}

// begins waits until something can be read from p; what has begun to come is waited for patiently.
func (p *peer) begins(within time.Duration) error {
	_ = p.SetReadDeadline(time.Now().Add(within))
	_, err := p.r.Peek(1)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return errQuiet
	}
	return err
}

// hybridGuest speaks Pomelo's own protocol, by TCP or WebSocket.
type hybridGuest struct {
	from, to string
	ws       bool
	*peer
}

func (g *hybridGuest) open() (err error) {
	if g.peer, err = dial(g.from, g.to); err != nil {
		return err
	}
	if g.ws {
		if err := g.peer.upgrade(); err != nil {
			return err
		}
	}
	return g.login()
}

func (g *hybridGuest) say(id uint32, route, body string) error {
	return g.send(message(id, route, body))
}

func (g *hybridGuest) flood(n int, route, body string) error {
	return g.raw(bytes.Repeat(g.framed(message(0, route, body)), n))
}

func (g *hybridGuest) hear(within time.Duration) (h heard, err error) {
	if err := g.begins(within); err != nil {
		return h, err
	}
	got, err := g.pkg()
	if err != nil {
		return h, err
	}
	switch got.Type {
	case codec.PackageHeartbeat: // not answered, as the server answers those of clients at once: it would go on for ever
		return h, nil
	case codec.PackageKick:
		return heard{kind: heardKick, text: string(got.Body)}, nil
	case codec.PackageData:
		m, err := codec.ParseMessage(got.Body)
		h = heard{kind: heardPush, id: m.ID, text: string(m.Body)}
		if m.Type == codec.MessageResponse {
			h.kind = heardAnswer
		}
		return h, err
	}
	return h, fmt.Errorf("a package of type %d: %.100q", got.Type, got.Body)
}

func (g *hybridGuest) beat() error {
	return g.send(codec.AppendPackage(nil, codec.PackageHeartbeat, nil))
}

func (g *hybridGuest) upgrade() error { return nil }

func (g *hybridGuest) bye() error {
	if !g.ws {
		return nil
	}
	return g.raw([]byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe8}) // a close frame, code 1000
}

func (g *hybridGuest) conns() []*peer {
	if g.peer == nil {
		return nil
	}
	return []*peer{g.peer}
}

// sioGuest speaks socket.io: 0.9, or by Engine.IO 3 or 4. While it polls it has two connections: one to fetch by, one to send by.
type sioGuest struct {
	from, to  string
	version   int  // 9, 3 or 4
	websocket bool // from the beginning
	sid       string
	socket    *peer // its WebSocket, once it has one
	get, post *peer
	fetching  bool // a GET is under way
	posted    time.Time
	packets   []string // that have come and were not heard yet
	texts     []heard  // that have come in one packet
}

// path is where a request goes, or an upgrade.
func (g *sioGuest) path(transport string) string {
	if g.version == 9 {
		return "/socket.io/1/" + transport + "/" + g.sid
	}
	if transport != "websocket" {
		transport = "polling&b64=1"
	}
	path := fmt.Sprintf("/socket.io/?EIO=%d&transport=%s", g.version, transport)
	if g.sid != "" {
		path += "&sid=" + g.sid
	}
	return path
}

func getHead(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }

func (g *sioGuest) open() error {
	if g.version == 9 {
		if err := g.handshake(); err != nil {
			return err
		}
	}
	if g.websocket {
		p, err := g.upgraded()
		if err != nil {
			return err
		}
		g.socket = p
	}
	if g.version != 9 {
		packet, err := g.packet(patience)
		if err != nil {
			return err
		}
		var settings struct{ SID string }
		if packet == "" || packet[0] != '0' || json.Unmarshal([]byte(packet[1:]), &settings) != nil {
			return fmt.Errorf("instead of a handshake: %.100q", packet)
		}
		g.sid = settings.SID
	}
	if g.version == 4 {
		if err := g.send("40"); err != nil {
			return err
		}
	}
	packet, err := g.packet(patience)
	if want := map[int]string{9: "1::", 3: "40", 4: "40{"}[g.version]; err == nil && !strings.HasPrefix(packet, want) {
		err = fmt.Errorf("instead of a session: %.100q", packet)
	}
	return err
}

// handshake is that of 0.9. Its connection is the one to send by.
func (g *sioGuest) handshake() (err error) {
	if g.post, err = dial(g.from, g.to); err != nil {
		return err
	}
	if err = g.post.raw([]byte(getHead("/socket.io/1/"))); err != nil {
		return err
	}
	body, err := g.post.body()
	sid, _, ok := strings.Cut(body, ":")
	if err == nil && !ok {
		err = fmt.Errorf("handshake answered %.100q", body)
	}
	g.sid, g.posted = sid, time.Now()
	return err
}

// upgraded is a new WebSocket of this session, or the first of a new one.
func (g *sioGuest) upgraded() (*peer, error) {
	p, err := dial(g.from, g.to)
	if err != nil {
		return nil, err
	}
	if err := p.upgradeTo(g.path("websocket")); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// packet returns the next packet.
func (g *sioGuest) packet(within time.Duration) (string, error) {
	if len(g.packets) == 0 && g.socket != nil {
		if err := g.socket.begins(within); err != nil {
			return "", err
		}
		return g.socket.textFrame()
	}
	if len(g.packets) == 0 {
		if err := g.fetch(); err != nil {
			return "", err
		}
		if err := g.get.begins(within); err != nil {
			return "", err
		}
		if err := g.fetched(); err != nil {
			return "", err
		}
	}
	packet := g.packets[0]
	g.packets = g.packets[1:]
	return packet, nil
}

// fetch has a GET under way.
func (g *sioGuest) fetch() (err error) {
	if g.fetching {
		return nil
	}
	if g.get == nil {
		if g.get, err = dial(g.from, g.to); err != nil {
			return err
		}
	}
	g.fetching = true
	return g.get.raw([]byte(getHead(g.path("xhr-polling"))))
}

// fetched reads the answer of the GET.
func (g *sioGuest) fetched() error {
	body, err := g.get.body()
	if err != nil {
		return err
	}
	g.fetching = false
	packets, err := g.unpack(body)
	g.packets = append(g.packets, packets...)
	return err
}

// unpack takes packets out of a payload. Lengths are in UTF-16 code units.
func (g *sioGuest) unpack(body string) (packets []string, err error) {
	const mark = "\ufffd"
	switch {
	case g.version == 4:
		return strings.Split(body, "\x1e"), nil
	case g.version == 9 && !strings.HasPrefix(body, mark):
		return []string{body}, nil
	}
	for body != "" {
		end := ":"
		if g.version == 9 {
			end, body = mark, strings.TrimPrefix(body, mark)
		}
		digits, rest, _ := strings.Cut(body, end)
		var n int
		units := utf16.Encode([]rune(rest))
		if _, err := fmt.Sscan(digits, &n); err != nil || n > len(units) {
			return nil, fmt.Errorf("a payload that goes on with %.100q", body)
		}
		packets, body = append(packets, string(utf16.Decode(units[:n]))), string(utf16.Decode(units[n:]))
	}
	return packets, nil
}

// send sends packets, in one POST where it polls.
func (g *sioGuest) send(packets ...string) error {
	if g.socket != nil {
		var b []byte
		for _, p := range packets {
			b = appendTextFrame(b, p)
		}
		return g.socket.raw(b)
	}
	if g.post != nil && time.Since(g.posted) > time.Second { // the server ends idle ones
		g.post.Close()
		g.post = nil
	}
	if g.post == nil {
		var err error
		if g.post, err = dial(g.from, g.to); err != nil {
			return err
		}
	}
	if err := g.post.raw([]byte(g.posting(g.payload(packets)))); err != nil {
		return err
	}
	body, err := g.post.body()
	if want := map[int]string{9: "1", 3: "ok", 4: "ok"}[g.version]; err == nil && body != want {
		err = fmt.Errorf("a POST was answered %.100q", body)
	}
	g.posted = time.Now()
	return err
}

// posting is the POST of a payload.
func (g *sioGuest) posting(payload string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s",
		g.path("xhr-polling"), len(payload), payload)
}

func (g *sioGuest) payload(packets []string) string {
	switch {
	case g.version == 4:
		return strings.Join(packets, "\x1e")
	case g.version == 9 && len(packets) == 1:
		return packets[0]
	}
	var b strings.Builder
	for _, p := range packets {
		if g.version == 9 {
			fmt.Fprintf(&b, "\ufffd%d\ufffd%s", units(p), p)
		} else {
			fmt.Fprintf(&b, "%d:%s", units(p), p)
		}
	}
	return b.String()
}

// units is the length of text as JavaScript counts: attackers may have names that are not ASCII.
func units(text string) int { return len(utf16.Encode([]rune(text))) }

// message is a request in the string format, in a packet: four characters of id, one of the route's length, route and body.
func (g *sioGuest) message(id uint32, route, body string) string {
	text := string([]rune{0, 0, 0, rune(id), rune(len(route))}) + route + body
	if g.version == 9 {
		return "3:::" + text
	}
	quoted, _ := json.Marshal(text) // strings can be marshalled
	return `42["message",` + string(quoted) + `]`
}

func (g *sioGuest) say(id uint32, route, body string) error {
	return g.send(g.message(id, route, body))
}

func (g *sioGuest) flood(n int, route, body string) error {
	packets := make([]string, n)
	for i := range packets {
		packets[i] = g.message(0, route, body)
	}
	return g.send(packets...)
}

func (g *sioGuest) hear(within time.Duration) (h heard, err error) {
	if len(g.texts) == 0 {
		packet, err := g.packet(within)
		if err != nil {
			return h, err
		}
		switch {
		case packet == "2" && g.version == 4:
			return h, g.send("3")
		case packet == "2::":
			return h, g.send("2::")
		}
		if g.texts, err = g.parse(packet); err != nil || len(g.texts) == 0 {
			return h, err
		}
	}
	h, g.texts = g.texts[0], g.texts[1:]
	return h, nil
}

// parse takes the messages out of a packet; what is none has none.
func (g *sioGuest) parse(packet string) (all []heard, err error) {
	var texts []json.RawMessage
	if inner, ok := strings.CutPrefix(packet, "3:::"); ok && g.version == 9 {
		err = json.Unmarshal([]byte(inner), &texts)
	} else if inner, ok := strings.CutPrefix(packet, "42"); ok && g.version != 9 {
		var event []string
		if err = json.Unmarshal([]byte(inner), &event); err == nil && len(event) == 2 {
			texts = []json.RawMessage{json.RawMessage(event[1])}
		}
	} else if packet == "1" || packet == "41" || strings.HasPrefix(packet, "0::") || strings.HasPrefix(packet, "7::") {
		return nil, fmt.Errorf("%w: %.100q", errClosed, packet)
	}
	for _, text := range texts {
		var m struct {
			ID     uint32
			Route  string
			Body   json.RawMessage
			Reason string
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("%w: %.100q", err, packet)
		}
		h := heard{kind: heardPush, text: string(text)}
		switch {
		case m.ID != 0:
			h = heard{kind: heardAnswer, id: m.ID, text: string(m.Body)}
		case m.Route == "onKick":
			h = heard{kind: heardKick, text: m.Reason}
		}
		all = append(all, h)
	}
	return all, err
}

func (g *sioGuest) beat() error { return g.send(g.life()) }

// life is the packet that says that the client is there.
func (g *sioGuest) life() string { return map[int]string{9: "2::", 3: "2", 4: "3"}[g.version] }

// upgrade changes over as browsers do: it asks by the WebSocket, lets the GET end, and says that it has changed.
func (g *sioGuest) upgrade() error {
	if g.version == 9 || g.socket != nil {
		return nil
	}
	p, err := g.upgraded()
	if err != nil {
		return err
	}
	if err = p.raw(appendTextFrame(nil, "2probe")); err == nil {
		var answer string
		if answer, err = p.textFrame(); err == nil && answer != "3probe" {
			err = fmt.Errorf("a probe was answered %.100q", answer)
		}
	}
	if err == nil && g.fetching {
		err = g.fetched()
	}
	if err == nil {
		err = p.raw(appendTextFrame(nil, "5"))
	}
	if err != nil {
		p.Close()
		return fmt.Errorf("upgrade: %w", err)
	}
	for _, idle := range g.conns() {
		idle.Close()
	}
	g.socket, g.get, g.post = p, nil, nil
	return nil
}

func (g *sioGuest) bye() error { return g.send(map[int]string{9: "0::", 3: "41", 4: "1"}[g.version]) }

func (g *sioGuest) conns() (all []*peer) {
	for _, p := range []*peer{g.socket, g.get, g.post} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}
