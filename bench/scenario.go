//go:build linux

package main

import (
	"flag"
	"maps"
	"slices"
)

// scenario is one kind of load. It lives in a file scenario_NAME.go, registers itself, and is used for one run after
// another: what it keeps are its flags.
type scenario interface {
	flags(f *flag.FlagSet)
	// run brings clients up, measures and notes figures and faults. An error means that there was no measurement.
	run(r *run) error
}

type registered struct {
	about string
	make  func() scenario
}

var scenarios = map[string]registered{}

func register(name, about string, make func() scenario) struct{} {
	scenarios[name] = registered{about, make}
	return struct{}{}
}

func scenarioNames() []string { return slices.Sorted(maps.Keys(scenarios)) }
