package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/golden"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// oneOf is a number of any size.
func oneOf(rng *rand.Rand) uint64 { return rng.Uint64() >> rng.IntN(64) }

func textOf(rng *rand.Rand, longest int) string {
	b := make([]byte, rng.IntN(longest+1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

func bytesOf(rng *rand.Rand, longest int) []byte {
	if s := textOf(rng, longest); s != "" {
		return []byte(s)
	}
	return nil
}

func idOf(rng *rand.Rand) ViewID {
	return ViewID{View: oneOf(rng) | 1, Maker: channel.NewNode(uint16(1+rng.IntN(5)), oneOf(rng))}
}

func runOf(rng *rand.Rand) runID {
	return runID{Name: "n" + textOf(rng, 20), Run: 1 + oneOf(rng)>>17}
}

func viewOf(rng *rand.Rand) *View {
	v := &View{ID: idOf(rng), Members: idOf(rng)}
	for range rng.IntN(maxAncestors + 1) {
		v.Ancestors = append(v.Ancestors, idOf(rng))
	}
	for range rng.IntN(6) {
		r := runOf(rng)
		v.Names = append(v.Names, Name{Name: r.Name, Run: r.Run, Gone: oneOf(rng) >> 17, Roles: Roles(rng.IntN(8)), Host: textOf(rng, 20)})
	}
	some := []ViewID{{}, v.ID, idOf(rng), idOf(rng)}
	number := func() uint16 { return uint16(rng.IntN(len(v.Names) + 1)) }
	v.Shares = make([]Share, channel.Partitions)
	for i := range v.Shares {
		s := &v.Shares[i]
		s.Owner, s.Follower, s.Joiner = number(), number(), number()
		for _, id := range s.ids() {
			if *id = some[rng.IntN(len(some))]; rng.IntN(30) == 0 {
				*id = idOf(rng)
			}
		}
	}
	return v
}

// pushesOf makes pushes of two rooms' streams, some numbered, and of none.
func pushesOf(rng *rand.Rand) func() *codec.Push {
	streams := []*codec.Stream{nil, {Room: textOf(rng, 20), Incarnation: oneOf(rng)}, {Room: "other", Incarnation: oneOf(rng)}}
	return func() *codec.Push {
		p := &codec.Push{Route: textOf(rng, 10), Body: bytesOf(rng, 300), Shared: new(codec.SharedFrames)}
		if p.Stream = streams[rng.IntN(len(streams))]; p.Stream != nil {
			p.Seq, p.Time, p.ForExtended = oneOf(rng)*uint64(rng.IntN(2)), int64(oneOf(rng)), rng.IntN(4) == 0
		}
		return p
	}
}

func itemsOf(rng *rand.Rand) (items []channel.Item) {
	next := pushesOf(rng)
	push := next()
	for range rng.IntN(5) {
		it := channel.Item{Kind: channel.ItemKind(1 + rng.IntN(6)), Part: uint16(rng.IntN(channel.Partitions)), N: oneOf(rng), Epoch: idOf(rng), Seq: oneOf(rng)}
		if it.Kind == channel.ItemPush || it.Kind == channel.ItemDirect {
			if it.Push = push; rng.IntN(3) == 0 {
				push = next()
			}
		} else {
			it.Body = bytesOf(rng, 300)
		}
		items = append(items, it)
	}
	return items
}

// messageOf is a message with something in each field of its kind, and nothing in others.
func messageOf(rng *rand.Rand, kind Kind) *Message {
	m := &Message{Kind: kind, Part: uint16(rng.IntN(channel.Partitions)), Epoch: idOf(rng)}
	has := fieldsOf[kind]
	for i, id := range m.ids() {
		if has&(fieldNaming<<i) != 0 {
			*id = idOf(rng)
		}
	}
	for i, n := range m.numbers() {
		if has&(fieldIndex<<i) != 0 {
			*n = oneOf(rng)
		}
	}
	if has&fieldNode != 0 {
		m.Node = channel.Node(oneOf(rng))
	}
	if has&fieldRequest != 0 {
		m.Request = channel.Request{Op: channel.OpSend, Part: m.Part, N: oneOf(rng), Room: textOf(rng, 20), User: textOf(rng, 20), Content: bytesOf(rng, 300)}
	}
	if has&fieldNumber != 0 {
		m.Request.N = oneOf(rng)
	}
	if has&fieldRecords != 0 {
		for range rng.IntN(4) {
			m.Records = append(m.Records, channel.Record{Kind: channel.RecordAdd, Room: textOf(rng, 20), User: textOf(rng, 200), Num: oneOf(rng)})
		}
	}
	if has&fieldItems != 0 {
		m.Items = itemsOf(rng)
	}
	if has&fieldState != 0 {
		m.State = bytesOf(rng, 1000)
	}
	return m
}

func bodyOf(rng *rand.Rand, kind packetKind) body {
	switch kind {
	case packetHeartbeat:
		h := &heartbeat{
			Versions: versions{1, uint8(1 + rng.IntN(5))}, Number: oneOf(rng), View: idOf(rng), Roles: Roles(rng.IntN(8)), Host: textOf(rng, 20), Address: textOf(rng, 40),
			Load: oneOf(rng), Draining: rng.IntN(2) == 0, Deaf: rng.IntN(2) == 0, Ready: rng.IntN(2) == 0,
		}
		for range rng.IntN(6) {
			h.Echoes = append(h.Echoes, echo{Peer: runOf(rng), Number: oneOf(rng), Alive: rng.IntN(2) == 0})
		}
		if h.Deaf { // nothing random: the golden bytes of what follows depend on it
			h.Terms = "-auth none"
		}
		return h
	case packetGreeting:
		return &greeting{Versions: versions{1, 2}, Roles: Roles(rng.IntN(8)), Host: textOf(rng, maxName)}
	case packetView:
		return &viewBody{View: viewOf(rng)}
	case packetFetch:
		return &fetch{}
	case packetAsk:
		return &ask{Number: oneOf(rng)}
	case packetAnswer:
		a := &answer{Number: oneOf(rng)}
		if rng.IntN(3) > 0 {
			a.View = viewOf(rng)
		}
		return a
	case packetBatch:
		return &batch{To: oneOf(rng), Lane: lane(rng.IntN(int(lanes))), View: idOf(rng), Offset: oneOf(rng), Bytes: []byte("x" + textOf(rng, 300))}
	case packetBatchAck:
		return &batchAck{To: oneOf(rng), Lane: lane(rng.IntN(int(lanes))), Offset: oneOf(rng)}
	case packetRetire:
		return &retire{Run: oneOf(rng)}
	case packetNotes:
		b := new(notesBody)
		for range rng.IntN(4) {
			x := Note{Key: "k" + textOf(rng, 300), At: rng.Uint64N(maxNoteAt), Until: rng.Uint64N(2) * rng.Uint64N(maxNoteAt)}
			if rng.IntN(3) > 0 {
				x.Text = []byte("t" + textOf(rng, 300))
			}
			b.List = append(b.List, x)
		}
		return b
	case packetNotesSum:
		return &notesSum{oneOf(rng)}
	case packetNotesAsk:
		b := new(notesAsk)
		for i := range b.Sums {
			b.Sums[i] = oneOf(rng)
		}
		return b
	}
	panic("a kind without an example")
}

// Every packet is itself again after its encoding; what is cut short, and what has more at its end, is none. A heartbeat and a greeting
// may have more, as later versions know more.
func TestPacketsRoundTrip(t *testing.T) {
	rng := seed.Rand(t)
	for kind := packetHeartbeat; kind < packetKinds; kind++ {
		for range race.Fewer(200) {
			from, want := runOf(rng), bodyOf(rng, kind)
			b := appendPacket([]byte("before"), spoken.Greatest, from, want)[len("before"):]
			gotFrom, got, err := parsePacket(b)
			if err != nil || gotFrom != from || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v %+v\nbecame %v %+v, %v", from, want, gotFrom, got, err)
			}
			whole := slices.Clip(b)
			if kind == packetBatch {
				continue // its bytes go to the end
			}
			if h, ok := want.(*heartbeat); ok { // an earlier version has no Terms
				cut, without := b[:len(b)-1-len(h.Terms)], *h
				without.Terms = ""
				if _, got, err := parsePacket(cut); err != nil || !reflect.DeepEqual(got, &without) {
					t.Fatalf("of an earlier version: %+v, %v", got, err)
				}
				b = cut
			}
			if cut := rng.IntN(len(b)); isPacket(b[:cut]) {
				t.Fatalf("the first %d of %d bytes of kind %d were accepted: %x", cut, len(b), kind, b)
			}
			_, got, err = parsePacket(append(whole, 7))
			if later := kind == packetHeartbeat || kind == packetGreeting; later != (err == nil) || later && !reflect.DeepEqual(got, want) {
				t.Fatalf("kind %d with more at its end: %v", kind, err)
			}
		}
	}
}

func parsePacket(b []byte) (from runID, body body, err error) { return spoken.parsePacket(b) }

func isPacket(b []byte) bool { _, _, err := parsePacket(b); return err == nil }

func TestMessagesRoundTrip(t *testing.T) {
	rng := seed.Rand(t)
	for kind := KindRequest; kind < kinds; kind++ {
		for range race.Fewer(500) {
			want := messageOf(rng, kind)
			b := appendMessage([]byte("before"), want)[len("before"):]
			got, err := parseMessage(b)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v\nbecame %+v, %v", want, got, err)
			}
			if cut := rng.IntN(len(b)); isMessage(b[:cut]) {
				t.Fatalf("the first %d of %d bytes were accepted: %x", cut, len(b), b)
			}
			if isMessage(append(slices.Clip(b), 0)) {
				t.Fatalf("kind %d was accepted with more at its end", kind)
			}
		}
	}
}

func isMessage(b []byte) bool { _, err := parseMessage(b); return err == nil }

// What all loops of a node are pushed travels once, and arrives as one push.
func TestAPushTravelsOnce(t *testing.T) {
	m := &Message{Kind: KindItems, Part: 3}
	body := bytes.Repeat([]byte("m"), 1000)
	for loop := range 8 {
		push := &codec.Push{Route: "onChat", Body: body}
		m.Items = append(m.Items, channel.Item{Kind: channel.ItemPush, To: channel.Addr{Ref: channel.Ref(loop) << 56}, N: uint64(loop), Push: push})
	}
	b := appendMessage(nil, m)
	if len(b) > 1500 {
		t.Errorf("%d bytes for 8 loops", len(b))
	}
	got, err := parseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Items {
		if p := got.Items[i].Push; p != got.Items[0].Push || p.Shared == nil || !bytes.Equal(p.Body, body) {
			t.Fatalf("item %d has another push", i)
		}
	}
}

// Extended clients are told each push's place in its room's stream, so what is alike but for that arrives as two, and a room's pushes share its
// stream.
func TestPushesKeepTheirPlaces(t *testing.T) {
	room, other := &codec.Stream{Room: "r", Incarnation: 9}, &codec.Stream{Room: "s", Incarnation: 9}
	var want []codec.Push
	m := &Message{Kind: KindItems, Part: 3}
	for _, p := range []codec.Push{{Stream: room, Seq: 7, Time: 100}, {Stream: room, Seq: 8, Time: 100}, {Stream: room, Seq: 8, Time: 101}, {Stream: room, Seq: 8, Time: 101, ForExtended: true}, {Stream: room, Time: 101}, {}, {Stream: room, Seq: 9, Time: 102},
		{Stream: other, Seq: 9, Time: 102}, {Stream: room, Seq: 10, Time: 103}} {
		p.Route, p.Body = "onChat", []byte("hello")
		want = append(want, p)
		for loop := range 2 { // each in an item for each of two loops, as two pushes that are the same
			copied := p
			m.Items = append(m.Items, channel.Item{Kind: channel.ItemPush, To: channel.Addr{Ref: channel.Ref(loop) << 56}, Push: &copied})
		}
	}
	got, err := parseMessage(appendMessage(nil, m))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		p, q, w := got.Items[2*i].Push, got.Items[2*i+1].Push, &want[i]
		if p != q {
			t.Errorf("push %d arrived as two", i)
		}
		if p.Seq != w.Seq || p.Time != w.Time || p.ForExtended != w.ForExtended || !reflect.DeepEqual(p.Stream, w.Stream) || p.Route != w.Route || !bytes.Equal(p.Body, w.Body) {
			t.Errorf("push %d is %+v of %+v, want %+v of %+v", i, p, p.Stream, w, w.Stream)
		}
		if w.Stream == room && i < 7 && p.Stream != got.Items[0].Push.Stream {
			t.Errorf("push %d has a stream of its own", i)
		}
	}
}

