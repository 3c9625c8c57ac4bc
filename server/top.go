//go:build linux

package server

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/text/width"

	"github.com/pomelod/pomelod/admin"
)

// pomelod top shows what goes on: on a terminal as a picture that is drawn anew, elsewhere as plain text.

var topCommand = command{
	name: "top", help: "show rooms, members, rates, loops and memory, live",
	about: "On a terminal until q is pressed, as large as that is. Elsewhere as text, once. Rates are of the time between two looks. In a fleet it is about the asked node.",
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o := asking(f, c)
		every := f.Duration("every", 2*time.Second, "`time` between two looks, 100ms or more")
		count := f.Int("count", 0, "so many looks; 0: until q, or one where the output is no terminal")
		rooms := f.Int("rooms", 20, "so many rooms at most, those with the most members, 1 to 1000")
		return func([]string) error {
			if *every < 100*time.Millisecond || *count < 0 {
				return settingsError{fmt.Errorf("-every %v -count %d: must be 100ms or more, and no less than 0", *every, *count)}
			}
			t := &top{o: o, every: *every, count: *count, rooms: *rooms}
			if *o.output == "json" {
				return t.json()
			}
			if out, ok := c.stdout.(*os.File); ok && isTerminal(out) {
				return t.live(out)
			}
			return t.plain()
		}
	},
}

// top is a run of pomelod top.
type top struct {
	o            *operator
	every        time.Duration
	count, rooms int
	before       *admin.Stats // nil: none yet
}

// look asks for what there is, and returns the lines of it. The first look has no rates.
func (t *top) look() (lines []string, err error) {
	var now admin.Stats
	if _, err := t.o.call("GET", "/v1/stats", nil, nil, &now); err != nil {
		return nil, err
	}
	var rooms admin.Rooms
	if _, err := t.o.call("GET", "/v1/rooms", values("by", "members", "limit", strconv.Itoa(t.rooms)), nil, &rooms); err != nil {
		return nil, err
	}
	lines = topLines(t.before, &now, rooms.Rooms)
	t.before = &now
	return lines, nil
}

// json writes what the API answers, each look a line.
func (t *top) json() error {
	for i := range max(t.count, 1) {
		if i > 0 {
			time.Sleep(t.every)
		}
		var now admin.Stats
		raw, err := t.o.call("GET", "/v1/stats", nil, nil, &now)
		if err != nil {
			return err
		}
		t.o.show(raw, nil)
	}
	return nil
}

// plain writes text, an empty line between two looks.
func (t *top) plain() error {
	if _, err := t.look(); err != nil { // so that there are rates
		return err
	}
	for i := range max(t.count, 1) {
		time.Sleep(t.every)
		lines, err := t.look()
		if err != nil {
			return err
		}
		if i > 0 {
			lines = append([]string{""}, lines...)
		}
		if _, err := io.WriteString(t.o.c.stdout, strings.Join(lines, "\n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// What a terminal is told: another screen without a cursor, and back; the upper left corner; the rest of a line or the screen is blank.
const (
	screenBegin = "\x1b[?1049h\x1b[?25l"
	screenEnd   = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineEnd     = "\x1b[K\r\n"
	screenRest  = "\x1b[J"
)

// live draws until q is pressed, a signal comes, or there were enough looks. While nobody answers it says so and goes on: a server that is upgraded comes back.
func (t *top) live(out *os.File) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGWINCH)
	defer signal.Stop(signals)
	keys, restore := readKeys(os.Stdin)
	defer restore()
	lines, err := t.look()
	if err != nil {
		return err
	}
	_, _ = io.WriteString(out, screenBegin)
	defer func() { _, _ = io.WriteString(out, screenEnd) }()
	ticker := time.NewTicker(t.every)
	defer ticker.Stop()
	for looks := 1; ; {
		if err := drawTop(out, lines); err != nil {
			return err
		}
		if looks == t.count {
			return nil
		}
		select {
		case s := <-signals:
			if s != syscall.SIGWINCH {
				return nil
			}
		case key, ok := <-keys:
			if !ok { // no keyboard
				keys = nil
			} else if key == 'q' || key == 'Q' || key == 3 {
				return nil
			}
		case <-ticker.C:
			looks++
			if lines, err = t.look(); err != nil {
				t.before = nil
				lines = []string{escaped(err.Error())}
			}
		}
	}
}

// drawTop writes what of the lines fits on the terminal.
func drawTop(out *os.File, lines []string) error {
	columns, rows := 80, 24
	if ws, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && ws.Row > 0 {
		columns, rows = int(ws.Col), int(ws.Row)
	}
	_, err := io.WriteString(out, topScreen(lines, columns, rows))
	return err
}

// topScreen is what draws lines on a screen of that size.
func topScreen(lines []string, columns, rows int) string {
	var b strings.Builder
	b.WriteString(screenHome)
	lines = lines[:min(len(lines), rows)]
	for i, line := range lines {
		b.WriteString(clip(line, columns))
		if i+1 < rows { // behind the last row the screen would scroll
			b.WriteString(lineEnd)
		}
	}
	if len(lines) < rows {
		b.WriteString(screenRest)
	}
	return b.String()
}

// clip is as much of a line as fits into so many columns. Letters of East Asia take two.
func clip(line string, columns int) string {
	at := 0
	for i, r := range line {
		switch width.LookupRune(r).Kind() {
		case width.EastAsianWide, width.EastAsianFullwidth:
			at++
		}
		if at++; at > columns {
			return line[:i]
		}
	}
	return line
}

// readKeys has a terminal tell keys at once and not show them, until restore. If it is none there are no keys. The goroutine that reads ends with the process:
// a read of a terminal cannot be called off.
func readKeys(in *os.File) (keys chan byte, restore func()) {
	old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, func() {}
	}
	raw := *old
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, func() {}
	}
	keys = make(chan byte)
	go func() {
		defer close(keys)
		var b [1]byte
		for {
			if n, err := in.Read(b[:]); n != 1 || err != nil {
				return
			}
			keys <- b[0]
		}
	}()
	return keys, func() { _ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, old) }
}

