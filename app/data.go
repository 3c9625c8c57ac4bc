package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Data is a value of type T that each session of an App has, the zero T at first: what Pomelo's session.set and get are for, with a type, and kept in an upgrade.
// Safe from any goroutine.
type Data[T any] struct{ key *dataKey }

// dataKey is the key of a Data's values in Session.data. Nobody else can have it.
type dataKey struct{ name string }

// sessionData is a Data without its type.
type sessionData struct {
	key *dataKey
	// get is the session's value as JSON, nil if it has none; put makes it again. Of a Session's data; guarded by its mu.
	get func(data map[any]any) ([]byte, error)
	put func(data map[any]any, b []byte) error
}

// NewData registers a value for the sessions of a, by a name that is unique in it. In an upgrade (pomelod upgrade) it goes along with the session, as JSON by that name;
// so an App that registers all that it knows of sessions needs no Carry. A session for which the next program cannot read a value is sent away; a name that it does not
// have is dropped. Call it before the server runs. Panics when the name is empty or taken.
func NewData[T any](a *App, name string) *Data[T] {
	if name == "" {
		panic("app: data of sessions needs a name")
	}
	for _, other := range a.kinds {
		if other.key.name == name {
			panic(fmt.Sprintf("app: data %q is registered twice", name))
		}
	}
	d := &Data[T]{&dataKey{name}}
	a.kinds = append(a.kinds, sessionData{d.key, func(data map[any]any) ([]byte, error) {
		if v, has := data[d.key]; has {
			return json.Marshal(v.(*T))
		}
		return nil, nil
	}, func(data map[any]any, b []byte) error {
		v := new(T)
		data[d.key] = v
		return json.Unmarshal(b, v)
	}})
	return d
}

// Get returns the value that s has. What it refers to (a map, a slice) others may be changing in Update; a T without such parts is a copy.
func (d *Data[T]) Get(s *Session) (v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, has := s.data[d.key]; has {
		v = *p.(*T)
	}
	return v
}

// Set stores the value that s has until it ends.
func (d *Data[T]) Set(s *Session, v T) { d.Update(s, func(p *T) { *p = v }) }

// Update has fn change the value that s has, while nobody else reads or changes it. fn must not call methods of s or of other Data.
func (d *Data[T]) Update(s *Session, fn func(v *T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, has := s.data[d.key].(*T)
	if !has {
		p = new(T)
		if s.data == nil {
			s.data = make(map[any]any)
		}
		s.data[d.key] = p
	}
	fn(p)
}

// What a session's registered data and the program's own bytes (Carry) are together in an upgrade: the program's bytes alone where no data are registered, as
// it was before there were any; else packedMark and a packed as JSON. The program's bytes are no JSON of ours, so a mark tells the two apart.
var packedMark = []byte("\x00pomelod\x01")

type packed struct {
	Data  map[string]json.RawMessage `json:"data,omitempty"`
	State []byte                     `json:"state,omitempty"` // of Carry
}

// packData is what the next process must know of s: its registered data, and state, which are the program's own bytes.
func (a *App) packData(s *Session, state []byte) ([]byte, error) {
	if len(a.kinds) == 0 && !bytes.HasPrefix(state, packedMark) {
		return state, nil
	}
	p := packed{State: state}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.data {
		if _, plain := key.(string); plain && a.carry.pack == nil {
			return nil, fmt.Errorf("%q was stored by Set, and only registered data (NewData) and what Carry packs go along", key)
		}
	}
	for _, k := range a.kinds {
		b, err := k.get(s.data)
		if err != nil {
			return nil, fmt.Errorf("data %q: %w", k.key.name, err)
		}
		if b != nil {
			if p.Data == nil {
				p.Data = make(map[string]json.RawMessage)
			}
			p.Data[k.key.name] = b
		}
	}
	b, err := json.Marshal(&p)
	return append(bytes.Clone(packedMark), b...), err
}

// unpackData gives s its registered data again, and returns the program's own bytes.
func (a *App) unpackData(s *Session, b []byte) (state []byte, err error) {
	text, marked := bytes.CutPrefix(b, packedMark)
	if !marked {
		return b, nil
	}
	var p packed
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = make(map[any]any)
	}
	for _, k := range a.kinds {
		if b, has := p.Data[k.key.name]; has {
			if err := k.put(s.data, b); err != nil {
				return nil, fmt.Errorf("data %q: %w", k.key.name, err)
			}
		}
	}
	if len(p.State) > 0 && a.carry.unpack == nil {
		return nil, errors.New("the program before has packed more (Carry) than this one can read")
	}
	return p.State, nil
}
