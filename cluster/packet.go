package cluster

import (
	"errors"
	"fmt"
)

// Everything on the bus is a packet: its kind, the version of the encoding, who sends it, and a body. Numbers are varints, strings stand behind
// their length. What is decoded is exactly what an encoder writes, so that a fault of either side shows at once; only heartbeats and
// greetings, by which nodes of all versions get to know each other, may have more at their end than this version knows (versions.go).

// runID names a run of a node on the bus, where a newcomer has no number yet.
type runID struct {
	Name string
	Run  uint64 // incarnation, never 0
}

// maxName is the longest name of a node, in bytes; a host and an address are no longer either.
const maxName = 255

// errPacket is the error of a packet that no encoder of this version has written.
var errPacket = errors.New("malformed packet")

// errVersion is the error of a packet whose version this program does not speak. Its sender is known all the same.
var errVersion = errors.New("packet of an unknown version")

type packetKind uint8

// The kinds of packets.
const (
	packetHeartbeat packetKind = iota + 1
	packetGreeting
	packetView
	packetFetch
	packetAsk
	packetAnswer
	packetBatch
	packetBatchAck
	packetRetire
	packetNotes // notes.go; who does not know these yet drops them
	packetNotesSum
	packetNotesAsk
	packetKinds
)

// body is what a packet says: one of the types below.
type body interface {
	packetKind() packetKind
	append(dst []byte) []byte
}

// heartbeat is announced every 500 ms, and at once by a node whose members have changed: it says that the node lives, whom it hears and which
// view it has adopted.
type heartbeat struct {
	Versions versions
	Number   uint64 // of this heartbeat among those of the run, from 1
	View     ViewID // the newest that the node has adopted; zero: none
	Roles    Roles
	Host     string
	Address  string // what the gate tells clients of this node; empty: it has no listener
	Load     uint64 // what a gate compares: sessions
	Draining bool
	Deaf     bool // it may not judge now, so it neither makes views nor counts as a maker
	Ready    bool // it has listened for long enough to join
	Echoes   []echo
	Terms    string // Config.Terms; empty: a version that does not tell
}

// echo says which heartbeat of a peer was the last to arrive. So the peer learns, by its own clock, that it was heard.
type echo struct {
	Peer   runID
	Number uint64 // 0: none yet, but something else
	Alive  bool   // what arrived was fresh enough
}

// greeting is announced once by each run, when it has asked for a namesake. It is answered by a heartbeat.
type greeting struct {
	Versions versions
	Roles    Roles
	Host     string
}

// viewBody carries a view, as answer to a fetch or from its maker.
type viewBody struct{ View *View }

// fetch asks for the newest view that the receiver has adopted.
type fetch struct{}

// ask is how somebody who is about to make views asks for the newest one, and how a run asks for a namesake: Number is the run then.
type ask struct{ Number uint64 }

// answer is the answer to the ask of that number.
type answer struct {
	Number uint64
	View   *View // nil: it has adopted none, or it answers a namesake
}

// batch is a stretch of a stream. A stream is named by the run of its sender, that of its receiver, and its lane.
type batch struct {
	To     uint64 // the receiver's run
	Lane   lane
	View   ViewID // the sender's when it sent this
	Offset uint64 // of the first byte among all of the stream
	Bytes  []byte // aliases the packet
}

// batchAck says how much of the receiver's stream has arrived: all before Offset.
type batchAck struct {
	To     uint64 // the run of the stream's sender
	Lane   lane
	Offset uint64
}

// retire asks a run to end in order. Who does not know it yet drops it.
type retire struct{ Run uint64 }

func (*heartbeat) packetKind() packetKind { return packetHeartbeat }
func (*greeting) packetKind() packetKind  { return packetGreeting }
func (*viewBody) packetKind() packetKind  { return packetView }
func (*fetch) packetKind() packetKind     { return packetFetch }
func (*ask) packetKind() packetKind       { return packetAsk }
func (*answer) packetKind() packetKind    { return packetAnswer }
func (*batch) packetKind() packetKind     { return packetBatch }
func (*batchAck) packetKind() packetKind  { return packetBatchAck }
func (*retire) packetKind() packetKind    { return packetRetire }

// appendPacket appends the encoding of a packet in a version that its receivers speak; hellos have their own.
func appendPacket(dst []byte, version uint8, from runID, b body) []byte {
	if a, is := b.(*answer); hello(b.packetKind()) && (!is || a.View == nil) {
		version = helloVersion
	}
	dst = append(dst, byte(b.packetKind()), version)
	return b.append(appendRun(dst, from))
}

