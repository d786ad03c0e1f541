package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Options are how a store is opened; the zero value is right.
type Options struct {
	// Identity is the ID that the store had, for when no file says so any more; nil
	// or "" makes a new one.
	Identity func() string
	// CopyAfter is how long after a change the copy follows; 0 for ten seconds.
	CopyAfter time.Duration
	// Log is slog.Default() when nil.
	Log *slog.Logger
}

// file is the store's own, in the data root.
func file(dataRoot string) string { return filepath.Join(dataRoot, "fairlead.db") }

// Open is OpenWith the zero Options.
func Open(dataRoot string) (*Store, error) { return OpenWith(dataRoot, Options{}) }

// OpenWith opens DATA_ROOT/fairlead.db, made when it is not there. It returns
// ErrLocked when another process holds it. A file that is damaged, or missing though
// it was there before, is made anew of what can be had: see Repaired.
func OpenWith(dataRoot string, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.CopyAfter == 0 {
		opts.CopyAfter = copyAfter
	}
	path := file(dataRoot)
	repair, unreadable, err := mend(dataRoot, opts)
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", dataRoot, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	s := &Store{
		db: db, root: dataRoot, log: opts.Log, repair: repair,
		losses: losses{path: filepath.Join(dataRoot, "lost.txt")},
		writes: make(chan write, 64), done: make(chan struct{}),
	}
	if len(unreadable) > 0 {
		err = s.replaceUnreadable(unreadable)
	}
	if err == nil {
		err = s.identify(opts.Identity)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store %s: %w", path, err), db.Close())
	}
	s.startCopies(opts.CopyAfter)
	go s.writer()
	return s, nil
}

// identify reads who the store is. A new one is told so.
func (s *Store) identify(former func() string) error {
	var m meta
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("meta"))
		if b == nil {
			return nil
		}
		if raw := b.Get([]byte("meta")); raw != nil {
			return json.Unmarshal(raw, &m)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case m.Schema > schema:
		return fmt.Errorf("its schema %d is newer than this program's %d; run the newer fairlead", m.Schema, schema)
	case m.ID != "":
		s.id = m.ID
		return nil
	}
	if former != nil {
		s.id = former()
	}
	if s.id == "" {
		s.id = randomHex()
	}
	raw, err := json.Marshal(meta{Schema: schema, ID: s.id})
	if err != nil {
		return err
	}
	return s.explain(s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("meta"))
		if err != nil {
			return err
		}
		if err := b.Put([]byte("meta"), raw); err != nil || b.Get([]byte("life")) != nil {
			return err
		}
		return b.Put([]byte("life"), newLife())
	}))
}

// randomHex are twelve hex digits by chance.
func randomHex() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b)
}

// readLocked reads the file while no daemon has it open.
func readLocked(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(20 * time.Millisecond) {
		// bbolt's own lock is of this kind (flock(2)).
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return os.ReadFile(path)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, ErrLocked
		}
	}
}
