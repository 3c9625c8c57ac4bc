package freeport

import (
	"fmt"
	"net"
	"testing"
)

func TestPorts(t *testing.T) {
	first := Get(t)
	next := Get(t)
	if next == first {
		t.Errorf("%d is given twice", first)
	}
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", next+3)) // whoever has it
	if err == nil {
		defer l.Close()
	}
	row := Row(t, 8)
	if row <= next+3 && next+3 < row+8 {
		t.Errorf("%d is in the row from %d, and not free", next+3, row)
	}
	if end := chosenByKernel(); first >= end || row+8 > end {
		t.Errorf("the kernel chooses from %d, and %d and %d to %d are given", end, first, row, row+7)
	}
}
