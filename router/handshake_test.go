package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// Every refused handshake is answered with a package, then closed, and nothing behind it counts (protocol.md §2.4).
func TestHandshakeRefusals(t *testing.T) {
	bodies := []string{
		"", " ", "x", "{", `{"sys":{}`, `{"sys":{}}x`, `{"sys":{"type":}}`, `{sys:{}}`, `[]`, `7`, `null`, `"sys"`,
		`{}`, `{"user":{"sys":{}}}`, `{"Sys":{}}`, `{"sys":null}`, `{"sys":false}`, `{"sys":0}`, `{"sys":-0}`, `{"sys":0.00}`,
		`{"sys":0e9}`, `{"sys":-0.0E-7}`, `{"sys":""}`, `{"sys":{},"sys":null}`,
	}
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		for _, body := range bodies {
			c := r.connect(atConnector, ws)
			c.send(codec.PackageHandshake, []byte(body))
			c.send(codec.PackageHandshake, []byte(testHandshake))
			c.wantClosed(c.packed(codec.PackageHandshake, refused))
		}
		if n := r.closedFor(reasonHandshake); n != uint64(len(bodies)) {
			t.Errorf("%d of %d counted", n, len(bodies))
		}
	})
}

// Whatever is truthy in JavaScript is a sys.
func TestHandshakeAccepts(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for _, body := range []string{
		`{"sys":{}}`, `{"sys":[]}`, `{"sys":1}`, `{"sys":-0.001}`, `{"sys":true}`, `{"sys":"x"}`, `{"sys":" "}`, `{"sys":null,"sys":{}}`,
		` {"sys":{"type":7,"version":{},"dictVersion":null,"protoVersion":0,"rsa":{}}, "user":null} `,
		"{\"sys\":{\"type\":\"\xed\xa0\xbd\xed\xb8\x80\xff\"}}",
	} {
		c, text := r.loginAs(atConnector, true, body)
		if text != `{"code":200,"sys":{"heartbeat":3}}` {
			t.Errorf("%s: %s", body, text)
		}
		c.wantWorking()
	}
}

// The configured judges of a handshake: the client's type and version first, then its user data.
func TestHandshakeCallbacks(t *testing.T) {
	var asked []string
	r := single(t, func(p *Profile) {
		p.CheckClient = func(clientType, version string) bool {
			asked = append(asked, clientType+" "+version)
			return clientType != "bad"
		}
		p.User = func(user []byte) ([]byte, error) {
			switch string(user) {
			case `"fail"`:
				return []byte(`{}`), errors.New("as the test wants it")
			case "":
				return nil, nil
			}
			return append([]byte(`{"you":`), append(user, '}')...), nil
		}
	})
	cases := []struct{ body, want string }{
		{`{}`, `{"code":500}`},
		{`{"sys":{"type":"bad","version":"2"}}`, `{"code":501}`},
		{`{"sys":{"type":"bad"},"user":"fail"}`, `{"code":501}`},
		{`{"sys":{"type":"good","version":"0.0.1"},"user":"fail"}`, `{"code":500}`},
		{`{"sys":{"type":"good","version":"0.0.1"}}`, `{"code":200,"sys":{"heartbeat":3}}`},
		{`{"user":[ 1 ],"sys":{"type":"good","version":2}}`, `{"code":200,"sys":{"heartbeat":3},"user":{"you":[ 1 ]}}`},
	}
	for _, tc := range cases {
		c := r.connect(atConnector, true)
		c.send(codec.PackageHandshake, []byte(tc.body))
		if want := c.packed(codec.PackageHandshake, tc.want); strings.Contains(tc.want, "200") {
			c.wantOpen(want)
		} else {
			c.wantClosed(want)
		}
	}
	if got, want := fmt.Sprint(asked), "[bad 2 bad  good 0.0.1 good 0.0.1 good ]"; got != want {
		t.Errorf("asked about %s, want %s", got, want)
	}
	if n := r.node.loops[0].counters.handshakesRefused; n != 4 {
		t.Errorf("%d refusals counted", n)
	}
}

