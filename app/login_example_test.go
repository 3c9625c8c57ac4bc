package app_test

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/auth"
)

// Whoever shows the word of the day is called what it asks for, for an hour.
func ExampleApp_Authenticate() {
	a := app.New()
	a.Authenticate(func(_ context.Context, l auth.Login) (auth.Identity, error) {
		if l.Name == "" || subtle.ConstantTimeCompare([]byte(l.Token), []byte("open sesame")) == 0 {
			return auth.Identity{}, auth.ErrRefused
		}
		return auth.Identity{Name: l.Name, Until: time.Now().Add(time.Hour)}, nil
	})
}
