//go:build linux

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/router"
)

// What operators publish to sessions wherever they are: to a name, a uid, or all. As with kicks (kicks.go) each node is told by a note of the fleet, the node's own, of what its operators have
// published in the last seconds. Each node carries it out once for each mid, whichever node asks, and says so in another note of its own. So who asks waits until all have, and is
// told where it may not be done.

// Keys of these notes begin so. No rule has such a kind.
const (
	publishKey = "publish\x00"   // what a node's operators publish
	answerKey  = "published\x00" // what a node has carried out
)

const (
	publishTold = 10 * time.Second // so long what is published stands in the note, whole
	publishHold = 60 * time.Second // and so long another node may carry it out, by its own clock
	publishMids = 10 * time.Minute // so long a mid is known
	publishPast = 256              // that stand in the note after that with their mids alone, for processes that begin
	publishKnow = 4096             // mids that a node knows; of more the oldest go
	publishPush = 4 * time.Second  // loops of a node may take so long
	publishWait = 6 * time.Second  // and all nodes: more than it takes to find that one is dead
	answersTold = 512              // answers in a note
)

// publishes are what operators publish at this node and at others. Safe from any goroutine.
type publishes struct {
	node  string                                                                   // this one's name
	push  func(context.Context, router.SessionFilter, string, []byte) (int, error) // to sessions here
	tell  func(key string, note func(last uint64) (cluster.Note, error)) error     // has all nodes know a note of this one, later than its last
	all   func(context.Context) (names []string, err error)                        // the nodes of the fleet; admin.ErrNotNow: this one does not hear it
	batch sync.Locker                                                              // held while notes are taken in

	turn chan struct{} // has something in it while one is carried out here; nil: there is no fleet

	mu       sync.Mutex
	from     uint64                           // when the node began, in ms: what was published before was for others. 0: when the process did that this one has taken over
	told     []toldPublish                    // by this node, in order
	known    map[string]knownPublish          // by ID
	done     map[string]uint64                // up to when what each node has published is carried out here
	queued   map[string]uint64                // and up to when it is, or waits to be
	answers  []toldAnswer                     // of this node, in order
	answered uint64                           // when the last of their notes was made
	asked    map[uint64]map[string]toldAnswer // those of others to what is waited for here, by when it was published
	heard    chan struct{}                    // closed when another answer has come
	wait     []waitingPublish
	busy     bool // a goroutine is at them
}

// toldPublish is something published, and when, in ms of its node's wall clock; no two of one node at once.
type toldPublish struct {
	At      uint64         `json:"at"`
	First   uint64         `json:"first,omitempty"` // when it was published first, at whatever node, if that was before
	ID      string         `json:"id,omitempty"`    // admin.Publish.ID
	Count   int            `json:"count,omitempty"` // sessions of the node that it went to
	Publish *admin.Publish `json:"publish,omitempty"`
}

func (t *toldPublish) first() uint64 {
	if t.First != 0 {
		return t.First
	}
	return t.At
}

// toldAnswer says what a node has done of what another one has published.
type toldAnswer struct {
	Node  string `json:"node"` // that has published it
	At    uint64 `json:"at"`
	ID    string `json:"id,omitempty"`
	First uint64 `json:"first,omitempty"` // as it has an ID
	Said  uint64 `json:"said"`            // when this was said, by the clock of who says it: the other one may differ
	Count int    `json:"count"`           // sessions
	Again bool   `json:"again,omitempty"` // it had done it before
	Error string `json:"error,omitempty"` // it has not done it
}

// toldAnswers is the text of a node's second note. By it a process that goes on as the node does nothing twice.
type toldAnswers struct {
	From    uint64            `json:"from"`
	Done    map[string]uint64 `json:"done"`
	Answers []toldAnswer      `json:"answers"`
}

// knownPublish is what a node has done for a mid.
type knownPublish struct {
	first uint64 // by the clock of the node that was asked first
	at    uint64 // when it was learnt, by this one's
	count int
}