// The chat application's definitions, and what the original server's handshake made of them (golden/hybrid-ws-*.jsonl).
const (
	chatServerProtos = `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`
	chatDict         = `"dict":{"chat.chatHandler.send":1,"connector.entryHandler.enter":2,"gate.gateHandler.queryEntry":3},` +
		`"routeToCode":{"chat.chatHandler.send":1,"connector.entryHandler.enter":2,"gate.gateHandler.queryEntry":3},` +
		`"codeToRoute":{"1":"chat.chatHandler.send","2":"connector.entryHandler.enter","3":"gate.gateHandler.queryEntry"},` +
		`"dictVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`
	chatProtos = `"protos":{"server":{"onChat":{"msg":{"option":"required","type":"string","tag":1},` +
		`"from":{"option":"required","type":"string","tag":2},"target":{"option":"required","type":"string","tag":3},` +
		`"__messages":{},"__tags":{"1":"msg","2":"from","3":"target"}}},"client":{},"version":"2zWPnSlRsRxjqgcU215Uxg=="}`
	sameDict   = `"dictVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`
	sameProtos = `"protoVersion":"2zWPnSlRsRxjqgcU215Uxg=="`
)

// chatRoutes are what the chat application's dictionary numbers.
var chatRoutes = []string{routeQueryEntry, routeSend, routeEnter}

func parseProtos(t testing.TB, server, client string) *codec.Protos {
	p, err := codec.ParseProtos([]byte(server), []byte(client))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A handshake's text is the original's to the byte, and repeats nothing the client has.
func TestHandshakeTexts(t *testing.T) {
	const heartbeat, dict, protos = 1, 2, 4
	for _, tc := range []struct {
		offers    int
		sys, want string
	}{
		{0, ``, ``},
		{heartbeat, sameDict + "," + sameProtos, `"heartbeat":3`},
		{dict, ``, chatDict + `,"useDict":true`},
		{dict, sameDict, `"useDict":true`},
		{protos, `"protoVersion":0`, chatProtos + `,"useProto":true`},
		{protos, sameProtos, `"useProto":true`},
		{heartbeat | dict | protos, ``, `"heartbeat":3,` + chatDict + `,"useDict":true,` + chatProtos + `,"useProto":true`},
		{heartbeat | dict | protos, sameDict, `"heartbeat":3,"useDict":true,` + chatProtos + `,"useProto":true`},
		{heartbeat | dict | protos, sameProtos, `"heartbeat":3,` + chatDict + `,"useDict":true,"useProto":true`},
		{heartbeat | dict | protos, sameDict + "," + sameProtos, `"heartbeat":3,"useDict":true,"useProto":true`},
		{dict | protos, `"dictVersion":"","protoVersion":"old"`, chatDict + `,"useDict":true,` + chatProtos + `,"useProto":true`},
		{dict, `"protoVersion":"s2r1qfKDrbhWCkA6uf+PTA=="`, chatDict + `,"useDict":true`},
	} {
		r := single(t, func(p *Profile) {
			p.HeartbeatSeconds = 3 * (tc.offers & heartbeat)
			if tc.offers&dict != 0 {
				p.Dict = codec.NewDictionary(chatRoutes, nil)
			}
			if tc.offers&protos != 0 {
				p.Protos = parseProtos(t, chatServerProtos, `{}`)
			}
		})
		for _, ws := range []bool{false, true} {
			if _, got := r.loginAs(atConnector, ws, `{"sys":{`+tc.sys+`}}`); got != `{"code":200,"sys":{`+tc.want+`}}` {
				t.Errorf("offers %d, client has %s:\ngot  %s\nwant %s", tc.offers, tc.sys, got, tc.want)
			}
		}
	}
}

// A gate offers neither heartbeats nor a dictionary.
func TestGateHandshake(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Profiles[atGate].Protos = parseProtos(t, chatServerProtos, `{}`) })
	if _, got := r.loginAs(atGate, true, testHandshake); got != `{"code":200,"sys":{`+chatProtos+`,"useProto":true}}` {
		t.Error(got)
	}
}