// A stream is encoded in one way only.
func TestMalformedPushes(t *testing.T) {
	message := func(pushes ...byte) []byte {
		b := append(appendViewID([]byte{byte(KindItems), 3}, ViewID{}), 0) // In
		return append(append(b, pushes...), 0)                             // no items
	}
	for _, b := range [][]byte{{0}, {1, 0, 0, noStream}, {2, 0, 0, newStream, 1, 'r', 5, 1, 1, 0, 0, sameStream, 2, 1}} {
		if !isMessage(message(b...)) {
			t.Errorf("refused: %x", b)
		}
	}
	for what, b := range map[string][]byte{
		"more pushes than bytes":     {0xff, 0x7f, 0, 0, noStream},
		"the last of no stream":      {1, 0, 0, sameStream, 1, 1},
		"a stream twice":             {2, 0, 0, newStream, 1, 'r', 5, 1, 1, 0, 0, newStream, 1, 'r', 5, 2, 1},
		"what follows no push":       {1, 0, 0, 3, 1, 1},
		"a stream without a number":  {1, 0, 0, newStream, 1, 'r', 5},
		"a room without an end":      {1, 0, 0, newStream, 9, 'r', 5, 1, 1},
		"a number longer than needs": {1, 0, 0, newStream, 1, 'r', 5, 0x81, 0, 1},
	} {
		if isMessage(message(b...)) {
			t.Errorf("accepted: %s", what)
		}
	}
}

