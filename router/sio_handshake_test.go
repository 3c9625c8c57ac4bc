package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// The first answer of each generation, headers and all (protocol.md §5.1, §6.1, §6.3, §7).
func TestSIOHandshakes(t *testing.T) {
	const open3 = `0{"sid":"SID","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":60000}`
	const open4 = `0{"sid":"SID","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":262144}`
	const first09 = `SID:60:60:websocket,xhr-polling,jsonp-polling`
	text3 := func(p string) string { return fmt.Sprintf("%d:%s", len(p)+sidChars-3, p) }
	n := len(open3) + sidChars - 3
	binary := string([]byte{0, byte(n / 10), byte(n % 10), 0xff}) + open3 + "\x00\x02\xff40"
	escaped := strings.NewReplacer(`"`, `\"`)
	const text, js = "text/plain; charset=UTF-8", "text/javascript; charset=UTF-8"
	for _, tc := range []struct{ request, contentType, body string }{
		{get("/socket.io/1/?t=1"), "text/plain", first09},
		{post("/socket.io/1/", "x"), "text/plain", first09},
		{get("/socket.io/1"), "text/plain", first09},
		{get("/socket.io/1/?jsonp=0"), "application/javascript", `io.j[0]("` + first09 + `");`},
		{get("/socket.io/1/?t=1&jsonp=4<5"), "application/javascript", `io.j[45]("` + first09 + `");`},
		{get("/socket.io/?EIO=3&transport=polling"), "application/octet-stream", binary},
		{get("/socket.io/?transport=polling"), "application/octet-stream", binary},
		{get("/socket.io/?EIO=2&transport=polling&b64=1"), text, text3(open3) + "2:40"},
		{get("/socket.io/?EIO=3&transport=polling&j=1x2"), text, `___eio[12]("` + escaped.Replace(text3(open3)) + `2:40");`},
		{get("/socket.io/?EIO=4&transport=polling&j=1&b64=1"), text, open4},
	} {
		r := newRig(t, shape{loops: 1}, nil)
		w := r.web(atConnector)
		p := w.ask(tc.request)
		_, after, _ := strings.Cut(p.body, tc.body[:strings.Index(tc.body, "SID")])
		sid := after[:min(len(after), sidChars)]
		if got := strings.Replace(p.body, sid, "SID", 1); p.status != 200 || got != tc.body || p.header["Content-Type"] != tc.contentType {
			t.Errorf("%q answered %v", tc.request, p)
		}
		cookie := ""
		if strings.Contains(tc.request, "transport") && !strings.Contains(tc.request, "EIO=4") {
			cookie = "io=" + sid + "; Path=/; HttpOnly; SameSite=Lax"
		}
		if p.header["Set-Cookie"] != cookie {
			t.Errorf("%q set the cookie %q", tc.request, p.header["Set-Cookie"])
		}
		if r.node.sids.parse([]byte(sid)) == 0 {
			t.Errorf("%q is no session id", sid)
		}
	}
	for _, tc := range []struct{ target, body string }{
		{"/socket.io/?EIO=3&transport=websocket", strings.Replace(open3, `"websocket"`, "", 1)},
		{"/socket.io/?EIO=4&transport=websocket&b64=1", strings.Replace(open4, `"websocket"`, "", 1)},
	} {
		r := newRig(t, shape{loops: 1}, nil)
		w := r.web(atConnector)
		w.ask(upgradeTo(tc.target))
		got := w.frames()
		want := []string{tc.body, "40"}[:len(got)]
		if i := strings.Index(got[0], `","upgrades"`); i < 0 || strings.Replace(got[0], got[0][i-sidChars:i], "SID", 1) != want[0] || len(got) != 2-strings.Count(tc.target, "EIO=4") {
			t.Errorf("%s told %q", tc.target, got)
		}
	}
}

