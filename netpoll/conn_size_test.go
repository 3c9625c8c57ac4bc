package netpoll

import (
	"testing"
	"unsafe"
)

// A conn is one and a half cache lines; a hundred thousand of them are ten megabytes.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size != 96 {
		t.Errorf("a conn takes %d bytes", size)
	}
	if slab := unsafe.Sizeof([slabConns]Conn{}); slab%8192 != 0 || slab < 32<<10 { // smaller ones have size classes of their own
		t.Errorf("a slab of %d bytes fills no pages of Go's heap", slab)
	}
	var c Conn
	if end := unsafe.Offsetof(c.pos); max(unsafe.Offsetof(c.fd), unsafe.Offsetof(c.life), unsafe.Offsetof(c.cut), unsafe.Offsetof(c.out), unsafe.Offsetof(c.active)) >= end || end > 32 {
		t.Error("a pass touches two cache lines of a conn")
	}
}