// Packets of other versions are told from malformed ones, and their senders are known.
func TestUnknownVersions(t *testing.T) {
	from := runID{"a", 7}
	b := appendPacket(nil, spoken.Greatest, from, &fetch{})
	for _, version := range []byte{0, 1, spoken.Greatest + 1, 255} {
		b[1] = version
		if got, _, err := parsePacket(b); got != from || !errors.Is(err, errVersion) {
			t.Errorf("version %d: from %v, %v", version, got, err)
		}
	}
	for _, b := range []body{&heartbeat{Versions: versions{1, 1}}, &greeting{Versions: versions{1, 1}}, &ask{Number: 3}, &answer{Number: 3}} {
		p := appendPacket(nil, spoken.Greatest, from, b)
		if _, _, err := parsePacket(p); p[1] != helloVersion || err != nil {
			t.Errorf("%T in version %d: %v", b, p[1], err)
		}
		if p[1] = spoken.Greatest; isPacket(p) {
			t.Errorf("%T is read in version %d", b, p[1])
		}
	}
	view := appendPacket(nil, spoken.Greatest, from, &answer{View: viewOf(seed.Rand(t))})
	if view[1] = helloVersion; isPacket(view) {
		t.Error("a view is read in a version that is not spoken")
	}
	for _, tc := range []struct {
		a, b versions
		want uint8
		ok   bool
	}{
		{versions{1, 1}, versions{1, 1}, 1, true},
		{versions{1, 3}, versions{2, 5}, 3, true},
		{versions{2, 5}, versions{1, 3}, 3, true},
		{versions{3, 4}, versions{1, 2}, 2, false},
		{versions{1, 2}, versions{3, 4}, 2, false},
	} {
		if v, ok := tc.a.common(tc.b); v != tc.want || ok != tc.ok {
			t.Errorf("%v with %v: %d, %v", tc.a, tc.b, v, ok)
		}
	}
}

