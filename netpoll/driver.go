package netpoll

import (
	"net/netip"
	"syscall"
)

// Driver is what a Loop needs from the kernel. All sockets are non-blocking. Errors are plain errno values, so that a
// failing call allocates nothing; 0 is success. Methods run on the loop, except Ring.
type Driver interface {
	// Read reads once. n == 0 with errno 0 is the end of the stream.
	Read(fd int, b []byte) (n int, errno syscall.Errno)
	// Write writes once, without blocking and without SIGPIPE.
	Write(fd int, b []byte) (n int, errno syscall.Errno)
	// Watch changes which readiness of fd the driver reports. Level triggered. That the connection has failed is reported with any
	// interest but None.
	Watch(fd int, old, new Interest) error
	// CloseWrite sends what is queued in the kernel and then the end of the stream.
	CloseWrite(fd int)
	// Close closes fd, which is watched with the interest given.
	Close(fd int, watched Interest)
	// LocalAddr is the address of our end of fd.
	LocalAddr(fd int) netip.AddrPort
	// Ring makes the driver call Loop.Turn soon, and again, until Quiet. Safe from any goroutine.
	Ring()
	// Quiet ends what Ring began.
	Quiet()
}

// Interest is the readiness a driver watches a descriptor for.
type Interest uint8

// What a descriptor may be watched for. None is not at all; a loop's sockets always have Failed.
const (
	None     Interest = 0
	Readable Interest = 1
	Writable Interest = 2
	Failed   Interest = 4 // by a reset, or because the peer acknowledges nothing
)
