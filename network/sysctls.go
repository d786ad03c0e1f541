package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/fairlead/fairlead/kernel/sysctl"
)

// sysctlBook sets sysctls of the host and remembers what they were, for as long
// as the kernel does: in a file under EXEC_ROOT.
type sysctlBook struct {
	path string
	mu   sync.Mutex
	was  map[string]string
}

func openSysctlBook(path string) (*sysctlBook, error) {
	b := &sysctlBook{path: path, was: make(map[string]string)}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(raw, &b.was); err != nil {
		return nil, fmt.Errorf("read %s, which says what sysctls were before us: %w", path, err)
	}
	return b, nil
}

// set sets the key, having written down what it was. One that has the value
// already is left alone.
func (b *sysctlBook) set(key, value string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, err := sysctl.Get(key)
	if err != nil || old == value {
		return err
	}
	if _, noted := b.was[key]; !noted {
		b.was[key] = old
		if err := b.save(); err != nil {
			return err
		}
	}
	_, err = sysctl.Set(key, value)
	return err
}

// changed says whether the key's value is of our making.
func (b *sysctlBook) changed(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ours := b.was[key]
	return ours
}

// restore puts the key back to what it was, if we changed it.
func (b *sysctlBook) restore(key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ours := b.was[key]
	if !ours {
		return nil
	}
	// One that is gone went with its interface.
	if _, err := sysctl.Set(key, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(b.was, key)
	return b.save()
}

// restoreAll puts every key back.
func (b *sysctlBook) restoreAll() error {
	b.mu.Lock()
	keys := make([]string, 0, len(b.was))
	for key := range b.was {
		keys = append(keys, key)
	}
	b.mu.Unlock()
	var errs []error
	for _, key := range keys {
		errs = append(errs, b.restore(key))
	}
	return errors.Join(errs...)
}

func (b *sysctlBook) save() error {
	raw, err := json.Marshal(b.was)
	if err != nil {
		return err
	}
	tmp := b.path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, b.path)
}
