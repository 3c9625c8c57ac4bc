//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

// helperName is the first argument of a helper: a process that holds some of the members who only listen. It is started by
// the leader (fleet.go), gets orders by stdin, one JSON value each, and answers each with one on stdout. It ends with its
// stdin, and with the leader.
const helperName = "helper"

// order is what the leader wants: to join, to wait until it is quiet, to drain and say what it found, or to quit. The first
// one, setup, says who the helper is and is not answered.
type order struct {
	Do string `json:"do"`

	// setup
	Process    int              `json:"process,omitempty"`
	Split      split            `json:"split,omitzero"`
	Connectors []netip.AddrPort `json:"connectors,omitempty"`
	Wire       string           `json:"wire,omitempty"`
	Tag        string           `json:"tag,omitempty"`
	Patience   time.Duration    `json:"patience,omitempty"`

	// join
	Joined int `json:"joined,omitempty"` // so many members there shall be, in all processes

	// drain
	Accepted [][2]uint32 `json:"accepted,omitempty"` // by sender: of so many to so many messages everybody must have
	From     int64       `json:"from,omitempty"`     // the window, by clock
	Till     int64       `json:"till,omitempty"`
}

// outcome is how a helper answers an order. Faults are those since its start.
type outcome struct {
	Error      string `json:"error,omitempty"`
	Conns      int    `json:"conns"`
	Deliveries int64  `json:"deliveries"` // in the window
	Reads      int64  `json:"reads"`      // in the window
	Faults     faults `json:"faults"`
}

// helper is what runs in such a process. It sleeps while there is nothing to read: it shares its cpu.
type helper struct {
	run     *run
	crowd   *crowd
	traffic *traffic // of which it sees the deliveries only
	samples []sample
}

// sample is what had been read by a moment.
type sample struct{ at, deliveries, reads int64 }

// sampleEvery is how exactly a helper knows what fell into the window.
const sampleEvery = int64(time.Millisecond)

// helperTurn bounds how long an order may lie.
const helperTurn = 20 * time.Millisecond

// runHelper runs a helper until it is told to quit.
func runHelper(in io.Reader, out io.Writer) error {
	raiseFiles()
	orders := make(chan order)
	go func() {
		for d := json.NewDecoder(in); ; {
			var o order
			if err := d.Decode(&o); err != nil {
				os.Exit(exitWrong) // whatever is under way: there is nobody left to tell
			}
			orders <- o
		}
	}()
	h, err := newHelper(<-orders)
	answer := json.NewEncoder(out)
	for ; err == nil; err = h.turn(helperTurn) {
		select {
		case o := <-orders:
			if o.Do == "quit" {
				h.run.driver.close()
				return nil
			}
			if err := answer.Encode(h.do(o)); err != nil {
				return err
			}
		default:
		}
	}
	answer.Encode(outcome{Error: err.Error()})
	return err
}

func newHelper(o order) (*helper, error) {
	var m mixes
	if err := m.Set(o.Wire); err != nil {
		return nil, fmt.Errorf("helper: %w", err)
	}
	r := &run{options: &options{patience: o.Patience}, entrant: entrant{mix: m[0]}, report: &report{}, result: &result{}, target: &target{connectors: o.Connectors}, tag: o.Tag, pause: time.Millisecond}
	d, err := newDriver(r.faults(), nil)
	if err != nil {
		return nil, err
	}
	d.network += byte(o.Process)
	r.driver = d
	w := newCrowd(r)
	w.split, w.process = o.Split, o.Process
	h := &helper{run: r, crowd: w, traffic: &traffic{rate: 1, crowd: w}} // a rate: nothing is sent because something came
	w.load = h.traffic
	return h, nil
}

func (h *helper) do(o order) outcome {
	var a outcome
	var err error
	switch o.Do {
	case "join":
		if err = h.crowd.join(o.Joined, h.crowd.split.Size); err == nil {
			h.listen()
		}
	case "quiet":
		err = h.crowd.settle()
	case "drain":
		err = h.drain(o.Accepted)
		from, till := h.at(o.From), h.at(o.Till)
		a.Deliveries, a.Reads = till.deliveries-from.deliveries, till.reads-from.reads
	default:
		err = fmt.Errorf("no order %q", o.Do)
	}
	if err != nil {
		a.Error = err.Error()
	}
	a.Conns, a.Faults = h.run.driver.open, *h.run.faults()
	return a
}

// listen makes known who will send in which room: the leader numbers its senders room by room.
func (h *helper) listen() {
	w := h.crowd
	w.senders = nil
	for _, room := range w.rooms {
		room.senders = nil
		for slot := range w.split.Senders {
			s := &sender{member: &member{room: room}, id: len(w.senders), slot: slot}
			room.senders = append(room.senders, s)
			w.senders = append(w.senders, s)
		}
		for _, m := range room.members {
			m.streams = make([]stream, w.split.Senders)
		}
	}
}

// turn is one of the driver, and the sample behind it.
func (h *helper) turn(wait time.Duration) error {
	_, err := h.run.driver.turn(wait)
	if now, n := clock(), len(h.samples); n == 0 || now-h.samples[n-1].at >= sampleEvery && h.traffic.got > h.samples[n-1].deliveries {
		h.samples = append(h.samples, sample{now, h.traffic.got, h.run.driver.reads})
	}
	return err
}

// at is what had been read at a moment.
func (h *helper) at(t int64) (s sample) {
	for _, x := range h.samples {
		if x.at > t {
			break
		}
		s = x
	}
	return s
}

// drain waits for what is under way, and then counts what has not come.
func (h *helper) drain(accepted [][2]uint32) error {
	w, f := h.crowd, h.run.faults()
	var least int64
	for _, m := range w.members {
		for _, s := range m.room.senders {
			if s.id < len(accepted) {
				least += int64(accepted[s.id][0])
			}
		}
	}
	for last, since := int64(-1), clock(); h.traffic.got < least; {
		if err := h.turn(time.Millisecond); err != nil {
			return err
		}
		if now := clock(); h.traffic.got != last {
			last, since = h.traffic.got, now
		} else if now-since > int64(h.run.patience) {
			break
		}
	}
	if err := w.settle(); err != nil {
		return err
	}
	for _, m := range w.members {
		for slot, s := range m.room.senders {
			if s.id < len(accepted) {
				m.streams[slot].end(accepted[s.id][0], accepted[s.id][1], f)
			}
		}
	}
	return nil
}
