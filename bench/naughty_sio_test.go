//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"
)

// sioPeer is a socket.io client of naughty, by WebSocket or polling.
type sioPeer struct {
	s       *naughty
	wire    string
	dialect dialect
	conn    net.Conn      // WebSocket
	packets [][]byte      // polling: what no GET has fetched yet
	more    chan struct{} // polling: there are packets, or the end
	ended   bool
}

func (p *sioPeer) say(packet string) {
	if p.conn != nil {
		p.conn.Write(serverFrame(wsText, []byte(packet)))
		return
	}
	p.packets = append(p.packets, []byte(packet))
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *sioPeer) close() {
	if p.ended = true; p.conn != nil {
		p.conn.Close()
	} else {
		p.say("")
	}
}

func (p *sioPeer) push(content string) {
	if p.wire == "sio09" {
		p.say(fmt.Sprintf(`3:::[{"route":"onChat","msg":"%s","from":"x","target":"*"}]`, content))
	} else {
		p.event(fmt.Sprintf(`{"route":"onChat","body":{"route":"onChat","msg":"%s","from":"x","target":"*"}}`, content))
	}
}

func (p *sioPeer) answer(id uint32, body string) {
	element := fmt.Sprintf(`{"id":%d,"body":%s}`, id, body)
	if p.wire == "sio09" {
		p.say("3:::[" + element + "]")
	} else {
		p.event(element)
	}
}

func (p *sioPeer) event(text string) {
	args, _ := json.Marshal([]string{"message", text})
	p.say("42" + string(args))
}

func (p *sioPeer) garble() {
	if p.wire == "sio09" {
		p.say(`3:::[{"route":"onChat","msg":"`)
	} else {
		p.say(`42["message","{\"route\":\"onChat\",\"msg\":\"`)
	}
}

// start says what a session begins with.
func (p *sioPeer) start() {
	switch p.wire {
	case "sio09":
		p.say("1::")
	case "eio3":
		p.say(opened3)
		p.say("40")
	default:
		p.say(opened4)
	}
}

// heard takes a packet of the client. The caller holds mu.
func (p *sioPeer) heard(packet []byte) error {
	text := strings.TrimPrefix(string(packet), "3:::")
	if after, ok := strings.CutPrefix(text, "42"); ok {
		var event []string
		if err := json.Unmarshal([]byte(after), &event); err != nil {
			return err
		}
		text = event[1]
	} else if text == "40" {
		p.say(`40{"sid":"x"}`)
		return nil
	}
	var head [5]uint32
	for i := range head {
		r, n := utf8.DecodeRuneInString(text)
		head[i], text = uint32(r), text[n:]
	}
	if n := int(head[4]); n < len(text) {
		p.s.request(p, head[0]<<24|head[1]<<16|head[2]<<8|head[3], text[:n], text[n:])
		return nil
	}
	return errors.New("message cut short")
}

// serveSIO serves one generation and transport. A request that names no session opens one.
func (s *naughty) serveSIO(ln net.Listener, wire string) {
	wire, polling := strings.CutSuffix(wire, "-polling")
	dialects := map[string]dialect{"sio09": &sio09{}, "eio3": &engine{version: 3}, "eio4": &engine{version: 4}}
	sessions := map[string]*sioPeer{}
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		sid := r.URL.Query().Get("sid")
		if wire == "sio09" {
			sid = r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		}
		p := sessions[sid]
		if p == nil {
			sid = fmt.Sprintf("%03d", len(sessions)) // as long as that of opened3 and opened4
			p = &sioPeer{s: s, wire: wire, dialect: dialects[wire], more: make(chan struct{}, 1)}
			sessions[sid] = p
			if wire == "sio09" {
				write(w, sid+":60:60:websocket,xhr-polling")
				if polling {
					p.start()
				}
				return
			}
			if polling {
				p.start()
			}
		}
		switch {
		case !polling:
			p.upgrade(w)
		case r.Method == "POST":
			body, _ := io.ReadAll(r.Body)
			if err := p.dialect.payload(body, p.heard); err != nil {
				panic(http.ErrAbortHandler)
			}
			write(w, p.dialect.accepted())
		default:
			p.fetch(w, sid)
		}
	}))
}

func write(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	io.WriteString(w, body)
}

// fetch answers a GET when there is something.
func (p *sioPeer) fetch(w http.ResponseWriter, sid string) {
	for len(p.packets) == 0 && !p.ended {
		p.s.mu.Unlock()
		<-p.more
		p.s.mu.Lock()
	}
	if p.ended {
		panic(http.ErrAbortHandler)
	}
	body := p.dialect.appendPayload(nil, p.packets)
	p.packets = nil
	write(w, strings.ReplaceAll(string(body), `"sid":"abc"`, `"sid":"`+sid+`"`))
}

// upgrade makes a WebSocket of the request's connection.
func (p *sioPeer) upgrade(w http.ResponseWriter) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	p.conn = conn
	io.WriteString(conn, upgraded)
	p.start()
	go p.s.frames(conn, buffered.Reader, p.heard)
}

// frames has heard, which may rely on mu, hear of every frame of a client until the end or an error.
func (s *naughty) frames(conn net.Conn, r *bufio.Reader, heard func(payload []byte) error) {
	defer conn.Close()
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		n := int(head[1] & 0x7F)
		if n == 126 {
			long := make([]byte, 2)
			io.ReadFull(r, long)
			n = int(long[0])<<8 | int(long[1])
		}
		b := make([]byte, 4+n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		for i := range n {
			b[4+i] ^= b[i&3]
		}
		s.mu.Lock()
		err := heard(b[4:])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}
