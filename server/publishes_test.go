//go:build linux

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/router"
)

// press are nodes that publish for each other: what one tells all hear, those excepted that are cut off.
type press struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[string]*pressNode
	names []string // the members of the fleet
}

type pressNode struct {
	*moderation
	p      *press
	name   string
	cut    bool
	fails  error // of its pushes
	pushed []string
}

func newPress(t *testing.T, names ...string) *press {
	p := &press{t: t, nodes: make(map[string]*pressNode)}
	for _, name := range names {
		p.begin(name, wallMillis())
	}
	return p
}

// begin has a process be the node of a name, which began at a time; 0: it goes on as the one before it. It is told all notes that the one before it had, or another one has.
func (p *press) begin(name string, from uint64) *pressNode {
	m, _ := ruled(filepath.Join(p.t.TempDir(), "rules.json"))
	n := &pressNode{moderation: m, p: p, name: name}
	m.tell = func(list []cluster.Note) {
		p.mu.Lock()
		var others []*pressNode
		for _, other := range p.nodes {
			if other != n && !other.cut && !n.cut {
				others = append(others, other)
			}
		}
		p.mu.Unlock()
		for _, other := range others {
			other.News(list)
		}
	}
	m.publishes = publishes{node: name, from: from, push: n.push, tell: m.tellOwn, all: n.members, batch: &m.mu, turn: make(chan struct{}, 1)}
	p.mu.Lock()
	old := p.nodes[name]
	for _, other := range p.nodes {
		if old == nil && other.name != name {
			old = other
		}
	}
	p.nodes[name] = n
	if !strings.Contains(strings.Join(p.names, " "), name) {
		p.names = append(p.names, name)
	}
	p.mu.Unlock()
	if old != nil {
		m.News(old.told())
	}
	return n
}

// told is all that the node knows.
func (n *pressNode) told() []cluster.Note {
	n.moderation.mu.Lock()
	defer n.moderation.mu.Unlock()
	return n.notes.All()
}

func (n *pressNode) members(context.Context) ([]string, error) {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	if n.cut {
		return nil, admin.ErrNotNow
	}
	return append([]string{}, n.p.names...), nil
}

func (n *pressNode) push(_ context.Context, f router.SessionFilter, route string, body []byte) (int, error) {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	if n.fails != nil {
		return 0, n.fails
	}
	n.pushed = append(n.pushed, fmt.Sprint(f.Name, f.UID, " ", route, " ", string(body)))
	return 2, nil
}

// news is what was pushed there since the last time.
func (n *pressNode) news() string {
	synctest.Wait()
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	text := strings.Join(n.pushed, "; ")
	n.pushed = nil
	return text
}

func (n *pressNode) publish(mid string) (admin.Spread, error) {
	return n.PublishEverywhere(context.Background(), admin.Publish{User: "x", Route: "onX", Body: json.RawMessage(`{"a":1}`), Mid: mid})
}

const pushedX = `x onX {"a":1}`

// What is published at a node is pushed at all, and who asks is told by how many; the same mid at another node comes to nobody twice, at once too, and is told as before. Without a mid it is another one each time.
func TestPublishEverywhere(t *testing.T) { synctest.Test(t, publishEverywhere) }

