package codec

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gobwas/ws"
)

// The paths that every message takes allocate nothing.
func TestWirePathsDoNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 4096)
	pkg := AppendPackage(nil, PackageData, make([]byte, 64))
	msg, _ := AppendMessage(nil, Message{ID: 300, Route: []byte("chat.chatHandler.send"), Body: []byte("{}")})
	frame := wsClientFrame(0x82, string(pkg))
	text := wsClientFrame(0x81, "☃ of a text")
	bad := wsClientFrame(0x83, "")
	head := []byte(wsUpgradeRequest())
	h, _, _, _ := ParseHTTPHead(head, 0, 8192)
	var r WSReader
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"ParsePackage", func() { ParsePackage(pkg, 1024) }},
		{"ParsePackage error", func() { ParsePackage(pkg, 1) }},
		{"ParseMessage", func() { ParseMessage(msg) }},
		{"ParseMessage error", func() { ParseMessage(msg[:2]) }},
		{"WSReader.Next", func() { r.Next(frame, 1024) }},
		{"WSReader.Next text", func() { copy(text, wsTextFrame); r.Next(text, 1024) }},
		{"WSReader.Next error", func() { r.Next(bad, 1024) }},
		{"AppendPackageHead", func() { AppendPackageHead(dst, PackageData, 64) }},
		{"AppendResponseHead", func() { AppendResponseHead(dst, 1<<31, 0) }},
		{"appendPushHead", func() { appendPushHead(dst, "onChat") }},
		{"appendPushHeadCode", func() { appendPushHeadCode(dst, 7) }},
		{"AppendWSHead", func() { AppendWSHead(dst, WSBinary, 70000) }},
		{"AppendWSClose", func() { AppendWSClose(dst, WSCloseNormal, "bye") }},
		{"ParseHTTPHead", func() { ParseHTTPHead(head, 0, 8192) }},
		{"CheckUpgrade", func() { _ = h.CheckUpgrade() }},
		{"AppendUpgradeResponse", func() { AppendUpgradeResponse(dst, h.SecWebSocketKey, h.Subprotocol()) }},
		{"AppendHTTPResponse", func() { AppendHTTPResponse(dst, 200, "text/plain", pkg, true, HTTPHeader{"A", "b"}) }},
		{"AppendHTTPError", func() { AppendHTTPError(dst, errUpgradeVersion) }},
	} {
		if n := testing.AllocsPerRun(100, c.run); n != 0 {
			t.Errorf("%s: %v allocs", c.name, n)
		}
	}
}

var wsTextFrame = wsClientFrame(0x81, "☃ of a text")

var wireBenchSizes = []int{64, 1024, 65536}

func BenchmarkParsePackage(b *testing.B) {
	for _, size := range wireBenchSizes[:2] {
		pkg := AppendPackage(nil, PackageData, make([]byte, size))
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParsePackage(pkg, 1<<18)
			}
		})
	}
}

func BenchmarkParseMessage(b *testing.B) {
	for _, c := range []struct {
		name string
		m    Message
	}{
		{"route=text", Message{ID: 300, Route: []byte("chat.chatHandler.send")}},
		{"route=code", Message{ID: 300, Compressed: true, Code: 1}},
	} {
		msg, _ := AppendMessage(nil, c.m)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseMessage(msg)
			}
		})
	}
}

// BenchmarkAppendPush is the head of a push as it leaves: frame, package and message.
func BenchmarkAppendPush(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		out := AppendWSHead(dst, WSBinary, 12+100)
		out = AppendPackageHead(out, PackageData, 8+100)
		appendPushHead(out, "onChat")
	}
}

func BenchmarkWSReader(b *testing.B) {
	for _, kind := range []WSKind{WSBinary, WSText} {
		for _, size := range wireBenchSizes {
			b.Run(fmt.Sprintf("kind=%d/size=%d", kind, size), func(b *testing.B) {
				payload := string(bytes.Repeat([]byte{'x'}, size))
				frame := wsClientFrame(0x80|byte(kind), payload)
				mask := [4]byte(frame[len(frame)-size-4:])
				var r WSReader
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					ev, _, err := r.Next(frame, 1<<18)
					if err != nil {
						b.Fatal(err)
					}
					if kind == WSText { // masked again, or the next round would not be text
						ws.Cipher(ev.Payload, mask, 0)
					}
				}
			})
		}
	}
}

func BenchmarkParseHTTPHead(b *testing.B) {
	head := []byte(httpLines("GET /socket.io/?EIO=3&transport=websocket HTTP/1.1", "Host: chat.example.com:3010",
		"Connection: Upgrade", "Pragma: no-cache", "Cache-Control: no-cache",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
		"Upgrade: websocket", "Origin: http://chat.example.com", "Sec-WebSocket-Version: 13",
		"Accept-Encoding: gzip, deflate", "Accept-Language: en,de;q=0.9", "Sec-WebSocket-Key: "+wsTestKey,
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
	b.Run("arrival=whole", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(head)))
		for b.Loop() {
			if _, n, _, err := ParseHTTPHead(head, 0, 8192); n == 0 || err != nil {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("arrival=bytewise", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(head)))
		for b.Loop() {
			searched := 0
			for end := range len(head) + 1 {
				_, _, searched, _ = ParseHTTPHead(head[:end], searched, 8192)
			}
		}
	})
}

func BenchmarkAppendUpgradeResponse(b *testing.B) {
	dst, key := make([]byte, 0, 256), []byte(wsTestKey)
	b.ReportAllocs()
	for b.Loop() {
		AppendUpgradeResponse(dst, key, nil)
	}
}
