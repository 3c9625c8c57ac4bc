package netpoll

const (
	shareNanos = 100_000 // time of one turn for what one conn asks for; the rest waits for the next
	shareAsks  = 32      // things after which that is looked at
	clientAsks = 64      // things of one turn, beyond one a read, for what all conns of one client ask for
	thingBytes = 1 << 10 // of one read that count as a thing more: to take them in costs as much
	clients    = 256     // shares told apart, by pass: clients whose passes are equal in their last bits have one together
)

// shares tells how much of a turn has gone to the conn that is being served, and to all conns of its client together. Things are what a
// handler does for a peer, each of which it asks about first, and whole thingBytes of a read. Of a client only things beyond one a read are counted. So a client that asks for
// one short thing and waits for the answer, as well-behaved ones do, is never put off because of other conns that do likewise.
//
// Conns of PassAlone, and those that have no pass, have nothing in common: they have shares of their own only. Owned by the loop.
type shares struct {
	bell  *doorbell
	clock *clock

	turn    uint32
	clients [clients]share

	asked  int   // things, by the conn that is being served
	began  int64 // when it had asked for the first shareAsks of them
	exempt bool  // it goes on although its client has had its share
}

// share is how many things a client has asked for in a turn.
type share struct{ turn, asked uint32 }

// newTurn gives everybody a new share.
func (s *shares) newTurn() { s.turn++ }

// serve says that another conn is being served from now on.
func (s *shares) serve() { s.asked = 0 }

// spent tells whether the client with this pass has had its share of this turn.
func (s *shares) spent(p Pass) bool {
	k := &s.clients[p%clients]
	return k.asked > clientAsks && k.turn == s.turn && p.shared()
}

// ask counts one thing more, of the conn that is being served, and tells whether it may go on. The conn's time begins with the first look at the
// clock, so that a client that asks for little costs none.
func (s *shares) ask(p Pass) bool {
	s.asked++
	if s.asked > 1 && p.shared() {
		s.count(p, 1)
		if !s.exempt && s.spent(p) {
			return false
		}
	}
	if s.asked%shareAsks > 0 {
		return true
	}
	now := s.clock.nanos()
	if s.asked == shareAsks {
		s.began = now
	}
	return now-s.began < shareNanos
}

// read counts the bytes of a read: thousands of conns of a client that send as much as one read takes, and ask for nothing, would keep others
// waiting as well.
func (s *shares) read(p Pass, bytes int) {
	if bytes >= thingBytes && p.shared() { // seldom
		s.count(p, uint32(bytes/thingBytes))
	}
}

func (s *shares) count(p Pass, things uint32) {
	k := &s.clients[p%clients]
	if k.turn != s.turn {
		*k = share{turn: s.turn}
		s.bell.ringOwn() // or this turn would not end before there is something else to do
	}
	k.asked += things
}

// shared tells whether conns with this pass are one client's.
func (p Pass) shared() bool { return p != 0 && p != PassAlone }
