package router

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// toy is a wire of this test's own, whose clients poll: POST /toy opens a session and answers its id, GET /toy?sid=… fetches, POST /toy?sid=…
// sends lines of "id route body". It is all that the server needs to know of it, with its row in the table (withToy).
type toy struct{ packets }

func newToy(b base) protocol {
	p := &toy{packets{base: b}}
	p.take = p.packet
	return p
}

func withToy(cfg *Config) {
	cfg.protocols = append(slices.Clone(protocols), row{newToy, []string{"toy"}, func(*Profile) []codec.Variant {
		return []codec.Variant{{Framing: codec.FramingEIOPull}}
	}})
}

func (p *toy) owns(r *request) bool {
	r.sid, _ = codec.QueryValue(r.head.Query, "sid")
	return string(r.head.Path) == "/toy"
}

func (p *toy) upgrade(*session, *request) *codec.HTTPError { return errNoSuchPage }

func (p *toy) serve(s *session, r *request) bool {
	l, in := p.l, p.l.polledBy(s, r)
	s.x.http.reply.form = codec.PayloadEIO4
	switch get := string(r.head.Method) == "GET"; {
	case len(r.sid) == 0:
		in, err := l.polls.open(s, r, &p.base, codec.FramingEIOPull)
		if err != nil {
			l.http.refuseSession(s, err)
			return true
		}
		p.count(in, 0)
		l.http.respond(s, 200, "text/plain", l.node.sids.append(nil, in.conn.ID(l.np)))
		p.work(in)
	case in == nil || in.proto != p.id:
		l.http.refuse(s, errNoSuchPage, false)
	case get:
		l.polls.poll(s, in)
	default:
		if _, taken := l.polls.receive(s, in, r, codec.PayloadEIO4, false); !taken {
			return false
		}
		l.http.respond(s, 200, "text/plain", []byte("ok"))
	}
	return true
}

func (p *toy) packet(s *session, b []byte, _ bool) bool {
	var id uint32
	var route, body string
	if n, _ := fmt.Sscan(string(b), &id, &route, &body); n != 3 {
		return p.l.ignore(s, b)
	}
	c := &p.l.current
	*c = call{id: id, body: []byte(body), text: true, route: orUnknown(p.l.profile(s).routes[route], route)}
	if !p.l.dispatch(s, c) {
		return false
	}
	p.l.heard(s)
	return true
}

func (p *toy) alive(*session) uint32          { return p.l.np.Now() + 10 }
func (p *toy) idle() string                   { return "nothing" }
func (p *toy) farewell(netpoll.Reason) string { return "bye" }
func (p *toy) patience() uint32               { return p.l.np.Now() + 5 }
func (p *toy) fetched(in *session)            { p.l.heard(in) }
func (p *toy) unheld(*session)                {}
func (p *toy) sendAway(in, _ *session)        { p.l.polls.say(in, "bye") }
func (p *toy) answer(_, get *session, body []byte) {
	p.l.http.respond(get, 200, "text/plain", body)
}

