package spawn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SaveState writes v as JSON to an anonymous file (memfd_create(2)), to be passed
// to a successor: a state has no limit in length, a message does.
func SaveState(v any) (*os.File, error) {
	fd, err := unix.MemfdCreate("fairlead-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("save state: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if err := json.NewEncoder(f).Encode(v); err != nil {
		return nil, errors.Join(fmt.Errorf("save state: %w", err), f.Close())
	}
	return f, nil
}

// LoadState reads what SaveState wrote and closes the descriptor. Fields that v
// does not have are ignored.
func LoadState(fd int, v any) error {
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	if err := json.NewDecoder(f).Decode(v); err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	return nil
}

// RaiseFileLimit lifts this process's limit of open files to n, or as far as it
// may. The kernel's own bound is fs.nr_open (1,048,576 unless changed).
func RaiseFileLimit(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if l.Cur >= n {
		return nil
	}
	want := syscall.Rlimit{Cur: n, Max: max(n, l.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err == nil {
		return nil
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
