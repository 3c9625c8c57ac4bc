package channel

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/wirebytes"
)

// The encodings below let Requests, Items and Records travel between processes. Numbers are varints, strings and bodies are
// prefixed by their length; the first byte is the kind. A later version may add fields at the end.

// ErrEncoding is the error of every decoder here: the input was not written by the encoder.
var ErrEncoding = errors.New("malformed request, item or record")

// AppendRequest appends the encoding of r.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = wirebytes.AppendUints(append(dst, byte(r.Op)), uint64(r.Part), uint64(r.Req), r.N)
	dst = appendAddr(dst, r.From)
	for _, s := range []string{r.Room, r.User, r.Prev, r.Target, r.Route, r.Fold} {
		dst = wirebytes.AppendBlock(dst, s)
	}
	dst = binary.AppendUvarint(wirebytes.AppendBlock(dst, r.Content), r.Key)
	flags := byte(0)
	if r.Silent {
		flags |= requestSilent
	}
	if r.Cut {
		flags |= requestCut
	}
	if r.Short {
		flags |= requestShort
	}
	if r.Locked {
		flags |= requestLocked
	}
	if r.Urgent {
		flags |= requestUrgent
	}
	if r.Near != 0 || r.Handed != 0 || r.Pass != 0 {
		flags |= requestPlace
	}
	x := r.Ext
	if x != nil {
		flags |= requestExtended
		if x.HasSince {
			flags |= requestSince
		}
	}
	dst = append(dst, flags)
	if x != nil {
		dst = wirebytes.AppendUints(dst, x.Since.Incarnation, x.Since.Number, uint64(x.Most), x.Mid)
	}
	if flags&requestPlace != 0 {
		dst = wirebytes.AppendUints(dst, r.Near, r.Handed, r.Pass)
	}
	return dst
}

// Flags of a request's encoding.
const (
	requestSilent = 1 << iota
	requestExtended
	requestSince
	requestCut
	requestShort
	requestPlace
	requestLocked
	requestUrgent
)

// ParseRequest decodes a request. Content aliases b.
func ParseRequest(b []byte) (Request, error) {
	d := wirebytes.NewReader(b)
	r := Request{Op: Op(d.Byte()), Part: uint16(d.UpTo(Partitions - 1)), Req: d.Uint32(), N: d.Uint(), From: parseAddr(&d)}
	for _, s := range []*string{&r.Room, &r.User, &r.Prev, &r.Target, &r.Route, &r.Fold} {
		*s = string(d.Block())
	}
	r.Content, r.Key = d.Block(), d.Uint()
	flags := d.Byte()
	r.Silent, r.Cut, r.Short, r.Locked = flags&requestSilent != 0, flags&requestCut != 0, flags&requestShort != 0, flags&requestLocked != 0
	r.Urgent = flags&requestUrgent != 0
	if flags&requestExtended != 0 {
		r.Ext = &Extended{HasSince: flags&requestSince != 0, Since: codec.Seq{Incarnation: d.Uint(), Number: d.Uint()}, Most: d.Uint32(), Mid: d.Uint()}
	}
	if flags&requestPlace != 0 {
		r.Near, r.Handed, r.Pass = d.Uint(), d.Uint(), d.Uint()
	}
	if !d.OK() || r.Op == 0 || r.Op >= ops {
		return Request{}, ErrEncoding
	}
	return r, nil
}

// AppendItem appends the encoding of it. What travels is the canonical push, never a frame of some wire, and a whole body: no
// item is Open when it arrives.
func AppendItem(dst []byte, it *Item) []byte {
	dst = append(dst, byte(it.Kind))
	dst = wirebytes.AppendUints(dst, uint64(it.Part), uint64(it.Req), uint64(it.Count), it.Epoch.View, it.N, uint64(it.Room), it.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(it.Epoch.Maker))
	dst = appendAddr(dst, it.To)
	dst = binary.AppendUvarint(dst, uint64(len(it.Body)+len(it.End())))
	dst = append(append(dst, it.Body...), it.End()...)
	if it.Push != nil {
		dst = wirebytes.AppendBlock(dst, it.Push.Route)
		dst = wirebytes.AppendBlock(dst, it.Push.Body)
		if s := it.Push.Stream; s != nil {
			flags := byte(itemStream)
			if it.Push.ForExtended {
				flags |= itemForExtended
			}
			dst = wirebytes.AppendBlock(append(dst, flags), s.Room)
			dst = wirebytes.AppendUints(dst, s.Incarnation, it.Push.Seq, uint64(it.Push.Time))
		} else {
			dst = append(dst, 0)
		}
	}
	return dst
}

// Flags of the encoding of an item's push.
const (
	itemStream = 1 << iota
	itemForExtended
)

// ParseItem decodes an item. Bodies alias b.
func ParseItem(b []byte) (Item, error) {
	d := wirebytes.NewReader(b)
	it := Item{Kind: ItemKind(d.Byte()), Part: uint16(d.UpTo(Partitions - 1)), Req: d.Uint32(), Count: d.Uint32()}
	it.Epoch.View, it.N, it.Room, it.Seq = d.Uint(), d.Uint(), RoomID(d.Uint()), d.Uint()
	it.Epoch.Maker = parseNode(&d)
	it.To = parseAddr(&d)
	it.Body = d.Block()
	if it.Kind == ItemPush || it.Kind == ItemDirect || it.Kind == ItemVolatile {
		it.Push = &codec.Push{Route: string(d.Block()), Body: d.Block(), Shared: new(codec.SharedFrames)}
		if flags := d.Byte(); flags&itemStream != 0 {
			it.Push.ForExtended = flags&itemForExtended != 0
			it.Push.Stream = &codec.Stream{Room: string(d.Block()), Incarnation: d.Uint()}
			it.Push.Seq, it.Push.Time = d.Uint(), int64(d.Uint())
		}
	}
	if !d.OK() || it.Kind == 0 || it.Kind >= itemKinds {
		return Item{}, ErrEncoding
	}
	return it, nil
}

// AppendRecord appends the encoding of r.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, byte(r.Kind))
	dst = appendAddr(wirebytes.AppendBlock(wirebytes.AppendBlock(dst, r.Room), r.User), r.Addr)
	dst = wirebytes.AppendUints(dst, r.Num, r.Key, uint64(r.Time), r.Place)
	return wirebytes.AppendBlock(dst, r.Body)
}

// ParseRecord decodes a record. Nothing of it aliases b.
func ParseRecord(b []byte) (Record, error) {
	d := wirebytes.NewReader(b)
	r := Record{Kind: RecordKind(d.Byte()), Room: string(d.Block()), User: string(d.Block()), Addr: parseAddr(&d), Num: d.Uint(), Key: d.Uint(), Time: int64(d.Uint()), Place: d.Uint()}
	r.Body = bytes.Clone(d.Block())
	if !d.OK() || r.Kind == 0 || r.Kind >= recordKinds {
		return Record{}, ErrEncoding
	}
	return r, nil
}

func appendAddr(dst []byte, a Addr) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.Node))
	return binary.BigEndian.AppendUint64(dst, uint64(a.Ref))
}

func parseNode(r *wirebytes.Reader) Node { return Node(r.Fixed64()) }

func parseAddr(r *wirebytes.Reader) Addr { return Addr{Node: parseNode(r), Ref: Ref(r.Fixed64())} }
