//go:build linux

package server

import "flag"

// original is -original: where pomelod does otherwise than Pomelo's sample by default, it does as the sample does, unless a flag of its own says something
// else. Each such flag is declared here with what it is under -original.
type original struct {
	on bool
	as []presetValue
}

// declare says what the flag is set to by -original.
func (o *original) declare(flag, value string) { o.as = append(o.as, presetValue{flag, value}) }

// apply sets the declared flags that were not given. It comes after everything else that sets flags.
func (o *original) apply(f *flag.FlagSet, given map[string]bool) error {
	if !o.on {
		return nil
	}
	return setUngiven(f, given, "-original", o.as)
}
