package netpoll

import (
	"time"
	"unsafe"
)

// Footprint is what this package's types and constants let one conn, or the conns of one client, have of a loop. It is for those who add
// up what clients can take in all (docs/ARCHITECTURE.md); nothing here depends on it.
type Footprint struct {
	ConnBytes     int // a conn, with what it has while something is kept for it in both directions
	SegmentBytes  int // a piece of a queue, beside its bytes
	ReadBytes     int // one read
	ThrottleBytes int // unsent answers, above which the conn that asked for them is not read
	HeldBytes     int // kept of a held conn, above which it is not read

	LingerBytes   int // read of a conn that was told goodbye
	LingerSeconds int

	ClientThings int           // of one turn, for all conns of a client, beyond one a read
	ShareTime    time.Duration // of one turn, for what one conn asks for
	ResumeTime   time.Duration // of one turn, for all conns that go on with what they have asked for
	LateTime     time.Duration // of one turn, for all whose clients had had their share
	PassTime     time.Duration // of one turn, for writing to groups
	ShedConns    int           // ended in one turn for want of memory
}

// FootprintOf is this build's.
func FootprintOf() Footprint {
	return Footprint{
		ConnBytes:    int(unsafe.Sizeof(Conn{}) + unsafe.Sizeof(inbox{}) + unsafe.Sizeof(outbox{})),
		SegmentBytes: segmentBytes, ReadBytes: readBytes, ThrottleBytes: throttleBytes, HeldBytes: heldBytes,
		LingerBytes: lingerBytes, LingerSeconds: lingerSeconds,
		ClientThings: clientAsks, ShareTime: shareNanos, ResumeTime: resumeNanos, LateTime: lateNanos, PassTime: sliceNanos,
		ShedConns: shedConns,
	}
}
