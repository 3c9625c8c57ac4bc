package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// engine is Engine.IO 3 (socket.io 1 and 2) or 4 (socket.io 3 and 4): packets are a digit and data; in those of type 4 are
// socket.io's, a digit and data again.
type engine struct {
	version int // 3 or 4
	sid     string
	every   time.Duration // pings: the client's in version 3, the server's in version 4
	text    []byte        // what is being said, before it is escaped
}

func (d *engine) path(transport string) string {
	path := fmt.Sprintf("/socket.io/?EIO=%d&transport=%s", d.version, transport)
	if d.version == 3 && transport == "polling" {
		path += "&b64=1" // text payloads, as Node's clients want them
	}
	if d.sid != "" {
		path += "&sid=" + d.sid
	}
	return path
}

func (d *engine) opened(body []byte, take func([]byte) error) error {
	if err := d.payload(body, take); err != nil {
		return err
	}
	if d.sid == "" {
		return fmt.Errorf("no session was opened: %.100q", body)
	}
	return nil
}

func (d *engine) take(packet []byte, s sink) (reply string, err error) {
	if len(packet) == 0 {
		return "", errPacket
	}
	switch data := packet[1:]; {
	case packet[0] == '4':
		return "", d.message(data, s)
	case packet[0] == '0' && d.sid == "":
		return d.open(data)
	case packet[0] == '1':
		return "", errors.New("closed by the server")
	case packet[0] == '2' && d.version == 4:
		return "3" + string(data), nil
	case packet[0] == '3' && d.version == 3:
		s.beat()
		return "", nil
	case packet[0] == '6':
		return "", nil
	}
	return "", fmt.Errorf("%w: %.100q", errPacket, packet)
}

func (d *engine) open(data []byte) (reply string, err error) {
	var settings struct {
		SID          string
		PingInterval int64 // milliseconds
	}
	if err := json.Unmarshal(data, &settings); err != nil || settings.SID == "" {
		return "", fmt.Errorf("session opened with %.100q", data)
	}
	d.sid, d.every = settings.SID, time.Duration(settings.PingInterval)*time.Millisecond
	if d.version == 4 {
		return "40", nil // it is the client that connects
	}
	return "", nil
}

// message takes a socket.io packet.
func (d *engine) message(packet []byte, s sink) error {
	if data, ok := bytes.CutPrefix(packet, []byte(`2["message","`)); ok {
		if text, ok := bytes.CutSuffix(data, []byte(`"]`)); ok && escaped.quick(text, s) {
			return nil
		}
	}
	switch {
	case bytes.HasPrefix(packet, []byte("0")):
		s.ready(d.every)
		if d.version == 3 {
			s.beat()
		}
		return nil
	case bytes.HasPrefix(packet, []byte("1")):
		return errors.New("disconnected by the server")
	case bytes.HasPrefix(packet, []byte("2")):
		var event []string
		if json.Unmarshal(packet[1:], &event) == nil && len(event) == 2 && event[0] == "message" {
			return takeText([]byte(event[1]), s)
		}
	}
	return fmt.Errorf("%w: 4%.100q", errPacket, packet)
}

func (d *engine) appendRequest(dst []byte, id uint32, route string, body []byte) []byte {
	d.text = appendString(d.text[:0], id, route, body)
	dst = appendEscaped(append(dst, `42["message","`...), d.text)
	return append(dst, `"]`...)
}

func (d *engine) heartbeat() string { return "2" }

// Version 4 puts U+001E between packets, version 3 a length in code units before each.
const separator = 0x1E

func (d *engine) payload(body []byte, take func([]byte) error) error {
	for more := true; more; {
		var packet []byte
		if d.version == 4 {
			packet, body, more = bytes.Cut(body, []byte{separator})
		} else {
			digits, rest, ok := bytes.Cut(body, []byte(":"))
			n, err := unitsLength(digits, rest)
			if !ok || err != nil {
				return fmt.Errorf("payload %.100q", body)
			}
			packet, body = rest[:n], rest[n:]
			more = len(body) > 0
		}
		if err := take(packet); err != nil {
			return err
		}
	}
	return nil
}

func (d *engine) appendPayload(dst []byte, packets [][]byte) []byte {
	for i, p := range packets {
		switch {
		case d.version == 3:
			dst = append(strconv.AppendInt(dst, int64(units(p)), 10), ':')
		case i > 0:
			dst = append(dst, separator)
		}
		dst = append(dst, p...)
	}
	return dst
}

func (d *engine) accepted() string { return "ok" }
