//go:build linux

// Command slowapp is a pomelod whose program has handlers: one that sleeps, whoever has gone meanwhile, and one that answers at
// once. Filters stand before the chat application's routes; one who enters as sleeper has them sleep too.
package main

import (
	"bytes"
	"os"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

const sleeps = 4 * time.Second

func main() {
	a := app.New()
	a.Handle("test.testHandler.sleep", func(*app.Call) (any, error) { time.Sleep(sleeps); return nil, nil })
	a.Handle("test.testHandler.quick", func(*app.Call) (any, error) { return nil, nil })
	a.Before("connector.entryHandler.enter", func(c *app.Call) error {
		if bytes.Contains(c.Body, []byte("sleeper")) {
			time.Sleep(sleeps)
		}
		return nil
	})
	a.Before("chat.chatHandler.send", func(*app.Call) error { return nil })
	os.Exit(server.Main(a))
}