func publishEverywhere(t *testing.T) {
	p := newPress(t, "a", "b", "c")
	for i, at := range []string{"a", "a", "b", "c"} {
		if s, err := p.nodes[at].publish("m"); err != nil || s != (admin.Spread{Sessions: 6, Nodes: 3, Again: i > 0}) {
			t.Errorf("time %d, at %s: %+v, %v", i, at, s, err)
		}
		for name, n := range p.nodes {
			if got := n.news(); got != map[bool]string{true: pushedX}[i == 0] {
				t.Errorf("time %d, at %s: at %s is pushed %q", i, at, name, got)
			}
		}
	}
	var both sync.WaitGroup
	for _, at := range []string{"a", "c"} {
		both.Go(func() {
			if s, err := p.nodes[at].publish("at once"); err != nil || s.Sessions != 6 || s.Nodes != 3 {
				t.Errorf("at once at %s: %+v, %v", at, s, err)
			}
		})
	}
	both.Wait()
	for i := range 2 {
		if s, err := p.nodes["b"].publish(""); err != nil || s != (admin.Spread{Sessions: 6, Nodes: 3}) {
			t.Errorf("without a mid, time %d: %+v, %v", i, s, err)
		}
	}
	for name, n := range p.nodes {
		if got, want := n.news(), strings.Join([]string{pushedX, pushedX, pushedX}, "; "); got != want {
			t.Errorf("at %s is pushed %q", name, got)
		}
		if rules, _ := n.Rules(); len(rules) > 0 {
			t.Errorf("rules: %+v", rules)
		}
	}
	time.Sleep(publishMids)
	if s, err := p.nodes["b"].publish("m"); err != nil || s.Again {
		t.Errorf("after %v: %+v, %v", publishMids, s, err)
	}
}

// Who asks is told clearly: a node that is cut off, or does not push, is named, and gets it when it is asked again with the mid, and nobody else does; where this node hears nobody, or is busy, nothing happens.
func TestPublishPartly(t *testing.T) { synctest.Test(t, publishPartly) }

func publishPartly(t *testing.T) {
	p := newPress(t, "a", "b", "c")
	a, b, c := p.nodes["a"], p.nodes["b"], p.nodes["c"]
	c.cut = true
	if _, err := a.publish("cut"); !errors.Is(err, admin.ErrPartly) || !strings.Contains(err.Error(), "published at 2 nodes") || !strings.Contains(err.Error(), ": c. ") {
		t.Errorf("c is cut off: %v", err)
	}
	if a.news() != pushedX || b.news() != pushedX || c.news() != "" {
		t.Error("it is not published where it can be")
	}
	c.cut = false
	if s, err := b.publish("cut"); err != nil || s.Sessions != 6 || s.Again {
		t.Errorf("again: %+v, %v", s, err)
	}
	if a.news() != "" || b.news() != "" || c.news() != pushedX {
		t.Error("again, it comes to others than those at c")
	}

	// One that was away for a time gets it by itself, if that was no minute.
	c.cut = true
	if _, err := a.publish("short"); !errors.Is(err, admin.ErrPartly) {
		t.Error(err)
	}
	c.cut = false
	c.News(a.told())
	if c.news() != pushedX {
		t.Error("c has not published what it hears later")
	}
	c.cut = true
	if _, err := a.publish("long"); !errors.Is(err, admin.ErrPartly) {
		t.Error(err)
	}
	time.Sleep(publishHold)
	c.cut = false
	c.News(a.told())
	if got := c.news(); got != "" {
		t.Errorf("c publishes what is old: %s", got)
	}
	if s, err := b.publish("long"); err != nil || s.Again || c.news() != pushedX {
		t.Errorf("again: %+v, %v", s, err)
	}
	a.news()
	b.news()

	c.fails = app.ErrBusy
	if _, err := a.publish("busy"); !errors.Is(err, admin.ErrPartly) || !strings.Contains(err.Error(), "c (too much waits") || !strings.Contains(err.Error(), "2 others have") {
		t.Errorf("c is busy: %v", err)
	}
	c.fails = nil
	if s, err := c.publish("busy"); err != nil || s.Sessions != 6 || s.Again {
		t.Errorf("again: %+v, %v", s, err)
	}
	if a.news() != pushedX || b.news() != pushedX || c.news() != pushedX {
		t.Error("c was busy, and it is not published once at each")
	}

	a.fails = app.ErrBusy
	if _, err := a.publish("own"); !errors.Is(err, app.ErrBusy) || errors.Is(err, admin.ErrPartly) {
		t.Errorf("the asked node is busy: %v", err)
	}
	a.fails, a.cut = nil, true
	if _, err := a.publish("own"); !errors.Is(err, admin.ErrNotNow) {
		t.Errorf("the asked node is cut off: %v", err)
	}
	a.cut = false
	if a.news() != "" || b.news() != "" || c.news() != "" {
		t.Error("it was refused, and is published")
	}
	p.names = []string{"a", "b"} // the fleet goes on without
	c.cut = true
	if s, err := a.publish("without c"); err != nil || s.Nodes != 2 {
		t.Errorf("without c: %+v, %v", s, err)
	}
}

