//go:build linux

package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/fleet"
	"github.com/pomelod/pomelod/internal/handover"
)

// A node of a fleet stays what others know it by; a password is not among that.
func TestWhoSucceedsANode(t *testing.T) {
	node := func(change func(*fleetSettings)) *fleetSettings {
		s := &fleetSettings{nats: "nats://user:secret@h:4222", id: "a", cluster: "c", roles: rolesFlag(cluster.RoleChat)}
		if change != nil {
			change(s)
		}
		return s
	}
	old := (&fleetNode{}).greeting(node(nil))
	if strings.Contains(old.Settings, "secret") {
		t.Errorf("a password goes along: %s", old.Settings)
	}
	for what, change := range map[string]func(*fleetSettings){
		"nothing": nil, "password": func(s *fleetSettings) { s.nats = "nats://user:other@h:4222" }, "quorum": func(s *fleetSettings) { s.quorum = 2 },
	} {
		if err := node(change).succeeds(old); err != nil {
			t.Errorf("another %s: %v", what, err)
		}
	}
	for what, change := range map[string]func(*fleetSettings){
		"id": func(s *fleetSettings) { s.id = "b" }, "roles": func(s *fleetSettings) { s.roles |= rolesFlag(cluster.RoleGate) }, "cluster": func(s *fleetSettings) { s.cluster = "d" },
		"NATS": func(s *fleetSettings) { s.nats = "nats://g:4222" },
	} {
		if err := node(change).succeeds(old); err == nil || !strings.Contains(err.Error(), "restart it instead") {
			t.Errorf("another %s: %v", what, err)
		}
	}
	none := new(fleetSettings)
	if err := none.succeeds(old); !errors.Is(err, errLeaves) {
		t.Errorf("one that leaves the fleet: %v", err)
	}
	if err := node(nil).succeeds(nil); !errors.Is(err, errJoins) {
		t.Errorf("one that joins it: %v", err)
	}
	if err := none.succeeds(nil); err != nil || (*fleetNode)(nil).greeting(none) != nil {
		t.Errorf("no fleet at all: %v", err)
	}
	if err := node(nil).succeeds(&handover.Fleet{Format: cluster.StateVersion + 1, Settings: old.Settings}); err == nil || !strings.Contains(err.Error(), "restart instead of upgrading") {
		t.Errorf("another format: %v", err)
	}
	if err := (*fleetNode)(nil).take([]byte{1}); err == nil {
		t.Error("what a node was is taken by who is none")
	}
}

// An upgrade of a node that does not come to an end is given up before the others take the node for dead, who would end all of its clients; that of a process by itself has its time.
func TestUpgradeOfANodeEndsInTime(t *testing.T) {
	const dead, heartbeat = 3 * time.Second, 500 * time.Millisecond // package cluster's
	for _, within := range []time.Duration{time.Second, upgradeTimes.frozen, time.Hour} {
		if rests := new(fleetNode).mayRest(within); rests > within || rests > dead-heartbeat-heartbeat {
			t.Errorf("a node may rest for %v of %v", rests, within)
		}
		if rests := (*fleetNode)(nil).mayRest(within); rests != within {
			t.Errorf("a process without a fleet may rest for %v of %v", rests, within)
		}
	}
}

// loopAtRest carries nothing out.
type loopAtRest struct{ fleet.Loops }

func (loopAtRest) ID() channel.Node { return 1 }
func (loopAtRest) Workers(func(int)) []*channel.Worker {
	return []*channel.Worker{channel.NewWorker(nil)}
}
func (loopAtRest) Run(int, int, func()) {}

// An upgrade that waits for copies of partitions does not keep the process from ending, which has to be over in time.
func TestWaitForCopiesEndsWithTheProcess(t *testing.T) {
	n := &fleetNode{Fleet: fleet.New(fleet.Config{Cluster: cluster.Config{Name: "a", Run: 1, Roles: cluster.RoleChat}})}
	n.Join(loopAtRest{})
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := n.still(ctx, time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "pomelod is to end") {
		t.Error(err)
	}
}
