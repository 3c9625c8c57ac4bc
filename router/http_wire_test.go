package router

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// withHost is a request with another Host.
func withHost(request, host string) string {
	return strings.Replace(request, "Host: pomelo.example:3050", "Host: "+host, 1)
}

// A client that offers subprotocols gets the first one back wherever a WebSocket is opened, if it is one.
func TestSubprotocol(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, tc := range []struct{ offer, want string }{
		{"", ""}, {"Sec-WebSocket-Protocol: pomelo", "pomelo"}, {"Sec-WebSocket-Protocol: a, b", "a"}, {"Sec-WebSocket-Protocol: a,b", "a"},
		{"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b", "a"}, {"Sec-WebSocket-Protocol: " + long, long}, {"Sec-WebSocket-Protocol: " + long + "x", ""},
		{"Sec-WebSocket-Protocol: a b", ""}, {"Sec-WebSocket-Protocol: ", ""}, {"Sec-WebSocket-Protocol: ,a", ""}, {"Sec-WebSocket-Protocol: \"a\"", ""},
	} {
		r := newRig(t, shape{loops: 1}, filed)
		poll, old := r.sioLogin(flavours[8]), r.sio(flavours[1])
		poll.run()
		old.handshake()
		for _, target := range []string{"/", "/chat", "/gate/queryEntry", "/socket.io/?EIO=3&transport=websocket", "/socket.io/?EIO=4&transport=websocket",
			"/socket.io/1/websocket/unknown", old.target("websocket"), poll.target("websocket")} {
			request := upgradeTo(target)
			if tc.offer != "" {
				request = strings.Replace(request, "\r\n\r\n", "\r\n"+tc.offer+"\r\n\r\n", 1)
			}
			p := r.web(atConnector).ask(request)
			if got, there := p.header["Sec-WebSocket-Protocol"]; p.status != 101 || got != tc.want || there != (tc.want != "") {
				t.Errorf("%q at %s: %v", tc.offer, target, p)
			}
		}
	}
}

// The gate says back the host that its client came by, by all wires, and its address where that is no host.
func TestHostThatIsNone(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Connectors = []Endpoint{{Port: 3050}} })
	ask := func(request func(string) string) (hosts [3]string) {
		answer := func(body string) string {
			_, rest, _ := strings.Cut(body, `"host":"`)
			host, _, _ := strings.Cut(rest, `"`)
			return host
		}
		hosts[0] = answer(r.web(atGate).ask(request(get("/gate/queryEntry?uid=a"))).body)
		c := r.sio(flavours[7])
		c.tag, c.change = atGate, request
		c.open()
		hosts[1] = answer(c.ask(routeQueryEntry, `{"uid":"a"}`))
		c = r.sio(flavours[1])
		c.tag, c.change = atGate, request
		c.open()
		hosts[2] = answer(c.ask(routeQueryEntry, `{"uid":"a"}`))
		return hosts
	}
	address := ask(func(request string) string { return withHost(request, "") })
	if address[0] == "" || address[1] != address[0] || address[2] != address[0] {
		t.Fatalf("without a host: %q", address)
	}
	for _, tc := range []struct{ host, want string }{
		{"a.example", "a.example"}, {"A_b-c.Example:3014", "A_b-c.Example"}, {"10.0.0.1:80", "10.0.0.1"}, {"[2001:db8::1]:3014", "[2001:db8::1]"},
		{"[::1]", "[::1]"}, {"localhost:", "localhost"}, {strings.Repeat("x", 255), strings.Repeat("x", 255)},
		{strings.Repeat("x", 256), ""}, {strings.Repeat("x", 7900), ""}, {"a:b:c", ""}, {"a:123456", ""}, {"a:8o", ""}, {":80", ""}, {"[::1", ""}, {"[]", ""},
		{"[::1%25eth0]", ""}, {"[a.example]", ""}, {"[1.2.3.4]", ""}, {"::1", ""}, {"a%41", ""}, {"a;b", ""}, {"a,b", ""}, {"(a)", ""}, {"a'b", ""}, {"~", ""},
	} {
		want := [3]string{tc.want, tc.want, tc.want}
		if tc.want == "" {
			want = address
		}
		if got := ask(func(request string) string { return withHost(request, tc.host) }); got != want {
			t.Errorf("host %.40q: %.60q", tc.host, got)
		}
	}
	absolute := func(request string) string { return strings.Replace(request, " /", " http://evil.example/", 1) }
	if got := ask(absolute); got != address {
		t.Errorf("a target with a host: %q", got)
	}
}

