// Package pomelod holds nothing but this picture and the test that keeps it true (deps_test.go). docs/ARCHITECTURE.md goes on
// from here.
//
//	cmd/pomelod   the command
//	server        flags, signals, wiring
//	admin         health, metrics, profiles; the API and the page of operators
//	config        reads a Pomelo project's config/ directory
//	fleet         a process's loops as one node of a fleet
//	router        sessions, routes, handlers; ties loops to partitions of rooms
//	app           what a program of yours registers and calls; app/apptest runs it in unit tests
//	channel       rooms, in partitions that are machines; knows neither sockets nor wires
//	cluster       many processes as one server; cluster/natsbus carries its packets
//	history       what rooms keep, on disk
//	limit         token buckets, and what each address has and does
//	netpoll       event loops, conns, groups, deadlines; knows neither rooms nor wires
//	codec         every wire as bytes in, values and bytes out
//	auth, filter  what the server asks services about logins and messages; hook asks them by HTTP
//	web           the chat page, its client module, and the operators' page
//	client        a small Go client, for bots and tests
//	bench         load generator; a stranger that talks to sockets only
//	examples      two clients that talk, a game lobby, and other programs
//	interop       unmodified clients of many languages, driven against the binary
//	test          hostile clients, fleets of processes, planted bugs
//
// Imports point down only. A message goes through the server like this:
//
//	socket ─► loop ─► wire ─► session ─► inlet ─► partition ─► outlets ─► loops ─► groups ─► sockets
//	         netpoll  codec   router             channel     (one a loop)        one write per member and pass
//
// The loop reads and parses in place. The session finds the handler by its route. The partition, which alone owns the
// room, decides. What it decides travels to every loop that has members of the room, and each loop encodes it once for
// each wire that is present. Nothing on this way takes a lock for a room or starts a goroutine for a conn.
package pomelod
