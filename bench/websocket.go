package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// websocket is one WebSocket, client side: RFC 6455 without fragments and extensions.
type websocket struct {
	opcode byte   // of the frames that carry something
	open   bool   // upgraded
	masks  uint32 // state of the generator of mask keys
}

const (
	wsKey = "cG9tZWxvZC1iZW5jaC0xMg==" // always the same: floor/wire.h knows the answer

	wsText   = 0x1
	wsBinary = 0x2
	wsClose  = 0x8
	wsPing   = 0x9
	wsPong   = 0xA

	maxFrame = 64 << 20 // no server has a reason for more
	maxHead  = 16 << 10 // of an HTTP answer
)

var wsAccept = func() string {
	sum := sha1.Sum([]byte(wsKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}()

func appendUpgrade(dst []byte, host, path string) []byte {
	return fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", path, host, wsKey)
}

// A frame is written payload first: begin leaves room for the longest head, seal puts the head in front of what has been
// appended since, masks that, and returns the frame, which lies in b.
const frameRoom = 2 + 8 + 4

func (w *websocket) begin(dst []byte) []byte { return append(dst, make([]byte, frameRoom)...) }

func (w *websocket) seal(b []byte, opcode byte) []byte {
	payload := b[frameRoom:]
	n := len(payload)
	head := append(make([]byte, 0, frameRoom), 0x80|opcode)
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
	for i := range payload {
		payload[i] ^= key[i&3]
	}
	b = b[frameRoom-len(head):]
	copy(b, head)
	return b
}

// read takes the answer to the upgrade, tells opened, and then whole frames, giving the payload of each to take.
func (w *websocket) read(b []byte, s sink, opened func(sink), take func([]byte, sink) error) (int, error) {
	at := 0
	if !w.open {
		n, err := checkUpgrade(b)
		if n == 0 || err != nil {
			return 0, err
		}
		w.open = true
		at = n
		opened(s)
	}
	for {
		opcode, payload, n, err := readFrame(b[at:])
		if n == 0 || err != nil {
			return at, err
		}
		if opcode == w.opcode {
			err = take(payload, s)
		} else {
			err = w.control(opcode, payload, s)
		}
		if err != nil {
			return at, err
		}
		at += n
	}
}

// control takes a frame that carries nothing of ours.
func (w *websocket) control(opcode byte, payload []byte, s sink) error {
	switch opcode {
	case wsPing:
		s.send(w.seal(append(w.begin(s.buffer()), payload...), wsPong))
	case wsPong:
	case wsClose:
		code := 1005
		if len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
		}
		return fmt.Errorf("closed by the server with code %d", code)
	default:
		return fmt.Errorf("frame of opcode %#x", opcode)
	}
	return nil
}

// checkUpgrade returns the length of the answer, 0 if it is not all there.
func checkUpgrade(b []byte) (int, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(b) > maxHead:
		return 0, errors.New("endless answer to the upgrade")
	case end < 0:
		return 0, nil
	}
	if line, _, _ := bytes.Cut(b, []byte("\r\n")); !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return 0, fmt.Errorf("upgrade answered %.100q", line)
	}
	if string(headerOf(b[:end], "Sec-WebSocket-Accept")) != wsAccept {
		return 0, errors.New("upgrade answered without the right Sec-WebSocket-Accept")
	}
	return end + 4, nil
}

// readFrame takes one whole frame, 0 bytes if it is not all there.
func readFrame(b []byte) (opcode byte, payload []byte, n int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0xF0 != 0x80 { // fragments too: no server that is worth measuring cuts its messages up
		return 0, nil, 0, fmt.Errorf("frame that begins with %#x", b[0])
	}
	if b[1]&0x80 != 0 {
		return 0, nil, 0, errors.New("masked frame from a server")
	}
	head, size := 2, uint64(b[1])
	switch {
	case size == 126 && len(b) >= 4:
		head, size = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127 && len(b) >= 10:
		head, size = 10, binary.BigEndian.Uint64(b[2:])
	case size >= 126:
		return 0, nil, 0, nil
	}
	if size > maxFrame {
		return 0, nil, 0, fmt.Errorf("frame of %d bytes", size)
	}
	n = head + int(size)
	if len(b) < n {
		return 0, nil, 0, nil
	}
	return b[0] & 0x0F, b[head:n], n, nil
}
