package codec

import "bytes"

// The head of an HTTP/1 request, for WebSocket upgrades and long polling alike. One
// listening port may sit behind any proxy, so whatever two parties could read in two ways
// (RFC 9112 §2.2, §5.1, §6.1, §6.3) is refused instead of repaired.

// Transport is what the first bytes of a connection turn out to be.
type Transport uint8

// The transports SniffTransport tells apart.
const (
	TransportUnknown Transport = iota // more bytes are needed
	TransportTCP                      // Pomelo packages, or nothing we know
	TransportHTTP
)

// SniffTransport decides from the first bytes of a connection what it speaks, and whether
// they suffice (protocol.md §2.1, §8). A TCP package starts with 1..5, so a first byte
// that is no letter settles it; a letter needs 4 bytes, however they are cut. Letters that
// begin no HTTP method are left to the package layer, which refuses them. An empty line
// before them is passed over (RFC 9112 §2.2).
func SniffTransport(b []byte) (Transport, bool) {
	if len(b) > 0 && b[0] == '\r' {
		if len(b) > 1 && b[1] != '\n' {
			return TransportTCP, true
		}
		b = b[min(2, len(b)):]
	}
	if len(b) == 0 {
		return TransportUnknown, false
	}
	if !isLetter(b[0]) {
		return TransportTCP, true
	}
	if len(b) < 4 {
		return TransportUnknown, false
	}
	switch string(b[:4]) {
	case "GET ", "POST", "PUT ", "HEAD", "DELE", "OPTI", "PATC", "CONN", "TRAC", "PRI ":
		return TransportHTTP, true
	}
	return TransportTCP, true
}

// HTTPError refuses a request. The connection closes after the answer: once framing is in
// doubt nothing behind the head can be trusted.
type HTTPError struct {
	Status int
	Reason string // for the answer's body and the log; ASCII
}

func (e *HTTPError) Error() string { return "http: " + e.Reason }

// What ParseHTTPHead returns; shared and immutable, so that refusing does not allocate.
var (
	errHTTPTooLong     = &HTTPError{431, "request head too long"}
	errHTTPBareLF      = &HTTPError{400, "line feed without carriage return"}
	errHTTPRequestLine = &HTTPError{400, "malformed request line"}
	errHTTPVersion     = &HTTPError{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"}
	errHTTPTarget      = &HTTPError{400, "malformed request target"}
	errHTTPConnect     = &HTTPError{405, "not a proxy"}
	errHTTPFolded      = &HTTPError{400, "folded header line"}
	errHTTPName        = &HTTPError{400, "malformed header name"}
	errHTTPValue       = &HTTPError{400, "control character in a header value"}
	errHTTPDuplicate   = &HTTPError{400, "header must not be repeated"}
	errHTTPHost        = &HTTPError{400, "malformed Host"}
	errHTTPNoHost      = &HTTPError{400, "missing Host"}
	errHTTPLength      = &HTTPError{400, "malformed Content-Length"}
	errHTTPFraming     = &HTTPError{400, "ambiguous body length"}
	errHTTPCoding      = &HTTPError{501, "unknown transfer coding"}
)

// HTTPHead is the head of one request. Its slices alias the parsed buffer and share its
// lifetime. A header that is absent is nil, one that is empty is not.
type HTTPHead struct {
	Method []byte
	Target []byte // as sent
	Path   []byte // of the target, still percent-encoded; "*" for OPTIONS *
	Query  []byte // of the target, after the first '?'
	Minor  int    // HTTP/1.0 or HTTP/1.1

	Host     []byte // the target's authority if it names one, else the header; Hostname judges it
	Absolute bool   // the target names an authority, as only a proxy is asked
	Origin   []byte

	ContentType    []byte
	ContentLength  int64 // -1 when absent; then without Chunked there is no body
	Chunked        bool
	ExpectContinue bool // the client waits for 100 before it sends the body
	KeepAlive      bool // the client is content with another request on this connection

	UpgradeWebSocket     bool   // Upgrade lists websocket
	ConnectionUpgrade    bool   // Connection lists upgrade
	SecWebSocketKey      []byte // as sent; CheckUpgrade judges it
	SecWebSocketVersion  []byte // as sent
	SecWebSocketProtocol []byte // the first such line; Subprotocol reads it

	AcceptEncoding []byte // the last such line
	IfNoneMatch    []byte // the last such line
	XForwardedFor  []byte // the last such line, the one the nearest proxy wrote
	XForwardedTLS  bool   // X-Forwarded-Proto, its last item in its last line, is https or wss

	AccessControlRequestHeaders []byte // the last such line, of a preflight

	earlierForwardedFor [forwardedLines - 1][]byte // the lines before it, the last one first
	connectionClose     bool
	connectionKeepAlive bool
}

// ParseHTTPHead reads a request head from the start of b, and returns it with the bytes
// it took, the blank line included. n == 0 without an error means that more are needed:
// call again with the same bytes and more behind them, and with nowSearched as searched
// (0 at first), so that a client dripping bytes costs O(n) in all. A head of more than
// limit bytes is refused with 431.
func ParseHTTPHead(b []byte, searched, limit int) (h HTTPHead, n, nowSearched int, err *HTTPError) {
	within := b[:min(len(b), limit)]
	n, err = findHeadEnd(within, searched)
	if err == nil && n == 0 {
		if len(b) <= limit {
			return HTTPHead{}, 0, len(within), nil
		}
		err = errHTTPTooLong
	}
	if err == nil {
		h.ContentLength = -1
		err = h.parse(b[:n:n])
	}
	if err != nil {
		return HTTPHead{}, 0, 0, err
	}
	return h, n, 0, nil
}

// findHeadEnd returns the length of the head in b, 0 while its blank line is not there.
// Bare line feeds are found on the way: a head that uses them has no end to wait for.
func findHeadEnd(b []byte, searched int) (int, *HTTPError) {
	for i := searched; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			break
		}
		i += next
		if i == 0 || b[i-1] != '\r' {
			return 0, errHTTPBareLF
		}
		if i == 1 || b[i-2] == '\n' {
			return i + 1, nil
		}
	}
	return 0, nil
}

