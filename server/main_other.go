//go:build !linux

// Package server is pomelod, which this system cannot run.
package server

import (
	"fmt"
	"os"
	"runtime"

	"github.com/pomelod/pomelod/app"
)

// Main says what this system lacks and returns 2.
func Main(*app.App) int {
	fmt.Fprintf(os.Stderr, "pomelod needs Linux: its event loops stand on epoll, eventfd and timerfd, which %s lacks. Run it in a Linux container or virtual machine.\n", runtime.GOOS)
	return 2
}
