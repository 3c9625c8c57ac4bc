package fleet

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pomelod/pomelod/client"
)

// witness is a client that keeps what it is pushed.
type witness struct {
	*client.Client
	mu     sync.Mutex
	pushes []string // route and body, but those of who comes and goes
}

func (l *witness) listen() {
	for {
		p, err := l.Next()
		if err != nil {
			return
		}
		if p.Route != "onAdd" && p.Route != "onLeave" {
			l.mu.Lock()
			l.pushes = append(l.pushes, p.Route+" "+string(p.Body))
			l.mu.Unlock()
		}
	}
}

// heard is what it was pushed so far.
func (l *witness) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pushes)
}

// count is how often it was pushed something with a text in it.
func (l *witness) count(text string) (n int) {
	for _, p := range l.heard() {
		n += strings.Count(p, text)
	}
	return n
}

// published is what the API answers to a publish.
type published struct {
	Scope, Seq              string
	Time                    int64
	Count, Delivered, Nodes int
	Repeated                bool
}

// What is published at any node of a fleet is heard once by all whom it is for, in one order with what members say, and kept as that is. The same mid at another node is answered as the first time and said to nobody
// twice: also where the room's owner was killed in between, a node was upgraded, or one has ended and begun again.
func TestPublishOfAFleet(t *testing.T) {
	s := startNATS(t, nil)
	dir := t.TempDir()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	node := func(name string) *process {
		args := append(nodeFlags("127.0.0.1"), "-id", name, "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-admin-socket", filepath.Join(dir, name+".sock"))
		return beginGroup(t, name, exec.Command(binary, args...))
	}
	run := func(at *process, words ...string) (string, error) {
		out, err := exec.Command(binary, append(words, "-admin-socket", filepath.Join(dir, at.name+".sock"))...).CombinedOutput()
		return string(out), err
	}
	failed := false // an attempt: nobody knows what has become of it
	publish := func(at *process, words ...string) (p published) {
		t.Helper()
		failed = false
		eventually(t, fmt.Sprintf("%s to publish %q", at.name, words), func() bool { // a mid may be asked for again
			out, err := run(at, append([]string{"publish", "-o", "json"}, words...)...)
			if p = (published{}); err == nil {
				err = json.Unmarshal([]byte(out), &p)
			}
			if err != nil {
				failed = true
				t.Logf("%s: publish %q: %v, %s", at.name, words, err, out)
			}
			return err == nil
		})
		return p
	}
	enter := func(at *process, name, room string) *witness {
		t.Helper()
		l := &witness{}
		eventually(t, name+" to enter", func() bool {
			l.Client = dial(t, at.addr("connector"), false)
			if l.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": room}, nil) == nil {
				return true
			}
			l.Close()
			return false
		})
		t.Cleanup(func() { l.Close() })
		go l.listen()
		return l
	}
	hears := func(l *witness, text string, times int) {
		t.Helper()
		eventually(t, "it to be heard: "+text, func() bool { return l.count(text) >= times })
		if n := l.count(text); n > times {
			t.Errorf("%s was heard %d times: %q", text, n, l.heard())
		}
	}
	a, b, c := node("a"), node("b"), node("c")
	nodes := []*process{a, b, c}
	for _, p := range nodes {
		p.waitReady()
	}
	settled := func(at *process, of int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d nodes that guard each other", of), func() bool {
			out, err := exec.Command(binary, "list", "-admin", filepath.Join(dir, at.name+".sock"), "-o", "json").Output()
			var all struct {
				Unguarded int
				Nodes     []struct {
					State string
					Owns  int
				}
			}
			return err == nil && json.Unmarshal(out, &all) == nil && all.Unguarded == 0 && len(all.Nodes) == of && !slices.ContainsFunc(all.Nodes, func(n struct {
				State string
				Owns  int
			}) bool {
				return n.State != "ok" || n.Owns == 0
			})
		})
	}
	settled(a, 3)

	// A room that c owns; its members are at a and b.
	var room string
	var ann, bob *witness
	for i := 0; room == ""; i++ {
		if i == 100 {
			t.Fatal("c owns no room")
		}
		name := fmt.Sprint("room", i)
		ann = enter(a, "ann", name)
		if out, err := run(c, "rooms"); err == nil && strings.Contains(out, name+"\n") {
			room = name
		} else {
			ann.Close()
		}
	}
	bob = enter(b, "bob", room)

	// One order for all: what members say, and what is published at three nodes meanwhile.
	var talking sync.WaitGroup
	const each = 15
	for _, l := range []*witness{ann, bob} {
		talking.Go(func() {
			for i := range each {
				if err := l.Request("chat.chatHandler.send", map[string]string{"content": fmt.Sprint("said ", i), "target": "*"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 4 {
		for k, at := range nodes {
			body := fmt.Sprintf(`{"msg":"published %d at %s","from":"ops"}`, i, at.name)
			for _, at := range []*process{at, nodes[(k+1)%3]} {
				if p := publish(at, "onChat", body, "-room", room, "-mid", fmt.Sprint("order ", i, k)); p.Scope != "fleet" || p.Seq == "" || p.Count != 2 || !failed && p.Repeated != (at != nodes[k]) {
					t.Errorf("published: %+v", p)
				}
			}
		}
	}
	talking.Wait()
	for _, l := range []*witness{ann, bob} {
		eventually(t, "all to be heard", func() bool { return len(l.heard()) >= 2*each+12 })
	}
	if x, y := ann.heard(), bob.heard(); !slices.Equal(x, y) || len(x) != 2*each+12 {
		t.Errorf("heard\n%s\nand\n%s", strings.Join(x, "\n"), strings.Join(y, "\n"))
	}

	// To sessions: each node once for a mid.
	for name, to := range map[string][]string{"all": {"-all"}, "user": {"-user", "bob"}} {
		want := map[string]int{"all": 2, "user": 1}[name]
		for i, at := range []*process{a, a, c, b} {
			if p := publish(at, append([]string{"onNews", `{"to":"` + name + `"}`, "-mid", "spread"}, to...)...); p.Scope != "fleet" || p.Count != want || p.Nodes != 3 || !failed && p.Repeated != (i > 0) {
				t.Errorf("to %s, time %d: %+v", name, i, p)
			}
		}
		hears(bob, `{"to":"`+name+`"}`, 1)
	}
	hears(ann, `{"to":"all"}`, 1)
	if out, err := run(b, "upgrade"); err != nil {
		t.Fatalf("upgrade: %v, %s", err, out)
	}
	if p := publish(a, "onNews", `{"to":"all"}`, "-mid", "spread", "-all"); !p.Repeated {
		t.Errorf("after an upgrade: %+v", p)
	}
	if p := publish(b, "onNews", `{"to":"all"}`, "-mid", "spread", "-all"); !p.Repeated || p.Nodes != 3 {
		t.Errorf("at the upgraded node: %+v", p)
	}
	publish(a, "onNews", `{"mark":1}`, "-all")
	hears(bob, `{"mark":1}`, 1)
	hears(ann, `{"mark":1}`, 1)
	if n, m := ann.count(`{"to":"all"}`), bob.count(`{"to":"all"}`); n != 1 || m != 1 {
		t.Errorf("after an upgrade it was heard %d and %d times", n, m)
	}

	// The owner is killed between two publishes of one mid.
	last := `{"msg":"last","from":"ops"}`
	first := publish(a, "onChat", last, "-room", room, "-mid", "last")
	hears(ann, `"last"`, 1)
	hears(bob, `"last"`, 1)
	c.kill()
	again := publish(b, "onChat", last, "-room", room, "-mid", "last")
	if first.Repeated = true; again != first {
		t.Errorf("answered %+v after the owner's death, before %+v", again, first)
	}
	if p := publish(a, "onNews", `{"two":1}`, "-all", "-mid", "two"); p.Nodes != 2 || p.Count != 2 {
		t.Errorf("at the two that are left: %+v", p)
	}
	if p := publish(b, "onChat", `{"msg":"more"}`, "-room", room); p.Repeated || p.Seq == first.Seq {
		t.Errorf("another: %+v", p)
	}
	hears(ann, `"more"`, 1)
	hears(bob, `"more"`, 1)
	if n, m := ann.count(`"last"`), bob.count(`"last"`); n != 1 || m != 1 {
		t.Errorf("it was said %d and %d times", n, m)
	}
	if out, err := run(a, "history", room); err != nil || strings.Count(out, "last") != 1 || !strings.Contains(out, first.Seq) {
		t.Errorf("history: %v, %s", err, out)
	}

	// A node ends, as it was told, and begins again.
	if code := a.stop(); code != 0 {
		t.Errorf("a ended with %d", code)
	}
	a = node("a")
	a.waitReady()
	settled(a, 2)
	for _, at := range []*process{a, b} {
		if again := publish(at, "onChat", last, "-room", room, "-mid", "last"); again != first {
			t.Errorf("answered %+v at %s after a has begun again, before %+v", again, at.name, first)
		}
	}
	if out, err := run(a, "history", room); err != nil || strings.Count(out, "last") != 1 {
		t.Errorf("history: %v, %s", err, out)
	}
}