// parsePacket decodes a packet of one of these versions. Bytes of a batch alias b. With errVersion and with a body that is malformed, from is set.
func (v versions) parsePacket(b []byte) (from runID, body body, err error) {
	r := reader{b: b}
	kind, version := packetKind(r.byte()), r.byte()
	from = r.run()
	if r.bad {
		return runID{}, nil, fmt.Errorf("%w: its head", errPacket)
	}
	foreign := version < v.Least || version > v.Greatest
	if foreign && !(version == helloVersion && hello(kind)) {
		return from, nil, fmt.Errorf("%w: kind %d, version %d of %s", errVersion, kind, version, from.Name)
	}
	greets := hello(kind) // and so has the version of hellos
	switch kind {
	case packetHeartbeat:
		body = r.heartbeat()
	case packetGreeting:
		body = &greeting{Versions: r.versions(), Roles: r.roles(), Host: r.name()}
		r.later()
	case packetView:
		body = &viewBody{View: r.view()}
	case packetFetch:
		body = &fetch{}
	case packetAsk:
		body = &ask{Number: r.uint()}
	case packetAnswer:
		a := &answer{Number: r.uint()}
		if greets = !r.bool(); !greets {
			if foreign {
				return from, nil, fmt.Errorf("%w: a view in version %d of %s", errVersion, version, from.Name)
			}
			a.View = r.view()
		}
		body = a
	case packetBatch:
		b := &batch{To: r.uint(), Lane: r.lane(), View: r.viewID(), Offset: r.uint(), Bytes: r.rest()}
		r.bad = r.bad || len(b.Bytes) == 0
		body = b
	case packetBatchAck:
		body = &batchAck{To: r.uint(), Lane: r.lane(), Offset: r.uint()}
	case packetRetire:
		body = &retire{Run: r.uint()}
	case packetNotes:
		body = r.notes()
	case packetNotesSum:
		body = &notesSum{Sum: r.uint()}
	case packetNotesAsk:
		body = r.notesAsk()
	default:
		return from, nil, fmt.Errorf("%w: kind %d of %s", errPacket, kind, from.Name)
	}
	if r.end(); r.bad || greets && version != helloVersion {
		return from, nil, fmt.Errorf("%w: kind %d of %s", errPacket, kind, from.Name)
	}
	return from, body, nil
}

func (h *heartbeat) append(dst []byte) []byte {
	dst = appendViewID(appendUint(appendVersions(dst, h.Versions), h.Number), h.View)
	dst = appendText(appendText(append(dst, byte(h.Roles)), h.Host), h.Address)
	dst = append(appendUint(dst, h.Load), bit(h.Draining)|bit(h.Deaf)<<1|bit(h.Ready)<<2)
	dst = appendUint(dst, uint64(len(h.Echoes)))
	for _, e := range h.Echoes {
		dst = append(appendUint(appendRun(dst, e.Peer), e.Number), bit(e.Alive))
	}
	return appendText(dst, h.Terms)
}

func (r *reader) heartbeat() *heartbeat {
	h := &heartbeat{Versions: r.versions(), Number: r.uint(), View: r.viewID(), Roles: r.roles(), Host: r.name(), Address: r.name(), Load: r.uint()}
	flags := r.byte()
	h.Draining, h.Deaf, h.Ready = flags&1 != 0, flags&2 != 0, flags&4 != 0
	r.bad = r.bad || flags > 7
	for range r.count(1 + 1 + 1 + 1 + 1) {
		h.Echoes = append(h.Echoes, echo{Peer: r.run(), Number: r.uint(), Alive: r.bool()})
	}
	if len(r.b) > 0 {
		h.Terms = r.name()
	}
	r.later()
	return h
}

func (g *greeting) append(dst []byte) []byte {
	return appendText(append(appendVersions(dst, g.Versions), byte(g.Roles)), g.Host)
}

func (v *viewBody) append(dst []byte) []byte { return appendView(dst, v.View) }
func (*fetch) append(dst []byte) []byte      { return dst }
func (a *ask) append(dst []byte) []byte      { return appendUint(dst, a.Number) }
func (a *retire) append(dst []byte) []byte   { return appendUint(dst, a.Run) }

func (a *answer) append(dst []byte) []byte {
	dst = append(appendUint(dst, a.Number), bit(a.View != nil))
	if a.View != nil {
		dst = appendView(dst, a.View)
	}
	return dst
}

func (b *batch) append(dst []byte) []byte {
	return append(appendUint(appendViewID(append(appendUint(dst, b.To), byte(b.Lane)), b.View), b.Offset), b.Bytes...)
}

func (a *batchAck) append(dst []byte) []byte {
	return appendUint(append(appendUint(dst, a.To), byte(a.Lane)), a.Offset)
}

func appendRun(dst []byte, id runID) []byte { return appendUint(appendText(dst, id.Name), id.Run) }

func (r *reader) run() runID {
	id := runID{Name: r.name(), Run: r.uint()}
	if r.bad = r.bad || id.Name == "" || id.Run == 0 || id.Run >= 1<<48; r.bad {
		return runID{}
	}
	return id
}

func appendVersions(dst []byte, v versions) []byte { return append(dst, v.Least, v.Greatest) }

func (r *reader) versions() versions {
	v := versions{r.byte(), r.byte()}
	r.bad = r.bad || v.Least == 0 || v.Least > v.Greatest
	return v
}

func (r *reader) roles() Roles {
	v := Roles(r.byte())
	r.bad = r.bad || v >= RoleGate<<1
	return v
}

func (r *reader) lane() lane {
	v := lane(r.byte())
	r.bad = r.bad || v >= lanes
	return v
}