// Requests of Engine.IO that make no sense are told why (protocol.md §6.5), and the connection goes on.
func TestEngineIOErrors(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	poll, ws := r.sioLogin(flavours[4]), r.sioLogin(flavours[3])
	poll.run()
	method := func(m, request string) string { return strings.Replace(request, "GET", m, 1) }
	for _, tc := range []struct {
		request string
		status  int
		code    int
	}{
		{get("/socket.io/?EIO=3"), 400, 0}, {get("/socket.io/?EIO=4&transport=flashsocket"), 400, 0}, {get("/socket.io/?EIO=3&transport="), 400, 0},
		{get("/socket.io/?EIO=3&transport=polling&sid=x"), 400, 1}, {get("/socket.io/?EIO=3&transport=websocket&sid=x"), 400, 1}, {post("/socket.io/?EIO=4&transport=polling&sid=x", "2"), 400, 1},
		{post("/socket.io/?EIO=3&transport=polling", "2"), 400, 2}, {method("PUT", get("/socket.io/?EIO=3&transport=polling")), 400, 2}, {method("HEAD", get("/socket.io/?EIO=3&transport=polling")), 400, 2},
		{get("/socket.io/?EIO=3&transport=websocket"), 400, 3}, {get("/socket.io/?EIO=3&transport=websocket&sid=" + poll.sid), 400, 3}, {get("/socket.io/?EIO=3&transport=polling&sid=" + ws.sid), 400, 3},
		{method("PUT", get(poll.target("polling"))), 500, -1}, {method("HEAD", get(poll.target("polling"))), 500, -1},
	} {
		w := r.web(atConnector)
		p := w.ask(tc.request)
		want := ""
		if tc.code >= 0 {
			want = fmt.Sprintf(`{"code":%d,"message":"%s"}`, tc.code, eioErrors[tc.code])
		}
		if strings.HasPrefix(tc.request, "HEAD") {
			want = ""
		}
		if p.status != tc.status || p.body != want {
			t.Errorf("%q answered %v", tc.request, p)
		}
		w.wantIdle()
	}
	for _, tc := range []struct{ target, body string }{
		{"/socket.io/?EIO=3&transport=polling", eioErrors[0]}, {"/socket.io/?EIO=3", eioErrors[0]}, {"/socket.io/?EIO=3&transport=websocket&sid=x", eioErrors[1]},
		{"/socket.io/?EIO=3&transport=websocket&sid=" + ws.sid, eioErrors[3]},
	} {
		w := r.web(atConnector)
		if p := w.ask(upgradeTo(tc.target)); p.status != 400 || p.body != tc.body {
			t.Errorf("an upgrade of %s answered %v", tc.target, p)
		}
		w.wantEnd()
	}
	poll.want()
	ws.want()
}

// What 0.9 clients may send besides messages (protocol.md §5.2), over either transport.
func TestPacketsOf09(t *testing.T) {
	forTimers(t, flavours[:3], func(t *testing.T, r *rig, c *sioClient, w *client) {
		text := strings.TrimPrefix(c.message(7, routeSend, sendBody("x", "nobody")), "3:::")
		answer := []string{"answer 7 " + refused}
		for _, tc := range []struct {
			packet  string
			events  []string
			packets []string
		}{
			{"3:::" + text, answer, nil},
			{"3:12::" + text, answer, []string{"6:::12"}},
			{"3:12+::" + text, answer, nil},
			{`5:::{"name":"message","args":[` + jsString(text) + `]}`, answer, nil},
			{`5:3::{"args":[` + jsString(text) + `,1],"name":"message"}`, answer, []string{"6:::3"}},
			{`5:3::{"name":"other","args":[` + jsString(text) + `]}`, nil, []string{"6:::3"}},
			{`5:::{"name":"message","args":[{}]}`, nil, nil},
			{`4:5::{"a":1}`, nil, []string{"6:::5"}},
			{"3:::short", nil, nil},
			{"3:1::short", nil, []string{"6:::1"}},
			{"3::/chat:" + text, nil, nil},
			{"1::/chat", nil, nil}, {"1::", nil, nil}, {"2::", nil, nil}, {"6:::1", nil, nil}, {"8::", nil, nil}, {"9:::x", nil, nil}, {"3", nil, nil}, {"x", nil, nil},
			{"0::/chat", nil, nil},
		} {
			c.send(tc.packet)
			c.run()
			if got := c.take(); !slices.Equal(got, tc.events) || !slices.Equal(c.packets, tc.packets) {
				t.Errorf("%q: told %q, packets %q", tc.packet, got, c.packets)
			}
			c.packets = nil
		}
		if c.kind.ws {
			c.send("")
			c.ws.send(string(maskedFrame(byte(codec.WSBinary), []byte("3:::"+text)))) // text or binary is all the same to it
			c.want(answer...)
		}
		w.want()
		c.send("0::", "3:::"+text)
		r.net.Settle()
		w.want(left)
		if !c.over() {
			t.Error("it lives on")
		}
	})
}

