package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/pomelod/pomelod/channel"
)

// Window is how much other nodes may leave unconfirmed of the items of one node's owners, over all of its loops: every Holder counts in it. Safe from any goroutine.
//
// What is unconfirmed may be in links twice, on its way to its node and, with a snapshot, to who joins. So all of it may be three eighths of what links may keep: with the
// records in a follower's link, a quarter at most, that is all there is.
type Window struct {
	// Static.
	each, most int64 // bytes, of one node and of all

	all atomic.Int64

	mu    sync.Mutex
	nodes map[channel.Node]*unconfirmed
}

// unconfirmed is what one node leaves unconfirmed.
type unconfirmed struct {
	bytes atomic.Int64
	users int // Holders that count it. Guarded by the Window's mu
}

// NewWindow makes the Window of a node whose links may keep so many bytes.
func NewWindow(memory int64) *Window {
	return &Window{each: memory / 8, most: memory * 3 / 8, nodes: make(map[channel.Node]*unconfirmed)}
}

// use gives a Holder what it counts for a node, until it leaves that.
func (w *Window) use(node channel.Node) *unconfirmed {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.nodes[node]
	if u == nil {
		u = new(unconfirmed)
		w.nodes[node] = u
	}
	u.users++
	return u
}

func (w *Window) leave(node channel.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if u := w.nodes[node]; u.users > 1 {
		u.users--
	} else {
		delete(w.nodes, node)
	}
}

// tally is a Holder's part of what a node leaves unconfirmed.
type tally struct {
	own int64
	all *unconfirmed
}

// tallyOf is the Holder's part for a node, which may be nothing.
func (h *Holder) tallyOf(node channel.Node) *tally {
	s := h.kept[node]
	if s == nil {
		s = &tally{all: h.window.use(node)}
		h.kept[node] = s
	}
	return s
}

// counted adds to what a node leaves unconfirmed.
func (h *Holder) counted(node channel.Node, bytes int64) {
	s := h.tallyOf(node)
	s.own += bytes
	s.all.bytes.Add(bytes)
	h.window.all.Add(bytes)
}

// countNoMore forgets what it counts for nodes that are not in the view, or for all if there is none. Something may still be kept for a node that has just gone, until its end is executed.
func (h *Holder) countNoMore() {
	for node, s := range h.kept {
		if h.view == nil || s.own == 0 && !h.view.Has(node) {
			s.all.bytes.Add(-s.own)
			h.window.all.Add(-s.own)
			delete(h.kept, node)
			h.window.leave(node)
		}
	}
}

// Full is for the worker alone: nothing new may be admitted that is for a node with a window of items to confirm, or that those who follow the partition would have to be told by a link
// that has no room.
func (h *Holder) Full(id channel.OutletID) bool {
	w := h.window
	return h.tallyOf(id.Node).all.bytes.Load() >= w.each || w.all.Load() >= w.most || h.admits != nil && h.behind(h.admits)
}

// behind tells whether the link to one who follows a partition has no room.
func (h *Holder) behind(p *held) bool {
	for _, x := range [...]*slot{p.owner.follower, p.owner.joiner} {
		if x != nil && h.full(x.node) {
			return true
		}
	}
	return false
}
