//go:build linux

package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/pomelod/pomelod/internal/wirebytes"
)

// Protocol is the version of this package's messages. It changes whenever they do.
const Protocol = 1

// Greeting is the body of Hello. Its files are the listeners' sockets in their order, and then the admin's if there is one.
type Greeting struct {
	Protocol  int
	Format    string // of what follows (router.HandoverFormat)
	Version   string // of the program, for the log
	Node      []byte // router.Node.Export
	Listeners []Listener
	Admin     string // its configured address; empty for none
	Carries   bool   // the program gives away what it knows of its sessions (App.Carry)
	Upgrades  int    // that there have been since the first process
	Fleet     *Fleet `json:",omitempty"` // nil: the process is no node of one
}

// Fleet is what must be the same of a node of a fleet. What it has comes as the body of End, which is empty without one.
type Fleet struct {
	Format   int    // cluster.StateVersion
	Settings string // flags
}

// Listener is one of the old process's listeners. Its index is the tag of its conns.
type Listener struct {
	Name string // an id of servers.json, or what the flags call it
	Addr string // as it is configured
	// Told is what clients of this listener have been told that must go on holding. Where it differs they cannot be taken over.
	Told string
}

// Append encodes g.
func (g *Greeting) Append(dst []byte) []byte {
	b, err := json.Marshal(g)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return append(dst, b...)
}

// ErrProtocol means that the two processes' binaries are too far apart.
var ErrProtocol = errors.New("the running server hands over in another way than this binary: restart instead of upgrading")

// ParseGreeting decodes what came as Hello with so many files. A sender of another protocol is refused by ErrProtocol, one whose state has another
// format than the one given by a sentence.
func ParseGreeting(b []byte, files int, format string) (*Greeting, error) {
	var of struct{ Protocol int }
	if err := json.Unmarshal(b, &of); err != nil {
		return nil, ErrMalformed
	}
	if of.Protocol != Protocol {
		return nil, ErrProtocol
	}
	g := new(Greeting)
	if err := json.Unmarshal(b, g); err != nil {
		return nil, ErrMalformed
	}
	if g.Format != format {
		return nil, fmt.Errorf("the running server, %s, has another format of what it hands over (%s) than this binary (%s): restart instead of upgrading", g.Version, g.Format, format)
	}
	want := len(g.Listeners)
	if g.Admin != "" {
		want++
	}
	if want != files || len(g.Listeners) > math.MaxUint8+1 || g.Upgrades < 0 {
		return nil, ErrMalformed
	}
	return g, nil
}

// AppendTags encodes the body of Ready: which tag each of the old process's listeners has in the new one, -1 for those whose conns stay behind.
func AppendTags(dst []byte, tags []int) []byte {
	dst = wirebytes.AppendUints(dst, uint64(len(tags)))
	for _, tag := range tags {
		dst = wirebytes.AppendUints(dst, uint64(tag+1))
	}
	return dst
}

// ParseTags decodes what AppendTags has encoded, for so many listeners.
func ParseTags(b []byte, listeners int) ([]int, error) {
	r := wirebytes.NewReader(b)
	tags := make([]int, r.UpTo(math.MaxUint8+1))
	for i := range tags {
		tags[i] = int(r.UpTo(math.MaxUint8+1)) - 1
	}
	if !r.End() || len(tags) != listeners {
		return nil, ErrMalformed
	}
	return tags, nil
}

// LoopHead is the body of Loop.
type LoopHead struct {
	Frozen int64 // when it last turned, in nanoseconds of CLOCK_MONOTONIC, which both processes have
	Conns  int   // that follow
	Stays  map[string]int
	Shared []byte
}

// Append encodes h.
func (h *LoopHead) Append(dst []byte) []byte {
	dst = wirebytes.AppendUints(dst, uint64(h.Frozen), uint64(h.Conns), uint64(len(h.Stays)))
	for why, n := range h.Stays {
		dst = wirebytes.AppendUints(wirebytes.AppendBlock(dst, why), uint64(n))
	}
	return append(dst, h.Shared...)
}

// ParseLoopHead decodes what Append has encoded. Shared lies in b.
func ParseLoopHead(b []byte) (*LoopHead, error) {
	r := wirebytes.NewReader(b)
	h := &LoopHead{Frozen: int64(r.UpTo(math.MaxInt64)), Conns: int(r.UpTo(1 << 24)), Stays: make(map[string]int)}
	for range r.UpTo(uint64(len(r.Rest()))) {
		why := string(r.Block())
		h.Stays[why] = int(r.UpTo(1 << 24))
	}
	if !r.OK() {
		return nil, ErrMalformed
	}
	h.Shared = r.Rest()
	return h, nil
}

// Conn is one of those in the body of Conns.
type Conn struct {
	FD    int // -1: it has no socket
	State []byte
}

// AppendConn appends c to the body of a Conns message, and its socket to the files.
func AppendConn(m *Message, c Conn) {
	has := uint64(0)
	if c.FD >= 0 {
		has = 1
		m.Files = append(m.Files, c.FD)
	}
	m.Body = wirebytes.AppendBlock(wirebytes.AppendUints(m.Body, has), c.State)
}

// Batch limits: a message of conns is sent when it has reached either.
const (
	batchBytes = 1 << 20
	batchFiles = packetFiles * 8
)

// Full tells whether a Conns message should be sent.
func (m *Message) Full() bool { return len(m.Body) >= batchBytes || len(m.Files) >= batchFiles }

// ParseConns decodes a Conns message. The states lie in its body, and the descriptors are its files.
func ParseConns(m *Message) (conns []Conn, err error) {
	r, files := wirebytes.NewReader(m.Body), m.Files
	for r.More() {
		c := Conn{FD: -1}
		if r.UpTo(1) == 1 {
			if len(files) == 0 {
				return nil, ErrMalformed
			}
			c.FD, files = files[0], files[1:]
		}
		c.State = r.Block()
		conns = append(conns, c)
	}
	if !r.End() || len(files) > 0 {
		return nil, ErrMalformed
	}
	return conns, nil
}
