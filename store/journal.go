package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// bootIDPath tells one boot of the machine from another (proc(5)).
const bootIDPath = "/proc/sys/kernel/random/boot_id"

// Journal keeps two kinds of record under EXEC_ROOT, one small file each and
// none fsynced: intents, of what is being done, and leases, of what is done. An
// intent becomes a lease, or a lease an intent, by one rename, so that a crash
// leaves exactly one of them.
//
// EXEC_ROOT is a tmpfs; where it is not, the boot id tells records of an earlier
// boot, whose kernel state is gone.
type Journal[T any] struct {
	intents, leases string
	copies          *leaseCopies
	records         atomic.Uint64
	// written are the sums of the intents that this process has written, by op and ID.
	written sync.Map
}

// Whole is what a kind of record may be asked: whether it is a whole one about id. One
// that is not is treated like one that cannot be read.
type Whole interface {
	Whole(id string) error
}

// Intent is an operation that had begun and not ended.
type Intent[T any] struct {
	Op, ID string
	Value  T
}

// OpenJournal opens the journal under execRoot. stale says that what it held was
// of an earlier boot; that has been dropped.
func OpenJournal[T any](execRoot string) (j *Journal[T], stale bool, err error) {
	dir := filepath.Join(execRoot, "state")
	j = &Journal[T]{intents: filepath.Join(dir, "journal"), leases: filepath.Join(dir, "leases")}
	boot, err := os.ReadFile(bootIDPath)
	if err != nil {
		return nil, false, fmt.Errorf("open the journal: %w", err)
	}
	bootFile := filepath.Join(dir, "boot_id")
	seen, err := os.ReadFile(bootFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, false, fmt.Errorf("open the journal: %w", err)
	case !bytes.Equal(seen, boot):
		stale = true
		if err := os.RemoveAll(dir); err != nil {
			return nil, false, fmt.Errorf("drop the journal of an earlier boot: %w", err)
		}
	}
	j.copies = newLeaseCopies(j.leases, filepath.Join(dir, "leases.copy"), func(id string, raw []byte) bool {
		_, err := parse[T](id, raw)
		return err == nil
	})
	for _, d := range []string{j.intents, j.leases, j.copies.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, false, fmt.Errorf("open the journal: %w", err)
		}
	}
	if bytes.Equal(seen, boot) {
		return j, false, nil // a full disk keeps nobody from starting
	}
	if err := writeFile(bootFile, boot); err != nil {
		return nil, false, fmt.Errorf("open the journal: %w", err)
	}
	return j, stale, nil
}

func (j *Journal[T]) intent(op, id string) string { return filepath.Join(j.intents, op+"@"+id) }
func (j *Journal[T]) lease(id string) string      { return filepath.Join(j.leases, id) }

// Begin writes the intent to do op.
func (j *Journal[T]) Begin(op, id string, v T) error { return j.Draft(op, id, v)() }

// Draft encodes the intent to do op now; what it returns is to write it, as Begin does.
func (j *Journal[T]) Draft(op, id string, v T) (begin func() error) {
	raw, err := json.Marshal(v)
	return func() error {
		if err != nil {
			return fmt.Errorf("journal %s of %s: %w", op, id, err)
		}
		return j.begin(op, id, raw)
	}
}

func (j *Journal[T]) begin(op, id string, raw []byte) error {
	j.records.Add(1)
	if err := writeFile(j.intent(op, id), raw); err != nil {
		return fmt.Errorf("journal %s of %s: %w", op, id, err)
	}
	j.written.Store(op+"@"+id, sumOf(raw))
	return nil
}

// Commit turns the intent into the lease of id, in the place of the one there is.
func (j *Journal[T]) Commit(op, id string) error {
	j.records.Add(1)
	if err := rename(j.intent(op, id), j.lease(id)); err != nil {
		return fmt.Errorf("journal the end of %s of %s: %w", op, id, err)
	}
	sum, _ := j.written.LoadAndDelete(op + "@" + id)
	j.copies.follow(id, sum)
	return nil
}

// Settle waits until every lease has its copy.
func (j *Journal[T]) Settle() { j.copies.settle() }

// Renew writes the lease of id anew, whole.
func (j *Journal[T]) Renew(id string, v T) error {
	j.records.Add(1)
	raw, err := json.Marshal(v)
	if err == nil {
		err = writeFile(j.lease(id), raw)
	}
	if err != nil {
		return fmt.Errorf("journal the lease of %s: %w", id, err)
	}
	j.copies.follow(id, sumOf(raw))
	return nil
}

// Reopen turns the lease of id into an intent to do op, such as to end it.
func (j *Journal[T]) Reopen(op, id string) error {
	j.records.Add(1)
	if err := rename(j.lease(id), j.intent(op, id)); err != nil {
		return fmt.Errorf("journal %s of %s: %w", op, id, err)
	}
	// One that stays is told from a lease's by the intent beside it.
	_ = j.copies.drop(id)
	return nil
}

