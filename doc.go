// Package pomelod holds nothing but this picture and the test that keeps it true (deps_test.go). docs/ARCHITECTURE.md goes on
// from here.
//
//	cmd/pomelod   the command
//	server        flags, signals, wiring
//	client        a small Go client, for bots and tests
//	admin         health, metrics, profiles
//	config        reads a Pomelo project's config/ directory
//	router        sessions, routes, handlers; ties loops to workers
//	channel       workers and the rooms they own; knows neither sockets nor wires
//	limit         token buckets, and what each address has and does
//	netpoll       event loops, conns, groups, deadlines; knows neither rooms nor wires
//	codec         every wire as bytes in, values and bytes out
//	bench         load generator; a stranger that talks to sockets only
//	examples      two clients that talk; a game lobby
//	interop       unmodified clients from npm, driven against the binary
//
// Imports point down only. A message goes through the server like this:
//
//	socket ─► loop ─► wire ─► session ─► worker ─► outlets ─► loops ─► groups ─► sockets
//	         netpoll  codec   router     channel   (one a loop)        one write per member and pass
//
// The loop reads and parses in place; the session finds the handler by its route; the worker, which alone owns the
// room, decides; what it decides travels to every loop that has members of the room, and each encodes it once for
// each wire that is present. Nothing on this way takes a lock for a room or starts a goroutine for a conn.
package pomelod
