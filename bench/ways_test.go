//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestWireFlag(t *testing.T) {
	var m mixes
	for _, text := range []string{"ws", "all=ws,ws@2,eio4-polling", "tcp@3"} {
		if err := m.Set(text); err != nil {
			t.Fatal(text, err)
		}
	}
	if m.String() != "ws all=ws,ws@2,eio4-polling tcp@3" || m[1].name != "all" || len(m[1].ways) != 3 || m[1].ways[1].connector != 1 || m[2].ways[0].connector != 2 {
		t.Errorf("%+v", m)
	}
	for _, text := range []string{"", "udp", "ws,", "ws@0", "ws@x", "ws", "all=tcp"} {
		if err := m.Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Servers and wires take part in every combination, and are compared with one of them.
func TestEntrants(t *testing.T) {
	for _, c := range []struct {
		args, names []string
		base        string
	}{
		{nil, []string{"a", "floor"}, "floor"},
		{[]string{"-base", "a"}, []string{"a", "floor"}, "a"},
		{[]string{"-wire", "tcp"}, []string{"a", "floor"}, "floor"},
		{[]string{"-wire", "ws", "-wire", "two=ws,tcp"}, []string{"a/ws", "a/two", "floor/ws", "floor/two"}, "a/ws"},
		{[]string{"-base", "b"}, nil, ""},
	} {
		o, err := parse("echo", &echo{}, append([]string{"-server", "a", "-server", "floor=x y"}, c.args...))
		if err != nil {
			if c.names != nil {
				t.Errorf("%v: %v", c.args, err)
			}
			continue
		}
		var names []string
		for _, e := range o.entrants {
			names = append(names, e.name)
		}
		if !slices.Equal(names, c.names) || o.base != c.base {
			t.Errorf("%v: %v by %s", c.args, names, o.base)
		}
	}
}

// Where members come in several ways each has a figure of its own.
func TestWaysShareARoom(t *testing.T) {
	t.Parallel()
	both := &naughty{}
	tcp, eio4 := both.serve(t, "tcp"), both.serve(t, "eio4")
	r := trial(t, "broadcast", "both=tcp,eio4@2", tcp+","+eio4, "-members", "6", "-inflight", "2")
	for _, name := range []string{"p99_us_tcp", "p99_us_eio4@2"} {
		if v, _ := r.Figures.get(name); r.Void || v <= 0 {
			t.Errorf("%s is %v; %+v", name, v, r.Faults)
		}
	}
}