// Drop drops the lease of id; one that is not there is no error.
func (j *Journal[T]) Drop(id string) error {
	err := os.Remove(j.lease(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, j.copies.drop(id)); err != nil {
		return fmt.Errorf("journal the end of the lease of %s: %w", id, err)
	}
	return nil
}

// Clear drops the intent; one that is not there is no error.
func (j *Journal[T]) Clear(op, id string) error {
	j.written.Delete(op + "@" + id)
	err := faultpoint.Here("journal.remove")
	if err == nil {
		err = os.Remove(j.intent(op, id))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal the end of %s of %s: %w", op, id, err)
	}
	return nil
}

// Intents returns what had begun and not ended. A record that makes no sense is
// put aside in a directory called damaged and joined to the error; the others are
// still returned. ErrUnread says that there may be more.
func (j *Journal[T]) Intents() ([]Intent[T], error) {
	var out []Intent[T]
	err := each(j.intents, func(name string, raw []byte) error {
		op, id, ok := strings.Cut(name, "@")
		if !ok {
			return fmt.Errorf("journal record %q has no operation", name)
		}
		v, err := parse[T](id, raw)
		if err != nil {
			return fmt.Errorf("journal record %q: %w", name, err)
		}
		out = append(out, Intent[T]{Op: op, ID: id, Value: v})
		return nil
	})
	return out, err
}

// Leases returns what is done and stands. A lease that makes no sense is put aside in
// a directory called damaged, and its copy takes its place; so it does where the lease
// is missing and nobody had begun to end it. regained are the IDs of these. A lease
// without a copy is joined to the error; the others are still returned. ErrUnread says
// that there may be more.
func (j *Journal[T]) Leases() (list []T, regained []string, err error) {
	j.Settle()
	err = each(j.leases, func(id string, raw []byte) error {
		v, err := parse[T](id, raw)
		if err == nil {
			list = append(list, v)
			j.copies.check(id, raw)
			return nil
		}
		kept := j.copies.read(id)
		if kept == nil {
			return fmt.Errorf("lease %q: %w", id, err)
		}
		regained = append(regained, id)
		return errors.Join(PutAside(j.lease(id)), j.regain(id, kept, &list))
	})
	if errors.Is(err, ErrUnread) {
		return nil, nil, err
	}
	copies, unlisted := j.copies.ids()
	if unlisted != nil {
		return nil, nil, notRead(unlisted)
	}
	for _, id := range copies {
		if j.Leased(id) {
			continue
		}
		kept := j.copies.read(id)
		if kept == nil || j.Open(id) {
			err = errors.Join(err, j.copies.drop(id))
			continue
		}
		regained = append(regained, id)
		err = errors.Join(err, j.regain(id, kept, &list))
	}
	return list, regained, err
}

// regain has the copy for a lease again.
func (j *Journal[T]) regain(id string, kept []byte, list *[]T) error {
	v, err := parse[T](id, kept)
	if err != nil {
		return err
	}
	*list = append(*list, v)
	return j.Renew(id, v)
}

// parse reads one record about id.
func parse[T any](id string, raw []byte) (v T, err error) {
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, err
	}
	if w, ok := any(v).(Whole); ok {
		err = w.Whole(id)
	}
	return v, err
}

func rename(from, to string) error {
	if err := faultpoint.Here("journal.rename"); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Remove drops the journal whole: at teardown nothing is left to record.
func (j *Journal[T]) Remove() error {
	j.Settle()
	return os.RemoveAll(filepath.Dir(j.intents))
}

// ErrUnread says that records could not be read, for want of memory or descriptors, say:
// it is not known what they are, and nothing must be done as if there were none.
var ErrUnread = errors.New("it is not known what is on record")

func notRead(err error) error { return fmt.Errorf("read the journal: %w: %w", err, ErrUnread) }

func each(dir string, f func(name string, raw []byte) error) error {
	err := faultpoint.Here("journal.list")
	var entries []os.DirEntry
	if err == nil {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return notRead(err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			// The process died while it wrote: nothing had begun.
			errs = append(errs, os.Remove(path))
			continue
		}
		raw, err := read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it has ended meanwhile
		case err != nil:
			return errors.Join(append(errs, notRead(err))...)
		}
		if err := f(e.Name(), raw); err != nil {
			errs = append(errs, err, PutAside(path))
		}
	}
	return errors.Join(errs...)
}

func read(path string) ([]byte, error) {
	if err := faultpoint.Here("journal.read"); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// PutAside moves a file that cannot be read into a directory called damaged beside
// the file's, where it is kept for people to look at.
func PutAside(path string) error {
	dir := filepath.Join(filepath.Dir(filepath.Dir(path)), "damaged")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(dir, filepath.Base(path)))
}

// Open says that an intent about id is on record: an operation on it is under way, or
// could not be ended.
func (j *Journal[T]) Open(id string) bool {
	found, err := filepath.Glob(filepath.Join(j.intents, "*@"+id)) // an ID has no wildcard
	return err == nil && len(found) > 0
}

// Leased says that there is a lease of id.
func (j *Journal[T]) Leased(id string) bool {
	_, err := os.Lstat(j.lease(id))
	return err == nil
}

// LeasedIDs are the IDs that there are leases of.
func (j *Journal[T]) LeasedIDs() (map[string]bool, error) {
	entries, err := os.ReadDir(j.leases)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	out := make(map[string]bool, len(entries))
	for _, e := range entries {
		out[e.Name()] = true
	}
	return out, nil
}

// LeasePath is where the lease of id is: "" for the directory of all.
func (j *Journal[T]) LeasePath(id string) string { return j.lease(id) }
