package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

func forFleets(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, sh := range fleets {
		t.Run(sh.String(), func(t *testing.T) { f(t, newRig(t, sh, nil)) })
	}
}

// Two people on different connectors, and a room that is on neither of them.
func TestFleetTwoTalk(t *testing.T) {
	forFleets(t, func(t *testing.T, r *rig) {
		ann, bob := r.login(atConnector, true), r.login(atConnector, false)
		if got := ann.enter("ann", "lobby"); got != `{"users":["ann"]}` {
			t.Fatal(got)
		}
		if got := bob.enter("bob", "lobby"); got != `{"users":["ann","bob"]}` {
			t.Fatal(got)
		}
		ann.want(`push 0 onAdd {"route":"onAdd","user":"bob"}`)
		if got := bob.ask(routeSend, sendBody("hi", "*")); got != `{}` {
			t.Fatal(got)
		}
		ann.want(`push 0 onChat {"msg":"hi","from":"bob","target":"*"}`)
		bob.sock.End()
		r.net.Settle()
		ann.want(`push 0 onLeave {"route":"onLeave","user":"bob"}`)
	})
}

// What the owner does not answer is refused by the fleet, which knows whether it may have happened, before the loop gives it up.
func TestFleetRefusesBeforeTheLoop(t *testing.T) {
	r := newRig(t, shape{loops: 1, fleet: "gnc"}, nil)
	x := r.fleet
	ann := r.login(atConnector, true)
	ann.enter("ann", "lobby")
	x.pass(300) // the loop's whole seconds are not the fleet's
	x.nodes[2].paused = true
	ann.request(routeSend, sendBody("sent", "*"))
	for range 80 {
		ann.send(codec.PackageHeartbeat, nil)
		x.pass(100)
	}
	ann.want(`answer 2 {"code":500,"reason":"unknown"}`)
}

// A gate names the connectors of the fleet: by the hash of the uid always the same one, and all of them in time. One that is cut off or drains is named
// no more, and with none left the gate refuses.
func TestFleetGate(t *testing.T) {
	r := newRig(t, shape{loops: 1, fleet: "gnnc"}, nil)
	x := r.fleet
	ask := func(uid string) string {
		return r.login(atGate, true).ask("gate.gateHandler.queryEntry", `{"uid":"`+uid+`"}`)
	}
	named := func() map[string]bool {
		hosts := map[string]bool{}
		for _, uid := range []string{"a", "b", "c", "d", "e", "f"} {
			got := ask(uid)
			if again := ask(uid); again != got {
				t.Errorf("uid %s is sent to %s and to %s", uid, got, again)
			}
			hosts[got] = true
		}
		return hosts
	}
	one, two := `{"code":200,"host":"chn1.example","port":3050}`, `{"code":200,"host":"chn2.example","port":3050}`
	if got := named(); len(got) != 2 || !got[one] || !got[two] {
		t.Fatalf("%v", got)
	}
	x.nodes[1].fleet.Drain(true)
	x.pass(700)
	if got := named(); len(got) != 1 || !got[two] {
		t.Fatalf("n1 drains: %v", got)
	}
	x.kill(x.nodes[2])
	x.pass(1300)
	if got := named(); len(got) != 1 || !got[`{"code":500,"reason":"no_connector"}`] {
		t.Fatalf("n2 is dead: %v", got)
	}
	x.nodes[1].fleet.Drain(false)
	x.pass(700)
	if got := named(); len(got) != 1 || !got[one] {
		t.Fatalf("n1 is back: %v", got)
	}
}

// A push costs one message for each connector that has members of the room, whatever their number and that of the loops on which they are: with 95,000 members on five connectors it is five.
// What was said is in each of them once.
func TestFleetPushIsOneMessageAConnector(t *testing.T) {
	const connectors, loops, text = 5, 3, "said to very many"
	r := newRig(t, shape{loops: loops, fleet: "nnnnncc"}, nil)
	x := r.fleet
	var members []*client
	for i := range connectors * loops * 4 {
		c := r.login(atConnector, i%2 == 0)
		c.enter(fmt.Sprint("m", i), "lobby")
		members = append(members, c)
	}
	for _, p := range x.nodes[:connectors] {
		for _, l := range p.node.loops {
			if len(l.rooms.byID) == 0 {
				t.Fatalf("%s has a loop without members", p.name)
			}
		}
	}
	copies := map[string][]int{} // by connector, of each message that has what was said
	x.bus.Filter = func(from, to string, b []byte) int64 {
		if n := bytes.Count(b, []byte(text)); n > 0 && from[0] == 'c' && to[0] == 'n' {
			copies[to] = append(copies[to], n)
		}
		return 0
	}
	members[0].ask(routeSend, sendBody(text, "*"))
	x.pass(200)
	if len(copies) != connectors {
		t.Errorf("%d connectors were sent something", len(copies))
	}
	for to, list := range copies {
		if !slices.Equal(list, []int{1}) {
			t.Errorf("%s was sent as many messages, each with so many copies: %v", to, list)
		}
	}
	for i, c := range members {
		if told := strings.Count(strings.Join(c.take(), "\n"), text); told != 1 {
			t.Fatalf("member %d was told %d times", i, told)
		}
	}
}

