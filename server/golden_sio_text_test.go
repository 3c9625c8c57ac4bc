//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The words for what socket.io servers send, and the forms that packets have in HTTP bodies. All of it is written from
// protocol.md §4 to §7; package codec is not used, so its mistakes are not made twice.

// wireForm is how packets lie in the body of a polling request or answer.
type wireForm int

const (
	formEIO3  wireForm = iota // lengths in UTF-16 code units, §6.3; binary where the content type says so
	formEIO4                  // U+001E between packets, §7
	formSIO09                 // U+FFFD and lengths, or a bare packet, §5.4
)

// splitPayload takes the packets out of a body. An engine.io 1.x server's text is UTF-8 twice over.
func splitPayload(form wireForm, contentType string, body []byte) (packets []string, err error) {
	switch {
	case form == formEIO3 && contentType == "application/octet-stream":
		return splitBinary(body)
	case !utf8.Valid(body):
		return nil, fmt.Errorf("a payload that is no UTF-8: %x", body)
	case form == formEIO4:
		return strings.Split(string(body), "\x1e"), nil
	case form == formSIO09 && !bytes.HasPrefix(body, []byte("\ufffd")):
		return []string{string(body)}, nil
	}
	for units := utf16.Encode([]rune(string(body))); len(units) > 0; {
		if form == formSIO09 {
			if units[0] != 0xfffd {
				return nil, fmt.Errorf("no length in front of %q", string(utf16.Decode(units)))
			}
			units = units[1:]
		}
		end := map[wireForm]uint16{formEIO3: ':', formSIO09: 0xfffd}[form]
		n := 0
		for len(units) > 0 && units[0] >= '0' && units[0] <= '9' {
			n, units = n*10+int(units[0]-'0'), units[1:]
		}
		if len(units) < 1+n || units[0] != end {
			return nil, fmt.Errorf("no packet of %d units: %q", n, string(utf16.Decode(units)))
		}
		packet := string(utf16.Decode(units[1 : 1+n]))
		if form == formEIO3 {
			packet = once(packet)
		}
		packets, units = append(packets, packet), units[1+n:]
	}
	return packets, nil
}

// once undoes the second UTF-8 encoding of engine.io 1.x, if there was one (§6.3, Rule).
func once(s string) string {
	var b []byte
	for _, r := range s {
		if r > 0xff {
			return s
		}
		b = append(b, byte(r))
	}
	if len(b) == len(s) || !utf8.Valid(b) {
		return s
	}
	return string(b)
}

func splitBinary(b []byte) (packets []string, err error) {
	for len(b) > 0 {
		n, i := 0, 1
		for ; i < len(b) && b[i] < 10; i++ {
			n = n*10 + int(b[i])
		}
		if b[0] != 0 || i == 1 || len(b) < i+1+n || b[i] != 0xff || !utf8.Valid(b[i+1:i+1+n]) {
			return nil, fmt.Errorf("no packet of text: %x", b)
		}
		packets, b = append(packets, string(b[i+1:i+1+n])), b[i+1+n:]
	}
	return packets, nil
}

// joinPayload is the opposite of splitPayload, as a 0.9, 2.x or 4.x side writes text.
func joinPayload(form wireForm, packets []string) string {
	if form == formEIO4 {
		return strings.Join(packets, "\x1e")
	}
	if form == formSIO09 && len(packets) == 1 {
		return packets[0]
	}
	text := ""
	for _, p := range packets {
		n := len(utf16.Encode([]rune(p)))
		if form == formSIO09 {
			text += fmt.Sprintf("\ufffd%d\ufffd%s", n, p)
		} else {
			text += fmt.Sprintf("%d:%s", n, p)
		}
	}
	return text
}

// jsonp is an answer as a script; the function's name is the first part.
var jsonp = regexp.MustCompile(`(?s)^(___eio\[\d+\]|io\.j\[\d+\])\((".*")\);$`)

// unwrap takes a body out of its script. callback is empty when it is in none.
func unwrap(body []byte) (inside []byte, callback string, err error) {
	m := jsonp.FindSubmatch(body)
	if m == nil {
		return body, "", nil
	}
	var text string
	if err := json.Unmarshal(m[2], &text); err != nil {
		return nil, "", err
	}
	return []byte(text), string(m[1]), nil
}

// packetTexts is what a packet says: the Pomelo messages in it, or itself.
func packetTexts(form wireForm, packet string) []string {
	if form == formSIO09 {
		return packetTexts09(packet)
	}
	if rest, ok := strings.CutPrefix(packet, "42"); ok {
		var args []json.RawMessage
		var name, text string
		if json.Unmarshal([]byte(rest), &args) == nil && len(args) == 2 && json.Unmarshal(args[0], &name) == nil && name == "message" && json.Unmarshal(args[1], &text) == nil {
			if message, err := canonical(text); err == nil {
				return []string{"message " + message}
			}
		}
		return []string{"42 " + rest}
	}
	if rest, ok := strings.CutPrefix(packet, "0{"); ok {
		if text, err := canonical("{" + rest); err == nil {
			return []string{"open " + text}
		}
	}
	return []string{packet}
}

