package network

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// sysctlBook sets sysctls of the host and remembers what they were, for as long
// as the kernel does: in a file under EXEC_ROOT, with a copy beside it and one in the
// data root.
type sysctlBook struct {
	path  string
	third string // see elsewhere
	mu    sync.Mutex
	was   map[string]string
}

func openSysctlBook(path, third string) (*sysctlBook, error) {
	b := &sysctlBook{path: path, third: third, was: make(map[string]string)}
	raw, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	aside := ""
	if !missing {
		was, damage := parseSysctls(raw)
		if damage == nil {
			b.was = was
			_ = writeElsewhere(third, was) // it is the third
			return b, nil
		}
		aside, err = path+".damaged", damage
		if renamed := os.Rename(path, aside); renamed != nil {
			return nil, renamed
		}
	}
	was, from, copied := b.fromCopies()
	switch {
	case was != nil:
		b.was = was
		slog.Warn("the record of what sysctls were before us was damaged or gone, and is taken from its copy", "operation", "restore", "aside", aside, "file", from, "err", err)
		_ = b.save() // a full disk keeps nobody from starting: there is the copy
	case copied != nil || !missing:
		slog.Error("the record of what sysctls were before us cannot be read, and neither can its copies: a teardown will not put them back", "operation", "restore", "aside", aside, "err", errors.Join(err, copied))
	}
	return b, nil
}

// fromCopies reads the copies, the one beside the record first. Without any there is
// neither a record nor an error.
func (b *sysctlBook) fromCopies() (was map[string]string, from string, err error) {
	raw, err := os.ReadFile(b.copy())
	if err == nil {
		if was, err = parseSysctls(raw); err == nil {
			return was, b.copy(), nil
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	was, unread := readElsewhere(b.third)
	if was != nil {
		return was, b.third, nil
	}
	return nil, "", errors.Join(err, unread)
}

// copy is where the second copy of the record is.
func (b *sysctlBook) copy() string { return b.path + ".copy" }

func parseSysctls(raw []byte) (was map[string]string, err error) {
	if err = json.Unmarshal(raw, &was); err == nil && was == nil {
		err = errors.New("it is null")
	}
	return was, err
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

// note writes down what the key is, unless it is the value that it will have by
// itself: the kernel changes it along with one that is about to be set.
func (b *sysctlBook) note(key, unless string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, err := sysctl.Get(key)
	if errdefs.IsNotFound(err) {
		return nil // an interface that has gone, or one without the protocol
	}
	if _, noted := b.was[key]; err != nil || noted || old == unless {
		return err
	}
	b.was[key] = old
	return b.save()
}

// assume writes down what the key was before another daemon changed it, so that
// whichever of the two goes last puts it back.
func (b *sysctlBook) assume(key, was string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, noted := b.was[key]; noted {
		return nil
	}
	b.was[key] = was
	return b.save()
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
	if _, err := sysctl.Set(key, old); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	delete(b.was, key)
	return b.save()
}

// restoreAll puts every key back: first those that change others along with them.
func (b *sysctlBook) restoreAll() error {
	keys := b.keys()
	slices.SortFunc(keys, func(x, y string) int {
		leads := func(key string) int {
			if key == forward4 || key == forward6 {
				return 0
			}
			return 1
		}
		return cmp.Or(leads(x)-leads(y), strings.Compare(x, y))
	})
	var errs []error
	for _, key := range keys {
		errs = append(errs, b.restore(key))
	}
	return errors.Join(errs...)
}

// keys are those that we changed.
func (b *sysctlBook) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.was))
}

// lost says that there is something on record and the file is gone.
func (b *sysctlBook) lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := os.Lstat(b.path)
	return len(b.was) > 0 && errors.Is(err, fs.ErrNotExist)
}

// rewrite writes the file again.
func (b *sysctlBook) rewrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.save()
}

func (b *sysctlBook) save() error {
	raw, err := json.Marshal(b.was)
	if err != nil {
		return err
	}
	if err := faultpoint.Here("sysctls.save"); err != nil {
		return err
	}
	if err := replaceFile(b.path, raw); err != nil {
		return err
	}
	_ = errors.Join(replaceFile(b.copy(), raw), writeElsewhere(b.third, b.was)) // on a full disk the record alone
	return nil
}

func replaceFile(path string, raw []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		_ = os.Remove(tmp) // what a full disk took of it
		return err
	}
	return os.Rename(tmp, path)
}
