//go:build linux

package abuse

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Every edit still finds the line that it replaces, once: so a defence that moves is noticed here, and not only when its scenario runs.
// Edits are read from the source of these tests, where they stand as {"file", "old", "new"}.
func TestEdits(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			list, ok := n.(*ast.CompositeLit)
			if !ok || len(list.Elts) != 3 {
				return true
			}
			path, old := literal(list.Elts[0]), literal(list.Elts[1])
			if !strings.HasSuffix(path, ".go") || !strings.Contains(path, "/") {
				return true
			}
			found++
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if n := strings.Count(string(text), old); n != 1 {
				t.Errorf("%s: %s has %d times, not once: %s", name, path, n, old)
			}
			return true
		})
	}
	if found < 30 {
		t.Errorf("only %d edits were found", found)
	}
}

// literal is the value of a string that is written out, "" for anything else.
func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value)
	return text
}
