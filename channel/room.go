package channel

import (
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Room is one channel: its members in the order they entered, and how many of them sit behind which outlet.
// Owned by the worker.
type Room struct {
	id      RoomID
	name    string
	seq     uint64
	count   int
	first   uint32 // member slots + 1, a list
	last    uint32
	panics  int
	slow    time.Duration // least time between two messages of a member; 0: none
	outlets []outletCount
	listed  int    // bytes the list of users may take, at most
	users   []byte // the list without ListEnd, only ever appended to, as items refer to it; nil when it must be built anew
}

// maxListed bounds the list of users that answers an enter: a message of the format ends at 16 MiB. It is room for 380,000
// names of ten bytes.
const maxListed = 12 << 20

// listedBytes is what a name may take in the list: three times its length when all of it is escaped, quotes and a comma.
func listedBytes(name string) int { return 3*len(name) + 3 }

type outletCount struct {
	out   Outlet
	id    OutletID
	count int
}

// member is one name in one room.
type member struct {
	name       string
	addr       Addr
	room       *Room
	next, prev uint32 // slots + 1
}

// memberKey finds a member by name.
type memberKey struct {
	room RoomID
	name string
}

func (w *Worker) member(slot uint32) *member { return &w.members[slot-1] }

func (w *Worker) find(r *Room, name string) *member {
	if slot := w.index[memberKey{r.id, name}]; slot != 0 {
		return w.member(slot)
	}
	return nil
}

// add makes name a member of r. It must not be one.
func (w *Worker) add(r *Room, name string, addr Addr) {
	var slot uint32
	if n := len(w.free); n > 0 {
		slot, w.free = w.free[n-1], w.free[:n-1]
	} else {
		w.members = append(w.members, member{})
		slot = uint32(len(w.members))
	}
	*w.member(slot) = member{name: name, addr: addr, room: r, prev: r.last}
	if r.last != 0 {
		w.member(r.last).next = slot
	} else {
		r.first = slot
	}
	r.last = slot
	r.count++
	r.listed += listedBytes(name)
	w.index[memberKey{r.id, name}] = slot
	if r.users != nil {
		r.users = codec.AppendString(append(r.users, ','), name)
	}
	w.count(r, addr)
}

// count notes a member behind addr's outlet.
func (w *Worker) count(r *Room, addr Addr) {
	id := addr.Outlet()
	for i := range r.outlets {
		if r.outlets[i].id == id {
			r.outlets[i].count++
			return
		}
	}
	r.outlets = append(r.outlets, outletCount{out: w.outlet(id), id: id, count: 1})
}

// uncount undoes count.
func (w *Worker) uncount(r *Room, addr Addr) {
	id := addr.Outlet()
	for i := range r.outlets {
		if o := &r.outlets[i]; o.id == id {
			if o.count--; o.count == 0 {
				last := len(r.outlets) - 1
				*o = r.outlets[last]
				r.outlets[last] = outletCount{}
				r.outlets = r.outlets[:last]
			}
			return
		}
	}
}

// remove takes m out of its room, which is forgotten when it is empty.
func (w *Worker) remove(m *member) {
	r := m.room
	key := memberKey{r.id, m.name}
	slot := w.index[key]
	delete(w.index, key)
	if m.prev != 0 {
		w.member(m.prev).next = m.next
	} else {
		r.first = m.next
	}
	if m.next != 0 {
		w.member(m.next).prev = m.prev
	} else {
		r.last = m.prev
	}
	r.count--
	r.listed -= listedBytes(m.name)
	r.users = nil
	w.uncount(r, m.addr)
	delete(w.keys, slot)
	delete(w.limited.spoken, slot)
	*m = member{}
	w.free = append(w.free, slot)
	if r.count == 0 {
		delete(w.rooms, r.name)
		w.limited.rooms.Add(-1)
	}
}

// list is {"users":[names in order of entry]}, or that without its end when open. Of a room that only grows the list is kept, and
// written behind what was given out before: so all the lists that N newcomers get are one, and neither N times N escapes nor N
// copies. Nothing given out ever changes. Small rooms are written anew each time and keep nothing.
func (w *Worker) list(r *Room) (body []byte, open bool) {
	if r.users == nil {
		size := len(listBegin) + r.listed/3 + 2*r.count // exact unless something has to be escaped
		if r.count > smallRoom {
			size += size / 8 // for those who come next
		}
		b := append(make([]byte, 0, size+len(ListEnd)), listBegin...)
		for slot := r.first; slot != 0; slot = w.member(slot).next {
			if slot != r.first {
				b = append(b, ',')
			}
			b = codec.AppendString(b, w.member(slot).name)
		}
		if r.count <= smallRoom {
			return append(b, ListEnd...), false
		}
		r.users = b
	}
	return r.users[:len(r.users):len(r.users)], true
}

const listBegin = `{"users":[`

// smallRoom is the number of members up to which no list of users is kept.
const smallRoom = 8
