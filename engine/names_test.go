package engine

import (
	"strings"
	"testing"
)

// TestNewID: no ID begins like an address; one of 281 would.
func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 10_000 {
		id := newID()
		if len(id) != 64 || seen[id] {
			t.Fatalf("ID %q of %d digits, seen before: %v", id, len(id), seen[id])
		}
		seen[id] = true
		if strings.Trim(id[:12], "0123456789") == "" {
			t.Fatalf("ID %s makes a host name of digits", id)
		}
	}
}
