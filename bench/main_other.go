//go:build !linux

// Command bench is a load generator for chat servers that speak NetEase Pomelo's wire.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "bench needs Linux: it stands on epoll and reads the server's costs from /proc, which %s lacks. Run it in a Linux container or virtual machine.\n", runtime.GOOS)
	os.Exit(2)
}
