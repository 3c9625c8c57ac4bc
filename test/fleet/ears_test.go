package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/codec"
)

// ears hear for thousands of members at once: one goroutine and one epoll for all. A client.Client each costs three times as much of the processor as the server does to write to it, so that a room
// of 19,000 would measure the harness.
type ears struct {
	epoll     int
	heartbeat time.Duration // Static once somebody has entered.
	closing   atomic.Bool
	hearing   sync.WaitGroup
	late      []time.Duration // from when it was said until somebody heard it, where that was told. Owned by the ears' goroutine until that has ended.

	mu   sync.Mutex
	at   map[int32]*listener // by descriptor
	beat []beat              // in order
}

// listener is a member who only hears. What it has heard is owned by the ears' goroutine until that has ended.
type listener struct {
	fd   int
	rest []byte       // of a package that has not come in whole
	next atomic.Int64 // number of the message that comes next
	why  error        // why it hears no more
}

// beat is a heartbeat that is due.
type beat struct {
	fd int
	at time.Time
}

var (
	// errMuted is why who was hung up on by close hears no more.
	errMuted   = errors.New("the audience has gone")
	errRefused = errors.New("refused")
)

func newEars() (*ears, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	e := &ears{epoll: fd, at: make(map[int32]*listener)}
	e.hearing.Go(e.hear)
	return e, nil
}

