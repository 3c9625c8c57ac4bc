package router

import (
	"slices"
	"testing"

	"github.com/pomelod/pomelod/internal/names"
)

// With -names safe a name that nobody can tell from another one in the room is refused, wherever the room is, and a private message reaches
// its target by any spelling.
func TestSafeNames(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			r := newRig(t, sh, func(cfg *Config) { cfg.Names = names.Safe([]string{"system"}) })
			ann, bob := r.login(atConnector, true), r.login(atConnector, false)
			for name, reason := range map[string]string{"sys\u202etem": "name", "\u3164": "name", "＊": "name", "System": "reserved", "ｓystem": "reserved"} {
				if got := ann.enter(name, "r"); got != `{"code":500,"error":true,"reason":"`+reason+`"}` {
					t.Errorf("%+q: %s", name, got)
				}
			}
			ann.enter("ａnn", "r")
			for name, want := range map[string]string{"ann": `{"code":500,"error":true,"reason":"name_alike"}`, "an\u200dn": `{"code":500,"error":true,"reason":"name_alike"}`, "ａnn": enterRefused} {
				if got := bob.enter(name, "r"); got != want {
					t.Errorf("%+q: %s", name, got)
				}
			}
			if got := bob.enter("ann", "another"); got != `{"users":["ann"]}` { // rooms are apart
				t.Error(got)
			}
			bob.enter("Ann", "r")
			ann.take()
			bob.take()
			for _, target := range []string{"ann", "ａnn", " ann ", "ａｎｎ"} {
				if got := bob.ask(routeSend, sendBody("x", target)); got != `{}` {
					t.Errorf("%+q: %s", target, got)
				}
				ann.want(`push 0 onChat {"msg":"x","from":"Ann","target":"ａnn"}`)
			}
			if got := bob.ask(routeSend, sendBody("x", "aｎNＮ")); got != refused {
				t.Error(got)
			}
		})
	}
}

// Without it all is as with Pomelo.
func TestOriginalNames(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	for _, name := range []string{"ann", "ａnn", "\u3164", "System", "system"} {
		if got := r.login(atConnector, true).enter(name, "r"); got == enterRefused || got == "" {
			t.Errorf("%+q: %s", name, got)
		}
	}
}
