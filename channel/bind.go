package channel

import (
	"slices"
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

// Which user's a session is, as a program says, is a claim (claim.go) under a name of its own: so sessions are counted, and forgotten, in the same way. Here is what
// only a program asks for. It says with each request how many sessions a user may have.

// bind is OpBind. A session that has to go is told so, and stays the user's until it has gone: the one that waits for that asks again.
func (d *decision) bind() {
	r, held := d.r, d.p.claims[d.r.User]
	most, err := strconv.Atoi(string(r.Content))
	mine := slices.IndexFunc(held, func(c claim) bool { return c.addr == r.From })
	switch {
	case Partition(r.User) != d.p.number || err != nil || r.Room != "":
		d.reply(Refused)
		return
	case mine >= 0:
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Refused)
		return
	case most > 0 && len(held) >= most:
		d.note(counterOf(ReasonSessions))
		d.reply(ClaimRefused)
		return
	default:
		rec := d.record(RecordClaim)
		rec.User, rec.Addr, rec.Key = r.User, r.From, r.Key
		mine = len(held)
	}
	over := 0
	if most < 0 {
		over = mine + 1 + most // those behind it have come later, and end it if they have to
	}
	for i := range max(over, 0) {
		d.post(ItemKick, held[i].addr, 0).Body = replacedReason
	}
	if over <= 0 {
		d.reply(Done)
		return
	}
	d.reply(append(strconv.AppendInt([]byte(`{"waits":`), int64(over), 10), '}'))
}

// gets tells whether a push to User's sessions is for one of them.
func (r *Request) gets(c claim) bool { return !r.Silent || c.addr.Node != r.From.Node }

// pushUser is OpPush without a room. A session that has too much to take already is left out, and no other for that.
func (d *decision) pushUser() {
	p := serverPush(d)
	reached := false
	for _, c := range d.p.claims[d.r.User] {
		if !d.r.gets(c) || slices.Contains(d.input.full, c.addr) {
			continue
		}
		if reached {
			p.Shared = new(codec.SharedFrames)
		}
		d.post(ItemDirect, c.addr, 0).Push = p
		reached = true
	}
	switch {
	case len(d.input.full) > 0:
		d.note(countBusy)
		d.reply(Refused)
	case reached:
		d.reply(Done)
	default:
		d.reply(Absent)
	}
}

// kickUser is OpKick without a room.
func (d *decision) kickUser() {
	held := d.p.claims[d.r.User]
	if len(held) == 0 {
		d.reply(Absent)
		return
	}
	reason, _ := codec.StringValue(d.r.Content)
	for _, c := range held {
		d.post(ItemKick, c.addr, 0).Body = []byte(reason)
	}
	d.reply(Done)
}

// fullOf are those that a push to a user's sessions is for and that have too much to take already.
func (w *Worker) fullOf(r *Request) (full []Addr) {
	for _, c := range w.state.parts[r.Part].claims[r.User] {
		if r.gets(c) && w.way(c.addr.Outlet()).Full(0) {
			full = append(full, c.addr)
		}
	}
	return full
}
