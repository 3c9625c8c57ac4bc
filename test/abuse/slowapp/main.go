//go:build linux

// Command slowapp is a pomelod whose program has handlers: one that sleeps, whoever has gone meanwhile, and one that answers at
// once. Filters stand before the chat application's routes; one who enters as sleeper has them sleep too.
package main

import (
	"bytes"
	"os"
	"time"

	"github.com/pomelod/pomelod/router"
	"github.com/pomelod/pomelod/server"
)

const sleeps = 4 * time.Second

func main() {
	app := router.NewApp()
	app.Handle("test.testHandler.sleep", func(*router.Call) (any, error) { time.Sleep(sleeps); return nil, nil })
	app.Handle("test.testHandler.quick", func(*router.Call) (any, error) { return nil, nil })
	app.Before("connector.entryHandler.enter", func(c *router.Call) error {
		if bytes.Contains(c.Body, []byte("sleeper")) {
			time.Sleep(sleeps)
		}
		return nil
	})
	app.Before("chat.chatHandler.send", func(*router.Call) error { return nil })
	os.Exit(server.Main(app))
}
