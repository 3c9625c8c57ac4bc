// Package channel owns the rooms. A room (Pomelo's "channel", named by a client's rid) belongs to exactly one Worker,
// chosen by the hash of its name, so joining, leaving, sending and the uniqueness of a name need no lock and have no
// race.
//
// A Worker is a single-threaded state machine: Handle takes one Request and runs to completion. It knows neither
// sockets nor wires. For each room it knows how many members sit behind which outlet, an outlet being one
// loop of one node, and everything it decides about a session (push, answer, private message, kick) leaves as an Item
// through that outlet. The items of one worker to one loop are one FIFO, and that stream is the only ordering rule there is.
//
// Requests and Items are plain data with an encoding, and name sessions by address, so that worker and session need
// not be in one process.
package channel
