package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// deaf is a sink that only looks for marks, as a crowd does.
type deaf struct {
	b     []byte
	found int
}

func (d *deaf) buffer() []byte          { return d.b[:0] }
func (d *deaf) send([]byte)             {}
func (d *deaf) second(wire) sink        { return d }
func (d *deaf) ready(time.Duration)     {}
func (d *deaf) beat()                   {}
func (d *deaf) answered(uint32, []byte) {}

func (d *deaf) pushed(_, body []byte) {
	if _, ok := findMark(body); ok {
		d.found++
	}
}

// What the load generator spends on a delivery when eight of them come at once, as they do from a server that merges: it limits
// the load.
func BenchmarkRead(b *testing.B) {
	const n = 8
	content := string(mark{1, 2, 3}.append(nil)) + strings.Repeat(".", 30)
	flat := `{"route":"onChat","msg":"` + content + `","from":"m00001","target":"*"}`
	hybrid := push("onChat", `{"msg":"`+content+`","from":"m00001","target":"*"}`)
	event := `42["message","` + string(appendEscaped(nil, []byte(`{"route":"onChat","body":`+flat+`}`))) + `"]`
	old, events := slices.Repeat([]string{"3:::[" + flat + "]"}, n), slices.Repeat([]string{event}, n)
	streams := map[string][2]string{ // before, and then again and again
		"tcp":           {"", strings.Repeat(string(hybrid), n)},
		"ws":            {upgraded, strings.Repeat(string(serverFrame(wsBinary, hybrid)), n)},
		"sio09":         {ok("abc:60:60:x") + upgraded + texts("1::"), texts(old...)},
		"eio3":          {upgraded + texts(opened3, "40"), texts(events...)},
		"eio4":          {upgraded + texts(opened4, "40"), texts(events...)},
		"sio09-polling": {ok("abc:60:60:x"), ok(payload09(old...))},
		"eio3-polling":  {ok(payload3(opened3, "40")), ok(payload3(events...))},
		"plain":         {upgraded, texts(slices.Repeat([]string{`{"msg":"` + content + `","from":"m00001"}`}, n)...)},
		"sio4":          {upgraded + texts(opened4, "40"), texts(slices.Repeat([]string{`42["chat",{"msg":"` + content + `","from":"m00001"}]`}, n)...)},
		"centrifuge":    {upgraded, texts(strings.Repeat(`{"push":{"channel":"r","pub":{"data":{"msg":"`+content+`"},"info":{"user":"m00001","client":"x"}}}}`+"\n", n))},
		"eio4-polling":  {ok(opened4) + ok("ok") + ok("40"), ok(strings.Join(events, "\x1e"))},
	}
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		b.Run("wire="+name, func(b *testing.B) {
			s, w := &deaf{b: make([]byte, 0, 1<<10)}, newWire(name)
			stream := []byte(streams[name][1])
			if _, err := w.read([]byte(streams[name][0]), s); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := w.read(stream, s); err != nil {
					b.Fatal(err)
				}
			}
			if s.found < n*b.N {
				b.Fatal("marks were not found")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/delivery")
		})
	}
}
