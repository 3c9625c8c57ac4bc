//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/pomelod/pomelod/codec"
)

// version is set by the Makefile (-ldflags -X main.version=...).
var version = "devel"

func printVersion(w io.Writer) {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	fmt.Fprintf(w, "pomelod %s%s %s %s/%s json=%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH, codec.JSONEngine())
}
