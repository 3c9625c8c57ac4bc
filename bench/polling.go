package main

import "fmt"

// polling is a socket.io client that fetches. One connection, kept, always has a GET open; what there is to say when none
// is (in answer to what has just come) is POSTed on it first. A client that has something to say while the server holds its
// GET takes a second connection for that, as browsers do. There is one POST at a time: so they arrive in order.
type polling struct {
	dialect dialect
	host    string
	url     string // of the session
	fetch   []byte // the GET
	waits   exchange
	poster  *poster // nil: not needed so far, or ended
	packets [][]byte
	taking  sink // whose packets take gets
}

// exchange is what the server has to answer on a connection.
type exchange uint8

const (
	nothing exchange = iota
	opening          // the request that opens the session
	get
	post
)

func (p *polling) hello(s sink, host string) {
	p.host, p.waits = host, opening
	s.send(appendGet(s.buffer(), host, p.dialect.path("polling")))
}

func (p *polling) read(b []byte, s sink) (int, error) {
	at := 0
	for {
		body, n, err := readResponse(b[at:])
		if n == 0 || err != nil {
			return at, err
		}
		if err := p.answered(body, s); err != nil {
			return at, err
		}
		at += n
	}
}

func (p *polling) answered(body []byte, s sink) (err error) {
	was := p.waits
	p.waits, p.taking = nothing, s
	switch was {
	case opening:
		err = p.dialect.opened(body, p.take)
		p.url = p.dialect.path("polling")
		p.fetch = appendGet(nil, p.host, p.url)
	case get:
		err = p.dialect.payload(body, p.take)
	case post:
		err = p.accepted(body)
	default:
		err = fmt.Errorf("answer to nothing: %.100q", body)
	}
	if err != nil {
		return err
	}
	if len(p.packets) > 0 && !p.posting() {
		p.waits = post
		p.post(s)
	} else {
		p.waits = get
		s.send(p.fetch)
	}
	return nil
}

func (p *polling) take(packet []byte) error {
	reply, err := p.dialect.take(packet, p.taking)
	if reply != "" {
		p.packets = append(p.packets, []byte(reply))
	}
	return err
}

func (p *polling) accepted(body []byte) error {
	if string(body) != p.dialect.accepted() {
		return fmt.Errorf("POST answered %.100q", body)
	}
	return nil
}

// post sends all packets there are with one POST.
func (p *polling) post(s sink) {
	body := p.dialect.appendPayload(nil, p.packets)
	clear(p.packets)
	p.packets = p.packets[:0]
	s.send(append(appendPostHead(s.buffer(), p.host, p.url, len(body)), body...))
}

func (p *polling) heartbeat(s sink) { p.say(s, []byte(p.dialect.heartbeat())) }

func (p *polling) request(s sink, id uint32, route string, body []byte) {
	p.say(s, p.dialect.appendRequest(nil, id, route, body))
}

// say has a packet sent: at once while the server holds a GET, else behind what is under way.
func (p *polling) say(s sink, packet []byte) {
	p.packets = append(p.packets, packet)
	switch {
	case p.waits != get || p.posting():
	case p.poster == nil:
		p.poster = &poster{polling: p, waits: true}
		p.poster.conn = s.second(p.poster)
	default:
		p.poster.post()
	}
}

func (p *polling) posting() bool { return p.poster != nil && p.poster.waits }

// poster is the second connection of a client that fetches.
type poster struct {
	polling *polling
	conn    sink
	waits   bool // for an answer, or for the connection to stand
}

func (p *poster) hello(s sink, _ string) {
	p.conn = s
	p.post()
}

func (p *poster) post() {
	p.waits = true
	p.polling.post(p.conn)
}

func (p *poster) read(b []byte, _ sink) (int, error) {
	body, n, err := readResponse(b)
	if n == 0 || err != nil {
		return 0, err
	}
	if !p.waits {
		return 0, fmt.Errorf("answer to nothing: %.100q", body)
	}
	p.waits = false
	if err := p.polling.accepted(body); err != nil {
		return 0, err
	}
	if len(p.polling.packets) > 0 {
		p.post()
	}
	return n, nil
}

// ended: servers may end a connection that has nothing to do.
func (p *poster) ended(sink) bool {
	p.polling.poster = nil
	return !p.waits
}

func (p *poster) heartbeat(sink)                       {}
func (p *poster) request(sink, uint32, string, []byte) {}
