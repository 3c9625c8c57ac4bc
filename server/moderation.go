//go:build linux

package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/router"
)

// moderation is what operators forbid (bans, mutes, locks), and what they say of rooms (policies). A rule is a note of the fleet (cluster.Note), whose key is what the rule is about; that one is lifted
// is a note too. So the memory of this process, the file, other processes that have the same file and the nodes of a fleet come to the same rules whatever
// they hear of first. Safe from any goroutine.
type moderation struct {
	path     string                                  // of the file; empty: the rules end with the process
	exempt   []netip.Prefix                          // that no ban may be about: trusted proxies
	apply    func(*router.Moderation)                // gives them to the node
	policies func(map[string]*admin.Policy)          // gives it those of rooms, by name; nil: nobody goes by them
	rooms    func(room string) admin.Policy          // all that holds in a room; nil: nobody knows
	spelling func(string) string                     // what names that look alike have in common; nil: all differ
	kick     func(context.Context, admin.Rule) error // sends away whom a ban is about; nil: nobody is there
	tell     func([]cluster.Note)                    // has the fleet know; nil: there is none

	kicks     kicks     // that hold in a fleet, and are no rules
	publishes publishes // nor are these

	file sync.Mutex // held by who reads and writes the file, and by who decides by what is in it. Before mu

	mu       sync.Mutex
	notes    cluster.Notes         // guarded by mu, as is all that follows
	rules    map[string]admin.Rule // those that notes stand for, also when their time is over
	bans     []admin.Rule          // given elsewhere, whose sessions here have yet to be kicked
	unsaved  bool                  // the file lacks something
	settling bool                  // a goroutine is at bans and unsaved
}

// maxRules is how many rules may hold: some MB of memory and file. Who has more to keep out wants a firewall.
const maxRules = 10_000

// kickTime is how long loops may take to kick whom a ban of another node is about.
const kickTime = 10 * time.Second

// keyOf names what a rule is about.
func keyOf(r *admin.Rule) string {
	return r.Kind + "\x00" + r.Name + "\x00" + r.Address + "\x00" + r.Room
}

// noteOf is a rule as a note.
func noteOf(r admin.Rule) cluster.Note {
	n := cluster.Note{Key: keyOf(&r), At: uint64(max(r.At.UnixMilli(), 0))}
	if r.Until != nil {
		n.Until = uint64(max(r.Until.UnixMilli(), 1))
	}
	n.Text, _ = json.Marshal(r)
	return n
}

// liftOf is that the rule of a key is lifted, as a note.
func liftOf(key string, at uint64) cluster.Note { return cluster.Note{Key: key, At: at} }

// ruleOf is the rule that a note stands for.
func ruleOf(n *cluster.Note) (r admin.Rule, err error) {
	if err = json.Unmarshal(n.Text, &r); err == nil {
		err = r.Check()
	}
	if err == nil && keyOf(&r) != n.Key {
		err = errors.New("its key is another one's")
	}
	return r, err
}

func wallMillis() uint64 { return uint64(time.Now().UnixMilli()) }