// A 0.9 client that polls may say goodbye by a GET; the one that is held is told. Transports that there are not are not found.
func TestGoodbyeOf09(t *testing.T) {
	forTimers(t, flavours[1:3], func(t *testing.T, r *rig, c *sioClient, w *client) {
		target := c.target("polling")
		if strings.Contains(target, "?") {
			target += "&disconnect="
		} else {
			target += "?disconnect=1"
		}
		if p := r.web(atConnector).ask(get(target)); p.status != 200 || p.body != "" {
			t.Errorf("answered %v", p)
		}
		c.wantPackets("0::")
		w.want(left)
		c.poll()
		c.wantPackets("7:::1+0")
		for _, target := range []string{"/socket.io/1/htmlfile/" + c.sid, "/socket.io/1/flashsocket/" + c.sid, "/socket.io/1/websocket/" + c.sid} {
			w := r.web(atConnector)
			if p := w.ask(get(target)); p.status != 404 {
				t.Errorf("%s answered %v", target, p)
			}
			w.wantEnd()
		}
		unknown := r.web(atConnector)
		unknown.send(upgradeTo("/socket.io/1/websocket/" + c.sid))
		r.net.Settle()
		if p := unknown.response(false); p == nil || p.status != 101 || !slices.Equal(unknown.frames(), []string{"7:::1+0"}) {
			t.Errorf("an unknown session's WebSocket: %v", p)
		}
		unknown.wantEnd()
	})
}

// A 0.9 session may change from polling to a WebSocket at any time: nothing is lost, and it is asked for life signs from then on.
func TestChangeOf09(t *testing.T) {
	forTimers(t, flavours[1:3], func(t *testing.T, r *rig, c *sioClient, w *client) {
		held := c.get
		ws := r.web(atConnector)
		for _, text := range []string{"a", "b"} {
			w.ask(routeSend, sendBody(text, "*"))
		}
		c.pump()
		w.take()
		if p := ws.ask(upgradeTo(c.target("websocket"))); p.status != 101 {
			t.Fatalf("answered %v", p)
		}
		if p := held.response(false); p != nil {
			t.Errorf("the GET that had ended was answered %v", p)
		}
		c.changed(ws)
		say := func(text string) string {
			return fmt.Sprintf(`push 0 onChat {"msg":"%s","from":"witness","target":"*"}`, text)
		}
		c.want(say("a"), say("b"))
		if got := c.ask(routeSend, sendBody("x", "nobody")); got != refused {
			t.Error(got)
		}
		r.after(25, "the first heartbeat", c.told("2::"))
		if p := r.web(atConnector).ask(get(c.target("polling"))); !strings.Contains(p.body, "7:::1+0") {
			t.Errorf("a GET after that: %v", p)
		}
		ws.sock.End()
		r.net.Settle()
		w.want(left)
	})
}

// A node that shuts down ends pollers too: their GETs are answered, or ended so that the client comes back.
func TestShutdownOfPollers(t *testing.T) {
	forFlavours(t, flavours, func(t *testing.T, r *rig, kind flavour) {
		c, idle := r.sioLogin(kind), r.sioLogin(kind)
		c.enter("c", "r")
		idle.enter("idle", "r")
		c.run()
		if !kind.ws {
			r.dropGET(idle)
		}
		r.node.closing.Store(true)
		r.node.ending.Store(true)
		for _, l := range r.node.loops {
			l.postRun(0, func() { l.np.Each(func(conn *netpoll.Conn) { l.sendAway(l.session(conn)) }) })
		}
		r.net.Settle()
		if !c.over() || !idle.over() {
			t.Error("sessions live on")
		}
		if p := c.get; p != nil && !p.sock.Closed && !p.sock.ShutDown {
			t.Error("the GET's connection is open")
		}
		late := r.web(atConnector)
		late.send(get("/socket.io/?EIO=4&transport=polling"))
		late.wantEnd()
		r.endAll()
		r.balanced()
	})
}
