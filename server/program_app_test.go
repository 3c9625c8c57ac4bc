//go:build linux

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
)

// A program's flags stand beside ours, on the command line, in the environment and in the help, and have their values when it starts.
func TestProgramFlags(t *testing.T) {
	a := app.New()
	words := a.Flags().String("words", "none", "`words` to look for")
	loud := a.Flags().Bool("loud", false, "be loud")
	if _, err := parseFlagsWith(a, []string{"-loud"}, []string{"POMELOD_WORDS=x,y"}, nil); err != nil || *words != "x,y" || !*loud {
		t.Errorf("%q, %v, %v", *words, *loud, err)
	}
	var help bytes.Buffer
	_, _ = parseFlagsWith(a, []string{"-help"}, nil, &help)
	if text := help.String(); !strings.Contains(text, "\nOf the program:\n") || strings.Count(text, "\n  -words WORDS\n") != 1 {
		t.Errorf("%s", text)
	}
	a.Flags().String("listen", "", "ours already")
	if _, err := parseFlagsWith(a, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "-listen") {
		t.Errorf("got %v", err)
	}
}

// OnStart comes before the first client can, and OnStop when all have gone. An error of OnStart keeps the server from starting.
func TestProgramStartsAndStops(t *testing.T) {
	flags := []string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-drain", "0"}
	var calls []string
	a := app.New()
	a.OnStart(func() error { calls = append(calls, "start"); return nil })
	a.OnStop(func(context.Context) { calls = append(calls, "stop") })
	ctx, cancel := context.WithCancel(t.Context())
	err := Run(ctx, a, flags, func(map[string]net.Addr) { calls = append(calls, "bound"); cancel() })
	if got := fmt.Sprint(calls); err != nil || got != "[start bound stop]" {
		t.Errorf("%s, %v", got, err)
	}
	no := errors.New("no database")
	b := app.New()
	b.OnStart(func() error { return no })
	b.OnStop(func(context.Context) { t.Error("it had not started") })
	if err := Run(t.Context(), b, flags, func(map[string]net.Addr) { t.Error("bound") }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
}
