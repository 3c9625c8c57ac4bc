//go:build linux

package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// line is one line of a transcript; testdata/golden/README.md says what the fields are.
type line struct {
	N         int    `json:"-"` // its number in the file
	Millis    int    `json:"t_ms"`
	Dir       string `json:"dir"`
	Who       string `json:"who"`
	Conn      int    `json:"conn"`
	Port      int    `json:"port"`
	Transport string `json:"transport"`
	Kind      string `json:"kind"`
	Line      string `json:"line"`
	Headers   pairs  `json:"headers"`
	Text      string `json:"text"`
	Hex       string `json:"hex"`
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
	Decoded   []struct {
		Pkg  any    `json:"pkg"`
		Len  int    `json:"len"`
		Body string `json:"body"`
		Msg  *struct {
			Flag      int     `json:"flag"`
			Type      string  `json:"type"`
			ID        int     `json:"id"`
			Route     string  `json:"route"`
			RouteCode *int    `json:"routeCode"`
			Body      string  `json:"body"`
			BodyHex   *string `json:"bodyHex"`
		} `json:"msg"`
	} `json:"decoded"`
}

// pairs is a JSON object of strings in its order.
type pairs [][2]string

func (p *pairs) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		var kv [2]string
		for i := range kv {
			t, err := d.Token()
			if err != nil {
				return err
			}
			kv[i] = t.(string)
		}
		*p = append(*p, kv)
	}
	return nil
}

// readTranscript reads a file without its notes. A field it does not know is an error: it might matter.
func readTranscript(t *testing.T, file string) (lines []line) {
	b, err := os.ReadFile("testdata/golden/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		if l.N = i + 1; l.Dir != "note" {
			lines = append(lines, l)
		}
	}
	return lines
}

// payload is the bytes of a line that carries some.
func (l *line) payload() []byte {
	switch {
	case l.Kind == "close" && l.Code == 0:
		return nil
	case l.Kind == "close":
		return append(binary.BigEndian.AppendUint16(nil, uint16(l.Code)), l.Reason...)
	case l.Kind == "text":
		return []byte(l.Text)
	}
	b, err := hex.DecodeString(l.Hex)
	if err != nil {
		panic(err)
	}
	return b
}

// says is what a line of the server's says, in the words of peer.next, and on which connection.
func (l *line) says() (who string, items []string, err error) {
	items, err = l.items()
	return l.key(), items, err
}

// items are the same, without the connection.
func (l *line) items() ([]string, error) {
	switch l.Kind {
	case "upgrade-response":
		return []string{headText(l.Line, l.Headers)}, nil
	case "closed":
		return []string{"end"}, nil
	case "close":
		return []string{closeText(l.payload())}, nil
	case "pong":
		return []string{fmt.Sprintf("pong %q", l.payload())}, nil
	case "binary", "package":
		items := packageTexts(l.payload())
		if told := l.decoded(); !slices.Equal(items, told) {
			return nil, fmt.Errorf("the transcript's decoder says %q, ours %q", told, items)
		}
		return items, nil
	}
	return nil, fmt.Errorf("do not know how to compare a %q", l.Kind)
}

// decoded is the transcript's own reading of a line's packages in the words of packageTexts.
func (l *line) decoded() (items []string) {
	for _, p := range l.Decoded {
		switch m := p.Msg; {
		case p.Pkg == "heartbeat" && p.Len == 0:
			items = append(items, "heartbeat")
		case m == nil:
			items = append(items, fmt.Sprintf("%v %s", p.Pkg, p.Body))
		default:
			body := m.Body
			if m.BodyHex != nil {
				b, _ := hex.DecodeString(*m.BodyHex)
				body = string(b)
			}
			route := m.Route
			if m.RouteCode != nil {
				route = "#" + strconv.Itoa(*m.RouteCode)
			}
			items = append(items, messageText(byte(m.Flag), m.ID, route, []byte(body)))
		}
	}
	return items
}

// The words for what servers send. They are read from the bytes by what protocol.md says, not by package codec.

// packageTexts reads Pomelo packages back to back.
func packageTexts(b []byte) (items []string) {
	for len(b) > 0 {
		if len(b) < 4 || len(b) < 4+int(b[1])<<16+int(b[2])<<8+int(b[3]) {
			return append(items, fmt.Sprintf("no package %x", b))
		}
		kind, body := b[0], b[4:4+int(b[1])<<16+int(b[2])<<8+int(b[3])]
		b = b[4+len(body):]
		switch {
		case kind == 1:
			items = append(items, "handshake "+string(body))
		case kind == 3 && len(body) == 0:
			items = append(items, "heartbeat")
		case kind == 4 && len(body) > 0:
			items = append(items, readMessage(body))
		case kind == 5:
			items = append(items, "kick "+string(body))
		default:
			items = append(items, fmt.Sprintf("package %d %x", kind, body))
		}
	}
	return items
}

