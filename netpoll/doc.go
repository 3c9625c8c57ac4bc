// Package netpoll moves bytes between sockets and one owner goroutine per event loop.
//
// A Loop owns conns, the groups they are in, their unsent bytes and their deadlines. It knows nothing of rooms,
// sessions or wires: those belong to the Handler it calls. Two things turn a loop: epoll (Epoll), and a test that turns
// it by hand (package looptest). Both implement Driver.
//
// The model, in the order things happen (turn.go):
//
//	ready(fd)  a socket has bytes or room: read, Handler.Data, write that conn's own answers
//	turn       the doorbell rang: adopt accepted sockets, Handler.Turn (mail, workers), call the handler for conns that are due or late,
//	           read conns that had to wait, write staged answers, then a slice of every active pass, shed, reap conns that have ended
//	tick       once a second: deadlines, stuck peers, Handler.Tick
//
// Output is only ever staged by a Handler; the loop writes it afterwards, so no Handler method can be re-entered by a
// failing write. A Group is a set of conns that get the same bytes: what is pushed to it gathers in a log, and a pass goes round the
// members and writes to each, at its visit, all that it has not had yet. So a busy loop merges by itself and a quiet one adds no delay.
//
// # What a Loop is made of
//
// Each part is a type with its own fields, and says what always holds. A part knows only parts that stand further down here, and calls nothing
// back but the handler.
//
//	Loop      turn.go, deliver.go, life.go, transfer.go, handover.go, accepted.go, shed.go: what an event, a turn and a tick make of the parts
//	passes    groups and their logs: which member lacks which part of a stream (pass.go, group.go, log.go)
//	outboxes  what conns have yet to be sent (outboxes.go; stage.go and queue.go are what an outbox is made of)
//	offers    writes to conns without a socket (pull.go)
//	waiting   conns that are not read, or not yet, and which of them goes on next; shares says how much of a turn a client may have
//	secures   TLS: what stands between a conn and its socket (secures.go; wire.go is what crypto/tls takes for a socket)
//	inboxes   what peers have sent and the handler has not taken; which peer has not finished in time what it began
//	sockets   descriptors: which conn has each, and what epoll watches it for
//	calls     the handler, and what a panic there costs
//	ends      conns that close, end or move in this event
//	wheel     deadlines
//	ledger    how many bytes are buffered, for the Budget that loops share; counts says how many conns there are
//	doorbell  asks the driver for a turn, and measures the wait; clock tells the time; slots holds the conns
//
// A TLS handshake costs half a millisecond of computation, too much for a loop. Handshakes does it on goroutines of its own: the loop brings the peer's
// records and hears when the handshake is done. From then on the loop drives crypto/tls itself, as it reads and writes.
//
// An Acceptor gives a loop its sockets, if a Gate lets them in; the Gate is told when each has closed.
//
// Ownership words used below: "Runs on the loop" means that the method may be called only by the goroutine that turns the
// loop, which is where every Handler method runs. "Owned by the loop" says the same of a type. "Safe from any goroutine" means what it says.
package netpoll
