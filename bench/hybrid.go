package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// wire is how one client talks. A conn has one of its own; it may keep state.
type wire interface {
	// hello is what the client says once it is connected, handshake when the sink was told opened, ack after the
	// server's handshake.
	hello(dst []byte, host string) []byte
	handshake(dst []byte) []byte
	ack(dst []byte) []byte
	// read takes whole units from the front of b, tells s, and returns how many bytes it took. Slices given to s are
	// valid until its method returns.
	read(b []byte, s sink) (int, error)
	heartbeat(dst []byte) []byte
	request(dst []byte, id uint32, route string, body []byte) []byte
}

// sink takes what a server says.
type sink interface {
	opened()                         // the transport stands: time for the handshake
	handshaken(body []byte) error    // the server's part of it
	beat()                           // heartbeat
	answered(id uint32, body []byte) // response
	pushed(route, body []byte)
	pinged(payload []byte) // WebSocket
}

// wires by the name that -wire takes.
var wires = map[string]func() wire{
	"tcp": func() wire { return hybridTCP{} },
	"ws":  func() wire { return &hybridWS{} },
}

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

// hybridTCP is packages back to back.
type hybridTCP struct{}

func (hybridTCP) hello(dst []byte, _ string) []byte { return dst }

func (hybridTCP) handshake(dst []byte) []byte {
	return append(appendPackageHead(dst, packageHandshake, len(clientHandshake)), clientHandshake...)
}

func (hybridTCP) ack(dst []byte) []byte       { return appendPackageHead(dst, packageAck, 0) }
func (hybridTCP) heartbeat(dst []byte) []byte { return appendPackageHead(dst, packageHeartbeat, 0) }

func (hybridTCP) request(dst []byte, id uint32, route string, body []byte) []byte {
	head := len(dst)
	dst = appendPackageHead(dst, packageData, 0)
	dst = append(dst, messageRequest<<1)
	dst = binary.AppendUvarint(dst, uint64(id))
	dst = append(dst, byte(len(route)))
	dst = append(dst, route...)
	dst = append(dst, body...)
	appendPackageHead(dst[:head], packageData, len(dst)-head-packageHead)
	return dst
}

func appendPackageHead(dst []byte, t byte, n int) []byte {
	return append(dst, t, byte(n>>16), byte(n>>8), byte(n))
}

func (hybridTCP) read(b []byte, s sink) (int, error) {
	at := 0
	for {
		n, err := readPackage(b[at:], s)
		if n == 0 || err != nil {
			return at, err
		}
		at += n
	}
}

// readPackage takes one whole package, 0 bytes if it is not all there.
func readPackage(b []byte, s sink) (int, error) {
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
		return end, readMessage(body, s)
	case packageHeartbeat:
		s.beat()
	case packageHandshake:
		return end, s.handshaken(body)
	case packageKick:
		return end, fmt.Errorf("kicked: %.100s", body)
	}
	return end, nil
}

var errMessage = errors.New("message cut short")

func readMessage(b []byte, s sink) error {
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
		n := 2 // a code of the dictionary
		var route []byte
		if flag&1 == 0 {
			if len(b) == 0 || len(b) < 1+int(b[0]) {
				return errMessage
			}
			n = 1 + int(b[0])
			route = b[1:n]
		}
		if len(b) < n {
			return errMessage
		}
		s.pushed(route, b[n:])
		return nil
	}
	return fmt.Errorf("message with flag %#x", flag)
}

// hybridWS is packages in binary frames: one or more in each, never split between two.
type hybridWS struct {
	upgraded bool
	masks    uint32 // state of the generator of mask keys
}

const (
	wsKey = "cG9tZWxvZC1iZW5jaC0xMg=="

	wsBinary = 0x2
	wsClose  = 0x8
	wsPing   = 0x9
	wsPong   = 0xA

	maxFrame = 64 << 20 // no server has a reason for more
)

