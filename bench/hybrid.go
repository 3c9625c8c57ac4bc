package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Pomelo's packages and messages (one byte of type, three of length; flag, id, route, body).
const (
	packageHandshake = 1
	packageAck       = 2
	packageHeartbeat = 3
	packageData      = 4
	packageKick      = 5
	packageHead      = 4

	messageRequest  = 0
	messageResponse = 2
	messagePush     = 3
)

const clientHandshake = `{"sys":{"type":"bench","version":"1.0.0","rsa":{},"protoVersion":0},"user":{}}`

// hybrid is a client of a hybrid connector. Over TCP packages stand back to back; over a WebSocket there are one or more
// in each binary frame, never one split between two.
type hybrid struct {
	ws *websocket // nil: TCP

	// The dictionary that the server told in its handshake, if any.
	codes  map[string]uint16
	routes map[uint16][]byte
}

func (h *hybrid) hello(s sink, host string) {
	if h.ws == nil {
		h.handshake(s)
	} else {
		s.send(appendUpgrade(s.buffer(), host, "/"))
	}
}

func (h *hybrid) handshake(s sink) {
	b, at := h.begin(s, packageHandshake)
	h.end(s, append(b, clientHandshake...), at)
}

func (h *hybrid) ack(s sink)       { b, at := h.begin(s, packageAck); h.end(s, b, at) }
func (h *hybrid) heartbeat(s sink) { b, at := h.begin(s, packageHeartbeat); h.end(s, b, at) }

func (h *hybrid) request(s sink, id uint32, route string, body []byte) {
	b, at := h.begin(s, packageData)
	if code, ok := h.codes[route]; ok {
		b = binary.AppendUvarint(append(b, messageRequest<<1|1), uint64(id))
		b = binary.BigEndian.AppendUint16(b, code)
	} else {
		b = binary.AppendUvarint(append(b, messageRequest<<1), uint64(id))
		b = append(b, byte(len(route)))
		b = append(b, route...)
	}
	h.end(s, append(b, body...), at)
}

// begin starts a package at b[at:]; its body is to be appended.
func (h *hybrid) begin(s sink, t byte) (b []byte, at int) {
	if b = s.buffer(); h.ws != nil {
		b = h.ws.begin(b)
	}
	return appendPackageHead(b, t, 0), len(b)
}

func (h *hybrid) end(s sink, b []byte, at int) {
	appendPackageHead(b[:at], b[at], len(b)-at-packageHead)
	if h.ws != nil {
		b = h.ws.seal(b, wsBinary)
	}
	s.send(b)
}

func appendPackageHead(dst []byte, t byte, n int) []byte {
	return append(dst, t, byte(n>>16), byte(n>>8), byte(n))
}

func (h *hybrid) read(b []byte, s sink) (int, error) {
	if h.ws != nil {
		return h.ws.read(b, s, h.handshake, h.wholePackages)
	}
	at := 0
	for {
		n, err := h.readPackage(b[at:], s)
		if n == 0 || err != nil {
			return at, err
		}
		at += n
	}
}

// wholePackages takes a frame's packages: at least one, and nothing left over.
func (h *hybrid) wholePackages(b []byte, s sink) error {
	for first := true; first || len(b) > 0; first = false {
		n, err := h.readPackage(b, s)
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("frame that does not end with a package")
		}
		b = b[n:]
	}
	return nil
}

// readPackage takes one whole package, 0 bytes if it is not all there.
func (h *hybrid) readPackage(b []byte, s sink) (int, error) {
	if len(b) < packageHead {
		return 0, nil
	}
	end := packageHead + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if b[0] < packageHandshake || b[0] > packageKick {
		return 0, fmt.Errorf("package of type %d", b[0])
	}
	if len(b) < end {
		return 0, nil
	}
	body := b[packageHead:end]
	switch b[0] {
	case packageData:
		return end, h.readMessage(body, s)
	case packageHeartbeat:
		s.beat()
	case packageHandshake:
		return end, h.shaken(body, s)
	case packageKick:
		return end, fmt.Errorf("kicked: %.100s", body)
	}
	return end, nil
}

var errMessage = errors.New("message cut short")

func (h *hybrid) readMessage(b []byte, s sink) error {
	if len(b) == 0 {
		return errMessage
	}
	flag, b := b[0], b[1:]
	switch flag >> 1 & 7 {
	case messageResponse:
		id, n := binary.Uvarint(b)
		if n <= 0 {
			return errMessage
		}
		s.answered(uint32(id), b[n:])
		return nil
	case messagePush:
		if flag&1 != 0 {
			if len(b) < 2 {
				return errMessage
			}
			code := binary.BigEndian.Uint16(b)
			route, ok := h.routes[code]
			if !ok {
				return fmt.Errorf("push with code %d, which the dictionary does not have", code)
			}
			s.pushed(route, b[2:])
			return nil
		}
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return errMessage
		}
		n := 1 + int(b[0])
		s.pushed(b[1:n], b[n:])
		return nil
	}
	return fmt.Errorf("message with flag %#x", flag)
}

// shaken takes the server's handshake. Of protobuf nothing need be known: marks are found in any encoding, and nothing that is
// sent has a definition.
func (h *hybrid) shaken(body []byte, s sink) error {
	var shake struct {
		Code int
		Sys  struct {
			Heartbeat float64 // seconds
			Dict      map[string]uint16
		}
	}
	if err := json.Unmarshal(body, &shake); err != nil {
		return err
	}
	if shake.Code != 200 {
		return fmt.Errorf("handshake answered %.100s", body)
	}
	if h.codes = shake.Sys.Dict; len(h.codes) > 0 {
		h.routes = make(map[uint16][]byte, len(h.codes))
		for route, code := range h.codes {
			h.routes[code] = []byte(route)
		}
	}
	h.ack(s)
	s.ready(time.Duration(shake.Sys.Heartbeat * float64(time.Second)))
	return nil
}
