package admin

import (
	"sync"
	"time"
)

// Mids remembers what was published by an id of who asked (mid), so that what is asked again is done once. It knows what was asked of this process only, and
// forgets it with the process. Safe from any goroutine.
type Mids struct {
	mu   sync.Mutex
	done map[string]published // guarded by mu; at being zero it is under way
	now  func() time.Time     // nil: time.Now
}

// published is what was answered, and when.
type published struct {
	answer Done
	at     time.Time
}

// Bounds of Mids.
const (
	maxMid   = 128              // bytes
	midsMost = 4096             // of more the oldest go
	midsFor  = 10 * time.Minute // so long a repetition is known
)

func (m *Mids) time() time.Time {
	if m.now != nil {
		return m.now()
	}
	return time.Now()
}

// once does something for an id, or answers what it was answered before. While it is under way, who asks again is told to wait. What fails may be asked again.
func (m *Mids) once(id string, do func() (Done, error)) (answer Done, err error) {
	if id == "" {
		return do()
	}
	m.mu.Lock()
	if m.done == nil {
		m.done = make(map[string]published)
	}
	before, has := m.done[id]
	switch now := m.time(); {
	case has && before.at.IsZero():
		m.mu.Unlock()
		return Done{}, errUnderWay
	case has && now.Sub(before.at) < midsFor:
		m.mu.Unlock()
		before.answer.Repeated = true
		return before.answer, nil
	case !has && len(m.done) >= midsMost:
		m.forget(now)
	}
	m.done[id] = published{}
	m.mu.Unlock()
	defer func() { // also behind a panic
		m.mu.Lock()
		defer m.mu.Unlock()
		if answer.Scope == "" || err != nil {
			delete(m.done, id)
			return
		}
		m.done[id] = published{answer, m.time()}
	}()
	return do()
}

// forget forgets what is old, and the oldest at least. m.mu must be held.
func (m *Mids) forget(now time.Time) {
	oldest, at := "", now
	for id, p := range m.done {
		switch {
		case p.at.IsZero():
		case now.Sub(p.at) >= midsFor:
			delete(m.done, id)
		case !p.at.After(at):
			oldest, at = id, p.at
		}
	}
	if len(m.done) >= midsMost {
		delete(m.done, oldest)
	}
}