// over tells whether a mid may be forgotten. A clock that is behind makes it no older.
func (k *knownPublish) over(wall uint64) bool { return max(k.first, k.at)+ms(publishMids) <= wall }

// waitingPublish is something published at another node that is to be carried out here.
type waitingPublish struct {
	node string
	toldPublish
}

// everywhere publishes at all nodes.
func (p *publishes) everywhere(ctx context.Context, what admin.Publish) (s admin.Spread, err error) {
	if _, err := p.all(ctx); err != nil {
		return s, err
	}
	t := toldPublish{At: wallMillis(), ID: what.ID(), Publish: &what}
	what.Mid = ""
	if err := p.takeTurn(ctx); err != nil {
		return s, err
	}
	own, err := p.here(ctx, &t)
	switch {
	case err == nil:
		t.Count = own.Count
		err = p.spread(&t)
	case mayHappen(err):
		err = fmt.Errorf("it may be published to sessions of this node, and is to none of others; with the same mid it can be asked for again, and comes to nobody twice: %w", err)
	}
	<-p.turn
	if err != nil {
		return s, err
	}
	return p.await(ctx, &t, own)
}

// takeTurn waits until nothing else is carried out here.
func (p *publishes) takeTurn(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("what was published before is under way: %w", admin.ErrNotNow)
	}
}

// rest has nothing carried out here until resume is called, so that another process may go on as this node: all that is done here is told by then, or that one would do it again.
func (p *publishes) rest() error {
	if p.turn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishPush+time.Second)
	defer cancel()
	return p.takeTurn(ctx)
}

func (p *publishes) resume() {
	if p.turn != nil {
		<-p.turn
	}
}

// here carries something out at this node, unless it has a mid that is known. What cannot be told to the others is not. The turn must be had.
func (p *publishes) here(ctx context.Context, t *toldPublish) (a toldAnswer, err error) {
	if b, err := json.Marshal(t); err != nil {
		return a, err
	} else if len(publishKey)+len(p.node)+len(b) > cluster.MaxNote-1024 {
		return a, admin.Refuse(fmt.Errorf("it is too long: to sessions of a whole fleet at most %d KiB can be published", cluster.MaxNote>>10-2))
	}
	p.mu.Lock()
	room := p.fits(t)
	p.mu.Unlock()
	if !room {
		return a, errPublishRate
	}
	return p.carryOut(ctx, t)
}

var errPublishRate = fmt.Errorf("a node publishes at most %d KiB in %v to sessions of a whole fleet: %w", cluster.MaxNote>>10, publishTold, admin.ErrNotNow)

// mayHappen tells whether a loop may do yet what has failed.
func mayHappen(err error) bool {
	return errors.Is(err, router.ErrStuck) || errors.Is(err, context.DeadlineExceeded)
}

// carryOut pushes to sessions of this node, once for a mid. The turn must be had.
func (p *publishes) carryOut(ctx context.Context, t *toldPublish) (a toldAnswer, err error) {
	wall := wallMillis()
	p.mu.Lock()
	before, has := p.known[t.ID]
	if has && t.ID != "" && !before.over(wall) {
		p.mu.Unlock()
		t.First = before.first
		return toldAnswer{Count: before.count, Again: true}, nil
	}
	p.learn(t.ID, knownPublish{first: t.first()})
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, publishPush)
	defer cancel()
	n, err := p.push(ctx, t.Publish.Sessions(), t.Publish.Route, t.Publish.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.learn(t.ID, knownPublish{first: t.first(), count: n})
	case !mayHappen(err):
		delete(p.known, t.ID)
	}
	return toldAnswer{Count: n}, err
}

// learn notes what was done for a mid. p.mu must be held.
func (p *publishes) learn(id string, k knownPublish) {
	if id == "" {
		return
	}
	if p.known == nil {
		p.known = make(map[string]knownPublish)
	}
	wall := wallMillis()
	if k.at == 0 {
		k.at = wall
	}
	p.known[id] = k
	if len(p.known) <= publishKnow {
		return
	}
	oldest := id
	for other, k := range p.known {
		if k.over(wall) {
			delete(p.known, other)
		} else if other != id && (oldest == id || k.at < p.known[oldest].at) {
			oldest = other
		}
	}
	if len(p.known) > publishKnow {
		delete(p.known, oldest)
	}
}

