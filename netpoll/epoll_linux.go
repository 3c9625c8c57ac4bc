package netpoll

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Epoll drives one Loop. The doorbell is a level-triggered eventfd, which stands in the kernel's queue of what is ready like any socket: so a loop
// that always has more to do comes round to everybody. A timerfd ticks.
type Epoll struct {
	poller *poller
	bell   int
	timer  int
	stop   int
	one    [8]byte
	buf    [8]byte // of the loop; not one, which other goroutines read

	mu     sync.RWMutex
	closed bool // guarded by mu: the descriptors' numbers may be somebody else's
}

// NewEpoll opens a poller with its doorbell and its timer. Close it after Run has returned.
func NewEpoll() (*Epoll, error) {
	d := &Epoll{bell: -1, timer: -1, stop: -1}
	binary.NativeEndian.PutUint64(d.one[:], 1)
	if err := d.open(); err != nil {
		d.CloseAll()
		return nil, fmt.Errorf("open event loop: %w (raise RLIMIT_NOFILE if it says too many open files)", err)
	}
	return d, nil
}

func (d *Epoll) open() (err error) {
	if d.poller, err = openPoller(); err != nil {
		return err
	}
	for _, fd := range []*int{&d.bell, &d.stop} {
		if *fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
			return os.NewSyscallError("eventfd", err)
		}
	}
	if d.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	second := unix.Timespec{Sec: 1}
	if err = unix.TimerfdSettime(d.timer, 0, &unix.ItimerSpec{Interval: second, Value: second}, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	for _, fd := range []int{d.bell, d.stop, d.timer} {
		if err = d.poller.watch(fd, None, Readable); err != nil {
			return err
		}
	}
	return nil
}

// yieldNanos is how long a loop runs before it lets Go's scheduler look at what else there is. From 10 ms on the scheduler would see to it by
// itself: its monitor sends a signal, takes the processor away in the middle of a wait, and looks again every 20 µs for a while, which costs
// more than yielding. To yield at each wait costs most: the runtime wakes a thread to see what an idle processor could do, 1.8 futex calls and a
// switch of threads for each message that finds the loop idle.
const yieldNanos = 5e6

// Run turns l until Stop. It takes the calling goroutine, which becomes the loop's owner. When it has returned l is between two events, and Run
// may be called again: nothing is missed meanwhile.
func (d *Epoll) Run(l *Loop) error {
	yielded := l.clock.nanos()
	for {
		if now := l.EventNanos(); now-yielded > yieldNanos { // of the event before, mostly, which has looked at the clock
			yielded = now
			runtime.Gosched()
		}
		again := l.doorbell.again
		ms := timeout(l)
		if again {
			ms = 0
		}
		events, err := d.poller.wait(ms)
		if err != nil {
			return err
		}
		for i := range events {
			switch ev := &events[i]; int(ev.Fd) {
			case d.bell:
				l.Turn()
			case d.timer:
				_, _ = unix.Read(d.timer, d.buf[:])
				l.Tick()
			case d.stop: // what else was ready is still, and is told again
				_, _ = unix.Read(d.stop, d.buf[:])
				return nil
			default:
				if ev.Events&^eventsFailed == 0 {
					if hasFailed(ev.Fd) { // and is not another socket by now
						l.Failed(int(ev.Fd))
					}
					continue
				}
				l.Ready(int(ev.Fd), ev.Events&eventsRead != 0, ev.Events&eventsWrite != 0)
			}
		}
		if again && l.doorbell.again { // behind what was ready, where the doorbell would stand
			l.Turn()
		}
		if len(l.passes.resting) > 0 {
			l.Wake()
		}
	}
}

// timeout is how many ms l may wait for events; -1: for ever. It is rounded up: a loop that is woken too early would wait again.
func timeout(l *Loop) int {
	nanos, any := l.Resting()
	if !any {
		return -1
	}
	return int((nanos + 1e6 - 1) / 1e6)
}

// looksAgain implements asker.
func (d *Epoll) looksAgain() {}

// Stop makes Run return. Safe from any goroutine.
func (d *Epoll) Stop() { d.signal(d.stop) }

// CloseAll closes the driver's own descriptors. Call it once, after Run has returned.
func (d *Epoll) CloseAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	for _, fd := range []int{d.bell, d.timer, d.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if d.poller != nil {
		_ = d.poller.close()
	}
}

// Read implements Driver. Raw system calls: the sockets never block, so the scheduler need not know. They are package syscall's, as those of unix go there through
// two wrappers that hand their arguments over in memory. recvfrom, as read goes the longer way of files.
func (d *Epoll) Read(fd int, b []byte) (int, syscall.Errno) {
	if len(b) == 0 {
		return 0, unix.EINVAL
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Write implements Driver.
func (d *Epoll) Write(fd int, b []byte) (int, syscall.Errno) {
	if len(b) == 0 {
		return 0, 0
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Watch implements Driver.
func (d *Epoll) Watch(fd int, old, new Interest) error { return d.poller.watch(fd, old, new) }

// CloseWrite implements Driver.
func (d *Epoll) CloseWrite(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// Close implements Driver. close(2) also takes fd out of epoll, as no other descriptor refers to the socket.
func (d *Epoll) Close(fd int, _ Interest) { _ = unix.Close(fd) }

// Sever takes the socket of fd away from this process without closing the connection, which another process has by now. fd is no socket any more
// then, so whatever is still done to it reaches nobody.
func (d *Epoll) Sever(fd int, watched Interest) {
	_ = d.poller.watch(fd, watched, None) // epoll forgets a socket when its last descriptor is closed, and that is not ours
	if err := unix.Dup3(d.stop, fd, unix.O_CLOEXEC); err != nil {
		panic(err) // both are open, so it is a mistake of ours; going on would disturb the other process's client
	}
}

// LocalAddr implements Driver. Raw, as it cannot block, and as unix.Getsockname asks the kernel twice.
func (d *Epoll) LocalAddr(fd int) netip.AddrPort {
	var sa unix.RawSockaddrAny
	n := uint32(unsafe.Sizeof(sa))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n))); errno != 0 {
		return netip.AddrPort{}
	}
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), hostOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), hostOrder(in.Port))
	}
	return netip.AddrPort{}
}

// hostOrder is a port that the kernel has written in network order.
func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}

// Ring implements Driver. After CloseAll it does nothing.
func (d *Epoll) Ring() { d.signal(d.bell) }

func (d *Epoll) signal(fd int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.closed {
		_, _ = unix.Write(fd, d.one[:])
	}
}

// Quiet implements Driver.
func (d *Epoll) Quiet() { _, _ = unix.Read(d.bell, d.buf[:]) }