// readMessage reads a response or a push.
func readMessage(b []byte) string {
	flag, rest := b[0], b[1:]
	id, route := 0, ""
	switch flag >> 1 & 7 {
	case 2:
		for shift := 0; ; shift += 7 {
			if len(rest) == 0 {
				return fmt.Sprintf("no message %x", b)
			}
			c := rest[0]
			rest = rest[1:]
			if id |= int(c&0x7f) << shift; c < 0x80 {
				break
			}
		}
	case 3:
		switch {
		case flag&1 != 0 && len(rest) >= 2:
			route, rest = fmt.Sprintf("#%d", binary.BigEndian.Uint16(rest)), rest[2:]
		case flag&1 == 0 && len(rest) > 0 && len(rest) > int(rest[0]):
			route, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
		default:
			return fmt.Sprintf("no message %x", b)
		}
	default:
		return fmt.Sprintf("no message of a server %x", b)
	}
	return messageText(flag, id, route, rest)
}

func messageText(flag byte, id int, route string, body []byte) string {
	kind := fmt.Sprintf("response %d", id)
	if flag>>1&7 == 3 {
		kind = "push " + route
	}
	if flag != 4 && flag&^1 != 6 {
		kind += fmt.Sprintf(" (flag %#x)", flag)
	}
	return kind + " " + bodyText(body)
}

// bodyText is JSON as it is, and the strings of a protobuf body by their tags.
func bodyText(b []byte) string {
	if len(b) == 0 || b[0] == '{' && utf8.Valid(b) {
		return string(b)
	}
	text := "protobuf"
	for rest := b; len(rest) > 0; {
		if len(rest) < 2 || rest[0]&0x87 != 2 || rest[1] > 0x7f || len(rest) < 2+int(rest[1]) {
			return fmt.Sprintf("%x", b) // not the strings shorter than 128 bytes that transcripts have
		}
		text += fmt.Sprintf(" %d:%q", rest[0]>>3, rest[2:2+rest[1]])
		rest = rest[2+rest[1]:]
	}
	return text
}

func closeText(payload []byte) string {
	if len(payload) < 2 {
		return fmt.Sprintf("close %x", payload)
	}
	return fmt.Sprintf("close %d %q", binary.BigEndian.Uint16(payload), payload[2:])
}

// headText is a response head with its headers sorted; what names them is not case sensitive. Dates are left out.
func headText(statusLine string, headers pairs) string {
	var list []string
	for _, kv := range headers {
		if name := strings.ToLower(kv[0]); name != "date" {
			list = append(list, name+": "+kv[1])
		}
	}
	slices.Sort(list)
	return statusLine + " | " + strings.Join(list, " | ")
}

// mask is the masking key of all our frames.
var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// frame is a client's frame in the shortest form; b0 is FIN, RSV and opcode.
func frame(b0 byte, payload []byte) []byte {
	b := []byte{b0}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, mask[:]...), masked(payload)...)
}

func masked(payload []byte) []byte {
	b := bytes.Clone(payload)
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return b
}

// peer is a client of raw bytes.
type peer struct {
	conn    halfCloser
	r       *bufio.Reader
	ws      bool     // what comes is frames
	queued  []string // packages of the last frame
	closing bool     // the server has said that it closes, or has closed
	step    int      // bytes in a write; 0: all
}

// halfCloser is a connection of which one end can be closed: of TCP, or of TLS.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// dialPeer connects to the listener with this name, with TLS if everybody speaks it.
func (r *running) dialPeer(name string) (*peer, error) {
	tcp, err := net.DialTCP("tcp", nil, r.addr(name))
	if err != nil {
		return nil, err
	}
	conn := halfCloser(tcp)
	if r.secured {
		secure := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		_ = tcp.SetDeadline(time.Now().Add(deadline))
		if err := secure.Handshake(); err != nil {
			tcp.Close()
			return nil, err
		}
		_ = tcp.SetDeadline(time.Time{})
		conn = secure
	}
	return &peer{conn: conn, r: bufio.NewReaderSize(conn, 1<<16)}, nil
}

