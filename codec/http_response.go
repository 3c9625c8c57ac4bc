package codec

import (
	"bytes"
	"strconv"
)

// HTTPHeader is one header of an answer. Line breaks and other control characters in its
// value are written as spaces: values may be echoed from requests.
type HTTPHeader struct {
	Name, Value string
}

// AppendHTTPResponse appends a whole HTTP/1.1 response. contentType may be empty. Statuses
// without a body (1xx, 204, 304) lose body and Content-Length. There is no Date: this
// package has no clock, a caller that wants one passes it in extra. To answer HEAD, cut
// the body off again.
func AppendHTTPResponse(dst []byte, status int, contentType string, body []byte, keepAlive bool, extra ...HTTPHeader) []byte {
	dst = appendStatusLine(dst, status)
	if contentType != "" {
		dst = appendHTTPHeader(dst, "Content-Type", contentType)
	}
	bodyless := status < 200 || status == 204 || status == 304 // RFC 9110 §8.6
	if !bodyless {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(body)), 10)
		dst = append(dst, "\r\n"...)
	}
	if keepAlive {
		dst = append(dst, "Connection: keep-alive\r\n"...)
	} else {
		dst = append(dst, "Connection: close\r\n"...)
	}
	for _, h := range extra {
		dst = appendHTTPHeader(dst, h.Name, h.Value)
	}
	dst = append(dst, "\r\n"...)
	if bodyless {
		return dst
	}
	return append(dst, body...)
}

// AppendHTTPError appends the answer to a request refused with e, after which the
// connection closes: the reason as text, with 426 the version we speak (RFC 6455 §4.4),
// with 405 the one method of an upgrade, and with 429 when to come back. Endpoints that take other methods write
// their own 405.
func AppendHTTPError(dst []byte, e *HTTPError) []byte {
	dst = appendStatusLine(dst, e.Status)
	dst = append(dst, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(e.Reason)), 10)
	switch e.Status {
	case 405:
		dst = append(dst, "\r\nAllow: GET\r\nConnection: close\r\n\r\n"...)
	case 426:
		dst = append(dst, "\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket"...)
		dst = append(dst, "\r\nConnection: close, Upgrade\r\n\r\n"...)
	case 429:
		dst = append(dst, "\r\nRetry-After: "+RetryAfter+"\r\nConnection: close\r\n\r\n"...)
	default:
		dst = append(dst, "\r\nConnection: close\r\n\r\n"...)
	}
	return append(dst, e.Reason...)
}

// RetryAfter is the value of Retry-After in answers with status 429, in seconds.
const RetryAfter = "5"

func appendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusText(status)...)
	return append(dst, "\r\n"...)
}

func appendHTTPHeader(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	for i := range len(value) {
		c := value[i]
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		dst = append(dst, c)
	}
	return append(dst, "\r\n"...)
}

// statusText names the statuses this server sends, so that the package does without
// net/http; for others the reason phrase is empty, as RFC 9112 §4 allows.
func statusText(status int) string {
	switch status {
	case 100:
		return "Continue"
	case 101:
		return "Switching Protocols"
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 304:
		return "Not Modified"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 411:
		return "Length Required"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 417:
		return "Expectation Failed"
	case 426:
		return "Upgrade Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "HTTP Version Not Supported"
	}
	return ""
}

// AcceptsGzip tells whether the client reads gzip (RFC 9110 §12.5.3).
func (h *HTTPHead) AcceptsGzip() bool {
	for list := h.AcceptEncoding; len(list) > 0; {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte{','})
		coding, weight, _ := bytes.Cut(item, []byte{';'})
		if equalFold(trimOWS(coding), "gzip") {
			weight = bytes.TrimPrefix(trimOWS(weight), []byte("q="))
			return len(weight) == 0 || len(bytes.Trim(weight, "0.")) > 0
		}
	}
	return false
}
