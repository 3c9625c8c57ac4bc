package router

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// What a program asks of a whole fleet. A partition does what it is asked wherever its owner is; what is about all partitions is asked of each, and what is about
// all nodes is pushed to one user, whose sessions they are: so only that user's partition knows which nodes there are.

// nodesUser is the user whose sessions are the nodes with programs. No uid and no login looks like it.
const nodesUser = "nodes\x00"

// InFleet implements hosting.Node.
func (h host) InFleet() bool { return h.inFleet }

// announce has the fleet know that this node has a program, each second: a partition that has it on its list hears it twice, and one that has lost it hears it again.
func (l *loop) announce() {
	if l.node.app == nil || !l.node.inFleet || l.index != 0 || l.announced == l.np.Now() {
		return
	}
	l.announced = l.np.Now()
	_ = l.node.request(channel.Request{Op: channel.OpBind, User: nodesUser, Content: []byte("0")}) // the next one comes soon
}

// Broadcast implements hosting.Node.
func (h host) Broadcast(p *codec.Push) error {
	for _, l := range h.loops {
		if l.busy() {
			return app.ErrBusy
		}
	}
	if h.inFleet {
		if err := h.request(channel.Request{Op: channel.OpPush, User: nodesUser, Route: p.Route, Content: p.Body, Silent: true}); err != nil {
			return err
		}
	}
	h.broadcast(p)
	return nil
}

// broadcast stages a push for every session of this node that has finished its handshake.
func (n *Node) broadcast(p *codec.Push) {
	n.posting.RLock()
	defer n.posting.RUnlock()
	n.broadcasts.Add(int32(len(n.loops))) // until all have done it no session moves, or both loops might miss it
	for _, l := range n.loops {
		l.postRun(len(p.Body), func() {
			l.postRun(len(p.Body), func() { l.broadcast(p, 0) }) // a turn later, when those are here that were on their way
		})
	}
}

// OnRoom implements hosting.Node.
func (h host) OnRoom(room string, f func(life uint64, err error)) {
	part := channel.Partition(room)
	if h.inFleet {
		go h.askLife(room, f)
		return
	}
	h.posting.RLock()
	defer h.posting.RUnlock()
	l := h.placement.Load()[part].loop
	if l == nil { // another node decides for it
		go h.askLife(room, f)
		return
	}
	l.postRun(0, func() {
		if !l.worker.Owns(part) { // it moves to another loop
			h.after(time.Millisecond, func() { h.OnRoom(room, f) })
			return
		}
		f(l.worker.LifeOf(room), nil)
	})
}

// How often an owner that does not answer is asked for a room's life, and how long after the last time.
const lifeAsks, lifePause = 10, 500 * time.Millisecond

// askLife is OnRoom where another process may own the room. To ask again harms nobody.
func (h host) askLife(room string, f func(life uint64, err error)) {
	var answer struct{ Life uint64 }
	var err error
	for i := range lifeAsks {
		if i > 0 {
			time.Sleep(lifePause)
		}
		var b []byte
		if b, err = h.Ask(context.Background(), channel.Request{Op: channel.OpLife, Room: room}); err == nil {
			err = codec.Unmarshal(b, &answer)
			break
		}
		if h.closing.Load() {
			break
		}
	}
	h.posting.RLock()
	defer h.posting.RUnlock()
	h.loops[0].postRun(0, func() { f(answer.Life, err) })
}

// Rooms implements hosting.Node.
func (h host) Rooms(ctx context.Context, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error) {
	if !h.inFleet {
		return h.Node.Rooms(ctx, prefix, after, most)
	}
	return h.fleetRooms(ctx, prefix, after, most)
}

// partitionsAtOnce is how many partitions are asked at a time.
const partitionsAtOnce = 64

// fleetRooms asks the owner of each partition.
func (n *Node) fleetRooms(ctx context.Context, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	until := "" // up to that all are told; empty: all are
	parts := make(chan uint16)
	var asking sync.WaitGroup
	for range partitionsAtOnce {
		asking.Go(func() {
			for part := range parts {
				page, rest, failed := n.roomsOf(ctx, part, prefix, after, most)
				mu.Lock()
				if rest && (until == "" || page[len(page)-1].Name < until) { // what it has not told stands behind that
					until = page[len(page)-1].Name
				}
				if rooms = append(rooms, page...); len(rooms) > 4*most {
					rooms, more = firstByName(rooms, most), true
				}
				if failed != nil {
					err = cmp.Or(err, failed) // the first: others fail because of it
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for part := range uint16(channel.Partitions) {
		select {
		case parts <- part:
		case <-ctx.Done():
		}
	}
	close(parts)
	asking.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, false, err
	}
	if until != "" {
		more = true
		rooms = slices.DeleteFunc(rooms, func(r channel.RoomInfo) bool { return r.Name > until })
	}
	more = more || len(rooms) > most
	return firstByName(rooms, most), more, nil
}

func firstByName(rooms []channel.RoomInfo, most int) []channel.RoomInfo {
	slices.SortFunc(rooms, func(a, b channel.RoomInfo) int { return cmp.Compare(a.Name, b.Name) })
	return rooms[:min(len(rooms), most)]
}

// roomsOf asks the owner of a partition.
func (n *Node) roomsOf(ctx context.Context, part uint16, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error) {
	b, err := n.Ask(ctx, channel.Request{Op: channel.OpRooms, Part: part, Target: prefix, Prev: after, Ext: &channel.Extended{Most: uint32(most)}})
	if err != nil {
		return nil, false, err
	}
	var page struct {
		Rooms []hosting.RoomTold
		More  bool
	}
	if string(b) == string(channel.Refused) {
		return nil, false, app.ErrBusy
	}
	if err := codec.Unmarshal(b, &page); err != nil {
		return nil, false, err
	}
	for i := range page.Rooms {
		rooms = append(rooms, page.Rooms[i].Info())
	}
	return rooms, page.More && len(rooms) > 0, nil
}
