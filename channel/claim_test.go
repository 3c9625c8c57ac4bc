package channel

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// claims asks for a session to be counted, and returns the answer and who was kicked.
func (s *stage) claims(from Addr, user string, key uint64) (answer string, kicked []Addr) {
	s.t.Helper()
	s.req++
	r := Request{Op: OpClaim, Part: Partition(user), Req: s.req, From: from, User: user, Key: key}
	if !s.w.Handle(&r) {
		s.t.Fatal("not owned")
	}
	for _, it := range s.items {
		switch {
		case it.Kind == ItemKick && it.Room == 0 && string(it.Body) == string(replacedReason):
			kicked = append(kicked, it.To)
		case it.Kind == ItemReply && it.To == from && it.Req == s.req && answer == "":
			answer = string(it.Body)
		default:
			s.t.Fatalf("%v", it)
		}
	}
	s.items = nil
	return answer, kicked
}

func (s *stage) releases(from Addr, user string) {
	s.t.Helper()
	s.w.Handle(&Request{Op: OpRelease, Part: Partition(user), From: from, User: user})
	s.want()
}

func TestClaims(t *testing.T) {
	const enough = `{"code":500,"reason":"sessions"}`
	try := func(limits Sessions, steps func(is func(n int, key uint64, answer string, kicked ...int), s *stage)) {
		t.Helper()
		s := newStage(t)
		s.w.limits.Sessions = limits
		steps(func(n int, key uint64, answer string, kicked ...int) {
			t.Helper()
			got, out := s.claims(at(n, n), "u", key)
			var outs []int
			for _, a := range out {
				outs = append(outs, int(a.Ref&0xff))
			}
			if got != answer || !slices.Equal(outs, kicked) {
				t.Errorf("%+v: session %d: %s, %v kicked; want %s, %v", limits, n, got, outs, answer, kicked)
			}
		}, s)
	}
	try(Sessions{Most: 1}, func(is func(int, uint64, string, ...int), s *stage) {
		is(1, 0, `{}`)
		is(1, 0, `{}`) // again, as its answer was lost
		is(2, 0, enough)
		is(2, 7, enough)
		s.releases(at(2, 2), "u") // it has nothing
		is(3, 0, enough)
		s.releases(at(1, 1), "other")
		is(3, 0, enough)
		s.releases(at(1, 1), "u")
		is(2, 7, `{}`)
		is(3, 8, enough)
		is(4, 7, `{}`, 2) // the same client, before its end was noticed
		s.releases(at(2, 2), "u")
		is(5, 0, enough)
	})
	try(Sessions{Most: 1, KickOld: true}, func(is func(int, uint64, string, ...int), s *stage) {
		is(1, 0, `{}`)
		is(2, 0, `{}`, 1)
		s.releases(at(1, 1), "u") // late, and nobody's
		is(3, 0, `{}`, 2)
	})
	try(Sessions{Most: 2}, func(is func(int, uint64, string, ...int), s *stage) {
		is(1, 0, `{}`)
		is(2, 5, `{}`)
		is(3, 0, enough)
		is(3, 5, `{}`, 2)
		s.w.limits.Sessions = Sessions{Most: 1, KickOld: true} // another owner's
		is(4, 0, `{}`, 1, 3)
	})
	try(Sessions{}, func(is func(int, uint64, string, ...int), s *stage) {
		is(1, 0, `{}`)
		is(2, 0, `{}`)
	})
}

// Claims are state: whatever happens to them, they go along when the partition moves, and those of a node go when it ends. A list of sessions by user is the
// model.
func TestClaimsModel(t *testing.T) {
	rng := seed.Rand(t)
	for _, limits := range []Sessions{{1, false}, {1, true}, {3, false}, {2, true}} {
		s := newStage(t)
		s.w.limits.Sessions = limits
		held := map[string][]Addr{}
		for step := range race.Fewer(3000) {
			user := fmt.Sprint("u", rng.IntN(5))
			from := at(rng.IntN(2)<<8|rng.IntN(2), 1+rng.IntN(12))
			switch rng.IntN(20) {
			case 0:
				s.w.DropNode(from.Node)
				for user, list := range held {
					held[user] = slices.DeleteFunc(list, func(a Addr) bool { return a.Node == from.Node })
				}
			case 1, 2, 3, 4, 5, 6:
				s.releases(from, user)
				held[user] = slices.DeleteFunc(held[user], func(a Addr) bool { return a == from })
			case 7:
				part := Partition(user)
				b := s.w.Export(nil, part)
				s.w.Release(part)
				if err := s.w.Import(part, testEpoch, b); err != nil {
					t.Fatal(err)
				}
			default:
				want, out := string(Done), []Addr(nil)
				switch list := held[user]; {
				case slices.Contains(list, from):
				case len(list) < limits.Most:
					held[user] = append(list, from)
				case limits.KickOld:
					out = list[:len(list)+1-limits.Most]
					held[user] = append(slices.Clone(list[len(out):]), from)
				default:
					want = string(ClaimRefused)
				}
				if answer, kicked := s.claims(from, user, 0); answer != want || !slices.Equal(kicked, out) {
					t.Fatalf("%+v, step %d: %s, %v; want %s, %v", limits, step, answer, kicked, want, out)
				}
			}
			if len(held[user]) > limits.Most {
				t.Fatalf("step %d: %d sessions", step, len(held[user]))
			}
		}
		for user, list := range held {
			for _, from := range list {
				s.releases(from, user)
			}
		}
		for part := range uint16(Partitions) {
			if n := len(s.w.state.parts[part].claims); n > 0 {
				t.Errorf("partition %d still has %d users", part, n)
			}
		}
	}
}

// A push to a user comes to all sessions that can take it, also where another one cannot.
func TestPushToAUserPassesByWhoTakesNothing(t *testing.T) {
	s := newStage(t)
	for node := range 3 {
		s.w.Handle(&Request{Op: OpBind, Part: Partition("u"), From: at(node<<8, 1), User: "u", Content: []byte("0")})
	}
	push := func(want ...string) {
		t.Helper()
		s.req++
		s.w.Handle(&Request{Op: OpPush, Part: Partition("u"), Req: s.req, From: at(3<<8, 0), User: "u", Route: "onNews", Content: []byte(`{}`)})
		s.want(want...)
	}
	push("0 direct 1 #0 onNews {}", "256 direct 1 #0 onNews {}", "512 direct 1 #0 onNews {}", "768 reply 0 {}")
	s.outlet(256).full = func(RoomID) bool { return true }
	push("0 direct 1 #0 onNews {}", "512 direct 1 #0 onNews {}", `768 reply 0 {"code":500}`)
}

// What claims take of the heap is what the arithmetic of the server's memory says (FootprintOf), or less.
func TestClaimsCost(t *testing.T) {
	const users = 20_000
	s := newStage(t)
	s.w.limits.Sessions = Sessions{Most: 1}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before, text := heap(), 0
	for i := range users {
		user := fmt.Sprintf("uid\x00%0250d", i)
		text = len(user)
		if got, _ := s.claims(at(0, 1+i), user, 0); got != string(Done) {
			t.Fatal(got)
		}
	}
	each, most := (heap()-before)/users, text+text/8+FootprintOf().ClaimBytes // an eighth is what the allocator rounds up
	if t.Logf("%d bytes", each); each > most {
		t.Errorf("a claim takes %d bytes, and counts %d", each, most)
	}
	runtime.KeepAlive(s)
}
