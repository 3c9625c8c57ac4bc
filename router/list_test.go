package router

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// Newcomers of every kind get the whole list of a large room, as it was when they entered, and everybody after them by push:
// those that enter in one batch, those that take their answer in small pieces, and those whose answer is encoded in another way.
func TestListsOfLargeRooms(t *testing.T) {
	const (
		before = 150 // names of 50 bytes: the list is a long one
		batch  = 20
	)
	longName := func(kind string, i int) string { return fmt.Sprintf("%s%d %s", kind, i, strings.Repeat("é", 20)) }
	for _, sh := range shapes {
		t.Run(fmt.Sprintf("loops=%d,encoded=%v,follow=%v", sh.loops, sh.roundTrip, sh.follow), func(t *testing.T) {
			r := newRig(t, sh, func(c *Config) {
				protos := parseProtos(t, `{"`+routeEnter+`":{"repeated string users":1}}`, `{}`)
				c.Profiles = append(c.Profiles, &Profile{Name: "protobuf", Type: Connector, Protos: protos})
			})
			protobuf := uint8(len(r.node.profiles) - 1)
			for i := range before {
				r.login(atConnector, i%2 == 0).request(routeEnter, enterBody(longName("m", i), "r"))
			}
			r.net.Settle()
			var newcomers []*client
			for i := range batch {
				tag := uint8(atConnector)
				if i%5 == 0 {
					tag = protobuf
				}
				newcomers = append(newcomers, r.login(tag, i%2 == 0))
			}
			for i, c := range newcomers {
				if i%3 == 0 {
					c.sock.Room = 100 * i
				}
				c.request(routeEnter, enterBody(longName("n", i), "r"))
			}
			r.net.Settle()
			for _, c := range newcomers {
				c.sock.Room = -1
			}
			r.net.Settle()

			last := r.login(atConnector, true)
			all := usersOf(t, last.enter("last", "r"))
			if len(all) != before+batch+1 || all[len(all)-1] != "last" {
				t.Fatalf("the last one gets %q", all)
			}
			for i, c := range newcomers {
				c.pump()
				if len(c.events) == 0 || c.events[0].kind != "answer" {
					t.Fatalf("newcomer %d: %v", i, c.events)
				}
				got := usersOf(t, c.events[0].text)
				if binary := c.events[0].text[0] != '{'; binary != (i%5 == 0) {
					t.Fatalf("newcomer %d: as protobuf is %v", i, binary)
				}
				if me := longName("n", i); got[len(got)-1] != me {
					t.Fatalf("newcomer %d is not the last of %q", i, got)
				}
				for _, e := range c.events[1:] {
					got = append(got, addedBy(t, e))
				}
				if !slices.Equal(got, all) {
					t.Fatalf("newcomer %d: got %q\nwant %q", i, got, all)
				}
			}
			for i, kind := range flavours {
				all = append(all, longName("s", i))
				c := r.sioLogin(kind)
				if got := usersOf(t, c.enter(longName("s", i), "r")); !slices.Equal(got, all) {
					t.Fatalf("%s: got %q\nwant %q", kind.name, got, all)
				}
			}
		})
	}
}

// usersOf are the names in the answer to an enter, which is JSON or protobuf with a field 1 for each.
func usersOf(t *testing.T, answer string) []string {
	t.Helper()
	var list struct{ Users []string }
	if !strings.HasPrefix(answer, "{") {
		for len(answer) > 0 {
			if answer[0] != 1<<3|2 || len(answer) < 2 || len(answer) < 2+int(answer[1]) {
				t.Fatalf("no list: %q", answer)
			}
			n := 2 + int(answer[1])
			list.Users = append(list.Users, answer[2:n])
			answer = answer[n:]
		}
	} else if err := json.Unmarshal([]byte(answer), &list); err != nil {
		t.Fatalf("no list: %v: %q", err, answer)
	}
	if len(list.Users) == 0 {
		t.Fatalf("an empty list: %q", answer)
	}
	return list.Users
}

// addedBy is who entered by an onAdd.
func addedBy(t *testing.T, e event) string {
	t.Helper()
	var push struct{ User string }
	body, ok := strings.CutPrefix(e.text, "onAdd ")
	if !ok || json.Unmarshal([]byte(body), &push) != nil {
		t.Fatalf("no onAdd: %v", e)
	}
	return push.User
}

// Entering a large room takes memory for a member, not for the list of all names, however many enter in one batch.
func TestEnterAllocations(t *testing.T) {
	skipUnderRace(t)
	forWires(t, func(t *testing.T, ws bool) {
		const members, newcomers = 3000, 200
		c := newCrowd(t, members, ws)
		var list []*client
		for range newcomers {
			m := c.r.connect(atConnector, ws)
			m.send(codec.PackageHandshake, []byte(testHandshake))
			m.send(codec.PackageHandshakeAck, nil)
			list = append(list, m)
		}
		c.r.net.Settle()
		for i, m := range list {
			m.request(routeEnter, enterBody(fmt.Sprint("n", i), "r"))
		}
		c.driver.bytes = 0
		allocated := allocatedBy(c.r.net.Settle)
		if n := c.r.node.loops[0].worker.Stats().Members; n != members+newcomers {
			t.Fatalf("%d members, want %d", n, members+newcomers)
		}
		if least := newcomers * members * len(`"m1234"`); c.driver.bytes < least {
			t.Errorf("%d bytes written, which is less than %d", c.driver.bytes, least)
		}
		t.Logf("%d bytes allocated for each that entered", allocated/newcomers)
		if allocated/newcomers > 4000 {
			t.Errorf("%d bytes allocated for each that entered", allocated/newcomers)
		}
	})
}