func TestMalformedPackets(t *testing.T) {
	head := func(kind packetKind, body ...byte) []byte {
		return append([]byte{byte(kind), spoken.Greatest, 1, 'a', 7}, body...)
	}
	maker := make([]byte, 8)
	for _, tc := range []struct {
		what string
		b    []byte
	}{
		{"nothing", nil},
		{"no kind", head(0)},
		{"a kind that there is not", head(packetKinds)},
		{"no name", []byte{byte(packetFetch), spoken.Greatest, 0, 7}},
		{"no run", []byte{byte(packetFetch), spoken.Greatest, 1, 'a', 0}},
		{"a run of 49 bits", append([]byte{byte(packetFetch), spoken.Greatest, 1, 'a'}, appendUint(nil, 1<<48)...)},
		{"a number longer than it need be", head(packetAsk, 0x81, 0)},
		{"a number without end", head(packetAsk, bytes.Repeat([]byte{0xff}, 20)...)},
		{"a batch of nothing", head(packetBatch, append(append([]byte{1, 0, 1}, maker...), 0)...)},
		{"a lane that there is not", head(packetBatchAck, 1, byte(lanes), 0)},
		{"a yes that is neither", head(packetAnswer, 1, 2)},
		{"an answer with half a view", head(packetAnswer, 1, 1, 1)},
		{"no version", head(packetGreeting, 0, 0, 0, 0)},
		{"a role that there is not", head(packetGreeting, 1, 1, 8, 0)},
		{"more echoes than bytes", append(head(packetHeartbeat, append(append([]byte{1, 1, 1, 1}, maker...), 0, 0, 0, 0, 0)...), 0xff, 0xff, 0x7f)},
	} {
		if _, b, err := parsePacket(tc.b); !errors.Is(err, errPacket) || b != nil {
			t.Errorf("%s: %+v, %v", tc.what, b, err)
		}
	}
}

