package router

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

func list(members int) func(*Config) {
	return func(cfg *Config) { cfg.Limits.Rooms.List = members }
}

// pageOf is an answer to chat.chatHandler.members, or to an enter.
type pageOf struct {
	Users  []string
	Count  int
	More   *bool
	Next   string
	Code   int
	Reason string
}

func page(t *testing.T, body string) (p pageOf) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return p
}

// plainly is what a client was told until now, without what JSON in a string needs.
func plainly(c extendedClient) string {
	c.ask("no.such.route", `{}`) // one that polls has fetched what was before the answer then
	return strings.ReplaceAll(strings.Join(c.take(), "\n"), `\`, "")
}

// A room in which there are more than so many is large on every wire, and in a fleet: nobody is told who comes and goes, extended clients are told how many there are, and
// everybody may read the list in pages. It is small again when all have left.
func TestLargeRoomsOnEveryWire(t *testing.T) {
	for name, open := range extendedWires() {
		for _, sh := range append([]shape{{loops: 1}, {loops: 3, roundTrip: true}, {loops: 3, follow: true}}, fleets...) {
			t.Run(name+","+sh.String(), func(t *testing.T) {
				r := newRig(t, sh, list(3))
				enter := `{"username":"%s","rid":"r","seq":true}`
				x := open(r)
				x.ask(routeEnter, fmt.Sprintf(enter, "x"))
				ann, bob, cid := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
				ann.enter("ann", "r")
				bob.enter("bob", "r")
				ann.want(`push 0 onAdd {"route":"onAdd","user":"bob"}`)
				if got := plainly(x); !strings.Contains(got, `"user":"bob"`) {
					t.Fatalf("in the small room: %s", got)
				}
				counts := func(others string, want string) {
					t.Helper()
					got := plainly(x)
					if n := strings.Count(got, "onCount"); want == "" && (n != 0 || got != "") || want != "" && (n == 0 || !strings.Contains(got, want+`,"rid":"r","seq":"`)) {
						t.Fatalf("%s: the extended client is told %s", others, got)
					}
					ann.want()
					bob.want()
				}
				if got := cid.enter("cid", "r"); got != `{"users":["x","ann","bob","cid"],"count":4,"more":false}` {
					t.Fatal(got)
				}
				counts("the fourth", `"count":4,"joined":1,"left":0`)
				later := func() {
					r.net.Seconds(3)
					for _, c := range []extendedClient{ann, bob, cid, x} { // or they are silent for too long
						c.ask("no.such.route", `{}`)
					}
				}
				dan := open(r)
				got := page(t, dan.ask(routeEnter, fmt.Sprintf(enter, "dan")))
				if !slices.Equal(got.Users, []string{"x", "ann", "bob", "cid", "dan"}) || got.Count != 5 || got.More == nil || *got.More {
					t.Fatalf("%+v", got)
				}
				later()
				counts("the fifth", `"count":5,"joined":1,"left":0`)
				if sh.fleet == "" { // another process takes over, and knows that the room is large, and what was told of it
					r.handOver(false)
				}
				dan.leave()
				later()
				counts("one leaves", `"count":4,"joined":0,"left":1`)
				later()
				counts("nothing", "")
				ann.ask(routeSend, sendBody("hello", "*"))
				ann.want(`push 0 onChat {"msg":"hello","from":"ann","target":"*"}`)
				bob.want(`push 0 onChat {"msg":"hello","from":"ann","target":"*"}`)
				if got := plainly(x); !strings.Contains(got, `"msg":"hello"`) {
					t.Errorf("told %s", got)
				}
				for _, c := range []extendedClient{x, ann} {
					first := page(t, c.ask(routeMembers, `{"rid":"r","limit":3}`))
					second := page(t, c.ask(routeMembers, `{"limit":3,"after":"`+first.Next+`"}`))
					if all := append(first.Users, second.Users...); !slices.Equal(all, []string{"x", "ann", "bob", "cid"}) || len(first.Users) != 3 || first.Count != 4 || second.Next != "" {
						t.Errorf("%+v, then %+v", first, second)
					}
					if got := c.ask(routeMembers, `{"rid":"other"}`); got != string(channel.Refused) {
						t.Errorf("of another room: %s", got)
					}
					if got := c.ask(routeMembers, `{"after":"zz.9"}`); got != string(channel.CursorRefused) {
						t.Errorf("a cursor of another room: %s", got)
					}
				}
				for _, c := range []extendedClient{x, cid, bob, ann} {
					c.leave()
				}
				again, beside := r.login(atConnector, true), r.login(atConnector, false)
				again.enter("again", "r")
				if got := beside.enter("beside", "r"); got != `{"users":["again","beside"]}` {
					t.Error(got)
				}
				again.want(`push 0 onAdd {"route":"onAdd","user":"beside"}`)
			})
		}
	}
}

