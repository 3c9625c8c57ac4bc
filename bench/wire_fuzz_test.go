package main

import (
	"bytes"
	"maps"
	"slices"
	"testing"
)

// Whatever a server says, however it is cut: no wire panics, and each hears the same as from the whole.
func FuzzRead(f *testing.F) {
	names := slices.Sorted(maps.Keys(wires))
	seeds := map[string]string{
		"tcp":           string(slices.Concat(push("onChat", "a"), answer(1, "{}"), appendPackageHead(nil, packageHeartbeat, 0))),
		"ws":            upgraded + string(serverFrame(wsBinary, push("onChat", "a"))),
		"sio09":         ok("abc:60:60:websocket") + upgraded + texts("1::", merged, unusual),
		"eio3":          upgraded + texts(opened3, "40", wrapped, quoted, array),
		"eio4":          upgraded + texts(opened4, `40{"sid":"x"}`, "2", unusual3),
		"sio09-polling": ok("abc:60:60:x") + ok(payload09("1::", merged)),
		"eio3-polling":  ok(payload3(opened3, "40", wrapped)),
		"eio4-polling":  ok(opened4) + ok("ok") + ok(`40{"sid":"x"}`+"\x1e"+wrapped),
		"plain":         upgraded + texts(plainTexts...),
		"sio4":          upgraded + texts(ackedPackets...),
		"centrifuge":    upgraded + texts(centrifugeTexts...),
	}
	for i, name := range names {
		f.Add(byte(i), len(seeds[name])/2, []byte(seeds[name]))
	}
	f.Fuzz(func(t *testing.T, i byte, cut int, b []byte) {
		name := names[int(i)%len(names)]
		read := func(chunks ...[]byte) ([]string, bool) {
			var h heard
			w := newWire(name)
			var in []byte
			for _, c := range chunks {
				in = append(in, c...)
				n, err := w.read(bytes.Clone(in), &h)
				if err != nil {
					return h.events, false
				}
				in = in[n:]
			}
			return h.events, true
		}
		whole, fine := read(b)
		cut = min(max(cut, 0), len(b))
		if got, also := read(b[:cut], b[cut:]); !slices.Equal(got, whole) || fine != also {
			t.Errorf("%s: heard %q, %v; cut at %d %q, %v", name, whole, fine, cut, got, also)
		}
	})
}
