package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// calls hands over each call by a selector, x.Name(…), in the program's own sources.
func calls(t *testing.T, visit func(at token.Position, name string, args []ast.Expr)) {
	t.Helper()
	files := token.NewFileSet()
	own := []string{"api", "capture", "daemon", "dns", "engine", "internal", "network", "proxy", "relay", "store", "streams"}
	for _, dir := range own {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "lab":
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if f, ok := call.Fun.(*ast.SelectorExpr); ok {
						visit(files.Position(call.Pos()), f.Sel.Name, call.Args)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// literal is the text of a string literal.
func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// keys are every second one of the arguments; complete is false where one is no literal.
func keys(args []ast.Expr) (out []string, complete bool) {
	for i := 0; i < len(args); i += 2 {
		key, ok := literal(args[i])
		if !ok {
			return out, false
		}
		out = append(out, key)
	}
	return out, true
}

// TestOwnEventsAreListed: docs/EVENTS.md has every event of the program's own that the
// source tells of, with its attributes, and no other.
func TestOwnEventsAreListed(t *testing.T) {
	t.Parallel()
	told := make(map[string]map[string]bool)
	calls(t, func(at token.Position, name string, args []ast.Expr) {
		if name != "Tell" || len(args) < 3 {
			return
		}
		kind, ok := literal(args[0])
		action, ok2 := literal(args[1])
		attributes, complete := keys(args[3:])
		if !ok || !ok2 || !complete {
			t.Errorf("%s: an event is not written out", at)
		}
		if told[kind+" "+action] == nil {
			told[kind+" "+action] = make(map[string]bool)
		}
		for _, a := range attributes {
			told[kind+" "+action][a] = true
		}
	})
	source, listed := make(map[string]string), make(map[string]string)
	for event, attributes := range told {
		source[event] = strings.Join(slices.Sorted(maps.Keys(attributes)), ", ")
	}
	text, err := os.ReadFile("EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- events begin -->")
	table, _, _ = strings.Cut(table, "<!-- events end -->")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || !strings.Contains(cells[0]+cells[1], " *") || strings.Contains(cells[1], "lost") {
			continue // Docker's; and the one that is told to a single listener
		}
		event := strings.TrimPrefix(strings.TrimSuffix(cells[0], " *"), "| ") + " " + strings.TrimSuffix(cells[1], " *")
		listed[event] = strings.Trim(cells[3], " |\n")
	}
	if diff := cmp.Diff(source, listed); diff != "" || len(listed) < 15 {
		t.Errorf("-source +EVENTS.md\n%s", diff)
	}
}

// TestLogAttributes: the log has one name for each thing, and who logs an error says in
// which operation.
func TestLogAttributes(t *testing.T) {
	t.Parallel()
	other := map[string]string{
		"error": "err", "reason": "err", "cause": "err", "took": "duration", "elapsed": "duration", "op": "operation", "action": "operation",
		"process": "helper", "sandbox": "container", "owner": "container", "name": "the kind of thing", "interface": "link", "if": "link",
	}
	first := map[string]int{"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2}
	seen := 0
	calls(t, func(at token.Position, name string, args []ast.Expr) {
		from, logs := first[name]
		if !logs || len(args) < from {
			return
		}
		if _, message := literal(args[from-1]); !message {
			return // no line of the log, or one that has no attributes
		}
		attributes, complete := keys(args[from:])
		if !complete {
			return
		}
		seen++
		for _, key := range attributes {
			if key != strings.ToLower(key) || strings.ContainsAny(key, " -.") {
				t.Errorf("%s: the attribute %q is no word", at, key)
			}
			if want := other[key]; want != "" {
				t.Errorf("%s: %q is called %s", at, key, want)
			}
		}
		helper := strings.Contains(at.Filename, "/relay/") || strings.Contains(at.Filename, "/streams/") || strings.Contains(at.Filename, "/proxy/") ||
			strings.Contains(at.Filename, "/dns/") || strings.Contains(at.Filename, "/internal/") || strings.Contains(at.Filename, "/runtime/")
		failure := strings.HasPrefix(name, "Warn") || strings.HasPrefix(name, "Error")
		if failure && !helper && slices.Contains(attributes, "err") && !slices.Contains(attributes, "operation") && !strings.HasSuffix(at.Filename, "api/stream.go") {
			t.Errorf("%s: an error is logged without the operation that failed", at)
		}
	})
	if seen < 150 {
		t.Errorf("%d lines of the log were found", seen)
	}
}