func ms(d time.Duration) uint64 { return uint64(d.Milliseconds()) }

// standing is what stands in the note with t, and how long it is. p.mu must be held.
func (p *publishes) standing(t *toldPublish) (list []toldPublish, text []byte, err error) {
	wall := wallMillis()
	past := 0
	for i := len(p.told) - 1; i >= 0; i-- {
		old := p.told[i]
		if old.At+ms(publishTold) <= wall {
			if old.Publish = nil; old.ID == "" || old.first()+ms(publishMids) <= wall || past == publishPast {
				continue
			}
			past++
		}
		list = append(list, old)
	}
	slices.Reverse(list)
	list = append(list, *t)
	for {
		if text, err = json.Marshal(list); err != nil || len(publishKey)+len(p.node)+len(text) <= cluster.MaxNote || list[0].Publish != nil {
			return list, text, err
		}
		list = list[1:] // a mid
	}
}

// fits tells whether t may stand in the note. p.mu must be held.
func (p *publishes) fits(t *toldPublish) bool {
	full := *t
	full.At, full.First, full.Count = wallMillis(), wallMillis(), math.MaxInt32 // which take room
	_, text, err := p.standing(&full)
	return err == nil && len(publishKey)+len(p.node)+len(text) <= cluster.MaxNote
}

// spread tells all nodes. The turn must be had.
func (p *publishes) spread(t *toldPublish) error {
	return p.tell(publishKey+p.node, func(last uint64) (cluster.Note, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.told); n > 0 { // that note may be on its way
			last = max(last, p.told[n-1].At)
		}
		t.At = max(wallMillis(), last+1)
		list, text, err := p.standing(t)
		if err != nil {
			return cluster.Note{}, err
		}
		p.told = list
		if p.asked == nil {
			p.asked = make(map[uint64]map[string]toldAnswer)
		}
		p.asked[t.At] = make(map[string]toldAnswer)
		return cluster.Note{Key: publishKey + p.node, At: t.At, Until: t.At + ms(publishMids), Text: text}, nil
	})
}

// publishLook is how often it is looked whether nodes are still members of the fleet.
const publishLook = 100 * time.Millisecond

// await waits until all nodes have done what was published.
func (p *publishes) await(ctx context.Context, t *toldPublish, own toldAnswer) (s admin.Spread, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.asked, t.At)
	}()
	for {
		names, deaf := p.all(ctx)
		p.mu.Lock()
		if p.heard == nil {
			p.heard = make(chan struct{})
		}
		heard, answers := p.heard, maps.Clone(p.asked[t.At])
		p.mu.Unlock()
		answers[p.node] = own
		var missing, failed []string
		for _, name := range names {
			if _, has := answers[name]; !has {
				missing = append(missing, name)
			}
		}
		s = admin.Spread{Nodes: len(answers), Again: true}
		for name, a := range answers {
			s.Sessions += a.Count
			s.Again = s.Again && a.Again
			if a.Error != "" {
				failed = append(failed, name+" ("+a.Error+")")
			}
		}
		slices.Sort(failed)
		switch {
		case deaf != nil || len(missing) > 0:
		case len(failed) > 0:
			return s, fmt.Errorf("nodes have not published it, or not to all their sessions: %s; %d others have. With the same mid it can be asked for again, and comes to nobody twice: %w", strings.Join(failed, ", "), len(answers)-len(failed), admin.ErrPartly)
		default:
			return s, nil
		}
		select {
		case <-heard:
		case <-time.After(publishLook):
		case <-ctx.Done():
			slices.Sort(missing)
			if deaf != nil {
				missing = []string{"(this node does not hear the fleet)"}
			}
			not := ""
			if len(failed) > 0 {
				not = ". These have not published it, or not to all their sessions: " + strings.Join(failed, ", ")
			}
			return s, fmt.Errorf("published at %d nodes; these have not answered, and may do it for a minute: %s%s. With the same mid it can be asked for again, and comes to nobody twice: %w", len(answers)-len(failed), strings.Join(missing, ", "), not, admin.ErrPartly)
		}
	}
}

