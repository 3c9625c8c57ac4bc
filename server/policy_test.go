//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/admin"
)

// What an operator says of a room holds there at once, with members in it, before what -rooms-file and flags say, survives the process and ends when it is taken back.
func TestPolicyCommand(t *testing.T) {
	dir := t.TempDir()
	file, rooms := filepath.Join(dir, "rules.json"), filepath.Join(dir, "rooms.json")
	write(t, rooms, `{"rooms":[{"match":"lob*","members":3,"slow":"1m","locked":true,"grace":"0s"}]}`)
	flags := []string{"-rules-file", file, "-rooms-file", rooms, "-list", "50"}
	a := administer(t, flags...)
	const (
		slow   = `{"code":500,"reason":"slow_mode","wait":`
		locked = `{"code":500,"error":true,"reason":"room_locked"}`
		full   = `{"code":500,"error":true,"reason":"room_members"}`
	)
	begins := func(what, got, want string) {
		t.Helper()
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	policy := func(args ...string) (p admin.RoomPolicy) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.must(append([]string{"policy", "lobby", "-o", "json"}, args...)...)), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	holds := func(p admin.RoomPolicy, want string) {
		t.Helper()
		if got := policyText(&p.Holds); got != want {
			t.Errorf("holds %s, want %s", got, want)
		}
	}
	ofFiles := "slow=1m0s hold=0s members=3 list=50 grace=0s enter=anyone history=present locked=true"
	holds(policy(), ofFiles)

	ann, bob, cid, dan := login(t, a.addr("connector")), login(t, a.addr("connector")), login(t, a.addr("connector")), login(t, a.addr("connector"))
	begins("ann", ann.enter("ann", "lobby"), locked)
	p := policy("-locked", "false")
	holds(p, strings.Replace(ofFiles, "locked=true", "locked=false", 1))
	if got := policyText(&p.Policy); got != "locked=false" || !p.Kept || p.By == "" {
		t.Errorf("%s, %+v", got, p)
	}
	begins("ann", ann.enter("ann", "lobby"), `{"users":["ann"]`)
	begins("bob", bob.enter("bob", "lobby"), `{"users":["ann","bob"]`)
	begins("ann speaks in a slow room", ann.ask("chat.chatHandler.send", sayHello), slow)
	policy("-slow", "0s", "-members", "2")
	waitFor(t, func() bool { return ann.ask("chat.chatHandler.send", sayHello) == "{}" }) // the loop has its turn
	begins("cid", cid.enter("cid", "lobby"), full)
	p = policy("-slow", "20s", "-members", "default", "-hold", "10ms", "-list", "1")
	if got := policyText(&p.Policy); got != "slow=20s hold=10ms list=1 locked=false" {
		t.Errorf("the operator says %s", got)
	}
	waitFor(t, func() bool { return strings.HasPrefix(ann.ask("chat.chatHandler.send", sayHello), slow) })
	begins("cid", cid.enter("cid", "lobby"), `{"users":["ann","bob","cid"],"count":3`) // as the room is large
	policy("-enter", "program", "-members", "9")
	begins("dan", dan.enter("dan", "lobby"), locked)

	if table := a.must("policy", "lobby"); !strings.Contains(table, "slow     20s") || !strings.Contains(table, "grace    0s       -rooms-file or flags\n") || strings.Contains(table, "until the server ends") {
		t.Errorf("the table is\n%s", table)
	}
	if rules := a.must("rules"); !strings.Contains(rules, "slow=20s hold=10ms members=9 list=1 enter=program locked=false") {
		t.Errorf("rules:\n%s", rules)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"policy", 2, "ROOM is missing"},
		{"policy lobby -hold 2s", 2, "-hold 2s: must be whole milliseconds, at most 1s, or 0 for none"},
		{"policy lobby -slow 25h", 2, "-slow 25h0m0s: must be"},
		{"policy lobby -slow 5", 2, "a time needs its unit: write 5s"},
		{"policy lobby -slow soon", 2, "is no time"},
		{"policy lobby -members -1", 2, "-members -1: must not be negative"},
		{"policy lobby -members some", 2, "must be a number"},
		{"policy lobby -grace 1s", 2, "-grace 1s: must be 0"},
		{"policy lobby -enter login", 2, "must be anyone, or program"},
		{"policy lobby -history all", 2, "must be everyone, present"},
		{"policy lobby -locked maybe", 2, "must be true or false"},
		{"policy lobby -reset -slow 5s", 2, "-reset takes back all"},
	} {
		if out, code := a.command(strings.Fields(tc.args)...); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit %d, %s", tc.args, code, out)
		}
	}
	before := policy()
	a.stop()

	a = administer(t, flags...)
	if after := policy(); policyText(&after.Policy) != policyText(&before.Policy) || after.By != before.By {
		t.Errorf("after a restart %+v, before %+v", after, before)
	}
	eve := login(t, a.addr("connector"))
	begins("eve", eve.enter("eve", "lobby"), locked)
	if p := policy("-reset"); policyText(&p.Policy) != "" || p.By != "" {
		t.Errorf("after -reset %+v", p)
	}
	a.must("lock", "other") // a lock is told with what holds, and is no policy
	if table := a.must("policy", "other"); !strings.Contains(table, "locked   true") {
		t.Errorf("the table is\n%s", table)
	}
	a.must("policy", "lobby", "-reset")                                                                          // there is nothing to be taken back
	if text := readFile(t, file); strings.Contains(text, "20s") || !strings.Contains(text, `"kind": "policy"`) { // that it was lifted
		t.Errorf("the file has\n%s", text)
	}
	write(t, file, `{"version":1,"rules":[{"kind":"policy","room":"lobby","policy":{"locked":false,"slow":"0s"}}]}`) // by hand
	a.must("reload")
	begins("eve", eve.enter("eve", "lobby"), `{"users":["eve"]}`)
	write(t, rooms, `{"rooms":[{"match":"lobby","hold":"5ms"}]}`) // what is not said is as there
	a.must("reload")
	holds(policy(), "slow=0s hold=5ms members=100000 list=50 grace=12s enter=anyone history=present locked=false")
}