// parse reads a whole head, every line of which ends in CRLF.
func (h *HTTPHead) parse(b []byte) *HTTPError {
	line, rest := cutLine(b)
	if err := h.parseRequestLine(line); err != nil {
		return err
	}
	sawHost := false
	for line, rest = cutLine(rest); len(line) > 0; line, rest = cutLine(rest) {
		if line[0] == ' ' || line[0] == '\t' {
			return errHTTPFolded // RFC 9112 §5.2
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 0 || !isToken(line[:colon]) {
			return errHTTPName // among them a space before the colon, RFC 9112 §5.1
		}
		name, value := line[:colon], trimOWS(line[colon+1:])
		if !isFieldValue(value) {
			return errHTTPValue
		}
		if equalFold(name, "host") {
			if sawHost {
				return errHTTPDuplicate
			}
			sawHost = true
			if !isHost(value) {
				return errHTTPHost
			}
			if !h.Absolute { // RFC 9112 §3.2.2
				h.Host = value
			}
			continue
		}
		if err := h.header(name, value); err != nil {
			return err
		}
	}
	if h.Minor == 1 && !sawHost {
		return errHTTPNoHost // RFC 9112 §3.2
	}
	if h.Chunked && (h.ContentLength >= 0 || h.Minor == 0) {
		return errHTTPFraming // RFC 9112 §6.1
	}
	h.ExpectContinue = h.ExpectContinue && h.Minor == 1 // RFC 9110 §10.1.1
	h.KeepAlive = !h.connectionClose && (h.Minor == 1 || h.connectionKeepAlive)
	return nil
}

// parseRequestLine reads `method SP target SP version`, RFC 9112 §3.
func (h *HTTPHead) parseRequestLine(line []byte) *HTTPError {
	method, rest, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !isToken(method) || len(target) == 0 {
		return errHTTPRequestLine
	}
	for _, c := range target {
		if c < ' ' || c == 0x7f {
			return errHTTPRequestLine
		}
	}
	switch string(version) {
	case "HTTP/1.1":
		h.Minor = 1
	case "HTTP/1.0":
		h.Minor = 0
	default:
		if len(version) == len("HTTP/1.1") && string(version[:5]) == "HTTP/" &&
			isDigit(version[5]) && version[6] == '.' && isDigit(version[7]) {
			return errHTTPVersion // "PRI * HTTP/2.0" too
		}
		return errHTTPRequestLine
	}
	h.Method, h.Target = method, target
	return h.parseTarget(target)
}

// parseTarget splits the target into path and query, RFC 9112 §3.2.
func (h *HTTPHead) parseTarget(target []byte) *HTTPError {
	if string(h.Method) == "CONNECT" {
		return errHTTPConnect
	}
	if string(target) == "*" && string(h.Method) == "OPTIONS" {
		h.Path = target
		return nil
	}
	if bytes.IndexByte(target, '#') >= 0 {
		return errHTTPTarget // fragments are never sent, RFC 9110 §7.1
	}
	scheme := absoluteScheme(target)
	if scheme > 0 {
		target = target[scheme:]
		end := bytes.IndexAny(target, "/?")
		if end < 0 {
			end = len(target)
		}
		h.Host, h.Absolute, target = target[:end], true, target[end:]
		if len(h.Host) == 0 || !isHost(h.Host) {
			return errHTTPTarget
		}
	} else if target[0] != '/' {
		return errHTTPTarget
	}
	h.Path, h.Query, _ = bytes.Cut(target, []byte{'?'})
	if len(h.Path) == 0 {
		h.Path = h.Target[scheme-1 : scheme] // "http://host": the path is "/", lent by the scheme
	}
	return nil
}

// absoluteScheme returns the length of the "http://" that an absolute target begins with.
func absoluteScheme(target []byte) int {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) >= len(scheme) && equalFold(target[:len(scheme)], scheme) {
			return len(scheme)
		}
	}
	return 0
}