// What clients ask for below /socket.io is Engine.IO's, or 0.9's, or not there, but never the hybrid protocol's (protocol.md §8, §13).
func TestPathsUnderSocketIO(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for _, path := range []string{"/socket.io/", "/socket.io", "/socket.io//", "/socket.io/x/", "/socket.io/x", "/socket.io/1/", "/socket.io/1/websocket/x"} {
		for _, version := range []string{"3", "4"} {
			p := r.web(atConnector).ask(get(path + "?EIO=" + version + "&transport=polling&b64=1"))
			if p.status != 200 || !strings.Contains(p.body, `0{"sid":"`) || strings.Contains(p.body, "maxPayload") != (version == "4") {
				t.Errorf("%s, EIO=%s: %v", path, version, p)
			}
			w := r.web(atConnector)
			if p := w.ask(upgradeTo(path + "?EIO=" + version + "&transport=websocket")); p.status != 101 || !strings.HasPrefix(w.frames()[0], `0{"sid":"`) {
				t.Errorf("%s, EIO=%s: %v, told %q", path, version, p, w.sock.Wrote)
			}
		}
	}
	for _, tc := range []struct {
		request string
		status  int
	}{
		{get("/socket.io"), 200}, {get("/socket.io/"), 200}, {upgradeTo("/socket.io"), 400}, {upgradeTo("/socket.io/"), 400}, {upgradeTo("/socket.io?a=b"), 400},
		{get("/socket.io/x"), 404}, {get("/socket.io/socket.io.js"), 404}, {get("/socket.io//"), 200}, {get("/socket.io/x?EIO=4"), 404}, {get("/socket.io/1/foo/x"), 404},
		{post("/socket.io/x", "x"), 404}, {post("/socket.io/1/foo/x", "x"), 404}, {get("/socket.io/1/websocket/x"), 404}, {get("/socket.io/1/xhr-polling/"), 404},
		{upgradeTo("/socket.io/x"), 404}, {upgradeTo("/socket.io//"), 404}, {upgradeTo("/socket.io/1/"), 404}, {upgradeTo("/socket.io/1/foo/x"), 404},
		{upgradeTo("/socket.io/?transport=polling"), 400}, {upgradeTo("/socket.io2"), 101},
	} {
		if p := r.web(atConnector).ask(tc.request); p.status != tc.status {
			t.Errorf("%.40q: %v", tc.request, p)
		}
	}
}

// A page may send what headers it asks for with what it may ask at all.
func TestPreflightHeaders(t *testing.T) {
	origins, err := ParseOrigins([]string{"http://page.example"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Access.Origins = origins })
	const both = "Origin, Access-Control-Request-Headers"
	for _, target := range []string{"/gate/queryEntry", "/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=polling", "/socket.io/1/xhr-polling/x"} {
		for _, tc := range []struct{ asked, granted, vary string }{
			{"", "Content-Type", "Origin"}, {"x-token", "x-token", both}, {"authorization, X-A,x-b", "authorization, X-A,x-b", both},
			{"a b", "Content-Type", "Origin"}, {"a,,b", "Content-Type", "Origin"}, {"x\"", "Content-Type", "Origin"}, {strings.Repeat("x", 513), "Content-Type", "Origin"},
		} {
			ask := func(origin string) *response {
				request := strings.Replace(get(target, "Origin: "+origin, "Access-Control-Request-Method: POST"), "GET", "OPTIONS", 1)
				if tc.asked != "" {
					request = strings.Replace(request, "\r\n\r\n", "\r\nAccess-Control-Request-Headers: "+tc.asked+"\r\n\r\n", 1)
				}
				return r.web(atConnector).ask(request)
			}
			p := ask("http://page.example")
			if p.header["Access-Control-Allow-Headers"] != tc.granted || p.header["Vary"] != tc.vary || p.header["Access-Control-Allow-Origin"] != "http://page.example" {
				t.Errorf("%s, %q: %v", target, tc.asked, p)
			}
			if p := ask("http://other.example"); p.status != 403 || p.header["Access-Control-Allow-Headers"] != "" {
				t.Errorf("%s, %q from elsewhere: %v", target, tc.asked, p)
			}
		}
	}
}

