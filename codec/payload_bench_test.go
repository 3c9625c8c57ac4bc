package codec

import (
	"fmt"
	"strings"
	"testing"
)

// sioTexts are messages as clients send them: ASCII, and Chinese with a character above U+FFFF.
var sioTexts = []struct{ name, text string }{
	{"ascii", sioSend(strings.Repeat("hello ", 10))},
	{"cjk", sioSend(strings.Repeat("你好", 10) + "😀")},
}

func sioSend(content string) string {
	return string(sioString(300, "chat.chatHandler.send", `{"rid":"lobby","content":"`+content+`","from":"a","target":"*","timestamp":1360239219157}`))
}

func sioEventPacket(text string) []byte {
	return append(appendQuoted([]byte(`42["message",`), []byte(text), false), ']')
}

var payloadForms = []struct {
	name string
	form PayloadForm
}{
	{"sio09", PayloadSIO09}, {"eio3text", PayloadEIO3Text}, {"eio3binary", PayloadEIO3Binary}, {"eio4", PayloadEIO4},
}

// benchStream is a POST or an answer of some packets.
func benchStream(text string, form PayloadForm) []byte {
	packet := sioEventPacket(text)
	if form == PayloadSIO09 {
		packet = []byte("3:::" + text)
	}
	var stream []byte
	for range 4 {
		stream = AppendPacket(stream, packet)
	}
	return stream
}

// What every message and poll of a socket.io client takes allocates nothing, given room.
func TestSIOPathsDoNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 8192)
	for _, c := range sioTexts {
		text, packet := []byte(c.text), sioEventPacket(c.text)[1:]
		message09, event09 := []byte("3:::"+c.text), append(appendQuoted([]byte(`5:::{"name":"message","args":[`), text, false), "]}"...)
		form := []byte("d=" + strings.ReplaceAll(string(appendQuoted(nil, text, false)), `"`, "%22"))
		runs := map[string]func(){
			"ParseSIOMessage":    func() { ParseSIOMessage(text) },
			"AppendEventText":    func() { p, _ := ParseSIOPacket(packet); p.AppendEventText(dst) },
			"AppendText message": func() { p, _ := ParseSIO09Packet(message09); p.AppendText(dst) },
			"AppendText event":   func() { p, _ := ParseSIO09Packet(event09); p.AppendText(dst) },
			"AppendJSONP":        func() { AppendJSONP(dst, "___eio[0]", text) },
			"AppendJSONPBody 09": func() { AppendJSONPBody(dst, form, PayloadSIO09) },
			"AppendJSONPBody":    func() { AppendJSONPBody(dst, form, PayloadEIO3Text) },
		}
		for _, f := range payloadForms {
			stream := benchStream(c.text, f.form)
			body := AppendPayload(nil, stream, f.form)
			runs["AppendPayload "+f.name] = func() { AppendPayload(dst, stream, f.form) }
			runs["AppendPackets "+f.name] = func() { AppendPackets(dst, body, f.form) }
		}
		for name, run := range runs {
			if n := testing.AllocsPerRun(100, run); n != 0 {
				t.Errorf("%s of %s: %v allocs", name, c.name, n)
			}
		}
	}
}

func BenchmarkAppendPayload(b *testing.B) {
	benchmarkPayload(b, func(dst, stream, _ []byte, form PayloadForm) { AppendPayload(dst, stream, form) })
}

func BenchmarkAppendPackets(b *testing.B) {
	benchmarkPayload(b, func(dst, _, body []byte, form PayloadForm) { AppendPackets(dst, body, form) })
}

// benchmarkPayload runs four packets through run in every form.
func benchmarkPayload(b *testing.B, run func(dst, stream, body []byte, form PayloadForm)) {
	dst := make([]byte, 0, 8192)
	for _, f := range payloadForms {
		for _, c := range sioTexts {
			stream := benchStream(c.text, f.form)
			body := AppendPayload(nil, stream, f.form)
			b.Run(fmt.Sprintf("form=%s/text=%s", f.name, c.name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					run(dst, stream, body, f.form)
				}
			})
		}
	}
}

func BenchmarkParseSIOMessage(b *testing.B) {
	for _, c := range sioTexts {
		text := []byte(c.text)
		b.Run("text="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				ParseSIOMessage(text)
			}
		})
	}
}

func BenchmarkAppendEventText(b *testing.B) {
	dst := make([]byte, 0, 1024)
	for _, c := range sioTexts {
		packet := sioEventPacket(c.text)[1:]
		b.Run("text="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(packet)))
			for b.Loop() {
				p, _ := ParseSIOPacket(packet)
				p.AppendEventText(dst)
			}
		})
	}
}
