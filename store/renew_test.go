package store

import "testing"

// TestLeaseIsReplacedWhole: by an intent that is committed over it, and by Renew.
func TestLeaseIsReplacedWhole(t *testing.T) {
	t.Parallel()
	j, _, err := OpenJournal[string](t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	holds := func(want string, intents int) {
		t.Helper()
		leases, _, err := j.Leases()
		if err != nil || len(leases) != 1 || leases[0] != want {
			t.Errorf("leases %q, %v; want %q", leases, err, want)
		}
		if got, err := j.Intents(); err != nil || len(got) != intents {
			t.Errorf("intents %v, %v; want %d", got, err, intents)
		}
	}
	do := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	do(j.Begin("attach", "a", "one"), j.Commit("attach", "a"))
	holds("one", 0)
	do(j.Begin("connect", "a", "two"))
	holds("one", 1) // until the last step the lease is as it was
	do(j.Commit("connect", "a"))
	holds("two", 0)
	do(j.Renew("a", "three"))
	holds("three", 0)
}