// take takes in a note of another node, or of the process before this one. It does not wait.
func (p *publishes) take(n *cluster.Note, wall uint64) {
	if p.turn == nil || n.Over(wall) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if from, is := strings.CutPrefix(n.Key, answerKey); is {
		p.takeAnswers(from, n.Text)
		return
	}
	var list []toldPublish
	if err := json.Unmarshal(n.Text, &list); err != nil {
		slog.Warn("what another node has published is not understood, so it is not published here", "err", err)
		return
	}
	from := strings.TrimPrefix(n.Key, publishKey)
	if p.queued == nil {
		p.queued = make(map[string]uint64)
	}
	for _, t := range list {
		if _, known := p.known[t.ID]; !known && (from == p.node || t.first() < p.from) { // a node carries out first what it publishes
			k := knownPublish{first: t.first()}
			if from == p.node {
				k.at, k.count = t.At, t.Count
			}
			p.learn(t.ID, k)
		}
		if from != p.node && t.Publish != nil && t.At > max(p.done[from], p.queued[from]) { // it stands in the next notes too
			p.queued[from] = t.At
			p.wait = append(p.wait, waitingPublish{from, t})
		}
	}
	if !p.busy && len(p.wait) > 0 {
		p.busy = true
		go p.carryOutAll()
	}
}

// carryOutAll carries out what others have published.
func (p *publishes) carryOutAll() {
	var late []toldAnswer // many at once, where a node was cut off
	for {
		p.batch.Lock() // what the process before this one has done may stand in a note behind
		p.mu.Lock()
		p.batch.Unlock()
		if len(p.wait) == 0 {
			if len(late) > 0 {
				p.mu.Unlock()
				p.answer(late)
				late = nil
				continue
			}
			p.busy, p.wait = false, nil
			p.mu.Unlock()
			return
		}
		w := p.wait[0]
		p.wait = p.wait[1:]
		done := w.At <= p.done[w.node]
		before := w.first() < p.from
		p.mu.Unlock()
		wall := wallMillis()
		over := w.At+ms(publishHold) <= wall
		switch {
		case done, over && before:
			continue
		case over:
			a := w.answer()
			a.Error = fmt.Sprintf("it was heard of there too late, %d s after it was published by that node's clock; does it go right?", (wall-w.At)/1000)
			late = append(late, a)
			continue
		}
		p.turn <- struct{}{} // held until it is answered: who has it knows that what is done is told (rest)
		a, err := w.answer(), error(nil)
		if a.Again = w.first() < w.At; !before { // else who is here has come since
			var did toldAnswer
			did, err = p.carryOut(context.Background(), &w.toldPublish)
			a = w.answer() // whose First may be another
			a.Count, a.Again = did.Count, did.Again
		}
		switch {
		case errors.Is(err, app.ErrBusy):
			a.Error = "too much waits to be sent there"
		case err != nil:
			a.Error = err.Error()
		case a.Count > 0 && !a.Again:
			slog.Info("published for an operator at another node", "node", w.node, "user", w.Publish.User, "uid", w.Publish.UID, "all", w.Publish.All, "route", w.Publish.Route, "count", a.Count)
		}
		if err != nil {
			slog.Warn("what an operator has published at another node may not have been published here", "node", w.node, "route", w.Publish.Route, "err", err)
		}
		p.answer([]toldAnswer{a})
		<-p.turn
	}
}

// answer is what is told of it, but for what became of it.
func (w *waitingPublish) answer() toldAnswer {
	a := toldAnswer{Node: w.node, At: w.At, ID: w.ID}
	if w.ID != "" {
		a.First = w.first()
	}
	return a
}