// check refuses to ban those behind whom others are.
func (m *moderation) check(r *admin.Rule) error {
	if r.Address == "" {
		return nil
	}
	net, err := netip.ParsePrefix(r.Address)
	if err != nil {
		return err
	}
	for _, kept := range append([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, m.exempt...) {
		if net.Overlaps(kept) {
			return fmt.Errorf("%s has %s in it: loopback and the proxies of -trusted-proxies cannot be banned, as behind them are others", r.Address, kept)
		}
	}
	return nil
}

// merge takes in notes, has the node keep what has changed, and returns what was news. m.mu must be held.
func (m *moderation) merge(list []cluster.Note) (news []cluster.Note) {
	wall, changed := wallMillis(), false
	for _, n := range list {
		if !m.notes.Merge(n, wall) {
			continue
		}
		news = append(news, n)
		switch {
		case isKick(&n):
			m.kicks.take(&n, wall)
			continue
		case isPublish(&n):
			m.publishes.take(&n, wall)
			continue
		}
		changed = true
		delete(m.rules, n.Key)
		if n.Text == nil {
			continue
		}
		r, err := ruleOf(&n)
		if err != nil { // of a later version
			slog.Warn("a rule of another node is not understood, so it does not hold here", "err", err)
			continue
		}
		if m.rules == nil {
			m.rules = make(map[string]admin.Rule)
		}
		m.rules[n.Key] = r
	}
	if changed {
		m.use(wall)
	}
	return news
}

// use has the node keep the rules whose time is not over. m.mu must be held.
func (m *moderation) use(wall uint64) {
	at := &router.Moderation{Nets: map[netip.Prefix]int64{}, Names: map[string]int64{}, Muted: map[router.Mute]int64{}, Locked: map[string]int64{}}
	policies := make(map[string]*admin.Policy)
	for key, r := range m.rules {
		n, has := m.notes.Get(key)
		switch until := int64(n.Until); {
		case !has: // forgotten, as there were too many
			delete(m.rules, key)
		case n.Over(wall):
		case r.Kind == admin.RuleMute:
			at.Muted[router.Mute{Room: r.Room, Name: r.Name}] = until
		case r.Kind == admin.RuleLock:
			at.Locked[r.Room] = until
		case r.Kind == admin.RulePolicy:
			policies[r.Room] = r.Policy
		case r.Address != "":
			at.Nets[netip.MustParsePrefix(r.Address)] = until
		default:
			at.Names[r.Name] = until
		}
	}
	m.apply(at)
	if m.policies != nil {
		m.policies(policies)
	}
}

// take is merge for what was decided here: the fleet is told.
func (m *moderation) take(list []cluster.Note) (news []cluster.Note) {
	m.mu.Lock()
	news = m.merge(list)
	m.mu.Unlock()
	if m.tell != nil && len(news) > 0 {
		m.tell(news)
	}
	return news
}

// News takes in what other nodes of the fleet have decided. It does not wait.
func (m *moderation) News(list []cluster.Note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := m.merge(list)
	rules := slices.ContainsFunc(news, func(n cluster.Note) bool { return isRule(&n) }) // the others stand in no file
	m.unsaved = m.unsaved || rules && m.path != ""
	m.sendAway(news)
}

// sendAway has those kicked whom new bans are about. m.mu must be held.
func (m *moderation) sendAway(news []cluster.Note) {
	for i := range news {
		if r, has := m.rules[news[i].Key]; has && r.Kind == admin.RuleBan && !news[i].Over(wallMillis()) && m.kick != nil {
			m.bans = append(m.bans, r)
		}
	}
	if !m.settling && (len(m.bans) > 0 || m.unsaved) {
		m.settling = true
		go m.settle()
	}
}

// settle kicks and writes, until there is nothing left of that. What cannot be written is when the next rule comes.
func (m *moderation) settle() {
	for failed := false; ; {
		m.mu.Lock()
		bans, unsaved := m.bans, m.unsaved && !failed
		m.bans = nil
		if m.settling = len(bans) > 0 || unsaved; !m.settling {
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		for _, r := range bans {
			ctx, cancel := context.WithTimeout(context.Background(), kickTime)
			if err := m.kick(ctx, r); err != nil {
				slog.Warn("whom a ban is about may have been kicked or not", "name", r.Name, "address", r.Address, "err", err)
			}
			cancel()
		}
		if !unsaved {
			continue
		}
		if err := m.save(); err != nil {
			failed = true
			slog.Error("rules of the fleet cannot be written; they hold, and are tried again with the next one", "file", m.path, "err", err)
		}
	}
}

// save brings memory and file together. Until it has, the file lacks something (unsaved), so that a reload takes nothing for lifted.
func (m *moderation) save() error {
	m.file.Lock()
	defer m.file.Unlock()
	f, err := m.open()
	if err == nil {
		defer f.close()
		m.mu.Lock()
		m.unsaved = false // what comes from now on may not be in what is written
		m.mu.Unlock()
		err = f.write(m.with(nil))
	}
	if err != nil {
		m.mu.Lock()
		m.unsaved = true
		m.mu.Unlock()
	}
	return err
}

// refresh takes in what another process has written.
func (m *moderation) refresh() {
	m.file.Lock()
	defer m.file.Unlock()
	if f, err := m.open(); err == nil {
		f.close()
	}
}

// with are all notes there would be with some more.
func (m *moderation) with(more []cluster.Note) []cluster.Note {
	m.mu.Lock()
	all := m.notes.Clone()
	m.mu.Unlock()
	wall := wallMillis()
	for _, n := range more {
		all.Merge(n, wall)
	}
	all.Forget(wall)
	return all.All()
}

// open opens the file for who may write it, and takes in what other processes have written. m.file must be held.
func (m *moderation) open() (*rulesFile, error) {
	f, err := openRules(m.path)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	news := m.merge(f.notes)
	m.sendAway(news)
	m.mu.Unlock()
	if m.tell != nil && len(news) > 0 {
		m.tell(news)
	}
	return f, nil
}

// Rules implements admin.API.
func (m *moderation) Rules() (rules []admin.Rule, kept bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wall := wallMillis()
	for key, r := range m.rules {
		if n, has := m.notes.Get(key); has && !n.Over(wall) {
			rules = append(rules, r)
		}
	}
	slices.SortFunc(rules, func(a, b admin.Rule) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(keyOf(&a), keyOf(&b))) })
	return rules, m.path != ""
}

