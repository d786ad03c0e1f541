package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestIdentity: it stays, another data root has another, and what is no identity is
// replaced.
func TestIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := must(identity(dir))
	if again := must(identity(dir)); again != first || !uuid.MatchString(first) {
		t.Errorf("%q, then %q", first, again)
	}
	if other := must(identity(t.TempDir())); other == first {
		t.Error("two data roots have one identity")
	}
	path := filepath.Join(dir, "engine-id")
	if err := os.WriteFile(path, []byte("garbled"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mended := must(identity(dir)); mended == first || !uuid.MatchString(mended) {
		t.Errorf("%q", mended)
	}
	if _, err := identity(filepath.Join(dir, "nosuch")); err == nil {
		t.Error("it was kept in a folder that is not there")
	}
}