// packetTexts09 takes an array of 2013 apart: how many elements are in one is the server's choice (§4.2).
func packetTexts09(packet string) (items []string) {
	rest, ok := strings.CutPrefix(packet, "3:::[")
	var elements []json.RawMessage
	if !ok || json.Unmarshal([]byte("["+rest), &elements) != nil || len(elements) == 0 {
		return []string{packet}
	}
	for _, e := range elements {
		text, err := canonical(string(e))
		if err != nil {
			return []string{packet}
		}
		items = append(items, "element "+text)
	}
	return items
}

// canonical is a JSON text with nothing escaped that need not be, members in their order.
func canonical(text string) (string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var b strings.Builder
	if err := appendCanonical(&b, d); err != nil {
		return "", err
	}
	if d.More() {
		return "", errors.New("more than one value")
	}
	return b.String(), nil
}

func appendCanonical(b *strings.Builder, d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		b.WriteString(literal(t))
		return nil
	}
	b.WriteRune(rune(open))
	for n := 0; d.More(); n++ {
		if n > 0 {
			b.WriteByte(',')
		}
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			b.WriteString(literal(key) + ":")
		}
		if err := appendCanonical(b, d); err != nil {
			return err
		}
	}
	end, err := d.Token()
	if err != nil {
		return err
	}
	b.WriteRune(rune(end.(json.Delim)))
	return nil
}

// literal is a string, number, true, false or null as JSON.
func literal(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// frameTexts is what a frame of a socket.io server says.
func frameTexts(form wireForm, b0 byte, payload []byte) []string {
	switch {
	case b0 == 0x81 && utf8.Valid(payload):
		return packetTexts(form, string(payload))
	case b0 == 0x88:
		return []string{closeText(payload)}
	case b0 == 0x8a:
		return []string{fmt.Sprintf("pong %q", payload)}
	}
	return []string{fmt.Sprintf("frame %x %x", b0, payload)}
}

// unheard are the headers that are about the connection's bytes; reading by them is the comparison. The server tells the
// length of every body that has one.
var unheard = []string{"date", "content-length", "transfer-encoding"}

// sioHead is a response head in words, as headText, without what differs between HTTP servers. What names a connection's state
// is not case sensitive.
func sioHead(statusLine string, headers pairs) string {
	var list pairs
	for _, kv := range headers {
		name := strings.ToLower(kv[0])
		if name == "connection" {
			kv[1] = strings.ToLower(kv[1])
		}
		if !slices.Contains(unheard, name) {
			list = append(list, kv)
		}
	}
	return headText(statusLine, list)
}

// additions are what caches are told, which may be more than the original told them.
var additions = []string{" | cache-control: no-store", " | vary: Origin"}

// likeHead takes additions out of a head, those that want has not.
func likeHead(got, want string) string {
	for _, a := range additions {
		name, _, _ := strings.Cut(a, ":")
		if !strings.Contains(want, name+":") {
			got = strings.Replace(got, a, "", 1)
		}
	}
	return got
}

// bodyWords makes JSON in an error's answer comparable.
func bodyWords(contentType string, body []byte) string {
	if contentType == "application/json" {
		if text, err := canonical(string(body)); err == nil {
			return text
		}
	}
	return string(body)
}

// target is what a request line asks for.
type target struct {
	method, path string
	query        url.Values
}

func (l *line) target() target {
	parts := strings.Split(l.Line, " ")
	u, err := url.ParseRequestURI(parts[1])
	if err != nil {
		panic(err)
	}
	return target{parts[0], u.Path, u.Query()}
}

// form is how the packets of a request's session lie in bodies and frames.
func (t *target) form() wireForm {
	switch {
	case strings.HasPrefix(t.path, "/socket.io/1/"):
		return formSIO09
	case t.query.Get("EIO") == "4":
		return formEIO4
	}
	return formEIO3
}

// sid is the session that a request names, empty for none.
func (t *target) sid() string {
	if t.form() != formSIO09 {
		return t.query.Get("sid")
	}
	if parts := strings.Split(t.path, "/"); len(parts) == 5 {
		return parts[4]
	}
	return ""
}

// polls tells whether a request fetches packets.
func (t *target) polls() bool {
	if t.form() == formSIO09 {
		return t.method == "GET" && t.sid() != "" && strings.Contains(t.path, "-polling/") && !t.query.Has("disconnect")
	}
	return t.method == "GET" && t.query.Get("transport") == "polling"
}

// chunked is a body with transfer coding, step bytes a chunk; 0: one chunk.
func chunked(body []byte, step int) (b []byte) {
	for len(body) > 0 {
		n := len(body)
		if step > 0 {
			n = min(n, 7)
		}
		b = append(strconv.AppendInt(b, int64(n), 16), "\r\n"...)
		b = append(append(b, body[:n]...), "\r\n"...)
		body = body[n:]
	}
	return append(b, "0\r\n\r\n"...)
}
