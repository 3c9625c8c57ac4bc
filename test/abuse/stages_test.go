//go:build linux

package abuse

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Clients stop at every stage between connecting and chatting: these bring them there.

// longHandshake is as long as one that takes its time needs.
var longHandshake = codec.AppendPackage(nil, codec.PackageHandshake,
	[]byte(`{"sys":{"type":"abuse","version":"1"},"user":"`+strings.Repeat("u", 200)+`"}`))

// shake is login without the ack.
func (p *peer) shake() error {
	if err := p.send(longHandshake); err != nil {
		return err
	}
	_, err := p.pkg()
	return err
}

// stage is a kind of client that comes as far as open brings it.
type stage struct {
	name string
	at   string              // where it connects; empty: to the server's address
	open func(p *peer) error // nil: it only connects
	// say is what it says after so many tenths of a second; nil: nothing.
	say func(tenths int) []byte
}

// drip says a text byte by byte.
func drip(text []byte) func(int) []byte {
	return func(tenths int) []byte {
		if tenths >= len(text) {
			return nil
		}
		return text[tenths : tenths+1]
	}
}

func stageNames(stages []stage) string {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = s.name
	}
	return strings.Join(names, ", ")
}

// undefendedEnd is longer than any stage may last with the defences.
const undefendedEnd = 6 * time.Second

// linger brings so many clients to each stage, from four addresses, and lets them say what they say there. The error names the
// stages at which any was still connected in the end.
func (a *arena) linger(stages []stage, each int, end time.Duration) error {
	if !a.defended { // nobody goes: that can be seen sooner
		end = min(end, undefendedEnd)
	}
	type client struct {
		*peer
		stage int
	}
	var clients []client
	for i := range each {
		for at, s := range stages {
			p, err := dial(fmt.Sprint(attackers, i%4+1), cmp.Or(s.at, a.addr))
			if err == nil {
				a.keep(p)
			}
			if err == nil && s.open != nil {
				err = s.open(p)
			}
			if err != nil {
				a.t.Fatalf("%s: %v", s.name, err)
			}
			p.late = end
			clients = append(clients, client{p, at})
		}
	}
	var reading sync.WaitGroup
	stays := make([]atomic.Bool, len(stages))
	for _, c := range clients {
		reading.Go(func() {
			if _, err := c.gone(); err != nil {
				stays[c.stage].Store(true)
			}
		})
	}
	gone := make(chan struct{})
	go func() { reading.Wait(); close(gone) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for tenths := 0; ; tenths++ {
		select {
		case <-gone:
			var left []stage
			for at, s := range stages {
				if stays[at].Load() {
					left = append(left, s)
				}
			}
			if len(left) > 0 {
				return errors.New("still connected: " + stageNames(left))
			}
			return nil
		case <-tick.C:
		}
		for _, c := range clients {
			if say := stages[c.stage].say; say != nil {
				_, _ = c.Write(say(tenths)) // an error is what it has been waiting for
			}
		}
	}
}
