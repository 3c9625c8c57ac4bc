package main

import (
	"strings"
	"testing"
)

func TestMarkComesBack(t *testing.T) {
	for _, m := range []mark{{0, 1, 0}, {maxSenders - 1, maxNumber, 1<<54 - 1}, {4711, 42, 123456789012345}} {
		text := string(m.append(nil))
		if len(text) != markBytes {
			t.Fatalf("%q has %d bytes", text, len(text))
		}
		for _, body := range []string{
			text,
			`{"msg":"` + text + `....","from":"m00001","target":"*"}`,
			`{"from":"m~1","route":"onChat","msg":"` + text + `"}`,
			"\x0a\x20" + text + "\x12\x01a",
		} {
			if got, ok := findMark([]byte(body)); !ok || got != m {
				t.Errorf("%v in %q found as %v, %v", m, body, got, ok)
			}
		}
	}
}

func TestNoMark(t *testing.T) {
	whole := string(mark{1, 2, 3}.append(nil))
	for _, body := range []string{"", "~", `{"route":"onAdd","user":"m00001"}`, whole[:markBytes-1], `{"msg":"` + whole[:markBytes-1], strings.Replace(whole, "1", "!", 1)} {
		if m, ok := findMark([]byte(body)); ok {
			t.Errorf("%q has the mark %v", body, m)
		}
	}
}

func TestStreamTellsLossOrderAndDuplicates(t *testing.T) {
	for name, c := range map[string]struct {
		numbers  []uint32
		accepted uint32
		want     faults
	}{
		"all well":              {[]uint32{1, 2, 3, 4}, 4, faults{}},
		"one lost":              {[]uint32{1, 2, 4}, 4, faults{Lost: 1}},
		"the last lost":         {[]uint32{1, 2, 3}, 4, faults{Lost: 1}},
		"all lost":              {nil, 4, faults{Lost: 4}},
		"a refused one missing": {[]uint32{1, 2, 4}, 3, faults{}},
		"a refused one there":   {[]uint32{1, 2, 3, 4}, 3, faults{Strange: 1}},
		"two swapped":           {[]uint32{1, 3, 2, 4}, 4, faults{Disordered: 1}},
		"one twice":             {[]uint32{1, 2, 2, 3, 4}, 4, faults{Duplicated: 1}},
		"one twice, later":      {[]uint32{1, 2, 3, 4, 2}, 4, faults{Duplicated: 1}},
		"a late one twice":      {[]uint32{1, 3, 2, 2, 4}, 4, faults{Disordered: 1, Duplicated: 1}},
		"duplicate hides loss":  {[]uint32{1, 2, 2, 4}, 4, faults{Lost: 1, Duplicated: 1}},
		"far behind":            {[]uint32{1, 100, 2}, 3, faults{Disordered: 1, Lost: 1}},
	} {
		var s stream
		var f faults
		for _, n := range c.numbers {
			s.take(n, &f)
		}
		s.end(c.accepted, c.accepted, &f)
		if f.Lost != c.want.Lost || f.Disordered != c.want.Disordered || f.Duplicated != c.want.Duplicated || f.Strange != c.want.Strange {
			t.Errorf("%s: %+v, want %+v", name, f, c.want)
		}
		if want := name != "all well" && name != "a refused one missing"; f.void() != want {
			t.Errorf("%s: void is %v", name, f.void())
		}
	}
}

func TestStreamForgivesWhatHasNoAnswerYet(t *testing.T) {
	for n, want := range map[uint32]faults{1: {Lost: 1}, 2: {}, 3: {}, 4: {}, 5: {Strange: 1}} {
		var s stream
		var f faults
		for i := range n {
			s.take(i+1, &f)
		}
		s.end(2, 4, &f)
		if f.Lost != want.Lost || f.Strange != want.Strange {
			t.Errorf("%d delivered: %+v, want %+v", n, f, want)
		}
	}
}
