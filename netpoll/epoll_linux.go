package netpoll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	gerrors "github.com/panjf2000/gnet/v2/pkg/errors"
	gnet "github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// Epoll drives one Loop with gnet's poller. The doorbell is our own level-triggered eventfd, because the task queue of
// gnet's poller is drained until empty and therefore cannot yield to sockets: 100 slices of 1 ms made an echo wait
// 98 ms through the queue and 3.6 ms with the eventfd. One timerfd a loop stands for a poll timeout, which
// gnet's Polling does not take.
type Epoll struct {
	poller *gnet.Poller
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
	if d.poller, err = gnet.OpenPoller(); err != nil {
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
		if err = d.poller.AddRead(&gnet.PollAttachment{FD: fd}, false); err != nil {
			return err
		}
	}
	return nil
}

// Run turns l until Stop. It takes the calling goroutine, which becomes the loop's owner.
func (d *Epoll) Run(l *Loop) error {
	err := d.poller.Polling(func(fd int, ev gnet.IOEvent, _ gnet.IOFlags) error {
		switch fd {
		case d.bell:
			l.Turn()
		case d.timer:
			_, _ = unix.Read(d.timer, d.buf[:])
			l.Tick()
		case d.stop:
			return gerrors.ErrEngineShutdown
		default:
			l.Ready(fd, ev&(gnet.ReadEvents|gnet.ErrEvents) != 0, ev&(gnet.WriteEvents|gnet.ErrEvents) != 0)
		}
		return nil
	})
	if errors.Is(err, gerrors.ErrEngineShutdown) {
		return nil
	}
	return err
}

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
		_ = d.poller.Close()
	}
}

// Read implements Driver. Raw system calls: the sockets never block, so the scheduler need not know. recvfrom, as read goes the
// longer way of files.
func (d *Epoll) Read(fd int, b []byte) (int, syscall.Errno) {
	if len(b) == 0 {
		return 0, unix.EINVAL
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
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
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
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

// Watch implements Driver. gnet's poller has no way to modify to "write only", so that one is a delete and an add.
func (d *Epoll) Watch(fd int, old, new Interest) error {
	if old == new {
		return nil
	}
	pa := gnet.PollAttachment{FD: fd}
	if old != None && (new == None || new == Writable) {
		if err := d.poller.Delete(fd); err != nil {
			return err
		}
		old = None
	}
	switch {
	case new == None:
		return nil
	case new == Writable:
		return d.poller.AddWrite(&pa, false)
	case old == None && new == Readable:
		return d.poller.AddRead(&pa, false)
	case old == None:
		return d.poller.AddReadWrite(&pa, false)
	case new == Readable:
		return d.poller.ModRead(&pa, false)
	default:
		return d.poller.ModReadWrite(&pa, false)
	}
}

// CloseWrite implements Driver.
func (d *Epoll) CloseWrite(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// Close implements Driver. close(2) also takes fd out of epoll, as no other descriptor refers to the socket.
func (d *Epoll) Close(fd int, _ Interest) { _ = unix.Close(fd) }

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
