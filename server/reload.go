//go:build linux

package server

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pomelod/pomelod/admin"
)

// reloads are the files that can be read again while pomelod runs. Flags are among them as far as they stand in a file (-flags-file) and can change; the others are
// a process's for its life: pomelod upgrade has a new one read them, and clients stay. Safe from any goroutine.
type reloads struct {
	level *slog.LevelVar // of the log; nil where that is not ours. Static once the process serves

	mu    sync.Mutex
	files []reloadable    // guarded by mu
	flags *settings       // guarded by mu: as they hold now; nil until use is there
	use   func(*settings) // guarded by mu: has those of reloadableFlags hold
}

// reloadable is a file, or several that belong together.
type reloadable struct {
	name string
	// read reads it. Nothing changes before use is called, which cannot fail.
	read func() (use func(), err error)
}

// reloadableFlags can change while clients are there. What they were told when they came is not among them (-heartbeat, -sio-heartbeat), nor what all of a fleet must
// agree on, nor what memory, sockets and files were made for.
var reloadableFlags = strings.Fields(`log-level origins history-open
	limits addr-conns addr-connects addr-handshakes addr-requests addr-handlers max-polling
	session-rate send-rate enter-rate flood handshake-bytes handshake-packages slow-mode list room-members rooms max-name
	idle-timeout head-timeout handshake-timeout stuck-timeout keepalive-timeout
	max-package max-head outbound max-buffered room-backlog loop-backlog spread max-delay inflight`)

// can tells whether a flag can change.
func (r *reloads) can(name string) bool {
	return slices.Contains(reloadableFlags, name) && (name != "log-level" || r.level != nil)
}

func (r *reloads) add(name string, read func() (use func(), err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, reloadable{name, read})
}

// begin says which flags hold, and what has others hold.
func (r *reloads) begin(c *settings, use func(*settings)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flags, r.use = c, use
}

// values are those of all flags, as they hold now.
func (r *reloads) values() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.flags.values)
}

// reload reads all files again, and uses what they say if all of them are right.
func (p *plan) reload() (done admin.Reloaded, err error) {
	r := &p.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	var uses []func()
	add := func(name string, use func()) { done.Read, uses = append(done.Read, name), append(uses, use) }
	if r.flags != nil && r.flags.flagsFile != "" {
		now, changed, later, err := r.flags.again(r.can)
		if err != nil {
			return admin.Reloaded{}, keptAll(err)
		}
		done.Changed, done.Later = changed, later
		add("flags", func() {
			r.use(now)
			r.flags = now
			if len(changed)+len(later) > 0 {
				slog.Info("flags were read again", "changed", changed, "at_the_next_start_or_upgrade", later)
			}
		})
	}
	if p.certificates != nil && len(p.certificates.certs) > 0 {
		use, err := p.certificates.prepare()
		if err != nil {
			return admin.Reloaded{}, keptAll(err)
		}
		add("certificates", use)
	}
	for _, f := range r.files {
		use, err := f.read()
		if err != nil {
			return admin.Reloaded{}, keptAll(err)
		}
		add(f.name, use)
	}
	switch err := p.login.reload(true); { // the last, as it uses what it has read
	case err == nil:
		done.Read = append(done.Read, "login keys")
	case err != errNoReload:
		return admin.Reloaded{}, keptAll(err)
	}
	for _, use := range uses {
		use()
	}
	return done, nil
}

// keptAll tells that a reload has changed nothing.
func keptAll(err error) error {
	slog.Error("reload: everything stays as it was", "err", err)
	return errors.Join(errors.New("everything stays as it was"), err)
}

// useFlags has flags hold that were read again, as far as they can change.
func (s *server) useFlags(c *settings) {
	s.node.SetLimits(c.limits, c.access.PerAddress, c.access.Origins)
	s.cfg.rooms.flags.Store(c.rooms.flags.Load())
	s.node.SetPolicies()
	if level := s.plan.reloads.level; level != nil {
		level.Set(c.logLevel)
	}
}