func (p *peer) write(b []byte) error {
	_ = p.conn.SetWriteDeadline(time.Now().Add(deadline))
	step := len(b)
	if p.step > 0 {
		step = p.step
	}
	for len(b) > 0 {
		n := min(step, len(b))
		if _, err := p.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// next waits for one thing from the server and puts it into words: a response head, a package, a control frame, or the
// end of TCP.
func (p *peer) next() string {
	if len(p.queued) == 0 {
		_ = p.conn.SetReadDeadline(time.Now().Add(deadline))
		items, err := p.read()
		switch {
		case errors.Is(err, io.EOF) && len(items) == 0:
			items = []string{"end"}
		case err != nil:
			items = append(items, "error: "+err.Error())
		}
		p.queued = items
	}
	item := p.queued[0]
	p.queued = p.queued[1:]
	p.closing = p.closing || item == "end" || strings.HasPrefix(item, "close ")
	return item
}

func (p *peer) read() ([]string, error) {
	if b, err := p.r.Peek(1); err != nil {
		return nil, err
	} else if b[0] == 'H' { // no package and no frame begins so
		return p.readHead()
	}
	if p.ws {
		return p.readFrame()
	}
	head, err := p.r.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%d bytes of a package: %v", len(head), err)
	}
	b := make([]byte, 4+int(head[1])<<16+int(head[2])<<8+int(head[3]))
	if n, err := io.ReadFull(p.r, b); err != nil {
		return nil, fmt.Errorf("%x of a package: %v", b[:n], err)
	}
	return packageTexts(b), nil
}

func (p *peer) readHead() ([]string, error) {
	res, err := p.readResponse()
	if err != nil {
		return nil, err
	}
	p.ws = strings.Contains(res.statusLine, " 101 ")
	item := headText(res.statusLine, res.headers)
	if len(res.body) > 0 {
		item += " | " + string(res.body)
	}
	return []string{item}, nil
}

// response is an answer over HTTP as it came. A server that does not tell how long a body is sends none.
type response struct {
	statusLine string
	headers    pairs
	body       []byte
}

// header is the value of the header with this name in small letters, empty if there is none.
func (res *response) header(name string) string {
	for _, kv := range res.headers {
		if strings.ToLower(kv[0]) == name {
			return kv[1]
		}
	}
	return ""
}

func (p *peer) readResponse() (*response, error) {
	var res response
	for {
		text, err := p.r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%q in a head: %w", text, err)
		}
		text = strings.TrimSuffix(text, "\r\n")
		name, value, ok := strings.Cut(text, ": ")
		switch {
		case text == "":
			if n := res.header("content-length"); n != "" {
				length, err := strconv.Atoi(n)
				if err != nil {
					return nil, err
				}
				res.body = make([]byte, length)
			}
			if _, err := io.ReadFull(p.r, res.body); err != nil {
				return nil, fmt.Errorf("in a body: %v", err)
			}
			return &res, nil
		case res.statusLine == "":
			res.statusLine = text
		case !ok:
			return nil, fmt.Errorf("header %q", text)
		default:
			res.headers = append(res.headers, [2]string{name, value})
		}
	}
}

func (p *peer) readFrame() ([]string, error) {
	b0, payload, err := p.takeFrame()
	switch {
	case err != nil:
		return nil, err
	case b0 == 0x82 && len(payload) > 0:
		return packageTexts(payload), nil
	case b0 == 0x88:
		return []string{closeText(payload)}, nil
	case b0 == 0x8a:
		return []string{fmt.Sprintf("pong %q", payload)}, nil
	}
	return []string{fmt.Sprintf("frame %x %x", b0, payload)}, nil
}

// takeFrame reads one frame, of which a server must send the simplest kind: whole, unmasked, in the shortest form. b0 is FIN,
// RSV and opcode.
func (p *peer) takeFrame() (b0 byte, payload []byte, err error) {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(p.r, head); err != nil {
		return 0, nil, fmt.Errorf("in the head of a frame: %w", err)
	}
	n, more := int(head[1]), map[byte]int{126: 2, 127: 8}[head[1]]
	if more > 0 {
		head = head[:2+more]
		if _, err := io.ReadFull(p.r, head[2:]); err != nil {
			return 0, nil, fmt.Errorf("in the head of a frame: %v", err)
		}
		n = 0
		for _, c := range head[2:] {
			n = n<<8 | int(c)
		}
	}
	if head[1] > 127 || more == 2 && n < 126 || more == 8 && n <= 0xffff || n > 1<<24 {
		return 0, nil, fmt.Errorf("bad frame head %x", head)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(p.r, payload); err != nil {
		return 0, nil, fmt.Errorf("in a frame: %v", err)
	}
	return head[0], payload, nil
}

// finish ends a connection from our side and returns what is wrong with it: anything that came and was not asked for,
// an end that was not told, or none at all.
func (p *peer) finish() error {
	defer p.conn.Close()
	if p.ws && !p.closing { // it lives, and sent nothing that nobody read
		const text = "still there?"
		if err := p.write(frame(0x89, []byte(text))); err != nil {
			return err
		}
		if got, want := p.next(), fmt.Sprintf("pong %q", text); got != want {
			return fmt.Errorf("before the end: %s", got)
		}
	}
	if err := p.conn.CloseWrite(); err != nil && !p.closing {
		return err
	}
	if got := p.next(); got != "end" {
		return fmt.Errorf("after the end: %s", got)
	}
	return nil
}