// With a list of origins, that of the server itself may connect: many libraries for apps name it.
func TestOriginOfTheServerItself(t *testing.T) {
	origins, err := ParseOrigins([]string{"https://chat.example"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Access.Origins = origins })
	for _, tc := range []struct {
		host, origin string
		may          bool
	}{
		{"a.example:3050", "http://a.example:3050", true}, {"a.example:3050", "https://a.example:3050", true}, {"a.example:3050", "ws://A.Example:3050", true},
		{"a.example", "https://a.example", true}, {"a.example:443", "https://a.example", true}, {"a.example", "http://a.example:80", true}, {"[::1]:3050", "http://[::1]:3050", true},
		{"a.example:3050", "a.example:3050", true}, {"a.example:3050", "a.example", false}, {"a.example", "b.example", false}, {"a;b", "a;b", false},
		{"a.example:3050", "http://a.example", false}, {"a.example:3050", "http://a.example:3051", false}, {"a.example", "https://a.example:80", false},
		{"a.example", "http://b.example", false}, {"a.example", "null", false}, {"null", "null", false}, {"", "http://", false}, {"a;b", "http://a;b", false},
		{"a.example", "http://xa.example", false}, {"a.example", "ftp://a.example", false},
	} {
		for _, request := range []string{upgradeTo("/"), get("/gate/queryEntry?uid=a"), get("/socket.io/?EIO=4&transport=polling"), upgradeTo("/socket.io/?EIO=4&transport=websocket")} {
			p := r.web(atConnector).ask(strings.Replace(withHost(request, tc.host), "\r\n\r\n", "\r\nOrigin: "+tc.origin+"\r\n\r\n", 1))
			if (p.status != 403) != tc.may {
				t.Errorf("%s at %s: %v", tc.origin, tc.host, p)
			}
		}
	}
	evil := strings.Replace(get("/gate/queryEntry?uid=a", "Origin: http://evil.example"), " /", " http://evil.example/", 1)
	if p := r.web(atConnector).ask(evil); p.status != 403 {
		t.Errorf("a target with the host of its origin: %v", p)
	}
}

// Credentials are for those clients that cannot do without, and for pages that are listed.
func TestCredentials(t *testing.T) {
	origins, err := ParseOrigins([]string{"http://page.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, listed := range []bool{false, true} {
		r := newRig(t, shape{loops: 1}, func(c *Config) {
			if listed {
				c.Access.Origins = origins
			}
		})
		for _, tc := range []struct {
			target string
			always bool
		}{
			{"/socket.io/1/", true}, {"/socket.io/1/xhr-polling/x", true}, {"/socket.io/?EIO=3&transport=polling", true}, {"/socket.io/?EIO=3&transport=polling&sid=x", true},
			{"/socket.io/?EIO=4&transport=polling", false}, {"/socket.io/?EIO=4&transport=polling&sid=x", false}, {"/gate/queryEntry?uid=a", false},
		} {
			p := r.web(atConnector).ask(get(tc.target, "Origin: http://page.example"))
			want := ""
			if tc.always || listed {
				want = "true"
			}
			if p.header["Access-Control-Allow-Credentials"] != want || p.header["Access-Control-Allow-Origin"] != "http://page.example" || p.header["Vary"] != "Origin" {
				t.Errorf("listed %v, %s: %v", listed, tc.target, p)
			}
		}
	}
}

// The cookie is told once, to clients of Engine.IO 3 that poll, and never without TLS once it was told with it.
func TestCookie(t *testing.T) {
	r := accessRig(t, 1, Access{})
	for _, tc := range []struct {
		peer, proto string
		secure      bool
	}{
		{"proxy", "https", true}, {"proxy", "http, HTTPS", true}, {"proxy", "wss", true}, {"proxy", "https, http", false}, {"proxy", "http", false}, {"proxy", "", false},
		{"client", "https", false},
	} {
		r.peer = proxyAddr
		if tc.peer == "client" {
			r.peer = netip.MustParseAddr("192.0.2.77")
		}
		c := r.sio(flavours[4])
		c.change = func(request string) string {
			return strings.Replace(request, "\r\n\r\n", "\r\nX-Forwarded-Proto: "+tc.proto+"\r\n\r\n", 1)
		}
		c.open()
		c.send("2")
		c.run()
		cookies := []string{}
		for _, p := range c.answers {
			if v, ok := p.header["Set-Cookie"]; ok {
				cookies = append(cookies, v)
			}
		}
		want := "io=" + c.sid + "; Path=/; HttpOnly; SameSite=Lax"
		if tc.secure {
			want += "; Secure"
		}
		if len(c.answers) < 2 || !slices.Equal(cookies, []string{want}) {
			t.Errorf("%s says %q: %q in %d answers", tc.peer, tc.proto, cookies, len(c.answers))
		}
	}
}

// One answer carries at most 16 packets; what is left comes with the next ones, in order, also when the session ends meanwhile.
func TestSixteenPacketsAnAnswer(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		c, other := r.sioLogin(kind), r.login(atConnector, true)
		c.enter("c", "r")
		other.enter("other", "r")
		c.run()
		c.take()
		other.take()
		text := func(i int) string { return fmt.Sprintf("n%d", i) }
		for i := range 40 {
			other.ask(routeSend, sendBody(text(i), "*"))
		}
		r.net.Settle()
		var sizes []int
		said := 0
		for said < 40 {
			if !c.polling {
				c.poll()
				r.net.Settle()
			}
			p := c.get.response(false)
			if p == nil {
				t.Fatalf("%d told, in answers of %v packets", said, sizes)
			}
			c.polling = false
			packets := c.unpack(p)
			if len(packets) > 16 {
				t.Fatalf("%d packets in an answer", len(packets))
			}
			sizes = append(sizes, len(packets))
			for _, packet := range packets {
				if strings.Contains(packet, text(said)) {
					said++
				}
			}
		}
		if len(sizes) < 3 {
			t.Errorf("answers of %v packets", sizes)
		}
		c.poll()
		r.net.Settle()
		if p := c.get.response(false); p != nil {
			t.Errorf("something is left: %v", p)
		}
	})
}

