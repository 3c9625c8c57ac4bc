package seed

import "testing"

func TestSeedFollowsFromTheName(t *testing.T) {
	a, _ := of("", "TestA")
	again, _ := of("", "TestA")
	b, _ := of("", "TestB")
	if a != again || a == b {
		t.Errorf("TestA has %d and %d, TestB %d", a, again, b)
	}
	if n, err := of("17", "TestA"); n != 17 || err != nil {
		t.Errorf("-seed 17 is %d, %v", n, err)
	}
	if _, err := of("often", "TestA"); err == nil {
		t.Error("-seed often was accepted")
	}
}
