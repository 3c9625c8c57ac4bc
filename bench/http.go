package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// errNotKept is for servers that end a connection which was to be kept: each request would pay for a new one.
var errNotKept = errors.New("HTTP answer that ends the connection")

func appendGet(dst []byte, host, path string) []byte {
	return fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n\r\n", path, host)
}

// appendPostHead is for a body of n bytes, which must follow.
func appendPostHead(dst []byte, host, path string, n int) []byte {
	return fmt.Appendf(dst, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n", path, host, n)
}

// readResponse takes one whole answer with its body, 0 bytes if it is not all there. Anything but a 200 of known length on a
// connection that stays is an error.
func readResponse(b []byte) (body []byte, n int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxHead {
			err = errors.New("endless HTTP head")
		}
		return nil, 0, err
	}
	head, body := b[:end], b[end+4:]
	size, err := strconv.Atoi(string(headerOf(head, "Content-Length")))
	switch {
	case err != nil || size < 0 || size > maxFrame:
		return nil, 0, fmt.Errorf("HTTP answer without a length: %.200q", head)
	case len(body) < size:
		return nil, 0, nil
	case !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")):
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return nil, 0, fmt.Errorf("answered %.100q, %.200q", line, body[:size])
	case bytes.EqualFold(headerOf(head, "Connection"), []byte("close")):
		return nil, 0, errNotKept
	}
	return body[:size], end + 4 + size, nil
}

// headerOf finds a header's value, nil if there is none.
func headerOf(head []byte, name string) []byte {
	for {
		_, rest, ok := bytes.Cut(head, []byte("\r\n"))
		if !ok {
			return nil
		}
		if head = rest; len(head) > len(name) && head[len(name)] == ':' && bytes.EqualFold(head[:len(name)], []byte(name)) {
			value, _, _ := bytes.Cut(head[len(name)+1:], []byte("\r\n"))
			return bytes.TrimSpace(value)
		}
	}
}
