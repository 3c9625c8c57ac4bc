package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

const (
	pageOrigin   = "Origin: http://chat.example\r\n"
	jsHandshake  = `{"sys":{"type":"js-websocket","version":"0.0.1"}}`
	zhong        = "中" + smile
	zhongCESU    = "中" + smileCESU
	otherClients = `{"sys":{"type":"js-websocket2"}}`
)

// reads is the text of the onChat that c gets for zhong.
func (c *client) reads(room string) string {
	c.r.t.Helper()
	if got := c.ask(routeEnter, `{"username":"`+fmt.Sprint("u", c.sock.FD)+`","rid":"`+room+`"}`); !strings.HasPrefix(got, `{"users"`) {
		c.r.t.Fatal(got)
	}
	c.take()
	if got := c.ask(routeSend, `{"content":"\u4e2d\ud83d\ude00","target":"*"}`); got != `{}` {
		c.r.t.Fatal(got)
	}
	return strings.Join(c.take(), "|")
}

// Which clients get characters above U+FFFF in protobuf strings as surrogates: by what the operator says, the type and the Origin
// (protocol.md §2.6). NetEase's clients for cocos2d-js and Node have the type and no Origin, and read UTF-8.
func TestWhoGetsCESU8(t *testing.T) {
	for _, tc := range []struct {
		policy        CESU8
		handshake     string
		origin, cesu8 bool
	}{
		{CESU8Auto, jsHandshake, true, true},
		{CESU8Auto, jsHandshake, false, false},
		{CESU8Auto, otherClients, true, false},
		{CESU8Auto, `{"sys":{"type":"js-websocket"},"user":"` + smile + `"}`, true, false},
		{CESU8Auto, `{"sys":{"type":"js-websocket"},"user":"` + smileCESU + `"}`, true, true},
		{CESU8Auto, `{"sys":{"type":"js-websocket"},"user":"\ud83d\ude00"}`, true, true},
		{CESU8Always, jsHandshake, false, true},
		{CESU8Always, `{"sys":{"type":"js-websocket"},"user":"` + smile + `"}`, true, true},
		{CESU8Always, otherClients, true, false},
		{CESU8Never, jsHandshake, true, false},
	} {
		name, _ := tc.policy.MarshalText()
		t.Run(fmt.Sprintf("%s %s origin=%v", name, tc.handshake, tc.origin), func(t *testing.T) {
			forWires(t, func(t *testing.T, ws bool) {
				r := newRig(t, shape{loops: 2, follow: true}, func(c *Config) {
					c.CESU8 = tc.policy
					c.Profiles[atConnector].Protos = parseProtos(t, chatServerProtos, `{}`)
				})
				if tc.origin {
					r.from = pageOrigin
				}
				c, _ := r.loginAs(atConnector, ws, tc.handshake)
				want := zhong
				if tc.cesu8 && (ws || tc.policy == CESU8Always) {
					want = zhongCESU
				}
				if got := c.reads("r"); !strings.HasPrefix(got, "push 0 onChat "+text(1, want)) {
					t.Errorf("got %q, want %q", got, want)
				}
				for _, l := range r.node.loops {
					l.np.Each(func(conn *netpoll.Conn) {
						if s := l.session(conn); s.x != nil && s.phase == working {
							t.Error("the session keeps what only the handshake needed")
						}
					})
				}
			})
		})
	}
}

// A client that gets CESU-8 and writes UTF-8 gets UTF-8 from then on, in the middle of a room's stream: what was pushed before it
// comes first, as it was encoded, and nothing is lost or told twice.
func TestTextIsLearned(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		for i, tc := range []struct {
			name, body string
			learns     bool
		}{
			{"JSON", `{"content":"` + zhong + `","target":"*"}`, true},
			{"protobuf", text(1, zhong) + text(2, "*"), true},
			{"another member", `{"content":"中","target":"*","x":"` + smile + `"}`, true},
			{"JSON in CESU-8", `{"content":"` + zhongCESU + `","target":"*"}`, false},
			{"protobuf in CESU-8", text(1, zhongCESU) + text(2, "*"), false},
			{"escapes", `{"content":"\u4e2d\ud83d\ude00","target":"*"}`, false},
			{"half a character", `{"content":"\xf0\x9f\x98","target":"*"}`, false},
		} {
			t.Run(tc.name, func(t *testing.T) {
				r := newRig(t, shape{loops: len(r.node.loops), roundTrip: r.node.roundTrip, follow: r.node.follow}, func(c *Config) {
					c.Profiles[atConnector].Protos = parseProtos(t, chatServerProtos, `{"chat.chatHandler.send":{"optional string content":1,"optional string target":2}}`)
				})
				room := fmt.Sprint("r", i)
				r.from = pageOrigin
				c, _ := r.loginAs(atConnector, true, jsHandshake)
				same, _ := r.loginAs(atConnector, true, jsHandshake)
				r.from = ""
				other := r.login(atConnector, false)
				for k, m := range []*client{c, same, other} {
					m.enter(fmt.Sprint("m", k), room)
				}
				for _, m := range []*client{c, same, other} {
					m.take()
				}
				for range 3 {
					other.notify(routeSend, `{"content":"before `+zhong+`","target":"*"}`)
				}
				r.net.Events() // logged, not written everywhere
				c.sock.Send(c.message(0, routeSend, tc.body))
				r.net.Settle()
				other.notify(routeSend, `{"content":"after `+zhong+`","target":"*"}`)
				r.net.Settle()
				for _, m := range []*client{c, same} {
					var texts, forms []string
					for _, line := range m.take() {
						if n := int(line[15]); strings.HasPrefix(line[16:], "before") || strings.HasPrefix(line[16:], "after") {
							texts = append(texts, string(codec.NormalizeUTF8([]byte(line[16:16+n]))))
							forms = append(forms, map[bool]string{true: "utf8", false: "cesu"}[strings.Contains(line, smile)])
						}
					}
					want := "before " + zhong + "|"
					if got := strings.Join(texts, "|"); got != want+want+want+"after "+zhong {
						t.Errorf("told %q", got)
					}
					// Where loops differ, what c says may overtake what others said before it.
					form, last := strings.Join(forms, " "), map[bool]string{true: "utf8", false: "cesu"}[m == c && tc.learns]
					if !strings.HasSuffix(form, last) || strings.Contains(form, "utf8 cesu") || len(r.node.loops) == 1 && form != "cesu cesu cesu "+last {
						t.Errorf("in %s, want the last in %s", form, last)
					}
				}
			})
		}
	})
}

// An unknown policy is refused.
func TestCESU8Names(t *testing.T) {
	var p CESU8
	for want, name := range cesu8Names {
		if err := p.UnmarshalText([]byte(name)); err != nil || int(p) != want {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if err := p.UnmarshalText([]byte("yes")); err == nil {
		t.Error("yes is accepted")
	}
}
