// Package app is what a Go program adds to the chat server: handlers for routes of its own, filters before the chat application's
// routes, events, and pushes of its own. It is the only package that a game imports beside package server, which runs it:
//
//	func main() {
//		a := app.New()
//		a.Handle("area.areaHandler.roll", func(c *app.Call) (any, error) {
//			return map[string]int{"dice": 1 + rand.IntN(6)}, nil
//		})
//		os.Exit(server.Main(a))
//	}
package app
