package router

import (
	"slices"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// protocol is one thing that a client may speak, from the PROXY header of a connection to the socket.io of a session. A loop has one
// value of each. What differs between clients is a method or a field of theirs; nobody else asks what a session speaks. A session
// changes its protocol by speak: a connection is sniffed, then speaks HTTP, then WebSocket.
//
// All methods run on the loop. base has those that most protocols do not care for.
type protocol interface {
	// data takes bytes that have arrived and returns how many it took; it is given the others again. b is valid until it returns. When the
	// session has changed its protocol, the new one is given the rest at once.
	data(s *session, b []byte) int
	// alive is called when the client has been heard of, and returns the tick until which it need not be heard of again.
	alive(s *session) uint32
	// silent is called when that tick has passed. It asks the client whether it is there, or ends the session. When waiting is set, the
	// client waits for an answer of ours, and may be asked but not ended.
	silent(s *session, waiting bool)
	// late is called when the client has begun a message and not finished it in time. It ends the session.
	late(s *session)
	// beat answers the client's question whether we are there.
	beat(s *session)
	// acknowledge tells the client that the packet with this id has come.
	acknowledge(s *session, id []byte)
	// goodbye stages the last words of a session that is about to be closed. code is WebSocket's; 0 when there is nothing to say.
	goodbye(s *session, code uint16, reason string)
	// kick stages the reason for which a working session will be ended (protocol.md §2.8).
	kick(s *session, reason string)
	// fits tells whether s, which is made of bytes, can speak this with x for its extra.
	fits(s *session, x *extra) bool
}

// endpoint is a protocol that HTTP requests begin.
type endpoint interface {
	protocol
	// owns tells whether a request is for it, and sets the session id that it names.
	owns(r *request) bool
	// serve answers, or parks the connection. It returns false, having done nothing, when the request has to wait.
	serve(s *session, r *request) bool
	// upgrade opens a WebSocket. An error refuses it.
	upgrade(s *session, r *request) *codec.HTTPError
}

// polled is a protocol whose clients may poll (polling.go).
type polled interface {
	protocol
	// idle is the packet that ends a GET without saying anything.
	idle() string
	// farewell is the packet that ends the session.
	farewell(why netpoll.Reason) string
	// patience is the tick until which a GET that begins now is held; neverDue: until there is something to tell.
	patience() uint32
	// fetched is called when a GET has come or gone.
	fetched(in *session)
	// unheld is called when the connection whose GET was held is gone.
	unheld(in *session)
	// sendAway ends the GET that is held while the process ends. The client is to come back, here or elsewhere.
	sendAway(in, get *session)
	// answer answers a GET with a payload.
	answer(in, get *session, body []byte)
}

// protocolID numbers the rows of the table. A session keeps the number of its protocol, so that it stays plain data.
type protocolID uint8

// The protocols. Requests are offered to endpoints in this order.
const (
	protoSniff protocolID = iota // of a new session
	protoProxy
	protoHTTP
	protoProbe3
	protoProbe4
	protoEIO3
	protoEIO4
	protoSIO09
	protoHybrid
	protoTLS
)

// row is what the table says of a protocol. "How to add a wire" in docs/ARCHITECTURE.md describes how one comes into it.
type row struct {
	make func(b base) protocol
	// transports are the values of the label "transport" of pomelod_sessions that its sessions are counted under (base.count).
	transports []string
	// variants are how its clients on a listener get what is sent to them; nil: they are in no room while they speak it.
	variants func(p *Profile) []codec.Variant
}

// protocols is the table.
var protocols = []row{
	protoSniff:  {make: newSniff},
	protoProxy:  {make: newProxy},
	protoHTTP:   {make: newHTTP},
	protoProbe3: {make: newProbe3, variants: variantsEIO},
	protoProbe4: {make: newProbe4, variants: variantsEIO},
	protoEIO3:   {newEIO3, []string{"eio3-websocket", "eio3-polling"}, variantsEIO},
	protoEIO4:   {newEIO4, []string{"eio4-websocket", "eio4-polling"}, variantsEIO},
	protoSIO09:  {newSIO09, []string{"sio09-websocket", "sio09-xhr-polling", "sio09-jsonp-polling"}, variantsSIO09},
	protoHybrid: {newHybrid, []string{"hybrid-tcp", "hybrid-ws"}, variantsHybrid},
	protoTLS:    {make: newTLSStart},
}

// carries tells whether sessions of a protocol may have a framing.
func (n *Node) carries(id protocolID, framing codec.Framing) bool {
	if int(id) >= len(n.protocols) || n.protocols[id].variants == nil {
		return false
	}
	return slices.ContainsFunc(n.protocols[id].variants(n.profiles[0]), func(v codec.Variant) bool { return v.Framing == framing })
}

// transport is what a session's bytes travel by, for the figures: an index into transportNames, 0 for none.
type transport uint8

// transportNames are the transports of all rows; the first is of those that have none.
func transportNames(rows []row) []string {
	names := []string{""}
	for i := range rows {
		names = append(names, rows[i].transports...)
	}
	return names
}

// makeProtocols makes the loop's protocols.
func (l *loop) makeProtocols() {
	first := transport(1)
	for i := range l.node.protocols {
		row := &l.node.protocols[i]
		p := row.make(base{l, protocolID(i), first})
		l.protocols = append(l.protocols, p)
		if e, ok := p.(endpoint); ok {
			l.endpoints = append(l.endpoints, e)
		}
		first += transport(len(row.transports))
	}
	l.transports = make([]int64, first)
}

// protocol is what s speaks.
func (l *loop) protocol(s *session) protocol { return l.protocols[s.proto] }

// base is a protocol that says nothing by itself. Static after construction.
type base struct {
	l     *loop
	id    protocolID
	first transport // the first of row.transports
}

func (p *base) alive(s *session) uint32          { return s.alive }
func (p *base) beat(*session)                    {}
func (p *base) acknowledge(*session, []byte)     {}
func (p *base) goodbye(*session, uint16, string) {}
func (p *base) fits(_ *session, x *extra) bool {
	return x.http == nil && x.errand.task != taskProbe
}
func (p *base) late(s *session) {
	p.l.endWith(s, reasonUnfinished, codec.WSClosePolicy, "the message took too long")
}

func (p *base) silent(s *session, waiting bool) {
	switch {
	case waiting:
	case s.phase == working:
		p.l.end(s, reasonSilent)
	default:
		p.l.end(s, reasonHandshakeTimeout)
	}
}

func (p *base) kick(s *session, reason string) {
	p.l.np.Commit(s.conn, p.l.variant(s).AppendKick(p.l.np.Stage(s.conn), codec.AppendString(nil, reason)))
}

// speak makes s speak this protocol from now on. Its state there is 0.
func (p *base) speak(s *session) { s.proto, s.step = p.id, 0 }

// frame settles how s gets what is sent to it.
func (p *base) frame(s *session, framing codec.Framing) {
	s.variant = p.l.profile(s).variant(framing, false)
}

// count counts s under the nth of the protocol's transports.
func (p *base) count(s *session, n int) { p.l.countTransport(s, p.first+transport(n)) }

// countTransport counts s under what its bytes travel by now.
func (l *loop) countTransport(s *session, t transport) {
	l.transports[s.transport]--
	l.transports[t]++
	s.transport = t
}
