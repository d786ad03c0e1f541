// Package store keeps what must survive the daemon: typed buckets in one bbolt
// file under DATA_ROOT, fsynced, and, under EXEC_ROOT, the journal and the
// leases, which live exactly as long as the kernel's state does.
//
// It holds values and knows nothing of what they mean.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// lockTimeout is how long Open waits for another process to let the file go: a
// daemon that is being replaced needs a moment to leave.
const lockTimeout = 2 * time.Second

const schema = 1

// ErrLocked says that another daemon has the store open.
var ErrLocked = errors.New("another daemon uses this data root")

// Store is one daemon's bbolt file. Writes of several goroutines share a
// transaction, and so an fsync.
type Store struct {
	db     *bbolt.DB
	root   string
	id     string
	log    *slog.Logger
	repair *Repair
	losses losses
	copies copies
	writes chan write
	done   chan struct{}

	counters storeCounters
}

type write struct {
	do   func(*bbolt.Tx) error
	errc chan error
}

type meta struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
}

// ID names this store for life: twelve hex digits. Every kernel object of the
// daemon carries it, so that two daemons on one machine know theirs apart.
func (s *Store) ID() string { return s.id }

// Close waits for the writes under way, brings the copy up to date and closes the file.
func (s *Store) Close() error {
	close(s.writes)
	<-s.done
	s.endCopies()
	return s.db.Close()
}

// writer is the one goroutine that writes: what has queued up while a
// transaction was being synced goes into the next one together.
func (s *Store) writer() {
	defer close(s.done)
	for w := range s.writes {
		batch := []write{w}
	gather:
		for len(batch) < 256 {
			select {
			case w, ok := <-s.writes:
				if !ok {
					break gather
				}
				batch = append(batch, w)
			default:
				break gather
			}
		}
		s.commit(batch)
		s.changed()
	}
}

func (s *Store) commit(batch []write) {
	begun := time.Now()
	defer func() {
		s.counters.commits.Observe(time.Since(begun))
		s.counters.writes.Add(uint64(len(batch)))
	}()
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := faultpoint.Here("store.commit"); err != nil {
			return err
		}
		for _, w := range batch {
			if err := w.do(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && len(batch) > 1 {
		// One write spoiled the transaction: each is tried alone, so that
		// only the guilty one is told so.
		for _, w := range batch {
			w.errc <- s.db.Update(w.do)
		}
		return
	}
	for _, w := range batch {
		w.errc <- err
	}
}

func (s *Store) update(do func(*bbolt.Tx) error) error {
	errc := make(chan error, 1)
	s.writes <- write{do, errc}
	return s.explain(<-errc)
}

// explain names the way out where the disk is what is wrong.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w in the data root %s: free some and try again: %w", err, s.root, errdefs.ErrResourceExhausted)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EIO):
		return fmt.Errorf("%w in the data root %s: look at its file system: %w", err, s.root, errdefs.ErrInternal)
	}
	return err
}

// Dir is the data root.
func (s *Store) Dir() string { return s.root }

// Bucket is a typed collection of values by key.
type Bucket[T any] struct {
	s    *Store
	name []byte
}

// NewBucket opens the bucket called name, made when it is not there.
func NewBucket[T any](s *Store, name string) (*Bucket[T], error) {
	var there bool
	err := s.db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket([]byte(name)) != nil
		return nil
	})
	if err == nil && !there { // a full disk keeps nobody from starting
		err = s.update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte(name))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", name, err)
	}
	return &Bucket[T]{s, []byte(name)}, nil
}

// Put stores the value; it is on disk when Put returns.
func (b *Bucket[T]) Put(key string, v T) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", b.name, key, err)
	}
	err = b.s.update(func(tx *bbolt.Tx) error { return tx.Bucket(b.name).Put([]byte(key), raw) })
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", b.name, key, err)
	}
	return nil
}

// Delete removes the key; one that is not there is no error.
func (b *Bucket[T]) Delete(key string) error {
	err := b.s.update(func(tx *bbolt.Tx) error { return tx.Bucket(b.name).Delete([]byte(key)) })
	if err != nil {
		return fmt.Errorf("delete %s/%s from the store: %w", b.name, key, err)
	}
	return nil
}

// Get returns the value, or an error wrapping errdefs.ErrNotFound.
func (b *Bucket[T]) Get(key string) (T, error) {
	var v T
	err := b.s.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(b.name).Get([]byte(key))
		if raw == nil {
			return errdefs.ErrNotFound
		}
		return json.Unmarshal(raw, &v)
	})
	if err != nil {
		return v, fmt.Errorf("read %s/%s from the store: %w", b.name, key, err)
	}
	return v, nil
}

// ForEach calls f for every value in order of key, and stops at its first error.
// A value that cannot be read is handed to f as an error, not passed over.
func (b *Bucket[T]) ForEach(f func(key string, v T, err error) error) error {
	return b.s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(b.name).ForEach(func(k, raw []byte) error {
			var v T
			err := json.Unmarshal(raw, &v)
			if err != nil {
				err = fmt.Errorf("read %s/%s from the store: %w", b.name, k, err)
			}
			return f(string(k), v, err)
		})
	})
}

// All returns every value, and joins the errors of those that cannot be read.
func (b *Bucket[T]) All() ([]T, error) {
	var out []T
	var errs []error
	err := b.ForEach(func(_ string, v T, err error) error {
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		out = append(out, v)
		return nil
	})
	return out, errors.Join(append(errs, err)...)
}

func writeFile(path string, raw []byte) error {
	if err := faultpoint.Here("journal.write"); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		_ = os.Remove(tmp) // what a full disk took of it
		return err
	}
	return os.Rename(tmp, path)
}
