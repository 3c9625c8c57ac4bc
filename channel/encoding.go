package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/pomelod/pomelod/codec"
)

// The encodings below let Requests, Items and Records travel between processes. Numbers are varints, strings and bodies are
// prefixed by their length; the first byte is the kind. A later version may add fields at the end.

// ErrEncoding is the error of every decoder here: the input was not written by the encoder.
var ErrEncoding = errors.New("malformed request, item or record")

// AppendRequest appends the encoding of r.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, byte(r.Op))
	dst = binary.AppendUvarint(dst, uint64(r.Part))
	dst = binary.AppendUvarint(dst, uint64(r.Req))
	dst = binary.AppendUvarint(dst, r.N)
	dst = appendAddr(dst, r.From)
	for _, s := range []string{r.Room, r.User, r.Prev, r.Target, r.Route} {
		dst = appendBytes(dst, s)
	}
	dst = binary.AppendUvarint(appendBytes(dst, r.Content), r.Key)
	flags := byte(0)
	if r.Silent {
		flags |= requestSilent
	}
	x := r.Ext
	if x == nil {
		return append(dst, flags)
	}
	if x.HasSince {
		flags |= requestSince
	}
	dst = append(dst, flags|requestExtended)
	for _, n := range [...]uint64{x.Since.Incarnation, x.Since.Number, uint64(x.Most), x.Mid} {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// Flags of a request's encoding.
const (
	requestSilent = 1 << iota
	requestExtended
	requestSince
)

// ParseRequest decodes a request. Content aliases b.
func ParseRequest(b []byte) (Request, error) {
	d := decoder{b: b}
	r := Request{Op: Op(d.byte()), Part: uint16(d.upTo(Partitions - 1)), Req: uint32(d.upTo(math.MaxUint32)), N: d.uint(), From: d.addr()}
	for _, s := range []*string{&r.Room, &r.User, &r.Prev, &r.Target, &r.Route} {
		*s = string(d.bytes())
	}
	r.Content, r.Key = d.bytes(), d.uint()
	flags := d.byte()
	r.Silent = flags&requestSilent != 0
	if flags&requestExtended != 0 {
		r.Ext = &Extended{HasSince: flags&requestSince != 0, Since: codec.Seq{Incarnation: d.uint(), Number: d.uint()}, Most: uint32(d.upTo(math.MaxUint32)), Mid: d.uint()}
	}
	if d.bad || r.Op == 0 || r.Op >= ops {
		return Request{}, ErrEncoding
	}
	return r, nil
}

// AppendItem appends the encoding of it. What travels is the canonical push, never a frame of some wire, and a whole body: no
// item is Open when it arrives.
func AppendItem(dst []byte, it *Item) []byte {
	dst = append(dst, byte(it.Kind))
	for _, n := range [...]uint64{uint64(it.Part), uint64(it.Req), uint64(it.Count), it.Epoch.View, it.N, uint64(it.Room), it.Seq} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(it.Epoch.Maker))
	dst = appendAddr(dst, it.To)
	dst = binary.AppendUvarint(dst, uint64(len(it.Body)+len(it.End())))
	dst = append(append(dst, it.Body...), it.End()...)
	if it.Push != nil {
		dst = appendBytes(dst, it.Push.Route)
		dst = appendBytes(dst, it.Push.Body)
		if s := it.Push.Stream; s != nil {
			dst = appendBytes(append(dst, 1), s.Room)
			for _, n := range [...]uint64{s.Incarnation, it.Push.Seq, uint64(it.Push.Time)} {
				dst = binary.AppendUvarint(dst, n)
			}
		} else {
			dst = append(dst, 0)
		}
	}
	return dst
}

// ParseItem decodes an item. Bodies alias b.
func ParseItem(b []byte) (Item, error) {
	d := decoder{b: b}
	it := Item{Kind: ItemKind(d.byte()), Part: uint16(d.upTo(Partitions - 1)), Req: uint32(d.upTo(math.MaxUint32)), Count: uint32(d.upTo(math.MaxUint32))}
	it.Epoch.View, it.N, it.Room, it.Seq = d.uint(), d.uint(), RoomID(d.uint()), d.uint()
	it.Epoch.Maker = d.node()
	it.To = d.addr()
	it.Body = d.bytes()
	if it.Kind == ItemPush || it.Kind == ItemDirect {
		it.Push = &codec.Push{Route: string(d.bytes()), Body: d.bytes(), Shared: new(codec.SharedFrames)}
		if d.byte() == 1 {
			it.Push.Stream = &codec.Stream{Room: string(d.bytes()), Incarnation: d.uint()}
			it.Push.Seq, it.Push.Time = d.uint(), int64(d.uint())
		}
	}
	if d.bad || it.Kind == 0 || it.Kind >= itemKinds {
		return Item{}, ErrEncoding
	}
	return it, nil
}

// AppendRecord appends the encoding of r.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, byte(r.Kind))
	dst = appendAddr(appendBytes(appendBytes(dst, r.Room), r.User), r.Addr)
	for _, n := range [...]uint64{r.Num, r.Key, uint64(r.Time), r.Place} {
		dst = binary.AppendUvarint(dst, n)
	}
	return appendBytes(dst, r.Body)
}

// ParseRecord decodes a record. Nothing of it aliases b.
func ParseRecord(b []byte) (Record, error) {
	d := decoder{b: b}
	r := Record{Kind: RecordKind(d.byte()), Room: string(d.bytes()), User: string(d.bytes()), Addr: d.addr(), Num: d.uint(), Key: d.uint(), Time: int64(d.uint()), Place: d.uint()}
	r.Body = bytes.Clone(d.bytes())
	if d.bad || r.Kind == 0 || r.Kind >= recordKinds {
		return Record{}, ErrEncoding
	}
	return r, nil
}

func appendAddr(dst []byte, a Addr) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.Node))
	return binary.BigEndian.AppendUint64(dst, uint64(a.Ref))
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decoder reads a message; after the first fault everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// upTo is a number of at most max.
func (d *decoder) upTo(max uint64) uint64 {
	v := d.uint()
	if v > max {
		d.bad = true
		return 0
	}
	return v
}

func (d *decoder) node() Node {
	if b := d.take(8); b != nil {
		return Node(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) addr() Addr { return Addr{Node: d.node(), Ref: Ref(d.node())} }

func (d *decoder) bytes() []byte {
	if n := d.uint(); n > 0 {
		return d.take(n)
	}
	return nil
}
