//go:build linux

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/handover"
)

// A node of a fleet is upgraded as any process is, and goes on as the same run (package fleet): the new process listens to NATS before it says that it is ready, and
// begins to speak when it serves; the old one, when its event loops rest, does not speak any more.

const (
	// listenTime is how long a new process may take to be connected to NATS.
	listenTime = 10 * time.Second
	// movesTime is how long an upgrade waits for copies of partitions to arrive that are on their way between nodes, movesEvery how often it looks.
	movesTime  = 10 * time.Second
	movesEvery = 20 * time.Millisecond
	// silentTime is how long a node may say nothing before its upgrade is given up. Others take one for dead that was silent for 3 s, whose last heartbeat may be half a second old when
	// it stops: then the upgrade that fails would cost all of its clients. The rest is for the end of the new process, or its beginning.
	silentTime = 2 * time.Second
)

// errLeaves means that a node's sessions would be in rooms of a process that has none.
var errLeaves = errors.New("a node of a fleet cannot leave it by an upgrade: give -nats as before, or restart it without")

// fixed are the settings by which others know the node. Passwords may change.
func (s *fleetSettings) fixed() string {
	return fmt.Sprintf("-id %q -role %s -cluster-name %s -nats %s", s.id, s.roles.String(), s.cluster, s.nats.String())
}

// succeeds tells why a process with these settings cannot go on as the one that says this of its fleet.
func (s *fleetSettings) succeeds(old *handover.Fleet) error {
	switch {
	case old == nil && s.on():
		return errJoins
	case old == nil:
		return nil
	case !s.on():
		return errLeaves
	case old.Format != cluster.StateVersion:
		return fmt.Errorf("the running server has another format of what it is in its fleet (%d) than this binary (%d): restart instead of upgrading", old.Format, cluster.StateVersion)
	case old.Settings != s.fixed():
		return fmt.Errorf("an upgrade keeps what the fleet knows a node by: it runs with %s, and would go on with %s; restart it instead", old.Settings, s.fixed())
	}
	return nil
}

// greeting is what the node's successor must know first.
func (n *fleetNode) greeting(s *fleetSettings) *handover.Fleet {
	if n == nil {
		return nil
	}
	return &handover.Fleet{Format: cluster.StateVersion, Settings: s.fixed()}
}

// hear connects a node that is to go on as another process's, and waits until what others send comes here too.
func (n *fleetNode) hear(ctx context.Context) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	up := n.up
	n.Away(true)
	n.listen()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("this node is not connected to NATS: %w", n.bus.Err())
	}
}

// still waits until no copy of a partition is on its way, which could not go along in the middle, or until ctx ends.
func (n *fleetNode) still(ctx context.Context, until time.Time) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		moves, err := n.Moves(ctx)
		switch {
		case errors.Is(err, context.Canceled):
			return fmt.Errorf("pomelod is to end: %w", err)
		case err != nil:
			return fmt.Errorf("an event loop is stuck, or %w: try again when nodes have settled", cluster.ErrMoving)
		case !moves:
			return nil
		}
		select {
		case <-time.After(movesEvery):
		case <-ctx.Done():
		}
	}
}

// mayRest is for how long the event loops may rest that would otherwise rest for so long.
func (n *fleetNode) mayRest(within time.Duration) time.Duration {
	if n == nil {
		return within
	}
	return min(within, silentTime)
}

// settle takes in what loops at rest have posted, and tells whether they have to carry out something for it.
func (n *fleetNode) settle() bool { return n != nil && n.Settle() }

// export is what the successor goes on with, nil without a fleet.
func (n *fleetNode) export() ([]byte, error) {
	if n == nil {
		return nil, nil
	}
	return n.Export(monotonic())
}

// take goes on with what the predecessor has exported.
func (n *fleetNode) take(b []byte) error {
	switch {
	case n != nil:
		return n.Import(b, monotonic())
	case len(b) > 0:
		return handover.ErrMalformed
	}
	return nil
}
