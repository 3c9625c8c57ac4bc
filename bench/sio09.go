package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// sio09 is socket.io 0.9: packets are type:id:endpoint:data, messages of the server arrays of flat elements.
type sio09 struct {
	sid     string
	timeout time.Duration // the server asks at least so often whether the client is there
}

func (d *sio09) path(transport string) string {
	switch {
	case d.sid == "":
		return "/socket.io/1/"
	case transport == "polling":
		return "/socket.io/1/xhr-polling/" + d.sid
	}
	return "/socket.io/1/websocket/" + d.sid
}

// opened takes sid:heartbeat timeout:close timeout:transports.
func (d *sio09) opened(body []byte, _ func([]byte) error) error {
	sid, rest, _ := bytes.Cut(body, []byte(":"))
	seconds, _, ok := bytes.Cut(rest, []byte(":"))
	n, err := strconv.Atoi(string(seconds))
	if !ok || err != nil || len(sid) == 0 {
		return fmt.Errorf("handshake answered %.100q", body)
	}
	d.sid, d.timeout = string(sid), time.Duration(n)*time.Second
	return nil
}

func (d *sio09) take(packet []byte, s sink) (reply string, err error) {
	if data, ok := bytes.CutPrefix(packet, []byte("3:::")); ok {
		return "", takeArray(data, s)
	}
	switch kind, _, _ := bytes.Cut(packet, []byte(":")); string(kind) {
	case "0":
		return "", errors.New("disconnected by the server")
	case "1":
		s.ready(d.timeout)
	case "2":
		return "2::", nil
	case "8":
	default:
		return "", fmt.Errorf("%w: %.100q", errPacket, packet)
	}
	return "", nil
}

// takeArray takes the elements one by one. They are told apart by what stands between them: nothing that this load
// generator says holds that, so nothing that it hears does; if it did, a piece would be no JSON and the run void.
func takeArray(data []byte, s sink) error {
	rest, ok := bytes.CutPrefix(data, []byte("["))
	rest, also := bytes.CutSuffix(rest, []byte("]"))
	if !ok || !also {
		return takeText(data, s)
	}
	for more := true; more; {
		var e []byte
		if i := bytes.Index(rest, []byte("},{")); i >= 0 {
			e, rest = rest[:i+1], rest[i+2:]
		} else {
			e, more = rest, false
		}
		if plain.quick(e, s) {
			continue
		}
		if err := takeText(e, s); err != nil {
			return err
		}
	}
	return nil
}

func (d *sio09) appendRequest(dst []byte, id uint32, route string, body []byte) []byte {
	return appendString(append(dst, "3:::"...), id, route, body)
}

func (d *sio09) heartbeat() string { return "" } // it is the server that asks

// Several packets in a payload are \ufffd length \ufffd packet each; one alone stands bare.
const replacement = "\ufffd"

func (d *sio09) payload(body []byte, take func([]byte) error) error {
	if !bytes.HasPrefix(body, []byte(replacement)) {
		return take(body)
	}
	for len(body) > 0 {
		rest, ok := bytes.CutPrefix(body, []byte(replacement))
		digits, rest, also := bytes.Cut(rest, []byte(replacement))
		n, err := unitsLength(digits, rest)
		if !ok || !also || err != nil {
			return fmt.Errorf("payload %.100q", body)
		}
		if err := take(rest[:n]); err != nil {
			return err
		}
		body = rest[n:]
	}
	return nil
}

func (d *sio09) appendPayload(dst []byte, packets [][]byte) []byte {
	if len(packets) == 1 {
		return append(dst, packets[0]...)
	}
	for _, p := range packets {
		dst = fmt.Appendf(dst, "%s%d%s", replacement, units(p), replacement)
		dst = append(dst, p...)
	}
	return dst
}

func (d *sio09) accepted() string { return "1" }

// units is the length of text in UTF-16 code units, as JavaScript counts.
func units(text []byte) (n int) {
	for len(text) > 0 {
		_, size := utf8.DecodeRune(text)
		n += 1 + size/4 // a character of four bytes takes two
		text = text[size:]
	}
	return n
}

// unitsLength is the number of bytes of text that as many code units take as digits say.
func unitsLength(digits, text []byte) (n int, err error) {
	left, err := strconv.Atoi(string(digits))
	if err != nil || left < 0 {
		return 0, fmt.Errorf("length %.20q", digits)
	}
	if i := min(left, len(text)); i == left && ascii(text[:i]) { // the usual case, quickly
		return left, nil
	}
	for left > 0 && n < len(text) {
		_, size := utf8.DecodeRune(text[n:])
		left -= 1 + size/4
		n += size
	}
	if left != 0 {
		return 0, errors.New("payload cut short")
	}
	return n, nil
}

func ascii(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
