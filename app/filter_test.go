package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// The name that a filter has judged is the one by which a session enters, however often a body has one, and however that is spelt.
func TestFiltersJudgeWhatIsActedOn(t *testing.T) {
	a := app.New()
	a.Before("connector.entryHandler.enter", func(c *app.Call) error {
		var body struct{ Username string }
		if err := c.Decode(&body); err != nil || body.Username != "ann" {
			return &app.Error{Code: 401}
		}
		return nil
	})
	s := apptest.Start(t, a)
	for i, tc := range []struct {
		members string
		enters  bool
	}{
		{`"username":"ann"`, true},
		{`"username":"eve"`, false},
		{`"username":"eve","Username":"ann"`, false},
		{`"Username":"ann","username":"eve"`, false},
		{`"username":"eve","u\u017fername":"ann"`, false},
		{`"username":"eve","username":"ann"`, true}, // the last one counts for everybody
		{`"username":"ann","username":"eve"`, false},
		{`"username":"ann","more":1,"MORE":2`, false},
	} {
		room := fmt.Sprint("r", i)
		err := s.Connect().Request("connector.entryHandler.enter", json.RawMessage(fmt.Sprintf(`{%s,"rid":%q}`, tc.members, room)), nil)
		if tc.enters != (err == nil) || err != nil && !errors.Is(err, client.ErrRefused) {
			t.Errorf("%s: %v", tc.members, err)
		}
		if names, err := a.Room(room).Members(t.Context()); err != nil || tc.enters != (fmt.Sprint(names) == "[ann]") || !tc.enters && len(names) > 0 {
			t.Errorf("%s: members %q, %v", tc.members, names, err)
		}
	}
}