// A view is encoded in one way only.
func TestMalformedViews(t *testing.T) {
	rng := seed.Rand(t)
	good := func() *View {
		v := &View{ID: ViewID{View: 9, Maker: 1}, Names: []Name{{Name: "a", Run: 1}}, Shares: make([]Share, channel.Partitions)}
		v.Shares[0].Epoch, v.Shares[1].Epoch = ViewID{View: 5}, ViewID{View: 6}
		return v
	}
	parse := func(b []byte) *View {
		r := reader{b: b}
		v := r.view()
		if r.end(); r.bad {
			return nil
		}
		return v
	}
	if b := appendView(nil, good()); parse(b) == nil {
		t.Fatal("a good view is refused")
	}
	for what, spoil := range map[string]func(*View){
		"no id":                    func(v *View) { v.ID = ViewID{} },
		"too many ancestors":       func(v *View) { v.Ancestors = make([]ViewID, maxAncestors+1) },
		"too many shares":          func(v *View) { v.Shares = append(v.Shares, Share{}) },
		"an owner without a name":  func(v *View) { v.Shares[3].Owner = 2 },
		"a member without a name":  func(v *View) { v.Names[0].Name = "" },
		"a name of 256 bytes":      func(v *View) { v.Names[0].Name = strings.Repeat("n", 256) },
		"a run of 49 bits":         func(v *View) { v.Names[0].Run = 1 << 48 },
		"a role that there is not": func(v *View) { v.Names[0].Roles = 8 },
	} {
		v := good()
		spoil(v)
		if parse(appendView(nil, v)) != nil {
			t.Errorf("accepted: %s", what)
		}
	}
	b := appendView(nil, good())
	table := bytes.LastIndex(b, append([]byte{2, 5}, make([]byte, 8)...)) // two ids, the first of them
	for what, spoil := range map[string]func([]byte){
		"an id twice":        func(b []byte) { b[table+1] = 6 },
		"the zero id":        func(b []byte) { b[table+1] = 0 },
		"an id of no share":  func(b []byte) { b[table+1+9+9+2+8+3] = 1 },
		"ids in other order": func(b []byte) { b[table+1+9+9+2+3] = 2 },
	} {
		b := bytes.Clone(b)
		spoil(b)
		if parse(b) != nil {
			t.Errorf("accepted: %s", what)
		}
	}
	// The usual case: many partitions, few ids.
	v := viewOf(rng)
	if got := parse(appendView(nil, v)); !reflect.DeepEqual(got, v) {
		t.Error("a view is another one after its encoding")
	}
}