// An event with an id is acknowledged to clients of Engine.IO 4, whatever becomes of it, and to no others.
func TestAcks(t *testing.T) {
	forFlavours(t, flavours[3:], func(t *testing.T, r *rig, kind flavour) {
		if kind.jsonp {
			return
		}
		c := r.sioLogin(kind)
		c.enter("c", "r")
		c.run()
		c.take()
		c.packets = nil
		message := func(ack string) string {
			return "42" + ack + strings.TrimPrefix(c.message(7, routeSend, sendBody("x", "nobody")), "42")
		}
		for _, tc := range []struct {
			packet, ack string
			answered    bool
		}{
			{message(""), "", true}, {message("0"), "430[]", true}, {message("12"), "4312[]", true}, {message("/,5"), "435[]", true}, {message("/chat,5"), "", false},
			{`423["other",{}]`, "433[]", false}, {`424["message","short"]`, "434[]", false}, {`426["message",1]`, "436[]", false}, {`42["other"]`, "", false},
		} {
			c.send(tc.packet)
			c.run()
			var want []string
			if tc.ack != "" && kind.version == 4 {
				want = []string{tc.ack}
			}
			got := c.take()
			if !slices.Equal(c.packets, want) || len(got) != map[bool]int{true: 1}[tc.answered] {
				t.Errorf("%q: packets %q, told %q", tc.packet, c.packets, got)
			}
			c.packets = nil
		}
	})
}

// Whatever a client puts into a small request, the answer is small; what it puts into a large one is said back at most once. Files are
// what they are.
func TestAnswersAreSmall(t *testing.T) {
	long := strings.Repeat("1", 7000)
	for _, header := range []string{"", "Origin: http://" + long, "Access-Control-Request-Headers: " + long, "Sec-WebSocket-Protocol: " + long, "If-None-Match: " + long,
		"X-Forwarded-Proto: " + long, "X-Forwarded-For: " + long} {
		r := newRig(t, shape{loops: 1}, nil)
		for _, host := range []string{"", strings.Repeat("h", 7900)} {
			for _, method := range []string{"GET", "POST", "OPTIONS", "PUT", "HEAD"} {
				for _, target := range []string{"/gate/queryEntry?uid=1", "/gate/queryEntry?uid=" + long, "/nothing" + long, "/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=3&transport=polling&j=" + long,
					"/socket.io/?EIO=4&transport=polling&sid=" + long, "/socket.io/?EIO=" + long + "&transport=" + long, "/socket.io/1/", "/socket.io/1/?jsonp=" + long, "/socket.io/1/xhr-polling/" + long,
					"/socket.io/1/jsonp-polling/x?i=" + long, "/socket.io/" + long + "/", "/socket.io/2" + long, "http://" + strings.Repeat("h", 5000) + "/gate/queryEntry?uid=1"} {
					for _, change := range []func(string) string{get1, upgradeTo1} {
						w := r.web(atGate)
						request := change(strings.Replace(withHost(get(target, header), host), "GET", method, 1))
						if header == "" {
							request = strings.Replace(request, "\r\n\r\n\r\n", "\r\n\r\n", 1)
						}
						w.send(request)
						r.net.Settle()
						if n := len(w.sock.Wrote); n == 0 || n > 700 {
							t.Errorf("%s %.60q, host of %d, %.40q: %d bytes for %d", method, target, len(host), header, n, len(request))
						}
						w.sock.End()
						r.net.Settle()
					}
				}
			}
		}
	}
}

func get1(request string) string { return request }

// upgradeTo1 makes a request one for a WebSocket.
func upgradeTo1(request string) string {
	_, headers, _ := strings.Cut(upgradeTo("/"), "3050\r\n")
	return strings.TrimSuffix(request, "\r\n") + headers
}
