package channel

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// oneOf is a number of any size, often a border.
func oneOf(rng *rand.Rand) uint64 {
	borders := []uint64{0, 1, 127, 128, 255, math.MaxUint16, math.MaxUint32, math.MaxInt64, math.MaxUint64}
	if rng.IntN(2) == 0 {
		return borders[rng.IntN(len(borders))]
	}
	return rng.Uint64() >> rng.IntN(64)
}

// bytesOf are nil or up to 300 bytes; an empty slice would come back as nil.
func bytesOf(rng *rand.Rand) []byte {
	n := []int{0, 1, 5, 127, 128, 300}[rng.IntN(6)]
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func addrOf(rng *rand.Rand) Addr { return Addr{Node: Node(oneOf(rng)), Ref: Ref(oneOf(rng))} }

func partOf(rng *rand.Rand) uint16 { return uint16(oneOf(rng) % Partitions) }

// requestOf is a request with something in every field.
func requestOf(rng *rand.Rand, op Op) Request {
	r := Request{Op: op, Part: partOf(rng), Req: uint32(oneOf(rng)), N: oneOf(rng), Key: oneOf(rng), Silent: rng.IntN(2) == 0, Cut: rng.IntN(2) == 0, Short: rng.IntN(2) == 0, Locked: rng.IntN(2) == 0, Urgent: rng.IntN(2) == 0, From: addrOf(rng), Content: bytesOf(rng)}
	if rng.IntN(2) == 0 {
		r.Near, r.Handed = oneOf(rng), oneOf(rng)
	}
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(string(bytesOf(rng)))
		}
	}
	return r
}

func itemOf(rng *rand.Rand, kind ItemKind) Item {
	it := Item{
		Kind: kind, Part: partOf(rng), Req: uint32(oneOf(rng)), Count: uint32(oneOf(rng)), Epoch: Epoch{oneOf(rng), Node(oneOf(rng))}, N: oneOf(rng),
		Room: RoomID(oneOf(rng)), Seq: oneOf(rng), To: addrOf(rng), Body: bytesOf(rng),
	}
	if kind == ItemPush || kind == ItemDirect || kind == ItemVolatile {
		it.Push = &codec.Push{Route: string(bytesOf(rng)), Body: bytesOf(rng)}
		if rng.IntN(2) == 0 {
			it.Push.Stream = &codec.Stream{Room: string(bytesOf(rng)), Incarnation: oneOf(rng)}
			it.Push.Seq, it.Push.Time, it.Push.ForExtended = oneOf(rng), int64(oneOf(rng)), rng.IntN(2) == 0
		}
	} else {
		if it.Open = rng.IntN(2) == 0; it.Open {
			it.Tail = string(bytesOf(rng))
		}
	}
	return it
}

// unshared is an item without the frames that a decoded push may keep, and with a body that is whole.
func unshared(it Item) Item {
	if it.Open {
		it.Body, it.Open, it.Tail = append(slices.Clip(it.Body), it.End()...), false, ""
	}
	if it.Push != nil {
		p := *it.Push
		p.Shared = nil
		it.Push = &p
	}
	return it
}

// Every request of every kind is itself again after its encoding, which may stand behind other bytes. What is cut short is an
// error; what a later version adds at the end is not.
func TestRequestsRoundTrip(t *testing.T) {
	rng := seed.Rand(t)
	for op := OpEnter; op < ops; op++ {
		for range race.Fewer(2000) {
			r := requestOf(rng, op)
			b := AppendRequest([]byte("before"), &r)[len("before"):]
			got, err := ParseRequest(b)
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Fatalf("%+v\nbecame %+v, %v", r, got, err)
			}
			if got, err = ParseRequest(append(b[:len(b):len(b)], "later"...)); err != nil || !reflect.DeepEqual(got, r) {
				t.Fatalf("with more behind it %+v\nbecame %+v, %v", r, got, err)
			}
			if cut := rng.IntN(len(b)); isRequest(b[:cut]) {
				t.Fatalf("the first %d of %d bytes were accepted: %x", cut, len(b), b)
			}
		}
	}
}

func TestItemsRoundTrip(t *testing.T) {
	rng := seed.Rand(t)
	for kind := ItemPush; kind < itemKinds; kind++ {
		for range race.Fewer(2000) {
			it := itemOf(rng, kind)
			b := AppendItem([]byte("before"), &it)[len("before"):]
			it = unshared(it)
			got, err := ParseItem(b)
			if err != nil || !reflect.DeepEqual(unshared(got), it) {
				t.Fatalf("%+v\nbecame %+v, %v", it, got, err)
			}
			if got, err = ParseItem(append(b[:len(b):len(b)], "later"...)); err != nil || !reflect.DeepEqual(unshared(got), it) {
				t.Fatalf("with more behind it %+v\nbecame %+v, %v", it, got, err)
			}
			if cut := rng.IntN(len(b)); isItem(b[:cut]) {
				t.Fatalf("the first %d of %d bytes were accepted: %x", cut, len(b), b)
			}
		}
	}
}