var wsAccept = func() string {
	sum := sha1.Sum([]byte(wsKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}()

func (w *hybridWS) hello(dst []byte, host string) []byte {
	return fmt.Appendf(dst, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", host, wsKey)
}

func (w *hybridWS) handshake(dst []byte) []byte {
	return w.frame(dst, func(b []byte) []byte { return hybridTCP{}.handshake(b) })
}

func (w *hybridWS) ack(dst []byte) []byte {
	return w.frame(dst, func(b []byte) []byte { return hybridTCP{}.ack(b) })
}

func (w *hybridWS) heartbeat(dst []byte) []byte {
	return w.frame(dst, func(b []byte) []byte { return hybridTCP{}.heartbeat(b) })
}

func (w *hybridWS) request(dst []byte, id uint32, route string, body []byte) []byte {
	return w.frame(dst, func(b []byte) []byte { return hybridTCP{}.request(b, id, route, body) })
}

// frame appends what write appends as a masked binary frame.
func (w *hybridWS) frame(dst []byte, write func([]byte) []byte) []byte {
	return w.appendFrame(dst, wsBinary, write)
}

func (w *hybridWS) appendFrame(dst []byte, opcode byte, write func([]byte) []byte) []byte {
	const room = 2 + 8 + 4 // the longest head
	at := len(dst)
	dst = write(append(dst, make([]byte, room)...))
	n := len(dst) - at - room
	head := append(make([]byte, 0, room), 0x80|opcode)
	switch {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	// A key that changes, so that no server gets away with not unmasking.
	w.masks = w.masks*1664525 + 1013904223
	key := [4]byte{byte(w.masks >> 24), byte(w.masks >> 16), byte(w.masks >> 8), 0x5A}
	head = append(head, key[:]...)
	copy(dst[at:], head)
	copy(dst[at+len(head):], dst[at+room:])
	dst = dst[:at+len(head)+n]
	for i, payload := 0, dst[at+len(head):]; i < len(payload); i++ {
		payload[i] ^= key[i&3]
	}
	return dst
}

func (w *hybridWS) pong(dst, payload []byte) []byte {
	return w.appendFrame(dst, wsPong, func(b []byte) []byte { return append(b, payload...) })
}

func (w *hybridWS) read(b []byte, s sink) (int, error) {
	at := 0
	if !w.upgraded {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(b) > 16<<10 {
				return 0, errors.New("endless answer to the upgrade")
			}
			return 0, nil
		}
		if err := checkUpgrade(b[:end+4]); err != nil {
			return 0, err
		}
		w.upgraded = true
		at = end + 4
		s.opened()
	}
	for {
		n, err := readFrame(b[at:], s)
		if n == 0 || err != nil {
			return at, err
		}
		at += n
	}
}

func checkUpgrade(head []byte) error {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("upgrade answered %.100q", line)
	}
	for _, h := range bytes.Split(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(h, []byte(":"))
		if bytes.EqualFold(name, []byte("Sec-WebSocket-Accept")) && string(bytes.TrimSpace(value)) == wsAccept {
			return nil
		}
	}
	return errors.New("upgrade answered without the right Sec-WebSocket-Accept")
}

// readFrame takes one whole frame, 0 bytes if it is not all there.
func readFrame(b []byte, s sink) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	head, n := 2, int(b[1]&0x7F)
	switch n {
	case 126:
		if head = 4; len(b) < head {
			return 0, nil
		}
		n = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return 0, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > maxFrame {
			return 0, fmt.Errorf("frame of %d bytes", long)
		}
		n = int(long)
	}
	if b[1]&0x80 != 0 {
		return 0, errors.New("masked frame from a server")
	}
	if len(b) < head+n {
		return 0, nil
	}
	payload := b[head : head+n]
	switch b[0] {
	case 0x80 | wsBinary:
		return head + n, readPackages(payload, s)
	case 0x80 | wsPing:
		s.pinged(payload)
	case 0x80 | wsPong:
	case 0x80 | wsClose:
		code := 1005
		if len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
		}
		return head + n, fmt.Errorf("closed by the server with code %d", code)
	default: // fragments too: no server that is worth measuring cuts its messages up
		return 0, fmt.Errorf("frame that begins with %#x", b[0])
	}
	return head + n, nil
}

// readPackages takes a frame's packages: at least one, and nothing left over.
func readPackages(b []byte, s sink) error {
	for first := true; first || len(b) > 0; first = false {
		n, err := readPackage(b, s)
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

// serverHandshake is what the load generator needs of it. Dictionary and protobuf may be on: text routes are always
// understood, and marks are found in any encoding.
type serverHandshake struct {
	Code int `json:"code"`
	Sys  struct {
		Heartbeat float64 `json:"heartbeat"` // seconds; 0: none
	} `json:"sys"`
}

func parseHandshake(body []byte) (h serverHandshake, err error) {
	if err = json.Unmarshal(body, &h); err == nil && h.Code != 200 {
		err = fmt.Errorf("handshake answered %.100s", body)
	}
	return h, err
}