// header takes note of one header line other than Host. Switching on the length first
// leaves at most two comparisons for each of the many headers that nobody here reads.
func (h *HTTPHead) header(name, value []byte) *HTTPError {
	switch len(name) {
	case 6:
		if equalFold(name, "origin") {
			return once(&h.Origin, value)
		}
		if equalFold(name, "expect") {
			h.ExpectContinue = equalFold(value, "100-continue")
		}
	case 7:
		if equalFold(name, "upgrade") {
			h.UpgradeWebSocket = h.UpgradeWebSocket || hasListToken(value, "websocket")
		}
	case 10:
		if equalFold(name, "connection") {
			h.ConnectionUpgrade = h.ConnectionUpgrade || hasListToken(value, "upgrade")
			h.connectionClose = h.connectionClose || hasListToken(value, "close")
			h.connectionKeepAlive = h.connectionKeepAlive || hasListToken(value, "keep-alive")
		}
	case 12:
		if equalFold(name, "content-type") {
			return once(&h.ContentType, value)
		}
	case 13:
		if equalFold(name, "if-none-match") {
			h.IfNoneMatch = value
		}
	case 14:
		if equalFold(name, "content-length") {
			return h.contentLength(value)
		}
	case 15:
		if equalFold(name, "x-forwarded-for") {
			h.forwarded(value)
		}
		if equalFold(name, "accept-encoding") {
			h.AcceptEncoding = value
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			return h.transferEncoding(value)
		}
		if equalFold(name, "sec-websocket-key") {
			return once(&h.SecWebSocketKey, value)
		}
		if equalFold(name, "x-forwarded-proto") {
			last := trimOWS(value[bytes.LastIndexByte(value, ',')+1:])
			h.XForwardedTLS = equalFold(last, "https") || equalFold(last, "wss")
		}
	case 21:
		if equalFold(name, "sec-websocket-version") {
			return once(&h.SecWebSocketVersion, value)
		}
	case 22:
		if equalFold(name, "sec-websocket-protocol") && h.SecWebSocketProtocol == nil {
			h.SecWebSocketProtocol = value
		}
	case 30:
		if equalFold(name, "access-control-request-headers") {
			h.AccessControlRequestHeaders = value
		}
	}
	return nil
}

// once stores the value of a header that two parties may read differently when repeated.
func once(field *[]byte, value []byte) *HTTPError {
	if *field != nil {
		return errHTTPDuplicate
	}
	*field = value
	return nil
}

// contentLength reads digits and nothing else: no sign, no list (RFC 9112 §6.3 allows to
// refuse one). Repeated lines that agree are harmless.
func (h *HTTPHead) contentLength(value []byte) *HTTPError {
	n := int64(0)
	for _, c := range value {
		if !isDigit(c) || n > (1<<63-1-9)/10 {
			return errHTTPLength
		}
		n = n*10 + int64(c-'0')
	}
	if len(value) == 0 {
		return errHTTPLength
	}
	if h.ContentLength >= 0 && h.ContentLength != n {
		return errHTTPFraming
	}
	h.ContentLength = n
	return nil
}

// transferEncoding accepts exactly one coding, chunked, exactly once.
func (h *HTTPHead) transferEncoding(value []byte) *HTTPError {
	if !equalFold(value, "chunked") {
		return errHTTPCoding
	}
	if h.Chunked {
		return errHTTPFraming
	}
	h.Chunked = true
	return nil
}

// cutLine splits b behind its first line; the line loses its CRLF. A carriage return that
// is left inside is a control character and is refused as one.
func cutLine(b []byte) (line, rest []byte) {
	end := bytes.IndexByte(b, '\n')
	return b[:end-1], b[end+1:]
}

// trimOWS removes the optional white space around a header value.
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// hasListToken reports whether a comma-separated list holds token, which is lower case.
func hasListToken(list []byte, token string) bool {
	for len(list) > 0 {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte{','})
		if equalFold(trimOWS(item), token) {
			return true
		}
	}
	return false
}

// equalFold compares b to lower, which is lower case, folding ASCII only: by Unicode's
// folding the Kelvin sign would be a k and smuggle a header past a proxy.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isToken reports whether b is a token, RFC 9110 §5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && !isLetter(c) && !isOneOf(c, "!#$%&'*+-.^_`|~") {
			return false
		}
	}
	return len(b) > 0
}

// isHost reports whether b can be host and port, RFC 3986 §3.2.2: no user, no path. It
// may be empty, as the header of a request without an authority is.
func isHost(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && !isLetter(c) && !isOneOf(c, "-._~%!$&'()*+,;=:[]") {
			return false
		}
	}
	return true
}

// isFieldValue reports whether b holds no control character but tab, RFC 9110 §5.5.
func isFieldValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isOneOf(c byte, set string) bool {
	for i := range len(set) {
		if set[i] == c {
			return true
		}
	}
	return false
}