// topLines is what is shown of two looks, before may be nil.
func topLines(before, now *admin.Stats, rooms []admin.Room) []string {
	var by []string
	for _, transport := range slices.SortedFunc(maps.Keys(now.Sessions), func(a, b string) int {
		return cmp.Or(cmp.Compare(now.Sessions[b], now.Sessions[a]), cmp.Compare(a, b))
	}) {
		if n := now.Sessions[transport]; n > 0 {
			by = append(by, fmt.Sprintf("%s %d", escaped(transport), n))
		}
	}
	first := fmt.Sprintf("pomelod %s  %s  %d rooms  %d members", escaped(now.Version), time.UnixMilli(now.Time).Format(time.TimeOnly), now.Rooms, now.Members)
	if now.Away > 0 {
		first += fmt.Sprintf(", %d away", now.Away)
	}
	second := fmt.Sprintf("%d connections", now.Connections)
	if len(by) > 0 {
		second += ": " + strings.Join(by, ", ")
	}
	if now.Memory > 0 {
		second += "  memory " + bytesText(float64(now.Memory))
		if now.MemoryBudget > 0 {
			second += " of " + bytesText(float64(now.MemoryBudget))
		}
	}
	rate := func(name string) string {
		return rateOf(before, now, func(s *admin.Stats) uint64 { return s.Totals[name] })
	}
	size := func(name string) string {
		r, ok := perSecond(before, now, func(s *admin.Stats) uint64 { return s.Totals[name] })
		if !ok {
			return "-"
		}
		return bytesText(r)
	}
	lines := []string{first, second, "",
		fmt.Sprintf("per second  messages %s  requests %s  enters %s  leaves %s  writes %s  read %s  written %s  limited %s  refused %s", rate(admin.TotalSends), rate(admin.TotalRequests),
			rate(admin.TotalEnters), rate(admin.TotalLeaves), rate(admin.TotalWrites), size(admin.TotalRead), size(admin.TotalWritten), rate(admin.TotalLimited), rate(admin.TotalRefused)),
		"", fmt.Sprintf("%4s %11s %9s %9s %9s %11s", "LOOP", "CONNECTIONS", "SLOW", "DELAY", "BACKLOG", "REQUESTS/S")}
	for i := range now.Loops {
		l := &now.Loops[i]
		requests := rateOf(before, now, func(s *admin.Stats) uint64 {
			if i < len(s.Loops) {
				return s.Loops[i].Requests
			}
			return 0
		})
		lines = append(lines, fmt.Sprintf("%4d %11d %9d %7.1fms %9s %11s", i, l.Connections, l.Slow, l.DelayMS, bytesText(float64(l.Backlog)), requests))
	}
	lines = append(lines, "", fmt.Sprintf("%8s %8s  %s", "MEMBERS", "KEPT", "ROOM"))
	for i := range rooms {
		lines = append(lines, fmt.Sprintf("%8d %8d  %s", rooms[i].Members, rooms[i].Kept, escaped(rooms[i].Name)))
	}
	return lines
}

// perSecond is by how much a total grew in a second between two looks; false if that is not known, as where another process answers.
func perSecond(before, now *admin.Stats, total func(*admin.Stats) uint64) (float64, bool) {
	if before == nil || now.Time <= before.Time || total(now) < total(before) {
		return 0, false
	}
	return float64(total(now)-total(before)) / (float64(now.Time-before.Time) / 1000), true
}

func rateOf(before, now *admin.Stats, total func(*admin.Stats) uint64) string {
	r, ok := perSecond(before, now, total)
	switch {
	case !ok:
		return "-"
	case r >= 100 || r == 0:
		return strconv.FormatFloat(r, 'f', 0, 64)
	}
	return strconv.FormatFloat(r, 'f', 1, 64)
}

// bytesText is a number of bytes for people.
func bytesText(n float64) string {
	unit := 0
	for n >= 1024 && unit < 4 {
		n /= 1024
		unit++
	}
	if unit == 0 {
		return strconv.FormatFloat(n, 'f', 0, 64) + "B"
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + []string{"", "KiB", "MiB", "GiB", "TiB"}[unit]
}
