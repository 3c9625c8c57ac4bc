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
}