func isRequest(b []byte) bool { _, err := ParseRequest(b); return err == nil }
func isItem(b []byte) bool    { _, err := ParseItem(b); return err == nil }
func isRecord(b []byte) bool  { _, err := ParseRecord(b); return err == nil }

func recordOf(rng *rand.Rand, kind RecordKind) Record {
	return Record{
		Kind: kind, Room: string(bytesOf(rng)), User: string(bytesOf(rng)), Addr: addrOf(rng), Num: oneOf(rng), Key: oneOf(rng), Time: int64(oneOf(rng)), Place: oneOf(rng), Body: bytesOf(rng),
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	rng := seed.Rand(t)
	for kind := RecordIn; kind < recordKinds; kind++ {
		for range race.Fewer(2000) {
			r := recordOf(rng, kind)
			b := AppendRecord([]byte("before"), &r)[len("before"):]
			got, err := ParseRecord(b)
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Fatalf("%+v\nbecame %+v, %v", r, got, err)
			}
			if got, err = ParseRecord(append(b[:len(b):len(b)], "later"...)); err != nil || !reflect.DeepEqual(got, r) {
				t.Fatalf("with more behind it %+v\nbecame %+v, %v", r, got, err)
			}
			if cut := rng.IntN(len(b)); isRecord(b[:cut]) {
				t.Fatalf("the first %d of %d bytes were accepted: %x", cut, len(b), b)
			}
		}
	}
}

// Kinds that do not exist, and lengths that lie, are errors.
func TestMalformedEncodings(t *testing.T) {
	addr := make([]byte, 16)
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"nothing", nil},
		{"kind 0", append([]byte{0, 0}, make([]byte, 50)...)},
		{"unknown kind", append([]byte{200, 0}, make([]byte, 50)...)},
		{"a partition that there is not", append([]byte{1, 0x80, 0x08}, make([]byte, 50)...)},
		{"a length that lies", append(append([]byte{1, 0, 0, 0}, addr...), 0xff, 0xff, 0xff, 0xff, 0x0f)},
		{"a number without end", bytes.Repeat([]byte{0xff}, 40)},
		{"a number too large", append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...)},
	} {
		if isRequest(tc.bytes) || isItem(tc.bytes) || isRecord(tc.bytes) && tc.name != "a partition that there is not" {
			t.Errorf("%s: accepted as request %v, as item %v", tc.name, isRequest(tc.bytes), isItem(tc.bytes))
		}
	}
}

// A length of 2^64-1 is longer than what there is.
func TestLongestLength(t *testing.T) {
	length := bytes.Repeat([]byte{0xff}, 9)
	length = append(length, 0x01)
	if b := append(append([]byte{1}, make([]byte, 3+16)...), length...); isRequest(b) {
		t.Errorf("accepted as request: %x", b)
	}
	if b := append(append([]byte{1}, make([]byte, 7+8+16)...), length...); isItem(b) {
		t.Errorf("accepted as item: %x", b)
	}
	if b := append([]byte{1}, length...); isRecord(b) {
		t.Errorf("accepted as record: %x", b)
	}
}

// What parses as a request is never more than its bytes, and is stable: encoded, it parses as the same.
func FuzzParseRequest(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for op := OpEnter; op < ops; op++ {
		r := requestOf(rng, op)
		f.Add(AppendRequest(nil, &r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			if !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%v and yet %+v", err, r)
			}
			return
		}
		if n := len(r.Room) + len(r.User) + len(r.Prev) + len(r.Target) + len(r.Content); n > len(b) {
			t.Fatalf("%d bytes from %d", n, len(b))
		}
		again := AppendRequest(nil, &r)
		if len(again) > len(b) {
			t.Fatalf("%d bytes encode what came in %d", len(again), len(b))
		}
		r2, err := ParseRequest(again)
		if err != nil || !reflect.DeepEqual(r2, r) || !bytes.Equal(AppendRequest(nil, &r2), again) {
			t.Fatalf("%#v\nbecame %#v, %v", r, r2, err)
		}
	})
}

// The same for items.
func FuzzParseItem(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for kind := ItemPush; kind < itemKinds; kind++ {
		it := itemOf(rng, kind)
		f.Add(AppendItem(nil, &it))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		it, err := ParseItem(b)
		if err != nil {
			if !reflect.DeepEqual(it, Item{}) {
				t.Fatalf("%v and yet %+v", err, it)
			}
			return
		}
		n := len(it.Body)
		if it.Push != nil {
			n += len(it.Push.Route) + len(it.Push.Body)
		}
		if n > len(b) || (it.Push != nil) != (it.Kind == ItemPush || it.Kind == ItemDirect || it.Kind == ItemVolatile) {
			t.Fatalf("%d bytes from %d, push %v", n, len(b), it.Push)
		}
		again := AppendItem(nil, &it)
		if len(again) > len(b) {
			t.Fatalf("%d bytes encode what came in %d", len(again), len(b))
		}
		it2, err := ParseItem(again)
		if err != nil || !reflect.DeepEqual(unshared(it2), unshared(it)) || !bytes.Equal(AppendItem(nil, &it2), again) {
			t.Fatalf("%+v\nbecame %+v, %v", it, it2, err)
		}
	})
}
