package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/store/boltfile"
)

// damagedBucket keeps values that could not be read, by BUCKET/KEY, for people.
const damagedBucket = "damaged"

// Repair says what was done about a damaged file.
type Repair struct {
	// Problems are what was wrong.
	Problems []string
	// Aside is where the damaged file is now; "" where it was missing.
	Aside string
	// Whole says that nothing is missing but what the very last change was. Else values
	// may be missing, or as they were at CopiedAt.
	Whole bool
	// CopiedAt is the time of the copy that was used, zero if none was.
	CopiedAt time.Time
}

// String is one line for the log.
func (r *Repair) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the store was damaged (%s) and has been made anew", strings.Join(r.Problems[:min(len(r.Problems), 3)], "; "))
	switch {
	case r.Whole:
		b.WriteString(" as it was at its last change, or just before")
	case !r.CopiedAt.IsZero():
		fmt.Fprintf(&b, " of what could be read and of the copy of %s", r.CopiedAt.Format(time.RFC3339))
	default:
		b.WriteString(" of what could be read, for there is no copy")
	}
	if r.Aside != "" {
		fmt.Fprintf(&b, "; the damaged file is kept as %s", r.Aside)
	}
	return b.String()
}

// Repaired says what had to be done to the file when it was opened; nil for nothing.
func (s *Store) Repaired() *Repair { return s.repair }

// buckets are values by bucket and key.
type buckets map[string]map[string][]byte

func (b buckets) put(bucket, key string, value []byte) {
	if b[bucket] == nil {
		b[bucket] = make(map[string][]byte)
	}
	b[bucket][key] = value
}

// unread is a value of a sound file that cannot be read, and what is in its place.
type unread struct {
	bucket, key string
	copied      []byte // nil where the copy has none
}

// mend looks at the file before bbolt does. One that is damaged is kept aside, and
// another put in its place; of a sound one, the values that cannot be read are
// returned.
func mend(dataRoot string, opts Options) (*Repair, []unread, error) {
	path := file(dataRoot)
	_ = os.Remove(path + ".new") // of a repair that a crash cut short
	raw, err := readLocked(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, nil, err
	}
	have, readErr := boltfile.Read(raw)
	if !missing && readErr == nil && len(have.Problems) == 0 {
		bad := unreadable(have.Buckets)
		if len(bad) == 0 {
			return nil, nil, nil
		}
		kept, _ := readCopy(dataRoot)
		for i, u := range bad {
			bad[i].copied = kept.values[u.bucket][u.key]
		}
		return nil, bad, nil
	}
	kept, copyErr := readCopy(dataRoot)
	if copyErr != nil && !errors.Is(copyErr, fs.ErrNotExist) {
		opts.Log.Error("the store's copy cannot be used", "operation", "store", "file", copyFile(dataRoot), "err", copyErr)
	}
	if kept.values == nil && len(raw) == 0 && (opts.Identity == nil || opts.Identity() == "") {
		return nil, nil, nil // nothing was here before
	}
	r := &Repair{Problems: have.Problems, CopiedAt: kept.Time}
	switch {
	case missing:
		r.Problems = []string{"it is missing"}
	case readErr != nil:
		r.Problems = []string{readErr.Error()}
	}
	values, whole := merge(have, kept)
	r.Whole = whole
	if err := r.replace(path, values, missing); err != nil {
		return nil, nil, fmt.Errorf("it is damaged (%s), and cannot be made anew: %w", strings.Join(r.Problems, "; "), err)
	}
	opts.Log.Error(r.String())
	return r, nil, nil
}

// merge is what can be had of a damaged file: what is readable of its last state, over
// the newest state that is whole.
func merge(have boltfile.Contents, kept copied) (values buckets, whole bool) {
	values = make(buckets)
	over := func(all map[string]map[string][]byte) {
		for bucket, of := range all {
			for key, value := range of {
				if json.Valid(value) && bucket != damagedBucket {
					values.put(bucket, key, value)
				}
			}
		}
	}
	life := lifeOf(have.Buckets)
	if life == "" {
		life = lifeOf(have.Before)
	}
	switch comparable := life != "" && life == kept.Life; {
	case comparable && kept.Transaction >= have.Transaction:
		over(kept.values)
		whole = true
	case have.Before != nil:
		over(have.Before)
		over(have.Buckets)
		whole = true
	default:
		over(kept.values)
		over(have.Buckets)
	}
	values.put("meta", "life", newLife())
	return values, whole
}

// lifeOf tells files of one store apart: transactions of a file that was made anew
// count from one again.
func lifeOf(all map[string]map[string][]byte) string { return string(all["meta"]["life"]) }

func newLife() []byte {
	raw, _ := json.Marshal(randomHex()) // a text never fails
	return raw
}

func unreadable(all map[string]map[string][]byte) []unread {
	var out []unread
	for bucket, of := range all {
		for key, value := range of {
			if bucket != damagedBucket && !json.Valid(value) {
				out = append(out, unread{bucket: bucket, key: key})
			}
		}
	}
	slices.SortFunc(out, func(a, b unread) int { return strings.Compare(a.bucket+"/"+a.key, b.bucket+"/"+b.key) })
	return out
}

// replace makes a file of the values and puts it into the place of the damaged one,
// which gets another name before: there is a file at any moment, and no daemon that
// is killed meanwhile loses either.
func (r *Repair) replace(path string, values buckets, missing bool) error {
	if err := writeDB(path+".new", values); err != nil {
		_ = os.Remove(path + ".new") // what a full disk took of it
		return err
	}
	crashpoint.Here("store.made")
	if !missing {
		aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405")
		for n := 2; ; n++ {
			err := os.Link(path, aside)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrExist) || n > 100 {
				return err
			}
			aside = fmt.Sprintf("%s-%d", strings.TrimSuffix(aside, fmt.Sprintf("-%d", n-1)), n)
		}
		r.Aside = aside
		crashpoint.Here("store.aside")
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeDB makes a bbolt file of the values.
func writeDB(path string, values buckets) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for bucket, of := range values {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			for key, value := range of {
				if err := b.Put([]byte(key), value); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// replaceUnreadable puts the copy's values into the place of those that cannot be
// read, which are kept in a bucket of their own.
func (s *Store) replaceUnreadable(list []unread) error {
	s.repair = &Repair{}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		aside, err := tx.CreateBucketIfNotExists([]byte(damagedBucket))
		if err != nil {
			return err
		}
		for _, u := range list {
			b := tx.Bucket([]byte(u.bucket))
			if err := aside.Put([]byte(u.bucket+"/"+u.key), b.Get([]byte(u.key))); err != nil {
				return err
			}
			if u.copied != nil {
				err = b.Put([]byte(u.key), u.copied)
			} else {
				err = b.Delete([]byte(u.key))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s.explain(err)
	}
	for _, u := range list {
		s.repair.Problems = append(s.repair.Problems, fmt.Sprintf("%s/%s cannot be read", u.bucket, u.key))
		s.log.Error("a record of the store could not be read; it is kept aside in the bucket damaged", "bucket", u.bucket, "key", u.key, "from_copy", u.copied != nil)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