// Policies without a place to be kept hold until the process ends, and the command says so; wrong ones in a file of rules keep pomelod from starting.
func TestPoliciesOfFiles(t *testing.T) {
	a := administer(t)
	if out := a.must("policy", "r", "-slow", "5s"); !strings.Contains(out, "until the server ends") {
		t.Errorf("without a file: %s", out)
	}
	file := filepath.Join(t.TempDir(), "rules.json")
	for _, tc := range []struct{ rule, want string }{
		{`{"kind":"policy","room":"r"}`, "policy"},
		{`{"kind":"policy","room":"r","policy":{"slow":"25h"}}`, "slow 25h0m0s: must be"},
		{`{"kind":"policy","room":"r","policy":{"slwo":"5s"}}`, "slwo"},
		{`{"kind":"policy","policy":{"slow":"5s"}}`, "give a room"},
		{`{"kind":"policy","room":"r","name":"x","policy":{"slow":"5s"}}`, "give a room"},
		{`{"kind":"policy","room":"r","reason":"x","policy":{"slow":"5s"}}`, "no reason"},
		{`{"kind":"policy","room":"r","until":"2100-01-01T00:00:00Z","policy":{"slow":"5s"}}`, "no end by itself"},
		{`{"kind":"lock","room":"r","policy":{"slow":"5s"}}`, "a policy, and no other rule"},
		{`{"kind":"policy","room":"r","policy":{"slow":"5s"}}`, ""},
	} {
		if err := os.WriteFile(file, fmt.Appendf(nil, `{"version":1,"rules":[%s]}`, tc.rule), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := outcome(t, nil, "-rules-file", file, "-check-config")
		if want := map[bool]int{true: 2, false: 0}[tc.want != ""]; code != want || !strings.Contains(stderr, tc.want) {
			t.Errorf("%s: exit %d, %s", tc.rule, code, stderr)
		}
	}
}
