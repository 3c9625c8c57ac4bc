//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"unicode/utf8"

	"github.com/pomelod/pomelod/internal/names"
)

// naming is what the flags say of users' names.
type naming struct {
	kind     namesFlag
	reserved listFlag
}

// namesFlag is what users may be called.
type namesFlag string

const (
	namesSafe     namesFlag = "safe"
	namesOriginal namesFlag = "original"
)

func (n *namesFlag) String() string { return string(*n) }

func (n *namesFlag) Set(text string) error {
	if k := namesFlag(text); k == namesSafe || k == namesOriginal {
		*n = k
		return nil
	}
	return errors.New("must be safe or original")
}

func (n *naming) declare(f *flag.FlagSet) {
	n.kind, n.reserved = namesSafe, listFlag{"system"}
	f.Var(&n.kind, "names", "`safe|original`: what users may be called. safe refuses characters that are not shown or turn text around, and names that look like one in the room, or like one of -reserved. original takes all that Pomelo takes; it is the default with -config and -original")
	f.Var(&n.reserved, "reserved", "`names` that no user may have, whatever their case: system,admin. Not with -names original")
}

// settle sets what no flag says, and refuses what does not go together. given are the flags that were.
func (n *naming) settle(f *flag.FlagSet, given map[string]bool, project bool) error {
	if project && !given["names"] {
		if err := f.Set("names", string(namesOriginal)); err != nil {
			return err
		}
	}
	if n.kind == namesOriginal && given["reserved"] {
		return errors.New("-reserved: with -names original, which is the default with -config and -original, any name may be had; give -names safe too, or drop -reserved")
	}
	for _, name := range n.reserved {
		if !utf8.ValidString(name) {
			return fmt.Errorf("-reserved %q: must be UTF-8", name)
		}
	}
	return nil
}

// rules are what the flags come to.
func (n *naming) rules() names.Rules {
	if n.kind == namesOriginal {
		return names.Rules{}
	}
	return names.Safe(n.reserved)
}
