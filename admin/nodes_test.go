package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Nodes are told to whoever asks.
func TestNodes(t *testing.T) {
	src := source()
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 404 {
		t.Errorf("without a fleet: %d", w.Code)
	}
	broken := errors.New("it does not turn")
	var failing error
	src.Nodes = func(context.Context) (*Nodes, error) {
		return &Nodes{Asked: "a", View: 3, Nodes: []Node{{Name: "a", Roles: []string{"gate"}, State: "ok"}}}, failing
	}
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"asked":"a","view":3,"unguarded":0,"nodes":[{"name":"a"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	failing = broken
	if w := ask(handler(src), "/nodes", "Host", "127.0.0.1"); w.Code != 503 || !strings.Contains(w.Body.String(), broken.Error()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
