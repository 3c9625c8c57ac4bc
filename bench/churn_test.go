//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// hall is naughty with one room, by TCP, whose first members stay and hear of those who come and go.
type hall struct {
	naughty
	names map[peer]string
	comer map[string]int // the how-manieth comer a name is, from 0

	tell func(what string, comer, member int, say func(what string)) // nil: says it
}

const stayers = 4

func newHall() *hall {
	s := &hall{names: map[peer]string{}, comer: map[string]int{}}
	s.came = func(p peer, body string) bool {
		_, name, _ := strings.Cut(body, `"username":"`)
		name, _, _ = strings.Cut(name, `"`)
		if s.names[p] = name; len(s.members) >= stayers {
			s.comer[name] = len(s.comer)
			s.announce("onAdd", name)
		}
		return true
	}
	s.gone = func(p peer) {
		if i := slices.Index(s.members, p); i >= stayers {
			s.members = slices.Delete(s.members, i, i+1)
			s.announce("onLeave", s.names[p])
		}
	}
	return s
}

func (s *hall) announce(what, name string) {
	for i, m := range s.members {
		if s.names[m] == name || i >= stayers {
			continue
		}
		say := func(what string) { m.(hybridPeer).Write(push(what, fmt.Sprintf(`{"user":%q}`, name))) }
		if s.tell != nil {
			s.tell(what, s.comer[name], i, say)
		} else {
			say(what)
		}
	}
}

func (s *hall) trial(t *testing.T, args ...string) *result {
	return trial(t, "churn", "tcp", s.serve(t, "tcp"), append([]string{"-rooms", "1", "-room-size", fmt.Sprint(stayers), "-switch", "0", "-churn", "60", "-stay", "40ms", "-rate", "200", "-senders", "1", "-time", "800ms", "-patience", "3s"}, args...)...)
}

func TestChurnWithoutFaults(t *testing.T) {
	gently(t)
	heard := 0.0
	for _, abrupt := range []string{"0", "0.5", "1"} {
		s := newHall()
		r := s.trial(t, "-abrupt", abrupt)
		if r.Void {
			t.Errorf("abrupt %s: void: %+v", abrupt, r.Faults)
		}
		joins, _ := r.Figures.get("joins")
		if joins < 1 || joins > float64(len(s.comer)) {
			t.Errorf("abrupt %s: %v joins of %d who came", abrupt, joins, len(s.comer))
		}
		for _, name := range []string{"join_p50_us", "before_p99_us", "p99_us", "before_rss_bytes", "rss_bytes", "rss_end_bytes", "joins_per_s"} {
			if v, _ := r.Figures.get(name); v <= 0 {
				t.Errorf("abrupt %s: %s is %v", abrupt, name, v)
			}
		}
		if _, ok := r.Figures.get("cpu_us_per_join"); !ok {
			t.Error("no cpu_us_per_join")
		}
		n, _ := r.Figures.get("comer_deliveries")
		heard += n
	}
	if heard == 0 {
		t.Error("none of those who came got a message")
	}
}

// What is wrong with one announcement to one member must be seen, and make the run void.
func TestChurnDetects(t *testing.T) {
	t.Parallel()
	// on replaces what the third comer causes at the second member.
	on := func(add, leave string) func(string, int, int, func(string)) {
		return func(what string, comer, member int, say func(string)) {
			said := what
			if comer == 2 && member == 1 {
				if said = add; what == "onLeave" {
					said = leave
				}
			}
			for word := range strings.FieldsSeq(said) {
				say(word)
			}
		}
	}
	for name, c := range map[string]struct {
		add, leave string
		want       faults
	}{
		"onAdd-lost":          {"", "onLeave", faults{Disordered: 0, Lost: 1}},
		"onLeave-lost":        {"onAdd", "", faults{Lost: 1}},
		"onAdd-twice":         {"onAdd onAdd", "onLeave", faults{Duplicated: 1}},
		"onAdd-again-at-end":  {"onAdd", "onLeave onAdd", faults{Duplicated: 1}},
		"onLeave-twice":       {"onAdd", "onLeave onLeave", faults{Duplicated: 1}},
		"onLeave-first":       {"", "onLeave onAdd", faults{Disordered: 1}},
		"onLeave-while-there": {"onAdd onLeave", "", faults{Strange: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			gently(t)
			s := newHall()
			s.tell = on(c.add, c.leave)
			r := s.trial(t)
			f := r.Faults
			if f.Lost != c.want.Lost || f.Disordered != c.want.Disordered || f.Duplicated != c.want.Duplicated || f.Strange != c.want.Strange || f.Closed != 0 {
				t.Errorf("found %+v, want %+v", f, c.want)
			}
			if !r.Void {
				t.Error("the run is not void")
			}
		})
	}
}

// What a comer sees has no hole, wherever it begins.
func TestChurnDetectsAHoleAtAComer(t *testing.T) {
	gently(t)
	s := newHall()
	got := map[peer]int{}
	s.deliver = func(n, member int, content string, p peer) {
		if got[p]++; member < stayers || got[p] != 2 {
			p.push(content)
		}
	}
	if r := s.trial(t, "-stay", "100ms"); !r.Void || r.Faults.Lost == 0 || r.Faults.Disordered+r.Faults.Duplicated+r.Faults.Strange > 0 {
		t.Errorf("%+v", r.Faults)
	}
}

func TestChurnOfThoseWhoAreRefused(t *testing.T) {
	gently(t)
	s := newHall()
	came, asked := s.came, 0
	s.came = func(p peer, body string) bool {
		asked++
		return (asked <= stayers || asked%2 == 0) && came(p, body)
	}
	if r := s.trial(t); r.Void {
		t.Errorf("%+v", r.Faults)
	} else if n, _ := r.Figures.get("joins_refused"); n == 0 {
		t.Error("nobody was refused")
	}
	s, asked = newHall(), 0
	also := s.came
	s.came = func(p peer, body string) bool { // others hear of one who is refused
		asked++
		return also(p, body) && asked != stayers+3
	}
	if r := s.trial(t); !r.Void || r.Faults.Strange == 0 {
		t.Errorf("%+v", r.Faults)
	}
}

func TestChurnOfPomelod(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"ws", "mixed=tcp,ws,sio09,eio3,eio4"} {
		t.Run(wire, func(t *testing.T) {
			gently(t)
			r := trial(t, "churn", wire, realServer(t), "-rooms", "4", "-room-size", "6", "-churn", "150", "-stay", "50ms", "-switch", "0.8", "-abrupt", "0.4", "-rate", "200", "-time", "1500ms")
			joins, _ := r.Figures.get("joins")
			switches, _ := r.Figures.get("switches")
			if r.Void || joins == 0 || switches == 0 {
				t.Errorf("%v joins, %v switches, faults %+v", joins, switches, r.Faults)
			}
		})
	}
}

func TestChurnNeedsAWireThatCanLeave(t *testing.T) {
	s := &churn{}
	o, err := parse("churn", s, []string{"-addr", "127.0.0.1:1", "-wire", "ws,eio4-polling"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.run(&run{options: o, entrant: o.entrants[0]}); err == nil || !strings.Contains(err.Error(), "eio4-polling") {
		t.Error(err)
	}
}
