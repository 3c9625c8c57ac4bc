package channel

import (
	"maps"
	"slices"
)

// How many sessions a user may have is decided by one partition, that of the user's name: so two logins at once, on whatever nodes, are decided one
// after the other. A user is a text that the asking node makes of a login; it is no name of a member and of no room.

// Sessions says how many sessions a user may have.
type Sessions struct {
	Most    int  // 0: any number, and nobody need ask
	KickOld bool // the oldest make room for a new one; else that is refused
}

// claim is one session of a user's.
type claim struct {
	addr Addr
	key  uint64 // Request.Key
}

// claimCost is what a claim takes beside the user's text, about: its place in the list, and the list's in the map.
const claimCost = 160

// ClaimRefused is the answer to an OpClaim of a user that has enough sessions.
var ClaimRefused = RefusedFor(ReasonNames[ReasonSessions])

// claim counts From as one of User's sessions. One with the same key has the same secret: it is what is left of a client that was cut off, and goes.
func (d *decision) claim() {
	r, held := d.r, d.p.claims[d.r.User]
	same := func(c claim) bool { return c.addr == r.From }
	twin := func(c claim) bool { return r.Key != 0 && c.key == r.Key }
	switch {
	case slices.ContainsFunc(held, same): // the same request again, after an answer that was lost
		d.reply(Done)
		return
	case Partition(r.User) != d.p.number:
		d.reply(Refused)
		return
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Refused)
		return
	}
	over := 0
	if most := d.input.sessions.Most; most > 0 {
		over = len(held) + 1 - most
	}
	if i := slices.IndexFunc(held, twin); i >= 0 {
		d.oust(held[i])
		held, over = slices.Delete(slices.Clone(held), i, i+1), over-1
	}
	if over > 0 && !d.input.sessions.KickOld {
		d.note(counterOf(ReasonSessions))
		d.reply(ClaimRefused)
		return
	}
	for ; over > 0; over-- {
		d.oust(held[0])
		held = held[1:]
	}
	rec := d.record(RecordClaim)
	rec.User, rec.Addr, rec.Key = r.User, r.From, r.Key
	d.reply(Done)
}

// oust ends a session of User's.
func (d *decision) oust(c claim) {
	d.note(countReplaced)
	rec := d.record(RecordRelease)
	rec.User, rec.Addr = d.r.User, c.addr
	d.post(ItemKick, c.addr, 0).Body = replacedReason
}

// release takes From out of User's sessions, if it is one.
func (d *decision) release() {
	for _, c := range d.p.claims[d.r.User] {
		if c.addr == d.r.From {
			rec := d.record(RecordRelease)
			rec.User, rec.Addr = d.r.User, c.addr
		}
	}
}

// releaseNode is release for all sessions behind a node that has ended.
func (d *decision) releaseNode(node Node) {
	for _, user := range slices.Sorted(maps.Keys(d.p.claims)) {
		for _, c := range d.p.claims[user] {
			if c.addr.Node == node {
				rec := d.record(RecordRelease)
				rec.User, rec.Addr = user, c.addr
			}
		}
	}
}

// applyClaim is RecordClaim.
func (p *partition) applyClaim(r *Record) error {
	held := p.claims[r.User]
	if slices.ContainsFunc(held, func(c claim) bool { return c.addr == r.Addr }) || Partition(r.User) != p.number {
		return errRecord
	}
	if p.claims == nil {
		p.claims = make(map[string][]claim)
	}
	p.claims[r.User] = append(held, claim{r.Addr, r.Key})
	return nil
}

// applyRelease is RecordRelease.
func (p *partition) applyRelease(r *Record) error {
	held := p.claims[r.User]
	i := slices.IndexFunc(held, func(c claim) bool { return c.addr == r.Addr })
	switch {
	case i < 0:
		return errRecord
	case len(held) == 1:
		delete(p.claims, r.User)
	default:
		p.claims[r.User] = slices.Delete(held, i, i+1)
	}
	return nil
}

// snapshotClaims gives out the records of which the claims consist.
func (p *partition) snapshotClaims(emit func(Record)) {
	for _, user := range slices.Sorted(maps.Keys(p.claims)) {
		for _, c := range p.claims[user] {
			emit(Record{Kind: RecordClaim, User: user, Addr: c.addr, Key: c.key})
		}
	}
}
