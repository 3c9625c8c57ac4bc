//go:build linux

package main

import (
	"errors"
	"slices"
	"testing"
)

func TestRelay(t *testing.T) {
	y := newRelay(3)
	var order []int
	err := y.run(func(i int) error {
		for range i + 1 { // run 0 ends first
			order = append(order, i)
			if err := y.rest(i); err != nil {
				return err
			}
		}
		return nil
	})
	if want := []int{0, 1, 2, 1, 2, 2}; err != nil || !slices.Equal(order, want) {
		t.Errorf("ran %v (%v), want %v", order, err, want)
	}
}

func TestRelayEndsAllWhenOneFails(t *testing.T) {
	y, broken := newRelay(3), errors.New("broken")
	var began int
	err := y.run(func(i int) error {
		began++
		if i == 1 {
			return broken
		}
		return y.rest(i)
	})
	if err != broken {
		t.Errorf("got %v, want that of the run that failed", err)
	}
	if began != 2 {
		t.Errorf("%d runs began, want the two before it was known", began)
	}
}
