//go:build linux

package server

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/pomelod/pomelod/codec"
)

// Version is what -version prints and the metric pomelod_info carries. Set it at build time: -ldflags "-X
// github.com/pomelod/pomelod/server.Version=1.2.3".
var Version = "devel"

func printVersion(w io.Writer) {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	fmt.Fprintf(w, "pomelod %s%s %s %s/%s json=%s\n", Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH, codec.JSONEngine())
}
