package codec

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vectorSkips names the cases that are not followed, by file and index, with the reason. One that skips nothing fails the test.
var vectorSkips = map[string]map[int]string{
	"sio.json": {
		30: "only clients write strings, so there is no encoder to refuse a route of 256 units",
	},
	"protobuf.json": {
		10: "null for a required string counts as missing by a Rule of §3.2: TestEncodeFillsRequiredStrings",
		11: "a number for a string becomes text by a Rule of §3.2: TestEncodeMakesValuesFit",
	},
	"crc.json": {
		136: notText, 137: notText, 138: notText, 139: notText, 140: notText, 141: notText, 142: notText,
	},
}

const notText = "not a string: its handler answers it before anything is dispatched"

// runVectors runs every case of a file that is not skipped and holds the sum against the file's own count.
func runVectors[C any](t *testing.T, file string, run func(*testing.T, C)) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Count int
		Cases []C
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	skips := maps.Clone(vectorSkips[file])
	ran, skipped := 0, 0
	for i, c := range f.Cases {
		if skips[i] != "" {
			delete(skips, i)
			skipped++
			continue
		}
		name := strconv.Itoa(i)
		if c, ok := any(c).(fmt.Stringer); ok { // its kind, and what else it is called
			kind, rest, _ := strings.Cut(c.String(), " ")
			name = strings.TrimSpace(kind + " " + name + " " + rest)
		}
		t.Run(name, func(t *testing.T) { run(t, c) })
		ran++
	}
	if ran+skipped != f.Count || f.Count == 0 {
		t.Errorf("%s: ran %d and skipped %d of %d cases", file, ran, skipped, f.Count)
	}
	for i, why := range skips {
		t.Errorf("%s: the skip of case %d is not needed: %s", file, i, why)
	}
	t.Logf("%s: ran %d, skipped %d", file, ran, skipped)
}
