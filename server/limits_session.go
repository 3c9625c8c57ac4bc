//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/limit"
)

// sessionLimits registers what sessions and rooms may do, and how much memory all of it may take. The defaults are those of
// -limits public:
//
//   - 100 messages a second and 200 at once: a person types, a bot sends 50 a second, and 200 are what a network may hold back of
//     that for four seconds and deliver at once.
//   - 60 a second of them to a room, for each goes to all its members.
//   - 2 enters a second and 20 at once: each is up to two pushes to a whole room and an answer with all its names, and a person who
//     looks through rooms, or a page that tries names until one is free, does not need more.
//   - 1,000 refusals: ten seconds of 300 a second, which no client does by mistake for long.
//   - 16 KiB and 64 packages before the handshake is done: a handshake has some hundred bytes, and needs two packages.
//   - 10 minutes from there to the first message: a page may be left open at its login form.
//   - 100,000 members: a program that asks for all names is told over a megabyte then, and 380,000 do not fit into a message.
//   - 1,000,000 rooms: a client enters one at a time, so fewer connections cannot have more, unless a program has them join others.
func (c *settings) sessionLimits(f *flag.FlagSet) {
	add := func(v flag.Value, name, usage string) {
		f.Var(v, name, usage)
		c.preset.declare(name, "0")
	}
	l := &c.limits
	l.SessionRate, l.SendRate, l.Flood = limit.Rate{PerSecond: 100, Burst: 200}, limit.Rate{PerSecond: 60, Burst: 200}, 1000
	l.EnterRate = limit.Rate{PerSecond: 2, Burst: 20}
	l.EarlyBytes, l.EarlyPackages, l.FirstSeconds = 16<<10, 64, 600
	l.Rooms.Members, l.Rooms.Rooms = 100_000, 1_000_000
	c.memory = memoryAuto
	add((*rateFlag)(&l.SessionRate), "session-rate", "messages of one session, `rate:burst`; more are refused. 0 for no limit, as in all flags of -limits")
	add((*rateFlag)(&l.SendRate), "send-rate", "messages of one session to a room or one of its members, `rate:burst`; more are refused")
	add((*rateFlag)(&l.EnterRate), "enter-rate", "enters of one session, changes of name and room, and pages of history and of members, included, `rate:burst`; more are refused")
	add((*countFlag)(&l.Flood), "flood", "`number` of refusals more than messages accepted, after which a session is disconnected")
	add((*sizeOrNone)(&l.EarlyBytes), "handshake-bytes", "`bytes` a client may send before its handshake is done")
	add((*countFlag)(&l.EarlyPackages), "handshake-packages", "`number` of packages a client may send before its handshake is done")
	add((*secondsOrNone)(&l.FirstSeconds), "first-message-timeout", "`time` from the handshake to a client's first message; not where a program has handlers of its own")
	add((*countFlag)(&l.Rooms.Members), "room-members", "`members` of one room; more are refused")
	// No limit, so -limits does not change it: nobody is refused anything.
	l.Rooms.List = 1000
	f.Var((*countFlag)(&l.Rooms.List), "list", "`members` of a room; beyond it, until the room is empty, nobody is told who comes and goes, and who enters is told the newest 200 names and how many there are. 0: never, as with Pomelo")
	add((*countFlag)(&l.Rooms.Rooms), "rooms", "`rooms` in all; enters that would make more are refused")
	add((*durationFlag)(&l.Rooms.Slow), "slow-mode", "least `time` between two messages of one member in a room")
	f.StringVar(&c.rooms.path, "rooms-file", "", "`file` that says which rooms have other limits, history or locks than the flags, and which are held, so that many messages cost one write (docs/OPERATIONS.md, \"Rooms that differ\")")
	add(&c.memory, "memory", "`bytes` pomelod may take, the kernel's for its sockets included; auto is the limit of its cgroup, or four fifths of the machine's, or what a limit of the address space leaves. New connections and enters are refused from 80% on, and the largest backlogs closed from 90%")
}

// countFlag is a number; 0 is no limit.
type countFlag int

func (n *countFlag) String() string { return strconv.Itoa(int(*n)) }

func (n *countFlag) Set(text string) error {
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 {
		return errors.New("must be a number, or 0 for no limit")
	}
	*n = countFlag(i)
	return nil
}

// sizeOrNone is a sizeFlag that may be 0 for no limit.
type sizeOrNone int

func (s *sizeOrNone) String() string { return (*sizeFlag)(s).String() }

func (s *sizeOrNone) Set(text string) error {
	if text == "0" {
		*s = 0
		return nil
	}
	return (*sizeFlag)(s).Set(text)
}

// secondsOrNone is a secondsFlag that may be 0 for no limit.
type secondsOrNone uint32

func (s *secondsOrNone) String() string { return (*secondsFlag)(s).String() }

func (s *secondsOrNone) Set(text string) error {
	if text == "0" || text == "0s" {
		*s = 0
		return nil
	}
	return (*secondsFlag)(s).Set(text)
}

// durationFlag is a time of whole milliseconds, at most a day; 0 is none.
type durationFlag time.Duration

func (d *durationFlag) String() string { return time.Duration(*d).String() }

func (d *durationFlag) Set(text string) error {
	t, err := time.ParseDuration(text)
	if err != nil || t < 0 || t > 24*time.Hour || t%time.Millisecond != 0 {
		return errors.New("must be a time in milliseconds, at most 24h, such as 5s, or 0 for none")
	}
	*d = durationFlag(t)
	return nil
}

// memoryFlag is a budget of memory in bytes, 0 for none.
type memoryFlag sizeOrNone

// memoryAuto asks for what the cgroup or the machine has.
const memoryAuto memoryFlag = -1

func (m *memoryFlag) String() string {
	if *m == memoryAuto {
		return "auto"
	}
	return (*sizeOrNone)(m).String()
}

func (m *memoryFlag) Set(text string) error {
	if text == "auto" {
		*m = memoryAuto
		return nil
	}
	if err := (*sizeOrNone)(m).Set(text); err != nil {
		return fmt.Errorf("%w, auto or 0 for no limit", err)
	}
	return nil
}

// minMemory is the least budget with which anything works.
const minMemory = 32 << 20

// defaultBuffered sets -max-buffered where it is not given: to its default, or a quarter of the memory there is if that is less.
func (c *settings) defaultBuffered() error {
	if c.budget.bytes > 0 && c.budget.bytes < minMemory {
		return fmt.Errorf("memory of %d bytes (%s): pomelod needs at least %d; give it more, or -memory 0 for no limit", c.budget.bytes, c.budget.source, minMemory)
	}
	if c.budget.bytes == 0 || c.set["max-buffered"] {
		return nil
	}
	if quarter := max(c.budget.bytes/4, int64(c.limits.Conn.Outbound)); quarter < c.limits.Conn.Buffered {
		return c.flags.Set("max-buffered", strconv.FormatInt(quarter, 10))
	}
	return nil
}