// enter connects to a connector, enters a room, and hears from then on.
func (e *ears) enter(addr, room, name string) (*listener, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l := &listener{fd: fd}
	if err := l.enter(e, to, room, name); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	e.mu.Lock()
	e.at[int32(fd)] = l
	e.mu.Unlock()
	return l, syscall.EpollCtl(e.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

// enter shakes hands and enters. The descriptor blocks until it has.
func (l *listener) enter(e *ears, to netip.AddrPort, room, name string) error {
	limit := syscall.NsecToTimeval(int64(patience))
	if err := errors.Join(syscall.SetsockoptTimeval(l.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit), syscall.Connect(l.fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})); err != nil {
		return err
	}
	if err := l.send(codec.PackageHandshake, []byte(`{"sys":{"type":"go-tcp","version":"1"}}`)); err != nil {
		return err
	}
	var hands struct {
		Code int
		Sys  struct{ Heartbeat int }
	}
	if err := l.await(codec.PackageHandshake, func(body []byte) (bool, error) { return true, json.Unmarshal(body, &hands) }); err != nil || hands.Code != 200 {
		return fmt.Errorf("handshake: code %d, %w", hands.Code, err)
	}
	e.mu.Lock()
	e.heartbeat = time.Duration(hands.Sys.Heartbeat) * time.Second
	e.mu.Unlock()
	ask, _ := json.Marshal(map[string]string{"username": name, "rid": room})
	b, err := codec.AppendMessage(nil, codec.Message{Type: codec.MessageRequest, ID: 1, Route: []byte("connector.entryHandler.enter"), Body: ask})
	if err != nil {
		return err
	}
	if err := errors.Join(l.send(codec.PackageHandshakeAck, nil), l.send(codec.PackageData, b)); err != nil {
		return err
	}
	err = l.await(codec.PackageData, func(body []byte) (bool, error) {
		m, err := codec.ParseMessage(body)
		if err != nil || m.Type != codec.MessageResponse {
			return false, err
		}
		var answer struct {
			Code  int
			Error bool
		}
		if err := json.Unmarshal(m.Body, &answer); err != nil {
			return false, err
		}
		if answer.Error || answer.Code != 0 && answer.Code != 200 {
			return false, fmt.Errorf("%w: %s", errRefused, m.Body)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	e.later(l.fd) // the first heartbeat may have come before the answer
	return syscall.SetNonblock(l.fd, true)
}

// await reads packages until is says that the awaited one has come.
func (l *listener) await(t codec.PackageType, is func(body []byte) (bool, error)) error {
	for b := make([]byte, 4<<10); ; {
		for {
			kind, body, n := cutPackage(l.rest)
			if n == 0 {
				break
			}
			l.rest = l.rest[n:]
			if kind != t {
				continue
			}
			if done, err := is(body); done || err != nil {
				return err
			}
		}
		n, err := syscall.Read(l.fd, b)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		l.rest = append(l.rest, b[:n]...)
	}
}

// cutPackage is the first package of a stream, and how many bytes that is; 0: it is not whole.
func cutPackage(b []byte) (t codec.PackageType, body []byte, n int) {
	if len(b) < codec.PackageHeadBytes {
		return 0, nil, 0
	}
	n = codec.PackageHeadBytes + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if len(b) < n {
		return 0, nil, 0
	}
	return codec.PackageType(b[0]), b[codec.PackageHeadBytes:n], n
}

func (l *listener) send(t codec.PackageType, body []byte) error {
	_, err := syscall.Write(l.fd, codec.AppendPackage(nil, t, body)) // some bytes: the socket always has room for them
	return err
}

// later has a heartbeat be sent when the interval has passed.
func (e *ears) later(fd int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heartbeat > 0 {
		e.beat = append(e.beat, beat{fd, time.Now().Add(e.heartbeat)})
	}
}

// hear hears until the end.
func (e *ears) hear() {
	events, b := make([]syscall.EpollEvent, 256), make([]byte, 16<<10)
	for !e.closing.Load() {
		n, err := syscall.EpollWait(e.epoll, events, 100)
		if err != nil && err != syscall.EINTR {
			return
		}
		for i := range max(n, 0) {
			e.mu.Lock()
			l := e.at[events[i].Fd]
			e.mu.Unlock()
			if l == nil {
				continue
			}
			if err := e.read(l, b); err != nil {
				e.mute(l, err)
			}
		}
		e.beats()
	}
}

// read takes what has come for one.
func (e *ears) read(l *listener, b []byte) error {
	n, err := syscall.Read(l.fd, b)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return err
	}
	in := b[:n]
	if len(l.rest) > 0 {
		in = append(l.rest, in...)
	}
	for {
		kind, body, size := cutPackage(in)
		if size == 0 {
			l.rest = bytes.Clone(in)
			return nil
		}
		switch kind {
		case codec.PackageHeartbeat:
			e.later(l.fd)
		case codec.PackageKick:
			return fmt.Errorf("kicked: %s", body)
		case codec.PackageData:
			said, err := l.take(body)
			if err != nil {
				return err
			}
			if said != 0 {
				e.late = append(e.late, time.Duration(time.Now().UnixNano()-said))
			}
		}
		in = in[size:]
	}
}

// take takes a message: what the speaker says comes in turn. It tells when that was said, by the machine's clock, if the message does; else 0.
func (l *listener) take(body []byte) (said int64, err error) {
	_, text, is := bytes.Cut(body, []byte(`"number `))
	if !is {
		return 0, nil
	}
	text, _, _ = bytes.Cut(text, []byte(`"`))
	number, at, told := bytes.Cut(text, []byte(` at `))
	if n, err := strconv.ParseInt(string(number), 10, 64); err != nil || n != l.next.Load() {
		return 0, fmt.Errorf("%s came instead of number %d", body, l.next.Load())
	}
	if l.next.Add(1); !told {
		return 0, nil
	}
	return strconv.ParseInt(string(at), 10, 64)
}

// beats sends the heartbeats that are due.
func (e *ears) beats() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for now := time.Now(); len(e.beat) > 0 && !now.Before(e.beat[0].at); e.beat = e.beat[1:] {
		if l := e.at[int32(e.beat[0].fd)]; l != nil {
			_ = l.send(codec.PackageHeartbeat, nil) // whoever is gone is read to be
		}
	}
}

// mute has somebody hear no more.
func (e *ears) mute(l *listener, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.why = why
	delete(e.at, int32(l.fd))
	syscall.Close(l.fd)
}

// close hangs up on everybody who hears.
func (e *ears) close() {
	e.closing.Store(true)
	e.hearing.Wait()
	for _, l := range e.at {
		e.mute(l, errMuted)
	}
	syscall.Close(e.epoll)
}

// listen has somebody hear by a client of its own, as the speaker does.
func (l *listener) listen(c *client.Client) {
	for {
		push, err := c.Next()
		if err == nil && push.Route == "onChat" {
			_, err = l.take(push.Body)
		}
		if err != nil {
			l.why = err
			return
		}
	}
}
