package router

import (
	"bytes"

	"github.com/pomelod/pomelod/channel"
)

// placement says where every partition is. Immutable: a change puts another one in its place (Node.placement), while all loops run.
type placement [channel.Partitions]place

// place is where one partition is.
type place struct {
	inlet channel.Inlet // the way to its owner from any goroutine
	loop  *loop         // the loop on which the owner runs; nil: on another node
}

// newPlacement deals the partitions out to the loops in turn, unless they are elsewhere.
func newPlacement(loops []*loop, elsewhere channel.Inlet) *placement {
	p := new(placement)
	for part := range p {
		if elsewhere != nil {
			p[part] = place{inlet: elsewhere}
			continue
		}
		l := loops[part%len(loops)]
		p[part] = place{(*mailInlet)(l), l}
	}
	return p
}

// inlet is the way from this loop to the owner of a partition. Requests of one loop to one partition stay in order, as they always take the
// same way.
func (l *loop) inlet(part uint16) channel.Inlet {
	at := &l.node.placement.Load()[part]
	if at.loop == l {
		return (*ownInlet)(l)
	}
	return at.inlet
}

// elsewhereSeconds is how much longer a loop waits for an answer from another node. The fleet gives a request up after Limits.RequestSeconds, and
// answers: it knows whether the request was sent, and undoes an enter in its place among the session's requests. A loop counts in whole seconds, and the
// request has waited for a turn.
const elsewhereSeconds = 2

// elsewhere tells whether the owner of a partition is on another node, as far as the loops know.
func (l *loop) elsewhere(part uint16) bool { return l.node.placement.Load()[part].loop == nil }

// ownInlet leads from a loop to the partitions that run on it, where a request is executed at once, or behind the one that is being executed.
type ownInlet loop

// Post implements channel.Inlet. Runs on the loop.
func (in *ownInlet) Post(r channel.Request) {
	if in.node.roundTrip {
		r = roundTripRequest(r)
	}
	in.requests = append(in.requests, r)
	if !in.running {
		(*loop)(in).catchUp()
	}
}

// Full implements channel.Inlet.
func (in *ownInlet) Full() bool { return (*mailInlet)(in).Full() }

// mailInlet leads from anywhere to the partitions that run on a loop. Safe from any goroutine.
type mailInlet loop

// Post implements channel.Inlet.
func (in *mailInlet) Post(r channel.Request) {
	r.Content = bytes.Clone(r.Content) // it lies in a read buffer
	if in.node.roundTrip {
		r = roundTripRequest(r)
	}
	in.inbox.Add(r.Weight())
	in.mail.Post(mail{request: &r})
}

// Full implements channel.Inlet.
func (in *mailInlet) Full() bool { return in.inbox.Load() >= int64(in.node.limits.Load().Inbox) }

// outlet carries items from the partitions of one loop to one loop. Owned by the loop that posts.
type outlet struct {
	from, to *loop
	held     []mail // of the input that is being executed
}

// Post implements channel.Outlet.
func (o *outlet) Post(it *channel.Item) {
	if o.to.node.roundTrip {
		it = roundTripItem(it)
	}
	if o.from == o.to {
		o.to.apply(it)
		return
	}
	m := mail{item: *it, weight: itemBytes(it)}
	o.to.mailBytes.Add(m.weight)
	o.held = append(o.held, m)
}

// maxHeld is how many items' memory an outlet keeps between inputs: only closing a large room needs more.
const maxHeld = 64

// Flush implements channel.Outlet. What one input leads to is posted at once: so a push and the answer to its sender are carried out in one
// turn, and rung for once.
func (o *outlet) Flush() {
	if len(o.held) == 0 {
		return
	}
	o.to.mail.Post(o.held...)
	clear(o.held)
	if o.held = o.held[:0]; cap(o.held) > maxHeld {
		o.held = nil
	}
}

// Full implements channel.Outlet: one or two atomic loads.
func (o *outlet) Full(room channel.RoomID) bool {
	if o.to.busy() {
		return true
	}
	if crowded := o.to.rooms.crowded.Load(); crowded != nil {
		_, is := (*crowded)[room]
		return is
	}
	return false
}

// itemBytes is what an item weighs in a mailbox.
func itemBytes(it *channel.Item) int64 {
	n := 128 + len(it.Body)
	if it.Push != nil {
		n += len(it.Push.Body)
	}
	return int64(n)
}

func roundTripRequest(r channel.Request) channel.Request {
	decoded, err := channel.ParseRequest(channel.AppendRequest(nil, &r))
	if err != nil {
		panic(err)
	}
	return decoded
}

func roundTripItem(it *channel.Item) *channel.Item {
	decoded, err := channel.ParseItem(channel.AppendItem(nil, it))
	if err != nil {
		panic(err)
	}
	return &decoded
}
