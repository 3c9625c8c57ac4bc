package pomelod_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plain are exported functions that an example would say no more of than their names do.
var plain = map[string]string{
	"app":    "Error.Error RefusedError.Error Room.Name Session.Place",
	"client": "KickedError.Error",
}

// Every exported function and method of the packages that programs and bots are written with is called in an example that runs, and so whoever adds one shows how it is used.
func TestExportedFunctionsHaveExamples(t *testing.T) {
	for pkg, exempt := range plain {
		called, methods, declared := map[string]bool{}, map[string]bool{}, []string(nil)
		for _, file := range goFiles(t, pkg) {
			test := strings.HasSuffix(file, "_test.go")
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				f, is := d.(*ast.FuncDecl)
				switch {
				case !is:
				case test && strings.HasPrefix(f.Name.Name, "Example") && f.Recv == nil:
					if name := strings.TrimPrefix(f.Name.Name, "Example"); strings.Contains(name, "_") {
						methods[strings.Replace(name, "_", ".", 1)] = true
					}
					calls(f.Body, called)
				case !test && f.Name.IsExported():
					if f.Recv == nil {
						declared = append(declared, f.Name.Name)
					} else if of := receiver(f); ast.IsExported(of) {
						declared = append(declared, of+"."+f.Name.Name)
					}
				}
			}
		}
		if len(declared) < 10 || len(called) < 10 {
			t.Fatalf("%s: %d functions, %d names in examples: it does not find them", pkg, len(declared), len(called))
		}
		allowed := strings.Fields(exempt)
		for _, name := range declared {
			_, method, _ := strings.Cut(name, ".")
			if method == "" {
				method = name
			}
			shown := called[method] || methods[name]
			switch exempt := slices.Contains(allowed, name); {
			case shown && exempt:
				t.Errorf("%s.%s is in an example: take it off the list", pkg, name)
			case !shown && !exempt:
				t.Errorf("%s.%s is in no example", pkg, name)
			}
		}
		for _, name := range allowed {
			if !slices.Contains(declared, name) {
				t.Errorf("%s.%s is on the list, and is not there", pkg, name)
			}
		}
	}
}

// unmixed are functions that the program that does everything at once does not call: errors, and a judge without whose word nobody may enter.
const unmixed = "App.Authenticate Error.Error RefusedError.Error"

// The program that the race detector watches calls every exported function of package app.
func TestEverythingAtOnceIsEverything(t *testing.T) {
	called := map[string]bool{}
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("app", "everything_test.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	calls(parsed, called)
	for _, file := range goFiles(t, "app") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || !f.Name.IsExported() || f.Recv != nil && !ast.IsExported(receiver(f)) {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				name = receiver(f) + "." + name
			}
			if !called[f.Name.Name] && !slices.Contains(strings.Fields(unmixed), name) {
				t.Errorf("app/everything_test.go does not call %s", name)
			}
		}
	}
}

// calls notes the names of the functions of other packages, and of the methods, that are called in n.
func calls(n ast.Node, called map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		c, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		fun := c.Fun
		if x, is := fun.(*ast.IndexExpr); is { // of a type
			fun = x.X
		}
		if s, is := fun.(*ast.SelectorExpr); is {
			called[s.Sel.Name] = true
		}
		return true
	})
}

// receiver is the name of a method's type.
func receiver(f *ast.FuncDecl) string {
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// goFiles are the files of a package.
func goFiles(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pkg, len(files), err)
	}
	return files
}
