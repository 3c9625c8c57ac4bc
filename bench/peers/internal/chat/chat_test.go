package chat

import (
	"slices"
	"testing"
)

// conn notes what it is told.
type conn struct{ told *[]string }

func (c conn) Say(text []byte) { *c.told = append(*c.told, string(text)) }

func newConn() conn { return conn{new([]string)} }

func TestMessagesReachTheRoom(t *testing.T) {
	c := Chat[conn]{Broadcast: func(members map[conn]struct{}, text []byte) {
		for m := range members {
			m.Say(text)
		}
	}}
	var here, there, gone Member[conn]
	a, b, x := newConn(), newConn(), newConn()
	c.Take(a, &here, []byte(`{"id":1,"msg":"too soon"}`))
	c.Take(a, &here, []byte(`{"id":1,"enter":"r","name":"ann"}`))
	c.Take(a, &here, []byte(`{"id":2,"enter":"r2","name":"ann"}`))
	c.Take(b, &there, []byte(`{"id":1,"enter":"other","name":"bob"}`))
	c.Take(x, &gone, []byte(`{"id":1,"enter":"r","name":"cleo"}`))
	c.Take(x, &gone, []byte(`{"id":2,"msg":"hi \"all\""}`))
	c.Leave(x, &gone)
	c.Take(a, &here, []byte(`{"id":3,"msg":"bye"}`))
	c.Leave(b, new(Member[conn])) // who never entered

	const no = `,"error":"neither enter nor msg, or not now"}`
	hi, bye := `{"msg":"hi \"all\"","from":"cleo"}`, `{"msg":"bye","from":"ann"}`
	for told, want := range map[*[]string][]string{
		a.told: {`{"id":1` + no, `{"id":1}`, `{"id":2` + no, hi, bye, `{"id":3}`},
		b.told: {`{"id":1}`},
		x.told: {`{"id":1}`, hi, `{"id":2}`},
	} {
		if !slices.Equal(*told, want) {
			t.Errorf("told %q, want %q", *told, want)
		}
	}
}