// RoomPolicy implements admin.API.
func (m *moderation) RoomPolicy(room string) admin.RoomPolicy {
	p := admin.RoomPolicy{Scope: admin.ScopeFleet, Room: room, Kept: m.path != ""}
	m.mu.Lock()
	r, has := m.rules[keyOf(&admin.Rule{Kind: admin.RulePolicy, Room: room})]
	lock, locked := m.notes.Get(keyOf(&admin.Rule{Kind: admin.RuleLock, Room: room}))
	m.mu.Unlock()
	if has {
		p.Policy, p.By = *r.Policy, r.By
	}
	if m.rooms != nil {
		p.Holds = m.rooms(room)
	}
	if locked && !lock.Over(wallMillis()) {
		p.Holds.Locked = &locked
	}
	return p
}

// SetRule implements admin.API.
func (m *moderation) SetRule(r admin.Rule, lift bool) (kept bool, err error) {
	if err := m.check(&r); err != nil && !lift {
		return false, admin.Refuse(err)
	}
	m.file.Lock()
	defer m.file.Unlock()
	f, err := m.open()
	if err != nil {
		return false, &admin.RuleFileError{Err: fmt.Errorf("%w; nothing has changed", err)}
	}
	defer f.close()
	change, err := m.change(r, lift)
	if err != nil {
		return false, err
	}
	if err := f.write(m.with(change)); err != nil {
		return false, &admin.RuleFileError{Err: fmt.Errorf("write the rules of -rules-file: %w; nothing has changed", err)}
	}
	m.take(change)
	return m.path != "", nil
}

// change is what has to be noted for a rule to hold, or to be lifted, with those about names that look alike.
func (m *moderation) change(r admin.Rule, lift bool) (list []cluster.Note, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wall, key, others := wallMillis(), keyOf(&r), 0
	for k, old := range m.rules {
		n, _ := m.notes.Get(k)
		switch {
		case n.Over(wall) || k == key && !lift:
		case m.alike(&old, &r):
			list = append(list, liftOf(k, max(wall, n.At+1)))
		default:
			others++
		}
	}
	switch {
	case lift && len(list) == 0:
		return nil, fmt.Errorf("there is no such rule: %w", app.ErrAbsent)
	case lift:
		return list, nil
	case others >= maxRules:
		return nil, admin.Refuse(fmt.Errorf("there are %d rules already: lift some, or keep networks out by a firewall", others))
	}
	at := wall
	if n, has := m.notes.Get(key); has {
		at = max(at, n.At+1)
	}
	r.At = time.UnixMilli(int64(at)).UTC()
	return append(list, noteOf(r)), nil
}

// alike tells whether two rules are about the same.
func (m *moderation) alike(a, b *admin.Rule) bool {
	if a.Kind != b.Kind || a.Address != b.Address || a.Room != b.Room || (a.Name == "") != (b.Name == "") {
		return false
	}
	return a.Name == b.Name || m.spelling != nil && m.spelling(a.Name) == m.spelling(b.Name)
}

// read reads the file again, all or nothing. Nothing changes before use is called.
func (m *moderation) read() (use func(), err error) {
	m.file.Lock()
	defer m.file.Unlock()
	m.mu.Lock()
	unsaved, before := m.unsaved, m.notes.Clone() // at once: what comes later is not in the file yet
	m.mu.Unlock()
	f, err := openRules(m.path)
	if err == nil {
		defer f.close()
		err = m.checkAll(f.notes)
	}
	if err == nil && unsaved { // else what it lacks would be taken for lifted
		err = f.write(m.with(f.notes))
	}
	if err != nil {
		return nil, err
	}
	if unsaved || f.text == nil { // what is not there lifts nothing
		return func() { m.takeIn(f.notes) }, nil
	}
	return func() {
		m.mu.Lock()
		list := m.edits(&before, f.notes)
		m.mu.Unlock()
		m.takeIn(list)
	}, nil
}

