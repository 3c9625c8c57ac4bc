package pomelod_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every block of Go in docs/HANDLERS.md stands, line by line, in a file that is compiled and tested.
func TestHandlersCodeIsTested(t *testing.T) {
	page, err := os.ReadFile("docs/HANDLERS.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, pattern := range []string{"examples/*/*.go", "app/*.go", "app/apptest/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, string(b))
		}
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		code, _, closed := strings.Cut(block, "```")
		found := false
		for _, source := range sources {
			found = found || strings.Contains(source, code)
		}
		if !closed || !found {
			t.Errorf("no tested file has this code of docs/HANDLERS.md:\n%s", code)
		}
	}
}
