// Package store keeps what must survive the daemon: typed buckets in one bbolt
// file under DATA_ROOT, fsynced, and, under EXEC_ROOT, the journal and the
// leases, which live exactly as long as the kernel's state does.
//
// It holds values and knows nothing of what they mean.
package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

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
	id     string
	writes chan write
	done   chan struct{}
}

type write struct {
	do   func(*bbolt.Tx) error
	errc chan error
}

type meta struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
}

// Open opens DATA_ROOT/fairlead.db, made when it is not there. It returns
// ErrLocked when another process holds it.
func Open(dataRoot string) (*Store, error) {
	path := filepath.Join(dataRoot, "fairlead.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", dataRoot, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	s := &Store{db: db, writes: make(chan write, 64), done: make(chan struct{})}
	if err := s.identify(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store %s: %w", path, err), db.Close())
	}
	go s.writer()
	return s, nil
}

func (s *Store) identify() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("meta"))
		if err != nil {
			return err
		}
		var m meta
		if raw := b.Get([]byte("meta")); raw != nil {
			if err := json.Unmarshal(raw, &m); err != nil {
				return err
			}
			if m.Schema > schema {
				return fmt.Errorf("its schema %d is newer than this program's %d; run the newer fairlead", m.Schema, schema)
			}
			s.id = m.ID
			return nil
		}
		id := make([]byte, 6)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		s.id = hex.EncodeToString(id)
		raw, err := json.Marshal(meta{Schema: schema, ID: s.id})
		if err != nil {
			return err
		}
		return b.Put([]byte("meta"), raw)
	})
}

// ID names this store for life: twelve hex digits. Every kernel object of the
// daemon carries it, so that two daemons on one machine know theirs apart.
func (s *Store) ID() string { return s.id }

// Close waits for the writes under way and closes the file.
func (s *Store) Close() error {
	close(s.writes)
	<-s.done
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
	}
}

func (s *Store) commit(batch []write) {
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
	return <-errc
}

// Bucket is a typed collection of values by key.
type Bucket[T any] struct {
	s    *Store
	name []byte
}

// NewBucket opens the bucket called name, made when it is not there.
func NewBucket[T any](s *Store, name string) (*Bucket[T], error) {
	err := s.update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(name))
		return err
	})
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
		return err
	}
	return os.Rename(tmp, path)
}
