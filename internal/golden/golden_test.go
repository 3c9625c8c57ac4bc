package golden

import (
	"strings"
	"testing"
)

// Bytes that change under the same version are told apart from all that may be: a new version, and a new example.
func TestStates(t *testing.T) {
	of := func(version uint64, lines ...string) *States {
		s := New("stateVersion", version)
		for _, line := range lines {
			what, is, _ := strings.Cut(line, "=")
			s.Bytes(what, []byte(is))
		}
		return s
	}
	before := of(1, "a=x", "b=y").text()
	for _, tc := range []struct {
		now     *States
		changed bool
		says    string
	}{
		{of(1, "a=x", "b=y"), false, ""},
		{of(1, "a=x", "b=z"), true, "b was 79\nand is now 7a"},
		{of(1, "a=x"), true, "b was 79\nand is now nothing"},
		{of(1, "a=x", "c=z", "b=y"), false, "run this test with -write-states"},
		{of(2, "a=x", "b=z"), false, "is not that of stateVersion 2"},
	} {
		if got := tc.now.compare(before); tc.now.changed(before) != tc.changed || !strings.Contains(got, tc.says) || (got == "") != (tc.says == "") {
			t.Errorf("%q: changed %v, %s", tc.now.lines, tc.now.changed(before), got)
		}
	}
	if of(1, "a=x").changed("") {
		t.Error("an empty file cannot be written")
	}
}
