package history

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/wirebytes"
)

// errEntry is the error of a value that nobody wrote like this.
var errEntry = errors.New("malformed entry")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendEntry appends the value of an entry: a checksum of what follows it, kind, readers, incarnation, numbers, room, body.
func appendEntry(dst []byte, e *channel.Entry) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(e.Kind), byte(e.Readers))
	dst = binary.BigEndian.AppendUint64(dst, e.Incarnation)
	dst = wirebytes.AppendUints(dst, e.Seq, e.Prev, uint64(e.Time))
	dst = binary.BigEndian.AppendUint64(dst, e.Mid)
	dst = binary.BigEndian.AppendUint64(dst, e.Key)
	dst = append(wirebytes.AppendBlock(dst, e.Room), e.Body...)
	binary.BigEndian.PutUint32(dst[at:], crc32.Checksum(dst[at+4:], castagnoli))
	return dst
}

// parseEntry reads a value. The entry's body lies in b.
func parseEntry(b []byte) (e channel.Entry, err error) {
	if len(b) < 6 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return e, errEntry
	}
	r := wirebytes.NewReader(b[4:])
	e.Kind, e.Readers = channel.EntryKind(r.Byte()), channel.Readers(r.Byte())
	e.Incarnation = r.Fixed64()
	e.Seq, e.Prev, e.Time = r.Uint(), r.Uint(), int64(r.Uint())
	e.Mid, e.Key = r.Fixed64(), r.Fixed64()
	e.Room = string(r.Block())
	e.Body = r.Rest()
	if !r.OK() || e.Kind < channel.EntrySaid || e.Kind > channel.EntryDeleted || e.Readers > channel.ReadersNobody || (e.Kind == channel.EntrySaid) != (len(e.Body) > 0) {
		return channel.Entry{}, errEntry
	}
	return e, nil
}

// memberKey is the key of a member's entry: its room comes first.
func memberKey(room string, key uint64) []byte {
	return binary.BigEndian.AppendUint64(wirebytes.AppendBlock(nil, room), key)
}
