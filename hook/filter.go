package hook

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pomelod/pomelod/filter"
)

// NewFilter makes a hook of the URL of a service that looks at messages, and has each answer come within a time. It refuses a URL that is none.
func NewFilter(address string, timeout time.Duration) (*Hook, error) {
	h, err := newHook("the filter", address, timeout)
	if err == nil {
		h.echoes = maxEscape
	}
	return h, err
}

// maxEscape is how many times as long as ours what we ask may be in an answer, whose JSON may escape what ours does not: an emoji of four bytes takes twelve. With a
// bound of its own long messages that are changed would fail, so whoever says some could pass the filter, or have it rest for all.
const maxEscape = 4

// saying is what a filter is asked.
type saying struct {
	Room    string          `json:"room"`
	Name    string          `json:"name"`
	UID     string          `json:"uid,omitempty"`
	Target  string          `json:"target,omitempty"`
	Content json.RawMessage `json:"content"`
	Address string          `json:"address"`
}

// Filter is the filter.Func of a service. It posts {"room", "name", "uid", "target", "content", "address"}, and takes {} for a yes, {"content": …} for what is said
// instead, and {"refuse": true}, a 401 or a 403 for a no.
func (h *Hook) Filter(ctx context.Context, said filter.Said) (v filter.Verdict, err error) {
	q := saying{said.Room, said.Name, said.UID, said.Target, said.Content, said.Address.String()}
	err = h.ask(ctx, q, func(text []byte) error {
		var a struct {
			Refuse  bool            `json:"refuse"`
			Content json.RawMessage `json:"content"`
		}
		if err := json.Unmarshal(text, &a); err != nil {
			return err
		}
		if text = trimmed(text); text[0] != '{' { // null is no answer either
			return errors.New("it is no JSON object")
		}
		if string(a.Content) == "null" { // as many services write what they leave out
			a.Content = nil
		}
		v = filter.Verdict{Refused: a.Refuse, Content: a.Content}
		return nil
	})
	switch {
	case errors.Is(err, errNo):
		return filter.Verdict{Refused: true}, nil
	case err != nil:
		return filter.Verdict{}, err
	}
	return v, nil
}

// trimmed is JSON text without what may stand before it (RFC 8259 §2).
func trimmed(text []byte) []byte {
	for len(text) > 1 && (text[0] == ' ' || text[0] == '\n' || text[0] == '\t' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}
