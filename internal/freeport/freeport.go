// Package freeport finds ports for servers of tests that must know them before they are bound.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
)

// A port that the kernel chooses is soon chosen for somebody else's connection, before the server is bound. So ports are taken from below those
// that the kernel chooses, at a place by chance: other processes look for some, too.
const lowest = 15_000

var ports struct {
	sync.Mutex
	next, end int // guarded by Mutex; no port is given twice, until all have been
}

// Get is a port of 127.0.0.1 that nobody listens on.
func Get(t testing.TB) int {
	t.Helper()
	return Row(t, 1)
}

// Row is the first of so many ports of 127.0.0.1 in a row that nobody listens on. Safe from any goroutine.
func Row(t testing.TB, count int) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.end == 0 {
		ports.end = chosenByKernel()
		ports.next = lowest + rand.IntN(ports.end-lowest)
	}
	for range ports.end - lowest {
		if ports.next+count > ports.end {
			ports.next = lowest
		}
		first := ports.next
		if ports.next++; areFree(first, count) {
			ports.next = first + count
			return first
		}
	}
	t.Fatalf("no %d ports in a row from %d to %d are free", count, lowest, ports.end)
	return 0
}

// chosenByKernel is the first port that the kernel chooses. Where it chooses those of ours, too, they are as good as others.
func chosenByKernel() int {
	const all = 1 << 16
	first := all
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &first)
	}
	if first < lowest+1000 {
		return all
	}
	return first
}

func areFree(first, count int) bool {
	for port := first; port < first+count; port++ {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
