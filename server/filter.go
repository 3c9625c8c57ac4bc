//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/hook"
	"github.com/pomelod/pomelod/router"
)

// filterSettings are the flags about what looks at messages before they are said.
type filterSettings struct {
	url     string
	down    filterDown
	timeout durationFlag
	hook    *hook.Hook // nil without -filter-url
}

// filterDown is what becomes of messages while the filter does not answer; empty: nobody has said it.
type filterDown string

const (
	filterDownRefuse filterDown = "refuse"
	filterDownPass   filterDown = "pass"
)

func (d *filterDown) String() string { return string(*d) }

func (d *filterDown) Set(text string) error {
	if to := filterDown(text); to == filterDownRefuse || to == filterDownPass {
		*d = to
		return nil
	}
	return errors.New("must be refuse or pass")
}

// maxFilterTimeout is how long a message may wait for the filter at most: its sender waits that long for an answer.
const maxFilterTimeout = 10 * time.Second

func (s *filterSettings) declare(f *flag.FlagSet) {
	s.timeout = durationFlag(2 * time.Second)
	f.StringVar(&s.url, "filter-url", "", "`URL` of a service of your own that looks at each message before it is said, and has it pass, changes or refuses it (docs/OPERATIONS.md)")
	f.Var(&s.down, "filter-down", "`refuse|pass`: what becomes of messages while the service at -filter-url does not answer. It must be said with -filter-url")
	f.Var(&s.timeout, "filter-timeout", "`time` for a message at -filter-url, its waiting included; at most 10s")
}

// settle refuses what does not go together. given are the flags that were.
func (s *filterSettings) settle(given map[string]bool) (err error) {
	switch {
	case s.url == "" && (given["filter-down"] || given["filter-timeout"]):
		return errors.New("-filter-down and -filter-timeout are about the service at -filter-url: give that too, or leave them out")
	case s.url == "":
		return nil
	case s.down == "":
		return errors.New("-filter-url needs -filter-down refuse or pass: what becomes of messages while the service does not answer")
	case s.timeout < durationFlag(10*time.Millisecond) || s.timeout > durationFlag(maxFilterTimeout):
		return fmt.Errorf("-filter-timeout %v: must be 10ms to %v", &s.timeout, maxFilterTimeout)
	}
	if s.hook, err = hook.NewFilter(s.url, time.Duration(s.timeout)); err != nil {
		return fmt.Errorf("-filter-url: %w", err)
	}
	return nil
}

// filter is for a node.
func (s *filterSettings) filter() router.Filter {
	if s.hook == nil {
		return router.Filter{}
	}
	return router.Filter{Judge: s.hook.Filter, Resting: s.hook.Resting, Timeout: time.Duration(s.timeout), AtOnce: hook.AtOnce, Pass: s.down == filterDownPass}
}
