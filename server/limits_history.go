//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pomelod/pomelod/router"
)

// historyLimits registers what rooms keep of what is said in them. The defaults are for people whose connection was lost for some minutes: 64
// messages are a lively minute or a quiet hour, and ten minutes a tunnel. All of it together takes no more than 64 MiB. Pomelo's clients that
// return by themselves wait 5 s before they try, and some need as long again to connect and to enter: a place is kept for 12 s.
func (c *settings) historyLimits(f *flag.FlagSet) {
	h := &c.limits.History
	h.Messages, h.Bytes, h.Age, h.Memory = 64, 64<<10, 10*time.Minute, 64<<20
	f.Var((*historyFlag)(&h.Messages), "history", "`messages` that a room keeps for extended clients that return; 0 for none")
	f.Var((*sizeFlag)(&h.Bytes), "history-bytes", "the same in `bytes` of one room, 64 more for each message")
	f.Var((*durationFlag)(&h.Age), "history-age", "`time` after which a message is told to nobody; 0 for no limit")
	f.Var((*bytesFlag)(&h.Memory), "history-memory", "`bytes` of all that rooms keep; what empty rooms keep goes first, then the largest. By default at most an eighth of -memory")
	f.StringVar(&c.historyDir, "history-dir", "", "`folder` in which rooms' messages are kept beyond the process, so that clients return without a gap after a restart too; not in a fleet")
	f.Var((*syncFlag)(&c.historySync), "history-sync", "always or off: whether a sender is answered only when its message is on the disk. With always, messages are refused while they cannot be written; with off, the last ones before a crash may be missing")
	c.historyKeep = keepFlag{30 * 24 * time.Hour, 10 << 30}
	f.Var(&c.historyKeep, "history-keep", "`time:bytes`: how long files stay in -history-dir, and how large they may be together; the oldest are removed")
	c.limits.Rooms.Grace = 12 * time.Second
	f.Var((*graceFlag)(&c.limits.Rooms.Grace), "grace", "`time` for which a member that was cut off, and did not say goodbye, keeps its place, and others are told nothing. 0: it leaves at once, as with Pomelo")
	c.original.declare("grace", "0")
	f.Var(&c.historyOpen, "history-open", "`names` of rooms that keep what was said for everyone who enters, not only for those who were there: lobby,world*. A * at the end stands for anything")
}

// defaultHistory sets -history-memory where it is not given and memory is small.
func (c *settings) defaultHistory() error {
	if c.budget.bytes == 0 || c.set["history-memory"] || c.budget.bytes/8 >= c.limits.History.Memory {
		return nil
	}
	return c.flags.Set("history-memory", strconv.FormatInt(c.budget.bytes/8, 10))
}

// graceFlag is a time of whole milliseconds that is not too long.
type graceFlag time.Duration

func (g *graceFlag) String() string { return time.Duration(*g).String() }

func (g *graceFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > router.MaxGrace {
		return fmt.Errorf("must be a time like 12s, at most %v, or 0 for none", router.MaxGrace)
	}
	*g = graceFlag(d)
	return nil
}

// checkHistory refuses names of rooms that no room can have.
func (c *settings) checkHistory() error {
	for _, name := range c.historyOpen {
		if strings.Contains(strings.TrimSuffix(name, "*"), "*") {
			return fmt.Errorf("-history-open %q: a * may stand at the end of a name only, as in world*; * alone is every room", name)
		}
	}
	switch {
	case c.historyDir == "" && (c.set["history-sync"] || c.set["history-keep"]):
		return errors.New("-history-sync and -history-keep are for what is on disk: give -history-dir too, or leave them out")
	case c.historyDir != "" && c.fleet.on():
		return errors.New("-history-dir in a fleet: drop it, as a node of a fleet has another one keep a copy of what its rooms keep")
	case c.historyDir != "" && c.limits.History.Messages == 0:
		return errors.New("-history-dir and -history 0: rooms would keep nothing that could be written; drop one of them")
	}
	return nil
}

// historyFlag is a number of messages; 0 is none.
type historyFlag int

func (n *historyFlag) String() string { return strconv.Itoa(int(*n)) }

func (n *historyFlag) Set(text string) error {
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 {
		return fmt.Errorf("must be a number of messages, or 0 to keep none")
	}
	*n = historyFlag(i)
	return nil
}

// bytesFlag is a sizeFlag of 64 bits.
type bytesFlag int64

func (s *bytesFlag) String() string { n := sizeFlag(*s); return n.String() }

func (s *bytesFlag) Set(text string) error {
	var n sizeFlag
	err := n.Set(text)
	*s = bytesFlag(n)
	return err
}