// A wire that the server does not know is one value and one row, a polling one too: its clients enter and send, are told what others say,
// are kicked, forgotten when they are silent, and sent away at the end.
func TestNewWire(t *testing.T) {
	for _, loops := range []int{1, 3} {
		t.Run(fmt.Sprint("loops=", loops), func(t *testing.T) {
			r := newRig(t, shape{loops: loops}, withToy)
			target := "/toy?sid=" + r.web(atConnector).ask(post("/toy", "")).body
			fetch := func() []string {
				return strings.Split(r.web(atConnector).ask(get(target)).body, "\x1e")
			}
			say := func(lines ...string) {
				if p := r.web(atConnector).ask(post(target, strings.Join(lines, "\x1e"))); p.body != "ok" {
					t.Fatalf("a POST was answered %v", p)
				}
			}
			wantIn := func(packets []string, texts ...string) {
				t.Helper()
				if len(packets) != len(texts) {
					t.Fatalf("got %q, want %q", packets, texts)
				}
				for i, text := range texts {
					if !strings.Contains(strings.ReplaceAll(packets[i], `\`, ""), text) {
						t.Errorf("got %q, want %q", packets[i], text)
					}
				}
			}
			other := r.login(atConnector, true)
			other.enter("other", "r")
			say(`1 connector.entryHandler.enter {"username":"toy","rid":"r"}`, `2 chat.chatHandler.send {"content":"hi","target":"*"}`)
			wantIn(fetch(), `"users":["other","toy"]`, `"msg":"hi"`, `"id":2`)
			other.want(`push 0 onAdd {"route":"onAdd","user":"toy"}`, `push 0 onChat {"msg":"hi","from":"toy","target":"*"}`)

			held := r.web(atConnector)
			held.send(get(target))
			r.net.Settle()
			if p := held.response(false); p != nil {
				t.Fatalf("a GET was not held: %v", p)
			}
			other.ask(routeSend, sendBody("there", "*"))
			wantIn([]string{held.response(false).body}, `"msg":"there"`)

			idle := r.web(atConnector)
			idle.send(get(target))
			r.net.Seconds(6)
			wantIn([]string{idle.response(false).body}, "nothing")

			snapshot := 0
			for _, l := range r.node.loops {
				snapshot += int(l.snapshot().Sessions["toy"])
			}
			if snapshot != 1 {
				t.Errorf("%d toys are counted", snapshot)
			}
			if err := r.node.request(channel.Request{Op: channel.OpKick, Room: "r", Target: "toy", Content: []byte(`"enough"`)}); err != nil {
				t.Fatal(err)
			}
			r.net.Settle()
			wantIn(fetch(), `"reason":"enough"`, "41")
			if p := r.web(atConnector).ask(get(target)); p.status != 404 {
				t.Errorf("a session that was kicked lives on: %v", p)
			}
			other.want(`push 0 onChat {"msg":"there","from":"other","target":"*"}`, `push 0 onLeave {"route":"onLeave","user":"toy"}`)

			target = "/toy?sid=" + r.web(atConnector).ask(post("/toy", "")).body
			r.net.Seconds(12)
			if n := r.closedFor(reasonSilent); n != 2 { // the other sends no heartbeats either
				t.Errorf("%d ended for their silence", n)
			}
			if p := r.web(atConnector).ask(get(target)); p.status != 404 {
				t.Errorf("a silent session lives on: %v", p)
			}
			if n := r.node.pulls(); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}

// Which connections wait for a session that polls, and for what, in every state there is.
func TestPull(t *testing.T) {
	const get, post, next, probe = netpoll.ID(1), netpoll.ID(2), netpoll.ID(3), netpoll.ID(4)
	for bits := range 32 {
		has := func(bit int) bool { return bits>>bit&1 != 0 }
		p := pull{probed: has(3)}
		if has(0) {
			p.get = get
		}
		if has(1) {
			p.posts = []netpoll.ID{post}
		}
		if has(2) {
			p.probe = probe
		}
		if has(4) {
			if !p.end(reasonKick) || p.end(reasonShutdown) || p.why != reasonKick {
				t.Errorf("%+v: a session ends once", p)
			}
		}
		before := fmt.Sprintf("%+v", p)
		check := func(ok bool, rule string) {
			if !ok {
				t.Errorf("%s: %s; now %+v", before, rule, p)
			}
		}
		switch d := p.due(); {
		case p.ended:
			check(d == dueFarewell, "a GET of an ended session is told so, whatever else there is")
		case p.probed:
			check(d == dueIdle, "a GET does not hold up a client that changes over")
		default:
			check(d == dueNothing, "a GET is held")
		}
		check(p.try(9) == !has(2), "one probe at a time")
		if !has(2) {
			check(p.gone(9) == taskProbe && p.probe == 0 && !p.probed, "a probe that is gone leaves nothing")
			p.probed = has(3)
		}
		check(p.take(next, true) == has(4), "a POST waits while earlier ones have yet to be taken, unless nobody takes them any more")
		if !has(4) {
			check(p.take(next, false) == !has(1), "POSTs are taken in the order they came")
			if has(1) {
				check(p.next() == post && p.take(post, false) && p.next() == next && p.take(next, false) && p.next() == 0, "one after the other")
				p.posts = []netpoll.ID{post}
			}
		}
		want := taskNone
		if has(1) {
			want = taskPost
		}
		check(p.gone(post) == want && p.gone(post) == taskNone && p.next() == 0, "a POST that is gone is waited for no longer")
		want = taskNone
		if has(0) {
			want = taskPoll
		}
		check(p.gone(get) == want && p.release() == 0, "a GET that is gone is held no longer")
		if p.get = get; true {
			check(p.release() == get && p.release() == 0, "a GET is answered once")
		}
		check(p.gone(7) == taskNone, "strangers have no part")
	}
}

// Nobody but protocols themselves asks what a session speaks, so that one more of them touches its file, a row and its tests.
func TestNobodyAsksWhatASessionSpeaks(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	asked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "protocol.go" {
			continue
		}
		own := strings.HasPrefix(name, "proto_")
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			id, is := n.(*ast.Ident)
			if !is || !isProtocolID(id.Name) {
				return true
			}
			if asked++; !own {
				t.Errorf("%s names %s", name, id.Name)
			}
			return true
		})
	}
	if asked < 5 {
		t.Errorf("protocols name each other %d times: are they called otherwise by now?", asked)
	}
}

// isProtocolID tells whether a name is one of the constants of protocolID.
func isProtocolID(name string) bool {
	rest, is := strings.CutPrefix(name, "proto")
	return is && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z'
}