// The bytes of packets and messages are a version's: nodes of two programs that say the same understand each other.
func TestGoldenBytes(t *testing.T) {
	g := golden.New("linkVersion + channel.StateVersion", uint64(spoken.Greatest))
	for kind := packetHeartbeat; kind < packetKinds; kind++ {
		b := bodyOf(rand.New(rand.NewPCG(1, uint64(kind))), kind)
		if a, is := b.(*answer); is {
			a.View = nil
		}
		g.Text(fmt.Sprintf("packet %d %T", kind, b), packed(appendPacket(nil, spoken.Greatest, runID{"chat-1", 1700000000000}, b)))
	}
	for kind := KindRequest; kind < kinds; kind++ {
		g.Text(fmt.Sprintf("message %d", kind), packed(appendMessage(nil, messageOf(rand.New(rand.NewPCG(1, uint64(kind))), kind))))
	}
	g.CheckFile(t, "testdata/golden.txt")
}

// packed is b in hex, and of a long one its ends, its length and a sum.
func packed(b []byte) string {
	if len(b) <= 300 {
		return hex.EncodeToString(b)
	}
	sum := uint64(14695981039346656037)
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return fmt.Sprintf("%x … %x, %d bytes, FNV-1a %x", b[:50], b[len(b)-20:], len(b), sum)
}

// Whatever arrives: no panic, and what is accepted is encoded as it came.
func FuzzParsePacket(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for kind := packetHeartbeat; kind < packetKinds; kind++ {
		f.Add(appendPacket(nil, spoken.Greatest, runOf(rng), bodyOf(rng, kind)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		from, body, err := parsePacket(b)
		if err != nil {
			if body != nil {
				t.Fatalf("%v and yet %+v", err, body)
			}
			return
		}
		again := appendPacket(nil, b[1], from, body)
		switch body.(type) {
		case *heartbeat, *greeting:
			n := min(len(b), len(again)) // the last text may be missing
			b, again = b[:n], again[:n]
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x\nis encoded as %x", b, again)
		}
	})
}

// Requests, items and records in a message may have more at their end, so what is encoded again is at most as long, and then stays.
func FuzzParseMessage(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for kind := KindRequest; kind < kinds; kind++ {
		f.Add(appendMessage(nil, messageOf(rng, kind)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			if m != nil {
				t.Fatalf("%v and yet %+v", err, m)
			}
			return
		}
		again := appendMessage(nil, m)
		if len(again) > len(b) {
			t.Fatalf("%d bytes encode what came in %d", len(again), len(b))
		}
		m2, err := parseMessage(again)
		if err != nil || !bytes.Equal(appendMessage(nil, m2), again) {
			t.Fatalf("%+v\nbecame %+v, %v", m, m2, err)
		}
	})
}