// answer tells who has published something what became of it here.
func (p *publishes) answer(list []toldAnswer) {
	err := p.tell(answerKey+p.node, func(last uint64) (n cluster.Note, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		wall := wallMillis()
		p.answered = max(wall, last+1, p.answered+1)
		if p.done == nil {
			p.done = make(map[string]uint64)
		}
		for _, a := range list {
			a.Said = wall
			p.done[a.Node] = max(p.done[a.Node], a.At)
			p.answers = append(p.answers, a)
		}
		ended := func(_ string, at uint64) bool { return at+ms(publishMids) <= wall } // as those notes have
		maps.DeleteFunc(p.done, ended)
		maps.DeleteFunc(p.queued, ended)
		p.answers = slices.DeleteFunc(p.answers, func(old toldAnswer) bool {
			return old.Said+ms(publishTold) <= wall && (old.ID == "" || old.Error != "" || old.Said+ms(publishMids) <= wall)
		})
		p.answers = p.answers[max(0, len(p.answers)-answersTold):]
		n = cluster.Note{Key: answerKey + p.node, At: p.answered, Until: p.answered + ms(publishMids)}
		for {
			if n.Text, err = json.Marshal(toldAnswers{p.from, p.done, p.answers}); err != nil || len(n.Key)+len(n.Text) <= cluster.MaxNote || len(p.answers) <= 1 {
				return n, err
			}
			p.answers = p.answers[len(p.answers)/2:]
		}
	})
	if err != nil {
		slog.Warn("what was published here for other nodes is not told", "err", err)
	}
}

// takeAnswers takes in what a node has done. p.mu must be held.
func (p *publishes) takeAnswers(from string, text []byte) {
	var told toldAnswers
	if err := json.Unmarshal(text, &told); err != nil {
		slog.Warn("what another node has published is not understood", "node", from, "err", err)
		return
	}
	if from == p.node {
		if p.answered == 0 { // of the process before this one
			p.takeOver(&told)
		}
		return
	}
	for _, a := range told.Answers {
		if at := p.asked[a.At]; a.Node == p.node && at != nil {
			if _, has := at[from]; !has {
				at[from] = a
			}
		}
	}
	if p.heard != nil {
		close(p.heard)
		p.heard = nil
	}
}

// takeOver has this process know what the one before it has done. p.mu must be held.
func (p *publishes) takeOver(told *toldAnswers) {
	if p.from == 0 {
		p.from = told.From
	}
	if p.done == nil {
		p.done = make(map[string]uint64)
	}
	for node, at := range told.Done {
		p.done[node] = max(p.done[node], at)
	}
	for _, a := range told.Answers {
		if a.Error == "" && a.ID != "" {
			p.answers = append(p.answers, a)
			p.learn(a.ID, knownPublish{first: a.First, at: a.Said, count: a.Count})
		}
	}
}

// PublishEverywhere implements admin.API.
func (m *moderation) PublishEverywhere(ctx context.Context, what admin.Publish) (s admin.Spread, err error) {
	if m.publishes.turn == nil {
		s.Sessions, err = m.publishes.push(ctx, what.Sessions(), what.Route, what.Body)
		return s, err
	}
	return m.publishes.everywhere(ctx, what)
}

// tellOwn has the fleet know a note of this node that is no rule, which is made later than its last.
func (m *moderation) tellOwn(key string, note func(last uint64) (cluster.Note, error)) error {
	m.mu.Lock()
	last, _ := m.notes.Get(key)
	n, err := note(last.At)
	m.mu.Unlock()
	if err == nil {
		m.take([]cluster.Note{n})
	}
	return err
}

// isPublish tells whether a note is one of what was published, or of what became of that.
func isPublish(n *cluster.Note) bool {
	return strings.HasPrefix(n.Key, publishKey) || strings.HasPrefix(n.Key, answerKey)
}

// isRule tells whether a note is a rule, and no word that passes.
func isRule(n *cluster.Note) bool { return !isKick(n) && !isPublish(n) }
