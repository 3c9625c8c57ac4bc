package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Nodes are a fleet as one of its nodes sees it.
type Nodes struct {
	Asked     string `json:"asked"`     // the node that tells this
	View      uint64 `json:"view"`      // number of its newest view; 0: it has none
	Unguarded int    `json:"unguarded"` // partitions that have no follower
	Nodes     []Node `json:"nodes"`     // in order of names
}

// Node is a row of Nodes.
type Node struct {
	Name     string   `json:"name"`
	Run      uint64   `json:"run"` // its incarnation: when it began, in ms
	Roles    []string `json:"roles"`
	Host     string   `json:"host"`
	Address  string   `json:"address,omitempty"` // of a connector, as gates know it
	Sessions uint64   `json:"sessions"`
	Owns     int      `json:"owns"` // partitions
	Follows  int      `json:"follows"`
	// State is ok; joining: it lives and is no member yet; draining: it ends, and is given nothing; deaf: it does not hear the others well enough to
	// judge them; silent: it was not heard for 1.5 s, and is taken for dead after 3.
	State    string `json:"state"`
	Maker    bool   `json:"maker"` // of the view
	View     uint64 `json:"view"`  // number of the newest that it has said to have; 0: none
	SilentMS int64  `json:"silent_ms"`
}

// Drain is the body of a request that a node ends in order.
type Drain struct {
	Node string `json:"node"`
}

// nodes answers GET /nodes.
func (s *Source) nodes(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
	defer cancel()
	all, err := s.Nodes(ctx)
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all)
}

// getNodes answers GET /v1/nodes.
func getNodes(a API, q *request) (any, error) {
	all, err := a.Nodes(q)
	if err == nil && all.Nodes == nil {
		all.Nodes = []Node{}
	}
	return all, err
}

// Drained is the answer to /v1/drain: how the node is by now. Its state is draining when it has heard; it is still a member then, and leaves within its -drain.
type Drained struct {
	Scope string `json:"scope"`
	Node  Node   `json:"node"`
}

// Upgraded is the answer to /v1/upgrade.
type Upgraded struct {
	Scope  string `json:"scope"`
	Result string `json:"result"` // a sentence
}

func postDrain(a API, q *request) (any, error) {
	var d Drain
	if err := q.decode(&d); err != nil {
		return nil, err
	}
	q.what = []any{"node", d.Node}
	if d.Node == "" {
		return nil, bad("node is missing")
	}
	node, err := a.Drain(q, d.Node)
	return Drained{ScopeFleet, node}, err
}

// upgradeTimeout is more than an upgrade takes before it fails.
const upgradeTimeout = 2 * time.Minute

func postUpgrade(a API, q *request) (any, error) {
	if err := q.decode(new(struct{})); err != nil {
		return nil, err
	}
	result, err := a.Upgrade(q)
	return Upgraded{ScopeNode, result}, err
}