// Bodies that are none, bounds and cursors of all kinds are answered, and hurt nobody; who is in no room is refused.
func TestMembersBadInput(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, true)
	if got := c.ask(routeMembers, `{}`); got != string(channel.Refused) {
		t.Errorf("outside of rooms: %s", got)
	}
	for i := range 600 {
		m := r.login(atConnector, false)
		m.request(routeEnter, enterBody(fmt.Sprint("m", i), "r"))
	}
	c.enter("c", "r")
	for body, want := range map[string]int{
		`{}`: defaultMembers, `{"limit":7}`: 7, `{"limit":1e6}`: defaultMembers, `{"limit":100000}`: 500, `{"limit":-1}`: defaultMembers, `{"limit":"many"}`: defaultMembers, `{"limit":0}`: 1,
		`{"limit":99999999999999}`: defaultMembers, `{"after":7}`: -1, `{"after":null}`: -1, `{"after":""}`: -1, `{"after":{}}`: -1, `{"after":"1.-1"}`: -1,
	} {
		p := page(t, c.ask(routeMembers, body))
		if want < 0 && p.Reason != "cursor" || want >= 0 && (len(p.Users) != want || p.Count != 601 || p.Next == "") {
			t.Errorf("%s: %d names, %+v", body, len(p.Users), p.Reason)
		}
	}
}

// Pages of members draw on the rate of enters, one for a page and one more for 16 KiB.
func TestMembersRate(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.EnterRate = limit.Rate{PerSecond: 2, Burst: 20} })
	for i := range 400 {
		m := r.login(atConnector, false)
		m.request(routeEnter, enterBody(fmt.Sprintf("%060d", i), "r"))
	}
	c := r.login(atConnector, true)
	c.enter("c", "r")
	read := func(limit int) (times int) {
		for times < 50 && !refusedByRate(t, c.ask(routeMembers, fmt.Sprintf(`{"limit":%d}`, limit)), `"users":["0`) {
			times++
		}
		return times
	}
	if small := read(1); small < 17 || small > 19 {
		t.Errorf("%d small pages at once", small)
	}
	for range 2 { // 12 enters; nobody is silent for too long
		r.net.Seconds(3)
		c.ask("no.such.route", `{}`)
	}
	if large := read(400); large < 4 || large > 6 { // 25 KB each
		t.Errorf("%d large pages at once", large)
	}
}

// tally counts what a loop writes.
type tally struct {
	netpoll.Driver
	writes, bytes *int
}

func (d tally) Write(fd int, b []byte) (int, syscall.Errno) {
	n, err := d.Driver.Write(fd, b)
	*d.writes++
	*d.bytes += n
	return n, err
}

// Above -list an entrant costs one write, and the bytes of 200 names, whatever the size of the room and the number of loops; below, one for each member.
func TestEntrantsOfALargeRoomCostTheSame(t *testing.T) {
	const large, batch = 300, 100
	for _, sh := range []shape{{loops: 1}, {loops: 4, roundTrip: true}} {
		t.Run(sh.String(), func(t *testing.T) {
			writes, bytes := 0, 0
			r := newRig(t, sh, func(cfg *Config) {
				list(large)(cfg)
				inner := cfg.NewDriver
				cfg.NewDriver = func(i int) (netpoll.Driver, error) {
					d, err := inner(i)
					return tally{d, &writes, &bytes}, err
				}
			})
			members := 0
			enter := func(n int) (w, b int) {
				var entrants []*client
				for range n {
					c := r.connect(atConnector, true)
					c.send(codec.PackageHandshake, []byte(testHandshake))
					c.send(codec.PackageHandshakeAck, nil)
					entrants = append(entrants, c)
				}
				r.net.Settle()
				writes, bytes = 0, 0
				for _, c := range entrants {
					c.request(routeEnter, enterBody(fmt.Sprintf("member %06d", members), "r"))
					members++
				}
				r.net.Settle()
				for _, c := range entrants {
					c.sock.Wrote, c.read = nil, 0
				}
				return writes, bytes
			}
			enter(batch)
			if w, _ := enter(batch); w < 2*batch {
				t.Errorf("%d writes for %d entrants of a small room", w, batch)
			}
			for members < 5*large {
				w, b := enter(batch)
				if members <= large+batch {
					continue
				}
				if most := batch * (newest + 100); w != batch || b > most || b < batch*newest/2 {
					t.Errorf("%d members: %d writes and %d bytes for %d entrants, want %d and at most %d", members, w, b, batch, batch, most)
				}
			}
		})
	}
}

// newest is about how long an answer is with 200 names like "member 000000".
const newest = 200 * 16
