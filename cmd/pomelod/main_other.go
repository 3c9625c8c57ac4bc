//go:build !linux

// Command pomelod is a chat server that speaks NetEase Pomelo's wire.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "pomelod needs Linux: its event loops stand on epoll, eventfd and timerfd, which %s lacks. Run it in a Linux container or virtual machine.\n", runtime.GOOS)
	os.Exit(2)
}
