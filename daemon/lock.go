package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockRoot keeps a second daemon out of the directory for as long as the file is
// open; the kernel lets go when the process ends, however it ends.
func lockRoot(flag, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "fairlead.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := io.ReadAll(f)
		return nil, errors.Join(fmt.Errorf("another fairlead daemon (process %s) uses --%s %s: stop it, or choose another directory", strings.TrimSpace(string(pid)), flag, dir), f.Close())
	}
	if err == nil {
		// Who holds it is for people to know: a full disk keeps no daemon from starting.
		if err = errors.Join(f.Truncate(0), writePID(f)); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock --%s %s: %w", flag, dir, err), f.Close())
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}
