// Package docs holds the project's documents. Its test keeps what they point at from
// going away unnoticed; what they say of the program is tested there.
package docs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

var (
	// link is [text](target) in Markdown.
	link = regexp.MustCompile(`\[([^][]*)\]\(([^()\s]+)\)`)
	// inCode is what is not Markdown: fenced blocks and code spans.
	inCode = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	// idle is a container of the image demo, which has no command of its own, without one.
	idle = regexp.MustCompile(`(?m)^.*\bfairlead (?:plan )?(?:--\S+ )*(?:run|create) .*\bdemo *(?:#.*|\x60.*)?$`)
)

// documents are all Markdown files, but for what tools put there.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "bin" || d.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil || len(paths) < 4 {
		t.Fatalf("documents: %q, %v", paths, err)
	}
	return paths
}

// resolve says what is wrong with a link from a document: a file that is not there,
// or, after the #, a test that the file has not. Addresses of other sites are not
// asked.
func resolve(document, target string) error {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return nil
	}
	path, name, named := strings.Cut(target, "#")
	if path == "" {
		return nil // a place in the document itself
	}
	path = filepath.Join(filepath.Dir(document), path)
	text, err := os.ReadFile(path)
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		return nil
	}
	switch {
	case err != nil:
		return err
	case named && strings.HasSuffix(path, "_test.go") && !regexp.MustCompile(`(?m)^func `+regexp.QuoteMeta(name)+`\(\w+ \*testing\.[TBF]\)`).Match(text):
		return fmt.Errorf("%s has no test %s", path, name)
	}
	return nil
}

// TestLinks: every link of every document leads somewhere, those to tests to a test of
// that name.
func TestLinks(t *testing.T) {
	t.Parallel()
	tests := 0
	for _, document := range documents(t) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(string(text), ""), -1) {
			if err := resolve(document, m[2]); err != nil {
				t.Errorf("%s: [%s](%s): %v", document, m[1], m[2], err)
			}
			if strings.Contains(m[2], "_test.go#") {
				tests++
			}
		}
	}
	if tests < 50 {
		t.Errorf("only %d links to tests were seen", tests)
	}
}

// TestLinksFail: TestLinks would see a link that leads nowhere.
func TestLinksFail(t *testing.T) {
	t.Parallel()
	for target, good := range map[string]bool{
		"ARCHITECTURE.md": true, "../docs": true, "docs_test.go#TestLinks": true, "https://example.com/x": true,
		"NOTHING.md": false, "docs_test.go#TestNothing": false,
	} {
		if err := resolve("FEATURES.md", target); (err == nil) != good {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// scenarios are the rows that SCENARIOS.md has to have, each with a test of its own.
var scenarios = map[string]bool{
	"A1": true, "A2": true, "A3": true, "A4": true, "A5": true, "A6": true, "A7": true, "A8": true, "A9": true,
	"A10": true, "A11": true, "A12": true, "A13": true, "A14": true, "A15": true, "A16": true, "A17": true, "A18": true,
	"B1": true, "B2": true, "B3": true, "B4": true, "B5": true, "B6": true,
	"C1": true, "C2": true, "C3": true, "C4": true, "C5": true,
	"D1": true, "D2": true, "D3": true, "D4": true, "D5": true, "D6": true,
	"E1": true, "E2": true, "E3": true, "E4": true, "E5": true, "E6": true,
}

// TestScenarios: the table has every row, once, and each with its tests (TestLinks
// sees that they are there).
func TestScenarios(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("SCENARIOS.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-E]\d+) \|(.*)\|$`).FindAllStringSubmatch(string(text), -1) {
		seen[m[1]]++
		want, known := scenarios[m[1]]
		has := slices.ContainsFunc(link.FindAllStringSubmatch(m[2], -1), func(l []string) bool { return strings.HasPrefix(l[1], "Test"+m[1]) })
		if !known || has != want {
			t.Errorf("row %s: known: %t; names a test of its own: %t, want %t", m[1], known, has, want)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(scenarios)) {
		if seen[id] != 1 {
			t.Errorf("row %s is there %d times", id, seen[id])
		}
	}
}

// TestExamplesHaveACommand: what make run imports has none.
func TestExamplesHaveACommand(t *testing.T) {
	t.Parallel()
	helps, err := filepath.Glob(filepath.Join(root, "cli/testdata/help/*.txt"))
	if err != nil || len(helps) == 0 {
		t.Fatal(helps, err)
	}
	for _, path := range append(documents(t), helps...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range idle.FindAllString(string(text), -1) {
			t.Errorf("%s: %s", path, line)
		}
	}
}
