//go:build linux

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/router"
)

// moderation is what operators forbid (bans, mutes, locks), in memory, in a file and at the node. Safe from any goroutine.
type moderation struct {
	path   string                   // empty: the rules end with the process
	exempt []netip.Prefix           // that no ban may be about: trusted proxies
	apply  func(*router.Moderation) // gives them to the node

	mu    sync.Mutex
	rules []admin.Rule // guarded by mu
}

// maxRules is how many rules there may be: some MB of memory and file. Who has more to keep out wants a firewall.
const maxRules = 10_000

// rulesFile is the file.
type rulesFile struct {
	Version int          `json:"version"`
	Rules   []admin.Rule `json:"rules"`
}

// autoRules stands for the file in the directory that systemd keeps for the service (StateDirectory=), if it does.
const autoRules = "auto"

// rulesPath is where the file of -rules-file is.
func rulesPath(flag string, environ []string) string {
	switch flag {
	case autoRules:
		if dir := variables(environ, "STATE_DIRECTORY")["STATE_DIRECTORY"]; filepath.IsAbs(dir) {
			return filepath.Join(dir, "rules.json")
		}
		return ""
	case noAddr:
		return ""
	}
	return flag
}

// read reads the file again, all or nothing. Nothing changes before use is called.
func (m *moderation) read() (use func(), err error) {
	var file rulesFile
	if m.path != "" {
		b, err := os.ReadFile(m.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("read the rules of -rules-file: %w", err)
		default:
			if err := json.Unmarshal(b, &file); err != nil {
				return nil, fmt.Errorf("the rules in %s: %w; correct the file or move it away", m.path, err)
			}
		}
	}
	if file.Version > 1 || len(file.Rules) > maxRules {
		return nil, fmt.Errorf("the rules in %s: version %d with %d rules; this pomelod reads version 1 with at most %d", m.path, file.Version, len(file.Rules), maxRules)
	}
	for i := range file.Rules {
		err := file.Rules[i].Check()
		if err == nil {
			err = m.check(&file.Rules[i])
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d in %s: %w", i+1, m.path, err)
		}
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.path == "" { // they are in memory only
			file.Rules = m.rules
		}
		m.use(file.Rules)
	}, nil
}

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

// use has the node keep rules, without those whose time is over. m.mu must be held.
func (m *moderation) use(rules []admin.Rule) {
	now := time.Now()
	m.rules = slices.DeleteFunc(slices.Clone(rules), func(r admin.Rule) bool { return r.Until != nil && !r.Until.After(now) })
	at := &router.Moderation{Nets: map[netip.Prefix]int64{}, Names: map[string]int64{}, Muted: map[router.Mute]int64{}, Locked: map[string]int64{}}
	for _, r := range m.rules {
		until := int64(0)
		if r.Until != nil {
			until = r.Until.UnixMilli()
		}
		switch {
		case r.Kind == admin.RuleMute:
			at.Muted[router.Mute{Room: r.Room, Name: r.Name}] = until
		case r.Kind == admin.RuleLock:
			at.Locked[r.Room] = until
		case r.Address != "":
			at.Nets[netip.MustParsePrefix(r.Address)] = until
		default:
			at.Names[r.Name] = until
		}
	}
	m.apply(at)
}

// Rules implements admin.API.
func (m *moderation) Rules() (rules []admin.Rule, kept bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(m.rules), func(r admin.Rule) bool { return r.Until != nil && !r.Until.After(now) }), m.path != ""
}

// SetRule implements admin.API.
func (m *moderation) SetRule(r admin.Rule, lift bool) (kept bool, err error) {
	if err := m.check(&r); err != nil && !lift {
		return false, admin.Refuse(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rules := slices.DeleteFunc(slices.Clone(m.rules), func(old admin.Rule) bool { return old.Same(&r) })
	switch {
	case lift && len(rules) == len(m.rules):
		return false, fmt.Errorf("there is no such rule: %w", app.ErrAbsent)
	case !lift && len(rules) >= maxRules:
		return false, admin.Refuse(fmt.Errorf("there are %d rules already: lift some, or keep networks out by a firewall", len(rules)))
	case !lift:
		rules = append(rules, r)
	}
	if m.path != "" {
		if err := writeRules(m.path, rules); err != nil {
			return false, &admin.RuleFileError{Err: fmt.Errorf("write the rules of -rules-file: %w; nothing has changed", err)}
		}
	}
	m.use(rules)
	return m.path != "", nil
}

// writeRules writes the file so that there is always a whole one, the old or the new, whatever the machine does.
func writeRules(path string, rules []admin.Rule) (err error) {
	b, err := json.MarshalIndent(rulesFile{1, rules}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".rules-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // or the name may be the old file's after a crash of the machine
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

// loadRules reads the rules at the start.
func (s *server) loadRules() error {
	s.rules = &moderation{path: rulesPath(s.cfg.rulesFile, os.Environ()), exempt: s.cfg.access.Trusted, apply: s.node.SetModeration}
	use, err := s.rules.read()
	if err != nil {
		return settingsError{err}
	}
	use()
	if s.rules.path != "" {
		s.plan.reloads.add("rules", s.rules.read)
	}
	if n := len(s.rules.rules); n > 0 {
		slog.Info("rules hold that operators have made", "rules", n, "file", s.rules.path)
	}
	return nil
}
