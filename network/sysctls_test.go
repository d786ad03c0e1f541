package network

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestDamagedSysctls: what they were before us is had back of the record's copy; where
// that is damaged as well, a daemon starts all the same, and notes what it changes.
func TestDamagedSysctls(t *testing.T) {
	for name, how := range map[string]func(path string) error{
		"torn":         func(p string) error { return os.Truncate(p, 5) },
		"empty":        func(p string) error { return os.Truncate(p, 0) },
		"null":         func(p string) error { return os.WriteFile(p, []byte("null"), 0o600) },
		"another kind": func(p string) error { return os.WriteFile(p, []byte(`{"net.ipv4.ip_forward":0}`), 0o600) },
		"missing":      os.Remove,
	} {
		path := filepath.Join(t.TempDir(), "sysctls.json")
		b, err := openSysctlBook(path)
		if err == nil {
			err = errors.Join(b.assume(forward4, "0"), how(path))
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if b, err = openSysctlBook(path); err != nil || b.was[forward4] != "0" {
				t.Fatalf("%s: %v, %v", name, b, err)
			}
		}
		if err := errors.Join(how(b.copy()), how(path)); err != nil {
			t.Fatal(err)
		}
		if b, err = openSysctlBook(path); err != nil || b.changed(forward4) {
			t.Fatalf("%s, and its copy: %v, %v", name, b, err)
		}
		if err := b.assume(forward6, "1"); err != nil {
			t.Fatal(err)
		}
		if b, err = openSysctlBook(path); err != nil || b.was[forward6] != "1" {
			t.Errorf("%s, after that: %v, %v", name, b, err)
		}
	}
}
