package store

import (
	"sync/atomic"

	"github.com/fairlead/fairlead/internal/tally"
)

type storeCounters struct {
	writes  atomic.Uint64
	commits tally.Durations
}

// Counters are what was written since the store was opened.
type Counters struct {
	// Writes are values put and deleted; those that queue up share a commit.
	Writes uint64
	// Commits are transactions, with their fsync.
	Commits tally.Observed
}

// Counters returns what was written.
func (s *Store) Counters() Counters {
	return Counters{Writes: s.counters.writes.Load(), Commits: s.counters.commits.Read()}
}

// Records is how many intents and leases were written, or turned into each other.
func (j *Journal[T]) Records() uint64 { return j.records.Load() }
