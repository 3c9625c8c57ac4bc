package netpoll

import (
	"net/netip"
	"syscall"
	"testing"
)

// bellDriver has a doorbell and nothing else. onQuiet runs once, where another goroutine could.
type bellDriver struct {
	rings   bool
	onQuiet func()
}

func (d *bellDriver) Read(int, []byte) (int, syscall.Errno)  { return 0, syscall.EAGAIN }
func (d *bellDriver) Write(int, []byte) (int, syscall.Errno) { return 0, syscall.EAGAIN }
func (d *bellDriver) Watch(_ int, _, _ Interest) error       { return nil }
func (d *bellDriver) CloseWrite(int)                         {}
func (d *bellDriver) Close(int, Interest)                    {}
func (d *bellDriver) LocalAddr(int) (none netip.AddrPort)    { return none }
func (d *bellDriver) Ring()                                  { d.rings = true }
func (d *bellDriver) Quiet() {
	if f := d.onQuiet; f != nil {
		d.onQuiet = nil
		f()
	}
	d.rings = false
}

// reader is a handler that only reads its mail.
type reader struct {
	box  *Mailbox[int]
	read int
}

func (*reader) Open(*Conn, []byte)                 {}
func (*reader) Data(*Conn, []byte) (int, Transfer) { return 0, Transfer{} }
func (*reader) Due(*Conn)                          {}
func (*reader) Write(*Conn, []byte) int            { return 0 }
func (*reader) Closed(*Conn, Reason)               {}
func (*reader) Passed()                            {}
func (*reader) Late(*Conn)                         {}
func (*reader) Tick()                              {}
func (h *reader) Turn()                            { h.box.Drain(100, func(*int) { h.read++ }) }

// A message posted while a turn silences the doorbell is read in that turn or rings for another: never neither.
func TestMailPostedWhileTheBellIsSilenced(t *testing.T) {
	d, h := new(bellDriver), new(reader)
	l := NewLoop(0, h, d, Limits{}, NewBudget(1), nil)
	h.box = NewMailbox[int](l.Ring)
	l.Ring()
	d.onQuiet = func() { h.box.Post(1) }
	l.Turn()
	h.box.Post(2)
	if d.rings {
		l.Turn()
	}
	if h.read != 2 {
		t.Fatalf("%d of 2 messages were read and the bell is silent", h.read)
	}
}

// Whoever rings a loop that is not rung rings its driver, every time.
func TestEachRingRings(t *testing.T) {
	d, h := new(bellDriver), new(reader)
	l := NewLoop(0, h, d, Limits{}, NewBudget(1), func() int64 { return 0 })
	h.box = NewMailbox[int](l.Ring)
	for i := range 5000 {
		h.box.Post(i)
		if !d.rings {
			t.Fatalf("ring %d was lost", i)
		}
		l.Turn()
	}
	if h.read != 5000 {
		t.Errorf("%d messages were read", h.read)
	}
}
