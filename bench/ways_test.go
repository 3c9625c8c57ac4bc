//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestWireFlag(t *testing.T) {
	var m mixes
	for _, text := range []string{"ws", "all=ws,ws@2,eio4-polling", "tcp@3", "tls+ws@2"} {
		if err := m.Set(text); err != nil {
			t.Fatal(text, err)
		}
	}
	if m.String() != "ws all=ws,ws@2,eio4-polling tcp@3 tls+ws@2" || m[2].ways[0].tls || !m[3].ways[0].tls || m[3].ways[0].connector != 1 || m[1].name != "all" || len(m[1].ways) != 3 || m[1].ways[1].connector != 1 || m[2].ways[0].connector != 2 {
		t.Errorf("%+v", m)
	}
	for _, text := range []string{"", "udp", "ws,", "ws@0", "ws@x", "ws", "all=tcp", "tls+", "tls+tls+ws", "ws+tls"} {
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

// Members of one room may come in several ways.
func TestWaysShareARoom(t *testing.T) {
	t.Parallel()
	both := &naughty{}
	tcp, eio4 := both.serve(t, "tcp"), both.serve(t, "eio4")
	r := trial(t, "broadcast", "both=tcp,eio4@2", tcp+","+eio4, "-members", "6", "-inflight", "2")
	if r.Void {
		t.Errorf("%+v", r.Faults)
	}
}

// A server that names its clients' wire takes part once, whatever -wire says, and under its own name.
func TestServersWithAWireOfTheirOwn(t *testing.T) {
	servers := []string{"-server", "a=bin/a", "-server", "b@tls+plain=bin/b -x", "-server", "c@ws,tcp@2=bin/c"}
	for _, c := range []struct{ args, names, wires []string }{
		{nil, []string{"a", "b", "c"}, []string{"ws", "tls+plain", "ws,tcp@2"}},
		{[]string{"-wire", "tcp"}, []string{"a", "b", "c"}, []string{"tcp", "tls+plain", "ws,tcp@2"}},
		{[]string{"-wire", "ws", "-wire", "tcp", "-base", "b"}, []string{"a/ws", "a/tcp", "b", "c"}, []string{"ws", "tcp", "tls+plain", "ws,tcp@2"}},
	} {
		o, err := parse("echo", &echo{}, append(slices.Clone(servers), c.args...))
		if err != nil {
			t.Fatal(err)
		}
		var names, wires []string
		for _, e := range o.entrants {
			names, wires = append(names, e.name), append(wires, e.mix.name)
		}
		if !slices.Equal(names, c.names) || !slices.Equal(wires, c.wires) {
			t.Errorf("%v: %v by %v", c.args, names, wires)
		}
		if e := o.entrants[len(o.entrants)-1]; !slices.Equal(e.command, []string{"bin/c"}) || len(e.ways) != 2 || e.ways[1].connector != 1 {
			t.Errorf("%+v", e)
		}
	}
	for _, text := range []string{"a@udp=bin/a", "a@=bin/a", "a@ws=", "a@ws@0=bin/a"} {
		if v, err := parseVariant(text); err == nil && v.name == "a" {
			t.Errorf("%q is taken: %+v", text, v)
		}
	}
}
