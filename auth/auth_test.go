package auth

import (
	"path"
	"strings"
	"testing"
)

func TestMay(t *testing.T) {
	for _, tc := range []struct {
		rooms []string
		yes   []string
		no    []string
	}{
		{nil, []string{"lobby", ""}, nil},
		{[]string{}, nil, []string{"lobby"}},
		{[]string{"lobby"}, []string{"lobby"}, []string{"lobby2", "Lobby", "lob"}},
		{[]string{"world*"}, []string{"world", "world1"}, []string{"worl", "aworld"}},
		{[]string{"*-de", "a*b*c"}, []string{"chat-de", "-de", "abc", "a1b2c", "abbcc"}, []string{"chat-de1", "ab", "acb", "bac"}},
		{[]string{"a*bc*cd"}, []string{"abccd"}, []string{"abcd"}},
		{[]string{"a*a"}, []string{"aa", "aba"}, []string{"a"}},
		{[]string{"a?[b"}, []string{"a?[b"}, []string{"ax[b"}},
		{[]string{"*"}, []string{"x"}, nil},
	} {
		id := Identity{Name: "a", Rooms: tc.rooms}
		for _, room := range tc.yes {
			if !id.May(room) {
				t.Errorf("%q: not %q", tc.rooms, room)
			}
		}
		for _, room := range tc.no {
			if id.May(room) {
				t.Errorf("%q: %q", tc.rooms, room)
			}
		}
	}
}

// A pattern of stars and letters is what path.Match says of it.
func FuzzMatches(f *testing.F) {
	f.Add("a*b**c", "axxbc")
	f.Add("*a", "aa")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 40 || len(name) > 200 || strings.ContainsAny(pattern, `?[\/`) || strings.Contains(name, "/") {
			return
		}
		want, err := path.Match(pattern, name)
		if got := matches(pattern, name); err == nil && got != want {
			t.Fatalf("%q, %q: %v", pattern, name, got)
		}
	})
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, id := range []Identity{{}, {UID: "7"}, {Name: long}, {Name: "a", UID: long}, {Name: "a", Rooms: []string{long}}, {Name: "a", Rooms: make([]string, 65)}} {
		if id.Check() == nil {
			t.Errorf("%.40v passes", id)
		}
	}
	if id := (Identity{Name: "a", Rooms: []string{"*"}}); id.Check() != nil {
		t.Error(id.Check())
	}
}

// Who has a name is nobody else than who has the same text for a UID.
func TestUser(t *testing.T) {
	seen := map[string]Identity{}
	for _, id := range []Identity{{Name: "a"}, {Name: "b", UID: "a"}, {Name: "uid\x00a"}, {Name: "c", UID: "uid\x00a"}, {Name: "name\x00a"}, {Name: "c", UID: "name\x00a"}} {
		if other, has := seen[id.User()]; has {
			t.Errorf("%q is %q", id, other)
		}
		seen[id.User()] = id
	}
	if a, b := (&Identity{Name: "a", UID: "7"}), (&Identity{Name: "b", UID: "7"}); a.User() != b.User() {
		t.Error("one UID is two users")
	}
}
