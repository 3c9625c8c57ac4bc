package channel

// failed answers for a request that panicked, or for an item that did. A room in which it happens again is closed; so is one whose
// state may be half changed.
func (d *decision) failed(half bool) {
	if d.r != nil {
		d.begin()
	}
	if room := d.of.room; room != nil {
		d.room, d.seq = room.id, room.seq
		if room.panics > 0 || half {
			d.closeRoom(room, "room closed after an internal error")
		} else {
			d.recordOf(RecordPanic, room, 0).Num = uint64(room.panics) + 1
		}
	}
	if d.r != nil {
		d.reply(d.r.Op.RefusedBody())
	}
	d.end()
}

// closeRoom kicks every member and forgets the room.
func (d *decision) closeRoom(room *Room, reason string) {
	if room.remembers() {
		d.forget(room, true)
	}
	d.unset(room)
	for slot := room.first; slot != 0; slot = d.state.member(slot).next {
		d.recordOf(RecordRemove, room, slot)
		if d.state.isAway(slot) {
			continue
		}
		it := d.post(ItemKick, d.state.addr(slot), room.id)
		it.Body, it.Count = []byte(reason), RoomEnds
	}
}
