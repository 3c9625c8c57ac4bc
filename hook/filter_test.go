package hook

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/filter"
)

var said = filter.Said{Room: "r", Name: "al", UID: "7", Target: "bo", Content: []byte(`"hi"`), Address: netip.MustParseAddr("192.0.2.1")}

func TestFilterAnswers(t *testing.T) {
	var status int
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q map[string]any
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || !reflect.DeepEqual(q, map[string]any{"room": "r", "name": "al", "uid": "7", "target": "bo", "content": "hi", "address": "192.0.2.1"}) {
			t.Errorf("%v, %v", q, err)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	h, err := NewFilter(s.URL, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.CloseIdleConnections)
	no := filter.Verdict{Refused: true}
	for _, tc := range []struct {
		status int
		body   string
		want   filter.Verdict
		ok     bool
		failed int
	}{
		{200, `{}`, filter.Verdict{}, true, 0}, {200, " \n{\"more\":1}", filter.Verdict{}, true, 0}, {200, `{"refuse":false,"content": null}`, filter.Verdict{}, true, 0},
		{200, `{"content":"h*"}`, filter.Verdict{Content: []byte(`"h*"`)}, true, 0}, {200, `{"content":{"a":[1]}}`, filter.Verdict{Content: []byte(`{"a":[1]}`)}, true, 0},
		{200, `{"refuse":true}`, no, true, 0}, {401, ``, no, true, 0}, {403, strings.Repeat("x", 2*maxAnswer), no, true, 0},
		// Lies, and what is no answer.
		{200, ``, filter.Verdict{}, false, 1}, {200, `null`, filter.Verdict{}, false, 1}, {200, `[]`, filter.Verdict{}, false, 1}, {200, `{"refuse":"yes"}`, filter.Verdict{}, false, 1},
		{200, `{"content":"h`, filter.Verdict{}, false, 1}, {200, `{"content":"` + strings.Repeat("x", 2*maxAnswer) + `"}`, filter.Verdict{}, false, 1},
		{204, ``, filter.Verdict{}, false, 1}, {302, ``, filter.Verdict{}, false, 1}, {500, `{}`, filter.Verdict{}, false, 1}, {404, ``, filter.Verdict{}, false, 0},
	} {
		status, body, h.failed = tc.status, tc.body, 0
		v, err := h.Filter(context.Background(), said)
		if !reflect.DeepEqual(v, tc.want) || (err == nil) != tc.ok || h.failed != tc.failed {
			t.Errorf("%d %.40s: %+v, %v, %d failures", tc.status, tc.body, v, err, h.failed)
		}
	}
}

// A long message may be changed, however the service escapes it: else whoever says long ones could pass the filter, or have it rest for all.
func TestFilterOfLongMessages(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q saying
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		n := len(strings.Trim(string(q.Content), `"`)) / len("😀")
		_, _ = w.Write([]byte(`{"refuse":false,"content":"` + strings.Repeat(`\ud83d\ude00`, n) + `"}`))
	}))
	t.Cleanup(s.Close)
	h, err := NewFilter(s.URL, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.CloseIdleConnections)
	const emoji = 256 << 10 / len("😀")
	long := said
	long.Content = []byte(`"` + strings.Repeat("😀", emoji) + `"`)
	if v, err := h.Filter(context.Background(), long); err != nil || len(v.Content) != 2+12*emoji || h.failed != 0 {
		t.Errorf("%d bytes, %v, %d failures", len(v.Content), err, h.failed)
	}
}

// A service that fails too often rests, and is known to without a question; one that is tried rests for all others, and works for all when that was answered.
func TestFilterRests(t *testing.T) {
	status, asked := http.StatusInternalServerError, 0
	var h *Hook
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > failures && !h.Resting() {
			t.Error("others are asked while it is tried")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(s.Close)
	h, err := NewFilter(s.URL, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.CloseIdleConnections)
	now := time.Unix(1, 0)
	h.now = func() time.Time { return now }
	for i := range failures + 3 {
		if resting := h.Resting(); resting != (i >= failures) {
			t.Errorf("after %d failures it rests: %v", i, resting)
		}
		_, _ = h.Filter(context.Background(), said)
	}
	if asked != failures {
		t.Errorf("asked %d times", asked)
	}
	now = now.Add(pause)
	if h.Resting() {
		t.Error("nobody tries it")
	}
	_, _ = h.Filter(context.Background(), said)
	if !h.Resting() || asked != failures+1 {
		t.Errorf("it has failed again, was asked %d times", asked)
	}
	now, status = now.Add(pause), http.StatusOK
	if _, err := h.Filter(context.Background(), said); err != nil || h.Resting() {
		t.Errorf("it works: %v", err)
	}
}
