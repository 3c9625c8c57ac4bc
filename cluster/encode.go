package cluster

import (
	"encoding/binary"
	"fmt"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// field is a part of a message that some kinds have. The encoding of a message is its kind, partition and epoch, and then the fields of its
// kind in this order.
type field uint16

const (
	fieldNaming field = 1 << iota
	fieldMoving
	fieldBorn
	fieldView
	fieldIndex
	fieldIn
	fieldOut
	fieldHash
	fieldNode
	fieldRequest
	fieldNumber // of a request, and nothing else of it
	fieldRecords
	fieldItems
	fieldState
)

// fieldsOf are the fields of each kind of message.
var fieldsOf = [kinds]field{
	KindRequest:      fieldRequest,
	KindNotOwner:     fieldView | fieldNumber,
	KindServe:        fieldBorn | fieldIndex | fieldIn | fieldOut,
	KindItems:        fieldIn | fieldItems,
	KindConfirm:      fieldIn | fieldOut,
	KindResend:       fieldOut,
	KindSnapshot:     fieldNaming | fieldIndex | fieldIn | fieldHash | fieldItems | fieldState,
	KindRecords:      fieldNaming | fieldIndex | fieldHash | fieldRecords | fieldItems,
	KindAck:          fieldNaming | fieldIndex | fieldIn,
	KindConfirmed:    fieldNaming | fieldOut | fieldNode,
	KindInStep:       fieldNaming,
	KindDropFollower: fieldNaming,
	KindSealed:       fieldNaming | fieldMoving | fieldIndex,
	KindReady:        fieldMoving,
}

// appendMessage appends the encoding of m.
func appendMessage(dst []byte, m *Message) []byte {
	has := fieldsOf[m.Kind]
	dst = appendViewID(appendUint(append(dst, byte(m.Kind)), uint64(m.Part)), m.Epoch)
	for i, id := range m.ids() {
		if has&(fieldNaming<<i) != 0 {
			dst = appendViewID(dst, *id)
		}
	}
	for i, n := range m.numbers() {
		if has&(fieldIndex<<i) != 0 {
			dst = appendUint(dst, *n)
		}
	}
	if has&fieldNode != 0 {
		dst = appendNode(dst, m.Node)
	}
	if has&fieldRequest != 0 {
		dst = appendSized(dst, func(dst []byte) []byte { return channel.AppendRequest(dst, &m.Request) })
	}
	if has&fieldNumber != 0 {
		dst = appendUint(dst, m.Request.N)
	}
	if has&fieldRecords != 0 {
		dst = appendUint(dst, uint64(len(m.Records)))
		for i := range m.Records {
			dst = appendSized(dst, func(dst []byte) []byte { return channel.AppendRecord(dst, &m.Records[i]) })
		}
	}
	if has&fieldItems != 0 {
		dst = appendItems(dst, m.Items)
	}
	if has&fieldState != 0 {
		dst = appendText(dst, m.State)
	}
	return dst
}

// ids and numbers are the fields of one type, in the order of their bits.
func (m *Message) ids() [4]*ViewID     { return [...]*ViewID{&m.Naming, &m.Moving, &m.Born, &m.View} }
func (m *Message) numbers() [4]*uint64 { return [...]*uint64{&m.Index, &m.In, &m.Out, &m.Hash} }

// parseMessage decodes a message. Bodies and State alias b.
func parseMessage(b []byte) (*Message, error) {
	r := reader{b: b}
	m := &Message{Kind: Kind(r.byte()), Part: uint16(r.upTo(channel.Partitions - 1)), Epoch: r.viewID()}
	if r.bad || m.Kind == 0 || m.Kind >= kinds {
		return nil, fmt.Errorf("%w: message of kind %d", errPacket, m.Kind)
	}
	has := fieldsOf[m.Kind]
	for i, id := range m.ids() {
		if has&(fieldNaming<<i) != 0 {
			*id = r.viewID()
		}
	}
	for i, n := range m.numbers() {
		if has&(fieldIndex<<i) != 0 {
			*n = r.uint()
		}
	}
	if has&fieldNode != 0 {
		m.Node = r.node()
	}
	if has&fieldRequest != 0 {
		m.Request = inner(&r, channel.ParseRequest)
	}
	if has&fieldNumber != 0 {
		m.Request.N = r.uint()
	}
	if has&fieldRecords != 0 {
		for n := r.count(1); n > 0 && !r.bad; n-- {
			m.Records = append(m.Records, inner(&r, channel.ParseRecord))
		}
	}
	if has&fieldItems != 0 {
		m.Items = r.items()
	}
	if has&fieldState != 0 {
		m.State = r.text()
	}
	if r.end(); r.bad {
		return nil, fmt.Errorf("%w: message of kind %d", errPacket, m.Kind)
	}
	return m, nil
}

// A decision pushes the same to every loop of a node. So the pushes of a message stand once each, before its items; an item has the place of
// its push, from 1. The receiver's items share a push too, and what the loops encode of it. A push is followed by its place in its room's stream;
// most pushes of a message are of one room, so a stream stands once where pushes of it follow each other.

var blank = &codec.Push{}

// What follows a push.
const (
	noStream   = iota // it is of no stream
	newStream         // its stream, its number there and its time
	sameStream        // the stream is the one that stood last

	forExtended = 4 // added to that: only extended clients get it
)

func appendItems(dst []byte, items []channel.Item) []byte {
	var pushes []*codec.Push
	place := func(p *codec.Push) int {
		for i := len(pushes) - 1; i >= 0; i-- {
			if isPush(pushes[i], p) {
				return i + 1
			}
			if i < len(pushes)-8 { // not worth looking: what is alike stands together
				break
			}
		}
		return 0
	}
	places := make([]int, len(items))
	for i := range items {
		if p := items[i].Push; p != nil {
			if places[i] = place(p); places[i] == 0 {
				pushes = append(pushes, p)
				places[i] = len(pushes)
			}
		}
	}
	dst = appendUint(dst, uint64(len(pushes)))
	var last *codec.Stream
	for _, p := range pushes {
		dst = appendText(appendText(dst, p.Route), p.Body)
		only := byte(0)
		if p.ForExtended {
			only = forExtended
		}
		switch {
		case p.Stream == nil:
			dst = append(dst, noStream)
			continue
		case last != nil && *last == *p.Stream:
			dst = append(dst, sameStream|only)
		default:
			last = p.Stream
			dst = appendUint(appendText(append(dst, newStream|only), last.Room), last.Incarnation)
		}
		dst = appendUint(appendUint(dst, p.Seq), uint64(p.Time))
	}
	dst = appendUint(dst, uint64(len(items)))
	for i := range items {
		it := items[i]
		if dst = appendUint(dst, uint64(places[i])); it.Push != nil {
			it.Push = blank
		}
		dst = appendSized(dst, func(dst []byte) []byte { return channel.AppendItem(dst, &it) })
	}
	return dst
}

// isPush tells whether two pushes are the same to everybody. Those of one stream refer to one Stream, as far as they were made, or came, together.
func isPush(p, q *codec.Push) bool {
	return p == q || p.Stream == q.Stream && p.Seq == q.Seq && p.Time == q.Time && p.ForExtended == q.ForExtended && p.Route == q.Route && string(p.Body) == string(q.Body)
}

func (r *reader) items() (items []channel.Item) {
	pushes := make([]*codec.Push, 1, 2)
	var last *codec.Stream
	for range r.count(3) {
		p := &codec.Push{Route: string(r.text()), Body: r.text(), Shared: new(codec.SharedFrames)}
		if last = r.stream(p, last); r.bad {
			return nil
		}
		pushes = append(pushes, p)
	}
	for range r.count(2) {
		place := r.upTo(uint64(len(pushes) - 1))
		it := inner(r, channel.ParseItem)
		if it.Push != nil && (place == 0 || it.Push.Route != "" || it.Push.Body != nil || it.Push.Stream != nil) || it.Push == nil && place != 0 {
			r.bad = true
		}
		if r.bad {
			return nil
		}
		it.Push = pushes[place]
		items = append(items, it)
	}
	return items
}

// stream reads what follows p. last is the stream that stood last, and so is the result.
func (r *reader) stream(p *codec.Push, last *codec.Stream) *codec.Stream {
	follows := r.byte()
	p.ForExtended = follows&forExtended != 0
	switch follows &^ forExtended {
	case noStream:
		r.bad = r.bad || p.ForExtended
		return last
	case newStream:
		s := &codec.Stream{Room: string(r.text()), Incarnation: r.uint()}
		r.bad = r.bad || last != nil && *s == *last
		last = s
	case sameStream:
		r.bad = r.bad || last == nil
	default:
		r.bad = true
	}
	p.Stream, p.Seq, p.Time = last, r.uint(), int64(r.uint())
	return last
}

// appendSized appends what f appends, behind its length.
func appendSized(dst []byte, f func([]byte) []byte) []byte {
	at := len(dst)
	dst = f(append(dst, 0)) // most are shorter than 128 bytes
	n := len(dst) - at - 1
	if n < 0x80 {
		dst[at] = byte(n)
		return dst
	}
	var head [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(head[:], uint64(n))
	dst = append(dst, head[1:size]...)
	copy(dst[at+size:], dst[at+1:at+1+n])
	copy(dst[at:], head[:size])
	return dst
}

// inner decodes what stands behind its length by a decoder of package channel.
func inner[T any](r *reader, parse func([]byte) (T, error)) (v T) {
	b := r.text()
	if r.bad {
		return v
	}
	v, err := parse(b)
	r.bad = err != nil
	return v
}

func appendUint(dst []byte, n uint64) []byte { return binary.AppendUvarint(dst, n) }

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(appendUint(dst, uint64(len(s))), s...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// reader decodes; after the first fault everything is zero. It takes every number in its shortest form only.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *reader) uint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// upTo is a number of at most last.
func (r *reader) upTo(last uint64) uint64 {
	v := r.uint()
	if v > last {
		r.bad = true
		return 0
	}
	return v
}

// count is the number of things that follow, each of which has at least size bytes.
func (r *reader) count(size uint64) uint64 {
	return r.upTo(uint64(len(r.b)) / size)
}

// text is what stands behind its length; nil if it is empty.
func (r *reader) text() []byte {
	if n := r.uint(); n > 0 {
		return r.take(n)
	}
	return nil
}

// name is a text of at most maxName bytes.
func (r *reader) name() string {
	b := r.text()
	r.bad = r.bad || len(b) > maxName
	if r.bad {
		return ""
	}
	return string(b)
}

// rest is all that is left.
func (r *reader) rest() []byte { return r.take(uint64(len(r.b))) }

// later skips what a later version has added.
func (r *reader) later() { r.rest() }

// end makes sure that nothing is left.
func (r *reader) end() { r.bad = r.bad || len(r.b) > 0 }
