//go:build linux

package server

import (
	"errors"
	"log/slog"
	"sync"
)

// reloads are the files that can be read again while pomelod runs. Flags and the environment are a process's for its life: pomelod upgrade has a new one
// read them, and clients stay. Safe from any goroutine.
type reloads struct {
	mu    sync.Mutex
	files []reloadable // guarded by mu
}

// reloadable is a file, or several that belong together.
type reloadable struct {
	name string
	// read reads it. Nothing changes before use is called, which cannot fail.
	read func() (use func(), err error)
}

func (r *reloads) add(name string, read func() (use func(), err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, reloadable{name, read})
}

// reload reads all files again, and uses what they say if all of them are right. It tells which they are.
func (p *plan) reload() (names []string, err error) {
	p.reloads.mu.Lock()
	defer p.reloads.mu.Unlock()
	var uses []func()
	if p.certificates != nil && len(p.certificates.certs) > 0 {
		use, err := p.certificates.prepare()
		if err != nil {
			return nil, keptAll(err)
		}
		names, uses = append(names, "certificates"), append(uses, use)
	}
	for _, f := range p.reloads.files {
		use, err := f.read()
		if err != nil {
			return nil, keptAll(err)
		}
		names, uses = append(names, f.name), append(uses, use)
	}
	switch err := p.login.reload(true); { // the last, as it uses what it has read
	case err == nil:
		names = append(names, "login keys")
	case err != errNoReload:
		return nil, keptAll(err)
	}
	for _, use := range uses {
		use()
	}
	return names, nil
}

// keptAll tells that a reload has changed nothing.
func keptAll(err error) error {
	slog.Error("reload: everything stays as it was", "err", err)
	return errors.Join(errors.New("everything stays as it was"), err)
}
