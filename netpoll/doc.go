// Package netpoll moves bytes between sockets and one owner goroutine per event loop.
//
// A Loop owns conns, the groups they are in, their unsent bytes and their deadlines. It knows nothing of rooms,
// sessions or wires: those belong to the Handler it calls. Three things turn a loop: epoll (Epoll), a test that turns
// it by hand (package looptest), and one day a goroutine for TLS; all of them implement Driver.
//
// The model, in the order things happen:
//
//	ready(fd)  one socket has bytes or room: read, Handler.Data, write that conn's own answers
//	turn       the doorbell rang: adopt accepted sockets, Handler.Turn (mail, workers), deliver to resumed conns,
//	           write staged answers, one slice of every active pass, reap the dead
//	tick       once a second: deadlines, stuck peers
//
// An Acceptor gives a loop its sockets, if a Gate lets them in; the Gate hears when each is gone.
//
// Output is only ever staged by a Handler; the loop writes it afterwards, so no Handler method can be re-entered by a
// failing write. A Group is a set of conns that get the same bytes: what is pushed to it gathers in a log, and a pass
// writes the log with one write a member. Pushes that arrive while a pass runs gather in the next log, so a busy loop
// merges by itself and a quiet one adds no delay.
//
// Ownership words used below: "Runs on the loop" means the method may be called only by the goroutine that turns the
// loop, which is where every Handler method runs. "Safe from any goroutine" means what it says.
package netpoll
