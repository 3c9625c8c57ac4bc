//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// roomlessPeer is a client of naughty on a wire without routes.
type roomlessPeer struct {
	s    *naughty
	wire string
	room string // centrifuge
	conn net.Conn
}

func (p *roomlessPeer) say(text string) { p.conn.Write(serverFrame(wsText, []byte(text))) }
func (p *roomlessPeer) close()          { p.conn.Close() }

func (p *roomlessPeer) push(content string) {
	switch p.wire {
	case "plain":
		p.say(fmt.Sprintf(`{"msg":"%s","from":"x"}`, content))
	case "sio4":
		p.say(fmt.Sprintf(`42["chat",{"msg":"%s","from":"x"}]`, content))
	default:
		p.say(fmt.Sprintf(`{"push":{"channel":"%s","pub":{"data":{"msg":"%s"},"info":{"user":"x","client":"y"}}}}`, p.room, content))
	}
}

// answer has the body that one of Pomelo's has.
func (p *roomlessPeer) answer(id uint32, body string) {
	fine := body == "{}" || strings.HasPrefix(body, `{"users":`)
	command := "publish"
	if id == idEnter {
		command = "subscribe"
	}
	switch {
	case p.wire == "plain" && fine:
		p.say(fmt.Sprintf(`{"id":%d}`, id))
	case p.wire == "plain":
		p.say(fmt.Sprintf(`{"id":%d,"error":"no"}`, id))
	case p.wire == "sio4" && fine:
		p.say(fmt.Sprintf(`43%d[]`, id))
	case p.wire == "sio4":
		p.say(fmt.Sprintf(`43%d["no"]`, id))
	case fine:
		p.say(fmt.Sprintf(`{"id":%d,"%s":{}}`, id+1, command))
	default:
		p.say(fmt.Sprintf(`{"id":%d,"error":{"code":103,"message":"no"}}`, id+1))
	}
}

func (p *roomlessPeer) garble() {
	switch p.wire {
	case "sio4":
		p.say(`42["chat",{"msg":"`)
	default:
		p.say(`{"msg":"`)
	}
}

var errNaughty = errors.New("the client says what it should not")

// heard takes a frame. The caller holds mu.
func (p *roomlessPeer) heard(text []byte) error {
	switch p.wire {
	case "plain":
		return p.heardPlain(text)
	case "sio4":
		return p.heardEvent(text)
	}
	return p.heardCommand(text)
}

func (p *roomlessPeer) enter(id uint32, room, name string) {
	p.s.request(p, id, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, name, room))
}

func (p *roomlessPeer) send(id uint32, msg string) {
	p.s.request(p, id, routeSend, fmt.Sprintf(`{"content":%q,"target":"*"}`, msg))
}

func (p *roomlessPeer) heardPlain(text []byte) error {
	var x struct {
		ID               uint32
		Enter, Name, Msg string
	}
	switch err := json.Unmarshal(text, &x); {
	case err != nil:
		return err
	case x.Enter != "":
		p.enter(x.ID, x.Enter, x.Name)
	default:
		p.send(x.ID, x.Msg)
	}
	return nil
}

func (p *roomlessPeer) heardEvent(packet []byte) error {
	if string(packet) == "40" {
		p.say(`40{"sid":"x"}`)
		return nil
	}
	id, rest := leadingID([]byte(strings.TrimPrefix(string(packet), "42")))
	var event []string
	switch err := json.Unmarshal(rest, &event); {
	case err != nil:
		return err
	case len(event) == 3 && event[0] == "enter":
		p.enter(id, event[1], event[2])
	case len(event) == 2 && event[0] == "send":
		p.send(id, event[1])
	default:
		return errNaughty
	}
	return nil
}

func (p *roomlessPeer) heardCommand(text []byte) error {
	var x struct {
		ID        uint32
		Connect   *struct{ Data struct{ Name string } }
		Subscribe *struct{ Channel string }
		Publish   *struct {
			Channel string
			Data    struct{ Msg string }
		}
	}
	switch err := json.Unmarshal(text, &x); {
	case err != nil:
		return err
	case x.Connect != nil && x.Connect.Data.Name != "":
		p.say(fmt.Sprintf(`{"id":%d,"connect":{"client":"y","ping":25,"pong":true}}`, x.ID))
		p.say("{}")
	case x.Subscribe != nil:
		p.room = x.Subscribe.Channel
		p.enter(x.ID-1, p.room, "x")
	case x.Publish != nil && x.Publish.Channel == p.room:
		p.send(x.ID-1, x.Publish.Data.Msg)
	case string(text) != "{}":
		return errNaughty
	}
	return nil
}

func (s *naughty) serveRoomless(ln net.Listener, wire string) {
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		p := &roomlessPeer{s: s, wire: wire, conn: conn}
		io.WriteString(conn, upgraded)
		if wire == "sio4" {
			p.say(opened4)
		}
		go s.frames(conn, buffered.Reader, p.heard)
	}))
}
