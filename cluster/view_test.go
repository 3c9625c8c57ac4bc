package cluster

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// Of any two views every node takes the same one for the newer, also where two makers have given them one number.
func TestViewsAreOrdered(t *testing.T) {
	ids := []ViewID{
		{}, {View: 1}, {View: 1, Maker: channel.NewNode(1, 5)}, {View: 1, Maker: channel.NewNode(1, 6)}, {View: 1, Maker: channel.NewNode(2, 4)},
		{View: 2}, {View: 2, Maker: channel.NewNode(1, 1)},
	}
	for i, a := range ids {
		for k, b := range ids {
			if Less(a, b) != (i < k) {
				t.Errorf("%v before %v: %v", a, b, Less(a, b))
			}
		}
	}
}
