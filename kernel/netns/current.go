package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// PinCurrent pins the calling process's own network namespace at path, so that
// it can be named after the process is gone. The directory of path is made as New
// makes it. A pin that is there already is replaced: it may be another
// namespace's.
func PinCurrent(path string) error {
	if err := prepare(filepath.Dir(path)); err != nil {
		return err
	}
	if err := Remove(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return errors.Join(fmt.Errorf("pin network namespace: %w", err), os.Remove(path))
	}
	if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin network namespace at %s: %w", path, err), os.Remove(path))
	}
	return nil
}
