package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// whole is a record that says which it is.
type whole struct{ ID, Is string }

func (w whole) Whole(id string) error {
	if w.ID != id {
		return errors.New("it is another's")
	}
	return nil
}

func opened(t *testing.T, dir string) *Journal[whole] {
	t.Helper()
	j, _, err := OpenJournal[whole](dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestDamagedLease is had back of its copy, whatever became of it; without a copy it is
// said, and the others stand.
func TestDamagedLease(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(path string) error{
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"torn":      func(p string) error { return os.Truncate(p, 7) },
		"nothing":   func(p string) error { return os.WriteFile(p, []byte("{}"), 0o600) },
		"null":      func(p string) error { return os.WriteFile(p, []byte("null"), 0o600) },
		"another's": func(p string) error { return os.WriteFile(p, []byte(`{"ID":"b","Is":"else"}`), 0o600) },
		"missing":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := opened(t, dir)
			for _, id := range []string{"a", "b"} {
				if err := errors.Join(j.Begin("attach", id, whole{id, "old"}), j.Commit("attach", id), j.Renew(id, whole{id, "new"})); err != nil {
					t.Fatal(err)
				}
			}
			j.Settle()
			if err := how(j.lease("a")); err != nil {
				t.Fatal(err)
			}
			for _, want := range [][]string{{"a"}, nil} { // the second time all is well
				j = opened(t, dir)
				list, regained, err := j.Leases()
				j.Settle()
				slices.SortFunc(list, func(x, y whole) int { return int(x.ID[0]) - int(y.ID[0]) })
				if err != nil || !slices.Equal(regained, want) || !slices.Equal(list, []whole{{"a", "new"}, {"b", "new"}}) {
					t.Fatalf("leases %v, regained %v, want %v: %v", list, regained, want, err)
				}
			}
			if err := errors.Join(how(j.lease("a")), os.Truncate(j.copies.path("a"), 3)); err != nil {
				t.Fatal(err)
			}
			list, regained, err := j.Leases()
			if len(list) != 1 || list[0].ID != "b" || len(regained) > 0 || (err == nil) != (name == "missing") {
				t.Errorf("without a copy: leases %v, regained %v, %v", list, regained, err)
			}
		})
	}
}

// TestEndedLeaseStaysEnded: nothing of it is had back.
func TestEndedLeaseStaysEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := opened(t, dir)
	for _, id := range []string{"a", "b", "c"} {
		if err := errors.Join(j.Begin("attach", id, whole{ID: id}), j.Commit("attach", id)); err != nil {
			t.Fatal(err)
		}
	}
	j.Settle()
	kept, err := os.ReadFile(j.copies.path("c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Reopen("detach", "a"), j.Clear("detach", "a"), j.Drop("b"), j.Reopen("detach", "c"),
		os.WriteFile(j.copies.path("c"), kept, 0o600)); err != nil { // as a crash before its removal leaves it
		t.Fatal(err)
	}
	j = opened(t, dir)
	if list, regained, err := j.Leases(); len(list)+len(regained) > 0 || err != nil {
		t.Errorf("leases %v, regained %v, %v", list, regained, err)
	}
	if left, err := filepath.Glob(filepath.Join(j.copies.dir, "*")); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestDamagedIntent is put aside and said; the others are read.
func TestDamagedIntent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := opened(t, dir)
	for _, id := range []string{"a", "b", "c"} {
		if err := j.Begin("detach", id, whole{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Truncate(j.intent("detach", "a"), 4), os.WriteFile(j.intent("detach", "b"), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	list, err := j.Intents()
	if len(list) != 1 || list[0].ID != "c" || err == nil {
		t.Errorf("intents %v, %v", list, err)
	}
	for _, name := range []string{"detach@a", "detach@b"} {
		if _, err := os.Stat(filepath.Join(dir, "state", "damaged", name)); err != nil {
			t.Error(err)
		}
	}
	if list, err := j.Intents(); len(list) != 1 || err != nil {
		t.Errorf("the second time: %v, %v", list, err)
	}
}