// A process that begins publishes nothing that was published before: who is there has come since. One that goes on as the node (an upgrade) has its clients, and knows what the one before it has done; what that one
// has not, it does.
func TestPublishAndRestarts(t *testing.T) { synctest.Test(t, publishAndRestarts) }

func publishAndRestarts(t *testing.T) {
	p := newPress(t, "a", "b", "c")
	time.Sleep(time.Second)
	if _, err := p.nodes["a"].publish("m"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	b := p.begin("b", wallMillis()) // restarted
	c := p.begin("c", 0)            // upgraded: both are told all notes
	if b.news() != "" || c.news() != "" {
		t.Fatal("it is published again where another process is")
	}
	for _, at := range []string{"b", "c", "a"} {
		if s, err := p.nodes[at].publish("m"); err != nil || s.Nodes != 3 || !s.Again || b.news() != "" || c.news() != "" {
			t.Errorf("again at %s: %+v, %v", at, s, err)
		}
	}
	time.Sleep(publishTold) // notes have it by its mid alone, then
	if _, err := p.nodes["a"].publish("n"); err != nil {
		t.Fatal(err)
	}
	p.nodes["a"].news()
	b.news()
	c.news()
	c = p.begin("c", 0)
	b = p.begin("b", wallMillis())
	for _, at := range []string{"b", "c"} {
		for _, mid := range []string{"m", "n"} {
			if s, err := p.nodes[at].publish(mid); err != nil || !s.Again || b.news() != "" || c.news() != "" {
				t.Errorf("%s again at %s, after more restarts: %+v, %v", mid, at, s, err)
			}
		}
	}

	// What is published while a node is down is not for those who come to it later.
	p.names, b.cut = []string{"a", "c"}, true
	if s, err := p.nodes["a"].publish(""); err != nil || s.Nodes != 2 {
		t.Errorf("while b is down: %+v, %v", s, err)
	}
	time.Sleep(time.Second)
	b = p.begin("b", wallMillis())
	b.News(p.nodes["a"].told())
	if got := b.news(); got != "" {
		t.Errorf("b publishes what was published before it began: %s", got)
	}
	c.news()

	// What has reached nobody yet is done by the process that goes on as the node.
	c.cut = true
	if _, err := p.nodes["a"].publish("late"); !errors.Is(err, admin.ErrPartly) {
		t.Error(err)
	}
	notes := p.nodes["a"].told()
	c = p.begin("c", 0)
	c.News(notes)
	if got := c.news(); got != pushedX {
		t.Errorf("pushed %q where the process before has done nothing", got)
	}
}

// What a node publishes in the last seconds is bounded by what a note may have, and so is what is remembered; nothing happens that cannot be told.
func TestPublishesAreBounded(t *testing.T) { synctest.Test(t, publishesAreBounded) }

func publishesAreBounded(t *testing.T) {
	p := newPress(t, "a", "b")
	a, b := p.nodes["a"], p.nodes["b"]
	publish := func(mid string, bytes int) error {
		_, err := a.PublishEverywhere(context.Background(), admin.Publish{All: true, Route: "onX", Body: json.RawMessage(`{"a":"` + strings.Repeat("x", bytes) + `"}`), Mid: mid})
		return err
	}
	if err := publish("", 70_000); err == nil || errors.Is(err, admin.ErrNotNow) || a.news() != "" {
		t.Errorf("what is too long: %v", err)
	}
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = publish(fmt.Sprint(n), 10_000)
	}
	if !errors.Is(err, admin.ErrNotNow) || n < 5 || n > 8 {
		t.Errorf("%d of 10,000 bytes, %v", n, err)
	}
	if here, there := a.news(), b.news(); strings.Count(here, "onX") != n-1 || here != there {
		t.Errorf("%d were told, and %d pushed here, %d there", n-1, strings.Count(here, "onX"), strings.Count(there, "onX"))
	}
	time.Sleep(publishTold)
	if err := publish("again", 10_000); err != nil {
		t.Errorf("later: %v", err)
	}
	for i := range publishKnow {
		b.publishes.mu.Lock()
		b.publishes.learn(fmt.Sprint("of others ", i), knownPublish{first: wallMillis() + uint64(i)})
		b.publishes.mu.Unlock()
	}
	for i := range publishPast + answersTold/2 {
		if err := publish(fmt.Sprint("m", i), 1); err != nil {
			t.Fatal(i, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for name, node := range p.nodes {
		m := &node.publishes
		m.mu.Lock()
		if len(m.known) > publishKnow || len(m.told) > publishPast+200 || len(m.answers) > answersTold || len(m.asked) > 0 || len(m.wait) > 0 {
			t.Errorf("%s remembers %d mids, tells %d, answers %d; %d are asked, %d wait", name, len(m.known), len(m.told), len(m.answers), len(m.asked), len(m.wait))
		}
		m.mu.Unlock()
		for _, note := range node.told() {
			if len(note.Key)+len(note.Text) > cluster.MaxNote {
				t.Errorf("%s has a note of %d bytes", name, len(note.Text))
			}
		}
	}
	b.News([]cluster.Note{{Key: publishKey + "z", At: wallMillis(), Until: wallMillis() + 9999, Text: []byte(`nonsense`)}, {Key: answerKey + "z", At: wallMillis(), Until: wallMillis() + 9999, Text: []byte(`nonsense`)}})
}

// skewed is what a node with a clock of its own has published, as the note that others are told.
func skewed(t *testing.T, name string, at uint64, mid string) cluster.Note {
	what := admin.Publish{User: "x", Route: "onX", Body: json.RawMessage(`{"a":1}`), Mid: mid}
	id := what.ID()
	what.Mid = ""
	text, err := json.Marshal([]toldPublish{{At: at, ID: id, Publish: &what}})
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Note{Key: publishKey + name, At: at, Until: at + ms(publishMids), Text: text}
}

// answersOf is what a node tells of what it has done.
func (n *pressNode) answersOf(t *testing.T) (told toldAnswers) {
	synctest.Wait()
	n.moderation.mu.Lock()
	note, has := n.notes.Get(answerKey + n.name)
	n.moderation.mu.Unlock()
	if !has {
		t.Fatalf("%s has told nothing", n.name)
	}
	if err := json.Unmarshal(note.Text, &told); err != nil {
		t.Fatal(err)
	}
	return told
}

// A node answers one whose clock is behind: what it has done, as long as that one may wait for it, and that it has not where it seems to be too old. A mid is known for ten minutes by its own clock. What
// nodes have published that have gone is not noted for ever.
func TestPublishByClocks(t *testing.T) { synctest.Test(t, publishByClocks) }

func publishByClocks(t *testing.T) {
	b := newPress(t, "b").nodes["b"]
	time.Sleep(time.Hour)
	const behind = 40 * time.Second
	at := wallMillis() - ms(behind)
	b.News([]cluster.Note{skewed(t, "a", at, "")})
	if got := b.news(); got != pushedX {
		t.Errorf("pushed %q", got)
	}
	if told := b.answersOf(t); len(told.Answers) != 1 || told.Answers[0].At != at || told.Answers[0].Count != 2 || told.Answers[0].Error != "" || told.Done["a"] != at {
		t.Errorf("one that is %v behind is told %+v", behind, told)
	}
	at = wallMillis() - ms(2*time.Minute)
	b.News([]cluster.Note{skewed(t, "c", at, "")})
	if got := b.news(); got != "" {
		t.Errorf("pushed %q, which is two minutes old", got)
	}
	if told := b.answersOf(t); len(told.Answers) != 2 || told.Answers[1].At != at || !strings.Contains(told.Answers[1].Error, "120 s") {
		t.Errorf("one that is two minutes behind is told %+v", told)
	}
	b.News([]cluster.Note{skewed(t, "d", wallMillis()-ms(behind), "m")})
	if got := b.news(); got != pushedX {
		t.Errorf("pushed %q", got)
	}
	time.Sleep(publishMids - time.Second)
	b.News([]cluster.Note{skewed(t, "e", wallMillis(), "m")})
	if told := b.answersOf(t); b.news() != "" || !told.Answers[len(told.Answers)-1].Again {
		t.Errorf("again before ten minutes are over: %+v", told)
	}
	time.Sleep(publishMids)
	b.News([]cluster.Note{skewed(t, "f", wallMillis(), "")})
	if told := b.answersOf(t); len(told.Done) != 1 || len(told.Answers) != 1 {
		t.Errorf("after twenty minutes it still tells %+v", told)
	}
}

// What waits at a node to be published is there once, however many notes it stands in.
func TestPublishesWaitOnce(t *testing.T) { synctest.Test(t, publishesWaitOnce) }

func publishesWaitOnce(t *testing.T) {
	p := newPress(t, "a", "b")
	a, b := p.nodes["a"], p.nodes["b"]
	b.publishes.turn <- struct{}{} // as while a loop is stuck
	var all sync.WaitGroup
	const n = 20
	for range n {
		all.Go(func() {
			if _, err := a.publish(""); !errors.Is(err, admin.ErrPartly) {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	all.Wait()
	b.publishes.mu.Lock()
	if k := len(b.publishes.wait); k != n-1 { // one waits for its turn
		t.Errorf("%d wait", k)
	}
	b.publishes.mu.Unlock()
	<-b.publishes.turn
	if got := strings.Count(b.news(), pushedX); got != n {
		t.Errorf("pushed %d times", got)
	}
}

// Once a node rests, all that it has carried out is told, and it carries nothing out until it goes on. Another process that goes on as the node does the rest, once.
func TestPublishRests(t *testing.T) { synctest.Test(t, publishRests) }

func publishRests(t *testing.T) {
	p := newPress(t, "a", "b")
	a, b := p.nodes["a"], p.nodes["b"]
	push, going := b.publishes.push, make(chan struct{})
	b.publishes.push = func(ctx context.Context, f router.SessionFilter, route string, body []byte) (int, error) {
		<-going
		return push(ctx, f, route, body)
	}
	var asks sync.WaitGroup
	ask := func(mid string) {
		asks.Go(func() {
			if _, err := a.publish(mid); err != nil {
				t.Errorf("%s: %v", mid, err)
			}
		})
		synctest.Wait()
	}
	ask("first")
	rests := make(chan error, 1)
	go func() { rests <- b.publishes.rest() }()
	synctest.Wait()
	ask("second")
	select {
	case err := <-rests:
		t.Fatalf("it rests while something is carried out: %v", err)
	default:
	}
	close(going)
	if err := <-rests; err != nil {
		t.Fatal(err)
	}
	done := b.answersOf(t).Answers
	if pushed := b.news(); len(done) != strings.Count(pushed, pushedX) {
		t.Errorf("it rests, has pushed %q, and told %+v", pushed, done)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := b.PublishEverywhere(ctx, admin.Publish{All: true, Route: "onX", Body: json.RawMessage(`{}`)}); !errors.Is(err, admin.ErrNotNow) {
		t.Errorf("published while it rests: %v", err)
	}
	c := p.begin("b", 0)
	asks.Wait()
	if got := strings.Count(c.news(), pushedX); got != 2-len(done) {
		t.Errorf("%d were told, and the process that goes on pushes %d of 2", len(done), got)
	}
	b.publishes.resume()
}