// By load the gate sends each client to where the fewest are, and counts whom it has sent until it hears of them.
func TestGateByLoad(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	at := func(host string, load uint64) Announced {
		return Announced{Endpoint: Endpoint{Host: host, Port: 1}, Load: load}
	}
	r.node.SetConnectors([]Announced{at("a", 5), at("b", 3), at("c", 9)}, true)
	got := ""
	for range 6 {
		got += string(r.node.connectors[0].Load().pick([]byte(`"x"`)).Host)
	}
	if got != "bbabab" {
		t.Errorf("sent to %s", got)
	}
	// Now a and b have 7 each. c tells of fewer; of a and b nothing new is known.
	r.node.SetConnectors([]Announced{at("a", 5), at("b", 3), at("c", 8)}, true)
	got = ""
	for range 4 {
		got += string(r.node.connectors[0].Load().pick([]byte(`"x"`)).Host)
	}
	if got != "abab" {
		t.Errorf("when the load of another one has changed: sent to %s", got)
	}
}

// fleetHost is by what a gate of a fleet names a connector, as long as what one node names.
var fleetHost = regexp.MustCompile(`ch\w\d\.example`)

// The clients of every golden transcript, each at one connector of a fleet, are told by it what one node tells them, to the byte.
func TestGoldenOnFleets(t *testing.T) {
	files, _ := filepath.Glob("../server/testdata/golden/*.jsonl")
	if len(files) < 16 {
		t.Fatalf("%d transcripts", len(files))
	}
	for _, file := range files {
		name, lines := filepath.Base(file), readGolden(t, file)
		t.Run(strings.TrimSuffix(name, ".jsonl"), func(t *testing.T) {
			var want []string
			for _, sh := range append([]shape{{loops: 1}}, fleets...) {
				g := newGoldenRun(false)
				g.rig = newRig(t, sh, goldenConfig(t, name))
				g.play(lines)
				told := g.told()
				if want == nil {
					want = told
				}
				for i := range want {
					if got := fleetHost.ReplaceAllString(told[i], "chat.example"); got != want[i] {
						t.Fatalf("%v, connection %d: one node\n%s\nfleet\n%s", sh, i, want[i], got)
					}
				}
			}
		})
	}
}

// Whoever it is in a fleet that asks a room, its owner answers. Who cannot reach it is told that nothing has happened, and who is not answered, that it
// may have; a late answer finds nobody.
func TestFleetAsk(t *testing.T) {
	members := channel.Request{Op: channel.OpMembers, Room: "lobby"}
	ask := func(r *rig, p *fleetNode) (got string, err error) {
		err = r.asked(func() error {
			b, err := p.node.Ask(t.Context(), members)
			got = string(b)
			return err
		})
		return got, err
	}
	forFleets(t, func(t *testing.T, r *rig) {
		r.login(atConnector, true).enter("ann", "lobby")
		for _, p := range r.fleet.nodes {
			if got, err := ask(r, p); got != `{"users":["ann"]}` || err != nil {
				t.Errorf("%s: %s, %v", p.name, got, err)
			}
		}
	})
	r := newRig(t, shape{loops: 1, fleet: "gnc"}, nil)
	x := r.fleet
	gate, owner := x.nodes[0], x.nodes[2]
	x.pass(100)
	owner.paused = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of the test's clock, which is not the fleet's
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := gate.node.Ask(ctx, members)
		done <- err
	}()
	var err error
	x.until("the fleet gives it up", func() bool {
		select {
		case err = <-done:
			return true
		default:
			time.Sleep(time.Millisecond) // the goroutine's turn
			return false
		}
	})
	if !errors.Is(err, app.ErrUnknown) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not answered: %v", err)
	}
	owner.paused = false
	x.calm()
	gate.fleet.Away(true)
	x.pass(50)
	if _, err := ask(r, gate); !errors.Is(err, app.ErrNotSent) {
		t.Errorf("away: %v", err)
	}
	alone := newRig(t, shape{loops: 1}, nil).node
	if a, b := alone.patience(1), gate.node.patience(1); a != 5*time.Second || b != 7*time.Second {
		t.Errorf("without a deadline one waits for %v alone and for %v in a fleet", a, b)
	}
	if n := len(gate.node.asks.waiting); n != 0 {
		t.Errorf("%d questions are left", n)
	}
}

// A chat node that joins has its share of the partitions within seconds, and so many views are made for that.
func TestFleetGrows(t *testing.T) {
	if again {
		t.Skip("nothing here has a goroutine of its own, nor JSON that others do not have")
	}
	r := newRig(t, shape{loops: 1, fleet: "gnccc"}, nil)
	x := r.fleet
	last := x.nodes[len(x.nodes)-1]
	x.kill(last)
	x.calm()
	x.reboot(last)
	x.until("it is a member", func() bool { return last.fleet.Status().Self != 0 })
	began, views, view := x.now, 0, x.nodes[2].fleet.Status().View
	x.until("it has its share", func() bool {
		if v := x.nodes[2].fleet.Status().View; v != view {
			view, views = v, views+1
		}
		return x.guarded() && x.even()
	})
	took := (x.now - began) / msec
	if t.Logf("it has %d partitions after %d ms and %d views", last.fleet.Status().Owned, took, views); took > 5000 {
		t.Error("that is too long")
	}
}
