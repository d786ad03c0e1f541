package network

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/kernel/sysctl"
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
		path, third := filepath.Join(t.TempDir(), "sysctls.json"), filepath.Join(t.TempDir(), "sysctls.json")
		b, err := openSysctlBook(path, third)
		if err == nil {
			err = errors.Join(b.assume(forward4, "0"), how(path))
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if b, err = openSysctlBook(path, third); err != nil || b.was[forward4] != "0" {
				t.Fatalf("%s: %v, %v", name, b, err)
			}
		}
		// As when all of EXEC_ROOT/state is lost.
		if err := errors.Join(how(b.copy()), how(path)); err != nil {
			t.Fatal(err)
		}
		if b, err = openSysctlBook(path, third); err != nil || b.was[forward4] != "0" {
			t.Fatalf("%s, and its copy: %v, %v", name, b, err)
		}
		if err := errors.Join(how(b.copy()), how(path), how(third)); err != nil {
			t.Fatal(err)
		}
		if b, err = openSysctlBook(path, third); err != nil || b.changed(forward4) {
			t.Fatalf("%s, and both copies: %v, %v", name, b, err)
		}
		if err := b.assume(forward6, "1"); err != nil {
			t.Fatal(err)
		}
		if b, err = openSysctlBook(path, third); err != nil || b.was[forward6] != "1" {
			t.Errorf("%s, after that: %v, %v", name, b, err)
		}
	}
}

// TestSysctlsOfAnotherKernel: the copy in the data root is believed of the boot and the
// namespace that it is of alone, and is gone when nothing is changed any more.
func TestSysctlsOfAnotherKernel(t *testing.T) {
	for name, change := range map[string][2]string{
		"another boot":      {`"boot":"`, `"boot":"x`},
		"another namespace": {`"namespace":`, `"namespace":1`},
	} {
		third := filepath.Join(t.TempDir(), "sysctls.json")
		b, err := openSysctlBook(filepath.Join(t.TempDir(), "sysctls.json"), third)
		if err == nil {
			err = b.assume(forward4, "0")
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(third)
		if err == nil {
			err = os.WriteFile(third, bytes.Replace(raw, []byte(change[0]), []byte(change[1]), 1), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "sysctls.json")
		if b, err = openSysctlBook(path, third); err != nil || b.changed(forward4) {
			t.Errorf("%s is believed: %v, %v", name, b, err)
		}
		if err := errors.Join(b.assume(forward6, "1"), func() error { delete(b.was, forward6); return b.rewrite() }()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(third); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the copy stays: %v", name, err)
		}
	}
}

// TestForwardingAfterALoss: a teardown turns forwarding off again though EXEC_ROOT/state was
// lost as a whole since it was turned on.
func TestForwardingAfterALoss(t *testing.T) {
	h := newHost(t)
	if err := errors.Join(h.Close(), h.store.Close(), os.RemoveAll(filepath.Join(h.cfg.ExecRoot, "state"))); err != nil {
		t.Fatal(err)
	}
	h.start(t)
	if !h.sysctls.changed(forward4) {
		t.Error("it is not known who turned forwarding on")
	}
	if err := h.sysctls.restoreAll(); err != nil {
		t.Error(err)
	}
	if on, err := sysctl.Get(forward4); err != nil || on != "0" {
		t.Errorf("forwarding is %q, %v", on, err)
	}
}
