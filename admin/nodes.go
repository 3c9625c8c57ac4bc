package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"mime"
	"net/http"
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

// drain answers POST /drain. What it asks for has begun when the node's state is draining.
func (s *Source) drain(w http.ResponseWriter, r *http.Request) {
	var body Drain
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case s.Retire == nil:
		http.Error(w, "nodes are drained through an admin socket, an -admin address of loopback, or with a token: run pomelod drain on the machine of a node, or send the node SIGTERM", http.StatusForbidden)
		return
	case kind != "application/json":
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	case json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&body) != nil || body.Node == "":
		http.Error(w, `the body must be {"node":NAME}`, http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
	defer cancel()
	if err := s.Retire(ctx, body.Node); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	who, ok := r.Context().Value(whoKey{}).(string)
	if !ok {
		who = r.RemoteAddr
	}
	slog.Info("a node was asked to end", "node", body.Node, "who", who)
	w.WriteHeader(http.StatusAccepted)
}
