package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// way is how a client comes in: the wire it speaks, with TLS or without, and to which of the server's connectors.
type way struct {
	name      string // as it was given
	wire      func() wire
	tls       bool
	connector int // from 0, of those with TLS or of those without
}

// mix is one value of -wire: clients take its ways in turn.
type mix struct {
	name, text string
	ways       []way
}

// mixes is the flag -wire. Each time it is given the servers take part once more.
type mixes []mix

func (m *mixes) String() string {
	var names []string
	for _, x := range *m {
		names = append(names, x.text)
	}
	return strings.Join(names, " ")
}

// Set takes [NAME=][tls+]WIRE[@CONNECTOR],...
func (m *mixes) Set(text string) error {
	x := mix{name: text, text: text}
	name, list, named := strings.Cut(text, "=")
	if named {
		x.name = name
	} else {
		list = text
	}
	for _, name := range strings.Split(list, ",") {
		w := way{name: name}
		wire, number, ok := strings.Cut(name, "@")
		if ok {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no connector: they count from 1", number)
			}
			w.connector = n - 1
		}
		wire, w.tls = strings.CutPrefix(wire, "tls+")
		if w.wire = wires[wire]; w.wire == nil {
			return fmt.Errorf("no wire %q", wire)
		}
		x.ways = append(x.ways, w)
	}
	if slices.ContainsFunc(*m, func(other mix) bool { return other.name == x.name }) {
		return fmt.Errorf("%s is there twice: say name=%s", x.name, list)
	}
	*m = append(*m, x)
	return nil
}
