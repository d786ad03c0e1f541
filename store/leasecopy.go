package store

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// leaseCopies keeps a second copy of each lease, for the case that something damages
// the first. It follows the lease by itself, within milliseconds, so that nobody who
// attaches waits for it; a copy may thus be older than its lease, or missing.
type leaseCopies struct {
	leases, dir string
	sound       func(id string, raw []byte) bool

	mu   sync.Mutex     // held while a copy is written or removed
	due  map[string]any // with the sum of what was written, where it is known
	busy bool
	idle sync.Cond
	// log is a third copy, recalled what of it was there at the start; nil for none.
	log      *LeaseLog
	recalled map[string][]byte
}

func newLeaseCopies(leases, dir string, sound func(id string, raw []byte) bool) *leaseCopies {
	c := &leaseCopies{leases: leases, dir: dir, sound: sound, due: make(map[string]any)}
	c.idle.L = &c.mu
	return c
}

// seed is of the sums of this process.
var seed = maphash.MakeSeed()

// sumOf tells a lease that is as it was written from one that somebody has damaged, at a
// hundredth of what parsing costs: that of thousands of ports has a megabyte.
func sumOf(raw []byte) any { return maphash.Bytes(seed, raw) }

// follow has the copy of id follow its lease soon; sum is sumOf what was written, nil where that
// is not known.
func (c *leaseCopies) follow(id string, sum any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due[id] = sum
	if !c.busy {
		c.busy = true
		go c.work()
	}
}

// work copies until nothing is due.
func (c *leaseCopies) work() {
	for c.next() {
	}
}

func (c *leaseCopies) next() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, sum := range c.due {
		delete(c.due, id)
		// One that cannot be written, on a full disk, is written at the next start.
		_ = c.copy(id, sum)
		return true
	}
	c.busy = false
	c.idle.Broadcast()
	return false
}

// settle waits until no copy is due.
func (c *leaseCopies) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.busy {
		c.idle.Wait()
	}
}

func (c *leaseCopies) path(id string) string { return filepath.Join(c.dir, id) }

// copy is called with the lock held: who ends a lease takes its copy away after it.
func (c *leaseCopies) copy(id string, sum any) error {
	raw, err := os.ReadFile(filepath.Join(c.leases, id))
	if errors.Is(err, fs.ErrNotExist) {
		return c.remove(id)
	}
	if err != nil || sumOf(raw) != sum && !c.sound(id, raw) {
		return err // the copy is better than a damaged lease
	}
	if c.log != nil {
		_ = c.log.note(id, raw)
	}
	draft := filepath.Join(c.dir, ".draft")
	if err := os.WriteFile(draft, raw, 0o600); err != nil {
		_ = os.Remove(draft) // what a full disk took of it
		return err
	}
	return os.Rename(draft, c.path(id))
}

func (c *leaseCopies) remove(id string) error {
	if c.log != nil {
		_ = c.log.note(id, nil) // at worst it is found that it has no namespace
	}
	if err := os.Remove(c.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// drop removes the copy of a lease that is no more.
func (c *leaseCopies) drop(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.due, id)
	return c.remove(id)
}

// read returns the copy of id, nil where there is no sound one.
func (c *leaseCopies) read(id string) []byte {
	raw, err := os.ReadFile(c.path(id))
	if err == nil && c.sound(id, raw) {
		return raw
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if raw = c.recalled[id]; raw != nil && c.sound(id, raw) {
		return raw
	}
	return nil
}

// check has the copy follow a lease that it differs from.
func (c *leaseCopies) check(id string, lease []byte) {
	if raw, err := os.ReadFile(c.path(id)); err != nil || !bytes.Equal(raw, lease) {
		c.follow(id, nil)
	}
}

// ids are those that there is a copy of, one of the log included.
func (c *leaseCopies) ids() ([]string, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool)
	for _, e := range entries {
		if e.Name() != ".draft" {
			out[e.Name()] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.recalled {
		out[id] = true
	}
	return slices.Sorted(maps.Keys(out)), nil
}
