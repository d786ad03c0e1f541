package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type record struct{ Name string }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBucketKeepsValuesAcrossReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	id := s.ID()
	b, err := NewBucket[record](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := b.Put(fmt.Sprintf("%03d", i), record{fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := b.Delete("007"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if s.ID() != id || len(id) != 12 {
		t.Fatalf("the store's ID changed from %q to %q", id, s.ID())
	}
	b, err = NewBucket[record](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	all, err := b.All()
	if err != nil || len(all) != 49 {
		t.Fatalf("%d values, %v; want 49", len(all), err)
	}
	if v, err := b.Get("042"); err != nil || v.Name != "42" {
		t.Fatalf("Get = %v, %v", v, err)
	}
	if _, err := b.Get("007"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("Get of a deleted key: %v", err)
	}
}

func TestOneBadWriteDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	b, err := NewBucket[record](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			key := fmt.Sprint(i)
			if i == 7 {
				key = "" // bbolt refuses an empty key
			}
			if err := b.Put(key, record{}); (err != nil) != (i == 7) {
				t.Errorf("Put %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
}

func TestJournalMovesRecordsByRename(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, stale, err := OpenJournal[record](dir)
	if err != nil || stale {
		t.Fatal(stale, err)
	}
	state := func() string {
		j, _, err := OpenJournal[record](dir)
		if err != nil {
			t.Fatal(err)
		}
		in, err := j.Intents()
		if err != nil {
			t.Fatal(err)
		}
		leases, _, err := j.Leases()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(in, leases)
	}
	steps := []struct {
		do   func() error
		want string
	}{
		{func() error { return j.Begin("attach", "c1", record{"web"}) }, "[{attach c1 {web}}] []"},
		{func() error { return j.Commit("attach", "c1") }, "[] [{web}]"},
		{func() error { return j.Reopen("detach", "c1") }, "[{detach c1 {web}}] []"},
		{func() error { return j.Clear("detach", "c1") }, "[] []"},
		{func() error { return j.Clear("detach", "c1") }, "[] []"},
	}
	for i, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(i, err)
		}
		if got := state(); got != s.want {
			t.Fatalf("after step %d: %s, want %s", i, got, s.want)
		}
	}
}

func TestJournalOfAnEarlierBootIsDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, err := OpenJournal[record](dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Begin("attach", "c1", record{}), j.Commit("attach", "c1"), j.Begin("attach", "c2", record{})); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", "boot_id"), []byte("an earlier one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, stale, err := OpenJournal[record](dir)
	if err != nil || !stale {
		t.Fatalf("stale = %v, %v", stale, err)
	}
	in, err1 := j.Intents()
	leases, _, err2 := j.Leases()
	if err := errors.Join(err1, err2); err != nil || len(in)+len(leases) != 0 {
		t.Fatal(in, leases, err)
	}
}

func TestTornRecordsAreReportedNotHidden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _, err := OpenJournal[record](dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Begin("attach", "c1", record{"web"}), j.Commit("attach", "c1")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"c2", "c3.tmp"} {
		if err := os.WriteFile(filepath.Join(j.leases, f), []byte(`{"Na`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leases, _, err := j.Leases()
	if len(leases) != 1 || err == nil {
		t.Fatalf("leases %v, %v; want one and an error", leases, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "damaged", "c2")); err != nil {
		t.Errorf("the torn record was not put aside: %v", err)
	}
	if leases, _, err := j.Leases(); len(leases) != 1 || err != nil {
		t.Errorf("the second time: %v, %v; want one and no error", leases, err)
	}
	if _, err := os.Stat(filepath.Join(j.leases, "c3.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the half-written record is still there")
	}
}
