// Command pomelod is a chat server that speaks NetEase Pomelo's wire: gate, connector and chat workers in one process.
package main

import (
	"os"

	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(nil)) }
