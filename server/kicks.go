//go:build linux

package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/router"
)

// Kicks for a whole fleet. Only a node itself knows who is connected to it, so each is told. What a node's operators have kicked in the last
// seconds is one note of the fleet, whose key is the node's: it comes to all as rules do, what is lost on the way included, and they are never more than there are nodes. The note ends by itself. A process that begins
// later, also by an upgrade, is told it, and kicks nobody for it: the clients that it has have come, or come back, since.

// kickKey begins the keys of these notes. No rule has such a kind.
const kickKey = "kick\x00"

const (
	kicksTold = 10 * time.Second // so long a kick stands in the note
	kicksHold = 60 * time.Second // and so long a node may carry it out, by its own clock
)

// kicks are those that this node and the others have told each other of. Safe from any goroutine.
type kicks struct {
	key  string                                                           // of this node's note
	from uint64                                                           // when this process began, in ms: what was asked before was for those of another one
	kick func(context.Context, router.SessionFilter, string) (int, error) // carries one out here

	mu   sync.Mutex
	told []toldKick        // by this node, in order
	done map[string]uint64 // up to when those of each note are carried out
	wait []toldKick        // that are not yet
	busy bool              // a goroutine is at them
}

// toldKick is a kick, and when it was asked for, in ms of its node's wall clock; no two of one node at once.
type toldKick struct {
	At uint64 `json:"at"`
	admin.Kick
}

// note is this node's note with one more kick, which is later than its last note.
func (k *kicks) note(kick admin.Kick, last uint64) (n cluster.Note, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.told); n > 0 { // that note may be on its way
		last = max(last, k.told[n-1].At)
	}
	wall := wallMillis()
	at := max(wall, last+1)
	var told []toldKick
	for _, t := range k.told {
		if t.At+uint64(kicksTold.Milliseconds()) > wall {
			told = append(told, t)
		}
	}
	told = append(told, toldKick{at, kick})
	n = cluster.Note{Key: k.key, At: at, Until: at + uint64(kicksHold.Milliseconds())}
	if n.Text, err = json.Marshal(told); err != nil {
		return n, err
	}
	if len(n.Key)+len(n.Text) > cluster.MaxNote {
		return n, app.ErrBusy
	}
	k.told = told
	return n, nil
}

// take carries out what a note of another node says that is not carried out yet. It does not wait.
func (k *kicks) take(n *cluster.Note, wall uint64) {
	if n.Key == k.key || n.Over(wall) {
		return
	}
	var told []toldKick
	if err := json.Unmarshal(n.Text, &told); err != nil {
		slog.Warn("a kick of another node is not understood, so it is not carried out here", "err", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done == nil {
		k.done = make(map[string]uint64)
	}
	for _, t := range told {
		if t.At > max(k.done[n.Key], k.from) {
			k.wait = append(k.wait, t)
		}
	}
	k.done[n.Key] = n.At
	if !k.busy && len(k.wait) > 0 {
		k.busy = true
		go k.carryOut()
	}
}

func (k *kicks) carryOut() {
	for {
		k.mu.Lock()
		if len(k.wait) == 0 {
			k.busy = false
			k.mu.Unlock()
			return
		}
		t := k.wait[0]
		k.wait = k.wait[1:]
		k.mu.Unlock()
		f, err := t.Sessions()
		n := 0
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), kickTime)
			n, err = k.kick(ctx, f, t.Reason)
			cancel()
		}
		if err != nil {
			slog.Warn("whom an operator has kicked at another node may have been kicked here or not", "name", t.Name, "uid", t.UID, "address", t.Address, "all", t.All, "err", err)
		} else if n > 0 {
			slog.Info("kicked for an operator at another node", "name", t.Name, "uid", t.UID, "address", t.Address, "all", t.All, "count", n)
		}
	}
}

// KickEverywhere implements admin.API.
func (m *moderation) KickEverywhere(ctx context.Context, kick admin.Kick) (n int, fleet bool, err error) {
	f, err := kick.Sessions()
	if err != nil {
		return 0, false, err
	}
	if fleet = m.tell != nil; fleet {
		m.mu.Lock()
		last, _ := m.notes.Get(m.kicks.key)
		note, err := m.kicks.note(kick, last.At)
		m.mu.Unlock()
		if err != nil {
			return 0, true, err
		}
		m.take([]cluster.Note{note})
	}
	n, err = m.kicks.kick(ctx, f, kick.Reason)
	return n, fleet, err
}

// isKick tells whether a note is one of kicks.
func isKick(n *cluster.Note) bool { return strings.HasPrefix(n.Key, kickKey) }
