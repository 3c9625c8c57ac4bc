package main

import "testing"

// Every bug of the lists can be planted: whoever changes a line that one is about repairs it, or deletes it.
func TestEveryMutantFits(t *testing.T) {
	const root = "../.."
	all, err := readAll(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if _, err := m.edit(root); err != nil {
			t.Error(err)
		}
	}
}