// takeIn is take for what stands in the file, which is written at once: it lacks what was lifted by leaving it out. So who edits it again edits what holds.
func (m *moderation) takeIn(list []cluster.Note) {
	news := m.take(list)
	err := m.save()
	if err != nil {
		slog.Error("the rules that were read again cannot be written; they hold, and are tried again with the next one", "file", m.path, "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sendAway(news)
}

// checkAll refuses rules that no operator may give here. What was given by one is refused no more: it came from a node that has other proxies, or before this
// one had them. They are let in all the same (router), and a node that does not start helps nobody.
func (m *moderation) checkAll(list []cluster.Note) error {
	for i := range list {
		if list[i].Text == nil {
			continue
		}
		r, err := ruleOf(&list[i])
		if err == nil && r.By == "" {
			err = m.check(&r)
		}
		if err != nil {
			return fmt.Errorf("a rule in %s: %w", m.path, err)
		}
	}
	return nil
}

// edits is what somebody has changed in the file by hand since it said what was before. What was decided since is not touched. m.mu must be held.
func (m *moderation) edits(before *cluster.Notes, file []cluster.Note) (list []cluster.Note) {
	wall := wallMillis()
	there := make(map[string]bool)
	same := func(a, b *cluster.Note) bool {
		return a.At == b.At && a.Until == b.Until && bytes.Equal(a.Text, b.Text)
	}
	for _, n := range file {
		there[n.Key] = true
		old, has := m.notes.Get(n.Key)
		was, had := before.Get(n.Key)
		if untouched := has && had && same(&old, &was); untouched && n.Text != nil && n.At <= old.At && !same(&n, &old) {
			r, err := ruleOf(&n)
			if err != nil {
				continue
			}
			r.At = time.UnixMilli(int64(max(wall, old.At+1))).UTC()
			n = noteOf(r)
		}
		list = append(list, n)
	}
	for _, was := range before.All() {
		_, known := m.rules[was.Key] // else it is of a later version, and never in this one's file
		if old, has := m.notes.Get(was.Key); has && known && was.Text != nil && !there[was.Key] && same(&old, &was) {
			list = append(list, liftOf(was.Key, max(wall, was.At+1)))
		}
	}
	return list
}

// loadRules reads the rules at the start.
func (s *server) loadRules() error {
	m := &moderation{path: rulesPath(s.cfg.rulesFile, os.Environ()), exempt: s.cfg.access.Trusted, apply: s.node.SetModeration, spelling: s.node.Spelling,
		policies: s.cfg.rooms.give,
		rooms: func(room string) admin.Policy {
			return admin.PolicyOf(s.cfg.rooms.policy(room), s.cfg.limits.Rooms.Grace)
		},
		kick: func(ctx context.Context, r admin.Rule) error {
			_, err := s.node.KickSessions(ctx, r.Banned(), r.BanReason())
			return err
		}}
	m.kicks = kicks{kick: s.node.KickSessions, from: wallMillis()}
	if s.fleet != nil {
		m.kicks.key = kickKey + s.cfg.fleet.node()
	}
	m.publishes = publishes{push: s.node.PublishSessions}
	if s.fleet != nil {
		m.publishes = publishes{node: s.cfg.fleet.node(), from: wallMillis(), push: s.node.PublishSessions, tell: m.tellOwn, all: s.fleet.members, batch: &m.mu, turn: make(chan struct{}, 1)}
		if s.took != nil {
			m.publishes.from = 0
		}
	}
	s.rules = m
	f, err := openRules(m.path)
	if err == nil {
		err = m.checkAll(f.notes)
		f.close()
	}
	if errors.Is(err, errNoRulesDirectory) {
		slog.Warn("bans, mutes and locks cannot be given: "+err.Error(), "file", m.path)
		err, f = nil, new(rulesFile)
	}
	if err != nil {
		return settingsError{err}
	}
	m.take(f.notes)
	if s.fleet != nil {
		m.tell = s.fleet.Write
		m.tell(m.notes.All())
	}
	if m.path != "" {
		s.plan.reloads.add("rules", m.read)
	}
	if rules, _ := m.Rules(); len(rules) > 0 {
		slog.Info("rules hold that operators have made", "rules", len(rules), "file", m.path)
	}
	return nil
}
