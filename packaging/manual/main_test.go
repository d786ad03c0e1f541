package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPages: each page is titled by its own command, and its lines are not stretched.
func TestPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := write("1.2.3", "2026-01-02T03:04:05Z", dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fairlead", "fairlead-run", "fairlead-network-create", "fairlead-daemon"} {
		page, err := os.ReadFile(filepath.Join(dir, "man", name+".1"))
		if want := `.TH "` + strings.ToUpper(name) + `" "1" "Jan 2026" "Fairlead 1.2.3" "Fairlead"` + "\n.ad l\n"; err != nil || !strings.Contains(string(page), want) {
			t.Errorf("%s: %v; it begins with %.90q, want %q", name, err, page, want)
		}
	}
}
